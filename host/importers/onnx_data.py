"""Texts and tensors of an ONNX file, those in a file beside it included.

Protocol buffer objects come in as `Any`: the package `onnx` is optional and is only imported
where a file is read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from bacmac.host.importers.lowering import RefusedError
from bacmac.host.importers.onnx_tensors import Array


def text_of(value: str | bytes) -> str:
    """A text field of a protocol buffer, which comes as bytes where it is not UTF-8."""
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


class StoredOutside:
    """Reads tensors that a model keeps in files of its own folder (ONNX external data).

    A file's plain name only, no link and no folder; all tensors together at most as large as one
    file may be, because any number of them may name the same bytes.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._left_bytes = limit_bytes

    def loaded(self, tensor: Any) -> Any:
        """A copy of the tensor with its bytes inside.

        Raises:
            RefusedError: another folder, a missing file, or bytes that are not there.
        """
        name = f"tensor {text_of(tensor.name)!r}"
        fields = {text_of(entry.key): text_of(entry.value) for entry in tensor.external_data}
        location = fields.get("location", "")
        plain = re.fullmatch(r"[^/\\:\0]+", location) and location not in (".", "..")
        if not plain:
            raise RefusedError(f"{name} stored in {location!r}", "a file of the model's folder")
        path = self._folder / location
        try:
            if path.is_symlink() or not path.is_file():
                raise RefusedError(f"{name} stored in {location!r}", "an ordinary file there")
            size = path.stat().st_size
            offset = int(fields.get("offset", "0"))
            length = int(fields.get("length", str(size - offset)))
            if offset < 0 or length < 0 or offset + length > size or length > self._left_bytes:
                raise RefusedError(
                    f"{name}: {length} bytes from {offset} in {location!r}",
                    f"bytes within its {size}, {self._left_bytes} at most",
                )
            self._left_bytes -= length
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
        except (OSError, ValueError) as error:
            raise RefusedError(f"{name} stored in {location!r} ({error})", "bytes there") from error
        copy = type(tensor)()
        copy.CopyFrom(tensor)
        del copy.external_data[:]
        copy.data_location = 0
        copy.raw_data = data
        return copy


def array_of(tensor: Any, stored: StoredOutside | None = None) -> Array:
    """A TensorProto as an array; `stored` reads what lies in a file beside the model.

    Raises:
        RefusedError: stored outside the file, or its parts do not agree.
    """
    from onnx import numpy_helper

    name = f"tensor {text_of(tensor.name)!r}"
    if any(side < 0 for side in tensor.dims) or len(tensor.dims) > 16:
        raise RefusedError(f"{name} of dimensions {list(tensor.dims)[:16]}", "sizes from 0")
    if tensor.data_location == 1 or tensor.external_data:
        if stored is None:
            raise RefusedError(f"{name} stored outside the file", "weights inside the file")
        tensor = stored.loaded(tensor)
    try:
        values: Array = np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, NotImplementedError, OverflowError) as error:
        raise RefusedError(f"{name}, damaged ({error})", "data that fill its shape") from error
    return values
