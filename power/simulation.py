"""Simulated comparisons with a known truth: does a 95 % interval hold it 95 % of the time?

Run by run, not sample by sample: window means are drawn from their closed-form distributions, so
that thousands of campaigns take seconds. The nuisances and their sizes are assumptions, those of
the emulated board: warm-up and ambient drift, self-heating that reaches into the next run,
Ornstein-Uhlenbeck noise, block and run effects, and rounding to the sensor's step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from bacmac.power.campaign import result
from bacmac.power.campaign.ratios import ratio_estimate
from bacmac.power.energy import step_uncertainty_w
from bacmac.power.runs import block_orders
from bacmac.power.statistics import RatioEstimate, estimate_ratio, second_stage_blocks

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Campaign:
    """A comparison to simulate, and the truth in it.

    Attributes:
        bac_w, mac_w: true dynamic power; both arms take equal time.
        step_w: the sensor's step of V x I.
        noise_w, noise_tau_s: fast noise.
        slow_noise_w, slow_noise_tau_s: slow noise, correlated over the windows of a run.
        warm_up_w, ambient_w: rise over ten minutes, and amplitude of a 45 min sinusoid.
        heating, heating_tau_s: share of dynamic power that follows as heat.
        block_effect, run_effect: log-normal factors of dynamic power.
        refresh_s: time between new values of the sensor; 0 where it is faster than the sampling.
    """

    blocks: int = 12
    run_s: float = 10.0
    idle_s: float = 5.0
    between_s: float = 3.0
    guard_s: float = 0.5
    idle_w: float = 1.2
    bac_w: float = 0.5
    mac_w: float = 0.7
    step_w: float = 0.012
    noise_w: float = 0.02
    noise_tau_s: float = 0.1
    slow_noise_w: float = 0.006
    slow_noise_tau_s: float = 30.0
    warm_up_w: float = 0.06
    ambient_w: float = 0.036
    heating: float = 0.04
    heating_tau_s: float = 40.0
    block_effect: float = 0.01
    run_effect: float = 0.006
    refresh_s: float = 0.0

    @property
    def truth(self) -> float:
        """True ratio of dynamic energies."""
        return self.mac_w / self.bac_w


def simulate(campaign: Campaign, n: int, seed: int) -> list[RatioEstimate]:
    """Estimates of n independent campaigns."""
    c, rng = campaign, np.random.default_rng(seed)
    orders = block_orders(c.blocks, seed)
    dynamic = _dynamic_w(c, orders, rng, n)
    logs = np.log(dynamic["mac"] / dynamic["bac"])
    u_w = math.sqrt(2) * step_uncertainty_w(c.step_w, c.noise_w)
    bac_first = [order[0] == "bac" for order in orders]
    estimates = []
    for row, bac, mac in zip(
        logs, dynamic["bac"].mean(axis=1), dynamic["mac"].mean(axis=1), strict=True
    ):
        estimates.append(estimate_ratio(row.tolist(), bac_first, math.hypot(u_w / bac, u_w / mac)))
    return estimates


PERSONALITIES: Mapping[str, Campaign] = {
    "zcu104-new-kernel": Campaign(),
    # a PMBus rail of 1/64 A at 0.85 V that the kernel reads once a second
    "zcu104-1s-cache": Campaign(step_w=0.0133, refresh_s=1.0, guard_s=1.1),
    # VCCINT's own INA226: 1.25 mA at 0.85 V, and less else on the rail
    "zcu102-ina226": Campaign(
        idle_w=0.6,
        step_w=0.0011,
        noise_w=0.01,
        slow_noise_w=0.003,
        warm_up_w=0.03,
        ambient_w=0.018,
    ),
    "coarse-106mw": Campaign(step_w=0.106),
    "coarse-106mw, settled": Campaign(step_w=0.106, warm_up_w=0.0, ambient_w=0.0),
}
"""Emulated boards by the sensor of the headline's rail."""


@dataclass(frozen=True)
class TwoStage:
    """How many blocks a simulated campaign makes; see `bacmac.power.campaign.plan.Design`."""

    target_half_width: float = 0.0075
    pilot_blocks: int = 10
    max_blocks: int = 60


def simulate_two_stage(
    campaign: Campaign, stages: TwoStage, n: int, seed: int
) -> list[result.RatioEstimate]:
    """Estimates of n independent campaigns with Stein's second stage, as `campaign analyse` has.

    The noise that decides on the sensor's step is estimated from the simulated windows, as from
    samples: nothing of the truth is used.
    """
    c, rng = replace(campaign, blocks=stages.max_blocks), np.random.default_rng(seed)
    orders = block_orders(c.blocks, seed)
    seen = _Windows(n, c.blocks)
    dynamic = _dynamic_w(c, orders, rng, n, seen)
    logs = np.log(dynamic["mac"] / dynamic["bac"])
    mac_first = [int(order[0] == "mac") for order in orders]
    places = ([1 - first for first in mac_first], mac_first)
    estimates = []
    for i in range(n):
        pilot = logs[i, : stages.pilot_blocks].tolist()
        k = second_stage_blocks(
            [pilot], stages.target_half_width, stages.pilot_blocks, stages.max_blocks
        )
        noise_w = seen.noise_w(i, k)
        u_w = math.sqrt(2) * step_uncertainty_w(c.step_w, noise_w)
        u_step = math.hypot(*(u_w / float(dynamic[arm][i, :k].mean()) for arm in ("bac", "mac")))
        estimates.append(
            ratio_estimate(
                logs[i, :k].tolist(),
                (places[0][:k], places[1][:k]),
                stages.pilot_blocks,
                u_step,
            )
        )
    return estimates


@dataclass(frozen=True, eq=False)
class _Windows:
    """Variance of each window's samples with the step's share taken out, (n, blocks, 2 arms, 3)."""

    n: int
    blocks: int
    noise_w2: Values = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise_w2", np.zeros((self.n, self.blocks, 2, 3)))

    def noise_w(self, campaign: int, blocks: int) -> float:
        """Least of the medians of idle and run of either arm, as campaigns are analysed."""
        noise = np.sqrt(self.noise_w2[campaign, :blocks])
        return min(
            float(np.median(noise[:, arm, windows])) for arm in (0, 1) for windows in ([0, 2], 1)
        )


def coverage(
    estimates: Sequence[RatioEstimate] | Sequence[result.RatioEstimate], truth: float
) -> float:
    """Share of intervals that hold the truth."""
    return sum(e.low <= truth <= e.high for e in estimates) / len(estimates)


def _dynamic_w(
    c: Campaign,
    orders: Sequence[tuple[str, str]],
    rng: np.random.Generator,
    n: int,
    seen: _Windows | None = None,
) -> dict[str, Values]:
    """Measured dynamic power (n, blocks) of both arms; spreads of windows go into `seen`."""
    measured = {arm: np.zeros((n, c.blocks)) for arm in ("bac", "mac")}
    true_w = {"bac": c.bac_w, "mac": c.mac_w}
    phase = rng.uniform(0, 2 * math.pi, n)
    level = rng.uniform(0, c.step_w, n)  # where idle lies within a step
    heat, slow = np.zeros(n), c.slow_noise_w * rng.standard_normal(n)
    clock_s = 0.0
    for block, order in enumerate(orders):
        block_factor = np.exp(c.block_effect * rng.standard_normal(n))
        for arm in order:
            run_factor = np.exp(c.run_effect * rng.standard_normal(n))
            power_w = true_w[arm] * block_factor * run_factor
            means: list[Values] = []
            for load_w, length_s, guard_s in (
                (0.0 * power_w, c.idle_s, 0.0),
                (power_w, c.run_s, c.guard_s),
                (0.0 * power_w, c.idle_s, 0.0),
            ):
                heat_mean, heat = _relax(heat, c.heating * load_w, length_s, c.heating_tau_s)
                decay = math.exp(-length_s / c.slow_noise_tau_s)
                kick = c.slow_noise_w * math.sqrt(1 - decay**2)
                slow = slow * decay + kick * rng.standard_normal(n)
                window_s = length_s - guard_s
                fast = _fast_sd_w(c, window_s) * rng.standard_normal(n)
                drift = _drift_w(c, clock_s + length_s / 2, phase)
                true_mean = c.idle_w + level + drift + load_w + heat_mean + slow
                if seen is not None:
                    noise_w2 = _seen_noise_w2(c, true_mean, window_s, rng)
                    seen.noise_w2[:, block, int(arm == "mac"), len(means)] = noise_w2
                means.append(_rounded_mean(true_mean, c.step_w, c.noise_w) + fast)
                clock_s += length_s
            before, run, after = means
            measured[arm][:, block] = run - (before + after) / 2
            _, heat = _relax(heat, np.zeros(n), c.between_s, c.heating_tau_s)
            clock_s += c.between_s
    return measured


def _drift_w(c: Campaign, time_s: float, phase: Values) -> Values:
    warm_up_w = -c.warm_up_w * math.expm1(-time_s / 600.0)
    drift: Values = warm_up_w + c.ambient_w * np.sin(2 * math.pi * time_s / 2700.0 + phase)
    return drift


def _relax(start: Values, target: Values, length_s: float, tau_s: float) -> tuple[Values, Values]:
    """Mean over a window, and the end, of a first-order lag towards its target."""
    gone = -math.expm1(-length_s / tau_s)
    mean = target + (start - target) * (gone * tau_s / length_s)
    return mean, start + (target - start) * gone


def _mean_sd(sigma_w: float, tau_s: float, window_s: float) -> float:
    """Standard deviation of the mean of Ornstein-Uhlenbeck noise over a window."""
    x = tau_s / window_s
    return sigma_w * math.sqrt(2 * x * (1 + x * math.expm1(-1 / x)))


def _fast_sd_w(c: Campaign, window_s: float) -> float:
    """Of a window's mean: by all of the noise, or by as many readings as were fresh."""
    if not c.refresh_s:
        return _mean_sd(c.noise_w, c.noise_tau_s, window_s)
    per_reading_w2 = c.noise_w**2 + c.step_w**2 / 12
    return math.sqrt(per_reading_w2 * c.refresh_s / window_s)


def _seen_noise_w2(
    c: Campaign, true_mean: Values, window_s: float, rng: np.random.Generator
) -> Values:
    """Variance of the samples of a window as it would be estimated, less L^2 / 12, 0 or more.

    Of a rounded normal value: by the probability of each step where noise does not cover it. The
    estimate scatters like chi^2 with as many degrees as the noise has independent values.
    """
    step, noise = c.step_w, c.noise_w
    if noise >= step:
        spread: Values = np.full_like(true_mean, noise**2 + step**2 / 12)
    else:
        levels = np.rint(true_mean / step)[:, None] + np.arange(-8, 9)
        edges = (np.concatenate((levels - 0.5, levels[:, -1:] + 0.5), axis=1)) * step
        below = _normal_cdf((edges - true_mean[:, None]) / noise)
        share = np.diff(below, axis=1)
        mean = np.sum(share * levels, axis=1)[:, None]
        spread = np.sum(share * (levels - mean) ** 2, axis=1) * step**2
    degrees = max(window_s / max(c.noise_tau_s, c.refresh_s) - 1, 1)
    spread = spread * rng.chisquare(degrees, len(true_mean)) / degrees
    return np.maximum(spread - step**2 / 12, 0.0)


_normal_cdf = np.vectorize(lambda z: 0.5 * math.erfc(-z / math.sqrt(2)), otypes=[np.float64])


def _rounded_mean(value_w: Values, step_w: float, noise_w: float) -> Values:
    """Mean of noisy readings rounded to a step (Widrow and Kollar 2008: its Fourier series)."""
    result: Values = value_w.copy()
    for k in range(1, 9):
        damped = math.exp(-2 * (math.pi * k * noise_w / step_w) ** 2)
        amplitude_w = (-1) ** k * step_w / (math.pi * k) * damped
        result = result + amplitude_w * np.sin(2 * math.pi * k * value_w / step_w)
    return result
