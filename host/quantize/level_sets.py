"""Does a channel lie on a set of levels, and at which unit? Weights are searched, not headers.

A channel is on levels k if one unit exists for which every stored number v lies within some step
of k * unit. For integers that another tool rounded the step is half; for floats it is what float32
leaves of a product. Each v allows a union of intervals of units, one for each k; the units that
all of them allow are the intersection, which is found exactly and quickly: it is nearly always
empty after a few values where the levels are others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.schemes import SCHEMES, Scheme
from bacmac.host.model.layers import KeptWeights
from bacmac.host.quantize.weights import Float

INTEGER_STEP = 0.5
"""Rounding put an integer at most this far from the level it stands for."""
EXACT_STEP = 1e-9
FLOAT_STEP = 1e-5
"""Relative: what float32 and a folded BatchNorm leave of a level."""
LEAST_UNIT = 4.0
"""In steps of the stored integers. Below, half a step is so much of a sum of two powers that
nearly any integers would do."""
SLACK = 1e-12
"""Relative; borders of intervals are quotients."""

MAX_PART = 10
"""Of a factor that levels share, up to a tenth may stay: 20, 60, 100 are 2, 6, 10 times ten,
and no sums of two powers when they are 1, 3, 5."""

POWERS: Float = 2.0 ** np.arange(15, dtype=np.float64)
SUMS = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0])
"""Magnitudes of `pot-5` and of `apot-4`."""

_SMALLEST_FIRST = sorted(
    SCHEMES.values(), key=lambda scheme: (scheme.bits, scheme.kind != "pot", len(scheme.levels))
)


Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ChannelLevels:
    """A channel on levels: stored number = level * unit, to within the step.

    Attributes:
        unit: in stored numbers.
        levels: int16 (K,).
        saturated: +-127 was taken for +-128, everything else being exact.
    """

    unit: float
    levels: npt.NDArray[np.int16]
    saturated: bool = False

    @property
    def top(self) -> int:
        """The largest magnitude."""
        return int(np.abs(self.levels).max(initial=0))


def power_levels(stored: Float, *, integers: bool, scale: float = 1.0) -> ChannelLevels | None:
    """The channel (K,) on powers of two, the smallest of them 1; None where it is not.

    Integers are first taken as they are. Where the largest is 127 and all others are powers of
    two, either int8 had no 128 (then the scale is a power of two, as the weights are), or all
    weights were rounded to the scale that puts the largest on 127.
    """
    values = _magnitudes(stored)
    if not integers:
        return _fitted(stored, values, FLOAT_STEP * values, POWERS)
    exact = _fitted(stored, values, np.full(values.size, EXACT_STEP), POWERS)
    if exact is not None or not values.size:
        return exact
    if values[-1] == 127 and _is_power_of_two(scale):
        full = np.where(np.abs(stored) == 127, np.copysign(128.0, stored), stored)
        whole = _magnitudes(full)
        found = _fitted(full, whole, np.full(whole.size, EXACT_STEP), POWERS)
        if found is not None:
            return replace(found, saturated=True)
    return _fitted(stored, values, np.full(values.size, INTEGER_STEP), POWERS)


def sum_levels(stored: Float, *, integers: bool) -> ChannelLevels | None:
    """The channel (K,) on sums of two powers of two, its top 10, 8 or 6 where that is possible."""
    values = _magnitudes(stored)
    if not integers:
        return _fitted(stored, values, FLOAT_STEP * values, SUMS)
    exact = _fitted(stored, values, np.full(values.size, EXACT_STEP), SUMS)
    if exact is not None:
        return exact
    found = _fitted(stored, values, np.full(values.size, INTEGER_STEP), SUMS)
    return found if found is not None and found.unit >= LEAST_UNIT else None


def uniform_levels(stored: Float, top: int) -> ChannelLevels | None:
    """The float channel (K,) on whole numbers up to `top`, as small as possible."""
    values = _magnitudes(stored)
    magnitudes = np.arange(1.0, top + 1)
    return _fitted(stored, values, FLOAT_STEP * values, magnitudes, largest_unit=True)


def keep_exactly(kept: KeptWeights) -> tuple[KeptWeights, Scheme] | None:
    """Integer weights in the smallest scheme that holds them exactly, or None where none does.

    Of schemes of equally many bits the powers of two come first. A factor that all levels of a
    channel share moves into its scale, where the scheme does not hold them otherwise.
    """
    rows = kept.levels.reshape(len(kept.levels), -1).astype(np.int64)
    shared = np.maximum(np.gcd.reduce(rows, axis=1), 1)
    for scheme in _SMALLEST_FIRST:
        factor = _shared_factors(rows, shared, scheme)
        if factor.all():
            levels = (rows // factor[:, None]).astype(np.int16).reshape(kept.levels.shape)
            return KeptWeights(levels, kept.scale * factor), scheme
    return None


def _shared_factors(rows: Integers, shared: Integers, scheme: Scheme) -> Integers:
    """(C,) what each row is to be divided by to be held: 1 if possible; 0 where nothing does."""
    factor = np.where(scheme.holds(rows).all(axis=1), 1, 0)
    for part in range(1, MAX_PART + 1):
        todo = np.flatnonzero((factor == 0) & (shared % part == 0))
        tried = shared[todo] // part
        fits = scheme.holds(rows[todo] // tried[:, None]).all(axis=1)
        factor[todo[fits]] = tried[fits]
    return factor


def smallest_pot(top: int, *, zeros: bool) -> Scheme:
    """The power-of-two scheme of fewest levels that reaches `top`, with a zero if one is needed.

    Args:
        top: at most 2**14.
        zeros: whether some level is 0.
    """
    return min(
        (
            scheme
            for scheme in SCHEMES.values()
            if scheme.kind == "pot" and scheme.max_level >= top and scheme.has_zero >= zeros
        ),
        key=lambda scheme: len(scheme.levels),
    )


def _magnitudes(stored: Float) -> Float:
    return np.unique(np.abs(stored[stored != 0]))


def _is_power_of_two(value: float) -> bool:
    return value > 0 and np.frexp(value)[0] == 0.5


def _fitted(
    stored: Float,
    values: Float,
    steps: Float,
    magnitudes: Float,
    *,
    largest_unit: bool = False,
) -> ChannelLevels | None:
    unit = _unit(values, steps, magnitudes, largest_unit=largest_unit)
    if unit is None:
        return None
    borders = (magnitudes[1:] + magnitudes[:-1]) / 2
    nearest = magnitudes[np.searchsorted(borders, np.abs(stored) / unit)]
    levels = np.where(stored == 0, 0.0, np.copysign(nearest, stored))
    if magnitudes is POWERS:
        least = float(nearest[stored != 0].min())
        levels, unit = levels / least, unit * least
    return ChannelLevels(unit, levels.astype(np.int16))


def _unit(values: Float, steps: Float, magnitudes: Float, *, largest_unit: bool) -> float | None:
    """A unit for which every value (ascending) lies within its step of unit * a magnitude.

    Where several are possible, the smallest (so that sums of powers have the tops 10, 8 and 6 of
    their tables) or the largest. Within its interval, one that puts the largest value exactly on
    its level if there is one: per-channel scales are made from the largest weight.
    """
    if not values.size:
        return None
    low, high = (values[-1] - steps[-1]) / magnitudes, (values[-1] + steps[-1]) / magnitudes
    for value, step in zip(values[-2::-1], steps[-2::-1], strict=True):
        lows = np.maximum(low[:, None], (value - step) / magnitudes)
        highs = np.minimum(high[:, None], (value + step) / magnitudes)
        meet = lows <= highs * (1 + SLACK)
        low, high = lows[meet], highs[meet]
        if not low.size:
            return None
    at = int(low.argmax() if largest_unit else low.argmin())
    exact = values[-1] / magnitudes
    inside = exact[(exact >= low[at] * (1 - SLACK)) & (exact <= high[at] * (1 + SLACK))]
    return float(inside[0]) if inside.size else float((low[at] + high[at]) / 2)
