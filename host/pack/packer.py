"""Weight codes to bits and back, at NumPy speed.

The dense layout is one rule for every width: code i occupies bits i*b to i*b + b - 1 of a
little-endian bit stream, so a 4-bit code takes a nibble (low nibble first), four 2-bit codes take
a byte, eight 3-bit codes take three bytes and an 8-bit code is its byte. The stream is filled to
a whole number of such groups with the scheme's fill code. Nothing is stored but the codes: a
b-bit weight takes b bits.

FINN's layout (Umuroglu et al. 2017, arXiv 1612.07119; its packer of weights and activations for
streams, with the inner dimension and the byte order reversed) follows the same rule row by row
with two's complement numbers, each row filled with zero bits to a whole byte.

The methods: several codes are moved as one machine word (two nibbles of a 16-bit word become a
byte by one shift and one OR), and a pair of levels is encoded by one look-up in a table of 65,536
bytes. Both go through blocks that stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.schemes import NOT_A_CODE, SCHEMES, Levels, Scheme

Bytes = npt.NDArray[np.uint8]

BLOCK_CODES = 1 << 16
"""Codes a block: input, output and temporaries together stay within a 1 MiB second-level cache."""

CODE_BITS = (1, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class Packer:
    """A storage format: how the levels of one layer become bytes.

    Attributes:
        pack: (levels int8 (n,), scheme) -> uint8 bytes; ValueError for a level not in the scheme.
        unpack: (bytes, n, scheme) -> levels int8 (n,); ValueError for bytes that `pack` cannot
            have made.
    """

    pack: Callable[[Levels, Scheme], Bytes]
    unpack: Callable[[Bytes, int, Scheme], Levels]


def group_codes(bits: int) -> int:
    """Codes in the smallest group that fills whole bytes: 1, 2, 4 or 8."""
    if bits not in CODE_BITS:
        raise ValueError(f"codes of {bits} bits: 1 to 8 can be packed")
    return 8 // math.gcd(8, bits)


def packed_size(n: int, bits: int) -> int:
    """Bytes that `n` dense codes take, the filling of the last group included."""
    group = group_codes(bits)
    return -(-n // group) * group * bits // 8


def pack_codes(codes: Bytes, bits: int, *, fill: int = 0) -> Bytes:
    """Pack codes densely, the first one in the lowest bits.

    Args:
        codes: uint8 (n,), each below 2**bits.
        bits: 1 to 8.
        fill: the code that fills the last group.

    Returns:
        uint8 (packed_size(n, bits),).

    Raises:
        ValueError: a code needs more bits, or the array is not uint8 of one dimension.

    >>> pack_codes(np.array([1, 2, 3], np.uint8), 4).tobytes().hex()
    '2103'
    """
    _check_vector(codes, np.uint8, "codes")
    padded = _filled(codes, group_codes(bits), fill)
    out = np.empty(padded.size * bits // 8, np.uint8)
    for start in range(0, padded.size, BLOCK_CODES):
        block = padded[start : start + BLOCK_CODES]
        largest = int(block.max())
        if largest >> bits:
            raise ValueError(f"code {largest} needs more than {bits} bits")
        _squeeze(block, bits, out[start * bits // 8 : (start + block.size) * bits // 8])
    return out


def unpack_codes(data: Bytes, n: int, bits: int, *, fill: int = 0) -> Bytes:
    """Undo `pack_codes`: uint8 (n,).

    Raises:
        ValueError: the bytes are not as many as `n` codes take, or the last group is not filled
            with `fill`.
    """
    _check_vector(data, np.uint8, "packed data")
    if data.size != packed_size(n, bits):
        raise ValueError(f"{data.size} bytes, not the {packed_size(n, bits)} of {n} codes")
    out = np.empty(data.size * 8 // bits, np.uint8)
    block_bytes = BLOCK_CODES * bits // 8
    for start in range(0, data.size, block_bytes):
        block = data[start : start + block_bytes]
        _spread(block, bits, out[start * 8 // bits : (start + block.size) * 8 // bits])
    extra = out[n:]
    if (extra != fill).any():
        raise ValueError(f"the filling is {extra.tolist()}, not code {fill}")
    return out[:n]


def pack_levels(levels: Levels, scheme: Scheme | str) -> Bytes:
    """Encode levels by a scheme and pack the codes densely, filled with its fill code.

    Args:
        levels: (n,), of the scheme's dtype.
        scheme: or its name.

    Raises:
        ValueError: a level is not in the scheme, or the array is not such a vector.
    """
    scheme = _scheme(scheme)
    _check_vector(levels, scheme.levels.dtype.type, "levels")
    if scheme.bits != 4:
        return pack_codes(_encode(levels, scheme), scheme.bits, fill=scheme.fill_code)
    table, illegal = _pair_table(scheme)
    pairs = _filled(levels, 2, 0).view("<u2")
    out = np.empty(pairs.size, np.uint8)
    for start in range(0, pairs.size, BLOCK_CODES // 2):
        block = out[start : start + BLOCK_CODES // 2]
        # every index is in range, so clipping changes nothing and spares a buffered copy
        np.take(table, pairs[start : start + BLOCK_CODES // 2], out=block, mode="clip")
        if (block == illegal).any():
            _encode(levels, scheme)  # raises, naming the level
    return out


def unpack_levels(data: Bytes, n: int, scheme: Scheme | str) -> Levels:
    """Undo `pack_levels`: (n,) of the scheme's dtype.

    Raises:
        ValueError: wrong size, an illegal code (minus zero is one), or wrong filling.
    """
    scheme = _scheme(scheme)
    codes = unpack_codes(data, n, scheme.bits, fill=scheme.fill_code)
    levels = cast(Levels, np.empty(n, scheme.levels.dtype))
    for start in range(0, n, BLOCK_CODES):
        block = codes[start : start + BLOCK_CODES]
        decoded = scheme.decode[block]
        illegal = decoded == NOT_A_CODE
        if illegal.any():
            at = int(illegal.argmax())
            raise ValueError(
                f"code {int(block[at])} of weight {start + at} is illegal in {scheme.name}"
            )
        levels[start : start + BLOCK_CODES] = decoded
    return levels


def pack_finn(levels: npt.NDArray[np.int8], bits: int) -> Bytes:
    """The bytes FINN streams for signed integers, inner dimension and byte order reversed.

    Number j of a row occupies bits j*b to j*b + b - 1 of the row's little-endian integer, in
    two's complement; a row is filled with zero bits to a whole byte.

    Args:
        levels: int8 (rows, columns), each -2**(bits-1) to 2**(bits-1) - 1.
        bits: 1 to 8.

    Returns:
        uint8 (rows, ceil(columns * bits / 8)).

    Raises:
        ValueError: a number does not fit, or the array is not int8 of two dimensions.
    """
    if levels.ndim != 2 or levels.dtype != np.int8:
        raise ValueError(f"levels are {levels.dtype}{levels.shape}, not int8 of two dimensions")
    group, (rows, columns) = group_codes(bits), levels.shape
    whole = -(-columns // group) * group
    if whole != columns:
        levels = np.pad(levels, ((0, 0), (0, whole - columns)))
    flat = np.ascontiguousarray(levels).reshape(-1)
    out = np.empty(flat.size * bits // 8, np.uint8)
    half, mask = 1 << (bits - 1), np.uint8((1 << bits) - 1)
    for start in range(0, flat.size, BLOCK_CODES):
        block = flat[start : start + BLOCK_CODES]
        for level in (int(block.min()), int(block.max())):
            if not -half <= level < half:
                raise ValueError(f"{level} does not fit {bits} signed bits")
        codes = block.view(np.uint8) & mask
        _squeeze(codes, bits, out[start * bits // 8 : (start + block.size) * bits // 8])
    return out.reshape(rows, whole * bits // 8)[:, : -(-columns * bits // 8)]


PACKERS: dict[str, Packer] = {"dense": Packer(pack_levels, unpack_levels)}
"""Storage formats by the name that a packed file gives them."""


def _squeeze(codes: Bytes, bits: int, out: Bytes) -> None:
    """Close the gaps between the codes of whole groups, each below 2**bits."""
    if bits == 8:
        out[:] = codes
    elif bits == 4:
        pairs = codes.view("<u2")
        np.copyto(out, pairs | (pairs >> 4), casting="unsafe")  # the high byte is dropped
    else:
        size = -(-codes.size // 8) * 8
        words = _filled(codes, 8, 0).view("<u8")
        # neighbours join: 8 fields of b bits in lanes of 8, 4 of 2b in 16, 2 of 4b in 32
        for lane in (8, 16, 32):
            low, gap = _low_lanes(lane), np.uint64(lane - bits * lane // 8)
            words = (words & low) | ((words & ~low) >> gap)
        out[:] = words.view(np.uint8).reshape(size // 8, 8)[:, :bits].reshape(-1)[: out.size]


def _spread(data: Bytes, bits: int, out: Bytes) -> None:
    """Undo `_squeeze`."""
    if bits == 8:
        out[:] = data
    elif bits == 4:
        pairs = data.astype("<u2")
        pairs |= pairs << 4
        pairs &= 0x0F0F
        out[:] = pairs.view(np.uint8)
    else:
        n_words = -(-data.size // bits)
        lanes = np.zeros((n_words, 8), np.uint8)
        lanes[:, :bits] = _filled(data, bits, 0).reshape(n_words, bits)
        words = lanes.view("<u8").reshape(-1)
        for lane in (32, 16, 8):
            field_bits = bits * lane // 8
            low = _repeated((1 << field_bits) - 1, 2 * lane)
            high = _repeated(((1 << field_bits) - 1) << field_bits, 2 * lane)
            words = (words & low) | ((words & high) << np.uint64(lane - field_bits))
        out[:] = words.view(np.uint8)[: out.size]


def _low_lanes(lane: int) -> np.uint64:
    """The lower one of every two lanes of a 64-bit word."""
    return _repeated((1 << lane) - 1, 2 * lane)


def _repeated(pattern: int, period: int) -> np.uint64:
    word: np.uint64 = np.uint64(sum(pattern << at for at in range(0, 64, period)))
    return word


def _encode(levels: Levels, scheme: Scheme) -> Bytes:
    # a level's place in the table is level + half: its bits with the top one turned over
    unsigned = np.dtype(f"u{levels.itemsize}").type
    half = unsigned(len(scheme.encode) // 2)
    codes: Bytes = scheme.encode[levels.view(unsigned) ^ half]
    bad = scheme.decode[codes & ((1 << scheme.bits) - 1)] != levels
    if bad.any():
        raise ValueError(f"level {int(levels[bad.argmax()])} is not in {scheme.name}")
    return codes


@lru_cache
def _pair_table(scheme: Scheme) -> tuple[Bytes, int]:
    """For a 4-bit scheme: two level bytes -> packed byte, and the byte that marks an illegal one.

    The mark is made of an illegal code, which no pair of legal levels can give.
    """
    illegal = int((scheme.decode == NOT_A_CODE).argmax())
    by_byte = np.roll(scheme.encode, -128)
    low, high = np.meshgrid(by_byte, by_byte)
    table = np.where((low == 255) | (high == 255), illegal * 17, low | (high << 4))
    return table.astype(np.uint8).reshape(-1), illegal * 17


def _filled(values: npt.NDArray[Any], group: int, fill: int) -> npt.NDArray[Any]:
    """Contiguous values with `fill` added up to a whole number of groups; no copy if there."""
    extra = -values.size % group
    if not extra:
        return np.ascontiguousarray(values)
    return np.concatenate((values, np.full(extra, fill, values.dtype)))


def _check_vector(array: npt.NDArray[np.generic], dtype: type[np.generic], what: str) -> None:
    if array.ndim != 1 or array.dtype != dtype:
        raise ValueError(
            f"{what} are {array.dtype}{array.shape}, not {np.dtype(dtype).name} of one dimension"
        )


def _scheme(scheme: Scheme | str) -> Scheme:
    return SCHEMES[scheme] if isinstance(scheme, str) else scheme
