"""One run of a campaign, on the virtual clock and on the real one."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from bacmac.host.device.clock import Clock, RealClock, VirtualClock
from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.errors import CompileError, RailError
from bacmac.overlays.registry import load_overlay
from bacmac.power.campaign.measure import Measurer, clocked, sampler_seed
from bacmac.power.campaign.plan import CampaignPlan, Cell, RunKey, block_keys
from bacmac.power.campaign.run import CampaignRun
from bacmac.power.campaign.sensor_step import StepResponse
from bacmac.power.campaign.surroundings import EmulatedSurroundings, MachineSurroundings
from bacmac.power.runs import Phase
from bacmac.power.sources import open_rails

KEY = RunKey(0, "main", 0, 0, 1, "mac4")


def measurer(plan: CampaignPlan, clock: Clock, machine: bool = False) -> Measurer:
    board = EmulatedBoard(clock=clock)
    rails = open_rails("emulated:", board)
    source = MachineSurroundings() if machine else EmulatedSurroundings(rails)
    return Measurer(plan, board, rails, source)


def make(plan: CampaignPlan, clock: Clock, machine: bool = False) -> CampaignRun:
    return measurer(plan, clock, machine).run(KEY, lambda phase: None)


@pytest.fixture(scope="module")
def brief(small_plan: CampaignPlan) -> CampaignPlan:
    """Runs that take no second of real time."""
    design = replace(
        small_plan.design, run_s=0.3, idle_s=0.2, settle_s=0.0, warm_up_s=0.0, guard_s=0.05
    )
    return replace(small_plan, design=design)


def test_the_sampler_has_a_share_of_a_processor_on_the_real_clock_alone(
    brief: CampaignPlan,
) -> None:
    real, virtual = make(brief, RealClock(), machine=True), make(brief, VirtualClock())

    assert real.sampler_share_idle is not None
    assert real.sampler_share_run is not None
    assert real.before.boot_id == real.after.boot_id
    assert (virtual.sampler_share_idle, virtual.sampler_share_run) == (None, None)


def test_a_run_is_told_its_parts_in_order(brief: CampaignPlan) -> None:
    told: list[Phase] = []

    measurer(brief, VirtualClock()).run(KEY, told.append)

    assert told == ["load", "settle", "idle", "warm up", "run", "guard", "idle after", "verify"]


def test_what_is_to_be_written_is_written_before_the_windows(
    brief: CampaignPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(os, "sync", lambda: told.append("sync"))

    measurer(brief, VirtualClock(), machine=True).run(KEY, told.append)

    assert told[:3] == ["load", "sync", "settle"]
    assert told.count("sync") == 1


def test_a_run_carries_its_key_and_its_place(brief: CampaignPlan) -> None:
    made = make(brief, VirtualClock())

    assert made.key == KEY
    assert (made.record.block, made.record.position, made.record.arm) == (0, 1, "mac4")
    assert made.record.model_sha256 == brief.arm("mac4").model.sha256


def test_passes_fill_a_run_and_follow_from_the_plan_alone(small_plan: CampaignPlan) -> None:
    first, second = measurer(small_plan, VirtualClock()), measurer(small_plan, VirtualClock(7))
    made = make(small_plan, VirtualClock())
    warm_up, passes = first.passes(0, "mac4")

    assert (warm_up, passes) == second.passes(0, "mac4")
    assert made.record.n_inferences == passes * 16
    assert 1.0 <= made.record.run.duration_s < 1.0 * (1 + 2 / passes)


def test_a_slower_clock_makes_fewer_passes(small_plan: CampaignPlan) -> None:
    cells = (Cell(0, 16, None), Cell(1, 16, 93.75e6))
    of = measurer(replace(small_plan, cells=cells), VirtualClock())

    assert of.passes(1, "bac")[1] == pytest.approx(of.passes(0, "bac")[1] / 2, rel=0.01)


def test_an_overlay_at_another_clock_is_the_same_overlay() -> None:
    overlay = load_overlay("bac-pot4e4")

    assert clocked(overlay, None) is overlay
    assert clocked(overlay, 1e8).manifest.clock_hz == 1e8
    assert clocked(overlay, 1e8).sha256 == overlay.sha256


def test_no_two_runs_share_a_sampling_jitter(small_plan: CampaignPlan) -> None:
    keys = [
        key
        for stage in ("aa", "main")
        for block in range(6)
        for attempt in range(2)
        for key in block_keys(small_plan, 0, stage, block, attempt)  # type: ignore[arg-type]
    ]

    assert len({sampler_seed(1, key) for key in keys}) == len(keys)


def test_a_batch_that_does_not_stay_on_chip_is_refused(small_plan: CampaignPlan) -> None:
    many = small_plan.images.images.repeat(200, axis=0)
    images = replace(small_plan.images, images=many, labels=None)

    with pytest.raises(CompileError, match="plan a smaller batch"):
        measurer(replace(small_plan, images=images, cells=(Cell(0, 12000, None),)), VirtualClock())


def test_rails_that_answer_late_make_the_guard_longer_once(small_plan: CampaignPlan) -> None:
    of = measurer(small_plan, VirtualClock())
    responses = {
        name: replace(response, info=replace(response.info, filter_tau_s=None))
        for name, response in of.step_responses().items()
    }

    def late(lag_s: float) -> dict[str, StepResponse]:
        return {n: replace(r, lag_s=lag_s, u_lag_s=0.001) for n, r in responses.items()}

    of.guard_s = 0.01
    of.fit_guard(late(0.08))

    assert 0.3 < of.guard_s < 0.5
    with pytest.raises(RailError, match="longer runs"):
        of.fit_guard(late(9.0))
