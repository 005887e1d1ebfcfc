"""How far a campaign is, from its journal, and each ratio as it stands."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.plan import CampaignPlan, Cell, Design, Pair, RunKey, Stage
from bacmac.power.campaign.ratios import aa_sides, log_ratios, main_sides, whole_blocks
from bacmac.power.campaign.result import RunSummary
from bacmac.power.campaign.run import State
from bacmac.power.statistics import mean_interval


@dataclass(frozen=True)
class StageProgress:
    """One cell's A/A or main blocks.

    Attributes:
        done: valid blocks.
        planned: blocks in all, as far as is known.
        fixed: whether `planned` is final.
        invalid: attempts at a block that do not count.
    """

    cell: int
    stage: Stage
    done: int
    planned: int
    fixed: bool
    invalid: int


@dataclass(frozen=True)
class Progress:
    """How far a campaign is.

    Attributes:
        stages: A/A and main blocks of each cell, in order.
        runs_done: valid runs.
        runs_left: to be made, as far as is known.
        invalid_runs: runs that were made and do not count, by reason.
        running: the run in hand, or that which a crash cut off.
    """

    stages: tuple[StageProgress, ...]
    runs_done: int
    runs_left: int
    invalid_runs: Mapping[str, int]
    running: RunKey | None

    @property
    def complete(self) -> bool:
        """Whether every block of a number that is final is done."""
        return self.runs_left == 0 and all(stage.fixed for stage in self.stages)


def compute_progress(
    states: Sequence[tuple[RunKey, State, str]],
    cells: Sequence[Cell],
    n_arms: int,
    design: Design,
    main_blocks: Sequence[int | None],
) -> Progress:
    """Count blocks and runs.

    Args:
        states: key, state and reason of every run of every attempt.
        cells: of the plan.
        n_arms: runs of a main block; an A/A block has two.
        design: of the plan.
        main_blocks: of each cell, None where the second stage is not decided.
    """
    runs: dict[tuple[int, Stage], dict[tuple[int, int], list[State]]] = {}
    invalid_runs: Counter[str] = Counter()
    for key, state, reason in states:
        blocks = runs.setdefault((key.cell, key.stage), {})
        blocks.setdefault((key.block, key.attempt), []).append(state)
        if state == "invalid":
            invalid_runs[reason] += 1
    stages = []
    left = 0
    for cell, fixed in zip(cells, main_blocks, strict=True):
        rows: tuple[tuple[Stage, int, int], ...] = (
            ("aa", design.aa_blocks, 2),
            ("main", fixed if fixed is not None else design.pilot_blocks, n_arms),
        )
        for stage, planned, size in rows:
            attempts = list(runs.get((cell.index, stage), {}).values())
            left += planned * size - sum(made.count("done") for made in attempts)
            stages.append(
                StageProgress(
                    cell.index,
                    stage,
                    sum(_done(made, size) for made in attempts),
                    planned,
                    stage == "aa" or fixed is not None,
                    sum("invalid" in made for made in attempts),
                )
            )
    return Progress(
        tuple(stages),
        sum(state == "done" for _, state, _ in states),
        left,
        dict(invalid_runs.most_common()),
        next((key for key, state, _ in states if state == "running"), None),
    )


def journal_progress(journal: Journal) -> Progress:
    """How far the campaign of a journal is."""
    plan = journal.plan
    return compute_progress(
        [(state.key, state.state, state.reason) for state in journal.states()],
        plan.cells,
        len(plan.arms),
        plan.design,
        [journal.main_blocks(cell.index) for cell in plan.cells],
    )


def _done(states: Sequence[State], size: int) -> bool:
    return len(states) == size and all(state == "done" for state in states)


@dataclass(frozen=True)
class RunningRatio:
    """A ratio of dynamic energies as it stands: not final, and nothing is stopped by it.

    Attributes:
        pair: which.
        log_ratios: of the blocks so far.
        reason: why there is no ratio, "" where there is one.
    """

    pair: Pair
    log_ratios: tuple[float, ...]
    reason: str = ""

    @property
    def interval(self) -> tuple[float, float, float]:
        """Ratio and the ends of its plain t interval; of two blocks or more."""
        t = mean_interval(self.log_ratios)
        return math.exp(t.centre), math.exp(t.low), math.exp(t.high)

    @property
    def text(self) -> str:
        """Ratio and plain t interval, or why there is none."""
        if self.reason:
            return self.reason
        if len(self.log_ratios) < 2:
            return f"{len(self.log_ratios)} of 2 blocks that an interval needs"
        centre, low, high = self.interval
        return f"{centre:.4f} ({low:.4f} to {high:.4f}) over {len(self.log_ratios)} blocks"


def running_ratios(
    plan: CampaignPlan, cell: int, runs: Sequence[RunSummary], rail: str
) -> tuple[RunningRatio, ...]:
    """Each pair's ratio of dynamic energies in a cell, over its whole main blocks.

    Args:
        plan: gives arms and pairs.
        cell: which.
        runs: valid ones; those of other cells and of A/A blocks do not matter.
        rail: the headline's.
    """
    blocks = whole_blocks(runs, cell, "main", len(plan.arms))
    found = []
    for pair in plan.pairs:
        logs = log_ratios(main_sides(pair, blocks), rail, "dynamic")
        reason = f"no dynamic energy above zero on {rail}" if blocks and not logs else ""
        found.append(RunningRatio(pair, logs, reason))
    return tuple(found)


def aa_ratio(plan: CampaignPlan, cell: Cell, runs: Sequence[RunSummary], rail: str) -> RunningRatio:
    """The first arm's ratio to itself in a cell's A/A blocks, whose truth is 1."""
    name = plan.arms[0].name
    blocks = whole_blocks(runs, cell.index, "aa", len(plan.arms))
    logs = log_ratios(aa_sides(plan.design, cell, blocks), rail, "dynamic")
    reason = f"no dynamic energy above zero on {rail}" if blocks and not logs else ""
    return RunningRatio(Pair(name, name, "A/A"), logs, reason)
