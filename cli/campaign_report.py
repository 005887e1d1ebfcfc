"""`bacmac campaign report` and `diff`: what a campaign shows, and whether another one agrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from bacmac.cli.choices import FILE, OUTPUT
from bacmac.cli.output import json_option, note, print_json, print_table, say
from bacmac.power.campaign.diff import (
    CampaignDiff,
    Difference,
    RatioChange,
    Side,
    diff_campaigns,
    property_differences,
)
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.side import campaign_side
from bacmac.power.compare import ratio_text
from bacmac.power.report import require_report


@click.command()
@click.argument("journal", type=FILE)
@click.option(
    "-o",
    "--output",
    type=OUTPUT,
    help="Name of what is written, without an ending [default: the journal's, in this folder].",
)
@click.option(
    "--trace-block",
    type=click.IntRange(1),
    help="Block whose power is drawn [default: the first valid one].",
)
def report(journal: Path, output: Path | None, trace_block: int | None) -> None:
    """Write the report of JOURNAL: NAME.html, NAME.tex, NAME.bib, NAME-figures.

    Every figure is computed anew from the raw samples. The page is one file that needs no network
    and no script; figures are SVG and PDF for a paper. The same journal gives the same bytes.
    """
    require_report()
    from bacmac.power.campaign.report import write_report  # needs the extra

    name = output or Path(journal.stem)
    with Journal.open(journal) as opened:
        written = write_report(name, opened, trace_block=trace_block)
    for path in written:
        note(f"written: {path}")


@click.command()
@click.argument("a", type=FILE)
@click.argument("b", type=FILE)
@click.option(
    "--varying",
    multiple=True,
    metavar="PROPERTY",
    help="A property that may differ because it is what is compared, as `board`, `overlay`, "
    "`model`, `clock`, `limit`; may be given again.",
)
@json_option
def diff(a: Path, b: Path, varying: Sequence[str], as_json: bool) -> None:
    """Compare the ratios of campaigns A and B, journals both, like with like.

    Where anything that moves energy differs the comparison is refused, and every property that
    differs is named. An emulated campaign is never compared with a measured one.
    """
    sides = []
    for path in (a, b):
        with Journal.open(path) as opened:
            sides.append(campaign_side(path, opened))
    if not as_json:
        _print_unlike(*sides)
    found = diff_campaigns(*sides, varying=varying)
    if as_json:
        print_json(_payload(found))
        return
    say(found.headline)
    origin = "EMULATED: " if found.a.emulated or found.b.emulated else ""
    say(f"{origin}A is {a}, B is {b}")
    for cell in dict.fromkeys(change.key[0] for change in found.changes):
        print_table(
            ["ratio", "of", "A", "B", "B / A", "95 % interval", ""],
            [_row(change) for change in found.changes if change.key[0] == cell],
            title=f"{origin}{cell}",
            numbers=(2, 3, 4),
        )
    for key in found.only_in_one:
        note(f"only one campaign has: {', '.join(key)}")
    _print_differences(found.remarks, "what else differs")


def _row(change: RatioChange) -> tuple[str, ...]:
    _, pair, rail, energy = change.key
    return (
        pair.partition(" (")[0].replace(" ", ""),
        f"{rail} {energy}",
        ratio_text(change.ratio_a),
        ratio_text(change.ratio_b),
        ratio_text(change.change),
        f"{ratio_text(change.low)} to {ratio_text(change.high)}",
        change.verdict,
    )


def _print_unlike(a: Side, b: Side) -> None:
    """Every property that differs, whole: an error's one line has no room for them."""
    _print_differences(property_differences(a, b), "properties that differ")


def _print_differences(rows: Sequence[Difference], title: str) -> None:
    if rows:
        say(f"{title}:")  # a title would be folded to the width of a narrow table
        print_table(
            ["what", "A", "B"],
            [(row.item, row.a or "none", row.b or "none") for row in rows],
            prose=(1, 2),
        )


def _payload(found: CampaignDiff) -> dict[str, Any]:
    return {
        "schema": "bacmac.campaign_diff",
        "schema_version": 1,
        "emulated": found.a.emulated or found.b.emulated,
        "headline": found.headline,
        "a": found.a.file,
        "b": found.b.file,
        "varied": [asdict(row) for row in found.varied],
        "remarks": [asdict(row) for row in found.remarks],
        "ratios": [{**asdict(change), "verdict": change.verdict} for change in found.changes],
        "only_in_one": [list(key) for key in found.only_in_one],
    }
