"""Ratios of a cell's pairs from the runs of its blocks, and what of a saving is the shift's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bacmac.power.analysis import ROUNDING
from bacmac.power.campaign.plan import Cell, Design, Pair, Stage
from bacmac.power.campaign.result import (
    PairRatio,
    RailRun,
    RatioEstimate,
    RatioOf,
    RunSummary,
    SavingSplit,
)
from bacmac.power.energy import Quantisation
from bacmac.power.rails import RailInfo
from bacmac.power.statistics import (
    COVERAGE_FACTOR,
    LEVEL,
    MAX_HALF_WIDTH,
    Interval,
    hodges_lehmann,
    position_effect_p,
    quotient_interval,
    two_stage_mean,
)

Sides = Sequence[tuple[RunSummary, RunSummary]]
"""Numerator's and denominator's run of each block."""


def whole_blocks(
    runs: Sequence[RunSummary], cell: int, stage: Stage, n_arms: int
) -> dict[int, tuple[RunSummary, ...]]:
    """Runs by block, in order of their places; blocks that are not whole yet are left out."""
    found: dict[int, dict[int, RunSummary]] = {}
    for run in runs:
        if (run.key.cell, run.key.stage) == (cell, stage):
            found.setdefault(run.key.block, {})[run.key.position] = run
    wanted = list(range(2 if stage == "aa" else n_arms))
    return {
        block: tuple(places[place] for place in wanted)
        for block, places in sorted(found.items())
        if sorted(places) == wanted and len({r.key.attempt for r in places.values()}) == 1
    }


def main_sides(pair: Pair, blocks: Mapping[int, Sequence[RunSummary]]) -> Sides:
    """The pair's two runs of each block."""
    by_arm = [{run.key.arm: run for run in block} for block in blocks.values()]
    return [(arms[pair.numerator], arms[pair.denominator]) for arms in by_arm]


def aa_sides(design: Design, cell: Cell, blocks: Mapping[int, Sequence[RunSummary]]) -> Sides:
    """Which of the two equal runs of an A/A block stands for which arm.

    As many first runs are numerators as not, at random: as in main blocks, so that an effect of
    order shows as one and does not look like a difference of arms. A function of the plan alone.
    """
    sides = []
    for block, (first, second) in blocks.items():
        pair_of_blocks, place = divmod(block, 2)
        rng = np.random.default_rng([design.seed, 0xAA, cell.index, pair_of_blocks])
        numerator_first = bool(rng.permutation(2)[place])
        sides.append((first, second) if numerator_first else (second, first))
    return sides


def log_ratios(sides: Sides, rail: str, quantity: RatioOf) -> tuple[float, ...]:
    """ln(E_numerator / E_denominator) of each block; () where an energy is not above zero."""
    if any(not_positive(run.rails[rail], quantity) for side in sides for run in side):
        return ()
    return tuple(
        math.log(_energy_j(one.rails[rail], quantity) / _energy_j(other.rails[rail], quantity))
        for one, other in sides
    )


def not_positive(run: RailRun, quantity: RatioOf) -> bool:
    """Whether no ratio can be made of a run's energy: it is kept, and told."""
    watts = run.power.dynamic_w if quantity == "dynamic" else run.power.run.mean_w
    return watts <= ROUNDING * abs(run.power.idle_w)


def pair_ratio(
    design: Design,
    cell: Cell,
    stage: Stage,
    pair: Pair,
    blocks: Sequence[int],
    sides: Sides,
    rail: str,
    quantity: RatioOf,
    step: Quantisation,
    n_joint: int = 1,
) -> PairRatio:
    """One ratio with all that is said of it.

    Args:
        design: gives the pilot.
        cell: which.
        stage: which.
        pair: which.
        blocks: their numbers, ascending; two or more.
        sides: the pair's runs of each.
        rail: of what.
        quantity: of what.
        step: the rail's, in this cell.
        n_joint: ratios whose joint intervals shall hold together.
    """
    pilot = design.pilot_blocks if stage == "main" else len(blocks)
    logs = log_ratios(sides, rail, quantity)
    places = (
        tuple(numerator.key.position for numerator, _ in sides),
        tuple(denominator.key.position for _, denominator in sides),
    )
    powers = [_mean_w([side[i].rails[rail] for side in sides], quantity) for i in (0, 1)]
    u_w = step.u_window_w * (math.sqrt(2) if quantity == "dynamic" else 1.0)
    reason, estimate = "", None
    if logs:
        info = sides[0][0].infos[rail]
        u_step = math.hypot(*(u_w / watts for watts in powers))
        u_offset = 0.0 if quantity == "dynamic" else _u_offset(info, *powers)
        estimate = ratio_estimate(logs, places, pilot, u_step, u_offset, n_joint)
        smallest: float | None = math.expm1(estimate.half_width)
    else:
        count = sum(not_positive(run.rails[rail], quantity) for side in sides for run in side)
        reason = f"{count} of {2 * len(sides)} runs show no {quantity} energy above zero on {rail}"
        smallest = _smallest_without_ratio(sides, rail, quantity, u_w, powers, pilot)
    return PairRatio(
        cell.index,
        stage,
        pair,
        rail,
        quantity,
        tuple(blocks),
        logs,
        *places,
        estimate,
        reason,
        smallest,
    )


def ratio_estimate(
    logs: Sequence[float],
    places: tuple[Sequence[int], Sequence[int]],
    pilot: int,
    u_step: float = 0.0,
    u_offset: float | None = 0.0,
    n_joint: int = 1,
) -> RatioEstimate:
    """Estimate from the log ratios of two blocks or more.

    Args:
        logs: finite, in order of blocks.
        places: the numerator's and the denominator's in each block.
        pilot: number of first blocks that give the spread.
        u_step: standard uncertainty of every log ratio by the sensor's step.
        u_offset: by its offset, None where it is not known.
        n_joint: ratios whose joint intervals shall hold together.
    """
    mean = two_stage_mean(logs, pilot)
    joint = two_stage_mean(logs, pilot, 1 - (1 - LEVEL) / n_joint)
    type_b = COVERAGE_FACTOR * math.hypot(u_step, u_offset or 0.0)
    half, joint_half = (
        min(math.hypot(m.half_width, type_b), MAX_HALF_WIDTH) for m in (mean, joint)
    )
    robust = hodges_lehmann(logs)
    ratio = math.exp(mean.centre)
    low, high = math.exp(mean.centre - half), math.exp(mean.centre + half)
    return RatioEstimate(
        ratio,
        low,
        high,
        mean,
        u_step,
        u_offset,
        half,
        math.exp(mean.centre - joint_half),
        math.exp(mean.centre + joint_half),
        Interval(
            math.exp(robust.centre), math.exp(robust.low), math.exp(robust.high), robust.level
        ),
        math.expm1(robust.centre - mean.centre),
        position_effect_p(logs, *places),
        "lower" if low > 1 else "higher" if high < 1 else "not resolvable",
        u_step > mean.half_width / 2,
    )


def saving_split(
    design: Design, ratios: Sequence[PairRatio], quantity: RatioOf
) -> tuple[SavingSplit, ...]:
    """Shift's share of every saving that passes through an arm of the same weight bits.

    Args:
        design: gives the pilot.
        ratios: all of one cell and rail.
        quantity: of which energy.
    """
    own = [r for r in ratios if r.quantity == quantity]
    splits = []
    for saving in (r for r in own if r.pair.question == "saving"):
        for shift in (r for r in own if r.pair.question == "shift"):
            wide, middle = saving.pair.numerator, shift.pair.numerator
            bits = [r for r in own if (r.pair.numerator, r.pair.denominator) == (wide, middle)]
            if bits and shift.pair.denominator == saving.pair.denominator:
                splits.append(_split(design, saving, shift, bits[0]))
    return tuple(splits)


def _split(design: Design, saving: PairRatio, shift: PairRatio, bits: PairRatio) -> SavingSplit:
    share, correlation = None, None
    reason = next((r.reason for r in (saving, shift) if r.reason), "")
    estimate = saving.estimate
    if estimate and estimate.resolution_limited:
        reason = f"the sensor's step sets the intervals on {saving.rail}"
    elif estimate and not reason:
        pilot = design.pilot_blocks
        share = quotient_interval(shift.log_ratios, saving.log_ratios, pilot)
        if share is None:
            reason = "the saving itself may be none"
        if len(bits.log_ratios) > 2 and np.ptp(bits.log_ratios) and np.ptp(shift.log_ratios):
            correlation = float(np.corrcoef(bits.log_ratios, shift.log_ratios)[0, 1])
    middle = shift.pair.numerator
    return SavingSplit(
        saving.cell, saving.rail, saving.quantity, saving.pair, middle, share, reason, correlation
    )


def _energy_j(run: RailRun, quantity: RatioOf) -> float:
    return run.energy.dynamic_j if quantity == "dynamic" else run.energy.total_j


def _mean_w(runs: Sequence[RailRun], quantity: RatioOf) -> float:
    watts = [r.power.dynamic_w if quantity == "dynamic" else r.power.run.mean_w for r in runs]
    return sum(watts) / len(watts)


def _u_offset(info: RailInfo, numerator_w: float, denominator_w: float) -> float | None:
    """Of the log of a ratio of totals: one offset of the sensor moves both powers alike."""
    if info.offset_a is None:
        return None
    u_w = info.offset_a * info.nominal_v / math.sqrt(3)
    return abs(u_w / numerator_w - u_w / denominator_w)


def _smallest_without_ratio(
    sides: Sides,
    rail: str,
    quantity: RatioOf,
    u_w: float,
    powers_w: Sequence[float],
    pilot: int,
) -> float | None:
    """Half width of the paired difference over the numerator's energy."""
    if powers_w[0] <= 0:
        return None
    pairs = [[_energy_j(run.rails[rail], quantity) for run in side] for side in sides]
    times_s = [run.rails[rail].energy.time_s for side in sides for run in side]
    paired = two_stage_mean([one - other for one, other in pairs], pilot)
    numerator_j = sum(one for one, _ in pairs) / len(pairs)
    u_j = math.sqrt(2) * u_w * sum(times_s) / len(times_s)
    return math.hypot(paired.half_width, COVERAGE_FACTOR * u_j) / numerator_j
