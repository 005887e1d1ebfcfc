"""Weight schemes: which integer levels a weight may take, and how each level is coded in bits.

A weight is `level * scale[channel]`. The level sets are those of docs/numerics.md; a level is
always an integer that fits int8, so one kernel serves every scheme.

Sources: power-of-two levels with a zero code, Miyashita et al. 2016 (arXiv 1603.01025) and
Przewlocka-Rus and Kryjak 2022 (arXiv 2209.15257); symmetric uniform levels without the most
negative code, Krishnamoorthi 2018 (arXiv 1806.08342).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["uniform", "pot"]

NOT_A_CODE = np.int16(-32768)
"""In a decode table: this code is illegal."""


@dataclass(frozen=True, eq=False)
class Scheme:
    """One weight scheme.

    Attributes:
        name: as written on the command line and in files.
        kind: "uniform" or "pot" (power of two).
        bits: bits of one code, 2, 3, 4 or 8.
        levels: int8, ascending, every level a weight may take; zero is always among them.
        decode: int16 (2**bits,): code -> level, NOT_A_CODE where the code is illegal.
        encode: uint8 (256,): level + 128 -> code, 255 where the level is not in the scheme.
    """

    name: str
    kind: Kind
    bits: int
    levels: npt.NDArray[np.int8]
    decode: npt.NDArray[np.int16] = field(repr=False)
    encode: npt.NDArray[np.uint8] = field(repr=False)

    @property
    def max_level(self) -> int:
        """The largest magnitude in the scheme."""
        return int(self.levels[-1])

    @property
    def zero_code(self) -> int:
        """The code of level 0; also the padding of packed codes."""
        return int(self.encode[128])


def _scheme(name: str, kind: Kind, bits: int, code_to_level: dict[int, int]) -> Scheme:
    decode = np.full(1 << bits, NOT_A_CODE, np.int16)
    encode = np.full(256, 255, np.uint8)
    for code, level in code_to_level.items():
        decode[code] = level
        encode[level + 128] = code
    levels = np.array(sorted(code_to_level.values()), np.int8)
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


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        _uniform(8),
        _uniform(4),
        _uniform(3),
        _pot("pot-4", 4, 6),
        _pot("pot-4e4", 4, 4),
        _pot("pot-3", 3, 2),
        # sign, exponent of one bit: 00 is +1, 01 is 0, 10 is -1, 11 is illegal
        _pot("ternary", 2, 0),
    )
}
"""Every scheme of this release by name."""
