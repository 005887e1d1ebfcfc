"""Every number of the power model has a unit and a source, and says what it rests on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bacmac.host.errors import InputError
from bacmac.power.coefficients import DEFAULT_FILE, load_coefficients
from bacmac.power.make_coefficients import fit_costs

TEXT = DEFAULT_FILE.read_text(encoding="utf-8")
POT4_GLITCH = load_coefficients().products["pot-4"].glitch


def test_every_number_has_unit_and_source() -> None:
    table = load_coefficients().table()

    assert len(table) > 20
    assert all(n.unit and len(n.source) > 5 for n in table)
    assert "assumption" in load_coefficients().values["toggle_unit_pj"].basis


def test_relative_costs_are_those_of_the_netlists_and_not_better() -> None:
    """At equal bits a product costs 1.0 to 1.25 of the shift's; 8 bits cost about twice."""
    cost = {name: p.toggle_units for name, p in load_coefficients().products.items()}

    assert 1.0 < cost["uniform-4"] / cost["pot-4"] < 1.25
    assert 1.05 < cost["uniform-4"] / cost["pot-4e4"] < 1.3
    assert 1.8 < cost["uniform-8"] / cost["pot-4"] < 2.5


def test_the_costs_are_the_fit_that_their_source_describes() -> None:
    for product in load_coefficients().products.values():
        rows = re.findall(r"(\d+\.\d) %: (\d+\.\d)/(\d+\.\d)", product.source)
        shares = [float(share) / 100 for share, _, _ in rows]
        fit = fit_costs(shares, [(float(func), float(glitch)) for _, func, glitch in rows])

        assert len(rows) == 4
        assert product.func == pytest.approx(fit.func, abs=0.2), product.scheme
        assert product.glitch == pytest.approx(fit.glitch, abs=0.2), product.scheme
        assert product.skipped == pytest.approx(fit.skipped, abs=0.01), product.scheme


def test_the_absolute_scale_is_the_product_of_its_factors() -> None:
    scale = (16 / 180) * (0.85 / 1.8) ** 2
    picojoules = (8.46 + 12.0) / 2 * scale * 14 / 38.5

    assert scale == pytest.approx(0.0198, rel=0.002)
    assert load_coefficients()["toggle_unit_pj"] == pytest.approx(picojoules, rel=0.01)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("schema = 1", "schema = 2", "schema"),
        ("schema = 1", "schema = ", "TOML"),
        ('name = "fan_w"\nvalue = 1.2', 'name = "fan_w"', "fan_w.value"),
        ("value = 1.2", 'value = "1.2"', "fan_w.value"),
        ("value = 1.2", "value = -1.2", "fan_w.value"),
        ("value = 1.2", "value = nan", "fan_w.value"),
        ("value = 1.2", "value = true", "fan_w.value"),
        ('unit = "pJ per LUT and cycle"\n', "", "clock_pj_per_lut_cycle.unit"),
        ('basis = "public"', 'basis = "rumour"', "basis"),
        ('name = "fan_w"', 'name = "fan_v"', "coefficient"),
        (f"glitch = {POT4_GLITCH}\n", "", "pot-4.glitch"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, old: str, new: str, field: str) -> None:
    assert old in TEXT
    path = tmp_path / "numbers.toml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")

    with pytest.raises(InputError, match=rf"numbers\.toml: .*{re.escape(field)}"):
        load_coefficients(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_coefficients(tmp_path / "none.toml")
