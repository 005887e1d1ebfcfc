"""`bacmac campaign run`, `resume` and `status`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bacmac.cli.choices import FILE, OUTPUT
from bacmac.cli.main import INTERRUPTED
from bacmac.cli.output import json_option, note, print_json, print_table, say
from bacmac.host.device.board import Board
from bacmac.host.device.clock import VirtualClock
from bacmac.host.device.registry import open_board
from bacmac.host.errors import InputError, MismatchError, OutputError
from bacmac.power.campaign.execute import Outcome, run_campaign
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.live import LiveView, LogLines, TerminalTable, blocks_text
from bacmac.power.campaign.plan import CampaignPlan
from bacmac.power.campaign.plan_file import load_plan, parse_plan
from bacmac.power.campaign.progress import Progress, journal_progress
from bacmac.power.campaign.stop import Stop, on_signals
from bacmac.power.sources import open_rails

PLAN_FILE = "plan_file"
"""Fact of a journal: where its plan was read from, so that the same files are found again."""
ABORTED = 1
PAUSE_NS = 60_000_000_000
"""What an emulated board's clock passes over between the last run and going on."""
DEFAULT_SUFFIX = ".journal"


@click.command()
@click.argument("file", type=FILE)
@click.option(
    "-o",
    "--output",
    type=OUTPUT,
    help=f"The journal to make [default: FILE's name with {DEFAULT_SUFFIX}, in this folder].",
)
def run(file: Path, output: Path | None) -> None:
    """Carry out the campaign that FILE plans, into a new journal.

    Ctrl-C finishes the run in hand, or drops it where it has just begun; a second Ctrl-C drops it
    at once. `bacmac campaign resume` goes on, after that as after a crash. To run on a board, log
    in there (a campaign takes no --device ssh://: it is to outlive the line).
    """
    plan = load_plan(file)
    path = output or Path(file.stem + DEFAULT_SUFFIX)
    if path.exists():
        raise OutputError(path, "it exists; `bacmac campaign resume` goes on with a journal")
    with Journal.create(path, plan) as journal:
        journal.store_fact(PLAN_FILE, str(file.resolve()))
        carry_out(plan, journal)


@click.command()
@click.argument("journal", type=FILE)
@click.option(
    "--plan",
    "plan_file",
    type=FILE,
    help="The plan's file where it lies now, if it was moved; it must not have changed.",
)
def resume(journal: Path, plan_file: Path | None) -> None:
    """Go on with the campaign of JOURNAL: exactly the blocks that are owed, in the planned order.

    Overlays, models and images are found again where the plan names them, and must be what they
    were.
    """
    with Journal.open(journal, write=True) as opened:
        plan = find_plan(opened, plan_file)
        carry_out(plan, opened)


@click.command()
@click.argument("journal", type=FILE)
@json_option
def status(journal: Path, as_json: bool) -> None:
    """Tell what of a campaign is done, owed and invalid; also while it runs."""
    with Journal.open(journal) as opened:
        progress = journal_progress(opened)
        if as_json:
            print_json(status_document(opened, progress))
        else:
            print_status(opened, progress)


def find_plan(journal: Journal, moved: Path | None = None) -> CampaignPlan:
    """The plan of a journal, read again from the text that it holds.

    Args:
        journal: of a campaign that was begun.
        moved: the plan's file where it lies now; paths in the text are relative to its folder.

    Raises:
        InputError: an overlay, model or image is not there any more, or is another one.
    """
    known = journal.facts().get(PLAN_FILE)
    if moved is None and known is None:
        raise InputError(
            journal.path,
            "plan's file",
            found="no trace of it",
            expected="the path of the plan's file",
            hint="give it as --plan FILE.toml",
        )
    plan = parse_plan(moved or Path(str(known)), journal.plan_text)
    for what, found, expected in files_of(plan, journal):
        if plan.sha256 != journal.plan_sha256 and found != expected:
            raise MismatchError(
                journal.path,
                what,
                found=f"a file of sha256 {found[:12]}",
                expected=f"{expected[:12]}, as when the campaign began",
                hint="give back what it was, or plan a new campaign",
            )
    journal.check_plan(plan)  # a bitstream, or a default of this version
    return plan


def files_of(plan: CampaignPlan, journal: Journal) -> Iterator[tuple[str, str, str]]:
    """What a campaign is made of: its name, its sha256 now, and when the campaign began."""
    for arm, stored in zip(plan.arms, journal.arms, strict=True):
        what = f"overlay {arm.overlay.manifest.name} of arm {arm.name}"
        yield what, arm.overlay.sha256, stored.overlay_sha256
        yield f"model {arm.model.path} of arm {arm.name}", arm.model.sha256, stored.model_sha256
    yield f"images {plan.images.source}", plan.images.sha256, journal.plan.images_sha256


def carry_out(plan: CampaignPlan, journal: Journal) -> None:
    """Make all that a journal owes, show it, and exit with what came of it."""
    stop = Stop()
    board = open_board(plan.device)
    try:
        begun = wind_on(board, journal)
        rails = open_rails(plan.rails, board, seed=plan.design.seed + 1_000_003 * begun)
        with live_view() as live, on_signals(stop, live.say):
            outcome = run_campaign(plan, journal, board, rails, live=live, stop=stop)
    finally:
        board.close()
    end(outcome, journal)


def wind_on(board: Board, journal: Journal) -> int:
    """Let an emulated board's clock go on after the last run; how often it was taken up again.

    A real board's clock goes on by itself. The noise of emulated rails begins anew, by another
    seed: the same noise twice would make blocks alike.
    """
    last_ns = max((run.after.monotonic_ns for run in journal.runs(valid_only=False)), default=0)
    if last_ns and isinstance(board.clock, VirtualClock):
        board.clock.pass_to(last_ns + PAUSE_NS)
    return sum(state.state != "planned" for state in journal.states())


@contextmanager
def live_view() -> Iterator[LiveView]:
    """A table on a terminal, lines where there is none; both on standard error."""
    console = Console(stderr=True, highlight=False)
    with ExitStack() as stack:
        if console.is_terminal:
            yield stack.enter_context(TerminalTable(console))
        else:
            yield LogLines(note)


def end(outcome: Outcome, journal: Journal) -> None:
    """Say what is next, and exit with a status of its own where not all is done."""
    path = journal.path
    if outcome.ended == "done":
        say(f"{outcome.text}: bacmac campaign report {path}")
        return
    mended = "To go on" if outcome.ended == "stopped" else "To go on once it is mended"
    say(f"{outcome.text}. {mended}: bacmac campaign resume {path}")
    sys.exit(INTERRUPTED if outcome.ended == "stopped" else ABORTED)


def writing_process(journal: Path, proc: Path = Path("/proc")) -> int | None:
    """Process that carries the campaign out now; None where none does, or where it is not told.

    Asking for the lock would hold it for a moment, against a campaign that begins just then; the
    kernel's list of locks (proc(5), /proc/locks) asks for nothing.
    """
    try:
        found = journal.with_name(journal.name + ".lock").stat()
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return None
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for words in map(str.split, lines):
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == file:
            return int(words[4])
    return None


def status_document(journal: Journal, progress: Progress) -> dict[str, Any]:
    """What `status --json` prints."""
    return {
        "campaign": journal.plan.name,
        "plan_sha256": journal.plan_sha256,
        "emulated": journal.emulated,
        "complete": progress.complete,
        "process": writing_process(journal.path),
        "runs_done": progress.runs_done,
        "runs_left": progress.runs_left,
        "invalid_runs": dict(progress.invalid_runs),
        "running": None if progress.running is None else vars(progress.running),
        "stages": [vars(stage) for stage in progress.stages],
        "last_event": (journal.events()[-1].text if journal.events() else None),
    }


def print_status(journal: Journal, progress: Progress) -> None:
    """One line, then a table of blocks."""
    origin = "EMULATED. " if journal.emulated else ""
    done = sum(stage.done for stage in progress.stages)
    left = "" if progress.complete else f", {progress.runs_left} runs are owed"
    say(f"{origin}Campaign {journal.plan.name}: {done} of {blocks_text(progress)} done{left}.")
    print_table(
        ["cell", "blocks", "done", "of", "made again"],
        [
            (
                stage.cell,
                "A/A" if stage.stage == "aa" else "main",
                stage.done,
                f"{stage.planned}" if stage.fixed else f"{stage.planned} (pilot)",
                stage.invalid,
            )
            for stage in progress.stages
        ],
        numbers=(0, 2, 4),
    )
    for reason, n in progress.invalid_runs.items():
        say(f"invalid: {n} runs by {reason}")
    process = writing_process(journal.path)
    if process is not None:
        say(f"Process {process} carries it out.")
    elif not progress.complete:
        say(f"Nobody carries it out now: bacmac campaign resume {journal.path}")
    if progress.running is not None:
        key = progress.running
        what = "A/A block" if key.stage == "aa" else "block"
        place = f"cell {key.cell}, {what} {key.block + 1}, run {key.position + 1} ({key.arm})"
        say(f"{'Cut off' if process is None else 'In hand'}: {place}.")
    for event in journal.events()[-1:]:
        say(f"Last: {event.text}.")
