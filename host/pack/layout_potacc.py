"""PoTAcc's layout of weights: four buffers of 4-bit codes.

As its delegates prepare them (Saha, Haris and Cano 2024, "Accelerating PoT Quantization on Edge
Devices", ICECS; github.com/gicLAB/PoTAcc, `prepare_weights`): output channel 4 i + k goes to buffer
k, its inputs in TFLite's order (row, column, channel of the window), two codes a byte, the first in
the low nibble. Channels are filled to a multiple of 4 with zeros, inputs to a multiple of 16 with
code 0.

Codes, sign bit high:

- QKeras: 2**(low three bits), so +-1 to +-128. There is no zero; PoTAcc itself makes it +1.
- APoT: a first term by the next two bits, 1, 0, 4 or 8, and 2 more where the low bit is set. Zero
  is written with the sign bit on, as PoTAcc does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.schemes import Levels
from bacmac.host.pack.bits import Bytes, pack_codes, unpack_codes

BUFFERS = 4
DEPTH = 16
"""Inputs of a channel are filled to a multiple of this."""

_APOT = {1: 0, 3: 1, 0: 2, 2: 3, 4: 4, 6: 5, 8: 6, 10: 7}
QKERAS: Mapping[int, int] = {
    sign * 2**k: k | (8 if sign < 0 else 0) for sign in (1, -1) for k in range(8)
}
APOT: Mapping[int, int] = {
    level: code | (0 if level > 0 else 8)
    for magnitude, code in _APOT.items()
    for level in (magnitude, -magnitude)
}
"""Level -> code of the two encodings."""


def pack_potacc(matrix: Levels, encoding: Mapping[int, int]) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """The four buffers of a weight matrix (output channels, inputs of a window in HWC order).

    Raises:
        ValueError: levels that the encoding does not have; zeros are counted apart.
    """
    rows, columns = matrix.shape
    codes = np.zeros((-(-rows // BUFFERS) * BUFFERS, -(-columns // DEPTH) * DEPTH), np.uint8)
    codes[rows:, :columns] = encoding.get(0, 0)
    codes[:rows, :columns] = encoded(matrix, encoding)
    buffers = codes.reshape(-1, BUFFERS, codes.shape[1]).transpose(1, 0, 2)
    a, b, c, d = (pack_codes(np.ascontiguousarray(part).reshape(-1), 4) for part in buffers)
    return a, b, c, d


def unpack_potacc(
    buffers: tuple[Bytes, ...], shape: tuple[int, int], encoding: Mapping[int, int]
) -> npt.NDArray[np.int16]:
    """Undo `pack_potacc`: int16 of the matrix's shape.

    Raises:
        ValueError: not four buffers of the right size, an unknown code, or wrong filling.
    """
    rows, columns = shape
    if len(buffers) != BUFFERS:
        raise ValueError(f"{len(buffers)} buffers, not {BUFFERS}")
    high, wide = -(-rows // BUFFERS), -(-columns // DEPTH) * DEPTH
    parts = [unpack_codes(part, high * wide, 4).reshape(high, wide) for part in buffers]
    codes = cast(Bytes, np.stack(parts, axis=1).reshape(high * BUFFERS, wide))
    if codes[:, columns:].any() or (codes[rows:, :columns] != encoding.get(0, 0)).any():
        raise ValueError("the filling is not PoTAcc's")
    return decoded(codes[:rows, :columns], encoding)


def encoded(levels: Levels, encoding: Mapping[int, int]) -> Bytes:
    """Codes of levels by a table.

    Raises:
        ValueError: zeros or other levels that are not in it, counted.
    """
    n_zeros = levels.size - int(np.count_nonzero(levels))
    if n_zeros and 0 not in encoding:
        raise ValueError(f"{n_zeros:,} weights are zero, and its code has no zero")
    table = np.full(1 << 16, 255, np.uint8)
    for level, code in encoding.items():
        table[level & 0xFFFF] = code
    codes: Bytes = table[levels.astype(np.int16).view(np.uint16)]
    missing = codes == 255
    if missing.any():
        raise ValueError(
            f"{int(missing.sum()):,} weights have levels that its code does not have, "
            f"{int(levels[missing][0])} among them"
        )
    return codes


def decoded(codes: npt.NDArray[np.integer], encoding: Mapping[int, int]) -> npt.NDArray[np.int16]:
    """Undo `encoded`; ValueError for a code that stands for nothing."""
    unknown = -(1 << 15)
    table = np.full(256, unknown, np.int16)
    for level, code in encoding.items():
        table[code] = level
    levels = table[codes]
    if (levels == unknown).any():
        raise ValueError(f"code {int(codes[levels == unknown][0])} stands for no level")
    return cast(npt.NDArray[np.int16], levels)
