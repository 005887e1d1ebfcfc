"""Make tensors of what a PyTorch file's pickle tells of them.

Every size, stride and offset is checked against the bytes there are before anything is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.safetensors_file import widened_bfloat16
from bacmac.host.importers.torch_names import DTYPES, QSCHEMES, STORAGES
from bacmac.host.importers.torch_notes import Global, Ignored, Storage, TensorNote
from bacmac.host.importers.weight_file import ScaledIntegers, Stored

MAX_REPEATED = 1 << 16
"""Elements of a tensor that repeats its storage (torch.expand); others have no more than it."""


@dataclass(frozen=True)
class Source:
    """Where a file's tensors come from.

    Attributes:
        path: of the file.
        sizes: bytes of each storage.
        read: (key, first byte, count of bytes) of a storage.
        order: of the bytes in an element, as NumPy says it.
    """

    path: Path
    sizes: Mapping[str, int]
    read: Callable[[str, int, int], bytes]
    order: Literal["<", ">"]


def element_bytes(kind: str) -> int:
    """Bytes of one element of a storage.

    Args:
        kind: PyTorch's name, one of `torch_names.STORAGES`.
    """
    return _width(STORAGES[kind] or ("c8" if kind == "ComplexFloatStorage" else "c16"))


def _width(code: str) -> int:
    return 2 if code == "bf16" else np.dtype(code).itemsize


def read_tensor(source: Source, name: str, note: TensorNote) -> Stored:
    """A tensor's values, or its integers and their scale.

    Raises:
        ModelFileError: what the pickle tells of it does not fit the bytes there are, or is of a
            type that is not read.
    """
    values = _elements(source, name, note)
    if note.quantizer is None:
        return values
    return _scaled(source, name, values, note.quantizer)


def _elements(source: Source, name: str, note: TensorNote) -> npt.NDArray[Any]:
    """A tensor's elements in a new array, after every number of its note is checked."""

    def refuse(found: str, expected: str) -> ModelFileError:
        return ModelFileError(source.path, f"tensor {name!r}", found=found, expected=expected)

    storage = note.storage
    if not isinstance(storage, Storage):
        what = f"{storage.name!r}" if isinstance(storage, (Global, Ignored)) else "no storage"
        raise refuse(what, "a storage in this file")
    untyped = storage.kind == "UntypedStorage"
    code = DTYPES.get(note.dtype, "") if note.dtype else STORAGES[storage.kind]
    if not code or (note.dtype and not untyped and code != STORAGES[storage.kind]):
        known = ", ".join(name for name in DTYPES if DTYPES[name])
        raise refuse(f"dtype {note.dtype or storage.kind}", f"one of {known}")
    shape, stride, offset = note.shape, note.stride, note.offset
    if not (_are_counts(shape) and _are_counts(stride) and _are_counts((offset,))):
        raise refuse(f"shape {shape!r:.60}, stride {stride!r:.60}", "whole numbers of 0 or above")
    assert isinstance(shape, tuple)
    assert isinstance(stride, tuple)
    assert isinstance(offset, int)
    if len(shape) != len(stride):
        raise refuse(f"shape {shape!r:.60}, stride {stride!r:.60}", "a stride for each side")
    width = _width(code)
    if storage.key not in source.sizes:
        raise refuse(f"no storage {storage.key!r}", "one of the file's")
    held = source.sizes[storage.key] // width
    if not untyped and storage.elements > held:
        raise refuse(f"a storage of {storage.elements} elements", f"at most {held}, as stored")
    count = math.prod(shape)
    if count == 0:
        return np.zeros(shape, np.float32 if code == "bf16" else code)
    first = storage.start + offset
    last = first + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    if last >= held:
        raise refuse(f"elements {first} to {last}", f"within the {held} of its storage")
    if count > max(held, MAX_REPEATED):
        raise refuse(f"{count} elements from {held}", "no tensor that repeats its storage so often")
    raw = source.read(storage.key, first * width, (last - first + 1) * width)
    if code == "bf16":
        flat = widened_bfloat16(np.frombuffer(raw, f"{source.order}u2").astype(np.uint16))
    else:
        flat = np.frombuffer(raw, np.dtype(code).newbyteorder(source.order)).astype(code)
    steps = tuple(step * flat.itemsize for step in stride)
    view = np.lib.stride_tricks.as_strided(flat, shape, steps, writeable=False)
    return np.ascontiguousarray(view).reshape(shape)


def _scaled(
    source: Source, name: str, codes: npt.NDArray[Any], quantizer: object
) -> ScaledIntegers:
    """What (scheme, scale, zero point[, axis]) says of codes."""

    def refuse(found: str) -> ModelFileError:
        return ModelFileError(
            source.path,
            f"tensor {name!r}",
            found=f"a quantizer with {found}",
            expected="per_tensor_affine or per_channel_affine, scale and zero point",
        )

    if not (isinstance(quantizer, tuple) and quantizer and isinstance(quantizer[0], Global)):
        raise refuse("no scheme")
    scheme = quantizer[0].name.removeprefix("torch.")
    if scheme not in QSCHEMES or "float_qparams" in scheme or codes.dtype.kind not in "iu":
        raise refuse(f"scheme {scheme} and {codes.dtype}")
    per_channel = scheme.startswith("per_channel")
    if len(quantizer) != (4 if per_channel else 3):
        raise refuse("other parts")
    axis = 0
    if per_channel:
        if not all(isinstance(part, TensorNote) for part in quantizer[1:3]):
            raise refuse("no tensors of scales and zero points")
        axis = quantizer[3]
        if type(axis) is not int or not 0 <= axis < codes.ndim:
            raise refuse("an axis that is none")
        scale = np.asarray(_elements(source, f"{name}, scale", quantizer[1]), np.float64)
        zero = np.asarray(_elements(source, f"{name}, zero point", quantizer[2]), np.float64)
        if scale.shape != (codes.shape[axis],) or zero.shape != scale.shape:
            raise refuse(f"{scale.size} scales for axis {axis} of {codes.shape}")
    else:
        if not all(type(part) in (int, float) for part in quantizer[1:3]):
            raise refuse("a scale that is no number")
        scale, zero = np.array([quantizer[1]], np.float64), np.array([quantizer[2]], np.float64)
    if not (np.isfinite(scale).all() and scale.min() > 0):
        raise refuse("a scale of 0, below it, or not finite")
    if not ((zero == np.rint(zero)) & (np.abs(zero) < 1 << 31)).all():
        raise refuse("a zero point that is not whole")
    return ScaledIntegers(codes, scale, zero.astype(np.int64), axis)


def _are_counts(values: object) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) <= 16
        and all(type(value) is int and 0 <= value < 1 << 48 for value in values)
    )
