"""Storage formats that leave zeros out: bitmap tiles, coordinates, N of M.

All three see the weights as a matrix, output channels by the inputs of a window
(`layer_shape.to_matrix`), store the levels that are not zero densely in their scheme's code, and
say where they belong. Each has one way to write a matrix, and a reader refuses any other, so the
bytes are a function of the levels. Sizes are closed forms; `size` gives them without packing.

Sources: a bit for every weight, Zhang et al. 2016 (Cambricon-X, MICRO-49, "direct indexing"), here
over tiles of 4 x 4 as one 16-bit word with an index to the first element; the index for several
tiles at once, Jacobson 1989 ("Space-efficient static trees and graphs", FOCS, the rank directory);
coordinates, Saad 1994 (SPARSKIT); N of M, Mishra et al. 2021 (arXiv 2104.08378).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.schemes import Levels, Scheme
from bacmac.host.pack.bits import Bytes, pack_words, packed_size, unpack_words, words_size
from bacmac.host.pack.codes import pack_levels, unpack_levels
from bacmac.host.pack.layer_shape import LayerShape, from_matrix, to_matrix, too_few_bytes

TILE = 4
"""Rows and columns of a tile: one bit each in a 16-bit bitmap."""
INDEX_TILES = 16
"""Tiles to an index. Of any tile the first element is its index plus at most 15 bit counts."""
COUNT_BYTES = 4


@dataclass(frozen=True)
class Bitmap:
    """4x4 tiles: a bit for each weight, an index for each 16 tiles, then the elements.

    Tiles go along four rows at a time, bit 4 r + c is row r, column c; beyond the matrix bits are
    0. The index is the number of elements before its first tile, in as few bits as the number of
    all elements needs. Elements follow tile by tile, bit by bit.
    """

    name: str = "bitmap"

    def refusal(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> str:
        """Why these levels cannot be stored so, or ""."""
        return _no_zero(scheme)

    def size(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> int:
        """Bytes: 2 T + ceil(ceil(T / 16) bits(E) / 8) + dense(E) of T tiles and E elements."""
        return bitmap_size(shape.matrix, int(np.count_nonzero(levels)), scheme.bits)

    def pack(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> Bytes:
        """Levels of the layer's shape to bytes."""
        _check_zero(scheme)
        tiles = _to_tiles(to_matrix(levels))
        mask = (tiles != 0).reshape(-1)
        bitmaps = np.packbits(mask, bitorder="little")
        elements = cast(Levels, np.compress(mask, tiles))
        index = _index(bitmaps.view("<u2"))
        bits = elements.size.bit_length()
        places = pack_words(index, bits) if bits else np.zeros(0, np.uint8)
        return np.concatenate((bitmaps, places, pack_levels(elements, scheme)))

    def unpack(self, data: Bytes, scheme: Scheme, shape: LayerShape) -> Levels:
        """Undo `pack`; ValueError for bytes that it cannot have made."""
        _check_zero(scheme)
        n_tiles = tile_count(shape.matrix)
        if data.size < 2 * n_tiles:
            raise ValueError(f"{data.size} bytes, less than {n_tiles} bitmaps")
        bitmaps = np.ascontiguousarray(data[: 2 * n_tiles])
        index = _index(bitmaps.view("<u2"))
        n_elements = int(_POPCOUNT[bitmaps].sum(dtype=np.int64))
        _check_size(data, bitmap_size(shape.matrix, n_elements, scheme.bits), n_elements)
        bits = n_elements.bit_length()
        first = 2 * n_tiles + words_size(index.size, bits)
        if bits:
            stored = unpack_words(data[2 * n_tiles : first], index.size, bits)
            wrong = stored != index
            if wrong.any():
                at = int(wrong.argmax())
                raise ValueError(
                    f"index {at} is {int(stored[at])}; the bitmaps before it have "
                    f"{int(index[at])} bits"
                )
        elements = _elements(data[first:], n_elements, scheme)
        mask = np.unpackbits(bitmaps, bitorder="little").view(np.bool_)
        tiles = np.zeros(16 * n_tiles, scheme.levels.dtype)
        tiles[np.flatnonzero(mask)] = elements
        return from_matrix(_from_tiles(tiles, shape.matrix), shape)


@dataclass(frozen=True)
class Coordinates:
    """COO: how many elements, their rows, their columns, their codes, in order of the matrix.

    The count has 4 bytes, little-endian; rows and columns have as many bits as the last of them
    needs. Each of the three lists begins at a byte.
    """

    name: str = "coo"

    def refusal(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> str:
        """Why these levels cannot be stored so, or ""."""
        return _no_zero(scheme) or too_few_bytes(shape.n_weights, self.size(levels, scheme, shape))

    def size(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> int:
        """Bytes: 4 + ceil(E bits(rows - 1) / 8) + ceil(E bits(columns - 1) / 8) + dense(E)."""
        return coordinates_size(shape.matrix, int(np.count_nonzero(levels)), scheme.bits)

    def pack(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> Bytes:
        """Levels of the layer's shape to bytes."""
        _check_zero(scheme)
        flat = to_matrix(levels).reshape(-1)
        places = np.flatnonzero(flat)
        parts = [np.frombuffer(places.size.to_bytes(COUNT_BYTES, "little"), np.uint8)]
        sides = np.divmod(places.astype(np.uint32), np.uint32(shape.matrix[1]))
        for side, bits in zip(sides, _coordinate_bits(shape.matrix), strict=True):
            if bits:
                parts.append(pack_words(side, bits))
        return np.concatenate((*parts, pack_levels(flat[places], scheme)))

    def unpack(self, data: Bytes, scheme: Scheme, shape: LayerShape) -> Levels:
        """Undo `pack`; ValueError for bytes that it cannot have made."""
        _check_zero(scheme)
        if data.size < COUNT_BYTES:
            raise ValueError(f"{data.size} bytes, not even a count")
        n = int.from_bytes(data[:COUNT_BYTES].tobytes(), "little")
        if n > shape.n_weights:
            raise ValueError(f"{n} elements of {shape.n_weights} weights")
        _check_size(data, coordinates_size(shape.matrix, n, scheme.bits), n)
        if why := too_few_bytes(shape.n_weights, data.size):
            raise ValueError(why)
        at, places = COUNT_BYTES, np.zeros(n, np.int64)
        for side, bits in zip(shape.matrix, _coordinate_bits(shape.matrix), strict=True):
            stop = at + words_size(n, bits)
            found = unpack_words(data[at:stop], n, bits) if bits else np.zeros(n, np.uint32)
            if n and int(found.max()) >= side:
                raise ValueError(f"coordinate {int(found.max())} of {side}")
            places = places * side + found
            at = stop
        unordered = np.diff(places) <= 0
        if unordered.any():
            raise ValueError(
                f"element {int(unordered.argmax()) + 1} does not follow the one before"
            )
        flat = np.zeros(shape.n_weights, scheme.levels.dtype)
        flat[places] = _elements(data[at:], n, scheme)
        return from_matrix(cast(Levels, flat), shape)


@dataclass(frozen=True)
class SomeOfMany:
    """N:M: of every `many` inputs of a row at most `some` are not zero, and `some` are stored.

    Groups begin anew at each row; the last of a row may be shorter. First the codes of all groups,
    in each the elements in order and then zeros; then their positions in the group, log2(M) bits
    each, 0 for the zeros.

    Attributes:
        some: N, 1 to M - 1.
        many: M: 4, 8 or 16.
    """

    some: int
    many: int

    @property
    def name(self) -> str:
        """As files have it: nm-2:4."""
        return f"nm-{self.some}:{self.many}"

    def refusal(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> str:
        """Why these levels cannot be stored so, or ""."""
        if why := _no_zero(scheme):
            return why
        most = most_of(levels, self.many)
        return "" if most <= self.some else _more_than(self.many, most, self.some)

    def size(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> int:
        """Bytes: dense(G N) + ceil(G N log2(M) / 8) of G groups."""
        return some_of_many_size(shape.matrix, self.some, self.many, scheme.bits)

    def pack(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> Bytes:
        """Levels of the layer's shape to bytes; ValueError where a group has more than N."""
        _check_zero(scheme)
        groups = _filled_rows(to_matrix(levels), self.many).reshape(-1, self.many)
        maps = _group_maps(groups)
        most = int(_POPCOUNT16[maps].max())
        if most > self.some:
            raise ValueError(_more_than(self.many, most, self.some))
        positions = _positions(self.many)[maps, : self.some]
        first = np.arange(len(groups), dtype=np.int64)[:, None] * self.many
        elements = groups.reshape(-1)[first + positions]
        elements[np.arange(self.some) >= _POPCOUNT16[maps][:, None]] = 0
        codes = pack_levels(elements.reshape(-1), scheme)
        return np.concatenate((codes, pack_words(positions.reshape(-1), _log2(self.many))))

    def unpack(self, data: Bytes, scheme: Scheme, shape: LayerShape) -> Levels:
        """Undo `pack`; ValueError for bytes that it cannot have made."""
        _check_zero(scheme)
        rows, columns = shape.matrix
        n_groups = rows * -(-columns // self.many)
        n = n_groups * self.some
        _check_size(data, some_of_many_size(shape.matrix, self.some, self.many, scheme.bits), n)
        stop = packed_size(n, scheme.bits)
        elements = unpack_levels(data[:stop], n, scheme).reshape(n_groups, self.some)
        positions = unpack_words(data[stop:], n, _log2(self.many)).reshape(n_groups, self.some)
        here = elements != 0
        # elements first and in order, then zeros at position 0
        good = here == (np.arange(self.some) < np.count_nonzero(here, axis=1)[:, None])
        good &= here | (positions == 0)
        good[:, 1:] &= ~here[:, 1:] | (positions[:, 1:] > positions[:, :-1])
        if not good.all():
            raise ValueError(f"group {int((~good.all(1)).argmax())} is not in its one form")
        groups = np.zeros((n_groups, self.many), scheme.levels.dtype)
        owner, slot = np.nonzero(here)
        groups[owner, positions[owner, slot]] = elements[owner, slot]
        whole = groups.reshape(rows, -1)
        if whole[:, columns:].any():
            raise ValueError(f"an element lies beyond the {columns} columns")
        return from_matrix(cast(Levels, np.ascontiguousarray(whole[:, :columns])), shape)


def tile_count(matrix: tuple[int, int]) -> int:
    """4x4 tiles that cover a matrix."""
    return -(-matrix[0] // TILE) * -(-matrix[1] // TILE)


def bitmap_size(matrix: tuple[int, int], n_elements: int, bits: int) -> int:
    """Bytes of `Bitmap`."""
    n_tiles = tile_count(matrix)
    index = words_size(-(-n_tiles // INDEX_TILES), n_elements.bit_length())
    return 2 * n_tiles + index + packed_size(n_elements, bits)


def coordinates_size(matrix: tuple[int, int], n_elements: int, bits: int) -> int:
    """Bytes of `Coordinates`."""
    places = sum(words_size(n_elements, width) for width in _coordinate_bits(matrix))
    return COUNT_BYTES + places + packed_size(n_elements, bits)


def some_of_many_size(matrix: tuple[int, int], some: int, many: int, bits: int) -> int:
    """Bytes of `SomeOfMany`."""
    n = matrix[0] * -(-matrix[1] // many) * some
    return packed_size(n, bits) + words_size(n, _log2(many))


def most_of(levels: Levels, many: int) -> int:
    """The most elements that any group of `many` inputs of a layer has."""
    groups = _filled_rows(to_matrix(levels), many).reshape(-1, many)
    return int(_POPCOUNT16[_group_maps(groups)].max())


_POPCOUNT16 = (
    np.unpackbits(np.arange(1 << 16, dtype="<u2").view(np.uint8))
    .reshape(-1, 16)
    .sum(1, dtype=np.uint8)
)
_POPCOUNT = _POPCOUNT16[:256]


def _no_zero(scheme: Scheme) -> str:
    return "" if scheme.has_zero else f"{scheme.name} has no zero to leave out"


def _more_than(many: int, most: int, some: int) -> str:
    return f"a group of {many} has {most} weights that are not zero, more than {some}"


def _check_zero(scheme: Scheme) -> None:
    if why := _no_zero(scheme):
        raise ValueError(why)


def _check_size(data: Bytes, size: int, n_elements: int) -> None:
    if data.size != size:
        raise ValueError(f"{data.size} bytes, not the {size} of {n_elements} elements")


def _elements(data: Bytes, n: int, scheme: Scheme) -> Levels:
    elements = unpack_levels(np.ascontiguousarray(data), n, scheme)
    zero = elements == 0
    if zero.any():
        raise ValueError(f"element {int(zero.argmax())} is zero, and zeros are left out")
    return elements


def _coordinate_bits(matrix: tuple[int, int]) -> tuple[int, int]:
    return (matrix[0] - 1).bit_length(), (matrix[1] - 1).bit_length()


def _index(bitmaps: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint32]:
    """Elements before each 16th tile."""
    counts = _POPCOUNT16[bitmaps]
    starts = np.arange(0, counts.size, INDEX_TILES)
    sums = np.add.reduceat(counts, starts, dtype=np.uint32)
    result: npt.NDArray[np.uint32] = np.cumsum(sums, dtype=np.uint32) - sums
    return result


def _to_tiles(matrix: Levels) -> Levels:
    """(16 T,): a tile's four rows after one another, tiles along four rows of the matrix."""
    rows, columns = matrix.shape
    whole = np.zeros((-(-rows // TILE) * TILE, -(-columns // TILE) * TILE), matrix.dtype)
    whole[:rows, :columns] = matrix
    quads = whole.view(_quad(matrix.dtype)).reshape(len(whole) // TILE, TILE, -1)
    return cast(
        Levels, np.ascontiguousarray(quads.transpose(0, 2, 1)).view(matrix.dtype).reshape(-1)
    )


def _from_tiles(tiles: npt.NDArray[Any], matrix: tuple[int, int]) -> Levels:
    """Undo `_to_tiles`; ValueError for an element beyond the matrix."""
    rows, columns = matrix
    high = -(-rows // TILE)
    quads = tiles.view(_quad(tiles.dtype)).reshape(high, -1, TILE)
    whole = np.ascontiguousarray(quads.transpose(0, 2, 1)).view(tiles.dtype)
    whole = whole.reshape(high * TILE, -1)
    if whole[rows:].any() or whole[:, columns:].any():
        raise ValueError(f"a bitmap has bits beyond the {rows} x {columns} weights")
    return cast(Levels, np.ascontiguousarray(whole[:rows, :columns]))


def _quad(dtype: np.dtype[Any]) -> str:
    """The machine word that four levels are moved as."""
    return f"<u{TILE * dtype.itemsize}"


def _filled_rows(matrix: Levels, many: int) -> Levels:
    extra = -matrix.shape[1] % many
    return cast(Levels, np.pad(matrix, ((0, 0), (0, extra)))) if extra else matrix


def _group_maps(groups: Levels) -> npt.NDArray[np.uint16]:
    """One bit for each element of each group, the first lowest."""
    n, many = groups.shape
    bits = np.packbits((groups != 0).reshape(-1), bitorder="little")
    if many == 16:
        return cast(npt.NDArray[np.uint16], bits.view("<u2").astype(np.uint16))
    if many == 8:
        return bits.astype(np.uint16)
    maps = np.empty((bits.size, 2), np.uint16)
    maps[:, 0], maps[:, 1] = bits & 15, bits >> 4
    return maps.reshape(-1)[:n]


@lru_cache
def _positions(many: int) -> npt.NDArray[np.uint8]:
    """(2**many, many): places of a map's bits in order, then zeros."""
    bits = np.arange(1 << many)[:, None] >> np.arange(many) & 1
    order = np.argsort(1 - bits, axis=1, kind="stable")
    order[np.arange(many) >= bits.sum(1)[:, None]] = 0
    return order.astype(np.uint8)


def _log2(many: int) -> int:
    return many.bit_length() - 1
