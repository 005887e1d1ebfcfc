"""A campaign makes what is owed, in the planned order, whatever happens on the way."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from rich.console import Console

from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.errors import DeviceError, MismatchError, OutputError, RailError
from bacmac.host.manifest.overlay import Overlay
from bacmac.power.campaign.execute import MAX_TRIES, Outcome, run_campaign
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.live import LogLines, TerminalTable, View, render
from bacmac.power.campaign.plan import CampaignPlan, Cell, RunKey, block_keys
from bacmac.power.campaign.run import CampaignRun
from bacmac.power.campaign.stop import Stop
from bacmac.power.rails import RailInfo, RailSource, RawSample
from bacmac.power.sources import open_rails


@dataclass
class Heard:
    """A live view that keeps what it was shown, and may do something when it is."""

    views: list[View] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    on_view: Callable[[View], None] = lambda view: None
    key: RunKey | None = None

    def show(self, view: View) -> None:
        self.key = view.key
        self.views.append(view)
        self.on_view(view)

    def block_ended(self, view: View) -> None:
        self.views.append(view)

    def say(self, text: str) -> None:
        self.said.append(text)


class FailingBoard(EmulatedBoard):
    """Refuses to load an overlay at these times of asking."""

    def __init__(self, fails: Sequence[int] = ()) -> None:
        super().__init__()
        self.fails, self.n_loads = set(fails), 0

    def load_overlay(self, overlay: Overlay) -> None:
        self.n_loads += 1
        if self.n_loads in self.fails:
            raise DeviceError("the board does not answer")
        super().load_overlay(overlay)


class WatchedRails:
    """Rails of which something happens at each reading."""

    word, emulated = "emulated:", True

    def __init__(self, source: RailSource, at_read: Callable[[int], None]) -> None:
        self._source, self._at_read = source, at_read

    def rails(self) -> tuple[RailInfo, ...]:
        return self._source.rails()

    def read(self, rail: str) -> RawSample:
        sample = self._source.read(rail)
        self._at_read(sample.time_ns)
        return sample


@pytest.fixture(scope="module")
def plan(small_plan: CampaignPlan) -> CampaignPlan:
    """The small campaign; idle windows of 0.5 s are too short to be judged by their change."""
    limits = replace(small_plan.limits, max_idle_change_share=1.0, max_idle_change_dynamic=10.0)
    return replace(small_plan, limits=limits)


def carry_out(
    plan: CampaignPlan,
    journal: Journal,
    live: Heard | None = None,
    stop: Stop | None = None,
    board: EmulatedBoard | None = None,
    at_read: Callable[[int], None] | None = None,
    seed: int = 3,
) -> Outcome:
    opened = board or EmulatedBoard()
    last_ns = max((run.after.monotonic_ns for run in journal.runs(valid_only=False)), default=0)
    opened.clock.sleep_ns(last_ns)
    try:
        rails: RailSource = open_rails(plan.rails, opened, seed=seed)
        if at_read is not None:
            rails = WatchedRails(rails, at_read)
        return run_campaign(plan, journal, opened, rails, live=live or Heard(), stop=stop or Stop())
    finally:
        opened.close()


def done(journal: Journal) -> list[RunKey]:
    return [state.key for state in journal.states() if state.state == "done"]


def invalid(journal: Journal) -> list[tuple[int, str]]:
    return [(s.key.attempt, s.reason) for s in journal.states() if s.state == "invalid"]


def without_attempt(keys: Sequence[RunKey]) -> list[RunKey]:
    return [replace(key, attempt=0) for key in keys]


def what_was_done(journal: Journal) -> list[tuple[object, ...]]:
    """What of a run is the same whenever it is made."""
    return [
        (
            replace(run.key, attempt=0),
            run.record.counters,
            run.record.outputs_sha256,
            run.record.overlay_sha256,
            run.record.model_sha256,
            run.record.clock_hz,
        )
        for run in journal.runs()
    ]


@pytest.fixture(scope="module")
def undisturbed(plan: CampaignPlan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Heard]:
    path, heard = tmp_path_factory.mktemp("undisturbed") / "a.journal", Heard()
    with Journal.create(path, plan) as journal:
        assert carry_out(plan, journal, heard).ended == "done"
    return path, heard


def test_every_planned_run_is_made_once_in_the_planned_order(
    plan: CampaignPlan, undisturbed: tuple[Path, Heard]
) -> None:
    with Journal.open(undisturbed[0]) as journal:
        n = journal.main_blocks(0)
        made = sorted(journal.runs(), key=lambda run: run.before.monotonic_ns)

    assert n is not None
    planned = [key for block in range(2) for key in block_keys(plan, 0, "aa", block)]
    planned += [key for block in range(n) for key in block_keys(plan, 0, "main", block)]
    assert [run.key for run in made] == planned


def test_what_was_found_beside_the_runs_is_kept(
    plan: CampaignPlan, undisturbed: tuple[Path, Heard]
) -> None:
    with Journal.open(undisturbed[0]) as journal:
        facts, result, events = journal.facts(), journal.result(), journal.events()

    assert {arm: found["n_images"] for arm, found in facts["accuracy"].items()} == {
        "bac": 64,
        "mac4": 64,
        "mac8": 64,
    }
    assert facts["guard_s"] >= plan.design.guard_s
    assert set(facts["passes"]) == {"0 bac", "0 mac4", "0 mac8"}
    assert set(facts["step_responses"]) == {"12V", "INT"}
    assert result is not None
    assert events[-1].text == "campaign small is done"
    assert any("Stein" in event.text for event in events)
    assert sum("A/A on 12V" in event.text for event in events) == 1


def test_every_run_of_an_arm_does_equal_work_for_at_least_as_long_as_planned(
    plan: CampaignPlan, undisturbed: tuple[Path, Heard]
) -> None:
    with Journal.open(undisturbed[0]) as journal:
        runs = list(journal.runs())

    for arm in ("bac", "mac4", "mac8"):
        own = [run.record for run in runs if run.key.arm == arm]
        assert len({record.counters for record in own}) == 1
        assert all(1.0 <= record.run.duration_s < 1.01 for record in own)


def test_surroundings_lie_outside_of_the_windows(undisturbed: tuple[Path, Heard]) -> None:
    with Journal.open(undisturbed[0]) as journal:
        for run in journal.runs():
            assert run.before.monotonic_ns <= run.record.before.start_ns
            assert run.after.monotonic_ns >= run.record.after.end_ns


def test_a_finished_campaign_owes_nothing(plan: CampaignPlan, tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Journal.create(path, plan) as journal:
        carry_out(plan, journal)
        before = journal.states()
        board = FailingBoard()

        outcome = carry_out(plan, journal, board=board)

        assert outcome.ended == "done"
        assert journal.states() == before
        assert board.n_loads == 0


def test_readings_that_fail_make_the_block_again_in_the_same_order(
    plan: CampaignPlan, tmp_path: Path
) -> None:
    heard, failed = Heard(), []
    target = block_keys(plan, 0, "main", 1)[1]

    def fail(time_ns: int) -> None:
        if heard.key == target and len(failed) < 20:
            failed.append(time_ns)
            raise RailError("the bus does not answer")

    with Journal.create(tmp_path / "a.journal", plan) as journal:
        outcome = carry_out(plan, journal, heard, at_read=fail)
        bad = [state for state in journal.states() if state.state == "invalid"]
        kept = [run for run in journal.runs(valid_only=False) if run.read_errors]
        again = without_attempt(done(journal))

    assert outcome.ended == "done"
    assert "check 3" in {state.reason for state in bad}
    assert len({(state.key.stage, state.key.block) for state in bad}) == 1
    assert kept  # what is invalid stays
    assert again == sorted(again, key=lambda key: (key.stage, key.block, key.position))
    assert len(again) == len(set(again))


def test_a_device_that_fails_once_costs_one_block(plan: CampaignPlan, tmp_path: Path) -> None:
    with Journal.create(tmp_path / "a.journal", plan) as journal:
        heard = Heard()
        outcome = carry_out(plan, journal, heard, board=FailingBoard([9]))

        assert outcome.ended == "done"
        assert {reason for _, reason in invalid(journal)} <= {"device", "block"}
        assert (0, "device") in invalid(journal)
        assert any("does not answer" in text for text in heard.said)
        assert any("does not answer" in event.text for event in journal.events())


def test_a_device_that_stays_away_ends_the_campaign_and_says_why(
    plan: CampaignPlan, tmp_path: Path
) -> None:
    with Journal.create(tmp_path / "a.journal", plan) as journal:
        outcome = carry_out(plan, journal, board=FailingBoard(range(9, 1000)))

        assert outcome.ended == "aborted"
        assert f"{MAX_TRIES} attempts" in outcome.text
        assert max(attempt for attempt, _ in invalid(journal)) == MAX_TRIES - 1

        assert carry_out(plan, journal).ended == "done"  # once it is mended


def test_a_device_that_fails_before_the_first_run_makes_none(
    plan: CampaignPlan, tmp_path: Path
) -> None:
    with Journal.create(tmp_path / "a.journal", plan) as journal:
        outcome = carry_out(plan, journal, board=FailingBoard([1]))

        assert outcome.ended == "aborted"
        assert "before the first run" in outcome.text
        assert {state.state for state in journal.states()} == {"planned"}


@pytest.mark.parametrize("phase", ["load", "settle"])
def test_a_run_that_has_just_begun_is_dropped_when_asked_to_stop(
    plan: CampaignPlan, tmp_path: Path, undisturbed: tuple[Path, Heard], phase: str
) -> None:
    stop = Stop()

    def ask(view: View) -> None:
        if view.phase == phase and view.key == block_keys(plan, 0, "main", 1)[1]:
            stop.request()

    with Journal.create(tmp_path / "a.journal", plan) as journal:
        outcome = carry_out(plan, journal, Heard(on_view=ask), stop)

        assert outcome.ended == "stopped"
        assert "was dropped" in outcome.text
        assert invalid(journal) == [(0, "interrupted"), (0, "interrupted")]
        assert carry_out(plan, journal).ended == "done"
        with Journal.open(undisturbed[0]) as other:
            assert what_was_done(journal) == what_was_done(other)


@pytest.mark.parametrize(("position", "n_invalid"), [(1, 2), (2, 0)])
def test_a_run_that_works_is_finished_when_asked_to_stop(
    plan: CampaignPlan, tmp_path: Path, position: int, n_invalid: int
) -> None:
    stop = Stop()

    def ask(view: View) -> None:
        if view.phase == "verify" and view.key == block_keys(plan, 0, "main", 1)[position]:
            stop.request()

    with Journal.create(tmp_path / "a.journal", plan) as journal:
        outcome = carry_out(plan, journal, Heard(on_view=ask), stop)

        assert outcome.ended == "stopped"
        assert "dropped" not in outcome.text
        assert f"run {position + 1} (" in outcome.text
        assert "was finished and stored" in outcome.text
        assert len(invalid(journal)) == n_invalid  # a whole block counts, half of one does not
        assert len(list(journal.runs(valid_only=False))) == 2 * 2 + 3 + position + 1


def test_asked_twice_a_run_is_dropped_at_once(plan: CampaignPlan, tmp_path: Path) -> None:
    stop, heard, asked = Stop(), Heard(), []

    def ask(time_ns: int) -> None:
        if heard.key == block_keys(plan, 0, "main", 1)[1] and len(asked) < 2:
            asked.append(time_ns)
            stop.request()

    with Journal.create(tmp_path / "a.journal", plan) as journal:
        outcome = carry_out(plan, journal, heard, stop, at_read=ask)

        assert outcome.ended == "stopped"
        assert "was dropped" in outcome.text
        assert len(asked) == 2
        assert not [state for state in journal.states() if state.state == "running"]


def test_a_full_disk_loses_the_run_in_hand_and_no_other(
    plan: CampaignPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, calls = Journal.finish, []

    def full(journal: Journal, run: CampaignRun, *findings: object) -> None:
        calls.append(run.key)
        if len(calls) == 6:
            raise OutputError(journal.path, "no space left on device")
        finish(journal, run, *findings)  # type: ignore[arg-type]

    monkeypatch.setattr(Journal, "finish", full)
    with (
        Journal.create(tmp_path / "a.journal", plan) as journal,
        pytest.raises(OutputError, match="no space"),
    ):
        carry_out(plan, journal)
    with Journal.open(tmp_path / "a.journal", write=True) as journal:
        assert len(done(journal)) == 5

        assert carry_out(plan, journal).ended == "done"
        assert {(key.block, attempt) for key in calls[5:6] for attempt, _ in invalid(journal)} == {
            (calls[5].block, 0)
        }


def test_a_journal_of_another_plan_is_not_gone_on_with(plan: CampaignPlan, tmp_path: Path) -> None:
    with (
        Journal.create(tmp_path / "a.journal", plan) as journal,
        pytest.raises(MismatchError, match="plan"),
    ):
        carry_out(replace(plan, sha256="00" * 32), journal)


def test_a_cell_has_its_own_batch_and_clock(plan: CampaignPlan, tmp_path: Path) -> None:
    cells = (Cell(0, 16, None), Cell(1, 8, 100e6))
    two = replace(plan, cells=cells, design=replace(plan.design, aa_blocks=0, max_blocks=3))
    with Journal.create(tmp_path / "a.journal", two) as journal:
        assert carry_out(two, journal).ended == "done"
        clocks = {
            (run.key.cell, run.record.clock_hz, run.before.clock_hz) for run in journal.runs()
        }
        order = [run.key.cell for run in journal.runs()]

    assert clocks == {(0, 187.5e6, 187.5e6), (1, 100e6, 100e6)}
    assert order == [0] * 9 + [1] * 9


def test_a_batch_that_no_images_fill_is_refused(plan: CampaignPlan, tmp_path: Path) -> None:
    large = replace(plan, cells=(Cell(0, 65, None),))
    with (
        Journal.create(tmp_path / "a.journal", large) as journal,
        pytest.raises(MismatchError, match="batch of cell 0"),
    ):
        carry_out(large, journal)


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_what_is_shown_says_that_it_is_emulated_and_not_final(
    undisturbed: tuple[Path, Heard], columns: int
) -> None:
    view = undisturbed[1].views[-1]
    console = Console(width=columns, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(render(view, ["something happened"]))
    shown = " ".join(captured.get().split())

    assert "EMULATED" in shown
    assert "not final" in shown
    assert "mac8/bac" in shown
    assert "something happened" in shown
    assert max(map(len, captured.get().splitlines())) <= columns


def test_a_log_has_one_line_a_block_and_the_running_intervals(
    undisturbed: tuple[Path, Heard],
) -> None:
    lines: list[str] = []
    log = LogLines(lines.append, now=lambda: "12:00")
    for view in undisturbed[1].views:
        log.show(view)
    log.block_ended(undisturbed[1].views[-1])

    assert lines[0].startswith("12:00 block done: 8 of 8 blocks, 0 runs invalid")
    assert len(lines) == 1 + 3
    assert all("not final" in line for line in lines[1:])


def test_a_log_that_nobody_reads_any_more_ends_no_campaign() -> None:
    calls = []

    def gone(line: str) -> None:
        calls.append(line)
        raise BrokenPipeError

    log = LogLines(gone)
    log.say("one")
    log.say("two")

    assert len(calls) == 1


def test_a_terminal_that_is_gone_ends_no_campaign(undisturbed: tuple[Path, Heard]) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

        def isatty(self) -> bool:
            return True

    view = undisturbed[1].views[-1]
    table = TerminalTable(Console(file=Gone(), force_terminal=True))
    table.say("before it was shown anything")
    table.show(view)
    table.block_ended(view)
    table.say("something happened")
