"""Statistics of a comparison; the unit is the block, never the sample.

The headline is the paired t interval on per-block log ratios (closed form, symmetric in the two
arms, effects are multiplicative), with Hodges and Lehmann's estimate and the Wilcoxon interval
beside it as a check on outliers.

Sources: Student's quantile through the incomplete beta function, NIST DLMF 8.17.22 (continued
fraction, evaluated by Lentz's method) and 26.5.27 of Abramowitz and Stegun; Hodges and Lehmann
1963; Wilcoxon 1945; Type A and Type B combined as JCGM 100:2008 (GUM). Campaigns: Stein, A
two-sample test for a linear hypothesis whose power is independent of the variance, Annals of
Mathematical Statistics 16, 1945.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["lower", "higher", "not resolvable"]
"""Of the energy of BAC against that of MAC."""
LEVEL = 0.95
MAX_HALF_WIDTH = 100.0  # e**100: nothing is known, and it still is a number
COVERAGE_FACTOR = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval, for Type B terms."""
MIN_CORRELATED = 6
"""Fewer blocks say nothing of their correlation."""
ALIKE = 1.5
"""Correlation of neighbouring blocks, in standard errors 1 / sqrt(K), above which it widens."""
MAX_LAG1 = 0.9


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b), to about 1e-14."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on this side only
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    log_front = a * math.log(x) + b * math.log1p(-x)
    log_front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    # Lentz: fraction = 1 + d1 / (1 + d2 / (1 + ...)), from the front; terms alternate in sign
    c, d, fraction = 1.0, 0.0, 1.0
    for k in range(1, 1000):
        term = _beta_term(a, b, x, k)
        d = 1.0 / (1.0 + term * d)
        c = 1.0 + term / c
        fraction *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return math.exp(log_front) / (a * fraction)


def _beta_term(a: float, b: float, x: float, k: int) -> float:
    m = k // 2
    if k % 2 == 0:
        return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
    return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))


def student_cdf(t: float, dof: float) -> float:
    """Probability that Student's t with `dof` degrees of freedom is at most t."""
    tail = incomplete_beta(dof / 2, 0.5, dof / (dof + t * t)) / 2
    return 1.0 - tail if t > 0 else tail


@lru_cache(maxsize=4096)  # a campaign asks for the same few thousands of times
def student_quantile(probability: float, dof: float) -> float:
    """The t below which Student's distribution has this probability, 0 < probability < 1."""
    if probability < 0.5:
        return -student_quantile(1.0 - probability, dof)
    low, high = 0.0, 1.0
    while student_cdf(high, dof) < probability:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if student_cdf(middle, dof) < probability else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Interval:
    """A centre with its interval at `level`."""

    centre: float
    low: float
    high: float
    level: float = LEVEL


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean with its t interval.

    Raises:
        ValueError: fewer than two values.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval needs two values or more, not {n}")
    mean = float(np.mean(values))
    standard_error = float(np.std(values, ddof=1)) / math.sqrt(n)
    half_width = student_quantile((1 + level) / 2, n - 1) * standard_error
    return Interval(mean, mean - half_width, mean + half_width, level)


def hodges_lehmann(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Median of all pairwise means, with the interval of Wilcoxon's signed ranks.

    The distribution of the rank sum is exact. The level given back is the one reached: below six
    values no 95 % interval exists, and the widest there is comes with its own level.

    Raises:
        ValueError: no value.
    """
    n = len(values)
    if n == 0:
        raise ValueError("Hodges and Lehmann's estimate needs a value")
    ordered = np.asarray(values, np.float64)
    i, j = np.triu_indices(n)
    means = np.sort((ordered[i] + ordered[j]) / 2)
    cumulative = np.cumsum(_signed_rank_distribution(n))
    # the k smallest and k largest means are left out; k = 0 is the widest interval
    k = max(int(np.searchsorted(cumulative, (1 - level) / 2, side="right")) - 1, 0)
    reached = 1.0 - 2.0 * float(cumulative[k])
    return Interval(float(np.median(means)), float(means[k]), float(means[-1 - k]), reached)


@lru_cache(maxsize=64)
def _signed_rank_distribution(n: int) -> npt.NDArray[np.float64]:
    """Probability of each rank sum 0 .. n(n+1)/2 when every sign is a fair coin."""
    probability = np.zeros(n * (n + 1) // 2 + 1)
    probability[0] = 1.0
    for rank in range(1, n + 1):
        shifted = np.zeros_like(probability)
        shifted[rank:] = probability[:-rank]
        probability = (probability + shifted) / 2
    return probability


def lag1_autocorrelation(values: Sequence[float]) -> float | None:
    """Correlation of neighbours about the mean; None for under three values or no spread."""
    centred = np.asarray(values, np.float64) - np.mean(values)
    spread = float(np.sum(centred**2))
    if len(values) < 3 or spread == 0.0:
        return None
    return float(np.sum(centred[1:] * centred[:-1])) / spread


def order_effect_p(values: Sequence[float], bac_first: Sequence[bool]) -> float | None:
    """Two-sided p of Student's two-sample t: do blocks with BAC first differ from the others?

    None where either order has fewer than two blocks, or nothing varies.
    """
    first = [v for v, is_first in zip(values, bac_first, strict=True) if is_first]
    second = [v for v, is_first in zip(values, bac_first, strict=True) if not is_first]
    n, m = len(first), len(second)
    if n < 2 or m < 2:
        return None
    pooled = (n - 1) * float(np.var(first, ddof=1)) + (m - 1) * float(np.var(second, ddof=1))
    pooled /= n + m - 2
    if pooled == 0.0:
        return None
    t = float(np.mean(first) - np.mean(second)) / math.sqrt(pooled * (1 / n + 1 / m))
    return 2.0 * (1.0 - student_cdf(abs(t), n + m - 2))


@dataclass(frozen=True)
class RatioEstimate:
    """Energy of MAC over energy of BAC, from per-block ratios.

    Attributes:
        log_ratios: ln(E_MAC / E_BAC) of every block, in order.
        ratio: geometric mean.
        low, high: 95 % interval, quantisation included.
        t_half_width: of the t interval alone, in ln units.
        u_quantisation: standard uncertainty by the sensor's step, in ln units.
        half_width: both in quadrature, in ln units.
        smallest_difference: what rail and blocks could just have shown, as a share: an energy
            difference below it stays inside the interval.
        robust: Hodges and Lehmann's ratio with Wilcoxon's interval, without quantisation.
        lag1: autocorrelation of neighbouring blocks, or None.
        order_p: p of an order effect, or None.
        verdict: what may be said of BAC's energy.
    """

    log_ratios: tuple[float, ...]
    ratio: float
    low: float
    high: float
    t_half_width: float
    u_quantisation: float
    half_width: float
    smallest_difference: float
    robust: Interval
    lag1: float | None
    order_p: float | None
    verdict: Verdict

    @property
    def resolution_limited(self) -> bool:
        """Whether the sensor's step, not the spread of the blocks, sets the interval."""
        return self.u_quantisation > self.t_half_width / 2


def estimate_ratio(
    log_ratios: Sequence[float], bac_first: Sequence[bool], u_quantisation: float = 0.0
) -> RatioEstimate:
    """Ratio with its interval from ln(E_MAC / E_BAC) of each block.

    Args:
        log_ratios: finite, two or more.
        bac_first: per block, whether BAC ran first.
        u_quantisation: standard uncertainty of every log ratio that no averaging removes.

    Raises:
        ValueError: fewer than two blocks.
    """
    t = mean_interval(log_ratios)
    t_half_width = t.high - t.centre
    half_width = math.hypot(t_half_width, COVERAGE_FACTOR * u_quantisation)
    robust = hodges_lehmann(log_ratios)
    half_width = min(half_width, MAX_HALF_WIDTH)
    low, high = math.exp(t.centre - half_width), math.exp(t.centre + half_width)
    return RatioEstimate(
        tuple(log_ratios),
        math.exp(t.centre),
        low,
        high,
        t_half_width,
        u_quantisation,
        half_width,
        math.expm1(half_width),
        Interval(
            math.exp(robust.centre), math.exp(robust.low), math.exp(robust.high), robust.level
        ),
        lag1_autocorrelation(log_ratios),
        order_effect_p(log_ratios, bac_first),
        "lower" if low > 1 else "higher" if high < 1 else "not resolvable",
    )


@dataclass(frozen=True)
class BlockMean:
    """Mean over blocks with its two-stage interval.

    Attributes:
        centre: mean over all blocks.
        half_width: of the interval at `level`, what correlation adds included.
        stein_half_width: of Stein's interval alone.
        sd: standard deviation of the pilot's blocks.
        dof: degrees of freedom of `sd`.
        n_blocks: in the mean.
        lag1: correlation of neighbouring blocks, or None.
        widening: factor by which correlation of neighbours widened the standard error; 1 where
            none was seen.
    """

    centre: float
    half_width: float
    stein_half_width: float
    sd: float
    dof: int
    n_blocks: int
    lag1: float | None
    widening: float
    level: float = LEVEL

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.centre - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.centre + self.half_width


def two_stage_mean(values: Sequence[float], pilot_blocks: int, level: float = LEVEL) -> BlockMean:
    """Mean of all blocks; spread and degrees of freedom from the pilot alone (Stein 1945).

    The number of blocks follows from the pilot's spread, which is independent of every later
    block and of the pilot's own mean, so (mean - truth) sqrt(K) / s_pilot is Student's t with the
    pilot's degrees of freedom whatever number was made: exact under normality. With no block
    beyond the pilot it is the plain t interval.

    Neighbouring blocks that are alike make every such interval too narrow. Where their
    correlation r is above 1.5 / sqrt(K) the standard error is widened by sqrt((1 + r) / (1 - r)),
    that of a mean of first-order autoregressive values (Zieba and Ramza, Metrology and
    Measurement Systems 18, 2011), and of the larger of the pilot's and all blocks' spread; it
    never narrows.
    Against merging neighbours where r is above 2 / sqrt(K) this holds the truth more often where
    blocks are alike, and as often where they are not (tests/benchmarks/coverage_of_intervals.py).

    Raises:
        ValueError: fewer than two values, or a pilot of fewer than two.
    """
    n, first = len(values), min(pilot_blocks, len(values))
    if first < 2:
        raise ValueError(f"an interval needs a pilot of two values or more, not {first}")
    sd = float(np.std(values[:first], ddof=1))
    stein = student_quantile((1 + level) / 2, first - 1) * sd / math.sqrt(n)
    lag1 = lag1_autocorrelation(values)
    factor, half_width = 1.0, stein
    if lag1 is not None and n >= MIN_CORRELATED and lag1 > ALIKE / math.sqrt(n):
        r = min(lag1, MAX_LAG1)
        factor = math.sqrt((1 + r) / (1 - r))
        all_blocks = student_quantile((1 + level) / 2, n - 1) * float(np.std(values, ddof=1))
        half_width = factor * max(stein, all_blocks / math.sqrt(n))
    return BlockMean(
        float(np.mean(values)), half_width, stein, sd, first - 1, n, lag1, factor, level
    )


def second_stage_blocks(
    pilot_log_ratios: Sequence[Sequence[float]],
    target_half_width: float,
    pilot_blocks: int,
    max_blocks: int,
) -> int:
    """Blocks that a cell needs in all, decided once, after its pilot (Stein 1945).

    The smallest K for which every pair's interval, t s_pilot / sqrt(K), is no wider than wanted;
    at least the pilot's, at most `max_blocks` (the interval keeps its coverage at the limit, and
    is wider). The uncertainty by a sensor's step is not in it: no number of blocks removes that.

    Args:
        pilot_log_ratios: of each pair on the headline's rail, one value a pilot block; pairs
            without a ratio (no dynamic energy above zero) are left out by the caller.
        target_half_width: of each ratio, as a share.
        pilot_blocks: of the plan; no pair may have another number of values.
        max_blocks: of the plan.

    Raises:
        ValueError: a pair has not one value a pilot block, or the pilot has fewer than two.
    """
    needed = pilot_blocks
    for values in pilot_log_ratios:
        if len(values) != pilot_blocks:
            raise ValueError(f"{len(values)} values of a pilot of {pilot_blocks} blocks")
        one = two_stage_mean(values, pilot_blocks)
        at_one_block = one.stein_half_width * math.sqrt(pilot_blocks)
        # 1e-9: a pilot that just meets its target asks for no block more by rounding
        exact = (at_one_block / math.log1p(target_half_width)) ** 2
        needed = max(needed, math.ceil(exact * (1 - 1e-9)))
    return min(needed, max(max_blocks, pilot_blocks))


def position_effect_p(
    values: Sequence[float],
    numerator_positions: Sequence[int],
    denominator_positions: Sequence[int],
) -> float | None:
    """P of the F test of no effect of a run's place in its block on log ratios.

    Model: log ratio = mean + effect(place of the numerator) - effect(place of the denominator),
    effects adding up to zero. With two places this is Student's two-sample t on the order. F's
    tail by the incomplete beta function, DLMF 8.17 (Abramowitz and Stegun 26.6.2).

    None where there are too few blocks, orders do not differ enough to tell, or nothing varies.
    """
    n, places = len(values), 1 + max(*numerator_positions, *denominator_positions, 0)
    if n <= places or places < 2:
        return None
    design = np.zeros((n, places))
    rows = np.arange(n)
    np.add.at(design, (rows, np.asarray(numerator_positions)), 1.0)
    np.add.at(design, (rows, np.asarray(denominator_positions)), -1.0)
    # effects add up to zero: the last is minus the others
    design = np.column_stack((np.ones(n), design[:, :-1] - design[:, -1:]))
    y = np.asarray(values, np.float64)
    fit, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    if int(rank) < places:
        return None
    residual = float(np.sum((y - design @ fit) ** 2))
    explained = max(float(np.sum((y - np.mean(y)) ** 2)) - residual, 0.0)
    if residual <= 1e-24 * float(np.sum(y**2)):
        return None
    between, within = places - 1, n - places
    f = explained / between / (residual / within)
    return incomplete_beta(within / 2, between / 2, within / (within + between * f))


def quotient_interval(
    numerators: Sequence[float],
    denominators: Sequence[float],
    pilot_blocks: int,
    level: float = LEVEL,
) -> Interval | None:
    """Mean of numerators over mean of denominators, paired by block, with Fieller's interval.

    Covariance from the pilot as in `two_stage_mean`. Source: Fieller, Journal of the Royal
    Statistical Society B 16, 1954.

    Returns:
        None where the interval is unbounded: the denominators' mean could be 0.
    """
    n, first = len(numerators), min(pilot_blocks, len(numerators))
    covariance = np.cov(numerators[:first], denominators[:first]) / n
    saa, sab, sbb = float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])
    a, b = float(np.mean(numerators)), float(np.mean(denominators))
    t2 = student_quantile((1 + level) / 2, first - 1) ** 2
    # theta with (a - theta b)^2 <= t^2 (saa - 2 theta sab + theta^2 sbb)
    square, half, rest = b * b - t2 * sbb, a * b - t2 * sab, a * a - t2 * saa
    if square <= 0:
        return None
    root = math.sqrt(max(half * half - square * rest, 0.0))
    return Interval(a / b, (half - root) / square, (half + root) / square, level)
