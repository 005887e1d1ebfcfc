"""A campaign as one HTML file that opens without a network, with figures and tables for a paper.

Everything is computed anew from the raw samples in the journal. The page needs no script and loads
nothing. Whatever is emulated says so in the title, across every figure and in every table's
caption. The same journal gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bacmac.host.errors import InputError, OutputError
from bacmac.host.files import write_bytes, write_text
from bacmac.power.campaign.analysed import analysed, own_version
from bacmac.power.campaign.figures import Drawing
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.methods import method_facts, methods_paragraph
from bacmac.power.campaign.paper import paper_bib, paper_tex
from bacmac.power.campaign.report_figures import (
    Accuracy,
    accuracy_drawings,
    block_drawings,
    clock_drawings,
    energy_drawings,
    forest_drawings,
    trace_drawings,
)
from bacmac.power.campaign.report_page import report_page
from bacmac.power.campaign.result import CampaignResult
from bacmac.power.campaign.run import CampaignRun
from bacmac.power.coefficients import Coefficient, load_coefficients
from bacmac.power.drawing import PAPER, paper_pdf, paper_svg
from bacmac.power.report import require_report


@dataclass(frozen=True, eq=False)
class Report:
    """A report before it is written.

    Attributes:
        html: the page.
        tex, bib: for a paper.
        drawings: its figures, for files of their own.
    """

    html: str
    tex: str
    bib: str
    drawings: tuple[Drawing, ...]


def write_report(name: Path, journal: Journal, *, trace_block: int | None = None) -> list[Path]:
    """Write NAME.html, NAME.tex, NAME.bib and every figure as SVG and PDF in NAME-figures.

    Args:
        name: path without an ending.
        journal: of the campaign.
        trace_block: number (from 1) of the block whose power is drawn; the first valid one.

    Returns:
        what was written: page, tables, reference, folder of figures.

    Raises:
        MissingExtraError: matplotlib or Jinja is not installed.
        InputError: no block is whole yet, or the block of the traces is not valid.
        OutputError: a file cannot be written.
    """
    report = make_report(journal, trace_block=trace_block)
    folder = name.with_name(f"{name.name}-figures")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(folder, error.strerror or str(error)) from error
    for drawing in report.drawings:
        for ending, write in (("svg", paper_svg), ("pdf", paper_pdf)):
            write_bytes(folder / f"{drawing.name}.{ending}", drawing.render(PAPER, write))
    written = [name.with_name(f"{name.name}.{ending}") for ending in ("html", "tex", "bib")]
    for path, text in zip(written, (report.html, report.tex, report.bib), strict=True):
        write_text(path, text)
    return [*written, folder]


def make_report(journal: Journal, *, trace_block: int | None = None) -> Report:
    """The report of a campaign; the same journal gives the same bytes.

    Raises:
        MissingExtraError: matplotlib or Jinja is not installed.
        InputError: no block is whole yet, or the block of the traces is not valid.
    """
    require_report()
    result = analysed(journal)
    plan, facts = journal.plan, journal.facts()
    accuracy: Mapping[str, Mapping[str, Any]] = facts.get("accuracy", {})
    traced = _traced_runs(journal, result, trace_block)
    drawn: dict[str, tuple[Drawing, ...]] = {
        "forests": forest_drawings(plan, result),
        "energies": energy_drawings(plan, result),
        "clocks_drawn": clock_drawings(plan, result),
        "accuracies": accuracy_drawings(plan, result, _labelled(accuracy)),
        "blocks": block_drawings(plan, result),
        "traces": trace_drawings(plan, result, traced),
    }
    own = own_version()
    guard_s = facts.get("guard_s", plan.design.guard_s)
    methods = methods_paragraph(method_facts(plan, result, own, float(guard_s)))
    tex, bib = paper_tex(plan, result, methods, own), paper_bib(own)
    html = report_page(
        journal,
        result,
        drawn,
        accuracy=accuracy,
        methods=methods,
        tex=tex,
        bib=bib,
        coefficients=_coefficients(traced),
        rails_emulated=any(run.record.trace.emulated for run in traced),
        version=own,
    )
    return Report(html, tex, bib, tuple(d for some in drawn.values() for d in some))


def _traced_runs(
    journal: Journal, result: CampaignResult, trace_block: int | None
) -> tuple[CampaignRun, ...]:
    """All runs of the block whose power is drawn, with their samples."""
    keys = [run.key for run in result.runs if run.key.stage == "main"]
    if not keys:
        return ()
    wanted = keys[0].block if trace_block is None else trace_block - 1
    chosen = [key for key in keys if key.block == wanted]
    if not chosen:
        raise InputError(
            journal.path,
            "block of the traces",
            found=f"{trace_block}, which is not valid",
            expected=f"one of 1 to {max(key.block for key in keys) + 1} that is",
        )
    runs = journal.runs(cell=chosen[0].cell, stage="main")
    return tuple(run for run in runs if run.key.block == wanted)


def _labelled(accuracy: Mapping[str, Mapping[str, Any]]) -> Accuracy:
    return {
        arm: (found["n_correct"], found["n_images"])
        for arm, found in accuracy.items()
        if found["n_correct"] is not None
    }


def _coefficients(runs: Sequence[CampaignRun]) -> tuple[Coefficient, ...]:
    if any(run.record.trace.emulated for run in runs):
        return load_coefficients().table()
    return ()
