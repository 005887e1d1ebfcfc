"""What a campaign will take, and how narrow its intervals can be expected to be, before any run.

Estimates, each with its model. Time: the windows of every run, and LOAD_S to load its overlay.
Disk: samples as compressed columns, by journals of emulated campaigns. Half-widths: Stein's
interval, t s / sqrt(K), with the spread s of a block's log ratio from the noise that the emulated
board's coefficient table assumes (noise of two time constants averaged over a run's own windows,
and a factor that each loading of an overlay draws), and the uncertainty by the sensor's step in
quadrature (Widrow and Kollar, Quantization Noise, 2008). Drift between blocks cancels in a block
and is left out. On a board its own noise decides: `bacmac power probe` finds it.

With 0.5 W against 0.7 W of dynamic power, 10 s runs and 5 s idle windows the model gives
s = 1.4 %, so 3 % / sqrt(K) from ten blocks on, as simulated campaigns do (power/simulation.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bacmac.power.campaign.plan import CampaignPlan, Cell, Pair
from bacmac.power.coefficients import Coefficients
from bacmac.power.energy import step_uncertainty_w
from bacmac.power.rails import RailInfo
from bacmac.power.resolution import GUARD_REFRESHES
from bacmac.power.statistics import COVERAGE_FACTOR, MAX_HALF_WIDTH, student_quantile

LOAD_S = 2.0
"""Assumed for loading an overlay: a 19 MB bitstream through PCAP, and reading its hand-off."""
READING_BYTES = 4.0
"""Of one reading (time, V, I, P), compressed: most of it its time, which is jittered on purpose."""
RAIL_BYTES, RUN_BYTES, CAMPAIGN_BYTES = 3e3, 6e3, 1e5
"""Of pages that columns do not fill, of all else of a run, and of what is kept once."""


@dataclass(frozen=True)
class Amount:
    """How much a campaign is when it ends in a certain way.

    Attributes:
        blocks: of the A/A check and of the pairs, over all cells; repeated ones come on top.
        runs: in them.
        duration_s: on the board's clock.
        disk_bytes: of the journal.
    """

    blocks: int
    runs: int
    duration_s: float
    disk_bytes: float


@dataclass(frozen=True)
class ExpectedPower:
    """What is expected of a rail before anything is measured.

    Attributes:
        info: the rail.
        watts: dynamic power by arm, each above 0.
        noise_w, slow_noise_w: standard deviations, of the coefficients' two time constants.
    """

    info: RailInfo
    watts: Mapping[str, float]
    noise_w: float
    slow_noise_w: float


@dataclass(frozen=True)
class ExpectedWidth:
    """How narrow the interval of a pair's dynamic ratio can be expected to be on a rail.

    Attributes:
        cell, rail, pair: which.
        watts: dynamic power of denominator and numerator.
        block_sd: standard deviation of a block's log ratio.
        step_share: half-width by the sensor's step alone, which no number of blocks narrows.
        pilot, most: half-widths, as a share, after the pilot and after the largest number.
        blocks: that the second stage is expected to ask for, within the plan's bounds.
        wanted: half-width after so many.
        step_limited: whether the step, not the spread of blocks, will set the interval then.
    """

    cell: int
    rail: str
    pair: Pair
    watts: tuple[float, float]
    block_sd: float
    step_share: float
    pilot: float
    most: float
    blocks: int
    wanted: float
    step_limited: bool


def guard_s(plan: CampaignPlan, rails: Sequence[RailInfo]) -> float:
    """At least the plan's, and 1.1 refreshes of the slowest rail: a run's readings are its own."""
    slowest_ns = max((info.update_period_ns or 0 for info in rails), default=0)
    return max(plan.design.guard_s, GUARD_REFRESHES * slowest_ns * 1e-9)


def run_duration_s(plan: CampaignPlan, rails: Sequence[RailInfo]) -> float:
    """From the beginning of one run to that of the next."""
    d, guard = plan.design, guard_s(plan, rails)
    return LOAD_S + max(d.settle_s, guard) + _sampled_s(plan, guard)


def amount(plan: CampaignPlan, rails: Sequence[RailInfo], main_blocks: Sequence[int]) -> Amount:
    """What a campaign takes with so many blocks in each cell."""
    d = plan.design
    aa_blocks = len(plan.cells) * d.aa_blocks
    runs = 2 * aa_blocks + len(plan.arms) * sum(main_blocks)
    readings = len(rails) * _sampled_s(plan, guard_s(plan, rails)) / d.sample_period_s
    return Amount(
        aa_blocks + sum(main_blocks),
        runs,
        runs * run_duration_s(plan, rails),
        CAMPAIGN_BYTES + runs * (RUN_BYTES + len(rails) * RAIL_BYTES + readings * READING_BYTES),
    )


def expected_widths(
    plan: CampaignPlan,
    cell: Cell,
    rails: Sequence[RailInfo],
    powers: Sequence[ExpectedPower],
    numbers: Coefficients,
) -> tuple[ExpectedWidth, ...]:
    """Expectation for every pair on every rail of which power is expected.

    Args:
        plan: the campaign.
        cell: of it.
        rails: that will be sampled; the slowest decides the guard.
        powers: of those that carry the work.
        numbers: time constants of the noise, and the spread of loadings.
    """
    return tuple(
        _expected(plan, cell, rails, power, pair, numbers)
        for power in powers
        for pair in plan.pairs
    )


def half_width(block_sd: float, step_share: float, blocks: int, pilot_blocks: int) -> float:
    """Half-width of a ratio's 95 % interval as a share, by Stein's interval and the step.

    >>> round(half_width(0.014, 0.0, 10, 10), 4)
    0.0101
    """
    t = student_quantile(0.975, pilot_blocks - 1) * block_sd / math.sqrt(blocks)
    return math.expm1(min(math.hypot(t, step_share), MAX_HALF_WIDTH))


def _expected(
    plan: CampaignPlan,
    cell: Cell,
    rails: Sequence[RailInfo],
    power: ExpectedPower,
    pair: Pair,
    numbers: Coefficients,
) -> ExpectedWidth:
    d, watts = plan.design, (power.watts[pair.denominator], power.watts[pair.numerator])
    u_w = math.hypot(
        _bracket_sd_w(plan, rails, power.noise_w, numbers["noise_tau_s"]),
        _bracket_sd_w(plan, rails, power.slow_noise_w, numbers["slow_noise_tau_s"]),
    )
    loading = numbers["configuration_effect"]
    block_sd = math.hypot(*(math.hypot(loading, u_w / w) for w in watts))
    u_step_w = math.sqrt(2) * step_uncertainty_w(power.info.quantum_w, power.noise_w)  # run, idle
    u_step = math.hypot(*(u_step_w / w for w in watts))
    step_share = COVERAGE_FACTOR * u_step
    # Stein's second stage looks at the spread alone: no number of blocks narrows the step's share
    t = student_quantile(0.975, d.pilot_blocks - 1)
    asked = math.ceil((t * block_sd / math.log1p(d.target_half_width)) ** 2)
    blocks = min(max(asked, d.pilot_blocks), d.max_blocks)
    pilot, wanted, most = (
        half_width(block_sd, step_share, n, d.pilot_blocks)
        for n in (d.pilot_blocks, blocks, d.max_blocks)
    )
    limited = u_step > plan.limits.max_step_to_t * t * block_sd / math.sqrt(blocks)
    return ExpectedWidth(
        cell.index,
        power.info.name,
        pair,
        watts,
        block_sd,
        step_share,
        pilot,
        most,
        blocks,
        wanted,
        limited,
    )


def _sampled_s(plan: CampaignPlan, guard: float) -> float:
    """Time of a run in which rails are sampled."""
    d = plan.design
    return 2 * d.idle_s + d.warm_up_s + d.run_s + guard


def _bracket_sd_w(
    plan: CampaignPlan, rails: Sequence[RailInfo], sigma_w: float, tau_s: float
) -> float:
    """Standard deviation of (mean over the run - mean of its idle windows) by one noise.

    Ornstein-Uhlenbeck noise: covariance sigma^2 exp(-|dt| / tau), integrated over each pair of
    windows in closed form.
    """
    d, guard = plan.design, guard_s(plan, rails)
    run = d.idle_s + d.warm_up_s
    after = run + d.run_s + guard
    windows = (
        (0.0, d.idle_s, -0.5),
        (run + guard, run + d.run_s, 1.0),
        (after, after + d.idle_s, -0.5),
    )
    variance = 0.0
    for i, (a, b, weight) in enumerate(windows):
        x = (b - a) / tau_s
        variance += weight**2 * 2 * (x + math.expm1(-x)) / x**2
        for c, e, other in windows[i + 1 :]:
            ends = ((1, c - b), (-1, c - a), (-1, e - b), (1, e - a))
            between = sum(sign * math.exp(-gap / tau_s) for sign, gap in ends)
            variance += 2 * weight * other * between / (x * (e - c) / tau_s)
    return sigma_w * math.sqrt(max(variance, 0.0))
