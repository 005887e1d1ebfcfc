"""The report is whole, honest, loads nothing, and is made alike twice."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from made_campaigns import made_journal
from made_runs import BOARD, made_run

from bacmac.host.errors import InputError, OutputError
from bacmac.power.campaign.analysed import analysed
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.plan import CampaignPlan, Cell
from bacmac.power.campaign.report import Report, make_report, write_report
from bacmac.power.campaign.report_figures import clock_drawings
from bacmac.power.campaign.result import CampaignResult
from bacmac.power.campaign.run import Finding

FIGURES = re.compile(r"<svg.*?</svg>", re.S)


@pytest.fixture(scope="module")
def journal_file(small_plan: CampaignPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_journal(tmp_path_factory.mktemp("report") / "small.journal", small_plan, faults=1)


@pytest.fixture(scope="module")
def one_rail(small_plan: CampaignPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fewer figures: sooner drawn."""
    return made_journal(
        tmp_path_factory.mktemp("report") / "one.journal", small_plan, rails=(BOARD,)
    )


@pytest.fixture(scope="module")
def report(journal_file: Path) -> Report:
    with Journal.open(journal_file) as journal:
        return make_report(journal)


def test_emulated_is_said_in_title_badge_every_figure_and_every_caption(report: Report) -> None:
    figures = FIGURES.findall(report.html)

    assert re.search(r"<title>EMULATED", report.html)
    assert "EMULATED: an estimate by a model, not a measurement" in report.html
    assert len(figures) == len(report.drawings) == 11
    # in the title, and across the figure
    assert all(len(re.findall(r">EMULATED[:<]", figure)) >= 2 for figure in figures)
    assert report.tex.count(r"\caption{\textbf{EMULATED, not measured.}") == 3
    assert report.tex.count(r"\caption") == 3
    assert "EMULATED: this describes a simulated campaign" in report.tex


def test_what_was_measured_does_not_say_emulated(small_plan: CampaignPlan, tmp_path: Path) -> None:
    plan = replace(small_plan, device="pynq:", rails="hwmon:", board="zcu104-3")
    made_journal(tmp_path / "board.journal", plan, emulated=False, rails=(BOARD,))
    with Journal.open(tmp_path / "board.journal") as journal:
        report = make_report(journal)

    assert "EMULATED" not in report.html
    assert "EMULATED" not in report.tex
    assert "measured on board zcu104-3" in report.tex
    assert "coefficients" not in report.html
    assert "not calibrated for this work" in report.html


def test_the_page_loads_nothing_and_needs_no_script(report: Report) -> None:
    rest = re.sub(r'xmlns(?::xlink)?="[^"]*"', "", report.html)

    assert "<script" not in rest
    assert not re.search(r"""(?:src|srcset|@import)\s*[=(]""", rest)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', rest))


def test_figures_are_well_formed_with_ids_of_their_own(report: Report) -> None:
    ids: list[str] = []
    for figure in FIGURES.findall(report.html):
        root = ElementTree.fromstring(figure)
        ids += [node.attrib["id"] for node in root.iter() if "id" in node.attrib]
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]
        for target in re.findall(r'(?:href="#|url\(#)([^")]+)', figure):
            assert target in ids

    assert len(ids) == len(set(ids))
    assert len({drawing.name for drawing in report.drawings}) == len(report.drawings)


def test_every_kind_of_figure_is_there(report: Report) -> None:
    names = {drawing.name for drawing in report.drawings}

    assert {"forest-12V", "forest-INT", "forest-aa", "energy-12V-cell0", "accuracy-cell0"} <= names
    assert {"trace-12V", "trace-INT"} <= names
    assert {f"blocks-cell0-{pair}" for pair in ("mac8-bac", "mac8-mac4", "mac4-bac")} <= names


def test_validity_fairness_thresholds_and_provenance_are_told(
    report: Report, small_plan: CampaignPlan, journal_file: Path
) -> None:
    with Journal.open(journal_file) as journal:
        plan = journal.plan
        boot_id = next(journal.runs()).before.boot_id
        reasons = {state.reason for state in journal.states() if state.state == "invalid"}
    for row in (row for ledger in plan.ledgers for row in ledger):
        assert row.item in report.html
    for arm in plan.arms:
        assert arm.overlay_sha256 in report.html
        assert arm.model_sha256 in report.html
    assert plan.sha256 in report.html
    assert plan.images_sha256 in report.html
    assert boot_id
    assert boot_id in report.html
    assert "33.3333 MHz" in report.html  # the clock that was read back
    assert "max_idle_change_share" in report.html
    assert any("3" in reason for reason in reasons)
    assert all(reason in report.html for reason in reasons - {"block"})
    assert "a gap of 140 ms; 100 ms allowed" in report.html
    assert "3 blocks; 10 wanted" in report.html
    assert "93.75 % (60 of 64)" in report.html
    assert "campaign is done" in report.html


def test_thresholds_that_were_changed_are_told_with_their_defaults(report: Report) -> None:
    found = re.search(r"<td>min_run_s</td><td>1.0</td><td[^>]*>([^<]*)</td>", report.html)

    assert found is not None
    assert found[1] == "10.0"
    assert "min\\_run\\_s 1.0 (usually 10.0)" in report.tex


def test_names_from_files_cannot_become_markup(small_plan: CampaignPlan, tmp_path: Path) -> None:
    plan = replace(small_plan, name="<script>alert(1)</script>", text="</pre><script>")
    made_journal(tmp_path / "evil.journal", plan, rails=(BOARD,))
    with Journal.open(tmp_path / "evil.journal") as journal:
        report = make_report(journal)

    assert "<script" not in report.html
    assert "&lt;script&gt;" in report.html
    assert "<script>" not in report.tex


def test_two_cells_are_told_apart(small_plan: CampaignPlan, tmp_path: Path) -> None:
    plan = replace(small_plan, cells=(Cell(0, 16, None), Cell(1, 32, 150e6)))
    made_journal(tmp_path / "two.journal", plan, rails=(BOARD,))
    with Journal.open(tmp_path / "two.journal") as journal:
        report = make_report(journal)

    assert "<th>cell</th>" in report.html
    assert "batch 32, 150 MHz" in report.html
    assert {"energy-12V-cell1", "accuracy-cell1"} <= {d.name for d in report.drawings}


def test_the_files_are_the_same_when_made_twice_in_other_processes(
    one_rail: Path, tmp_path: Path
) -> None:
    found = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        # another order of sets and dictionaries must not change a byte
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = ["campaign", "report", str(one_rail), "-o", str(folder / "r")]
        subprocess.run(
            [sys.executable, "-m", "bacmac.cli", *command],
            check=True,
            capture_output=True,
            env=environment,
        )
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        found.append(
            {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
        )

    assert found[0] == found[1]
    assert {"r.html", "r.tex", "r.bib"} < set(found[0])
    assert len(found[0]) == 3 + 2 * 8


def test_another_block_can_be_traced(one_rail: Path) -> None:
    with Journal.open(one_rail) as journal:
        report = make_report(journal, trace_block=3)
        caption = next(d.caption for d in report.drawings if d.name == "trace-12V")
        with pytest.raises(InputError, match="9, which is not valid"):
            make_report(journal, trace_block=9)

    assert "block 3, one run of each arm" in caption


def test_a_campaign_without_a_whole_block_has_no_report(
    small_plan: CampaignPlan, tmp_path: Path
) -> None:
    with (
        Journal.create(tmp_path / "new.journal", small_plan) as journal,
        pytest.raises(InputError, match="whole and valid"),
    ):
        make_report(journal)


def test_a_campaign_that_is_not_complete_says_so(small_plan: CampaignPlan, tmp_path: Path) -> None:
    with Journal.create(tmp_path / "part.journal", small_plan) as journal:
        for key in journal.owed()[:-3]:  # all but the last block of the pilot
            journal.begin(key, None)
            journal.finish(made_run(key, rails=(BOARD,)))
        report = make_report(journal)

    assert "NOT COMPLETE" in report.html
    assert "runs are still owed" in report.tex
    assert report.tex.count(r"\textbf{Campaign not complete.}") == 3


def test_the_command_writes_page_tables_and_figures_and_names_them(
    one_rail: Path, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    outcome = run("campaign", "report", one_rail)

    names = ("one.html", "one.tex", "one.bib", "one-figures")
    assert outcome.status == 0
    assert outcome.err.splitlines() == [f"written: {name}" for name in names]
    assert all(Path(name).exists() for name in names)
    pdf = Path("one-figures/forest-12V.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    svg = Path("one-figures/forest-12V.svg").read_text()
    assert "<dc:date>" not in svg
    assert "var(--" not in svg  # on paper colours are colours


def test_a_report_that_cannot_be_written_says_so(one_rail: Path, tmp_path: Path) -> None:
    with Journal.open(one_rail) as journal, pytest.raises(OutputError, match="cannot be written"):
        write_report(tmp_path / "nowhere" / "r", journal)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("made", [4, 7])  # A/A alone; A/A and one main block
def test_a_campaign_that_has_only_begun_has_a_report_without_ratios(
    made: int, small_plan: CampaignPlan, tmp_path: Path
) -> None:
    with Journal.create(tmp_path / "begun.journal", small_plan) as journal:
        for key in journal.owed()[:made]:
            journal.begin(key, None)
            journal.finish(made_run(key, rails=(BOARD,)))
        journal.note_findings((Finding(6, "abort", "12V", "the guard is too short"),))
        report = make_report(journal)

    assert "No cell has two valid blocks yet: there is no ratio." in report.html
    assert "NOT COMPLETE" in report.html
    assert "STOPPED: the guard is too short" in report.html
    assert [drawing.name for drawing in report.drawings] == ["forest-aa"]


def test_an_a_a_check_that_leaves_1_out_stands_first_and_in_the_paragraph(
    one_rail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(journal: Journal) -> CampaignResult:
        result = analysed(journal)
        first, *rest = result.aa
        assert first.estimate is not None
        off = replace(first, estimate=replace(first.estimate, verdict="lower"))
        good = [replace(r, estimate=None, reason="none") for r in rest]
        return replace(result, aa=(off, *good))

    monkeypatch.setattr("bacmac.power.campaign.report.analysed", failed)
    with Journal.open(one_rail) as journal:
        report = make_report(journal)

    told = "1 of 2 intervals of one arm over itself, which is truly 1, leave 1 out"
    assert report.html.index(told) < report.html.index("<h2>Ratios</h2>")
    assert "1 of 2 intervals of its ratio, which is truly 1, left 1 out" in report.tex


def test_a_batch_at_several_clocks_has_its_energy_drawn_against_them(
    small_plan: CampaignPlan, tmp_path: Path
) -> None:
    plan = replace(small_plan, cells=(Cell(0, 16, 150e6), Cell(1, 16, 100e6)))
    path = made_journal(tmp_path / "clocks.journal", plan, rails=(BOARD,))
    with Journal.open(path) as journal:
        result, stored = analysed(journal), journal.plan
    read_back = {0: 150e6, 1: 100e6}
    runs = tuple(replace(run, clock_hz=read_back[run.key.cell]) for run in result.runs)

    drawings = clock_drawings(stored, replace(result, runs=runs))

    assert [drawing.name for drawing in drawings] == ["clock-batch16"]
    assert clock_drawings(stored, result) == ()  # both cells read one clock back
