"""The ledger tells arithmetic from confound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bacmac.host.errors import OverlayError
from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.fairness import LedgerRow, fairness_ledger
from bacmac.overlays.registry import load_overlay

BAC, MAC4, MAC8 = (load_overlay(name) for name in ("bac-pot4", "mac-uniform4", "mac-uniform8"))


def row(rows: tuple[LedgerRow, ...], item: str) -> LedgerRow:
    (found,) = (r for r in rows if r.item == item)
    return found


def confounds(rows: tuple[LedgerRow, ...]) -> list[str]:
    return [r.item for r in rows if r.kind == "confound"]


def test_shift_against_multiply_at_equal_bits_has_no_confound() -> None:
    rows = fairness_ledger(BAC, MAC4)

    assert confounds(rows) == []
    assert [r.item for r in rows if r.kind == "arithmetic"] == [
        *("product term", "weight levels", "LUT", "FF")
    ]
    assert row(rows, "BRAM36").kind == "same"


def test_weight_bits_confound_the_comparison_with_8_bit() -> None:
    rows = fairness_ledger(BAC, MAC8)

    assert confounds(rows) == ["weight bits"]
    assert (row(rows, "weight bits").a, row(rows, "weight bits").b) == ("4", "8")
    assert row(rows, "LUT").kind == "arithmetic"


def test_an_overlay_is_the_same_as_itself_in_every_row() -> None:
    assert {r.kind for r in fairness_ledger(MAC8, MAC8)} == {"same"}


def test_swapping_the_arms_swaps_the_columns_only() -> None:
    forth, back = fairness_ledger(BAC, MAC8), fairness_ledger(MAC8, BAC)

    assert [(r.item, r.a, r.b, r.kind) for r in forth] == [(r.item, r.b, r.a, r.kind) for r in back]


@pytest.mark.parametrize(
    ("change", "item"),
    [
        ({"clock_hz": 100e6}, "clock (MHz)"),
        ({"geometry": replace(MAC4.manifest.geometry, inputs=32)}, "lanes"),
        ({"geometry": replace(MAC4.manifest.geometry, pixel_tile=8)}, "pixel tile"),
        ({"geometry": replace(MAC4.manifest.geometry, group_inputs=32)}, "skipped group"),
        ({"buffers": replace(MAC4.manifest.buffers, weight_bytes=1)}, "weight buffer (bytes)"),
        ({"beat_bytes": 8}, "stream beat (bytes)"),
        ({"part": "xczu9eg-ffvb1156-2-e"}, "part"),
        ({"resources_source": "measured: Vivado"}, "resources known by"),
        ({"resources": {**MAC4.manifest.resources, "BRAM36": 1.0}}, "BRAM36"),
    ],
)
def test_whatever_else_differs_is_a_confound(change: dict[str, object], item: str) -> None:
    other = replace(MAC4, manifest=replace(MAC4.manifest, **change))  # type: ignore[arg-type]

    assert confounds(fairness_ledger(BAC, other)) == [item]


def test_a_number_that_one_arm_does_not_state_is_said_and_is_a_confound() -> None:
    bare = replace(MAC4, manifest=replace(MAC4.manifest, resources={"LUT": 7526.0}))

    rows = fairness_ledger(BAC, bare)

    assert row(rows, "FF").b == "not stated"
    assert confounds(rows) == ["FF", "DSP", "BRAM36", "URAM"]


def test_logic_that_differs_between_equal_products_is_a_confound() -> None:
    naive = {**MAC4.manifest.resources, "LUT": 11648.0}
    other = replace(MAC4, manifest=replace(MAC4.manifest, resources=naive))

    assert confounds(fairness_ledger(MAC4, other)) == ["LUT"]


UTILIZATION = """\
| Tool Version : Vivado v.2024.1 (lin64) Build 5076996
| Device       : xczu7ev-ffvc1156-2-e
| Design State : {state}

| Site Type      | Used  | Fixed | Available | Util% |
| CLB LUTs       | {lut} |     0 |    230400 | 13.45 |
| CLB Registers  | 24500 |     0 |    460800 |  5.32 |
| Block RAM Tile | {ram} |     0 |       312 | 75.80 |
| URAM           |    64 |     0 |        96 | 66.67 |
| DSPs           |    69 |     0 |      1728 |  3.99 |
"""
TIMING = """\
| Design Timing Summary

    WNS(ns)      TNS(ns)      WHS(ns)      THS(ns)     WPWS(ns)
    -------      -------      -------      -------     --------
      {wns}        0.000        0.010        0.000        1.166
"""


def built(
    overlay: Overlay,
    folder: Path,
    lut: int = 31000,
    ram: float = 236.5,
    wns: float = 0.123,
    state: str = "Fully Placed",
) -> Overlay:
    """The overlay with the reports of a build beside it; its manifest is as it was."""
    folder.mkdir()
    name = overlay.manifest.name
    text = UTILIZATION.format(lut=lut, ram=ram, state=state)
    (folder / f"{name}_utilization.rpt").write_text(text)
    (folder / f"{name}_timing_summary.rpt").write_text(TIMING.format(wns=wns))
    return replace(overlay, folder=folder)


def test_reports_of_a_build_come_before_what_the_manifest_estimates(tmp_path: Path) -> None:
    rows = fairness_ledger(built(BAC, tmp_path / "a"), built(MAC4, tmp_path / "b", 29000, wns=0.3))

    assert confounds(rows) == []
    assert row(rows, "resources known by").a == "measured"
    assert (row(rows, "LUT").a, row(rows, "LUT").b) == ("31000", "29000")
    assert row(rows, "LUT").note == "measured: Vivado v.2024.1 utilisation"
    assert (row(rows, "slack_ns").a, row(rows, "slack_ns").b) == ("0.123", "0.3")
    assert row(rows, "slack_ns").kind == "arithmetic"


def test_memory_that_a_build_took_more_of_and_missed_timing_are_confounds(tmp_path: Path) -> None:
    rows = fairness_ledger(
        built(BAC, tmp_path / "a", ram=240), built(MAC4, tmp_path / "b", wns=-0.1)
    )

    assert confounds(rows) == ["BRAM36", "slack_ns"]


def test_a_build_of_one_arm_does_not_compare_with_an_estimate_of_the_other(tmp_path: Path) -> None:
    rows = fairness_ledger(built(BAC, tmp_path / "a"), MAC4)

    assert "resources known by" in confounds(rows)
    assert row(rows, "LUT").note.startswith("a: measured: Vivado v.2024.1 utilisation; b: estimate")


def test_a_synthesised_design_is_no_build(tmp_path: Path) -> None:
    rows = fairness_ledger(built(BAC, tmp_path / "a", state="Synthesized"), MAC4)

    assert row(rows, "resources known by").kind == "same"


def test_a_report_that_cannot_be_read_is_no_estimate(tmp_path: Path) -> None:
    overlay = built(BAC, tmp_path / "a")
    (tmp_path / "a" / "bac-pot4_utilization.rpt").write_text("nothing of it")

    with pytest.raises(OverlayError, match="no row for LUT"):
        fairness_ledger(overlay, MAC4)
