"""`bacmac campaign run`, `resume`, `status`: whatever kills a campaign, it goes on as planned."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.stop import Stop, on_signals

TESTS = Path(__file__).parents[1]
PLAN = """
name = "short"
images = "digits_test.npz"
n_images = 32
batch_images = [16]

[arms.bac]
overlay = "bac-pot4e4"
model = "bac.safetensors"

[arms.mac4]
overlay = "mac-uniform4"
model = "mac4.safetensors"

[arms.mac8]
overlay = "mac-uniform8"
model = "mac8.safetensors"

[design]
run_s = 2.0
idle_s = 0.5
settle_s = 0.5
warm_up_s = 0.1
aa_blocks = 2
pilot_blocks = 2
max_blocks = 4

[limits]
min_run_s = 2.0
min_fresh_values = 5
max_edge_share = 0.03
max_gap_share = 0.2
min_dynamic_u = 0.5
max_idle_change_share = 1.0
max_idle_change_dynamic = 10.0
"""
JOURNAL = ("bacmac.power.campaign.journal", "Journal")
SESSION = ("bacmac.host.runtime.session", "Session")


@pytest.fixture(scope="module")
def plan_file(
    packed_files: dict[str, Path],
    example_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("short")
    for arm, path in packed_files.items():
        shutil.copy(path, folder / f"{arm}.safetensors")
    shutil.copy(example_dir / "digits_test.npz", folder)
    (folder / "short.toml").write_text(PLAN)
    return folder / "short.toml"


def bacmac(*arguments: object, kill: tuple[object, ...] = ()) -> subprocess.Popen[bytes]:
    """The command in a process of its own; killed at a moment where one is given."""
    program = [TESTS / "killed_campaign.py", *kill] if kill else ["-m", "bacmac.cli"]
    words = [sys.executable, *map(str, program), *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def sequence(path: Path) -> list[tuple[object, ...]]:
    """What counts, in the order in which it was made, without what noise decides."""
    with Journal.open(path) as journal:
        made = sorted(journal.runs(), key=lambda run: run.before.wall_ns)
    return [
        (
            replace(run.key, attempt=0),
            run.record.counters,
            run.record.outputs_sha256,
            run.record.overlay_sha256,
            run.record.model_sha256,
            run.record.clock_hz,
        )
        for run in made
    ]


def again(path: Path) -> dict[tuple[str, int], list[str]]:
    """Blocks that were made again, with the reasons of their runs."""
    found: dict[tuple[str, int], list[str]] = {}
    with Journal.open(path) as journal:
        for state in journal.states():
            if state.state == "invalid":
                found.setdefault((state.key.stage, state.key.block), []).append(state.reason)
    return found


@pytest.fixture(scope="module")
def undisturbed(plan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed") / "a.journal"
    assert bacmac("campaign", "run", plan_file, "-o", path).wait() == 0
    return path


def test_a_campaign_is_run_told_and_finished(
    run: Callable[..., object], plan_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.journal"

    made = run("campaign", "run", plan_file, "-o", path)
    told = run("campaign", "status", path)
    again = run("campaign", "resume", path)

    assert made.status == told.status == again.status == 0
    assert "campaign short is done" in made.out
    assert "not final" in made.err
    assert "EMULATED. Campaign short: 6 of 6 blocks done." in told.out


def test_status_for_machines(
    run: Callable[..., object], plan_file: Path, undisturbed: Path
) -> None:
    told = json.loads(run("campaign", "status", undisturbed, "--json").out)

    assert told["complete"]
    assert told["emulated"]
    assert (told["runs_done"], told["runs_left"]) == (2 * 2 + 3 * 4, 0)
    assert [stage["done"] for stage in told["stages"]] == [2, 4]


def test_a_journal_is_not_written_over(
    run: Callable[..., object], plan_file: Path, undisturbed: Path
) -> None:
    refused = run("campaign", "run", plan_file, "-o", undisturbed)

    assert refused.status == 2
    assert "campaign resume" in refused.err


@pytest.mark.parametrize(
    ("moment", "reasons"),
    [
        ((*JOURNAL, "begin", 1, "after"), ["crash"]),
        ((*JOURNAL, "begin", 6, "before"), ["interrupted"]),
        ((*JOURNAL, "begin", 6, "after"), ["interrupted", "crash"]),
        ((*SESSION, "repeat_unverified", 25, "before"), None),
        ((*JOURNAL, "finish", 7, "before"), ["interrupted", "interrupted", "crash"]),
        ((*JOURNAL, "finish", 7, "after"), []),
        ((*JOURNAL, "checkpoint", 3, "before"), []),
        ((*JOURNAL, "fix_blocks", 1, "before"), []),
        ((*JOURNAL, "fix_blocks", 1, "after"), []),
        ((*JOURNAL, "store_fact", 2, "after"), []),
        ((*JOURNAL, "store_result", 1, "before"), []),
    ],
)
def test_a_campaign_killed_at_any_moment_goes_on_as_planned(
    plan_file: Path,
    tmp_path: Path,
    undisturbed: Path,
    run: Callable[..., object],
    moment: tuple[object, ...],
    reasons: list[str] | None,
) -> None:
    path = tmp_path / "a.journal"
    killed = bacmac("campaign", "run", plan_file, "-o", path, kill=moment)
    assert killed.wait() == -signal.SIGKILL

    assert run("campaign", "resume", path).status == 0

    assert sequence(path) == sequence(undisturbed)
    made_again = again(path)
    assert len(made_again) <= 1
    if reasons is not None:
        assert [reason for found in made_again.values() for reason in found] == reasons


def test_a_campaign_killed_at_random_goes_on_as_planned(
    plan_file: Path, tmp_path: Path, undisturbed: Path, run: Callable[..., object]
) -> None:
    path, rng = tmp_path / "a.journal", random.Random(20)
    for _ in range(8):
        words = ("resume", path) if path.exists() else ("run", plan_file, "-o", path)
        process = bacmac("campaign", *words)
        time.sleep(rng.uniform(0.4, 1.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
    words = ("resume", path) if path.exists() else ("run", plan_file, "-o", path)

    assert run("campaign", *words).status == 0

    assert sequence(path) == sequence(undisturbed)
    assert all(set(found) <= {"crash", "interrupted"} for found in again(path).values())


def test_a_finished_campaign_may_be_resumed_and_nothing_is_made_or_told_twice(
    run: Callable[..., object], undisturbed: Path
) -> None:
    def stored() -> tuple[object, ...]:
        with Journal.open(undisturbed) as journal:
            return journal.states(), journal.findings(), journal.events(), journal.result()

    before = stored()

    assert run("campaign", "resume", undisturbed).status == 0

    assert stored() == before


def test_a_model_that_has_changed_since_is_refused_and_named(
    run: Callable[..., object], plan_file: Path, packed_files: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(plan_file.parent, folder)
    path = tmp_path / "a.journal"
    moment = (*JOURNAL, "finish", 2, "after")
    bacmac("campaign", "run", folder / "short.toml", "-o", path, kill=moment).wait()
    shutil.copy(packed_files["mac4"], folder / "mac8.safetensors")

    refused = run("campaign", "resume", path)
    found = run("campaign", "resume", path, "--plan", plan_file)

    assert refused.status == 2
    assert "mac8.safetensors of arm mac8" in refused.err
    assert found.status == 0


def test_files_that_are_gone_are_named(
    run: Callable[..., object], plan_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(plan_file.parent, folder)
    path = tmp_path / "a.journal"
    moment = (*JOURNAL, "finish", 2, "after")
    bacmac("campaign", "run", folder / "short.toml", "-o", path, kill=moment).wait()
    (folder / "bac.safetensors").unlink()

    refused = run("campaign", "resume", path)

    assert refused.status == 2
    assert "bac.safetensors" in refused.err


def test_an_interrupt_ends_in_order_and_says_how_to_go_on(
    run: Callable[..., object], plan_file: Path, tmp_path: Path, undisturbed: Path
) -> None:
    path = tmp_path / "a.journal"
    with subprocess.Popen(
        [sys.executable, "-m", "bacmac.cli", "campaign", "run", str(plan_file), "-o", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "block done" in line:
                process.send_signal(signal.SIGINT)
                break
        out, _ = process.communicate()
    if process.returncode:  # it may have been done before the signal came
        assert process.returncode == 130
        assert "bacmac campaign resume" in " ".join(out.split())

    assert run("campaign", "resume", path).status == 0
    assert sequence(path) == sequence(undisturbed)
    assert {reason for found in again(path).values() for reason in found} <= {"interrupted"}


def test_status_while_another_process_runs_and_no_second_writer(
    run: Callable[..., object], plan_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.journal"
    from bacmac.power.campaign.plan_file import load_plan

    with Journal.create(path, load_plan(plan_file)) as journal:
        journal.begin(journal.owed()[0], "boot")
        told = run("campaign", "status", path)
        refused = run("campaign", "resume", path)

    assert told.status == 0
    assert f"Process {os.getpid()} carries it out." in told.out
    assert "In hand: cell 0, A/A block 1, run 1 (bac)." in told.out
    assert refused.status == 2
    assert str(os.getpid()) in refused.err
    left = run("campaign", "status", path)
    assert "Nobody carries it out now: bacmac campaign resume" in left.out
    assert "Cut off: cell 0, A/A block 1, run 1 (bac)." in left.out


def test_what_is_ignored_stays_ignored_as_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = Stop()
        with on_signals(stop, lambda text: None):
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_ask_once_and_then_at_once() -> None:
    stop, told = Stop(), []
    with on_signals(stop, told.append):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGINT)  # nothing is being made: nothing to drop
        with pytest.raises(KeyboardInterrupt), stop.may_drop():
            pytest.fail("a run was begun after it was asked to stop at once")
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)

    assert len(told) == 1
    assert told[0].startswith("SIGTERM")
