"""A campaign as one side of a comparison of campaigns: what must be the same, and its ratios."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

from bacmac.power.campaign.analysed import analysed, own_version
from bacmac.power.campaign.diff import NEVER_VARIED, RatioPart, Side
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.plan import Cell
from bacmac.power.campaign.result import CampaignResult, RatioEstimate
from bacmac.power.campaign.stored import StoredPlan
from bacmac.power.campaign.words import cell_text, pair_text
from bacmac.power.statistics import student_quantile


def campaign_side(file: str | Path, journal: Journal) -> Side:
    """One side of a comparison, analysed anew from the raw samples.

    Raises:
        InputError: no block is whole yet.
    """
    return side_of(str(file), journal.plan, analysed(journal), own_version())


def side_of(file: str, plan: StoredPlan, result: CampaignResult, own: str) -> Side:
    """One side of a comparison.

    Args:
        file: the journal's.
        plan: of the campaign.
        result: of it.
        own: version of bacmac that analyses.
    """
    design = asdict(plan.design)
    seed = design.pop("seed")
    return Side(
        file,
        result.emulated,
        {**_arms(plan), **_place(plan, result), **_cells(plan, result), **_limits(plan)},
        {
            "bacmac that measured": plan.made_with.get("bacmac", ""),
            "bacmac that analyses": own,
            "seed": f"{seed}",
            **{f"design: {name}": f"{value:g}" for name, value in design.items()},
            "complete": "yes" if result.complete else "no",
        },
        {
            (cell_text(plan.cells[r.cell]), pair_text(r), r.rail, r.quantity): _part(r.estimate)
            for r in result.ratios
            if r.estimate is not None
        },
    )


def _arms(plan: StoredPlan) -> dict[str, str]:
    found = {"arms": ", ".join(arm.name for arm in plan.arms)}
    for arm in plan.arms:
        found[f"arm {arm.name}: overlay"] = arm.overlay_sha256
        found[f"arm {arm.name}: model"] = arm.model_sha256
    return found


def _place(plan: StoredPlan, result: CampaignResult) -> dict[str, str]:
    rails = {rail.info.name: rail.info for rail in result.rails}
    return {
        "board": plan.board,
        NEVER_VARIED: "emulated" if result.emulated else "measured",
        "device": plan.device,
        "images": plan.images_sha256,
        "rails": ", ".join(sorted(rails)),
        **{
            f"rail {name}: sensor": f"{i.instrument}, step {i.quantum_w * 1e3:.4g} mW"
            for name, i in sorted(rails.items())
        },
    }


def _cells(plan: StoredPlan, result: CampaignResult) -> dict[str, str]:
    return {
        "batches": ", ".join(dict.fromkeys(str(cell.batch_images) for cell in plan.cells)),
        **{
            f"clock of {arm.name}": ", ".join(
                dict.fromkeys(_clock(result, cell, arm.name) for cell in plan.cells)
            )
            for arm in plan.arms
        },
    }


def _clock(result: CampaignResult, cell: Cell, arm: str) -> str:
    """Read back, to a tenth of a per cent."""
    found = [r.clock_hz for r in result.runs if (r.key.cell, r.key.arm) == (cell.index, arm)]
    return f"{sum(found) / len(found) / 1e6:.4g} MHz" if found else "none"


def _limits(plan: StoredPlan) -> dict[str, str]:
    return {f"limit {name}": str(value) for name, value in asdict(plan.limits).items()}


def _part(e: RatioEstimate) -> RatioPart:
    mean = e.log_mean
    error = mean.half_width / student_quantile((1 + mean.level) / 2, mean.dof)
    return RatioPart(mean.centre, error, mean.dof, math.hypot(e.u_step, e.u_offset or 0.0))
