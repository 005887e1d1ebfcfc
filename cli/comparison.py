"""How a comparison is printed and where it is written."""

from __future__ import annotations

import math
from pathlib import Path

from bacmac.cli.output import note, print_table, say
from bacmac.host.files import write_text
from bacmac.power.analysis import ArmEnergy, RailResult
from bacmac.power.compare import ArmSummary, Comparison, ratio_text
from bacmac.power.report import comparison_text, write_report

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
        ["rail", "energy", "BAC", "MAC", "E_MAC / E_BAC", "95 % interval", "BAC is", "could show"],
        [row for rail in comparison.rails for row in _rail_rows(rail)],
        title=f"{origin}energy per inference, {comparison.plan.blocks} blocks",
        numbers=(2, 3, 4, 5, 7),
    )
    print_table(
        ["arm", "overlay", "model", "accuracy", "zeros", "cycles", "products", "file [bytes]"],
        [_arm_row(name, arm) for name, arm in (("BAC", comparison.bac), ("MAC", comparison.mac))],
        title="arms, per inference",
        numbers=(3, 4, 5, 6, 7),
    )
    different = [row for row in comparison.ledger if row.kind != "same"]
    print_table(
        ["what", "BAC", "MAC", "", "remark"],
        [(row.item, row.a, row.b, row.kind, row.note) for row in different],
        title="fairness: what differs, and whether it is the arithmetic that is compared "
        f"({len(comparison.ledger) - len(different)} more properties are the same)",
    )
    failed = [check for check in comparison.checks if not check.passed]
    if failed:
        print_table(
            ["check", "rail", "found"],
            [(check.name, check.rail, check.text) for check in failed],
            title="checks that did not hold",
        )
    else:
        say(f"All {len(comparison.checks)} checks of the data hold.")


def _rail_rows(rail: RailResult) -> list[tuple[object, ...]]:
    name, instrument = rail.info.name, rail.info.instrument
    rows: list[tuple[object, ...]] = []
    if rail.dynamic is None:
        smallest = "" if rail.dynamic_smallest is None else f"{rail.dynamic_smallest:.1%}"
        rows.append(
            (name, "dynamic", *_joules(rail, "dynamic_j"), "", "", "not resolvable", smallest)
        )
    else:
        rows.append(
            (
                f"{name} ({instrument})",
                "dynamic",
                *_joules(rail, "dynamic_j"),
                f"{ratio_text(rail.dynamic.ratio)}",
                f"{ratio_text(rail.dynamic.low)} to {ratio_text(rail.dynamic.high)}",
                rail.dynamic.verdict,
                f"{rail.dynamic.smallest_difference:.1%}",
            )
        )
    rows.append(
        (
            "",
            "total",
            *_joules(rail, "total_j"),
            f"{rail.total.ratio:.4f}",
            f"{rail.total.low:.4f} to {rail.total.high:.4f}",
            rail.total.verdict,
            f"{rail.total.smallest_difference:.2%}",
        )
    )
    return rows


def _joules(rail: RailResult, which: str) -> tuple[str, str]:
    return _joule(rail.bac, which), _joule(rail.mac, which)


def _joule(arm: ArmEnergy, which: str) -> str:
    """Centre and half width of the 95 % interval, to two digits of the half width."""
    interval = arm.dynamic_j if which == "dynamic_j" else arm.total_j
    half = (interval.high - interval.low) / 2
    largest = max(abs(interval.centre), half)
    unit, scale = next((u for u in _UNITS if largest >= u[1]), _UNITS[-1])
    digits = max(0, 1 - math.floor(math.log10(half / scale))) if half > 0 else 3
    return f"{interval.centre / scale:.{digits}f} +- {half / scale:.{digits}f} {unit}"


def _arm_row(name: str, arm: ArmSummary) -> tuple[object, ...]:
    accuracy = "" if arm.accuracy is None else f"{arm.accuracy:.2%}"
    return (
        name,
        arm.overlay,
        arm.model,
        accuracy,
        f"{arm.sparsity:.1%}",
        f"{arm.cycles:,.0f}",
        f"{arm.products_done:,.0f}",
        f"{arm.model_bytes:,}",
    )
