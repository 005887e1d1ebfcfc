"""Walk a FlatBuffer that nobody vouches for: every offset is checked before it is followed.

The layout is that of the FlatBuffers "Internals" page: little-endian; a table begins with the
signed distance back to its vtable, which holds the place of each field; strings, vectors and
tables are reached by an unsigned distance forwards. Nothing is copied and nothing recurses, so a
walk costs what its caller asks for, whatever the file says.

The schema package's generated classes are not used: they follow offsets unchecked (a damaged file
makes them raise struct.error, IndexError and TypeError, or loop over 2^31 entries), so a verifier
of this size would be needed beside them, and then they add nothing but a dependency.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.importers.lowering import RefusedError

MAX_TEXT_BYTES = 4096


@dataclass(frozen=True)
class Table:
    """One table of a FlatBuffer. Fields are told by their number in the schema, from 0.

    A field that is left out has its default: 0, no table, no vector.

    Raises (all methods): RefusedError: an offset, vector or table that leaves the file.
    """

    data: bytes = field(repr=False)
    position: int
    _vtable: int
    _n_fields: int
    _n_bytes: int

    @staticmethod
    def at(data: bytes, position: int) -> Table:
        """The table at a byte position."""
        (distance,) = _unpack("<i", data, position)
        vtable = position - distance
        vtable_bytes, table_bytes = _unpack("<HH", data, vtable)
        whole = vtable + vtable_bytes <= len(data) and position + table_bytes <= len(data)
        if vtable_bytes < 4 or vtable_bytes % 2 or table_bytes < 4 or not whole:
            raise RefusedError(f"a table at byte {position} that leaves the file", "a whole table")
        return Table(data, position, vtable, vtable_bytes // 2 - 2, table_bytes)

    @staticmethod
    def root(data: bytes) -> Table:
        """The table that the file's first offset leads to."""
        (distance,) = _unpack("<I", data, 0)
        return Table.at(data, distance)

    def integer(self, field: int, kind: str, default: int = 0) -> int:
        """A whole number; `kind` is its letter in `struct` ("b", "B", "i", "I", "Q", "?")."""
        place = self._place(field, struct.calcsize(kind))
        return default if place is None else int(_unpack("<" + kind, self.data, place)[0])

    def table(self, field: int) -> Table | None:
        """A table, or None."""
        place = self._place(field, 4)
        return None if place is None else Table.at(self.data, self._target(place))

    def tables(self, field: int, limit: int) -> list[Table]:
        """A vector of tables, at most `limit`."""
        places = self.vector(field, np.dtype("<u4"))
        if len(places) > limit:
            raise RefusedError(f"{len(places)} entries", f"at most {limit}")
        start = self._start(field)
        return [
            Table.at(self.data, start + 4 * index + int(distance))
            for index, distance in enumerate(places)
        ]

    def vector(self, field: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """A vector of numbers, a view of the file; empty where it is left out."""
        start = self._start(field)
        if start < 0:
            return np.zeros(0, dtype)
        (length,) = _unpack("<I", self.data, start - 4)
        if length * dtype.itemsize > len(self.data) - start:
            raise RefusedError(
                f"a vector of {length} entries at byte {start}",
                f"at most the {len(self.data) - start} bytes that follow",
            )
        return np.frombuffer(self.data, dtype, length, start)

    def text(self, field: int) -> str:
        """A string, cut where it is very long; what is not UTF-8 in it is replaced."""
        raw = self.vector(field, np.dtype("u1"))[:MAX_TEXT_BYTES]
        return raw.tobytes().decode("utf-8", errors="replace")

    def has(self, field: int) -> bool:
        """Whether the field is there at all."""
        return self._place(field, 1) is not None

    def _start(self, field: int) -> int:
        """Where a vector's entries begin; -1 where it is left out."""
        place = self._place(field, 4)
        return -1 if place is None else self._target(place) + 4

    def _place(self, field: int, n_bytes: int) -> int | None:
        if field >= self._n_fields:
            return None
        (offset,) = _unpack("<H", self.data, self._vtable + 4 + 2 * field)
        if offset == 0:
            return None
        if offset < 4 or offset + n_bytes > self._n_bytes:
            raise RefusedError(
                f"field {field} outside the table at byte {self.position}", "a field inside it"
            )
        return self.position + int(offset)

    def _target(self, place: int) -> int:
        (distance,) = _unpack("<I", self.data, place)
        return place + int(distance)


def _unpack(kind: str, data: bytes, position: int) -> tuple[Any, ...]:
    n_bytes = struct.calcsize(kind)
    if position < 0 or position + n_bytes > len(data):
        raise RefusedError(f"an offset to byte {position}", f"one within {len(data)} bytes")
    return struct.unpack_from(kind, data, position)
