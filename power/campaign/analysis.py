"""From the runs of a campaign to its figures: pure, and from raw samples alone.

Each run is reduced to means of its windows as it is read, so that a night of ten rails never lies
in memory; every figure follows from those means. The same samples give the same figures to the
last bit, in whatever process and however often.

Method: the block is the unit; the mean of per-block log ratios with Stein's two-stage interval
(`bacmac.power.statistics.two_stage_mean`), the sensor's step in quadrature. Energies of arms have
the same interval over blocks as Type A, and Type B beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from bacmac.power.analysis import headline_rail
from bacmac.power.campaign.energies import arm_energy, arm_time
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.plan import Cell, Design, Pair, Stage
from bacmac.power.campaign.ratios import (
    aa_sides,
    log_ratios,
    main_sides,
    pair_ratio,
    saving_split,
    whole_blocks,
)
from bacmac.power.campaign.result import (
    BlockCount,
    CampaignResult,
    PairRatio,
    RailResult,
    RailRun,
    RatioOf,
    RunSummary,
)
from bacmac.power.campaign.run import CampaignRun
from bacmac.power.campaign.validity import ValidityRow, validity_table
from bacmac.power.energy import Quantisation, energy_per_inference, quantisation, run_power
from bacmac.power.statistics import second_stage_blocks

QUANTITIES: tuple[RatioOf, ...] = ("dynamic", "total")
STAGES: tuple[Stage, ...] = ("aa", "main")
ADVISED_PILOT = 10
NOISY_SHARE = 0.15
"""The mean logarithm of a value with noise of share s is low by s^2 / 2 (its Taylor series); that
share of a half-width costs one point of coverage."""
WHOLE_BOARD = "the whole board"

Blocks = Mapping[int, Sequence[RunSummary]]
"""Runs of valid blocks by block, in order of their places."""


class Named(Protocol):
    """Something with a name."""

    @property
    def name(self) -> str:
        """Its name."""


class Planned(Named, Protocol):
    """What analysis needs of a plan; a `CampaignPlan` and a journal's plan both have it."""

    @property
    def board(self) -> str:
        """Label of the board."""

    @property
    def sha256(self) -> str:
        """Of the resolved plan."""

    @property
    def arms(self) -> Sequence[Named]:
        """In order; the first one is that of the A/A check."""

    @property
    def cells(self) -> Sequence[Cell]:
        """In order."""

    @property
    def pairs(self) -> Sequence[Pair]:
        """In order."""

    @property
    def design(self) -> Design:
        """Lengths and numbers."""


def analyse_campaign(journal: Journal) -> CampaignResult:
    """Every figure of a campaign, from the raw samples in its journal.

    Raises:
        JournalError: what is stored is damaged.
        TraceTooShortError: a window holds fewer than two samples of a rail.
        ValueError: no block is whole yet.
    """
    planned = {cell.index: journal.main_blocks(cell.index) for cell in journal.plan.cells}
    runs = [summarize_run(run) for run in journal.runs()]
    result = analyse_runs(journal.plan, runs, planned, validity_table(journal.states()))
    return replace(result, emulated=result.emulated or journal.emulated)


def summarize_run(run: CampaignRun) -> RunSummary:
    """Window means and energies of a run; its samples may be forgotten afterwards.

    Raises:
        TraceTooShortError: a window holds fewer than two samples of a rail.
    """
    record = run.record
    rails, infos = {}, {}
    for name, trace in record.trace.rails.items():
        power = run_power(trace, record.before, record.used, record.after)
        rails[name] = RailRun(power, energy_per_inference(power, record.run, record.n_inferences))
        infos[name] = trace.info
    return RunSummary(
        run.key,
        record.run.start_ns,
        run.before.wall_ns,
        run.before.boot_id,
        record.clock_hz,
        record.run.duration_s,
        record.n_inferences,
        dict(run.before.die_c),
        record.trace.emulated or record.provenance != "board",
        infos,
        rails,
    )


def analyse_runs(
    plan: Planned,
    runs: Sequence[RunSummary],
    main_blocks: Mapping[int, int | None],
    validity: Sequence[ValidityRow] = (),
) -> CampaignResult:
    """The figures of these runs.

    Args:
        plan: what they belong to.
        runs: valid ones; those of blocks that are not whole yet are left out.
        main_blocks: number that the second stage fixed, by cell; None before.
        validity: of all runs, valid or not.

    Raises:
        ValueError: no block is whole, or runs have no rail in common.
    """
    blocks = {
        (cell.index, stage): whole_blocks(runs, cell.index, stage, len(plan.arms))
        for cell in plan.cells
        for stage in STAGES
    }
    whole = [run for own in blocks.values() for block in own.values() for run in block]
    if not whole:
        raise ValueError("no block is whole yet: there is nothing to analyse")
    rails = [name for name in whole[0].rails if all(name in run.rails for run in whole)]
    if not rails:
        raise ValueError("no rail was read in every run")
    result = CampaignResult(
        plan.name,
        plan.board,
        plan.sha256,
        any(run.emulated for run in whole),
        False,
        headline_rail(rails),
        tuple(
            BlockCount(
                cell.index,
                stage,
                plan.design.aa_blocks if stage == "aa" else main_blocks.get(cell.index),
                len(blocks[cell.index, stage]),
            )
            for cell in plan.cells
            for stage in STAGES
        ),
        tuple(validity),
        (),
        (),
        (),
        (),
        (),
        tuple(
            ratio
            for cell in plan.cells
            for ratio in aa_ratios(plan, cell, blocks[cell.index, "aa"], rails)
        ),
        tuple(whole),
        (),
    )
    for cell in plan.cells:
        if len(blocks[cell.index, "main"]) >= 2:
            result = _with_cell(result, plan, cell, blocks[cell.index, "main"], rails)
    complete = all(c.planned is not None and c.valid >= c.planned for c in result.blocks)
    result = replace(result, complete=complete)
    partly = sorted({name for run in whole for name in run.rails if name not in rails})
    return replace(result, notes=tuple(_notes(plan, result, partly)))


def _with_cell(
    result: CampaignResult, plan: Planned, cell: Cell, blocks: Blocks, rails: Sequence[str]
) -> CampaignResult:
    """The result with the figures of one cell's main blocks."""
    design, names = plan.design, [arm.name for arm in plan.arms]
    by_arm = {n: [r for b in blocks.values() for r in b if r.key.arm == n] for n in names}
    for rail in rails:
        step = rail_quantisation(blocks, rail)
        ratios = main_ratios(plan, cell, blocks, rail, step)
        splits = (saving_split(design, ratios, quantity) for quantity in QUANTITIES)
        info = by_arm[names[0]][0].infos[rail]
        limited = any(
            r.estimate.resolution_limited for r in ratios if r.estimate and r.quantity == "dynamic"
        )
        result = replace(
            result,
            rails=(
                *result.rails,
                RailResult(cell.index, info, step, limited, info.feeds == WHOLE_BOARD),
            ),
            energies=(
                *result.energies,
                *(arm_energy(design, cell.index, n, rail, by_arm[n], step) for n in names),
            ),
            ratios=(*result.ratios, *ratios),
            splits=(*result.splits, *(split for some in splits for split in some)),
        )
    times = tuple(arm_time(design, cell.index, n, by_arm[n]) for n in names)
    return replace(result, times=(*result.times, *times))


def main_ratios(
    plan: Planned, cell: Cell, blocks: Blocks, rail: str, step: Quantisation
) -> tuple[PairRatio, ...]:
    """Every pair's ratios of a cell on one rail; two blocks or more."""
    return tuple(
        pair_ratio(
            plan.design,
            cell,
            "main",
            pair,
            tuple(blocks),
            main_sides(pair, blocks),
            rail,
            quantity,
            step,
            n_joint=len(plan.pairs),
        )
        for pair in plan.pairs
        for quantity in QUANTITIES
    )


def aa_ratios(
    plan: Planned, cell: Cell, blocks: Blocks, rails: Sequence[str]
) -> tuple[PairRatio, ...]:
    """Ratios of the A/A check of a cell, truly 1; none below two blocks."""
    if len(blocks) < 2:
        return ()
    arm = plan.arms[0].name
    return tuple(
        pair_ratio(
            plan.design,
            cell,
            "aa",
            Pair(arm, arm, "A/A"),
            tuple(blocks),
            aa_sides(plan.design, cell, blocks),
            rail,
            quantity,
            rail_quantisation(blocks, rail),
        )
        for rail in rails
        for quantity in QUANTITIES
    )


def rail_quantisation(blocks: Blocks, rail: str) -> Quantisation:
    """What the step of a rail's sensor does, from the spread within every window of a cell.

    Noise is pooled apart for idle and run of each arm, and the least counts: where one of them
    lies at the edge of a step its readings jump between two values, which looks like noise of
    0.4 steps whatever the noise is. (Simulated, noise of 0.19 steps on a settled board: what
    rounding does to a ratio is then inside 1.96 u_q in all of 600 campaigns, with one median over
    all windows in 97 %.)
    """
    info = next(iter(blocks.values()))[0].infos[rail]
    idle: defaultdict[str, list[float]] = defaultdict(list)
    run: defaultdict[str, list[float]] = defaultdict(list)
    for block in blocks.values():
        for one in block:
            power = one.rails[rail].power
            idle[one.key.arm] += [power.before.sd_w, power.after.sd_w]
            run[one.key.arm].append(power.run.sd_w)
    pooled = [quantisation(info, sds) for sds in (*idle.values(), *run.values())]
    return min(pooled, key=lambda step: step.noise_w)


def blocks_needed(plan: Planned, cell: Cell, runs: Sequence[RunSummary], rail: str) -> int:
    """Main blocks that a cell needs in all: Stein's second stage, decided from its pilot alone.

    Pairs of which no ratio can be formed on this rail ask for none: more blocks would not help.

    Args:
        plan: gives pilot, target and limit.
        cell: which.
        runs: valid ones; those beyond the pilot's blocks do not matter.
        rail: the headline's, of `headline_rail`.

    Raises:
        ValueError: the pilot is not whole.
    """
    design = plan.design
    blocks = whole_blocks(runs, cell.index, "main", len(plan.arms))
    missing = [block for block in range(design.pilot_blocks) if block not in blocks]
    if missing:
        raise ValueError(f"the pilot of cell {cell.index} has no whole block {missing[0]}")
    pilot = {block: blocks[block] for block in range(design.pilot_blocks)}
    logs = [log_ratios(main_sides(pair, pilot), rail, "dynamic") for pair in plan.pairs]
    return second_stage_blocks(
        [values for values in logs if values],
        design.target_half_width,
        design.pilot_blocks,
        design.max_blocks,
    )


def _notes(plan: Planned, result: CampaignResult, partly: Sequence[str]) -> Iterator[str]:
    """What a reader has to know of the figures; `partly` are rails that some runs lack."""
    if result.emulated:
        yield "EMULATED: a model gave these figures; they say nothing of a board."
    if not result.complete:
        yield "The campaign is not complete: these figures are not final."
    yield (
        "Errors of a sensor's gain and shunt multiply the energies of all arms alike: they cancel "
        "in every ratio and are in no ratio's interval. A sensor's offset cancels in dynamic "
        "energies; in ratios of totals it is part of the interval."
    )
    unknown = sorted({(e.rail, *e.total_j.type_b.unknown) for e in result.energies})
    for name, *terms in unknown:
        if terms:
            yield (
                f"{name}: no limit of the sensor's {', '.join(terms)} is known: absolute energies "
                "lack that term."
            )
    if partly:
        yield f"Left out, since not read in every run: {', '.join(partly)}."
    for rail in result.rails:
        if rail.limited:
            yield (
                f"{rail.info.name}, cell {rail.cell}: limited by the sensor's step of "
                f"{rail.quantisation.quantum_w * 1e3:.3g} mW, not by the number of blocks."
            )
    widened = [
        r for r in result.ratios if r.estimate is not None and r.estimate.log_mean.widening > 1
    ]
    if widened:
        yield (
            f"{len(widened)} of {len(result.ratios)} ratios have neighbouring blocks alike; their "
            "intervals are wider for it."
        )
    noisy = [
        r.estimate.log_mean.sd
        for r in result.ratios
        if r.estimate and r.estimate.log_mean.sd**2 / 2 > NOISY_SHARE * r.estimate.half_width
    ]
    if noisy:
        yield (
            f"{len(noisy)} of {len(result.ratios)} ratios scatter by up to {max(noisy):.0%} from "
            "block to block: logarithms of energies that noisy are biased, the ratio by up to "
            f"{max(noisy) ** 2 / 2:.1%}. Longer runs help, more blocks do not."
        )
    if plan.design.pilot_blocks < ADVISED_PILOT:
        yield (
            f"The pilot had {plan.design.pilot_blocks} blocks; {ADVISED_PILOT} or more are advised."
        )
    if not plan.design.aa_blocks:
        yield "No A/A check was planned: nothing shows that equal arms measure equal."
    yield "A ratio from one board is a statement about that board."
