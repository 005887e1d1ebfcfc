"""Product costs and resources are rewritten in place, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bacmac.host.errors import OverlayError
from bacmac.overlays.estimate.activity import Events
from bacmac.overlays.estimate.lane_cost import LaneCost
from bacmac.overlays.estimate.sites import Resources
from bacmac.overlays.estimate.synthesis import ModuleUse, Utilisation
from bacmac.overlays.registry import find_manifest, load_overlay
from bacmac.power.coefficients import DEFAULT_FILE, load_coefficients
from bacmac.power.make_coefficients import (
    fit_costs,
    product_table,
    replace_products,
    replace_resources,
)

TEXT = DEFAULT_FILE.read_text(encoding="utf-8")


def lane(zero_share: float, settled: float, transitions: float) -> LaneCost:
    one, other = Events(lut=16 * settled), Events(lut=16 * transitions)
    return LaneCost(one, other, n_products=16, zero_share=zero_share, n_cycles=64)


def test_costs_that_obey_the_model_are_found_again() -> None:
    shares = [0.1, 0.4, 0.5, 0.7]
    fit = fit_costs(shares, [(30 * (1 - z + z * 0.3), 40 * (1 - z + z * 0.3)) for z in shares])

    assert fit.func == pytest.approx(30)
    assert fit.glitch == pytest.approx(40)
    assert fit.skipped == pytest.approx(0.3)


def test_new_product_tables_are_read_back_and_all_else_is_kept(tmp_path: Path) -> None:
    counted = [lane(z, 20 * (1 - z / 2), 30 * (1 - z / 2)) for z in (0.0, 0.3, 0.5, 0.7)]
    tables = [product_table(scheme, "Yosys 9", counted) for scheme in ("pot-4", "uniform-4")]
    path = tmp_path / "numbers.toml"
    path.write_text(replace_products(TEXT, tables), encoding="utf-8")

    found, before = load_coefficients(path), load_coefficients()
    assert set(found.products) == {"pot-4", "uniform-4"}
    assert found.products["pot-4"].toggle_units == pytest.approx(25)
    assert found.products["pot-4"].skipped == pytest.approx(0.5)
    assert "Yosys 9" in found.products["pot-4"].source
    assert found.values == before.values
    assert TEXT.partition("[[coefficient]]")[2] in path.read_text(encoding="utf-8")


def test_a_text_without_products_is_refused() -> None:
    with pytest.raises(OverlayError, match=r"coefficients\.toml: product: found none"):
        replace_products("schema = 1\n", [])


def test_new_resources_are_read_back_and_the_manifest_is_the_same_otherwise(
    tmp_path: Path,
) -> None:
    total = Resources(lut=9, lut_sites=7, carry8=1, ff=5, dsp=3, bram36=1.5, uram=2)
    used = Utilisation("bac-pot4", "Yosys 9", (ModuleUse("bacmac_lane", 1, total, "yosys"),))
    text = find_manifest("bac-pot4").read_text(encoding="utf-8")
    path = tmp_path / "bac-pot4.toml"
    path.write_text(replace_resources(text, used), encoding="utf-8")

    found, before = load_overlay(path).manifest, load_overlay("bac-pot4").manifest
    assert found.resources == {"LUT": 7, "FF": 5, "DSP": 3, "BRAM36": 1.5, "URAM": 2}
    assert found.resources_source.startswith("estimate: Yosys 9")
    assert found.geometry == before.geometry
    assert found.buffers == before.buffers
    assert text.partition("[resources]")[0] == path.read_text().partition("[resources]")[0]
