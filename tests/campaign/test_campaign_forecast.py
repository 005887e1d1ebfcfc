"""What a plan says beforehand is near what simulated and emulated campaigns then do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bacmac.power.campaign.forecast import (
    LOAD_S,
    ExpectedPower,
    amount,
    expected_widths,
    guard_s,
    half_width,
    run_duration_s,
)
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.pairs import pair_ledger
from bacmac.power.campaign.plan import CampaignPlan, Design, Pair
from bacmac.power.campaign.plan_file import load_plan
from bacmac.power.campaign.planned_power import assumed_powers, emulated_powers, planned_rails
from bacmac.power.campaign.remarks import plan_remarks
from bacmac.power.coefficients import load_coefficients
from bacmac.power.compare import compare
from bacmac.power.energy import energy_j
from bacmac.power.rails import RailInfo
from bacmac.power.runs import Arm, ComparePlan
from bacmac.power.simulation import Campaign, simulate
from bacmac.power.statistics import student_quantile

NUMBERS = load_coefficients()
FINE = RailInfo("INT", 0.85, "a sensor with steps of 12 mW", 8_800_000, 0.012 / 0.85, 0.025)


def planned(plan: CampaignPlan, **design: float) -> CampaignPlan:
    """A plan with the default design but for what is given."""
    return replace(plan, design=replace(Design(), **design))  # type: ignore[arg-type]


@pytest.mark.parametrize(("run_s", "idle_s"), [(3.0, 1.5), (10.0, 5.0)])
def test_half_widths_are_those_of_simulated_campaigns(
    small_plan: CampaignPlan, run_s: float, idle_s: float
) -> None:
    plan = planned(small_plan, run_s=run_s, idle_s=idle_s)
    plan = replace(plan, pairs=(Pair("mac4", "bac", "shift"),))
    power = ExpectedPower(FINE, {"bac": 0.5, "mac4": 0.7}, 0.02, 0.006)

    (expected,) = expected_widths(plan, plan.cells[0], (FINE,), (power,), NUMBERS)

    blocks = 12
    simulated = simulate(Campaign(blocks=blocks, run_s=run_s, idle_s=idle_s), 400, 3)
    spread = math.sqrt(np.mean([e.t_half_width**2 for e in simulated]))
    t = student_quantile(0.975, blocks - 1)
    assert t * expected.block_sd / math.sqrt(blocks) == pytest.approx(spread, rel=0.08)


def test_the_rule_of_thumb_is_the_model_at_its_powers(small_plan: CampaignPlan) -> None:
    plan = replace(planned(small_plan), pairs=(Pair("mac4", "bac", "shift"),))
    power = ExpectedPower(FINE, {"bac": 0.5, "mac4": 0.7}, 0.02, 0.006)

    (expected,) = expected_widths(plan, plan.cells[0], (FINE,), (power,), NUMBERS)

    for blocks in (10, 20, 30):
        own = half_width(expected.block_sd, 0.0, blocks, blocks)
        assert own == pytest.approx(0.03 / math.sqrt(blocks), rel=0.08)


def test_power_and_spread_are_those_of_an_emulated_comparison(small_plan: CampaignPlan) -> None:
    bac, mac = small_plan.arm("bac"), small_plan.arm("mac8")
    plan = planned(small_plan)
    rails, _ = planned_rails(plan)
    powers = {p.info.name: p for p in emulated_powers(plan, plan.cells[0], rails, NUMBERS)}
    runs = compare(
        ComparePlan(
            Arm(bac.overlay, bac.model),
            Arm(mac.overlay, mac.model),
            plan.images,
            blocks=60,
            seed=3,
            batch_images=16,
        )
    ).records

    for name, arm in (("bac", "bac"), ("mac", "mac8")):
        measured = []
        for run in (run for run in runs if run.arm == name):
            rail = run.trace.rails["12V"]
            before, work, after = (
                energy_j(rail.times_ns, rail.power_w, w, "12V") / w.duration_s
                for w in (run.before, run.used, run.after)
            )
            measured.append(work - (before + after) / 2)
        assert powers["12V"].watts[arm] == pytest.approx(np.mean(measured), rel=0.06)
        # 60 blocks tell a standard deviation to 9 %
        relative = np.std(measured, ddof=1) / np.mean(measured)
        one = replace(plan, pairs=(Pair(arm, arm, "A/A"),))
        expected = expected_widths(one, one.cells[0], rails, (powers["12V"],), NUMBERS)[0]
        assert expected.block_sd / math.sqrt(2) == pytest.approx(relative, rel=0.3)


def test_more_blocks_do_not_narrow_what_the_step_leaves(small_plan: CampaignPlan) -> None:
    plan = replace(planned(small_plan), rails="emulated:coarse")
    rails, _ = planned_rails(plan)
    powers = emulated_powers(plan, plan.cells[0], rails, NUMBERS)

    expected = expected_widths(plan, plan.cells[0], rails, powers, NUMBERS)

    assert all(e.step_limited for e in expected)
    assert all(math.expm1(e.step_share) <= e.most <= e.pilot for e in expected)


def test_the_pilot_is_never_undercut_and_the_most_never_passed(small_plan: CampaignPlan) -> None:
    rails, _ = planned_rails(small_plan)
    for target in (1e-5, 0.02, 1.0):
        plan = planned(small_plan, target_half_width=target)
        powers = assumed_powers(plan, rails, 0.5, NUMBERS)

        for e in expected_widths(plan, plan.cells[0], rails, powers, NUMBERS):
            assert plan.design.pilot_blocks <= e.blocks <= plan.design.max_blocks
            assert e.most <= e.wanted <= e.pilot


def test_time_is_that_of_every_window_of_every_run(small_plan: CampaignPlan) -> None:
    plan = planned(small_plan)
    rails, _ = planned_rails(plan)

    most = amount(plan, rails, [20])

    # load, settle, idle, warm up, run, guard, idle
    assert run_duration_s(plan, rails) == LOAD_S + 1 + 5 + 1 + 10 + 0.5 + 5
    assert most.blocks == 10 + 20
    assert most.runs == 2 * 10 + 3 * 20
    assert most.duration_s == most.runs * run_duration_s(plan, rails)


def test_the_disk_it_takes_is_that_of_a_journal(
    small_plan: CampaignPlan, run: Callable[..., Any], packed_files: dict[str, Path], tmp_path: Path
) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "campaign.toml").read_text("utf-8")
    for old, new in (
        ("[16, 64]", "[16]"),
        ("aa_blocks = 10", "aa_blocks = 0"),
        ("max_blocks = 60", "max_blocks = 10"),
        ("max_die_c = 85.0", "max_idle_change_dynamic = 10.0"),
        ('"digits-', f'"{packed_files["bac"].parent}/digits-'),
        ('"digits_test.npz"', f'"{small_plan.images.source}"'),
    ):
        text = text.replace(old, new)
    plan_file, journal = tmp_path / "campaign.toml", tmp_path / "x.journal"
    plan_file.write_text(text, "utf-8")
    plan = load_plan(plan_file)
    rails, _ = planned_rails(plan)

    outcome = run("campaign", "run", plan_file, "-o", journal)

    assert outcome.status == 0, outcome.err
    expected = amount(plan, rails, [10]).disk_bytes
    assert journal.stat().st_size == pytest.approx(expected, rel=0.25)


def test_a_slow_rail_lengthens_the_guard(small_plan: CampaignPlan) -> None:
    rails, _ = planned_rails(replace(small_plan, rails="emulated:1s-cache"))

    assert guard_s(small_plan, rails) == pytest.approx(1.1)


def test_rails_that_are_not_here_are_those_of_the_overlays_board(small_plan: CampaignPlan) -> None:
    plan = replace(small_plan, device="pynq:", rails="hwmon:/nowhere", rail_names=("12V", "INT"))

    rails, source = planned_rails(plan)

    assert {info.name: round(info.quantum_w, 3) for info in rails} == {"12V": 0.012, "INT": 0.106}
    assert "not read here" in source


def test_the_ledger_of_bit_width_does_not_call_it_a_confound(small_plan: CampaignPlan) -> None:
    def kinds(question: str) -> dict[str, str]:
        pair = next(p for p in small_plan.pairs if p.question == question)
        return {row.item: row.kind for row in pair_ledger(small_plan, pair)}

    assert kinds("saving")["weight bits"] == "confound"
    assert kinds("bits")["weight bits"] == "arithmetic"
    assert kinds("bits")["product term"] == "same"
    assert kinds("shift")["weight bits"] == "same"
    assert kinds("shift")["product term"] == "arithmetic"


def test_what_the_checks_will_refuse_is_said_beforehand(small_plan: CampaignPlan) -> None:
    plan = planned(small_plan, run_s=5.0, aa_blocks=0, pilot_blocks=5)
    plan = replace(plan, rails="emulated:1s-cache", limits=Limits())
    plan = replace(plan, pairs=plan.pairs[:1], images=replace(plan.images, labels=None))
    rails, _ = planned_rails(plan)

    text = "\n".join(plan_remarks(plan, rails, ()))

    for words in (
        "EMULATED",
        "check 5",
        "check 2",
        "check 6",
        "A/A",
        "check 19",
        "not split",
        "no labels",
    ):
        assert words in text


def test_a_sound_plan_is_only_told_that_it_is_emulated(small_plan: CampaignPlan) -> None:
    plan = replace(planned(small_plan), rail_names=("12V",), limits=Limits())
    rails, _ = planned_rails(plan)

    assert len(plan_remarks(plan, rails, ())) == 1
