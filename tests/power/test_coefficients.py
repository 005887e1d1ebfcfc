"""Every number of the power model has a unit and a source, and says what it rests on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bacmac.host.errors import InputError
from bacmac.power.coefficients import DEFAULT_FILE, load_coefficients

TEXT = DEFAULT_FILE.read_text(encoding="utf-8")


def test_every_number_has_unit_and_source() -> None:
    table = load_coefficients().table()

    assert len(table) > 20
    assert all(n.unit and len(n.source) > 5 for n in table)
    assert "assumption" in load_coefficients().values["toggle_unit_pj"].basis


def test_relative_costs_are_the_studys_and_not_better() -> None:
    """At equal bits the two products cost about the same; 8 bits cost twice."""
    cost = {name: p.toggle_units for name, p in load_coefficients().products.items()}

    assert cost["pot-4"] == pytest.approx((36.6 + 42.0) / 2)
    assert 0.95 < cost["uniform-4"] / cost["pot-4"] < 1.02
    assert 1.75 < cost["uniform-8"] / cost["pot-4"] < 2.4


def test_the_cost_of_a_zero_weight_is_the_fit_that_its_source_describes() -> None:
    for product in load_coefficients().products.values():
        pairs = re.findall(r"(\d+\.\d)/(\d+\.\d)", product.source)
        dense, *rest = ((float(func) + float(glitch)) / 2 for func, glitch in pairs)
        shares = (0.3, 0.5, 0.7)
        fit = sum(s * (e - (1 - s) * dense) for s, e in zip(shares, rest, strict=True))
        fit /= dense * sum(s * s for s in shares)

        assert product.skipped == pytest.approx(fit, abs=0.006), product.scheme


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
        ("glitch = 42.0\n", "", "pot-4.glitch"),
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
