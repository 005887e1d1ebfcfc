"""The safetensors container, read without trust.

A safetensors file is 8 bytes of header length (little-endian), a JSON header that gives every
tensor's dtype, shape and byte range and a `__metadata__` object of strings, then the tensors'
bytes without holes (https://huggingface.co/docs/safetensors). The library writes it. Reading is
done here: the library keeps the last of two equal keys in silence, and its errors do not say
which field holds what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from bacmac.host.errors import PackedFileError
from bacmac.host.pack.metadata import Field, parse_json

MAX_FILE_BYTES = 256 << 20
MAX_HEADER_BYTES = 16 << 20

_DTYPES = {"U8": "<u1", "U16": "<u2", "I32": "<i4", "F64": "<f8"}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}

_DISGUISES: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive (.npz, or a PyTorch file)"),
    (b"\x93NUMPY", "a NumPy array file (.npy)"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a program (ELF)"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"SQLite format 3", "an SQLite database"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    *((bytes((0x80, protocol)), "a pickle") for protocol in range(2, 6)),
)


@dataclass(frozen=True, eq=False)
class Tensors:
    """The tensors of one file, to be taken one by one; what is left over at the end is unknown."""

    file: str
    arrays: dict[str, npt.NDArray[Any]]

    def take(self, name: str, dtype: str, shape: tuple[int, ...] | None) -> npt.NDArray[Any]:
        """Remove and return a tensor, which must have this dtype and shape (None: any vector).

        Raises:
            PackedFileError: it is missing, or has another dtype or shape.
        """
        wanted = f"{dtype} {list(shape) if shape is not None else '[n]'}"
        array = self.arrays.pop(name, None)
        if array is None:
            raise PackedFileError(self.file, name, found="no such tensor", expected=wanted)
        fits = array.ndim == 1 if shape is None else array.shape == shape
        if array.dtype != _DTYPES[dtype] or not fits:
            found = f"{_NAMES[array.dtype]} {list(array.shape)}"
            raise PackedFileError(self.file, name, found=found, expected=wanted)
        return array

    def finish(self) -> None:
        """Refuse whatever has not been taken."""
        if self.arrays:
            raise PackedFileError(
                self.file, min(self.arrays), found="an unknown tensor", expected="none"
            )


def container_bytes(metadata: Mapping[str, str], tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The file's bytes. With one metadata key they depend on nothing but the arguments."""
    return save(dict(tensors), dict(metadata))


def parse_container(file: str, data: bytes) -> tuple[dict[str, Field], Tensors]:
    """The metadata's fields and the tensors of a file's bytes.

    Raises:
        PackedFileError: it is something else, or damaged.
    """
    header_bytes = int.from_bytes(data[:8], "little")
    if len(data) < 9 or 8 + header_bytes > len(data) or data[8:9] != b"{":
        _refuse_start(file, data, header_bytes)
    if header_bytes > MAX_HEADER_BYTES:
        raise PackedFileError(
            file,
            "header length",
            found=f"{header_bytes} bytes",
            expected=f"at most {MAX_HEADER_BYTES}",
        )
    entries = parse_json(file, "header", data[8 : 8 + header_bytes]).mapping()
    metadata = entries.pop("__metadata__", None)
    if metadata is None:
        raise PackedFileError(
            file,
            "header",
            found="no metadata",
            expected="a packed model's",
            hint="another program wrote this safetensors file",
        )
    return metadata.mapping(), Tensors(file, _tensors(file, entries, data[8 + header_bytes :]))


def _tensors(file: str, entries: dict[str, Field], body: bytes) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    spans: list[tuple[int, int, Field]] = []
    for name, entry in entries.items():
        place = Field(file, name or "a tensor without a name", entry.value)
        fields = place.record("dtype", "shape", "data_offsets")
        dtype = np.dtype(_DTYPES[fields["dtype"].choice(sorted(_DTYPES))])
        shape = tuple(side.integer(1, MAX_FILE_BYTES) for side in fields["shape"].items(0, 8))
        begin, end = fields["data_offsets"].integers(2, 0, MAX_FILE_BYTES)
        if end > len(body):
            fields["data_offsets"].refuse(f"an end within the {len(body)} bytes of data")
        # Python's integers: a product of sides cannot wrap around
        need = math.prod(shape) * dtype.itemsize
        if end - begin != need:
            fields["data_offsets"].refuse(f"{need} bytes for {dtype.name} {list(shape)}")
        spans.append((begin, end, fields["data_offsets"]))
        # a copy where it must be aligned and may be kept; codes stay a view
        array = np.frombuffer(body, dtype, math.prod(shape), begin).reshape(shape)
        arrays[name] = array if dtype.itemsize == 1 else array.astype(dtype.newbyteorder("="))
    at = 0
    for begin, end, field in sorted(spans, key=lambda span: span[:2]):
        if begin != at:
            field.refuse(f"bytes from {at} on: tensors neither overlap nor leave holes")
        at = end
    if at != len(body):
        raise PackedFileError(
            file,
            "data",
            found=f"{len(body)} bytes after the header",
            expected=f"the {at} that its tensors take",
        )
    return arrays


def _refuse_start(file: str, data: bytes, header_bytes: int) -> NoReturn:
    expected = "a packed model (.safetensors)"
    if not data:
        raise PackedFileError(file, "file", found="an empty file", expected=expected)
    kind = None
    # a cut packed file still starts like one; its length's bytes must not pass for a pickle's
    if header_bytes > MAX_HEADER_BYTES or data[8:9] != b"{":
        kind = _disguise(data)
    if kind is not None:
        hint = "make one with bacmac pack" if "ONNX" in kind else ""
        raise PackedFileError(file, "file", found=kind, expected=expected, hint=hint)
    if len(data) < 9:
        found = f"{len(data)} bytes"
        raise PackedFileError(file, "file", found=found, expected=f"{expected}, 9 bytes at least")
    if 8 + header_bytes > len(data):
        raise PackedFileError(
            file,
            "header length",
            found=f"{header_bytes} bytes in a file of {len(data)}",
            expected=f"at most {len(data) - 8}",
            hint="the file is cut short, or is not a packed model",
        )
    raise PackedFileError(
        file, "header", found=f"{ascii(data[8:9])[1:]} as its first byte", expected="'{'"
    )


def _disguise(data: bytes) -> str | None:
    """What the first bytes look like, if they are known."""
    for magic, kind in _DISGUISES:
        if data.startswith(magic):
            return kind
    if data[:1] == b"\x08" and data[2:3] in (b"\x12", b"\x1a", b":", b"B"):
        return "an ONNX model"  # protobuf: ir_version, then a field of ModelProto
    if data[:64].lstrip()[:1] in (b"{", b"[", b"<") and data[:64].isascii():
        return "a text (JSON, XML or HTML)"
    return None
