"""A comparison as JSON and as one HTML file that opens without a network.

The page needs no script and loads nothing: figures are inline SVG, colours follow the reader's
light or dark setting. Whatever is emulated says so in the title, on every figure and in the text.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bacmac.host.errors import MissingExtraError
from bacmac.host.files import write_text
from bacmac.power.analysis import ArmEnergy, RailResult, RunEnergy
from bacmac.power.arms import ArmSummary
from bacmac.power.compare import Comparison, ratio_text
from bacmac.power.runs import RunRecord
from bacmac.power.statistics import Interval, RatioEstimate
from bacmac.power.units import si_scale

SCHEMA = "bacmac.comparison"
SCHEMA_VERSION = 1
TEMPLATE = Path(__file__).with_name("report.html.j2")
STYLE = Path(__file__).with_name("page.css.j2")
"""What every page looks like."""


def require_report() -> None:
    """Refuse before hours of runs, not after them.

    Raises:
        MissingExtraError: matplotlib or Jinja is not installed.
    """
    for module in ("matplotlib", "jinja2"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("an HTML report", "report")


def write_report(path: str | Path, comparison: Comparison) -> None:
    """Write the HTML report.

    Raises:
        MissingExtraError: matplotlib or Jinja is not installed.
        OutputError: it cannot be written.
    """
    require_report()
    write_text(path, report_html(comparison))


def report_html(comparison: Comparison) -> str:
    """The HTML report as text; the same comparison gives the same text."""
    from jinja2 import Environment, StrictUndefined  # extra `report`
    from markupsafe import Markup

    from bacmac.power import plots

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["si"] = _si
    environment.filters["ratio"] = ratio_text
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    figures = {
        "ratio": plots.ratio_figure(comparison),
        "energy": plots.energy_figure(comparison),
        "drift": plots.drift_figure(comparison),
        "blocks": plots.blocks_figure(comparison),
        "trace_bac": plots.trace_figure(comparison, "bac"),
        "trace_mac": plots.trace_figure(comparison, "mac"),
    }
    return template.render(
        c=comparison,
        primary=comparison.primary_result,
        arms=(("BAC", comparison.bac), ("MAC", comparison.mac)),
        figures={name: Markup(svg) for name, svg in figures.items()},
        failed=[check for check in comparison.checks if not check.passed],
        style=page_style(plots.COLOURS["bac"]),
    )


def page_style(accent: str) -> str:
    """The pages' style sheet, safe to stand in a page."""
    from markupsafe import Markup  # extra `report`

    return Markup(STYLE.read_text(encoding="utf-8").replace("{{ accent }}", accent))


def _si(value: float, unit: str, digits: int = 4) -> str:
    """A value with an SI prefix: 1.4e-6, "J" -> "1.4 µJ"."""
    factor, prefix = si_scale(value)
    return f"{value * factor:.{digits}g} {prefix}{unit}"


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Plain types, finite numbers, units in the names; versioned by `schema_version`."""
    plan = comparison.plan
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "emulated": comparison.emulated,
        "marks": list(comparison.marks),
        "headline": comparison.headline,
        "verdict": comparison.verdict,
        "primary_rail": comparison.primary,
        "plan": {
            "blocks": plan.blocks,
            "run_s": plan.run_s,
            "idle_s": plan.idle_s,
            "settle_s": plan.settle_s,
            "warm_up_s": plan.warm_up_s,
            "guard_s": comparison.guard_s,
            "seed": plan.seed,
            "batch_images": plan.batch_images,
            "sample_period_s": plan.sample_period_s,
            "rails": plan.rails,
            "device": plan.device,
            "verify": plan.verify,
            "orders": [list(order) for order in comparison.orders],
        },
        "images": {
            "source": plan.images.source,
            "sha256": plan.images.sha256,
            "n_images": len(plan.images.images),
        },
        "arms": {"bac": _arm(comparison.bac), "mac": _arm(comparison.mac)},
        "rails": [_rail(rail) for rail in comparison.rails],
        "ledger": [asdict(row) for row in comparison.ledger],
        "checks": [asdict(check) for check in comparison.checks],
        "runs": [_record(record) for record in comparison.records],
        "coefficients": [asdict(number) for number in comparison.coefficients],
        "provenance": dict(comparison.provenance),
    }


def comparison_text(comparison: Comparison) -> str:
    """The JSON as text; the same comparison gives the same text."""
    return json.dumps(comparison_json(comparison), indent=1, allow_nan=False) + "\n"


def _arm(arm: ArmSummary) -> dict[str, Any]:
    return {**asdict(arm), "accuracy": arm.accuracy}


def _rail(rail: RailResult) -> dict[str, Any]:
    step = rail.quantisation
    return {
        "rail": {**asdict(rail.info), "quantum_w": rail.info.quantum_w},
        "bac": _energy(rail.bac),
        "mac": _energy(rail.mac),
        "dynamic_ratio": None if rail.dynamic is None else _ratio(rail.dynamic),
        "dynamic_ratio_missing_because": rail.dynamic_reason,
        "dynamic_smallest_difference": rail.dynamic_smallest,
        "total_ratio": _ratio(rail.total),
        "quantisation": {**asdict(step), "noise_to_step": step.noise_to_step},
        "runs": [_run(run) for run in rail.runs],
    }


def _interval(interval: Interval) -> dict[str, float]:
    return asdict(interval)


def _ratio(ratio: RatioEstimate) -> dict[str, Any]:
    return {
        **asdict(ratio),
        "log_ratios": list(ratio.log_ratios),
        "resolution_limited": ratio.resolution_limited,
    }


def _energy(arm: ArmEnergy) -> dict[str, Any]:
    return {
        "dynamic_j_per_inference": _interval(arm.dynamic_j),
        "total_j_per_inference": _interval(arm.total_j),
        "static_j_per_inference": _interval(arm.static_j),
        "time_s_per_inference": arm.time_s,
        "energy_delay_js": arm.energy_delay_js,
        "inferences_per_s_per_w": arm.inferences_per_s_per_w,
        "systematic_u_j": arm.systematic_j,
    }


def _run(run: RunEnergy) -> dict[str, Any]:
    power = run.power
    return {
        "block": run.block,
        "arm": run.arm,
        "before_w": power.before.mean_w,
        "run_w": power.run.mean_w,
        "after_w": power.after.mean_w,
        "dynamic_w": power.dynamic_w,
        "dynamic_by_power_register_w": power.register_dynamic_w,
        "dynamic_j_per_inference": run.energy.dynamic_j,
        "total_j_per_inference": run.energy.total_j,
        "n_samples": power.run.n_samples,
        "max_gap_s": power.run.max_gap_s,
    }


def _record(record: RunRecord) -> dict[str, Any]:
    windows = {
        f"{name}_ns": [window.start_ns, window.end_ns]
        for name, window in (
            ("before", record.before),
            ("run", record.run),
            ("used", record.used),
            ("after", record.after),
        )
    }
    return {
        "block": record.block,
        "position": record.position,
        "arm": record.arm,
        "overlay": record.overlay,
        "clock_hz": record.clock_hz,
        "outputs_sha256": record.outputs_sha256,
        "provenance": record.provenance,
        "n_verified": record.n_verified,
        **asdict(record.counters),
        **windows,
    }
