"""Simulated comparisons with a known truth: does a 95 % interval hold it 95 % of the time?

Run by run, not sample by sample: window means are drawn from their closed-form distributions, so
that thousands of campaigns take seconds. The nuisances and their sizes are assumptions, those of
the emulated board: warm-up and ambient drift, self-heating that reaches into the next run,
Ornstein-Uhlenbeck noise, block and run effects, and rounding to the sensor's step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.power.energy import step_uncertainty_w
from bacmac.power.runs import block_orders
from bacmac.power.statistics import RatioEstimate, estimate_ratio

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


def coverage(estimates: Sequence[RatioEstimate], truth: float) -> float:
    """Share of intervals that hold the truth."""
    return sum(e.low <= truth <= e.high for e in estimates) / len(estimates)


def _dynamic_w(
    c: Campaign,
    orders: Sequence[tuple[str, str]],
    rng: np.random.Generator,
    n: int,
) -> dict[str, Values]:
    """Measured dynamic power (n, blocks) of both arms."""
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
            means = []
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
                fast = _mean_sd(c.noise_w, c.noise_tau_s, window_s) * rng.standard_normal(n)
                drift = _drift_w(c, clock_s + length_s / 2, phase)
                true_mean = c.idle_w + level + drift + load_w + heat_mean + slow
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


def _rounded_mean(value_w: Values, step_w: float, noise_w: float) -> Values:
    """Mean of noisy readings rounded to a step (Widrow and Kollar 2008: its Fourier series)."""
    result: Values = value_w.copy()
    for k in range(1, 9):
        damped = math.exp(-2 * (math.pi * k * noise_w / step_w) ** 2)
        amplitude_w = (-1) ** k * step_w / (math.pi * k) * damped
        result = result + amplitude_w * np.sin(2 * math.pi * k * value_w / step_w)
    return result
