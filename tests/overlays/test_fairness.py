"""The ledger tells arithmetic from confound."""

from __future__ import annotations

from dataclasses import replace

import pytest

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
