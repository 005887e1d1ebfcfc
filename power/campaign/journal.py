"""One campaign in one SQLite file: what was planned, what was made, every raw sample.

A run is one transaction: after a crash, a power cut or a full disk it is there whole or not at all.
Commits take milliseconds of processor and disk, so they are made between windows only: who calls
`begin` and `finish` sees to that.

Source of the settings (WAL, synchronous FULL, BEGIN IMMEDIATE): SQLite, "Write-Ahead Logging" and
"PRAGMA synchronous"; with NORMAL the last commits may be lost in a power cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bacmac.overlays.fairness import LedgerRow
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.plan import CampaignPlan, Cell, Design, Pair, RunKey, Stage
from bacmac.power.campaign.run import CampaignRun, Finding, State


@dataclass(frozen=True)
class StoredArm:
    """What an arm was, without its files.

    Attributes:
        name: in the plan.
        overlay, overlay_sha256: what is loaded.
        product, scheme, built_clock_hz, build_id, resources, resources_source: of its manifest.
        marks: what is known against the overlay and was accepted.
        model, model_path, model_sha256, model_bytes: the packed file.
        weight_bits: bits of a weight code, largest over the layers.
        sparsity: share of zero weights.
        n_weights: weights that count.
        macs: multiply-accumulates of one image.
    """

    name: str
    overlay: str
    overlay_sha256: str
    product: str
    scheme: str
    built_clock_hz: float
    build_id: int
    resources: Mapping[str, float]
    resources_source: str
    marks: tuple[str, ...]
    model: str
    model_path: str
    model_sha256: str
    model_bytes: int
    weight_bits: int
    sparsity: float
    n_weights: int
    macs: int


@dataclass(frozen=True)
class StoredPlan:
    """All of a plan that analysis, report and comparison need: no other file is read for them.

    Attributes:
        name, text, sha256, board, device, rails, rail_names, cells, pairs, design, limits,
            accept_timing: as in `CampaignPlan`.
        arms: of the plan, in its order.
        ledgers: of each pair, in the order of `pairs`; `a` is the denominator's, `b` the
            numerator's.
        images_source, images_sha256, n_images: what every arm classifies.
        made_with: versions of bacmac, Python, NumPy and SQLite, and the machine, at creation.
        created_wall_ns: by the wall clock.
    """

    name: str
    text: str
    sha256: str
    board: str
    device: str
    rails: str
    rail_names: tuple[str, ...]
    accept_timing: bool
    arms: tuple[StoredArm, ...]
    cells: tuple[Cell, ...]
    pairs: tuple[Pair, ...]
    ledgers: tuple[tuple[LedgerRow, ...], ...]
    design: Design
    limits: Limits
    images_source: str
    images_sha256: str
    n_images: int
    made_with: Mapping[str, str]
    created_wall_ns: int


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        key: which.
        state: planned, running, done or invalid.
        reason: why it is invalid ("check 3", "crash", "interrupted", "block": another run of its
            block, ...), else "".
        boot_id: of the kernel under which it was begun, None before.
        begun_wall_ns, ended_wall_ns: by the wall clock, None before.
    """

    key: RunKey
    state: State
    reason: str
    boot_id: str | None
    begun_wall_ns: int | None
    ended_wall_ns: int | None


@dataclass(frozen=True)
class StoredFinding:
    """A finding and what it speaks of.

    Attributes:
        finding: what a check said.
        cell, stage, block, attempt: the block; all None for the whole campaign.
        position: of the run in its block, None for the block as a whole.
        arm: of that run, None likewise.
    """

    finding: Finding
    cell: int | None = None
    stage: Stage | None = None
    block: int | None = None
    attempt: int | None = None
    position: int | None = None
    arm: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened, in words."""

    wall_ns: int
    text: str


class Journal:
    """One campaign's file, open; to be closed, or used as a context manager.

    Used by one thread. One process at a time may write; any number may read meanwhile.
    """

    path: Path
    plan: StoredPlan

    @classmethod
    def create(cls, path: str | Path, plan: CampaignPlan) -> Journal:
        """Make the file of a campaign, with every run of A/A and pilot planned; open for writing.

        Raises:
            OutputError: the file exists, cannot be written, is held by another process, or lies on
                a network file system.
            OverlayError: an overlay carries a mark that was not accepted.
        """
        raise NotImplementedError

    @classmethod
    def open(cls, path: str | Path, *, write: bool = False) -> Journal:
        """Open a file, to read it or to go on with it.

        Raises:
            JournalError: it is no journal, damaged, or of a newer version.
            OutputError: for writing: held by another process, or not writable.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give file and lock back; may be called twice."""
        raise NotImplementedError

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- plan

    @property
    def plan_text(self) -> str:
        """The plan's TOML, as it was."""
        return self.plan.text

    @property
    def plan_sha256(self) -> str:
        """Of the resolved plan: text, overlays, models, images."""
        return self.plan.sha256

    @property
    def design(self) -> Design:
        """Lengths and numbers."""
        return self.plan.design

    @property
    def limits(self) -> Limits:
        """Thresholds of the checks."""
        return self.plan.limits

    @property
    def arms(self) -> tuple[StoredArm, ...]:
        """In the plan's order."""
        return self.plan.arms

    @property
    def cells(self) -> tuple[Cell, ...]:
        """In the plan's order."""
        return self.plan.cells

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """In the plan's order."""
        return self.plan.pairs

    @property
    def emulated(self) -> bool:
        """Whether anything in it is emulated: by the plan's words or by any run."""
        raise NotImplementedError

    def check_plan(self, plan: CampaignPlan) -> None:
        """See that a plan is the one that this journal was made for.

        Raises:
            MismatchError: it is another.
        """
        raise NotImplementedError

    # ---- what is owed

    def states(self) -> tuple[RunState, ...]:
        """Every run of every attempt, in the order of the campaign."""
        raise NotImplementedError

    def owed(self) -> tuple[RunKey, ...]:
        """Planned runs in the order in which they are to be made; () when all is done.

        Of a cell whose number of blocks is not fixed these are A/A and pilot.
        """
        raise NotImplementedError

    def main_blocks(self, cell: int) -> int | None:
        """Number of the cell's main blocks once it is fixed, else None."""
        raise NotImplementedError

    def fix_blocks(self, cell: int, n: int) -> None:
        """Second stage: the cell has n main blocks in all, from now on and for good.

        The same n again changes nothing.

        Raises:
            ValueError: fewer than the pilot's or more than the plan allows, or another number was
                fixed before.
        """
        raise NotImplementedError

    # ---- runs

    def begin(self, key: RunKey, boot_id: str | None) -> None:
        """planned -> running.

        Raises:
            ValueError: the run is not planned.
            OutputError: it cannot be written.
        """
        raise NotImplementedError

    def finish(
        self,
        run: CampaignRun,
        findings: Sequence[Finding] = (),
        block_findings: Sequence[Finding] = (),
    ) -> None:
        """running -> done with all samples and findings; one transaction.

        A finding that invalidates makes every run of the block's attempt invalid, in the same
        transaction, and plans the next attempt in the same order: a crash cannot come between.

        Args:
            run: which ended.
            findings: of this run.
            block_findings: of its block, known when this was its last run.

        Raises:
            ValueError: the run is not running.
            OutputError: the disk is full or fails: nothing was stored, the run is still running.
        """
        raise NotImplementedError

    def invalidate(
        self,
        cell: int,
        stage: Stage,
        block: int,
        attempt: int,
        findings: Sequence[Finding],
        *,
        reason: str = "",
    ) -> None:
        """Make an attempt at a block invalid and plan the next, in the same order.

        Its data stay. Runs of it that were never begun are planned anew and leave no trace.

        Args:
            cell, stage, block, attempt: which.
            findings: of the block as a whole.
            reason: where there is no finding, as "interrupted".
        """
        raise NotImplementedError

    def note_findings(self, findings: Sequence[Finding]) -> None:
        """Keep findings that speak of the whole campaign."""
        raise NotImplementedError

    def note_crash(self, boot_id: str | None) -> tuple[RunKey, ...]:
        """On resume: what was running is invalid (crash), and what was half made is made again.

        A block of which some runs are done and some still planned was interrupted: its runs are
        invalid too, since its arms would have a break of unknown length between them.

        Args:
            boot_id: of the kernel that runs now, for the event's words.

        Returns:
            the runs that became invalid, in order.
        """
        raise NotImplementedError

    def runs(
        self, valid_only: bool = True, *, cell: int | None = None, stage: Stage | None = None
    ) -> Iterator[CampaignRun]:
        """Runs that ended, in the order of the campaign, one at a time.

        `record.trace.rails` decodes a rail's samples (and checks their sha256) each time that it is
        asked for one, so that a night of ten rails need not fit into memory.

        Args:
            valid_only: those that are done; else invalid ones that have samples too.
            cell, stage: only these.

        Raises:
            JournalError: what is stored is damaged.
        """
        raise NotImplementedError

    def findings(self) -> tuple[StoredFinding, ...]:
        """Every finding, in the order in which it was stored."""
        raise NotImplementedError

    # ---- beside the runs

    def store_fact(self, name: str, value: Any) -> None:
        """Keep something found while running, as JSON, in place of what the name had before.

        For accuracy and passes of each arm, the guard that was used, the sensor map, ...
        """
        raise NotImplementedError

    def facts(self) -> Mapping[str, Any]:
        """Every fact by name."""
        raise NotImplementedError

    def store_result(self, result: Mapping[str, Any]) -> None:
        """Keep the figures of an analysis, as JSON; earlier ones stay."""
        raise NotImplementedError

    def result(self) -> Mapping[str, Any] | None:
        """The figures stored last, None before the first."""
        raise NotImplementedError

    def event(self, text: str) -> None:
        """Keep a sentence with the time."""
        raise NotImplementedError

    def events(self) -> tuple[Event, ...]:
        """Every event, in order."""
        raise NotImplementedError

    def checkpoint(self) -> None:
        """Move what the write-ahead log holds into the file; between blocks only.

        Raises:
            OutputError: the disk is full or fails; nothing is lost.
        """
        raise NotImplementedError


def verify_journal(path: str | Path) -> tuple[str, ...]:
    """Every fault of a journal, in words; () when there is none.

    SQLite's integrity and foreign keys, the sha256 of every column, run and plan, columns of equal
    length, states that fit what is stored.

    Raises:
        JournalError: it cannot even be opened.
    """
    raise NotImplementedError
