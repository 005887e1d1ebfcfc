"""Carry out a campaign: every block that is owed, in the planned order, into the journal.

The journal alone decides what is owed, so going on after a crash is the same loop as beginning. A
block counts when all its runs are done and no check found fault with it; otherwise it is made again
as a whole, in the same order. The number of blocks of a cell is decided once, after its pilot
(Stein, Annals of Mathematical Statistics 16, 1945), and written down before the next block.

Nothing is written to disk, and nothing drawn, while sensors are sampled.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from bacmac.host.device.board import Board
from bacmac.host.errors import DeviceError, MismatchError, RailError, VerificationError
from bacmac.power.analysis import headline_rail
from bacmac.power.campaign.analysis import analyse_campaign, blocks_needed, summarize_run
from bacmac.power.campaign.checks import check_block, check_campaign, check_run
from bacmac.power.campaign.checks_provenance import journal_provenance
from bacmac.power.campaign.documents import from_document, to_document
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.keys import block_text, run_text, same_block
from bacmac.power.campaign.live import LiveView, RailPower, View, rail_powers
from bacmac.power.campaign.measure import Measurer
from bacmac.power.campaign.plan import CampaignPlan, Cell, RunKey
from bacmac.power.campaign.progress import (
    RunningRatio,
    aa_ratio,
    journal_progress,
    running_ratios,
)
from bacmac.power.campaign.result import RunSummary, result_json
from bacmac.power.campaign.run import CampaignRun, Finding
from bacmac.power.campaign.sensor_step import StepResponse, check_step_responses
from bacmac.power.campaign.stop import Stop
from bacmac.power.campaign.surroundings import SurroundingsSource, open_surroundings
from bacmac.power.rails import RailSource, chosen_rails
from bacmac.power.runs import Phase

MAX_TRIES = 5
"""Attempts at one block without a stop: one that never comes good is a fault to be mended."""
JUST_BEGUN: tuple[Phase, ...] = ("load", "settle", "idle", "warm up")
"""A run that is asked to stop where one of these begins is dropped; later it is finished."""


ENDED = "ended"
"""Fact of a journal whose campaign was made, analysed and checked to its end."""


@dataclass(frozen=True)
class Outcome:
    """How a campaign ended, for now.

    Attributes:
        ended: "done", all that is owed is made; "stopped" by a person; "aborted" by a check, or by
            a block that never came good.
        text: in words.
    """

    ended: Literal["done", "stopped", "aborted"]
    text: str


class _Ended(Exception):  # noqa: N818 - no error: the way out of the loop
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.text)
        self.outcome = outcome


class _Dropped(Exception):  # noqa: N818 - likewise, out of a run
    """A run that had just begun when it was asked to stop."""


def run_campaign(
    plan: CampaignPlan,
    journal: Journal,
    board: Board,
    rails: RailSource,
    *,
    live: LiveView,
    stop: Stop,
    surroundings: SurroundingsSource | None = None,
) -> Outcome:
    """Make all that is owed.

    Args:
        plan: the one that the journal was made for.
        journal: open for writing.
        board: where; stays the caller's to close.
        rails: where power is read.
        live: shown how things stand, between windows.
        stop: asked between the parts of a run.
        surroundings: told beside each run; those of the board's machine unless given.

    Raises:
        MismatchError: the journal is of another plan.
        RailError: a rail is not there, or too slow for the plan's runs.
        CompileError: an overlay cannot run its model with a cell's batch.
        OutputError: the journal cannot be written; what it holds is good, and resuming makes the
            rest.
    """
    journal.check_plan(plan)
    source = surroundings or open_surroundings(board, rails)
    measurer = Measurer(plan, board, rails, source)
    return _Execution(plan, journal, board, rails, live, stop, source, measurer).carry_out()


class _Execution:
    def __init__(
        self,
        plan: CampaignPlan,
        journal: Journal,
        board: Board,
        rails: RailSource,
        live: LiveView,
        stop: Stop,
        surroundings: SurroundingsSource,
        measurer: Measurer,
    ) -> None:
        self._plan, self._journal, self._board, self._rails = plan, journal, board, rails
        self._live, self._stop, self._measurer = live, stop, measurer
        self._boot_id = surroundings.boot_id()
        infos = chosen_rails(rails, plan.rail_names)
        self._headline = headline_rail([info.name for info in infos])
        self._responses: dict[str, StepResponse] = {}
        self._runs: list[RunSummary] = []
        self._cell = plan.cells[0]
        self._ratios: tuple[RunningRatio, ...] = ()
        self._rail_powers: tuple[RailPower, ...] = ()
        self._emulated = rails.emulated or board.provenance != "board"
        self._fault = self._finished = ""
        self._runs_made, self._began_s = 0, time.monotonic()
        self._progress = journal_progress(journal)

    def carry_out(self) -> Outcome:
        """Everything that is owed, or until it is stopped."""
        journal = self._journal
        if journal.facts().get(ENDED):
            return Outcome("done", f"campaign {self._plan.name} is done")
        lost = journal.note_crash(self._boot_id)
        if lost:
            self._say(f"{len(lost)} runs of a block that was cut off do not count")
        try:
            self._begin()
            for cell in self._plan.cells:
                self._make_cell(cell)
            self._end()
        except _Ended as ended:
            self._say(ended.outcome.text)
            return ended.outcome
        outcome = Outcome("done", f"campaign {self._plan.name} is done")
        self._say(outcome.text)
        return outcome

    # ---- before the first block

    def _begin(self) -> None:
        """What a campaign finds out once, and what is looked at anew whenever it is taken up."""
        journal, facts = self._journal, self._journal.facts()
        if self._progress.complete:
            return
        for name, value in self._measurer.facts().items():
            if facts.get(name, value) != value:
                raise MismatchError(
                    journal.path,
                    name,
                    found=str(facts[name]),
                    expected=f"{value}, as this version and this board have it",
                    hint="a campaign is finished as it was begun; plan a new one",
                )
            if name not in facts:
                journal.store_fact(name, value)
        accuracy = facts.get("accuracy")
        try:
            with self._stop.may_drop():
                if accuracy is None:
                    self._live.say("classifying all images with every arm")
                    accuracy = self._measurer.evaluate(self._check_stop)
                self._live.say("power pulses: do the sensors answer, and how late")
                found = self._measurer.step_responses()
        except (_Dropped, KeyboardInterrupt):
            raise _Ended(Outcome("stopped", "stopped before the first run")) from None
        except (DeviceError, RailError) as error:
            raise _Ended(Outcome("aborted", f"before the first run: {error}")) from error
        journal.store_fact("accuracy", accuracy)
        self._judge_sensors(found, facts)

    def _judge_sensors(self, found: Mapping[str, StepResponse], facts: Mapping[str, Any]) -> None:
        """Sensors answer as they did when the campaign began; what they were then is kept."""
        journal, measurer = self._journal, self._measurer
        for response in found.values():
            self._say(response.sentence)
        stored = {
            name: from_document(StepResponse, response)
            for name, response in facts.get("step_responses", {}).items()
        }
        self._responses = stored or dict(found)
        if "guard_s" in facts:
            measurer.guard_s = float(facts["guard_s"])
        else:
            measurer.fit_guard(self._responses)
        findings = check_step_responses(
            found, self._headline, measurer.guard_s, self._plan.limits, stored or None
        )
        journal.note_findings(findings)
        self._judge(findings)
        if not stored:
            document = {name: to_document(response) for name, response in found.items()}
            journal.store_fact("step_responses", document)
            journal.store_fact("guard_s", measurer.guard_s)

    def _check_stop(self, what: str, done: int, total: int) -> None:
        if self._stop.requested:
            raise _Dropped

    # ---- cells and blocks

    def _make_cell(self, cell: Cell) -> None:
        journal = self._journal
        self._cell = cell
        self._runs = [summarize_run(run) for run in journal.runs(cell=cell.index)]
        self._ratios = self._running_ratios()
        self._blocks_owed(cell)
        if journal.main_blocks(cell.index) is None:
            self._fix_blocks(cell)
            self._blocks_owed(cell)

    def _fix_blocks(self, cell: Cell) -> None:
        design = self._plan.design
        n = blocks_needed(self._plan, cell, self._runs, self._headline)
        self._journal.fix_blocks(cell.index, n)
        self._say(
            f"cell {cell.index}: {n} main blocks in all, fixed after a pilot of "
            f"{design.pilot_blocks} for a half-width of {design.target_half_width:.2%}, at most "
            f"{design.max_blocks} (Stein's second stage)"
        )

    def _blocks_owed(self, cell: Cell) -> None:
        tries, last = 0, None
        while keys := self._next_block(cell):
            block = (keys[0].stage, keys[0].block)
            tries = tries + 1 if block == last else 1
            last = block
            if tries > MAX_TRIES:
                self._abort(
                    f"{block_text(keys[0])} did not come good in {MAX_TRIES} attempts; at last "
                    f"{self._fault}"
                )
            if self._stop.requested:
                raise _Ended(Outcome("stopped", f"stopped between two blocks{self._finished}"))
            if not self._block(keys):
                self._progress = journal_progress(self._journal)

    def _next_block(self, cell: Cell) -> tuple[RunKey, ...]:
        owed = [key for key in self._journal.owed() if key.cell == cell.index]
        return tuple(key for key in owed if same_block(key, owed[0]))

    def _block(self, keys: Sequence[RunKey]) -> bool:
        """One attempt at a block: every run, or up to the one that makes it invalid.

        Returns:
            whether the block counts.
        """
        made: list[CampaignRun] = []
        for key in keys:
            if self._stop.requested:
                self._stopped(key, f"stopped between two runs{self._finished}")
            run = self._run(key)
            if run is None:
                return False
            made.append(run)
            limits = self._plan.limits
            findings = check_run(run, self._plan, limits, self._responses)
            block_findings: tuple[Finding, ...] = ()
            if len(made) == len(keys) and not _invalid(findings):
                block_findings = check_block(made, self._plan, limits)
            self._journal.finish(run, findings, block_findings)
            self._runs_made += 1
            self._finished = f": {run_text(key)} was finished and stored"
            self._rail_powers = rail_powers(run)
            self._judge([*findings, *block_findings], key)
            if _invalid([*findings, *block_findings]):
                return False
        self._runs += [summarize_run(run) for run in made]
        if keys[0].stage == "main":
            self._ratios = self._running_ratios()
        elif keys[0].block == self._plan.design.aa_blocks - 1:
            self._tell_aa()
        self._journal.checkpoint()
        self._progress = journal_progress(self._journal)
        self._live.block_ended(self._view(None, None))
        return True

    def _run(self, key: RunKey) -> CampaignRun | None:
        """A run; None where it failed, and its block is to be made again."""
        self._journal.begin(key, self._boot_id)

        def phase(name: Phase) -> None:
            if self._stop.requested and name in JUST_BEGUN:
                raise _Dropped
            if name in ("load", "settle", "verify"):
                self._live.show(self._view(key, name))

        try:
            with self._stop.may_drop():
                return self._measurer.run(key, phase)
        except (_Dropped, KeyboardInterrupt):
            self._stopped(key, f"{run_text(key)} was dropped")
        except VerificationError as error:
            self._failed(key, "outputs", error, Finding(16, "invalidate", key.arm, str(error)))
        except MismatchError as error:
            if error.field != "accelerator clock":
                self._failed(key, "identity", error, Finding(18, "abort", key.arm, str(error)))
                self._abort(str(error))
            self._failed(key, "clock", error, Finding(13, "invalidate", key.arm, str(error)))
        except DeviceError as error:
            self._failed(key, "device", error)
        except RailError as error:
            self._failed(key, "rails", error)
        return None

    def _failed(
        self, key: RunKey, reason: str, error: Exception, finding: Finding | None = None
    ) -> None:
        findings = (finding,) if finding else ()
        self._journal.invalidate(
            key.cell, key.stage, key.block, key.attempt, findings, reason=reason
        )
        self._fault = f"{run_text(key)} failed: {error}"
        self._say(f"{self._fault}; its block is made again")

    def _stopped(self, key: RunKey, text: str) -> NoReturn:
        """End where a person asked to; what is half made of a block does not count."""
        begun = [
            state
            for state in self._journal.states()
            if same_block(state.key, key) and state.state in ("running", "done")
        ]
        if begun:
            self._journal.invalidate(
                key.cell, key.stage, key.block, key.attempt, (), reason="interrupted"
            )
            text += f"; {block_text(key)} is made again when the campaign is resumed"
        raise _Ended(Outcome("stopped", text))

    # ---- what checks say

    def _judge(self, findings: Sequence[Finding], key: RunKey | None = None) -> None:
        """Tell what was found, and end where nothing that follows could be believed."""
        place = f"{run_text(key)}: " if key else ""
        for finding in findings:
            subject = f" {finding.subject}" if finding.subject else ""
            text = f"{place}check {finding.check}{subject}: {finding.text}"
            if finding.level == "abort":
                self._abort(text)
            if finding.level == "invalidate":
                self._fault = text
                self._say(f"{text}; the block is made again")

    def _abort(self, text: str) -> NoReturn:
        raise _Ended(Outcome("aborted", f"aborted: {text}"))

    def _end(self) -> None:
        result = analyse_campaign(self._journal)
        self._journal.store_result(result_json(result))
        provenance = journal_provenance(self._journal, result, self._plan.sha256)
        findings = check_campaign(result, self._journal.runs(), self._plan.limits, provenance)
        self._journal.note_findings(findings)
        for finding in findings:
            subject = f" {finding.subject}" if finding.subject else ""
            self._say(f"check {finding.check}{subject}: {finding.text}")
        self._judge(findings)
        self._journal.store_fact(ENDED, True)

    # ---- what is told

    def _say(self, text: str) -> None:
        self._journal.event(text)
        self._live.say(text)

    def _tell_aa(self) -> None:
        """What the A/A check of a cell says, once it is made; it is judged with the whole."""
        ratio = aa_ratio(self._plan, self._cell, self._runs, self._headline)
        holds = ""
        if len(ratio.log_ratios) > 1:
            _, low, high = ratio.interval
            holds = ", which holds 1" if low <= 1 <= high else ", which should hold 1 and does not"
        self._say(f"cell {self._cell.index}: A/A on {self._headline}: {ratio.text}{holds}")

    def _running_ratios(self) -> tuple[RunningRatio, ...]:
        return running_ratios(self._plan, self._cell.index, self._runs, self._headline)

    def _view(self, key: RunKey | None, phase: Phase | None) -> View:
        seconds = None
        if self._runs_made:
            each_s = (time.monotonic() - self._began_s) / self._runs_made
            seconds = each_s * self._progress.runs_left
        return View(
            self._plan.name,
            self._emulated,
            self._cell.index,
            key,
            phase,
            self._progress,
            self._rail_powers,
            self._headline,
            self._ratios,
            seconds,
        )


def _invalid(findings: Sequence[Finding]) -> bool:
    return any(finding.level != "warn" for finding in findings)
