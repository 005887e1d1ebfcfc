"""The whole comparison on the emulated board: orders, records, truth, and how it ends early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.device.faults import Faults
from bacmac.host.errors import InputError, MismatchError, RailError, TraceTooShortError
from bacmac.power import compare as compare_module
from bacmac.power.analysis import analyse
from bacmac.power.checks import check_records
from bacmac.power.compare import Comparison, compare, ratio_text
from bacmac.power.emulated import EmulatedRails, activity_j
from bacmac.power.report import comparison_text, report_html
from bacmac.power.runs import ComparePlan, RunRecord

MakePlan = Callable[..., ComparePlan]


@pytest.fixture(scope="module")
def finished() -> dict[str, Comparison]:
    return {}


def once(finished: dict[str, Comparison], plan: ComparePlan, name: str) -> Comparison:
    """Comparisons that several tests look at are made once."""
    if name not in finished:
        finished[name] = compare(plan)
    return finished[name]


def test_eight_bit_mac_takes_more_and_the_interval_holds_the_models_truth(
    make_plan: MakePlan, finished: dict[str, Comparison]
) -> None:
    board = EmulatedBoard()
    plan = make_plan(blocks=8)
    comparison = compare(plan, board=board)

    truth = _true_dynamic_w(board)
    ratio = comparison.primary_result.dynamic
    assert ratio is not None
    assert comparison.primary == "12V"
    assert ratio.low < truth["mac-uniform8"] / truth["bac-pot4"] * _time_ratio(comparison)
    assert ratio.high > truth["mac-uniform8"] / truth["bac-pot4"] * _time_ratio(comparison)
    assert comparison.verdict == "lower"
    assert comparison.headline.startswith("EMULATED")


def _true_dynamic_w(board: EmulatedBoard) -> dict[str, float]:
    """Mean power of the longest activity of each overlay, on 12V, from the model itself."""
    numbers = EmulatedRails(board.activity, board.clock).coefficients
    found = {}
    for (start, manifest), (end, _) in zip(
        board.activity.overlays, [*board.activity.overlays[1:], (2**62, None)], strict=True
    ):
        own = [a for a in board.activity.work if start <= a.start_ns < end]
        longest = max(own, key=lambda a: a.end_ns - a.start_ns)
        int_j, dram_j = activity_j(longest, manifest, numbers)
        found[manifest.name] = (int_j + dram_j) / (longest.end_ns - longest.start_ns) * 1e9
    return found


def _time_ratio(comparison: Comparison) -> float:
    rail = comparison.primary_result
    return rail.mac.time_s / rail.bac.time_s


def test_the_same_arm_twice_gives_a_ratio_that_contains_one(make_plan: MakePlan) -> None:
    comparison = compare(make_plan(mac="pot-4", blocks=8, seed=2))

    for rail in comparison.rails:
        assert rail.total.verdict == "not resolvable"
        assert rail.total.low < 1 < rail.total.high
        assert rail.dynamic is None or rail.dynamic.low < 1 < rail.dynamic.high
    assert "Not resolvable" in comparison.headline
    assert "could have shown a difference of" in comparison.headline


def test_every_run_has_its_own_idle_windows_and_its_own_overlay(
    make_plan: MakePlan, finished: dict[str, Comparison]
) -> None:
    comparison = once(finished, make_plan(), "default")

    assert len(comparison.records) == 8
    planned = [arm for order in comparison.orders for arm in order]
    assert [record.arm for record in comparison.records] == planned
    for record in comparison.records:
        assert record.overlay == {"bac": "bac-pot4", "mac": "mac-uniform8"}[record.arm]
        assert record.before.end_ns <= record.run.start_ns < record.used.start_ns
        assert record.run.end_ns <= record.after.start_ns
        assert record.before.duration_s == pytest.approx(2.0)
        assert record.after.duration_s == pytest.approx(2.0)
        assert record.run.duration_s == pytest.approx(4.0, rel=0.01)
        assert record.used.start_ns - record.run.start_ns == 500_000_000
        assert record.provenance == "functional"
    starts = [record.before.start_ns for record in comparison.records]
    assert starts == sorted(starts)


def test_every_run_of_an_arm_does_the_same_work(
    make_plan: MakePlan, finished: dict[str, Comparison]
) -> None:
    comparison = once(finished, make_plan(), "default")

    for arm in ("bac", "mac"):
        own = [record for record in comparison.records if record.arm == arm]
        assert len({r.counters.images for r in own}) == 1
        assert len({r.outputs_sha256 for r in own}) == 1
    assert all(check.passed for check in comparison.checks if "same" in check.name)


def test_accuracy_is_told_of_both_arms_from_the_labels(
    make_plan: MakePlan, finished: dict[str, Comparison]
) -> None:
    labelled = once(finished, make_plan(), "default")
    plan = make_plan(blocks=2)
    bare = compare(replace(plan, images=replace(plan.images, labels=None)))

    assert 0 <= (labelled.bac.n_correct or 0) <= labelled.bac.n_images == 12
    assert labelled.bac.accuracy == (labelled.bac.n_correct or 0) / 12
    assert bare.bac.accuracy is None


def test_the_ledger_speaks_of_the_models_too(
    make_plan: MakePlan, finished: dict[str, Comparison]
) -> None:
    rows = {row.item: row for row in once(finished, make_plan(), "default").ledger}

    assert rows["model: weight bits"].kind == "confound"
    assert (rows["model: weight bits"].a, rows["model: weight bits"].b) == ("4", "8")
    assert rows["model: activation bits"].kind == "same"
    assert rows["model: zero weights"].kind == "same"
    assert rows["model: layers and shapes"].a == "2 layers, 25,088 weights"
    assert "product term" in rows


def test_a_comparison_can_be_repeated_to_the_last_reading(make_plan: MakePlan) -> None:
    first, second = (compare(make_plan(blocks=2, seed=7)) for _ in range(2))
    other = compare(make_plan(blocks=2, seed=8))

    def readings(comparison: Comparison) -> list[list[int]]:
        return [r.trace.rails["12V"].current_ma.tolist() for r in comparison.records]

    assert readings(first) == readings(second)
    assert readings(first) != readings(other)
    assert first.headline == second.headline


def test_energies_follow_from_the_records_alone(
    make_plan: MakePlan, finished: dict[str, Comparison]
) -> None:
    comparison = once(finished, make_plan(), "default")

    again = analyse(comparison.records)

    assert again[1].total.ratio == comparison.rails[1].total.ratio
    with pytest.raises(ValueError, match="not every block has one run"):
        analyse(comparison.records[:-1])


def test_the_coarse_board_says_that_its_step_limits_it(make_plan: MakePlan) -> None:
    changes = {"mac": "uniform-4", "rail_names": ("12V",), "blocks": 12}
    changes |= {"run_s": 10.0, "idle_s": 5.0}
    fine = compare(make_plan(**changes))
    coarse = compare(make_plan(**changes, rails="emulated:coarse"))

    check = next(check for check in coarse.checks if check.name == "step fine enough")
    assert not check.passed
    assert coarse.verdict == "not resolvable"
    ratio, fine_ratio = coarse.primary_result.dynamic, fine.primary_result.dynamic
    assert ratio is not None
    assert fine_ratio is not None
    assert ratio.resolution_limited
    assert not fine_ratio.resolution_limited
    assert ratio.half_width > 2 * fine_ratio.half_width


def test_a_slow_rail_makes_the_guard_longer_or_the_plan_impossible(make_plan: MakePlan) -> None:
    comparison = compare(make_plan(rails="emulated:1s-cache", blocks=2))

    assert comparison.guard_s == pytest.approx(1.1)
    failed = [check.name for check in comparison.checks if not check.passed]
    assert "sensor fast enough" in failed
    assert "blocks enough" in failed or comparison.primary_result.dynamic is None
    with pytest.raises(RailError, match="give it a longer run"):
        compare(make_plan(rails="emulated:1s-cache", run_s=2.0))


def test_only_the_named_rails_are_read(make_plan: MakePlan) -> None:
    comparison = compare(make_plan(rail_names=("INT",), blocks=2))

    assert [rail.info.name for rail in comparison.rails] == ["INT"]
    assert comparison.primary == "INT"


def test_a_sample_period_longer_than_a_window_is_an_error_not_zero_joules(
    make_plan: MakePlan,
) -> None:
    with pytest.raises(TraceTooShortError, match="energy needs 2 or more"):
        compare(make_plan(blocks=2, sample_period_s=3.0))


def test_arms_of_different_images_are_refused(make_plan: MakePlan, request: Any) -> None:
    from_conftest = make_plan()
    wide = replace(from_conftest.mac.model.model, input_shape=(8, 8, 8))
    other = replace(
        from_conftest, mac=replace(from_conftest.mac, model=_packed(from_conftest, wide))
    )

    with pytest.raises(MismatchError, match=r"tiny-uniform-8.*input shape: found \(8, 8, 8\)"):
        compare(other)


def _packed(plan: ComparePlan, model: Any) -> Any:
    return replace(plan.mac.model, model=model)


def test_no_images_are_refused(make_plan: MakePlan) -> None:
    plan = make_plan()
    none = replace(plan.images, images=plan.images.images[:0], labels=None)

    with pytest.raises(MismatchError, match="images: found none"):
        compare(replace(plan, images=none))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("blocks", 1),
        ("run_s", 0.5),
        ("idle_s", 0.0),
        ("settle_s", -1.0),
        ("warm_up_s", -1.0),
        ("guard_s", -0.1),
        ("seed", -1),
        ("batch_images", 0),
        ("sample_period_s", 0.0),
        ("run_s", float("nan")),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_field(
    make_plan: MakePlan, field: str, value: float
) -> None:
    with pytest.raises(InputError, match=f"comparison plan: {field}: found"):
        make_plan(**{field: value})


def test_ctrl_c_ends_the_sampling_and_closes_the_board(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = []

    class Board(EmulatedBoard):
        def __init__(self) -> None:
            super().__init__()
            self.closed = False
            boards.append(self)

        def close(self) -> None:
            self.closed = True
            super().close()

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "runs" and done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(compare_module, "open_board", lambda word: Board())
    with pytest.raises(KeyboardInterrupt):
        compare(make_plan(), progress=interrupt)

    assert boards[0].closed
    assert boards[0].n_buffers == 0


def test_ctrl_c_inside_a_run_leaves_nothing_behind(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    read = EmulatedRails.read

    def interrupted(self: EmulatedRails, rail: str) -> Any:
        nonlocal reads
        reads += 1
        if reads == 700:
            raise KeyboardInterrupt
        return read(self, rail)

    monkeypatch.setattr(EmulatedRails, "read", interrupted)
    board = EmulatedBoard()
    with pytest.raises(KeyboardInterrupt):
        compare(make_plan(), board=board)

    assert board.n_buffers == 0
    board.clock.sleep_ns(10**9)
    assert reads == 700  # nobody samples any more


def test_progress_tells_images_and_runs_to_the_end(make_plan: MakePlan) -> None:
    told: list[tuple[str, int, int]] = []

    compare(make_plan(blocks=2), progress=lambda *values: told.append(values))

    assert ("runs", 0, 4) in told
    assert told[-1] == ("runs", 4, 4)
    assert any(total == 12 and done == 12 for _, done, total in told)


def test_the_clock_that_is_read_back_is_kept(make_plan: MakePlan) -> None:
    plan = make_plan(blocks=2)
    almost_hz = plan.bac.overlay.manifest.clock_hz * (1 + 1e-5)

    comparison = compare(plan, board=EmulatedBoard(faults=Faults(clock_hz=almost_hz)))

    assert comparison.bac.clock_hz == almost_hz
    assert comparison.records[0].clock_hz == almost_hz


def test_checks_notice_a_gap_missing_samples_and_other_outputs(
    make_plan: MakePlan, finished: dict[str, Comparison]
) -> None:
    records = list(once(finished, make_plan(), "default").records)
    records[2] = replace(_without(records[2], 3.0, 3.4), outputs_sha256="ff" * 32)

    checks = check_records(records, analyse(records))

    failed = {(check.name, check.rail) for check in checks if not check.passed}
    assert ("samples complete", "12V") in failed
    assert ("no gap between samples", "12V") in failed
    assert ("same outputs in every run", "") in failed


def _without(record: RunRecord, start_s: float, end_s: float) -> RunRecord:
    """A record that lost the samples of a stretch of time."""
    rails = {}
    for name, rail in record.trace.rails.items():
        seconds = (rail.times_ns - record.before.start_ns) * 1e-9
        keep = ~((seconds > start_s) & (seconds < end_s))
        columns = (rail.times_ns, rail.voltage_mv, rail.current_ma, rail.power_uw)
        rails[name] = type(rail)(rail.info, *(np.asarray(column)[keep] for column in columns))
    return replace(record, trace=replace(record.trace, rails=rails))


def test_checks_notice_an_idle_that_moved(
    make_plan: MakePlan, finished: dict[str, Comparison]
) -> None:
    records = list(once(finished, make_plan(), "default").records)
    rail = records[1].trace.rails["12V"]
    late = rail.times_ns > records[1].after.start_ns
    moved = replace(rail, current_ma=rail.current_ma + 50 * late)
    trace = replace(records[1].trace, rails={**records[1].trace.rails, "12V": moved})
    records[1] = replace(records[1], trace=trace)

    checks = check_records(records, analyse(records))

    check = next(c for c in checks if c.name.startswith("idle") and c.rail == "12V")
    assert not check.passed
    assert "1 of 8 runs" in check.text


def test_energy_at_or_below_zero_is_kept_and_told_and_makes_no_ratio(
    make_plan: MakePlan, finished: dict[str, Comparison]
) -> None:
    comparison = once(finished, make_plan(), "default")
    records = list(comparison.records)
    rail = records[0].trace.rails["12V"]
    running = (rail.times_ns > records[0].run.start_ns) & (rail.times_ns < records[0].run.end_ns)
    lower = replace(rail, current_ma=rail.current_ma - 100 * running)
    trace = replace(records[0].trace, rails={**records[0].trace.rails, "12V": lower})
    records[0] = replace(records[0], trace=trace)

    rails = {result.info.name: result for result in analyse(records)}

    assert rails["12V"].dynamic is None
    assert rails["12V"].dynamic_reason == "1 of 8 runs show no dynamic energy above zero on 12V"
    assert len(rails["12V"].runs) == 8
    headline = replace(comparison, rails=tuple(rails.values())).headline
    assert "Not resolvable: 1 of 8 runs" in headline


def test_sensors_beside_an_emulated_accelerator_show_nothing_and_it_is_called_emulated(
    make_plan: MakePlan, tmp_path: Path
) -> None:
    """Constant readings: no spread, no dynamic energy, and still an honest answer."""
    chip = tmp_path / "hwmon0"
    chip.mkdir()
    for file, value in (
        ("name", "ina226"),
        ("in1_input", "6"),
        ("in2_input", "12100"),
        ("curr1_input", "1150"),
        ("power1_input", "13900000"),
    ):
        (chip / file).write_text(f"{value}\n")

    comparison = compare(make_plan(rails=f"hwmon:{tmp_path}", blocks=2), board=EmulatedBoard())

    assert comparison.emulated
    assert comparison.coefficients == ()
    rail = comparison.primary_result
    assert rail.dynamic is None
    assert rail.quantisation.u_window_w == pytest.approx(0.012 / 12**0.5)
    assert rail.total.low < rail.total.ratio < rail.total.high
    assert "Not resolvable: 4 of 4 runs show no dynamic energy above zero" in comparison.headline
    assert "which cannot see its work" in report_html(comparison)
    comparison_text(comparison)


def test_a_rail_that_dies_in_the_middle_of_a_comparison_names_its_file(
    make_plan: MakePlan, tmp_path: Path
) -> None:
    chip = tmp_path / "hwmon0"
    chip.mkdir()
    for file, value in (("name", "ina226"), ("in2_input", "12100"), ("power1_input", "13900000")):
        (chip / file).write_text(f"{value}\n")
    (chip / "curr1_input").write_text("1150\n")

    def die(what: str, done: int, total: int) -> None:
        if what == "runs" and done == 1:
            (chip / "curr1_input").unlink()

    with pytest.raises(RailError, match="curr1_input: cannot be read"):
        compare(make_plan(rails=f"hwmon:{tmp_path}", blocks=2), board=EmulatedBoard(), progress=die)


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(2.02677, "2.027"), (0.99962, "0.9996"), (1.000004, "1.000004"), (1.0, "1.000000")],
)
def test_a_bound_near_one_is_printed_on_its_own_side(ratio: float, text: str) -> None:
    assert ratio_text(ratio) == text
