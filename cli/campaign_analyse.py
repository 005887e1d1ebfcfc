"""`bacmac campaign analyse`: every figure again from the raw samples, of one board or several."""

from __future__ import annotations

import math
from pathlib import Path

import click

from bacmac.cli.choices import FILE
from bacmac.cli.output import json_option, note, print_json, print_table, say
from bacmac.host.errors import MismatchError
from bacmac.power.campaign.analysed import analysed, own_version
from bacmac.power.campaign.boards import BoardsResult, analyse_boards, boards_json
from bacmac.power.campaign.diff import Side
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.result import (
    ArmEnergy,
    CampaignResult,
    Figure,
    PairRatio,
    RailResult,
    RatioEstimate,
    SavingSplit,
    largest_difference,
    result_json,
)
from bacmac.power.campaign.side import side_of
from bacmac.power.compare import ratio_text

_UNITS = (("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6), ("nJ", 1e-9))


@click.command()
@click.argument("journals", type=FILE, nargs=-1, required=True)
@json_option
def analyse(journals: tuple[Path, ...], as_json: bool) -> None:
    """Compute every figure of JOURNALS again from the raw samples.

    Figures that a journal holds from before have to come out again, to a relative 1e-12. With
    journals of several boards, one each, boards are the unit of the ratios.
    """
    found = [_analysed(path) for path in journals]
    if len(found) > 1:
        result = analyse_boards([(side, own) for side, own, _ in found])
        if as_json:
            print_json(boards_json(result))
        else:
            _print_boards(result)
        return
    _, own, reproduced = found[0]
    if as_json:
        print_json(result_json(own))
        return
    print_result(own)
    say(reproduced)


def _analysed(path: Path) -> tuple[Side, CampaignResult, str]:
    """A journal's side and figures, and how they agree with those it holds.

    Raises:
        MismatchError: they do not.
    """
    with Journal.open(path) as journal:
        result, stored = analysed(journal), journal.result()
        limit = journal.limits.max_reanalysis_share
        side = side_of(str(path), journal.plan, result, own_version())
    if stored is None:
        return side, result, "The journal holds no figures from before to compare with."
    if not result.complete or not stored.get("complete"):
        return side, result, "The figures stored are of a campaign that was not complete."
    share, where = largest_difference(stored, result_json(result))
    if share > limit:
        raise MismatchError(
            path,
            f"stored figures, {where}",
            found=f"a relative difference of {share:.2g} from those analysed again",
            expected=f"{limit:g} at most",
            hint="another version of bacmac stored them, or the file was changed",
        )
    said = "to the last bit" if share == 0 else f"within {share:.1g}"
    return side, result, f"The figures stored come out again from the raw samples, {said}."


def print_result(result: CampaignResult) -> None:
    """Figures of one campaign, a table a rail; notes on standard error."""
    for ratio in result.headline():
        say(_sentence(result, ratio))
    for rail in result.rails:
        _print_rail(result, rail)
    if result.aa:
        print_table(
            ["cell", "rail", *_RATIO, "contains 1"],
            [(ratio.cell, ratio.rail, *_ratio(ratio), _contains_one(ratio)) for ratio in result.aa],
            numbers=(4,),
            title=f"{_origin(result.emulated)}A/A, one arm against itself",
        )
    for text in result.notes:
        note(text)


def _print_rail(result: CampaignResult, rail: RailResult) -> None:
    cell, name = rail.cell, rail.info.name
    where = f"{_origin(result.emulated)}cell {cell}, {name}"
    ratios = [r for r in result.ratios if (r.cell, r.rail) == (cell, name)]
    print_table(
        [*_RATIO, "could show", "verdict"],
        [
            (*_ratio(r), "" if (d := r.smallest_difference) is None else f"{d:.2%}", _verdict(r))
            for r in ratios
        ],
        numbers=(2, 4),
        prose=(3, 5),
        title=f"{where}: ratios of energy",
    )
    print_table(
        ["pair", "energy", "blocks", "robust", "lag-1", "widened", "p of place"],
        [_holds(r, r.estimate) for r in ratios if r.estimate is not None],
        numbers=(2, 3, 4, 5, 6),
        title=f"{where}: how they hold",
    )
    energies = [e for e in result.energies if (e.cell, e.rail) == (cell, name)]
    print_table(
        ["arm", "dynamic", "static", "total", "inf/s/W"],
        [
            (
                e.arm,
                *(_figure(f) for f in (e.dynamic_j, e.static_j, e.total_j)),
                f"{e.inferences_per_s_per_w.mean.centre:.5g}",
            )
            for e in energies
        ],
        numbers=(4,),
        title=f"{where}: energy of an inference",
    )
    for split in result.splits:
        if (split.cell, split.rail) == (cell, name):
            say(_split_sentence(split))
    if energies:
        say(_type_b_sentence(energies[0]))
    say("")


def _print_boards(result: BoardsResult) -> None:
    print_table(
        ["cell", "pair", "rail", "energy", "ratio", "95 % interval", *result.boards, "verdict"],
        [
            (
                r.cell,
                f"{r.pair.numerator} / {r.pair.denominator}",
                r.rail,
                r.quantity,
                ratio_text(r.ratio),
                f"{ratio_text(r.low)} to {ratio_text(r.high)}",
                *(ratio_text(ratio) for ratio in r.board_ratios),
                r.verdict,
            )
            for r in result.ratios
        ],
        numbers=(4, *range(6, 6 + len(result.boards))),
        title=f"{_origin(result.emulated)}ratios over {len(result.boards)} boards",
    )
    for missing in result.missing:
        note(f"Left out, since a board has no such ratio: {missing}.")
    for text in result.notes:
        note(text)


_RATIO = ("pair", "energy", "ratio", "95 % interval")


def _origin(emulated: bool) -> str:
    return "EMULATED: " if emulated else ""


def _sentence(result: CampaignResult, ratio: PairRatio) -> str:
    """The answer of one pair, with what could have been shown."""
    numerator, denominator = ratio.pair.numerator, ratio.pair.denominator
    where = f"dynamic energy per inference on {ratio.rail}, cell {ratio.cell}"
    could = ""
    if ratio.smallest_difference is not None:
        could = f" {len(ratio.blocks)} blocks could have shown {ratio.smallest_difference:.2%}."
    e, origin = ratio.estimate, "EMULATED, an estimate by a model. " if result.emulated else ""
    if e is None:
        return f"{origin}Not resolvable: {ratio.reason}.{could}"
    said = {
        "lower": f"{denominator} takes less than {numerator}",
        "higher": f"{denominator} takes more than {numerator}",
        "not resolvable": f"Not resolvable whether {denominator} takes less than {numerator}",
    }[e.verdict]
    limited = " The sensor's step sets the interval." if e.resolution_limited else ""
    return (
        f"{origin}{said}: ratio {ratio_text(e.ratio)} (95 % interval {ratio_text(e.low)} to "
        f"{ratio_text(e.high)}), {where}.{limited}{could}"
    )


def _ratio(ratio: PairRatio) -> tuple[str, ...]:
    """Pair, energy, ratio and interval."""
    pair, e = f"{ratio.pair.numerator} / {ratio.pair.denominator}", ratio.estimate
    if e is None:
        return pair, ratio.quantity, "", ratio.reason
    interval = f"{ratio_text(e.low)} to {ratio_text(e.high)}"
    return pair, ratio.quantity, ratio_text(e.ratio), interval


def _verdict(ratio: PairRatio) -> str:
    limited = ratio.estimate is not None and ratio.estimate.resolution_limited
    return f"{ratio.verdict}, limited by step" if limited else ratio.verdict


def _holds(ratio: PairRatio, e: RatioEstimate) -> tuple[object, ...]:
    mean = e.log_mean
    return (
        f"{ratio.pair.numerator} / {ratio.pair.denominator}",
        ratio.quantity,
        mean.n_blocks,
        ratio_text(e.robust.centre),
        "" if mean.lag1 is None else f"{mean.lag1:+.2f}",
        "no" if mean.widening == 1 else f"x {mean.widening:.2f}",
        "" if e.position_p is None else f"{e.position_p:.2g}",
    )


def _contains_one(ratio: PairRatio) -> str:
    if ratio.estimate is None:
        return ""
    return "yes" if ratio.verdict == "not resolvable" else "NO"


def _split_sentence(split: SavingSplit) -> str:
    saving = f"{split.quantity} saving {split.pair.numerator} / {split.pair.denominator}"
    if split.shift_share is None:
        return f"The {saving} is not split: {split.reason}."
    low, high = split.shift_share.low, split.shift_share.high
    return (
        f"Of the {saving} (its logarithm) {split.shift_share.centre:.0%} is the shift's "
        f"({low:.0%} to {high:.0%}), the rest that of fewer weight bits."
    )


def _type_b_sentence(energy: ArmEnergy) -> str:
    """Type B of an absolute total, of one arm: relative to it, the arms hardly differ."""
    b, total_j = energy.total_j.type_b, energy.total_j.mean.centre
    terms = [("step", b.step), ("gain", b.gain), ("shunt", b.shunt), ("offset", b.offset)]
    told = [
        f"{name} {'unknown' if u is None else f'{abs(u / total_j):.2%}'}"
        for name, u in terms
        if u is None or u > 0
    ]
    what = "; ".join(told) or "none"
    return f"Above is Type A. Type B of a total, one standard uncertainty by the sensor: {what}."


def _figure(figure: Figure) -> str:
    return _joules(figure.mean.centre, figure.mean.half_width)


def _joules(centre: float, half: float) -> str:
    """To two digits of the half width."""
    largest = max(abs(centre), half)
    unit, scale = next((u for u in _UNITS if largest >= u[1]), _UNITS[-1])
    digits = max(0, 1 - math.floor(math.log10(half / scale))) if half > 0 else 3
    return f"{centre / scale:.{digits}f} +- {half / scale:.{digits}f} {unit}"
