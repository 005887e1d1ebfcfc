"""Read `.npy` and `.npz` files that nobody vouches for: no pickle, and sizes checked first.

The layout is that of NumPy's format description (numpy.lib.format, versions 1.0 to 3.0). An
array's bytes are only made when its header, the ZIP directory and the file's own size agree, so
what is allocated is bounded by what is there.
"""

from __future__ import annotations

import ast
import hashlib
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.errors import InputError
from bacmac.host.importers.zip_archive import ZipArchive, open_zip

MAX_FILE_BYTES = 2 << 30
_MAGIC = b"\x93NUMPY"
_KINDS = frozenset("biuf")


@dataclass(frozen=True)
class ArrayFile:
    """The arrays of a file, each read when asked for.

    Attributes:
        path: as given.
        sha256: hex digest of the file.
        names: of its arrays, in the file's order; one empty name for a `.npy`.
    """

    path: Path
    sha256: str
    names: tuple[str, ...]
    _data: bytes | ZipArchive
    _error: type[InputError]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def read(self, name: str) -> npt.NDArray[Any]:
        """One array: booleans, integers or floats of any width.

        Raises:
            InputError: of the class given to `open_arrays`: missing, damaged, or not numbers.
        """
        if name not in self.names:
            listed = ", ".join(self.names[:8]) or "no array"
            raise self._error(self.path, f"array {name!r}", found=listed, expected="this array")
        if isinstance(self._data, bytes):
            return _parse(self._data, self.path, "array", self._error)
        field = f"array {name!r}"
        raw = self._data.read(f"{name}.npy", field)
        return _parse(raw, self.path, field, self._error)


def read_bounded(path: str | Path, error: type[InputError], expected: str) -> bytes:
    """A whole file of at most MAX_FILE_BYTES.

    Raises:
        InputError: of class `error`: missing, unreadable, empty or too large.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
        if file.is_file() and size > MAX_FILE_BYTES:
            raise error(
                file, "size", found=f"{size} bytes", expected=f"at most {MAX_FILE_BYTES} bytes"
            )
        data = file.read_bytes() if file.is_file() else None
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the name
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise error(
            file, "file", found=str(reason or problem).lower(), expected=expected
        ) from problem
    if data is None:
        raise error(file, "file", found="a folder or a special file", expected=expected)
    if not data:
        raise error(file, "file", found="an empty file", expected=expected)
    return data


def open_arrays(path: str | Path, error: type[InputError]) -> ArrayFile:
    """The arrays of a `.npz`, or the one of a `.npy`, told apart by their first bytes.

    Raises:
        InputError: of class `error`: not such a file, damaged, or larger than it claims to be.
    """
    file = Path(path)
    expected = "a .npz or .npy file of numbers"
    data = read_bounded(file, error, expected)
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(_MAGIC):
        return ArrayFile(file, digest, ("",), data, error)
    if not data.startswith(b"PK"):
        what = "a pickle" if data[:1] == b"\x80" else f"bytes {data[:4].hex()}"
        raise error(file, "header", found=what, expected=expected)
    archive = open_zip(file, data, error, expected)
    names = [member.removesuffix(".npy") for member in archive.sizes]
    for member, name in zip(archive.sizes, names, strict=True):
        if name == member:
            field = f"member {member!r}"
            raise error(file, field, found="another kind of member", expected="arrays only")
    if "" in names:
        raise error(file, "arrays", found="a name that is empty", expected="names")
    return ArrayFile(file, digest, tuple(names), archive, error)


def _parse(raw: bytes, path: Path, field: str, error: type[InputError]) -> npt.NDArray[Any]:
    """An array from the bytes of a .npy file."""
    shape, fortran, dtype, start = _header(raw, path, field, error)
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(raw) - start:
        raise error(
            path,
            field,
            found=f"{len(raw) - start} bytes of data",
            expected=f"{needed} for {dtype} {shape}",
        )
    flat = np.frombuffer(raw, dtype, offset=start)
    array = flat.reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), order="C")


def _header(
    raw: bytes, path: Path, field: str, error: type[InputError]
) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    if not raw.startswith(_MAGIC) or len(raw) < 12 or raw[6] not in (1, 2, 3):
        raise error(path, field, found=f"bytes {raw[:8].hex()}", expected="a .npy header")
    width = 2 if raw[6] == 1 else 4
    start = 8 + width
    length = int.from_bytes(raw[8:start], "little")
    if length > min(len(raw) - start, 1 << 16):
        raise error(path, field, found=f"a header of {length} bytes", expected="a shorter one")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in a damaged header warn first
            header = ast.literal_eval(raw[start : start + length].decode("latin-1").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as problem:
        raise error(path, field, found="an unreadable header", expected="a .npy one") from problem
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise error(path, field, found="a header of other keys", expected="descr, order, shape")
    descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    if not (
        isinstance(shape, tuple)
        and len(shape) <= 32
        and all(isinstance(side, int) and 0 <= side < 1 << 48 for side in shape)
        and isinstance(fortran, bool)
    ):
        raise error(path, field, found=f"shape {shape!r}", expected="a tuple of sizes")
    if not isinstance(descr, str) or len(descr) > 4 or descr[1:2] not in _KINDS:
        what = "Python objects (a pickle)" if descr == "|O" else f"type {descr!r}"
        raise error(path, field, found=what, expected="booleans, integers or floats")
    try:
        dtype = np.dtype(descr)
    except TypeError as problem:
        raise error(path, field, found=f"type {descr!r}", expected="a NumPy type") from problem
    return shape, fortran, dtype, start + length
