"""Columns of raw integers as small checked bytes, and back without loss.

A column is stored as its first value and its differences, in the narrowest integers that hold
them, bytes of equal weight side by side, deflated: differences of readings are small and the high
bytes of differences of times hardly change.

Layout, little-endian: "<BBqI" = version 1, bytes of a difference (1, 2, 4 or 8), first value,
number of values; then the deflated (RFC 1950) bytes of n - 1 differences, as `width` planes of
n - 1 bytes, lowest first. Differences are modulo 2**64, so any int64 comes back.
"""

from __future__ import annotations

import hashlib
import struct
import zlib

import numpy as np
import numpy.typing as npt

_HEADER = struct.Struct("<BBqI")
_VERSION = 1
_WIDTHS = (1, 2, 4, 8)
_LEVEL = 6


def encode_column(values: npt.NDArray[np.int64]) -> bytes:
    """The bytes of a column.

    Args:
        values: int64 (n,), fewer than 2**32.

    >>> encode_column(np.array([7, 8, 9]))[:2].hex()
    '0101'
    """
    if values.dtype != np.int64 or values.ndim != 1:
        raise ValueError(f"a column is int64 (n,), not {values.dtype} {values.shape}")
    differences = np.diff(values)
    width = _width(differences)
    narrow = differences.astype(f"<i{width}")
    planes = narrow.view(np.uint8).reshape(-1, width).T
    first = int(values[0]) if len(values) else 0
    header = _HEADER.pack(_VERSION, width, first, len(values))
    return header + zlib.compress(planes.tobytes(), _LEVEL)


def decode_column(data: bytes) -> npt.NDArray[np.int64]:
    """The column of these bytes, int64 (n,).

    Raises:
        ValueError: they are not what `encode_column` makes; never takes more memory than their
            own header says.
    """
    if len(data) < _HEADER.size:
        raise ValueError(f"{len(data)} bytes; {_HEADER.size} or more are needed")
    version, width, first, n = _HEADER.unpack_from(data)
    if version != _VERSION or width not in _WIDTHS:
        raise ValueError(f"version {version}, width {width}; {_VERSION} and {_WIDTHS} are known")
    if n == 0:
        return np.zeros(0, np.int64)
    size = (n - 1) * width
    inflater = zlib.decompressobj()
    try:
        planes = inflater.decompress(data[_HEADER.size :], size + 1)
    except zlib.error as error:
        raise ValueError(f"deflated bytes are damaged: {error}") from error
    if len(planes) != size or not inflater.eof or inflater.unused_data:
        raise ValueError(f"{len(planes)} bytes of differences or more; expected {size}")
    narrow = np.frombuffer(planes, np.uint8).reshape(width, n - 1).T
    values = np.empty(n, np.int64)
    values[0] = first
    values[1:] = np.ascontiguousarray(narrow).view(f"<i{width}")[:, 0]
    return np.cumsum(values, out=values)


def sha256(data: bytes) -> str:
    """Hex digest of stored bytes."""
    return hashlib.sha256(data).hexdigest()


def _width(differences: npt.NDArray[np.int64]) -> int:
    if not len(differences):
        return 1
    low, high = int(differences.min()), int(differences.max())
    return next(w for w in _WIDTHS if -(1 << (8 * w - 1)) <= low and high < 1 << (8 * w - 1))
