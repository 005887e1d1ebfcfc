"""Statistics of a comparison; the unit is the block, never the sample.

The headline is the paired t interval on per-block log ratios (closed form, symmetric in the two
arms, effects are multiplicative), with Hodges and Lehmann's estimate and the Wilcoxon interval
beside it as a check on outliers.

Sources: Student's quantile through the incomplete beta function, NIST DLMF 8.17.22 (continued
fraction, evaluated by Lentz's method) and 26.5.27 of Abramowitz and Stegun; Hodges and Lehmann
1963; Wilcoxon 1945; Type A and Type B combined as JCGM 100:2008 (GUM).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["lower", "higher", "not resolvable"]
"""Of the energy of BAC against that of MAC."""
LEVEL = 0.95
MAX_HALF_WIDTH = 100.0  # e**100: nothing is known, and it still is a number
COVERAGE_FACTOR = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval, for Type B terms."""


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
