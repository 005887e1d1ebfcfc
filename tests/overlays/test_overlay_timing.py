"""An overlay that was not shown to meet timing is marked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bacmac.overlays.registry import load_overlay
from bacmac.overlays.timing import overlay_marks

SHIPPED = load_overlay("bac-pot4")

REPORT = """\
| Tool Version      : Vivado v.2024.1 (lin64) Build 5076996
| Device            : xczu7ev-ffvc1156
| Design State      : Routed

 There are {unclocked} register/latch pins with no clock.

| Design Timing Summary
| ---------------------

    WNS(ns)      TNS(ns)      WHS(ns)      THS(ns)     WPWS(ns)
    -------      -------      -------      -------     --------
    {wns}        0.000        0.010        0.000       1.000

{verdict}

| Clock Summary

Clock     Waveform(ns)         Period(ns)      Frequency(MHz)
-----     ------------         ----------      --------------
clk_pl_0  {{0.000 2.667}}        {period}           187.512

| Intra Clock Table
"""
MET = "All user specified timing constraints are met."


def marks(
    folder: Path, wns: str = "0.123", verdict: str = MET, period: str = "5.333", unclocked: int = 0
) -> tuple[str, ...]:
    text = REPORT.format(wns=wns, verdict=verdict, period=period, unclocked=unclocked)
    (folder / "bac-pot4_timing_summary.rpt").write_text(text)
    return overlay_marks(replace(SHIPPED, folder=folder))


def test_a_shipped_overlay_without_a_build_has_no_mark() -> None:
    assert overlay_marks(SHIPPED) == ()


def test_timing_that_was_met_leaves_no_mark(tmp_path: Path) -> None:
    assert marks(tmp_path) == ()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"wns": "-0.123", "verdict": "Timing constraints are not met."},
            "timing not met: worst slack -0.123 ns (Vivado timing summary)",
        ),
        (
            {"verdict": "Timing constraints are not met."},
            "timing not met: Vivado says so, without a negative slack (Vivado timing summary)",
        ),
        ({"wns": "NA"}, "timing not known: no path is constrained (Vivado timing summary)"),
        (
            {"period": "10.000"},
            "timing analysed for 100 MHz, run at 187.5 (Vivado timing summary)",
        ),
        (
            {"unclocked": 12},
            "timing not known of 12 registers without a clock (Vivado timing summary)",
        ),
    ],
)
def test_timing_that_was_not_shown_to_be_met_is_a_mark(
    tmp_path: Path, given: dict[str, object], told: str
) -> None:
    assert marks(tmp_path, **given) == (told,)  # type: ignore[arg-type]


def test_a_report_that_cannot_be_read_is_a_mark(tmp_path: Path) -> None:
    (tmp_path / "bac-pot4_timing_summary.rpt").write_text("not a report")

    (mark,) = overlay_marks(replace(SHIPPED, folder=tmp_path))

    assert mark.startswith("timing not known: ")
    assert "Design Timing Summary" in mark


def test_without_a_report_the_manifest_is_believed(tmp_path: Path) -> None:
    resources = {**SHIPPED.manifest.resources, "slack_ns": -0.25}
    missed = replace(SHIPPED.manifest, resources=resources)

    found = overlay_marks(replace(SHIPPED, manifest=missed, folder=tmp_path))

    assert found == ("timing not met: worst slack -0.25 ns (manifest)",)
