"""What a campaign is: arms, cells, pairs and design, and the order of every run.

Everything is decided here, before the first run: the order of the runs is a pure function of the
plan, so that a campaign that was interrupted goes on as it was planned.

Design: randomised complete blocks (Box, Hunter and Hunter, Statistics for Experimenters, 2nd
edition, chapter 4): each block holds one run of every arm, in random order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bacmac.host.importers.images import ImageSet
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.pack.file import PackedModel
from bacmac.power.campaign.limits import Limits

Stage = Literal["aa", "main"]
"""A/A blocks run the first arm twice: their ratio is known to be 1."""
Question = Literal["saving", "bits", "shift", "A/A"]
"""What a pair tells: MAC over BAC; wide MAC over one of BAC's bits; that one over BAC."""


@dataclass(frozen=True, eq=False)
class PlannedArm:
    """An overlay and the packed model that it runs.

    Attributes:
        name: as in the plan, "bac", "mac8", ...
        overlay: at the clock that it was built for.
        model: packed for it.
    """

    name: str
    overlay: Overlay
    model: PackedModel


@dataclass(frozen=True)
class Cell:
    """One point of the factorial: every arm runs in it.

    Attributes:
        index: its place in the plan.
        batch_images: images held on chip and repeated.
        clock_hz: asked for, None for that which each overlay was built for.
    """

    index: int
    batch_images: int
    clock_hz: float | None


@dataclass(frozen=True)
class Pair:
    """A ratio E_numerator / E_denominator that is to be told."""

    numerator: str
    denominator: str
    question: Question


@dataclass(frozen=True)
class Design:
    """Lengths and numbers.

    Attributes:
        run_s, idle_s, settle_s, warm_up_s, guard_s: as in `bacmac.power.runs.ComparePlan`.
        sample_period_s: nominal time between samples.
        aa_blocks: blocks of the A/A check in each cell; 0 leaves it out, and that is told.
        pilot_blocks: after which the number of blocks is fixed (Stein 1945).
        max_blocks: more are not made in one cell, whatever the pilot asks for.
        target_half_width: wanted half-width of the 95 % interval of each pair's ratio, as a share.
        seed: of orders, sampling jitter and emulated noise.
    """

    run_s: float = 10.0
    idle_s: float = 5.0
    settle_s: float = 1.0
    warm_up_s: float = 1.0
    guard_s: float = 0.5
    sample_period_s: float = 0.02
    aa_blocks: int = 10
    pilot_blocks: int = 10
    max_blocks: int = 60
    target_half_width: float = 0.01
    seed: int = 0


@dataclass(frozen=True, eq=False)
class CampaignPlan:
    """A validated campaign.

    Attributes:
        name: of the campaign.
        text: the TOML it was read from, as it was.
        sha256: of the resolved plan: text, overlays, models and images.
        board: name of the board it is for, a label of the user's; with several boards each has a
            journal of its own.
        device, rails: words.
        rail_names: rails to sample; none means all.
        images: what every arm classifies.
        arms, cells, pairs, design, limits: see there.
        accept_timing: overlays that are not known to meet timing may run, and are marked.
    """

    name: str
    text: str
    sha256: str
    board: str
    device: str
    rails: str
    rail_names: tuple[str, ...]
    images: ImageSet
    arms: tuple[PlannedArm, ...]
    cells: tuple[Cell, ...]
    pairs: tuple[Pair, ...]
    design: Design
    limits: Limits
    accept_timing: bool = False

    def arm(self, name: str) -> PlannedArm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)


@dataclass(frozen=True, order=True)
class RunKey:
    """Which run: cell, stage, block, attempt at that block, place in it, arm.

    An invalid run makes its block invalid; the block is made again as a whole, as the next attempt,
    in the same order.
    """

    cell: int
    stage: Stage
    block: int
    attempt: int
    position: int
    arm: str


def block_order(plan: CampaignPlan, cell: int, stage: Stage, block: int) -> tuple[str, ...]:
    """Arms of a block in the order in which they run: a function of the plan alone.

    Orders are balanced over consecutive blocks: as many as there are arms hold each arm once in
    each place (a random Latin square of cyclic shifts, shuffled).
    """
    names = [arm.name for arm in plan.arms]
    if stage == "aa":
        return (names[0], names[0])
    n = len(names)
    square, row = divmod(block, n)
    rng = np.random.default_rng([plan.design.seed, 0xB10C, cell, square])
    shuffled = [names[i] for i in rng.permutation(n)]
    shift = int(rng.permutation(n)[row])
    return tuple(shuffled[shift:] + shuffled[:shift])


def block_keys(
    plan: CampaignPlan, cell: int, stage: Stage, block: int, attempt: int = 0
) -> tuple[RunKey, ...]:
    """The runs of one attempt at a block, in order."""
    order = block_order(plan, cell, stage, block)
    return tuple(RunKey(cell, stage, block, attempt, i, arm) for i, arm in enumerate(order))


def planned_blocks(
    plan: CampaignPlan, main_blocks: Sequence[int]
) -> tuple[tuple[int, Stage, int], ...]:
    """Every block (cell, stage, block) in the order of the campaign.

    Args:
        plan: the campaign.
        main_blocks: of each cell; the pilot's number before it is known.
    """
    blocks: list[tuple[int, Stage, int]] = []
    for cell, n in zip(plan.cells, main_blocks, strict=True):
        blocks += [(cell.index, "aa", block) for block in range(plan.design.aa_blocks)]
        blocks += [(cell.index, "main", block) for block in range(n)]
    return tuple(blocks)
