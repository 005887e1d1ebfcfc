"""`bacmac campaign plan`: check a campaign.toml whole, and tell what it will take and show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from bacmac.cli.choices import FILE
from bacmac.cli.output import json_option, note, print_json, print_table, say
from bacmac.power.analysis import headline_rail
from bacmac.power.campaign.forecast import (
    LOAD_S,
    Amount,
    ExpectedWidth,
    amount,
    expected_widths,
    run_duration_s,
)
from bacmac.power.campaign.live import duration_text
from bacmac.power.campaign.pairs import pair_ledger
from bacmac.power.campaign.plan import CampaignPlan, Cell
from bacmac.power.campaign.plan_file import load_plan
from bacmac.power.campaign.planned_power import assumed_powers, emulated_powers, planned_rails
from bacmac.power.campaign.remarks import plan_remarks
from bacmac.power.coefficients import load_coefficients
from bacmac.power.rails import RailInfo
from bacmac.power.resolution import ASSUMED_WATTS

_QUESTIONS = {
    "saving": "what bit width and shift save together",
    "bits": "what fewer weight bits save",
    "shift": "what the shift saves at equal weight bits",
    "A/A": "one arm twice: the truth is 1",
}


@click.command()
@click.argument("file", type=FILE)
@click.option(
    "--watts",
    type=click.FloatRange(1e-6, 1e4),
    help="Dynamic power to expect of an arm "
    f"[default: by the emulated board's table, {ASSUMED_WATTS:g} W on a real one].",
)
@json_option
def plan(file: Path, watts: float | None, as_json: bool) -> None:
    """Check the campaign of FILE whole; tell runs, time, disk, fairness and half-width.

    Everything that FILE names is read and fitted together; nothing is run on a board.
    """
    planned = load_plan(file)
    rails, source = planned_rails(planned)
    widths, basis = _widths(planned, rails, watts)
    amounts = _amounts(planned, rails, widths)
    remarks = plan_remarks(planned, rails, widths)
    if as_json:
        print_json(_payload(planned, rails, source, widths, basis, amounts, remarks))
        return
    _print_arms(planned)
    _print_fairness(planned)
    _print_amounts(planned, rails, amounts)
    _print_rails(rails, source)
    _print_widths(planned, widths, basis)
    say(f"Plan {planned.name}: sha256 {planned.sha256}")
    for remark in remarks:
        note(remark)


def _widths(
    plan: CampaignPlan, rails: Sequence[RailInfo], watts: float | None
) -> tuple[tuple[ExpectedWidth, ...], str]:
    """Expectations of all cells, and where their dynamic power is from."""
    numbers = load_coefficients()
    found: list[ExpectedWidth] = []
    emulated = watts is None and plan.rails.startswith("emulated:")
    for cell in plan.cells:
        powers = (
            emulated_powers(plan, cell, rails, numbers)
            if emulated
            else assumed_powers(plan, rails, watts or ASSUMED_WATTS, numbers)
        )
        found += expected_widths(plan, cell, rails, powers, numbers)
    if emulated:
        return tuple(found), "by the emulated board's coefficients"
    return tuple(found), "assumed" if watts is None else "given"


def _amounts(
    plan: CampaignPlan, rails: Sequence[RailInfo], widths: Sequence[ExpectedWidth]
) -> dict[str, Amount]:
    """What the campaign takes with the pilot alone, as expected, and at most."""
    design, cells = plan.design, len(plan.cells)
    names = list(dict.fromkeys(e.rail for e in widths))
    headline = headline_rail(names) if names else ""  # its pilot decides the number of blocks
    wanted = [
        max(
            [e.blocks for e in widths if (e.cell, e.rail) == (cell.index, headline)],
            default=design.pilot_blocks,
        )
        for cell in plan.cells
    ]
    return {
        "pilot": amount(plan, rails, [design.pilot_blocks] * cells),
        "expected": amount(plan, rails, wanted),
        "most": amount(plan, rails, [design.max_blocks] * cells),
    }


def _print_arms(plan: CampaignPlan) -> None:
    print_table(
        ["arm", "overlay", "product", "weights", "built for", "model"],
        [
            (
                arm.name,
                arm.overlay.manifest.name,
                arm.overlay.manifest.product,
                arm.overlay.manifest.scheme,
                f"{arm.overlay.manifest.clock_hz / 1e6:g} MHz",
                arm.model.path,
            )
            for arm in plan.arms
        ],
        title=f"{plan.name}: {plan.device} {plan.rails} on board {plan.board}, "
        f"{len(plan.images.images)} images",
        prose=(5,),
    )
    print_table(
        ["cell", "batch [images]", "clock"],
        [(cell.index, cell.batch_images, _clock(cell)) for cell in plan.cells],
        title="every arm in every cell",
        numbers=(0, 1, 2),
    )


def _clock(cell: Cell) -> str:
    return "as built" if cell.clock_hz is None else f"{cell.clock_hz / 1e6:.6g} MHz"


def _print_fairness(plan: CampaignPlan) -> None:
    for pair in plan.pairs:
        rows = pair_ledger(plan, pair)
        different = [row for row in rows if row.kind != "same"]
        print_table(
            ["what differs", pair.denominator, pair.numerator, "", "remark"],
            [(row.item, row.a, row.b, row.kind, row.note) for row in different],
            title=f"{pair.question}, E_{pair.numerator} / E_{pair.denominator}: "
            f"{_QUESTIONS[pair.question]} ({len(rows) - len(different)} properties are the same)",
            prose=(1, 2, 4),
        )


def _print_amounts(
    plan: CampaignPlan, rails: Sequence[RailInfo], amounts: dict[str, Amount]
) -> None:
    d = plan.design
    names = {
        "pilot": f"the pilot, {d.pilot_blocks} blocks a cell",
        "expected": "what the pilot may ask for",
        "most": f"max_blocks, {d.max_blocks} a cell",
    }
    print_table(
        ["if it ends with", "blocks", "runs", "time", "disk"],
        [
            (names[key], a.blocks, a.runs, duration_text(a.duration_s), _size(a.disk_bytes))
            for key, a in amounts.items()
        ],
        title=f"amount, with {d.aa_blocks} A/A blocks a cell; a run takes "
        f"{run_duration_s(plan, rails):.3g} s, {LOAD_S:g} s of it assumed for its overlay",
        numbers=(1, 2, 3, 4),
    )


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.2f} GB"


def _print_rails(rails: Sequence[RailInfo], source: str) -> None:
    print_table(
        ["rail", "step of V x I", "refresh", "instrument", "feeds"],
        [
            (
                info.name,
                f"{info.quantum_w * 1e3:.3g} mW",
                "not known"
                if info.update_period_ns is None
                else f"{info.update_period_ns * 1e-6:.4g} ms",
                info.instrument,
                info.feeds,
            )
            for info in rails
        ],
        title=f"rails, by {source}",
        numbers=(1, 2),
        prose=(3, 4),
    )


def _print_widths(plan: CampaignPlan, widths: Sequence[ExpectedWidth], basis: str) -> None:
    d = plan.design
    origin = "EMULATED: " if plan.device != "pynq:" else ""
    print_table(
        ["cell", "rail", "pair", "W", "s", f"at {d.pilot_blocks}", f"at {d.max_blocks}", "blocks"],
        [
            (
                e.cell,
                e.rail,
                f"{e.pair.numerator}/{e.pair.denominator}",
                f"{e.watts[1]:.3g}/{e.watts[0]:.3g}",
                f"{e.block_sd:.1%}",
                f"{e.pilot:.2%}",
                f"{e.most:.2%}",
                "step" if e.step_limited else e.blocks,
            )
            for e in widths
        ],
        title=f"{origin}expected half-width of the dynamic ratio's 95 % interval",
        numbers=(0, 3, 4, 5, 6, 7),
    )
    say(
        f"W: dynamic power, {basis}. s: spread of a block's log ratio. At {d.pilot_blocks}, at "
        f"{d.max_blocks}: half-widths after the pilot and after max_blocks. Blocks: what the pilot "
        f"is expected to ask for, target {d.target_half_width:.2%}; where the sensor's step limits "
        "the interval no number helps. Estimates, by Stein's interval t s / sqrt(K) with the "
        "step in quadrature; noise and spread of runs as the emulated board's coefficients assume "
        "them. At 0.5 W and 0.7 W this is the rule 3 % / sqrt(K) of simulated campaigns. Drift, "
        "repeated blocks and a board's own noise come on top."
    )


def _payload(
    plan: CampaignPlan,
    rails: Sequence[RailInfo],
    source: str,
    widths: Sequence[ExpectedWidth],
    basis: str,
    amounts: dict[str, Amount],
    remarks: Sequence[str],
) -> dict[str, object]:
    return {
        "schema": "bacmac.campaign.plan",
        "schema_version": 1,
        "name": plan.name,
        "sha256": plan.sha256,
        "board": plan.board,
        "device": plan.device,
        "rails_word": plan.rails,
        "emulated": plan.device != "pynq:",
        "images": {"source": plan.images.source, "number": len(plan.images.images)},
        "arms": [
            {
                "name": arm.name,
                "overlay": arm.overlay.manifest.name,
                "overlay_sha256": arm.overlay.sha256,
                "product": arm.overlay.manifest.product,
                "scheme": arm.overlay.manifest.scheme,
                "built_clock_hz": arm.overlay.manifest.clock_hz,
                "model": arm.model.path,
                "model_sha256": arm.model.sha256,
            }
            for arm in plan.arms
        ],
        "cells": [asdict(cell) for cell in plan.cells],
        "pairs": [
            {**asdict(pair), "ledger": [asdict(row) for row in pair_ledger(plan, pair)]}
            for pair in plan.pairs
        ],
        "design": asdict(plan.design),
        "limits": asdict(plan.limits),
        "rails": [
            {"rail": i.name, "instrument": i.instrument, "step_w": i.quantum_w} for i in rails
        ],
        "rails_source": source,
        "amounts": {key: asdict(value) for key, value in amounts.items()},
        "dynamic_power_basis": basis,
        "expected": [asdict(e) for e in widths],
        "remarks": list(remarks),
    }
