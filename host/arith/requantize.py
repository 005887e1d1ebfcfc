"""Integer multipliers for real ratios, and the proof that float32 may apply them.

The definition is integer (`network.Requantize`). A float path is taken only where it is proven
equal to it for every accumulator that can occur:

Without a residual, float32 computes f(acc) = clamp(rint(fl(acc * M))), M = m * 2**-s, which is a
float32 since m has 15 bits. Rounding to nearest is monotone (IEEE 754), so f never decreases, and
neither does the definition g. Two monotone step functions onto integers agree everywhere on an
interval if and only if they agree on both sides of each step of one of them: with t_k the smallest
accumulator for which g gives k, f(t_k) >= k and f(t_k - 1) < k for every t_k in the interval. That
is at most 510 evaluations a channel, not 2**25. The same f is what QLinearConv of ONNX computes.

With a residual r, float32 computes clamp(floor(fl(fl(fl(acc*M) + fl(r*R)) + 1/2))), R = mr * 2**-s.
Count in units of 2**-s, in which all these are integers, and let T = max(high + 1, -low). Suppose
|acc| <= 2**24 and

    T * 2**s + max|r| * |mr| + 2**(s-1) <= 2**24.

r * mr is exact. Where the definition does not saturate, |acc*m + r*mr + 2**(s-1)| <= T * 2**s, so
that |acc*m|, the sum and the sum with the half are all at most 2**24 in magnitude: each step is
exact. Beyond, fix r: the float expression is monotone in acc*m, and at the first integer value of
acc*m that reaches `high`, and at the last that still gives `low`, it is exact by the same bound;
further out it can only stay on that side, and the clamp makes both equal. So float32 is exact.

In float64, |acc*m| < 2**46, |r*mr| <= 2**39 and 2**(s-1) <= 2**39 sum to less than 2**53, and the
scaling by 2**-s is exact: floor(acc*M + r*R + 1/2) is the definition, always.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.bounds import FLOAT32_EXACT
from bacmac.host.arith.network import MAX_SHIFT, MULTIPLIER_BITS, Requantize

MAX_MULTIPLIER = (1 << MULTIPLIER_BITS) - 1
MAX_NUDGE = 32
"""How far a multiplier may be moved, in units of its last place (0.2 % at 2**14)."""
NEGLIGIBLE = 2.0**-8
"""An error of this part of an output step, over the whole accumulator range, is none."""

Integers = npt.NDArray[np.int64]
Ratios = npt.NDArray[np.float64]


def residual_shift(residual_ratio: float) -> int:
    """The largest shift at which a layer with a residual input is exact in float32.

    The module's bound for any 8-bit output and any 8-bit residual: 256 * 2**s + 255 * mr +
    2**(s-1) <= 2**24 with mr = rint(residual_ratio * 2**s); 15 for ratios up to 1.

    Args:
        residual_ratio: scale of the residual input over the scale of the output.
    """
    _check_ratios(np.array([residual_ratio]))
    shift = 0
    while _residual_reach(shift + 1, residual_ratio) <= FLOAT32_EXACT:
        shift += 1
    return shift


def fit_requantize(
    ratio: Ratios,
    *,
    low: int,
    high: int,
    acc_low: Integers,
    acc_high: Integers,
    residual_ratio: float | None = None,
    residual_range: tuple[int, int] | None = None,
) -> Requantize:
    """Integer multipliers and shifts for real ratios, float32-exact wherever that is possible.

    Without a residual each multiplier has 15 bits (2**14 to 2**15 - 1, as long as the shift is
    at most 40) and is moved by up to MAX_NUDGE units, nearest first, until float32 is certified.
    With a residual all channels share `residual_shift(residual_ratio)`, at which
    m = rint(ratio * 2**s) is coarse: weight scales should be chosen so that ratio * 2**s is an
    integer beforehand. A channel for which that m would be too coarse (below 16, and wrong by
    more than NEGLIGIBLE) gets 15 bits and its own shift; it is then computed in float64.

    Args:
        ratio: float64 (C,), >= 0: input scale * weight scale / output scale. 0 for a dead channel.
        low: smallest output.
        high: largest output.
        acc_low: int64 (C,), from `bounds.accumulator_bounds`.
        acc_high: int64 (C,), likewise.
        residual_ratio: residual scale / output scale, or None without a residual.
        residual_range: lowest and highest residual value; 8 bits, which the bound rests on.

    Raises:
        ValueError: a ratio is negative or not finite, or the residual is wider than 8 bits.
    """
    _check_ratios(ratio)
    if residual_range is not None and not -255 <= residual_range[0] <= residual_range[1] <= 255:
        raise ValueError(f"residual range {residual_range} is wider than 8 bits")
    full = full_shift(ratio)
    if residual_ratio is None:
        shift = full
        multiplier = _multiplier(ratio, shift)
        multiplier = _nudged(multiplier, shift, low, high, acc_low, acc_high)
        return Requantize(multiplier.astype(np.uint16), shift.astype(np.uint8), low, high)
    coarse = np.minimum(full, residual_shift(residual_ratio))
    multiplier = _multiplier(ratio, coarse)
    reach = np.maximum(-acc_low, acc_high)
    error = np.abs(multiplier * 2.0**-coarse - ratio) * reach
    too_coarse = (multiplier < 16) & (error > NEGLIGIBLE)
    # the residual's multiplier must stay an int32 at the finer shift
    finest = int(np.floor(np.log2((2.0**31 - 1) / max(residual_ratio, 2.0**-9))))
    shift = np.where(too_coarse, np.minimum(full, min(finest, MAX_SHIFT)), coarse)
    return Requantize(
        _multiplier(ratio, shift).astype(np.uint16),
        shift.astype(np.uint8),
        low,
        high,
        np.rint(residual_ratio * 2.0**shift).astype(np.int32),
    )


def float32_exact(
    how: Requantize,
    acc_low: Integers,
    acc_high: Integers,
    residual_range: tuple[int, int] | None = None,
) -> npt.NDArray[np.bool_]:
    """Which channels (C,) float32 requantizes exactly for every accumulator within the bounds.

    Args:
        how: what is applied.
        acc_low: int64 (C,), lowest accumulators, bias included.
        acc_high: int64 (C,), highest.
        residual_range: range of the residual; needed where there is one.
    """
    representable = np.maximum(-acc_low, acc_high) <= FLOAT32_EXACT
    multiplier, shift = how.multiplier.astype(np.int64), how.shift.astype(np.int64)
    if how.residual_multiplier is None:
        return representable & _certified(multiplier, shift, how.low, how.high, acc_low, acc_high)
    if residual_range is None:
        raise ValueError("an op with a residual needs the residual's range")
    widest = max(-residual_range[0], residual_range[1])
    top = max(how.high + 1, -how.low)
    reach = top * (1 << shift) + widest * np.abs(how.residual_multiplier.astype(np.int64))
    result: npt.NDArray[np.bool_] = representable & (reach + _half(shift) <= FLOAT32_EXACT)
    return result


def _certified(
    multiplier: Integers,
    shift: Integers,
    low: int,
    high: int,
    acc_low: Integers,
    acc_high: Integers,
) -> npt.NDArray[np.bool_]:
    """The threshold certificate (C,) for f(acc) = rint(float32(acc) * float32(m * 2**-s))."""
    level = np.arange(low + 1, high + 1, dtype=np.int64)[:, None]
    alive = multiplier > 0  # a multiplier of 0 gives 0 in both
    # ceil(a / m) as -(-a // m)
    threshold = -((_half(shift) - level * (1 << shift)) // np.maximum(multiplier, 1))
    scale = (multiplier * 2.0**-shift).astype(np.float32)

    def rounded(acc: Integers) -> npt.NDArray[np.float32]:
        result: npt.NDArray[np.float32] = np.rint(
            np.clip(acc, -FLOAT32_EXACT, FLOAT32_EXACT).astype(np.float32) * scale
        )
        return result

    at, below = threshold, threshold - 1
    at_good = (at < acc_low) | (at > acc_high) | (rounded(at) >= level)
    below_good = (below < acc_low) | (below > acc_high) | (rounded(below) < level)
    result: npt.NDArray[np.bool_] = ~alive | (at_good & below_good).all(0)
    return result


def _nudged(
    multiplier: Integers,
    shift: Integers,
    low: int,
    high: int,
    acc_low: Integers,
    acc_high: Integers,
) -> Integers:
    """Multipliers (C,) moved as little as possible to be certified; as given where none is."""
    result: Integers = multiplier.copy()
    open_ = np.flatnonzero(np.maximum(-acc_low, acc_high) <= FLOAT32_EXACT)
    for step in sorted(range(-MAX_NUDGE, MAX_NUDGE + 1), key=lambda step: (abs(step), step)):
        # below 2**14 one unit is too large a change to be a nudge
        trial = multiplier[open_] + step
        fits = (step == 0) | ((trial > MAX_MULTIPLIER // 2) & (trial <= MAX_MULTIPLIER))
        good = fits & _certified(
            np.maximum(trial, 0), shift[open_], low, high, acc_low[open_], acc_high[open_]
        )
        result[open_[good]] = trial[good]
        open_ = open_[~good]
        if not open_.size:
            break
    return result


def full_shift(ratio: Ratios) -> Integers:
    """Shifts (C,), 0 to 40, that put ratio * 2**s into [2**14, 2**15) where they can."""
    _, exponent = np.frexp(np.where(ratio > 0, ratio, 2.0**-MAX_SHIFT))
    shift: Integers = MULTIPLIER_BITS - exponent.astype(np.int64)
    shift -= np.rint(ratio * 2.0**shift) > MAX_MULTIPLIER  # 32767.5 and above round to 2**15
    return np.clip(shift, 0, MAX_SHIFT)


def _multiplier(ratio: Ratios, shift: Integers) -> Integers:
    """rint(ratio * 2**s), at most 2**15 - 1: at shift 0 that saturates every accumulator but 0."""
    result: Integers = np.minimum(np.rint(ratio * 2.0**shift), MAX_MULTIPLIER).astype(np.int64)
    return result


def _residual_reach(shift: int, ratio: float) -> float:
    return 256.5 * 2.0**shift + 255.0 * float(np.rint(ratio * 2.0**shift))


def _half(shift: Integers) -> Integers:
    """2**(s-1), and 0 where s is 0."""
    result: Integers = (np.int64(1) << shift) >> 1
    return result


def _check_ratios(ratio: Ratios) -> None:
    if not (np.isfinite(ratio).all() and (ratio >= 0).all()):
        raise ValueError("a requantization ratio is negative or not finite")
