"""Numbers to a stream of bits and back, at NumPy speed.

One rule for every width: number i occupies bits i*b to i*b + b - 1 of a little-endian bit stream
(bit n is bit n mod 8 of byte n / 8), so a 4-bit code takes a nibble (low nibble first), four
2-bit codes take a byte, eight 3-bit codes three bytes and an 8-bit code is its byte.

`pack_codes` fills its stream to a whole number of such groups with a code of the caller's, so
that what a reader finds there means something. `pack_words` fills to a whole byte with zero bits.

The methods: up to eight bits several codes are moved as one machine word (two nibbles of a 16-bit
word become a byte by one shift and one OR; other widths close up in three steps within 64 bits).
Beyond, 64 numbers of b bits are b words of 64 bits: number j of every such row is shifted into its
word at once. Both go through blocks that stay in the cache.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""uint8 up to eight bits, uint16 beyond."""

BLOCK_CODES = 1 << 16
"""Codes a block: input, output and temporaries together stay within a 1 MiB second-level cache."""

CODE_BITS = range(1, 17)
WORD_BITS = range(1, 33)
LANES = 64
"""Numbers whose bits fill whole 64-bit words whatever their width."""


def group_codes(bits: int) -> int:
    """Codes in the smallest group that fills whole bytes: 1, 2, 4 or 8."""
    if bits not in CODE_BITS:
        raise ValueError(f"codes of {bits} bits: 1 to 16 can be packed")
    return 8 // math.gcd(8, bits)


def packed_size(n: int, bits: int) -> int:
    """Bytes that `n` dense codes take, the filling of the last group included."""
    group = group_codes(bits)
    return -(-n // group) * group * bits // 8


def words_size(n: int, bits: int) -> int:
    """Bytes that `n` numbers of `bits` bits take: to a whole byte; 0 of no bits."""
    return -(-n * bits // 8)


def pack_codes(codes: Codes, bits: int, *, fill: int = 0) -> Bytes:
    """Pack codes densely, the first one in the lowest bits.

    Args:
        codes: (n,), each below 2**bits; uint8, or uint16 where `bits` is more than 8.
        bits: 1 to 16.
        fill: the code that fills the last group.

    Returns:
        uint8 (packed_size(n, bits),).

    Raises:
        ValueError: a code needs more bits, or the array is not such a vector.

    >>> pack_codes(np.array([1, 2, 3], np.uint8), 4).tobytes().hex()
    '2103'
    """
    check_vector(codes, _code_type(bits), "codes")
    padded = filled(codes, group_codes(bits), fill)
    if bits > 8:
        return pack_words(padded, bits)
    out = np.empty(padded.size * bits // 8, np.uint8)
    for start in range(0, padded.size, BLOCK_CODES):
        block = padded[start : start + BLOCK_CODES]
        largest = int(block.max())
        if largest >> bits:
            raise ValueError(f"code {largest} needs more than {bits} bits")
        _squeeze(block, bits, out[start * bits // 8 : (start + block.size) * bits // 8])
    return out


def unpack_codes(data: Bytes, n: int, bits: int, *, fill: int = 0) -> Codes:
    """Undo `pack_codes`: (n,), uint8 or, of more than 8 bits, uint16.

    Raises:
        ValueError: the bytes are not as many as `n` codes take, or the last group is not filled
            with `fill`.
    """
    check_vector(data, np.uint8, "packed data")
    if data.size != packed_size(n, bits):
        raise ValueError(f"{data.size} bytes, not the {packed_size(n, bits)} of {n} codes")
    n_filled = data.size * 8 // bits
    out: Codes
    if bits > 8:
        out = unpack_words(data, n_filled, bits).astype(np.uint16)
    else:
        out = np.empty(n_filled, np.uint8)
        block_bytes = BLOCK_CODES * bits // 8
        for start in range(0, data.size, block_bytes):
            block = data[start : start + block_bytes]
            _spread(block, bits, out[start * 8 // bits : (start + block.size) * 8 // bits])
    extra = out[n:]
    if (extra != fill).any():
        raise ValueError(f"the filling is {extra.tolist()}, not code {fill}")
    return out[:n]


def pack_words(numbers: npt.NDArray[Any], bits: int) -> Bytes:
    """Pack numbers of any width, filled with zero bits to a whole byte.

    Args:
        numbers: unsigned (n,), each below 2**bits.
        bits: 1 to 32.

    Returns:
        uint8 (words_size(n, bits),).

    Raises:
        ValueError: a number needs more bits.
    """
    _check_word_bits(bits)
    n = numbers.size
    if n and int(numbers.max()) >> bits:
        raise ValueError(f"{int(numbers.max())} needs more than {bits} bits")
    rows = -(-n // LANES)
    out = np.empty(rows * bits * 8, np.uint8)
    words = out.view("<u8").reshape(rows, bits)
    for start in range(0, rows, BLOCK_CODES // LANES):
        block = words[start : start + BLOCK_CODES // LANES]
        part = numbers[start * LANES : (start + len(block)) * LANES]
        lanes = np.ascontiguousarray(filled(part, LANES, 0).reshape(-1, LANES).T, np.uint64)
        columns = np.zeros((bits, len(block)), np.uint64)
        for lane, values in enumerate(lanes):
            word, shift = divmod(lane * bits, 64)
            columns[word] |= values << np.uint64(shift)
            if shift + bits > 64:
                columns[word + 1] |= values >> np.uint64(64 - shift)
        block[:] = columns.T
    return out[: words_size(n, bits)]


def unpack_words(data: Bytes, n: int, bits: int) -> npt.NDArray[np.uint32]:
    """Undo `pack_words`: uint32 (n,).

    Raises:
        ValueError: the bytes are not as many as `n` numbers take, or not filled with zero bits.
    """
    _check_word_bits(bits)
    check_vector(data, np.uint8, "packed data")
    if data.size != words_size(n, bits):
        raise ValueError(f"{data.size} bytes, not the {words_size(n, bits)} of {n} numbers")
    if n * bits % 8 and int(data[-1]) >> n * bits % 8:
        raise ValueError("the filling is not zero bits")
    rows = -(-n // LANES)
    words = filled(data, bits * 8, 0).view("<u8").reshape(rows, bits)
    out = np.empty((rows, LANES), np.uint32)
    mask = np.uint64((1 << bits) - 1)
    for start in range(0, rows, BLOCK_CODES // LANES):
        columns = np.ascontiguousarray(words[start : start + BLOCK_CODES // LANES].T)
        lanes = np.empty((LANES, columns.shape[1]), np.uint32)
        for lane in range(LANES):
            word, shift = divmod(lane * bits, 64)
            values = columns[word] >> np.uint64(shift)
            if shift + bits > 64:
                values |= columns[word + 1] << np.uint64(64 - shift)
            np.copyto(lanes[lane], values & mask, casting="unsafe")
        out[start : start + columns.shape[1]] = lanes.T
    return out.reshape(-1)[:n]


def _squeeze(codes: Bytes, bits: int, out: Bytes) -> None:
    """Close the gaps between the codes of whole groups, each below 2**bits."""
    if bits == 8:
        out[:] = codes
    elif bits == 4:
        pairs = codes.view("<u2")
        np.copyto(out, pairs | (pairs >> 4), casting="unsafe")  # the high byte is dropped
    else:
        size = -(-codes.size // 8) * 8
        words = filled(codes, 8, 0).view("<u8")
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
        lanes[:, :bits] = filled(data, bits, 0).reshape(n_words, bits)
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


def filled(values: npt.NDArray[Any], group: int, fill: int) -> npt.NDArray[Any]:
    """Contiguous values with `fill` added up to a whole number of groups; no copy if there."""
    extra = -values.size % group
    if not extra:
        return np.ascontiguousarray(values)
    return np.concatenate((values, np.full(extra, fill, values.dtype)))


def check_vector(array: npt.NDArray[Any], dtype: type[np.generic], what: str) -> None:
    """Raise ValueError for anything but a vector of this type."""
    if array.ndim != 1 or array.dtype != dtype:
        raise ValueError(
            f"{what} are {array.dtype}{array.shape}, not {np.dtype(dtype).name} of one dimension"
        )


def _code_type(bits: int) -> type[np.generic]:
    return np.uint16 if bits > 8 else np.uint8


def _check_word_bits(bits: int) -> None:
    if bits not in WORD_BITS:
        raise ValueError(f"numbers of {bits} bits: 1 to 32 can be packed")
