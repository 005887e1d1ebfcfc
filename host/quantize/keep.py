"""What a file already quantized, kept: its grids, its integer weights, its roundings.

The accelerator stores whole numbers without zero points and rounds half up, once a layer. A file
may have zero points, other roundings and real multipliers. What one layer does to an accumulator A
(the sum of level * code, no bias) is, for each channel, a step function

    g(A) = clamp(round(alpha * A + beta), low, high)         alpha > 0

with the zero points of what it reads and writes in beta. The accelerator has integers for it:
clamp(((A + bias) * m + half) >> s). Both are monotonic, so they are equal for every accumulator if
and only if their thresholds (the least A that gives k, for every k) are. `fit_steps` looks for the
multiplier and bias whose thresholds are those of the file; where 15 bits of multiplier cannot do
it, for those that differ in the fewest accumulators, and it counts them. Thresholds in place of
scales are how FINN brings such networks into hardware (Umuroglu and Jahre 2017, arXiv 1709.04060).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import MAX_SHIFT, MULTIPLIER_BITS, Requantize
from bacmac.host.arith.requantize import full_shift
from bacmac.host.arith.schemes import Scheme
from bacmac.host.model.layers import Grid, Rounding
from bacmac.host.model.quantized import ActivationFormat

Float = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NUDGE = 32
"""How far a multiplier is moved in search of the file's thresholds, in units of its last place."""
FEW = 15
"""Thresholds for which a multiplier may be moved further."""
MAX_BIAS = 1 << 30
MAX_MULTIPLIER = (1 << MULTIPLIER_BITS) - 1


@dataclass(frozen=True, eq=False)
class Steps:
    """The step functions of a layer's channels, from accumulator to stored integer.

    Attributes:
        alpha: float64 (C,), 0 or above.
        beta: float64 (C,); the stored integer of the accumulator 0, before rounding.
        low: smallest stored integer.
        high: largest stored integer.
        rounding: the file's.
        zero: the target's zero point where that is whole: ties to even are ties about it.
    """

    alpha: Float
    beta: Float
    low: int
    high: int
    rounding: Rounding
    zero: int = 0

    @property
    def toward_nearest(self) -> float:
        """What, added to beta, makes rounding to nearest of this rounding."""
        return {"floor": -0.5, "ceil": 0.5}.get(self.rounding, 0.0)

    def thresholds(self) -> Float:
        """(high - low, C) least whole accumulator that gives low + 1, ..., high; +-inf if dead."""
        k = np.arange(self.low + 1, self.high + 1, dtype=np.float64)[:, None]
        border = {"floor": k, "ceil": k - 1.0}.get(self.rounding, k - 0.5)
        with np.errstate(divide="ignore", invalid="ignore"):
            exact = (border - self.beta) / self.alpha
            exact = np.where(self.alpha > 0, exact, np.where(self.beta >= border, -np.inf, np.inf))
        even = (k - self.zero) % 2 == 0
        belongs = {  # whether a value on the border itself already gives k
            "half-even": even,
            "half-up": np.ones_like(even),
            "half-away": k - self.zero > 0,
            "floor": np.ones_like(even),
            "ceil": np.zeros_like(even),
        }[self.rounding]
        least = np.ceil(exact)
        return np.where(~belongs & (least == exact), least + 1.0, least)


@dataclass(frozen=True, eq=False)
class FittedSteps:
    """Integers that stand in for step functions.

    Attributes:
        requantize: multipliers and shifts.
        bias: int64 (C,), added to the accumulator.
        constant: bool (C,): the output is one number whatever the accumulator, and no bias holds
            that: the channel's levels must be made zero, `bias` is the number.
        differing: int64 (C,): by how much the integers differ from the file's step function,
            summed over all accumulators within reach; 0 is a proof that they never do.
    """

    requantize: Requantize
    bias: Integers
    constant: npt.NDArray[np.bool_]
    differing: Integers


def fit_steps(steps: Steps, reach_low: Integers, reach_high: Integers) -> FittedSteps:
    """Multipliers, shifts and biases for step functions.

    Args:
        steps: of C channels.
        reach_low: (C,) lowest accumulator without bias.
        reach_high: (C,) highest.
    """
    wanted = steps.thresholds()
    shift = full_shift(steps.alpha)
    middle = np.rint(steps.alpha * 2.0**shift)
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = (steps.beta + steps.toward_nearest) / steps.alpha
        nominal = np.where(steps.alpha > 0, np.rint(exact), np.inf)
    multiplier, bias = np.zeros(len(shift)), np.zeros(len(shift))
    differing = np.full(len(shift), np.inf)
    open_ = np.flatnonzero(np.abs(nominal) <= MAX_BIAS)
    for nudge in _nudges(steps.high - steps.low):
        trial = np.clip(middle[open_] + nudge, 1, MAX_MULTIPLIER)
        offset, errors = _best_offset(
            _thresholds_of(trial, shift[open_], steps.low, steps.high),
            wanted[:, open_],
            nominal[open_],
            reach_low[open_],
            reach_high[open_],
        )
        better = errors < differing[open_]
        chosen = open_[better]
        multiplier[chosen], bias[chosen] = trial[better], offset[better]
        differing[chosen] = errors[better]
        open_ = open_[differing[open_] > 0]
        if not open_.size:
            break
    constant = ~np.isfinite(differing)
    middle_reach = np.clip(0, reach_low, reach_high)
    value = steps.low + np.count_nonzero(wanted <= middle_reach, axis=0)
    how = Requantize(
        np.where(constant, 1, multiplier).astype(np.uint16),
        np.where(constant, 0, shift).astype(np.uint8),
        steps.low,
        steps.high,
    )
    return FittedSteps(
        how,
        np.where(constant, value, bias).astype(np.int64),
        constant,
        np.where(constant, 0, differing).astype(np.int64),
    )


def fit_steps_with_residual(steps: Steps, ratio: float) -> FittedSteps:
    """The same where a residual code is added, `ratio` times, before the rounding.

    Two variables have no thresholds: multipliers are the nearest at the finest shift, ties go up,
    and the bias is right to half an accumulator unit. `differing` is not known and 0.
    """
    finest = int(np.floor(np.log2((2.0**31 - 1) / max(ratio, 2.0**-9))))
    shift = np.minimum(full_shift(steps.alpha), min(finest, MAX_SHIFT))
    multiplier = np.clip(np.rint(steps.alpha * 2.0**shift), 0, MAX_MULTIPLIER)
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = np.rint((steps.beta + steps.toward_nearest) * 2.0**shift / multiplier)
    constant = ~(np.abs(bias) <= MAX_BIAS)
    # what is constant about such a channel is its sum: the residual comes on top of it
    shift = np.where(constant, min(finest, MULTIPLIER_BITS - 1), shift)
    multiplier = np.where(constant, 2.0**shift, multiplier)
    bias = np.where(constant, np.rint(steps.beta), bias)
    how = Requantize(
        multiplier.astype(np.uint16),
        shift.astype(np.uint8),
        steps.low,
        steps.high,
        np.rint(ratio * 2.0**shift).astype(np.int32),
    )
    return FittedSteps(how, bias.astype(np.int64), constant, np.zeros(len(bias), np.int64))


def _nudges(n_thresholds: int) -> list[int]:
    """By how much a multiplier may be moved, the least first.

    Few thresholds are far apart: a slope that is off by a part of one step in all of them can
    still hit each, and the finer pattern of their gaps.
    """
    near = set(range(-NUDGE, NUDGE + 1))
    if n_thresholds <= FEW:
        widest = MAX_MULTIPLIER // (4 * n_thresholds)
        near |= {int(far) for far in np.linspace(-widest, widest, 257)}
    return sorted(near, key=lambda nudge: (abs(nudge), nudge))


def _thresholds_of(multiplier: Float, shift: Integers, low: int, high: int) -> Float:
    """(high - low, C) least A for which (A * m + half) >> s reaches low + 1, ..., high."""
    k = np.arange(low + 1, high + 1, dtype=np.float64)[:, None]
    half = np.floor(2.0**shift / 2)
    result: Float = np.ceil((k * 2.0**shift - half) / multiplier)
    return result


def _best_offset(
    own: Float, wanted: Float, nominal: Float, reach_low: Integers, reach_high: Integers
) -> tuple[Float, Float]:
    """(C,) bias that puts thresholds `own` nearest `wanted`, and (C,) what still differs."""
    within = (wanted > reach_low) & (wanted <= reach_high)
    apart = np.sort(np.where(within, own - wanted, np.inf), axis=0)
    n_within = within.sum(0)
    median = np.take_along_axis(apart, (n_within // 2)[None].clip(max=len(apart) - 1), axis=0)[0]
    offset = np.where(n_within > 0, median, nominal)

    def reached(thresholds: Float) -> Float:
        return np.clip(thresholds, reach_low, reach_high + 1)

    errors: Float = np.abs(reached(own - offset) - reached(wanted)).sum(0)
    return offset, errors


def stored_format(grid: Grid, *, padded: bool = True) -> ActivationFormat | None:
    """How the accelerator stores a grid; None where it has more than 256 codes.

    Without zero point wherever 8 bits allow: unsigned where 0 is the lowest code, signed where the
    range lies around 0. Else the codes count from the grid's lowest one, and 0 lies at `zero`.

    So they do for a few signed codes that nothing pads: a multiplier alone puts the two thresholds
    beside 0 at equal distances from it, and can hit both only where it need not.
    """
    if grid.high - grid.low > 255:
        return None
    low, high = grid.low - grid.zero, grid.high - grid.zero
    if float(grid.zero).is_integer() and low >= 0:
        return ActivationFormat(grid.scale, _bits(int(high)))
    signed = padded or grid.high - grid.low > FEW
    if signed and float(grid.zero).is_integer() and low >= -128 and high <= 127:
        bits = max(int(high).bit_length(), (int(-low) - 1).bit_length()) + 1
        return ActivationFormat(grid.scale, bits, signed=True)
    return ActivationFormat(grid.scale, _bits(grid.high - grid.low), zero=grid.zero - grid.low)


def stored_limits(grid: Grid, stored: ActivationFormat) -> tuple[int, int]:
    """The grid's lowest and highest code as `stored_format` stores them."""
    shift = grid.zero - stored.zero
    return round(grid.low - shift), round(grid.high - shift)


def _bits(highest: int) -> int:
    return max(1, highest.bit_length())


@dataclass(frozen=True, eq=False)
class ConstantChannels:
    """Channels of one number that make up for padding where 0 is not stored as 0.

    The accelerator pads with the integer 0. Where that is not the value 0, a window at the edge
    must add what its padded taps lack: -zero * level, summed over the channels. Channels that hold
    `value` inside the image, and like all others 0 in its padding, do just that, exactly.

    Attributes:
        value: the integer that they hold.
        levels: (C_out, n, kh, kw), of the n channels.
    """

    value: int
    levels: npt.NDArray[np.int16]


def constant_channels(
    levels: npt.NDArray[np.int16], zero: float, scheme: Scheme
) -> ConstantChannels | None:
    """Channels for a convolution of one group that pads a tensor whose 0 is stored as `zero`.

    None where they do not exist: a zero point that is not whole.
    """
    if not float(zero).is_integer():
        return None
    rest = -levels.sum(axis=1, dtype=np.int64)
    parts = []
    while rest.any():
        part = _largest_level(rest, scheme)
        parts.append(part)
        rest = rest - part
    stacked = np.stack(parts, axis=1) if parts else np.zeros((len(levels), 0, *levels.shape[2:]))
    return ConstantChannels(int(zero), stacked.astype(np.int16))


def _largest_level(values: Integers, scheme: Scheme) -> Integers:
    """The level nearest each value."""
    known = scheme.levels.astype(np.int64)
    above = np.searchsorted(known, values).clip(1, len(known) - 1)
    lower, upper = known[above - 1], known[above]
    result: Integers = np.where(values - lower <= upper - values, lower, upper)
    return result
