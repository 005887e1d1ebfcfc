"""Wrong results and marked overlays: what never enters a comparison, and what stays on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.device.faults import Faults
from bacmac.host.errors import InputError, OverlayError, VerificationError
from bacmac.host.runtime.golden import GoldenCheck
from bacmac.host.runtime.session import Session
from bacmac.power.compare import compare
from bacmac.power.report import comparison_json, report_html
from bacmac.power.runs import Arm, ComparePlan
from bacmac.power.sampler import Sampler

MakePlan = Callable[..., ComparePlan]


def test_every_run_tells_how_many_outputs_were_checked(make_plan: MakePlan) -> None:
    comparison = compare(make_plan(blocks=2))

    told = comparison_json(comparison)
    assert [record.n_verified for record in comparison.records] == [2, 2, 2, 2]
    assert [run["n_verified"] for run in told["runs"]] == [2, 2, 2, 2]
    assert told["plan"]["verify"] == "sample"
    assert comparison.bac.n_verified == told["arms"]["bac"]["n_verified"] == 2
    checks = [c for c in comparison.checks if c.name == "outputs as the exact engine computes them"]
    assert [check.passed for check in checks] == [True, True]


def test_all_outputs_are_checked_where_that_is_asked(make_plan: MakePlan) -> None:
    comparison = compare(make_plan(blocks=2, verify="all"))

    assert {record.n_verified for record in comparison.records} == {12}
    assert comparison.mac.n_verified == 12


def test_a_device_that_computes_wrong_is_never_compared(make_plan: MakePlan) -> None:
    board = EmulatedBoard(faults=Faults(flip_output_bit=0))

    with pytest.raises(VerificationError, match="image 0, channel 0"):
        compare(make_plan(blocks=2), board=board)

    assert board.n_buffers == 0


@pytest.mark.parametrize("wrong", [5, 7, 11])
def test_one_wrong_run_ends_the_comparison(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    """Calls 0 to 3 size the runs; then each run is a warm-up, which is not used, and itself."""
    repeat, n_calls = Session.repeat_unverified, 0

    def spoiled(self: Session, *arguments: object) -> object:
        nonlocal n_calls
        result = repeat(self, *arguments)  # type: ignore[arg-type]
        n_calls += 1
        return replace(result, outputs=result.outputs + 1) if n_calls - 1 == wrong else result

    monkeypatch.setattr(Session, "repeat_unverified", spoiled)

    with pytest.raises(VerificationError, match="the result is not used"):
        compare(make_plan(blocks=4))


def test_nothing_is_computed_on_the_host_while_a_rail_is_read(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    for kind, name in ((Sampler, "start"), (Sampler, "stop"), (GoldenCheck, "check")):
        original = getattr(kind, name)

        def noted(*arguments: object, name: str = name, original: Callable[..., object] = original):
            events.append(name)
            return original(*arguments)

        monkeypatch.setattr(kind, name, noted)

    compare(make_plan(blocks=2))

    runs = events[events.index("start") :]
    assert runs == ["start", "stop", "check"] * 4


def test_a_plan_that_would_check_nothing_is_refused(make_plan: MakePlan) -> None:
    with pytest.raises(InputError, match="verify: found none; expected sample or all"):
        make_plan(verify="none")


def late(plan: ComparePlan, **changes: object) -> ComparePlan:
    """The plan with a BAC overlay that missed timing by 0.2 ns."""
    overlay = plan.bac.overlay
    resources = {**overlay.manifest.resources, "slack_ns": -0.2}
    missed = replace(overlay, manifest=replace(overlay.manifest, resources=resources))
    return replace(plan, bac=Arm(missed, plan.bac.model), **changes)


def test_an_overlay_that_missed_timing_is_refused(make_plan: MakePlan) -> None:
    board = EmulatedBoard()

    with pytest.raises(OverlayError, match=r"bac-pot4: timing: found .*-0.2 ns.*--accept-timing"):
        compare(late(make_plan(blocks=2)), board=board)

    assert board.activity.overlays == [], "before anything was loaded"


def test_accepted_it_marks_headline_json_and_report(make_plan: MakePlan) -> None:
    comparison = compare(late(make_plan(blocks=2), accept_timing=True))

    mark = "bac-pot4: timing not met: worst slack -0.2 ns"
    assert mark in comparison.headline
    assert mark in comparison_json(comparison)["marks"][0]
    assert mark in comparison_json(comparison)["headline"]
    assert report_html(comparison).count(mark) >= 2
    assert "MARKED" not in compare(make_plan(blocks=2)).headline
