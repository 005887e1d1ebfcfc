"""A campaign as one HTML file that opens without a network, with figures and tables for a paper.

Everything is computed anew from the raw samples in the journal. The page needs no script and loads
nothing. Whatever is emulated says so in the title, across every figure and in every table's
caption. The same journal gives the same bytes.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

from bacmac.host.errors import InputError, OutputError
from bacmac.host.files import write_bytes, write_text
from bacmac.power.campaign.analysis import analyse_campaign
from bacmac.power.campaign.checks import CHECKS
from bacmac.power.campaign.figures import Drawing
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.methods import MethodFacts, methods_paragraph
from bacmac.power.campaign.paper import (
    figure_text,
    paper_bib,
    paper_tex,
    place,
    plain_text,
    share_text,
)
from bacmac.power.campaign.report_figures import (
    Accuracy,
    accuracy_drawings,
    block_drawings,
    cell_text,
    energy_drawings,
    forest_drawings,
    interval_text,
    pair_text,
    trace_drawings,
)
from bacmac.power.campaign.result import CampaignResult, PairRatio
from bacmac.power.campaign.run import CampaignRun
from bacmac.power.campaign.stored import StoredFinding, StoredPlan
from bacmac.power.campaign.validity import SAME_BLOCK, reasons
from bacmac.power.coefficients import Coefficient, load_coefficients
from bacmac.power.compare import ratio_text
from bacmac.power.drawing import PAGE, PAPER, page_svg, paper_pdf, paper_svg, si_scale
from bacmac.power.report import page_style, require_report

TEMPLATE = Path(__file__).parents[1] / "campaign.html.j2"
ACCENT = "#0f8bb3"


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
        "accuracies": accuracy_drawings(plan, result, _labelled(accuracy)),
        "blocks": block_drawings(plan, result),
        "traces": trace_drawings(plan, result, traced),
    }
    own = own_version()
    guard_s = facts.get("guard_s", plan.design.guard_s)
    methods = methods_paragraph(method_facts(plan, result, own, float(guard_s)))
    tex, bib = paper_tex(plan, result, methods, own), paper_bib(own)
    html = _page(
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


def analysed(journal: Journal) -> CampaignResult:
    """Figures of a campaign, computed anew.

    Raises:
        InputError: no block is whole yet.
    """
    try:
        return analyse_campaign(journal)
    except ValueError as error:
        raise InputError(
            journal.path, "runs", found=str(error), expected="a block that is whole and valid"
        ) from error


def own_version() -> str:
    """Of bacmac, that analyses."""
    try:
        return version("bacmac")
    except PackageNotFoundError:
        return "not installed"


def method_facts(plan: StoredPlan, result: CampaignResult, own: str, guard_s: float) -> MethodFacts:
    """What the methods paragraph is made of."""
    rails = {rail.info.name: rail.info for rail in result.rails}
    clocks: dict[str, set[float]] = {}
    for run in result.runs:
        clocks.setdefault(run.key.arm, set()).add(run.clock_hz)
    return MethodFacts(
        plan,
        own,
        result.emulated,
        tuple(rails.values()),
        result.headline_rail,
        guard_s,
        tuple(b.valid for b in result.blocks if b.stage == "main"),
        result.validity,
        (len(result.aa), sum(r.verdict != "not resolvable" for r in result.aa)),
        _reached(plan, result),
        tuple(f"{name} {value} (usually {usual})" for name, value, usual in _limits(plan) if usual),
        tuple(dict.fromkeys(rail.info.name for rail in result.rails if rail.limited)),
        sum(r.estimate is not None and r.estimate.log_mean.widening > 1 for r in result.ratios),
        1,
        {arm: tuple(sorted(found)) for arm, found in clocks.items()},
    )


def headline_sentence(plan: StoredPlan, ratio: PairRatio) -> str:
    """What a ratio says, in a sentence; with the smallest difference that could be shown."""
    pair, e = ratio.pair, ratio.estimate
    where = f"{ratio.quantity} energy per inference on {ratio.rail}"
    if len(plan.cells) > 1:
        where += f", {cell_text(plan.cells[ratio.cell])}"
    could = ""
    if ratio.smallest_difference is not None:
        could = (
            f" {len(ratio.blocks)} blocks could have shown {share_text(ratio.smallest_difference)}."
        )
    if e is None:
        return f"{pair.question}: not resolvable: {ratio.reason}.{could}"
    said = {
        "lower": f"{pair.denominator} takes less",
        "higher": f"{pair.denominator} takes more",
        "not resolvable": "not resolvable",
    }[e.verdict]
    value = f"E_{pair.numerator} / E_{pair.denominator} = {interval_text(ratio)}"
    return f"{pair.question[:1].upper()}{pair.question[1:]}: {said}: {value}, {where}.{could}"


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


def _page(
    journal: Journal, result: CampaignResult, drawn: Mapping[str, Sequence[Drawing]], **more: Any
) -> str:
    from jinja2 import Environment, StrictUndefined  # extra `report`
    from markupsafe import Markup

    plan = journal.plan
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "svg": lambda d: Markup(d.render(PAGE, lambda f: page_svg(f, d.name, d.label))),
        "cell": lambda index: cell_text(plan.cells[index]),
        "figure": figure_text,
        "interval": interval_text,
        "pair": pair_text,
        "plain": plain_text,
        "ratio": ratio_text,
        "reason": lambda text: "another run of the block" if text == SAME_BLOCK else text,
        "share": share_text,
        "si": _si,
        "time": time_text,
    }
    headline = result.headline()
    findings = grouped_findings(journal.findings())
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        **drawn,
        **more,
        style=page_style(ACCENT),
        plan=plan,
        result=result,
        place=place(plan, result),
        many=len(plan.cells) > 1,
        aa_failed=[r for r in result.aa if r.verdict != "not resolvable"],
        main=next((r for r in headline if r.pair.question == "saving"), (*headline, None)[0]),
        headlines=[headline_sentence(plan, ratio) for ratio in headline],
        headline_ratios=[r for r in result.ratios if r.rail == result.headline_rail],
        other_ratios=[r for r in result.ratios if r.rail != result.headline_rail],
        marks=list(dict.fromkeys(m for arm in plan.arms for m in arm.marks)),
        unknown=_unknown(result),
        findings=findings,
        warnings=[f for f in findings if f.level == "warn"],
        aborts=[f.text for f in findings if f.level == "abort"],
        reasons=reasons(result.validity),
        limits=_limits(plan),
        ledgers=list(zip(plan.pairs, plan.ledgers, strict=True)),
        clocks=_clocks(result),
        orders=_orders(result),
        provenance=_provenance(journal, result, more["version"]),
        events=journal.events(),
    )


@dataclass(frozen=True)
class FindingGroup:
    """Findings of one check about one subject."""

    check: int
    name: str
    level: str
    subject: str
    times: int
    where: str
    text: str


def grouped_findings(findings: Sequence[StoredFinding]) -> tuple[FindingGroup, ...]:
    """Findings of the same check, verdict and subject as one, told by the first of them."""
    groups: dict[tuple[int, str, str], list[StoredFinding]] = {}
    for found in findings:
        f = found.finding
        groups.setdefault((f.check, f.level, f.subject), []).append(found)
    return tuple(
        FindingGroup(
            check,
            CHECKS.get(check, ""),
            level,
            subject,
            len(group),
            _where(group[0]),
            group[0].finding.text,
        )
        for (check, level, subject), group in sorted(groups.items())
    )


def _where(found: StoredFinding) -> str:
    if found.cell is None or found.block is None:
        return "the campaign"
    stage = "A/A " if found.stage == "aa" else ""
    arm = "" if found.arm is None else f", {found.arm}"
    attempt = f", attempt {found.attempt + 1}" if found.attempt else ""
    return f"cell {found.cell}, {stage}block {found.block + 1}{attempt}{arm}"


def _reached(plan: StoredPlan, result: CampaignResult) -> tuple[int, int]:
    """Ratios of the headline, and how many of them have an interval within the target."""
    target = math.log1p(plan.design.target_half_width)
    headline = result.headline()
    met = [r for r in headline if r.estimate and r.estimate.half_width <= target * (1 + 1e-9)]
    return len(headline), len(met)


def _limits(plan: StoredPlan) -> list[tuple[str, str, str]]:
    """Name, value, and the default where the plan has another."""
    usual = asdict(Limits())
    return [
        (name, _words(value), "" if value == usual[name] else _words(usual[name]))
        for name, value in asdict(plan.limits).items()
    ]


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else f"{value}"


def _unknown(result: CampaignResult) -> list[str]:
    """Which terms of Type B are not known, of each rail."""
    missing = {e.rail: e.total_j.type_b.unknown for e in result.energies}
    return [
        f"On {rail} no limit is known for {', '.join(terms)}: B lacks it."
        for rail, terms in missing.items()
        if terms
    ]


def _clocks(result: CampaignResult) -> dict[str, str]:
    """Clocks read back, of each arm."""
    found: dict[str, set[float]] = {}
    for run in result.runs:
        found.setdefault(run.key.arm, set()).add(run.clock_hz)
    return {
        arm: ", ".join(f"{hz / 1e6:.6g} MHz" for hz in sorted(clocks))
        for arm, clocks in found.items()
    }


def _orders(result: CampaignResult) -> Iterator[tuple[int, str, str]]:
    """Cell, stage, and the arms of each block as they ran."""
    keys = sorted(run.key for run in result.runs)
    for (cell, stage), own in groupby(keys, key=lambda key: (key.cell, key.stage)):
        blocks = groupby(own, key=lambda key: key.block)
        texts = (f"{block + 1}: {' '.join(key.arm for key in runs)}" for block, runs in blocks)
        yield cell, stage, "; ".join(texts)


def _provenance(journal: Journal, result: CampaignResult, own: str) -> list[tuple[str, str]]:
    plan = journal.plan
    boots = dict.fromkeys(run.boot_id or "unknown" for run in result.runs)
    walls = [run.wall_ns for run in result.runs]
    return [
        ("plan, sha256", plan.sha256),
        ("made", time_text(plan.created_wall_ns)),
        ("valid runs", f"{time_text(min(walls))} to {time_text(max(walls))}"),
        *((f"made with: {name}", text) for name, text in plan.made_with.items()),
        ("analysed with: bacmac", own),
        ("board", plan.board),
        ("device", plan.device),
        ("rails", plan.rails),
        ("seed of orders, jitter and emulated noise", str(plan.design.seed)),
        ("images", f"{plan.images_source}, {plan.n_images:,} images"),
        ("images, sha256", plan.images_sha256),
        ("boots of the kernel", ", ".join(boots)),
    ]


def time_text(wall_ns: int) -> str:
    """A wall clock's time in words, UTC."""
    moment = datetime.datetime.fromtimestamp(wall_ns // 10**9, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _si(value: float, unit: str, digits: int = 4) -> str:
    factor, prefix = si_scale(value)
    return f"{value * factor:.{digits}g} {prefix}{unit}"
