"""Levels to packed codes of a scheme and back.

A pair of 4-bit levels becomes a byte by one look-up in a table of 65,536 bytes; other levels are
looked up one by one. An illegal level is found by the mark that it leaves.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import numpy as np

from bacmac.host.arith.schemes import NOT_A_CODE, SCHEMES, Levels, Scheme
from bacmac.host.pack.bits import (
    BLOCK_CODES,
    Bytes,
    check_vector,
    filled,
    pack_codes,
    unpack_codes,
)


def pack_levels(levels: Levels, scheme: Scheme | str) -> Bytes:
    """Encode levels by a scheme and pack the codes densely, filled with its fill code.

    Args:
        levels: (n,), of the scheme's dtype.
        scheme: or its name.

    Raises:
        ValueError: a level is not in the scheme, or the array is not such a vector.
    """
    scheme = _scheme(scheme)
    check_vector(levels, scheme.levels.dtype.type, "levels")
    if scheme.bits != 4:
        return pack_codes(_encode(levels, scheme), scheme.bits, fill=scheme.fill_code)
    table, illegal = _pair_table(scheme)
    pairs = filled(levels, 2, 0).view("<u2")
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


def _scheme(scheme: Scheme | str) -> Scheme:
    return SCHEMES[scheme] if isinstance(scheme, str) else scheme


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
