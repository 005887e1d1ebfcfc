"""Read the tensors of a `.safetensors` file that another program wrote.

8 bytes of header length (little-endian), a JSON header with the dtype, shape and byte range of
every tensor, and the bytes, without holes or overlaps
(https://huggingface.co/docs/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.weight_file import WeightFile

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 1 << 16

DTYPES = {
    "BOOL": "?",
    "U8": "<u1", "I8": "<i1", "U16": "<u2", "I16": "<i2",
    "U32": "<u4", "I32": "<i4", "U64": "<u8", "I64": "<i8",
    "F16": "<f2", "F32": "<f4", "F64": "<f8",
    "BF16": "<u2",  # NumPy has none: widened when read
}  # fmt: skip


def read_safetensors(path: Path, data: bytes, sha256: str) -> WeightFile:
    """The tensors of a file's bytes.

    Raises:
        ModelFileError: damaged, or its header, shapes and bytes do not agree.
    """

    def refuse(field: str, found: str, expected: str) -> ModelFileError:
        return ModelFileError(path, field, found=found, expected=expected)

    header_bytes = int.from_bytes(data[:8], "little")
    limit = min(MAX_HEADER_BYTES, len(data) - 8)
    if len(data) < 10 or header_bytes > limit:
        raise refuse("header length", f"{header_bytes} bytes", f"at most {max(limit, 0)}")
    try:
        header = json.loads(
            data[8 : 8 + header_bytes].decode("utf-8"), object_pairs_hook=_no_name_twice
        )
    except (ValueError, RecursionError) as problem:
        raise refuse("header", str(problem), "a JSON object") from problem
    if not isinstance(header, dict):
        raise refuse("header", "another JSON value", "a JSON object")
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise refuse("header", f"{len(header)} tensors", f"at most {MAX_TENSORS}")
    body = memoryview(data)[8 + header_bytes :]
    spans: list[tuple[int, int, str]] = []
    readers = {}
    for name, entry in header.items():
        field = f"tensor {name!r}"
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise refuse(field, "other keys", "dtype, shape and data_offsets")
        kind, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not _are_sizes(shape, 32) or not _are_sizes(span, 2) or len(span) != 2:
            raise refuse(field, f"shape {shape!r:.60}, bytes {span!r:.60}", "whole numbers")
        if not isinstance(kind, str):
            raise refuse(field, f"dtype {kind!r:.40}", "a text")
        begin, end = span
        if not begin <= end <= len(body):
            raise refuse(field, f"bytes {begin} to {end}", f"within the {len(body)} there are")
        spans.append((begin, end, field))
        if kind not in DTYPES:
            readers[name] = partial(_refuse_dtype, path, field, kind)
            continue
        need = math.prod(shape) * np.dtype(DTYPES[kind]).itemsize
        if end - begin != need:
            raise refuse(field, f"{end - begin} bytes", f"{need} for {kind} {shape}")
        readers[name] = partial(_read, body[begin:end], kind, tuple(shape))
    at = 0
    for begin, end, field in sorted(spans):
        if begin != at:
            raise refuse(field, f"data from {begin} on", f"from {at}: no holes, no overlaps")
        at = end
    if at != len(body):
        raise refuse("data", f"{len(body)} bytes", f"the {at} that the tensors take")
    return WeightFile(path, sha256, readers)


def widened_bfloat16(halves: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """float32 values of bfloat16 bits: the upper half of a float32."""
    wide: npt.NDArray[np.float32] = (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return wide


def _read(body: memoryview, kind: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    flat = np.frombuffer(body, DTYPES[kind])
    if kind == "BF16":
        flat = widened_bfloat16(flat)
    return flat.reshape(shape).astype(flat.dtype.newbyteorder("="))


def _refuse_dtype(path: Path, field: str, kind: str) -> npt.NDArray[Any]:
    raise ModelFileError(path, field, found=f"dtype {kind!r:.40}", expected=", ".join(DTYPES))


def _no_name_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a name is there twice")
    return keys


def _are_sizes(values: object, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= count
        and all(type(value) is int and 0 <= value < 1 << 48 for value in values)
    )
