"""How a comparison is printed and where it is written."""

from __future__ import annotations

import math
from pathlib import Path

from bacmac.cli.output import note, print_table, say
from bacmac.host.files import write_text
from bacmac.power.analysis import RailResult
from bacmac.power.arms import ArmSummary
from bacmac.power.compare import Comparison, ratio_text
from bacmac.power.report import comparison_text, write_report
from bacmac.power.statistics import Interval, RatioEstimate

_UNITS = (("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6), ("nJ", 1e-9))


def write_comparison(comparison: Comparison, name: Path, *, report: bool) -> None:
    """Write NAME.json, and NAME.html where a report is wanted."""
    data = name.with_name(name.name + ".json")
    write_text(data, comparison_text(comparison))
    note(f"written: {data}")
    if report:
        page = name.with_name(name.name + ".html")
        write_report(page, comparison)
        note(f"written: {page} (open it in a browser; it needs no network)")


def print_comparison(comparison: Comparison) -> None:
    """Headline, then energies, arms, what else differs, and what did not check out."""
    origin = "EMULATED: " if comparison.emulated else ""
    say(comparison.headline)
    print_table(
        ["rail", "energy", "BAC", "MAC", "instrument"],
        [row for rail in comparison.rails for row in _energy_rows(rail)],
        title=f"{origin}energy per inference, mean of {comparison.plan.blocks} runs, 95 % interval",
        numbers=(2, 3),
        prose=(4,),
    )
    print_table(
        ["rail", "energy", "E_MAC / E_BAC", "95 % interval", "BAC is", "could show"],
        [row for rail in comparison.rails for row in _ratio_rows(rail)],
        title=f"{origin}ratio over {comparison.plan.blocks} blocks",
        numbers=(2, 3, 5),
    )
    print_table(
        ["per inference", "BAC", "MAC"],
        list(
            zip(*(_arm_column(arm) for arm in (None, comparison.bac, comparison.mac)), strict=True)
        ),
        title="arms",
        prose=(1, 2),
    )
    different = [row for row in comparison.ledger if row.kind != "same"]
    print_table(
        ["what", "BAC", "MAC", "", "remark"],
        [(row.item, row.a, row.b, row.kind, row.note) for row in different],
        prose=(1, 2, 4),
        title="fairness: what differs, and whether it is the arithmetic that is compared "
        f"({len(comparison.ledger) - len(different)} more properties are the same)",
    )
    failed = [check for check in comparison.checks if not check.passed]
    if failed:
        print_table(
            ["check", "rail", "found"],
            [(check.name, check.rail, check.text) for check in failed],
            prose=(2,),
            title="checks that did not hold",
        )
    else:
        say(f"All {len(comparison.checks)} checks of the data hold.")


def _energy_rows(rail: RailResult) -> list[tuple[object, ...]]:
    name, instrument, bac, mac = rail.info.name, rail.info.instrument, rail.bac, rail.mac
    return [
        (name, "dynamic", _joules(bac.dynamic_j), _joules(mac.dynamic_j), instrument),
        (name, "total", _joules(bac.total_j), _joules(mac.total_j), instrument),
    ]


def _ratio_rows(rail: RailResult) -> list[tuple[object, ...]]:
    return [
        (rail.info.name, "dynamic", *_ratio(rail.dynamic, rail.dynamic_smallest)),
        (rail.info.name, "total", *_ratio(rail.total, rail.total.smallest_difference)),
    ]


def _ratio(ratio: RatioEstimate | None, smallest: float | None) -> tuple[str, ...]:
    """Ratio, interval, verdict, and the smallest difference that could have been shown."""
    could = "" if smallest is None else f"{smallest:.2%}"
    if ratio is None:
        return "", "", "not resolvable", could
    interval = f"{ratio_text(ratio.low)} to {ratio_text(ratio.high)}"
    return ratio_text(ratio.ratio), interval, ratio.verdict, could


def _joules(interval: Interval) -> str:
    """Centre and half width of the 95 % interval, to two digits of the half width."""
    half = (interval.high - interval.low) / 2
    largest = max(abs(interval.centre), half)
    unit, scale = next((u for u in _UNITS if largest >= u[1]), _UNITS[-1])
    digits = max(0, 1 - math.floor(math.log10(half / scale))) if half > 0 else 3
    return f"{interval.centre / scale:.{digits}f} +- {half / scale:.{digits}f} {unit}"


def _arm_column(arm: ArmSummary | None) -> tuple[object, ...]:
    """What a person wants to know of an arm, top to bottom; the names of it for None."""
    if arm is None:
        return (
            "overlay",
            "model",
            "accuracy",
            "equal to the exact engine",
            "zero weights",
            "cycles",
            "products",
            "file [bytes]",
        )
    return (
        arm.overlay,
        arm.model,
        "no labels" if arm.accuracy is None else f"{arm.accuracy:.2%} of {arm.n_images:,}",
        f"all {arm.n_verified:,} checked",
        f"{arm.sparsity:.1%}",
        f"{arm.cycles:,.0f}",
        f"{arm.products_done:,.0f}",
        f"{arm.model_bytes:,}",
    )
