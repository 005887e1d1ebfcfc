"""Several boards: the board is the unit, blocks nest in boards.

Blocks of one board tell how well that board is known, not how boards differ. The mean log ratio of
each board is one value; their mean has the t interval of as many values as there are boards
(Snedecor and Cochran, Statistical Methods, 8th edition, section 13.6: the test of a treatment in a
nested design is against the variation between units, not within them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bacmac.host.errors import MismatchError
from bacmac.power.campaign.diff import Side, property_differences
from bacmac.power.campaign.plan import Pair
from bacmac.power.campaign.result import CampaignResult, PairRatio, RatioOf
from bacmac.power.statistics import COVERAGE_FACTOR, MAX_HALF_WIDTH, Verdict, mean_interval

BOARD = "board"
"""The property that differs between boards; everything else has to be the same."""
ADVISED_BOARDS = 3


@dataclass(frozen=True)
class BoardsRatio:
    """One ratio over several boards.

    Attributes:
        cell, pair, rail, quantity: which.
        board_ratios: of each board, in their order.
        ratio: geometric mean over boards.
        low, high: 95 % interval for boards like these.
        sd_between: standard deviation of boards' log ratios, of which `se_within` (root mean
            square of the boards' own standard errors) would be there with equal boards.
        u_step, u_offset: standard uncertainties by the sensors, mean over boards, in ln units;
            boards have sensors of one kind, so their number does not lower them. The offset's is
            None where it is not known.
        smallest_difference: that could just have been shown.
        verdict: what may be said of the denominator's energy.
    """

    cell: int
    pair: Pair
    rail: str
    quantity: RatioOf
    board_ratios: tuple[float, ...]
    ratio: float
    low: float
    high: float
    sd_between: float
    se_within: float
    u_step: float
    u_offset: float | None
    smallest_difference: float
    verdict: Verdict


@dataclass(frozen=True)
class BoardsResult:
    """What several boards say together.

    Attributes:
        boards: their labels.
        emulated: whether any of them is a model.
        headline_rail: of the headline's ratios.
        ratios: that every board has.
        missing: ratios that a board lacks, as words.
        notes: what a reader has to know.
    """

    boards: tuple[str, ...]
    emulated: bool
    headline_rail: str
    ratios: tuple[BoardsRatio, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]


def analyse_boards(boards: Sequence[tuple[Side, CampaignResult]]) -> BoardsResult:
    """Ratios over boards, one campaign each.

    Args:
        boards: each campaign as a side of a comparison, and its result; two or more.

    Raises:
        MismatchError: campaigns differ in more than the board, two are of one board, or there is
            only one.
    """
    first, result = boards[0]
    if len(boards) < 2:
        raise MismatchError(first.file, "boards", found="one", expected="two or more")
    for place, (side, other) in enumerate(boards[1:], 1):
        unlike = [row for row in property_differences(first, side) if row.item != BOARD]
        if unlike:
            raise MismatchError(
                side.file,
                ", ".join(row.item for row in unlike),
                found="; ".join(row.b for row in unlike),
                expected=f"{'; '.join(row.a for row in unlike)}, as in {first.file}",
                hint="boards are compared by the same campaign on each",
            )
        same = [s.file for s, r in boards[:place] if r.board == other.board]
        if same:
            raise MismatchError(
                side.file,
                BOARD,
                found=other.board,
                expected=f"another than that of {same[0]}",
                hint="campaigns of one board say nothing of others: give one journal a board",
            )
    found, missing = [], []
    for ratio in result.ratios:
        own = [_same_ratio(ratio, other) for _, other in boards]
        if any(r is None or r.estimate is None for r in own):
            missing.append(
                f"{ratio.pair.numerator} / {ratio.pair.denominator}, {ratio.quantity} on "
                f"{ratio.rail}, cell {ratio.cell}"
            )
            continue
        found.append(_boards_ratio(ratio, [r for r in own if r is not None]))
    emulated = any(other.emulated for _, other in boards)
    return BoardsResult(
        tuple(other.board for _, other in boards),
        emulated,
        result.headline_rail,
        tuple(found),
        tuple(missing),
        tuple(_notes(len(boards), emulated)),
    )


def boards_json(result: BoardsResult) -> dict[str, Any]:
    """As JSON values."""
    return {"schema": "bacmac.boards", "schema_version": 1, **asdict(result)}


def _same_ratio(ratio: PairRatio, other: CampaignResult) -> PairRatio | None:
    wanted = (ratio.cell, ratio.pair, ratio.rail, ratio.quantity)
    return next((r for r in other.ratios if (r.cell, r.pair, r.rail, r.quantity) == wanted), None)


def _boards_ratio(ratio: PairRatio, own: Sequence[PairRatio]) -> BoardsRatio:
    estimates = [r.estimate for r in own if r.estimate is not None]
    means = [e.log_mean for e in estimates]
    logs = [mean.centre for mean in means]
    t = mean_interval(logs)
    u_step = sum(e.u_step for e in estimates) / len(estimates)
    offsets = [e.u_offset for e in estimates if e.u_offset is not None]
    u_offset = sum(offsets) / len(offsets) if len(offsets) == len(estimates) else None
    half_width = min(
        math.hypot(t.high - t.centre, COVERAGE_FACTOR * math.hypot(u_step, u_offset or 0.0)),
        MAX_HALF_WIDTH,
    )
    low, high = math.exp(t.centre - half_width), math.exp(t.centre + half_width)
    within = [mean.widening * mean.sd / math.sqrt(mean.n_blocks) for mean in means]
    return BoardsRatio(
        ratio.cell,
        ratio.pair,
        ratio.rail,
        ratio.quantity,
        tuple(math.exp(value) for value in logs),
        math.exp(t.centre),
        low,
        high,
        float(np.std(logs, ddof=1)),
        math.sqrt(sum(se**2 for se in within) / len(within)),
        u_step,
        u_offset,
        math.expm1(half_width),
        "lower" if low > 1 else "higher" if high < 1 else "not resolvable",
    )


def _notes(n: int, emulated: bool) -> list[str]:
    notes = [f"The board is the unit: {n} values, whatever the number of blocks."]
    if n < ADVISED_BOARDS:
        notes.append(
            f"{n} boards have one degree of freedom: {ADVISED_BOARDS} or more are advised."
        )
    if emulated:
        notes.insert(0, "EMULATED: emulated boards differ in their noise alone.")
    return notes
