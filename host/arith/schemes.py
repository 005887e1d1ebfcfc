"""Weight schemes: which integer levels a weight may take, and how each level is coded in bits.

A weight is `level * scale[channel]`. The level sets are those of docs/numerics.md; a level is
always an integer, and all but those of `pot-5` fit int8, so one kernel serves every scheme.

Sources: power-of-two levels with a zero code, Miyashita et al. 2016 (arXiv 1603.01025) and
Przewlocka-Rus and Kryjak 2022 (arXiv 2209.15257); symmetric uniform levels without the most
negative code, Krishnamoorthi 2018 (arXiv 1806.08342); sums of two powers of two, Li et al. 2020
(APoT, arXiv 1909.13144); signs alone, Rastegari et al. 2016 (XNOR-Net, arXiv 1603.05279).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["uniform", "pot", "apot"]

Levels = npt.NDArray[np.int8] | npt.NDArray[np.int16]
"""int8, or int16 for a scheme with a level that does not fit int8."""

NOT_A_CODE = np.int16(-32768)
"""In a decode table: this code is illegal."""
NO_CODE = 255
"""In an encode table: this level is not in the scheme (or is -1 of `uniform-8`: decode it)."""


@dataclass(frozen=True, eq=False)
class Scheme:
    """One weight scheme.

    Attributes:
        name: as written on the command line and in files.
        kind: "uniform", "pot" (every level a power of two) or "apot" (a sum of two).
        bits: bits of one code, 1 to 8.
        levels: ascending, every level a weight may take. Its dtype, int8 or int16, is that of
            every array of this scheme's levels.
        decode: int16 (2**bits,): code -> level, NOT_A_CODE where the code is illegal.
        encode: uint8 (256,) or, for int16 levels, (65536,): level + half its length -> code,
            NO_CODE where the level is not in the scheme.
    """

    name: str
    kind: Kind
    bits: int
    levels: Levels
    decode: npt.NDArray[np.int16] = field(repr=False)
    encode: npt.NDArray[np.uint8] = field(repr=False)

    @property
    def max_level(self) -> int:
        """The largest magnitude in the scheme."""
        return int(self.levels[-1])

    @property
    def has_zero(self) -> bool:
        """Whether a weight may be zero; a scheme without it holds no pruned model."""
        return bool((self.levels == 0).any())

    @property
    def zero_code(self) -> int:
        """The code of level 0.

        Raises:
            ValueError: the scheme has no zero.
        """
        if not self.has_zero:
            raise ValueError(f"{self.name} has no code for zero")
        return int(self.encode[len(self.encode) // 2])

    @property
    def fill_code(self) -> int:
        """The padding of packed codes: the code of zero, or code 0 where there is no zero."""
        return self.zero_code if self.has_zero else 0

    def holds(self, levels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Which of some levels (any shape, integers) the scheme has."""
        return np.isin(levels, self.levels)


def _scheme(name: str, kind: Kind, bits: int, code_to_level: dict[int, int]) -> Scheme:
    wide = max(code_to_level.values()) > 127
    half = 1 << 15 if wide else 1 << 7
    decode = np.full(1 << bits, NOT_A_CODE, np.int16)
    encode = np.full(2 * half, NO_CODE, np.uint8)
    for code, level in code_to_level.items():
        decode[code] = level
        encode[level + half] = code
    ascending = sorted(code_to_level.values())
    levels: Levels = np.array(ascending, np.int16) if wide else np.array(ascending, np.int8)
    for table in (decode, encode, levels):
        table.setflags(write=False)
    return Scheme(name, kind, bits, levels, decode, encode)


def _uniform(bits: int) -> Scheme:
    """Two's complement; the most negative code is illegal, so that the set is symmetric."""
    top = (1 << (bits - 1)) - 1
    codes = {level & ((1 << bits) - 1): level for level in range(-top, top + 1)}
    return _scheme(f"uniform-{bits}", "uniform", bits, codes)


def _pot(name: str, bits: int, max_exponent: int) -> Scheme:
    """Sign bit high, exponent field low; the all-ones exponent is zero, minus zero is illegal."""
    sign = 1 << (bits - 1)
    zero = sign - 1
    codes = {zero: 0}
    for exponent in range(max_exponent + 1):
        codes[exponent] = 1 << exponent
        codes[sign | exponent] = -(1 << exponent)
    return _scheme(name, "pot", bits, codes)


def _apot() -> Scheme:
    """Sign bit high, then the two terms: 2 times the next bit, and 0, 1, 4 or 8 by the low two.

    Zero is all bits off, minus zero is illegal. These are the levels that Li et al. give a weight
    of four bits, times 16: {0, 1/2, 1/4, 1/16} + {0, 1/8}.
    """
    magnitudes = {
        more << 2 | first: (0, 1, 4, 8)[first] + 2 * more for more in (0, 1) for first in range(4)
    }
    negative = {8 | code: -level for code, level in magnitudes.items() if level}
    return _scheme("apot-4", "apot", 4, magnitudes | negative)


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        _uniform(8),
        _uniform(4),
        _uniform(3),
        _pot("pot-5", 5, 14),
        _pot("pot-4", 4, 6),
        _pot("pot-4e4", 4, 4),
        _pot("pot-3", 3, 2),
        _apot(),
        # sign, exponent of one bit: 00 is +1, 01 is 0, 10 is -1, 11 is illegal
        _pot("ternary", 2, 0),
        # the sign alone: 0 is +1, 1 is -1
        _scheme("binary", "pot", 1, {0: 1, 1: -1}),
    )
}
"""Every scheme of this release by name."""
