"""DeepShift's layout of weights: shifts and signs in words of 32 bits.

As its kernels compress them (Elhoushi et al. 2021, arXiv 1905.13298;
github.com/mostafaelhoushi/DeepShift, `COMPRESS` of its CUDA kernels and `compress_bits`): a weight
is +-2**-shift. An output channel's weights, in the order of its tensor (channel, row, column), go
floor(32 / (b + 1)) to a word, the first lowest: b bits of the shift less `base`, above them a bit
that is 1 where the weight is positive. A channel begins a new word; what is left over is 0. `base`
is the least shift where that is negative, else 0. A zero is a positive weight shifted by 32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.schemes import Levels

ZERO_SHIFT = 32
MAX_BITS = 6
"""The widest shift that its kernels read back right: of seven bits the mask of the sign is a
negative char."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ShiftWords:
    """The compressed weights of a layer.

    Attributes:
        words: int32 (C_out, words of a channel).
        bits: of a shift.
        base: what has been taken off every shift.
    """

    words: npt.NDArray[np.int32]
    bits: int
    base: int


def pack_deepshift(levels: Levels, exponents: Integers) -> ShiftWords:
    """Compress levels 0 and +-2**k.

    Args:
        levels: of the weights' shape (C_out, ...).
        exponents: (C_out,): a channel's weights are level * 2**exponent.

    Raises:
        ValueError: a level that is no power of two, or shifts too far apart for its kernels.
    """
    flat = levels.reshape(len(levels), -1).astype(np.int64)
    magnitudes = np.abs(flat)
    odd = magnitudes & (magnitudes - 1) != 0
    if odd.any():
        raise ValueError(
            f"{int(odd.sum()):,} weights are no powers of two, {int(flat[odd][0])} among them"
        )
    powers = np.frexp(np.where(magnitudes, magnitudes, 1))[1].astype(np.int64) - 1
    shifts = -(powers + exponents[:, None])
    if (shifts[magnitudes > 0] >= ZERO_SHIFT).any():
        raise ValueError(f"a weight is shifted by {ZERO_SHIFT} or more, which stands for zero")
    shifts = np.where(magnitudes, shifts, ZERO_SHIFT)
    base = min(int(shifts.min()), 0)
    bits = max((int(shifts.max()) - base).bit_length(), 1)
    if bits > MAX_BITS:
        raise ValueError(
            f"shifts of {int(shifts.min())} to {int(shifts.max())} need {bits} bits; its kernels "
            f"read {MAX_BITS}"
        )
    codes = (shifts - base) | (flat >= 0).astype(np.int64) << bits
    many = 32 // (bits + 1)
    n_words = -(-codes.shape[1] // many)
    lanes = np.zeros((len(codes), n_words * many), np.uint32)
    lanes[:, : codes.shape[1]] = codes
    places = np.arange(many, dtype=np.uint32) * np.uint32(bits + 1)
    words = (lanes.reshape(len(codes), n_words, many) << places).sum(-1, dtype=np.uint32)
    return ShiftWords(words.view(np.int32), bits, base)


def unpack_deepshift(
    packed: ShiftWords, shape: tuple[int, ...], exponents: Integers
) -> npt.NDArray[np.int16]:
    """Undo `pack_deepshift`: int16 levels of `shape`.

    Raises:
        ValueError: words of another shape, a shift that is no level's, or wrong filling.
    """
    n = int(np.prod(shape[1:]))
    if not 1 <= packed.bits <= MAX_BITS:
        raise ValueError(f"shifts of {packed.bits} bits, not 1 to {MAX_BITS}")
    many = 32 // (packed.bits + 1)
    if packed.words.shape != (shape[0], -(-n // many)):
        raise ValueError(f"words of shape {packed.words.shape}, not {(shape[0], -(-n // many))}")
    places = np.arange(many, dtype=np.uint32) * np.uint32(packed.bits + 1)
    fields = packed.words.view(np.uint32)[:, :, None] >> places
    codes = (fields & np.uint32((1 << packed.bits + 1) - 1)).reshape(shape[0], -1).astype(np.int64)
    if codes[:, n:].any():
        raise ValueError("what is left of a channel's last word is not 0")
    codes = codes[:, :n]
    shifts = (codes & (1 << packed.bits) - 1) + packed.base
    zero = shifts == ZERO_SHIFT
    powers = -shifts - exponents[:, None]
    if ((powers < 0) | (powers > 14))[~zero].any():
        raise ValueError("a shift is no level's")
    magnitudes = np.where(zero, 0, np.left_shift(1, np.clip(powers, 0, 14)))
    signs = np.where(codes >> packed.bits, 1, -1)
    if (signs < 0)[zero].any():
        raise ValueError("a zero with a negative sign")
    levels: npt.NDArray[np.int16] = (magnitudes * signs).astype(np.int16).reshape(shape)
    return levels
