"""The JSON is plain and finite, the page is whole, honest and loads nothing."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bacmac.host.errors import MissingExtraError, OutputError
from bacmac.power.compare import Comparison, compare
from bacmac.power.report import (
    comparison_json,
    comparison_text,
    report_html,
    require_report,
    write_report,
)
from bacmac.power.runs import ComparePlan

MakePlan = Callable[..., ComparePlan]
FIGURES = re.compile(r"<svg.*?</svg>", re.S)


@pytest.fixture(scope="module")
def shared() -> dict[str, Any]:
    return {}


@pytest.fixture
def comparison(make_plan: MakePlan, shared: dict[str, Any]) -> Comparison:
    if "comparison" not in shared:
        shared["comparison"] = compare(make_plan())
    result: Comparison = shared["comparison"]
    return result


@pytest.fixture
def page(comparison: Comparison, shared: dict[str, Any]) -> str:
    if "page" not in shared:
        shared["page"] = report_html(comparison)
    text: str = shared["page"]
    return text


def test_the_json_is_plain_finite_and_versioned(comparison: Comparison) -> None:
    data = json.loads(comparison_text(comparison))

    assert data == comparison_json(comparison)  # nothing but JSON's own types
    assert (data["schema"], data["schema_version"]) == ("bacmac.comparison", 1)
    assert data["emulated"] is True
    assert data["headline"].startswith("EMULATED")
    assert [rail["rail"]["name"] for rail in data["rails"]] == ["INT", "12V"]
    assert data["rails"][1]["dynamic_ratio"]["low"] < data["rails"][1]["dynamic_ratio"]["high"]
    assert len(data["runs"]) == 8
    assert all(number["source"] for number in data["coefficients"])


def test_the_page_says_that_it_is_emulated_in_title_text_and_every_figure(page: str) -> None:
    figures = FIGURES.findall(page)

    assert re.search(r"<title>EMULATED", page)
    assert "EMULATED: an estimate by a model, not a measurement" in page
    assert len(figures) == 6
    assert all("EMULATED" in figure for figure in figures)


def test_a_measured_comparison_does_not_say_emulated(comparison: Comparison) -> None:
    text = report_html(replace(comparison, emulated=False, coefficients=()))

    assert "EMULATED" not in text
    assert "emulated power" not in text


def test_the_page_loads_nothing_and_needs_no_script(page: str) -> None:
    namespaces = r'xmlns(?::xlink)?="[^"]*"'
    rest = re.sub(namespaces, "", page)

    assert "http" not in re.sub(r"Kuon and Rose[^<]*", "", rest)
    assert "<script" not in rest
    assert not re.search(r"""(?:src|srcset|@import)\s*[=(]""", rest)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', rest))


def test_every_figure_is_well_formed_and_its_ids_are_unique_in_the_page(page: str) -> None:
    ids: list[str] = []
    for figure in FIGURES.findall(page):
        root = ElementTree.fromstring(figure)
        ids += [node.attrib["id"] for node in root.iter() if "id" in node.attrib]
        assert root.attrib["role"] == "img"
        for target in re.findall(r'(?:href="#|url\(#)([^")]+)', figure):
            assert target in ids

    assert len(ids) == len(set(ids))


def test_the_same_comparison_gives_the_same_page(comparison: Comparison, page: str) -> None:
    assert report_html(comparison) == page


def test_figures_take_their_colours_from_the_page(page: str) -> None:
    for figure in FIGURES.findall(page):
        assert "var(--ink)" in figure
        assert "#000000" not in figure.replace("fill: #000000; stroke", "")
    assert "prefers-color-scheme: dark" in page


def test_names_from_files_cannot_become_markup(comparison: Comparison) -> None:
    evil = replace(comparison.bac, model="<script>alert(1)</script>", model_path="<b>&")

    text = report_html(replace(comparison, bac=evil))

    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_a_rail_without_a_ratio_still_makes_a_report(comparison: Comparison) -> None:
    rails = tuple(
        replace(rail, dynamic=None, dynamic_reason="2 of 8 runs show none", dynamic_smallest=None)
        for rail in comparison.rails
    )
    broken = replace(comparison, rails=rails)

    text = report_html(broken)

    assert "2 of 8 runs show none" in text
    assert "no ratio: not above zero" in text
    assert json.loads(comparison_text(broken))["rails"][0]["dynamic_ratio"] is None


def test_the_tables_hold_ledger_checks_sources_and_hashes(
    page: str, comparison: Comparison
) -> None:
    for row in comparison.ledger:
        assert row.item in page
    for check in comparison.checks:
        assert check.name in page
    assert comparison.plan.images.sha256 in page
    assert comparison.bac.overlay_sha256 in page
    assert "Horowitz, ISSCC 2014" in page


def test_a_missing_extra_is_told_before_any_run(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    require_report()
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "jinja2" else find(name)
    )

    with pytest.raises(MissingExtraError, match=r"bacmac\[report\]"):
        require_report()


def test_the_report_is_written_whole_or_not_at_all(
    comparison: Comparison, page: str, tmp_path: Path
) -> None:
    write_report(tmp_path / "report.html", comparison)

    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(tmp_path / "nowhere" / "report.html", comparison)
