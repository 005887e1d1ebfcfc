"""The integer arithmetic of TensorFlow Lite's reference kernels, in NumPy.

A real factor becomes a 31-bit multiplier and a power of two (QuantizeMultiplier, Jacob et al. 2018,
arXiv 1712.05877, section 2.2). Multiplying by it rounds twice, as gemmlowp's
SaturatingRoundingDoublingHighMul and RoundingDivideByPOT do: first to the high 32 bits, ties up;
then by the power of two, ties away from zero. LiteRT's wheels are built so; its single-rounding
variant (TFLITE_SINGLE_ROUNDING) is another build.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bacmac.host.importers.tflite_steps import Bounds, Quantization

Ints = npt.NDArray[np.int64]
Floats = TypeVar("Floats", npt.NDArray[np.float32], npt.NDArray[np.float64])


@dataclass(frozen=True, eq=False)
class Multiplier:
    """factor = multiplier * 2 ** (shift - 31), one each, or one a channel.

    Attributes:
        multiplier: int64, 0 or 2**30 to 2**31 - 1.
        shift: int64, -31 to 30.
    """

    multiplier: Ints
    shift: Ints

    @staticmethod
    def of(factors: npt.NDArray[np.float64]) -> Multiplier:
        """The nearest to factors of 0 to below 2**30; those too small to matter become 0."""
        fraction, shift = np.frexp(factors)
        # half away from zero, as std::round; np.rint would take ties to even
        multiplier = np.floor(fraction * (1 << 31) + 0.5).astype(np.int64)
        full = multiplier == 1 << 31
        multiplier = np.where(full, multiplier >> 1, multiplier)
        exponent = shift.astype(np.int64) + full
        vanishes = exponent < -31
        return Multiplier(np.where(vanishes, 0, multiplier), np.where(vanishes, 0, exponent))

    def apply(self, values: Ints) -> Ints:
        """Values times the factor; the last axis of `values` is the channel's."""
        left = np.maximum(self.shift, 0)
        product = values if not left.any() else values << left
        product = product * self.multiplier
        product += 1 << 30
        product >>= 31
        return divide_by_power(product, np.maximum(-self.shift, 0))


def divide_by_power(values: Ints, exponent: Ints) -> Ints:
    """Values / 2**exponent, rounded to nearest, ties away from zero; may overwrite `values`."""
    half = (np.int64(1) << exponent) >> 1
    # one less for negative values, where there is anything to round
    values += (values >> 63) * (exponent > 0)
    values += half
    values >>= exponent
    return values


def divide(values: Ints, count: Ints) -> Ints:
    """Values / count (above 0), rounded to nearest, ties away from zero, as average pools do."""
    half = count // 2
    quotient: Ints = (np.abs(values) + half) // count
    return np.where(values < 0, -quotient, quotient)


def round_half_away(values: Floats) -> Floats:
    """Whole numbers of float32 or float64 values, as std::round makes them."""
    # adding 0.5 first would take the number just below 0.5 up
    whole = np.trunc(values)
    up = (np.abs(values - whole) >= 0.5).astype(values.dtype)
    result: Floats = whole + np.copysign(up, values)
    return result


def code_range(grid: Quantization, bounds: Bounds) -> tuple[int, int]:
    """Smallest and largest code behind a fused activation (CalculateActivationRangeQuantized)."""

    def code(value: float, otherwise: int) -> int:
        if not np.isfinite(value):
            return otherwise
        ratio = np.array([value], np.float32) / np.float32(grid.scale)
        # what a code cannot reach is cut anyway; huge ratios come of tiny scales
        return int(np.clip(grid.zero + float(round_half_away(ratio)[0]), grid.low, grid.high))

    return code(bounds.low, grid.low), code(bounds.high, grid.high)
