"""A campaign in words: cells, ratios, figures, times; with nothing that draws."""

from __future__ import annotations

import datetime
import math

from bacmac.power.campaign.plan import Cell
from bacmac.power.campaign.result import CampaignResult, Figure, PairRatio
from bacmac.power.campaign.stored import StoredPlan
from bacmac.power.compare import ratio_text
from bacmac.power.units import si_scale


def cell_text(cell: Cell) -> str:
    """A cell in words."""
    clock = "" if cell.clock_hz is None else f", {cell.clock_hz / 1e6:g} MHz"
    return f"batch {cell.batch_images}{clock}"


def pair_text(ratio: PairRatio) -> str:
    """A pair in words, as "mac8 / bac (saving)"."""
    pair = ratio.pair
    return f"{pair.numerator} / {pair.denominator} ({pair.question})"


def interval_text(ratio: PairRatio) -> str:
    """Ratio and interval in words, or why there is none."""
    e = ratio.estimate
    if e is None:
        return "none"
    return f"{ratio_text(e.ratio)} ({ratio_text(e.low)} to {ratio_text(e.high)})"


def place(plan: StoredPlan, result: CampaignResult) -> str:
    """Where it was, in words."""
    if not result.emulated:
        return plan.board
    return "an emulated board" if plan.board == "emulated" else f"an emulated {plan.board}"


def figure_text(figure: Figure, unit: str) -> str:
    """Mean, Type A half-width and Type B uncertainty with one prefix, to two digits of the A.

    Terms of Type B that are not known are not in the second; where none is known it is left out.
    """
    centre, half, u_b = figure.mean.centre, figure.mean.half_width, figure.type_b.combined
    factor, prefix = si_scale(max(abs(centre), half))
    digits = _digits(half * factor) if half > 0 else 3
    texts = [f"{value * factor:.{digits}f}" for value in (centre, half)]
    b = f" (B: {plain_text(u_b * factor, 2)})" if u_b > 0 else ""
    return f"{texts[0]} ± {texts[1]}{b} {prefix}{unit}"


def plain_text(value: float, digits: int = 4) -> str:
    """A number above 0 to so many digits, never with an exponent."""
    return f"{value:,.{_digits(value, digits)}f}"


def share_text(share: float) -> str:
    """A difference as a share, or as a factor where it is large."""
    return f"a factor of {1 + share:.1f}" if share >= 1 else f"{share:.2%}"


def _digits(value: float, digits: int = 2) -> int:
    """Decimals that show so many digits of a value above 0."""
    return min(max(0, digits - 1 - math.floor(math.log10(value))), 12)


def headline_sentence(plan: StoredPlan, ratio: PairRatio) -> str:
    """What a ratio says, in a sentence; with the smallest difference that could be shown."""
    pair, e = ratio.pair, ratio.estimate
    where = f"{ratio.quantity} energy per inference on {ratio.rail}"
    if len(plan.cells) > 1:
        where += f", {cell_text(plan.cells[ratio.cell])}"
    could = ""
    if ratio.smallest_difference is not None:
        could = (
            f" {len(ratio.blocks)} blocks could have shown {share_text(ratio.smallest_difference)}."
        )
    if e is None:
        return f"{pair.question}: not resolvable: {ratio.reason}.{could}"
    said = {
        "lower": f"{pair.denominator} takes less",
        "higher": f"{pair.denominator} takes more",
        "not resolvable": "not resolvable",
    }[e.verdict]
    value = f"E_{pair.numerator} / E_{pair.denominator} = {interval_text(ratio)}"
    return f"{pair.question[:1].upper()}{pair.question[1:]}: {said}: {value}, {where}.{could}"


def time_text(wall_ns: int) -> str:
    """A wall clock's time in words, UTC."""
    moment = datetime.datetime.fromtimestamp(wall_ns // 10**9, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def si_text(value: float, unit: str, digits: int = 4) -> str:
    """A value with an SI prefix: 1.4e-6, "J" -> "1.4 µJ"."""
    factor, prefix = si_scale(value)
    return f"{value * factor:.{digits}g} {prefix}{unit}"
