"""The packed model: one safetensors file, written whole and read without trust.

docs/packed-file.md describes it byte by byte. The same model gives the same bytes. What is
written has been read back first, so a file that exists is one that the reader takes.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import ConvOp, Shape
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import PackedFileError
from bacmac.host.files import write_bytes
from bacmac.host.model.quantized import ActivationFormat, QuantizedLayer, QuantizedModel
from bacmac.host.pack.container import MAX_FILE_BYTES, container_bytes, parse_container
from bacmac.host.pack.formats import DENSE, packer
from bacmac.host.pack.layer_shape import LayerShape
from bacmac.host.pack.parse import FORMAT, LOGIT_OFFSET, METADATA_KEY, VERSION, parse_model
from bacmac.host.pack.parse_layers import Stored


@dataclass(frozen=True, eq=False)
class PackedModel:
    """A packed file that has been read and checked.

    Attributes:
        path: as given.
        sha256: hex digest of the whole file.
        n_bytes: size of the file.
        model: what it holds.
        layer_bytes: bytes that each layer's packed codes take, by layer name; 0 for a pool.
        layer_formats: their storage format, by layer name; "" for a pool.
    """

    path: str
    sha256: str
    n_bytes: int
    model: QuantizedModel
    layer_bytes: dict[str, int]
    layer_formats: dict[str, str]


def write_packed(
    path: str | Path, model: QuantizedModel, formats: Mapping[str, str] | None = None
) -> None:
    """Write a packed model, whole or not at all.

    Args:
        path: of the file.
        model: what it holds.
        formats: names of storage formats by layer name, as `formats.choose_formats` finds them;
            layers not named are stored densely.

    Raises:
        PackedFileError: the model is outside what the format holds (a kernel of 9, a name with
            control characters, ...); nothing is written.
        OutputError: the file cannot be written.
    """
    data = packed_bytes(model, formats)
    _parse(str(path), data)
    write_bytes(path, data)


def read_packed(path: str | Path) -> PackedModel:
    """Read a packed model and check everything in it.

    Raises:
        PackedFileError: naming file, field, found and expected.
    """
    data = _read(path)
    model, stored = _parse(str(path), data)
    return PackedModel(
        path=str(path),
        sha256=hashlib.sha256(data).hexdigest(),
        n_bytes=len(data),
        model=model,
        layer_bytes={name: how.n_bytes for name, how in stored.items()},
        layer_formats={name: how.format for name, how in stored.items()},
    )


def packed_bytes(model: QuantizedModel, formats: Mapping[str, str] | None = None) -> bytes:
    """The bytes of the file, a function of the model and of `formats` (as `write_packed`) alone.

    Raises:
        ValueError: a level is not in its layer's scheme, or a format cannot hold the layer.
    """
    named = formats or {}
    shapes = model.network.shapes
    tensors: dict[str, npt.NDArray[Any]] = {
        "logit_scale": np.ascontiguousarray(model.logit_scale, "<f8")
    }
    if model.logit_offset.any():
        tensors[LOGIT_OFFSET] = np.ascontiguousarray(model.logit_offset, "<f8")
    for index, layer in enumerate(model.layers):
        source = shapes[layer.op.input]
        for name, array in _layer_tensors(layer, source, named.get(layer.name, DENSE)).items():
            tensors[f"layers.{index}.{name}"] = np.ascontiguousarray(array)
    text = json.dumps(
        _metadata(model, named),
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
        default=_plain,
    )
    return container_bytes({METADATA_KEY: text}, tensors)


def _parse(file: str, data: bytes) -> tuple[QuantizedModel, dict[str, Stored]]:
    return parse_model(file, *parse_container(file, data))


def _read(path: str | Path) -> bytes:
    """All bytes of a regular file of bounded size."""
    expected = "a packed model (.safetensors)"
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise PackedFileError(path, "file", found="a folder", expected=expected)
        if not stat.S_ISREG(status.st_mode):
            raise PackedFileError(path, "file", found="a device or a pipe", expected=expected)
        if status.st_size > MAX_FILE_BYTES:
            raise PackedFileError(
                path,
                "file",
                found=f"{status.st_size} bytes",
                expected=f"at most {MAX_FILE_BYTES}",
            )
        with Path(path).open("rb") as handle:
            return handle.read(MAX_FILE_BYTES)
    except OSError as error:
        found = f"an error ({error.strerror or error})"
        raise PackedFileError(path, "file", found=found, expected=expected) from error


def _layer_tensors(
    layer: QuantizedLayer, input_shape: Shape, form: str
) -> dict[str, npt.NDArray[Any]]:
    tensors: dict[str, npt.NDArray[Any]] = {}
    op = layer.op
    if isinstance(op, ConvOp):
        shape = LayerShape.of(op, input_shape)
        tensors["codes"] = packer(form).pack(op.levels, SCHEMES[layer.scheme], shape)
        tensors["scale"] = layer.weight_scale.astype("<f8")
        tensors["bias"] = op.bias.astype("<i4")
    if op.requantize is not None:
        tensors["multiplier"] = op.requantize.multiplier.astype("<u2")
        tensors["shift"] = op.requantize.shift.astype("<u1")
        if op.requantize.residual_multiplier is not None:
            tensors["residual_multiplier"] = op.requantize.residual_multiplier.astype("<i4")
    return tensors


def _metadata(model: QuantizedModel, formats: Mapping[str, str]) -> dict[str, object]:
    normalization = model.normalization
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": model.name,
        "input_shape": model.input_shape,
        "input_format": _format(model.input_format),
        "normalization": {
            "pixel_max": float(normalization.pixel_max),
            "mean": [float(value) for value in normalization.mean],
            "std": [float(value) for value in normalization.std],
        },
        "layers": [_layer(layer, formats.get(layer.name, DENSE)) for layer in model.layers],
        "provenance": dict(model.provenance),
    }


def _layer(layer: QuantizedLayer, form: str) -> dict[str, object]:
    op = layer.op
    fields: dict[str, object] = {
        "name": layer.name,
        "input": op.input,
        "stride": op.stride,
        "padding": op.padding,
        "output": None if layer.output is None else _format(layer.output),
        "clamp": None if op.requantize is None else [op.requantize.low, op.requantize.high],
        "structural": bool(layer.structural),
        "relative_squared_error": float(layer.relative_squared_error),
    }
    if isinstance(op, ConvOp):
        conv = {
            "kind": "conv",
            "residual": op.residual,
            "groups": op.groups,
            "scheme": layer.scheme,
            "storage": form,
            "weight_shape": op.levels.shape,
        }
        return fields | conv
    return fields | {"kind": op.kind, "kernel": op.kernel}


def _format(activations: ActivationFormat) -> dict[str, object]:
    fields: dict[str, object] = {
        "scale": float(activations.scale),
        "bits": int(activations.bits),
        "signed": bool(activations.signed),
    }
    return fields | ({"zero": float(activations.zero)} if activations.zero else {})


def _plain(value: object) -> object:
    """NumPy's scalars and any mapping as JSON has them; anything else is a bug in the caller."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} in a model's provenance")
