"""The page of a campaign's report: what stands in it, in which words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from bacmac.power.campaign.checks import CHECKS
from bacmac.power.campaign.figures import Drawing
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.methods import limits_told
from bacmac.power.campaign.result import CampaignResult, PairRatio
from bacmac.power.campaign.stored import StoredFinding
from bacmac.power.campaign.validity import SAME_BLOCK, reasons
from bacmac.power.campaign.words import (
    cell_text,
    figure_text,
    headline_sentence,
    interval_text,
    pair_text,
    place,
    plain_text,
    share_text,
    si_text,
    time_text,
)
from bacmac.power.compare import ratio_text
from bacmac.power.drawing import PAGE, page_svg
from bacmac.power.report import page_style

TEMPLATE = Path(__file__).parents[1] / "campaign.html.j2"
ACCENT = "#0f8bb3"
MANY_HEADLINES = 6


def report_page(
    journal: Journal, result: CampaignResult, drawn: Mapping[str, Sequence[Drawing]], **more: Any
) -> str:
    """The page as text.

    Args:
        journal: of the campaign.
        result: its figures.
        drawn: figures by their place in the page.
        more: whatever else the template names.
    """
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
        "si": si_text,
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
        headlines=[headline_sentence(plan, ratio) for ratio in _told_first(headline)],
        headline_ratios=[r for r in result.ratios if r.rail == result.headline_rail],
        other_ratios=[r for r in result.ratios if r.rail != result.headline_rail],
        marks=list(dict.fromkeys(m for arm in plan.arms for m in arm.marks)),
        unknown=_unknown(result),
        findings=findings,
        warnings=[f for f in findings if f.level == "warn"],
        aborts=[f.text for f in findings if f.level == "abort"],
        reasons=reasons(result.validity),
        limits=limits_told(plan),
        ledgers=list(zip(plan.pairs, plan.ledgers, strict=True)),
        clocks=_clocks(result),
        orders=_orders(result),
        provenance=_provenance(journal, result, more["version"]),
        events=journal.events(),
    )


def _told_first(headline: Sequence[PairRatio]) -> list[PairRatio]:
    """All ratios of the headline; of many cells the savings alone, the others are in the table."""
    savings = [ratio for ratio in headline if ratio.pair.question == "saving"]
    return savings if savings and len(headline) > MANY_HEADLINES else list(headline)


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
