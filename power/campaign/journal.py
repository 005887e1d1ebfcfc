"""One campaign in one SQLite file: what was planned, what was made, every raw sample.

A run is one transaction: after a crash, a power cut or a full disk it is there whole or not at all.
Commits take milliseconds of processor and disk, so they are made between windows only: who calls
`begin` and `finish` sees to that.

States of a run: planned, running, then done or invalid with a reason. What is invalid stays.

Source of the settings (WAL, synchronous FULL, BEGIN IMMEDIATE): SQLite, "Write-Ahead Logging" and
"PRAGMA synchronous"; with NORMAL the last commits may be lost in a power cut.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bacmac.host.errors import JournalError, MismatchError
from bacmac.host.files import FileLock
from bacmac.power.campaign.blobs import sha256
from bacmac.power.campaign.documents import from_document, to_document, to_text
from bacmac.power.campaign.integrity import faults
from bacmac.power.campaign.journal_file import (
    connect,
    hold,
    new_file,
    refuse_network,
    sqlite_errors,
    transaction,
)
from bacmac.power.campaign.journal_rows import (
    BLOCK,
    insert_event,
    insert_findings,
    invalidate_block,
    plan_all,
    plan_attempt,
)
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.plan import CampaignPlan, Cell, Design, Pair, RunKey, Stage
from bacmac.power.campaign.run import CampaignRun, Finding
from bacmac.power.campaign.run_store import KEY, describe, read_run, write_run
from bacmac.power.campaign.stored import (
    Event,
    RunState,
    StoredArm,
    StoredFinding,
    StoredPlan,
    stored_plan,
    words_are_emulated,
)

__all__ = [
    "Event",
    "Journal",
    "RunState",
    "StoredArm",
    "StoredFinding",
    "StoredPlan",
    "verify_journal",
]

_ORDER = "ORDER BY cell, stage, block, attempt, position"  # "aa" comes before "main"


class Journal:
    """One campaign's file, open; to be closed, or used as a context manager.

    Used by one thread. One process at a time may write; any number may read meanwhile.
    """

    def __init__(self, path: Path, db: sqlite3.Connection, lock: FileLock | None) -> None:
        self.path, self._db, self._lock = path, db, lock
        try:
            self.plan = self._plan()
        except BaseException:
            db.close()
            raise

    @classmethod
    def create(cls, path: str | Path, plan: CampaignPlan) -> Journal:
        """Make the file of a campaign, with every run of A/A and pilot planned; open for writing.

        Raises:
            OutputError: the file exists, cannot be written, is held by another process, or lies on
                a network file system.
            OverlayError: an overlay carries a mark that was not accepted.
        """
        target = Path(path)
        stored = to_text(to_document(stored_plan(plan)))
        refuse_network(target)
        lock = hold(target)
        try:
            with new_file(target) as db:
                db.execute(
                    "INSERT INTO campaign (id, document, sha256) VALUES (1, ?, ?)",
                    (stored, sha256(stored.encode())),
                )
                plan_all(db, plan)
            return cls(target, connect(target, write=True), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: str | Path, *, write: bool = False) -> Journal:
        """Open a file, to read it or to go on with it.

        Before it is gone on with all of it is looked through: what is damaged is not added to.

        Raises:
            JournalError: it is no journal, damaged, or of a newer version.
            OutputError: for writing: held by another process, or not writable.
        """
        target = Path(path)
        if not write:
            return cls(target, connect(target, write=False), None)
        if target.is_file():
            refuse_network(target)
        lock = hold(target)
        try:
            journal = cls(target, connect(target, write=True), lock)
        except BaseException:
            lock.release()
            raise
        try:
            journal._refuse_faults()
        except BaseException:
            journal.close()
            raise
        return journal

    def close(self) -> None:
        """Give file and lock back; may be called twice."""
        self._db.close()
        if self._lock is not None:
            self._lock.release()

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
        if words_are_emulated(self.plan.device, self.plan.rails):
            return True
        return bool(self._one("SELECT coalesce(max(emulated), 0) FROM run")[0])

    def check_plan(self, plan: CampaignPlan) -> None:
        """See that a plan is the one that this journal was made for.

        Raises:
            MismatchError: it is another.
        """
        if plan.sha256 != self.plan.sha256:
            raise MismatchError(
                self.path,
                "plan",
                found=f"plan {self.plan.name!r}, sha256 {self.plan.sha256[:12]}",
                expected=f"plan {plan.name!r}, sha256 {plan.sha256[:12]}",
                hint="the plan, an overlay, a model or the images have changed since",
            )

    # ---- what is owed

    def states(self) -> tuple[RunState, ...]:
        """Every run of every attempt, in the order of the campaign."""
        rows = self._all(
            f"SELECT {KEY}, state, reason, boot_id, begun_wall_ns, ended_wall_ns FROM run {_ORDER}"
        )
        return tuple(RunState(RunKey(*row[:6]), *row[6:]) for row in rows)

    def owed(self) -> tuple[RunKey, ...]:
        """Planned runs in the order in which they are to be made; () when all is done.

        Of a cell whose number of blocks is not fixed these are A/A and pilot.
        """
        return tuple(
            RunKey(*row)
            for row in self._all(f"SELECT {KEY} FROM run WHERE state = 'planned' {_ORDER}")
        )

    def main_blocks(self, cell: int) -> int | None:
        """Number of the cell's main blocks once it is fixed, else None."""
        row = self._one("SELECT main_blocks FROM cell WHERE cell = ?", cell)
        return None if row[0] is None else int(row[0])

    def fix_blocks(self, cell: int, n: int) -> None:
        """Second stage: the cell has n main blocks in all, from now on and for good.

        The same n again changes nothing.

        Raises:
            ValueError: fewer than the pilot's or more than the plan allows, or another number was
                fixed before.
        """
        fixed, design = self.main_blocks(cell), self.design
        if fixed == n:
            return
        if fixed is not None:
            raise ValueError(f"cell {cell} was fixed at {fixed} blocks, not {n}")
        if not design.pilot_blocks <= n <= design.max_blocks:
            raise ValueError(f"{n} blocks; {design.pilot_blocks} to {design.max_blocks} can be")
        with transaction(self._db, self.path):
            self._db.execute("UPDATE cell SET main_blocks = ? WHERE cell = ?", (n, cell))
            for block in range(design.pilot_blocks, n):
                plan_attempt(self._db, (cell, "main", block, 0))

    # ---- runs

    def begin(self, key: RunKey, boot_id: str | None) -> None:
        """Planned -> running.

        Raises:
            ValueError: the run is not planned.
            OutputError: it cannot be written.
        """
        with transaction(self._db, self.path):
            run_id = self._run_id(key, "planned")
            self._db.execute(
                "UPDATE run SET state = 'running', boot_id = ?, begun_wall_ns = ? WHERE id = ?",
                (boot_id, time.time_ns(), run_id),
            )

    def finish(
        self,
        run: CampaignRun,
        findings: Sequence[Finding] = (),
        block_findings: Sequence[Finding] = (),
    ) -> None:
        """Running -> done with all samples and findings; one transaction.

        A finding beyond a warning makes every run of the block's attempt invalid, in the same
        transaction, and plans the next attempt in the same order: a crash cannot come between.

        Args:
            run: which ended.
            findings: of this run.
            block_findings: of its block, known when this was its last run.

        Raises:
            ValueError: the run is not running.
            OutputError: the disk is full or fails: nothing was stored, the run is still running.
        """
        key = run.key
        block = (key.cell, key.stage, key.block, key.attempt)
        with transaction(self._db, self.path):
            run_id = self._run_id(key, "running")
            write_run(self._db, run_id, run)
            insert_findings(self._db, findings, (*block, key.position, key.arm))
            insert_findings(self._db, block_findings, (*block, None, None))
            if any(f.level != "warn" for f in (*findings, *block_findings)):
                invalidate_block(self._db, block, "")

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
            cell: of the block.
            stage: of the block.
            block: its number.
            attempt: at it.
            findings: of the block as a whole.
            reason: where there is no finding, as "interrupted".
        """
        attempt_at = (cell, stage, block, attempt)
        with transaction(self._db, self.path):
            insert_findings(self._db, findings, (*attempt_at, None, None))
            invalidate_block(self._db, attempt_at, reason)

    def note_findings(self, findings: Sequence[Finding]) -> None:
        """Keep findings that speak of the whole campaign."""
        with transaction(self._db, self.path):
            insert_findings(self._db, findings, (None,) * 6)

    def note_crash(self, boot_id: str | None) -> tuple[RunKey, ...]:
        """On resume: what was running is invalid (crash), and what was half made is made again.

        A block of which some runs are done and some still planned was interrupted: its runs are
        invalid too, since its arms would have a break of unknown length between them.

        Args:
            boot_id: of the kernel that runs now, for the event's words.

        Returns:
            the runs that became invalid, in order.
        """
        broken = self._all(
            "SELECT DISTINCT cell, stage, block, attempt FROM run AS a WHERE state = 'running'"
            " OR (state = 'done' AND EXISTS (SELECT * FROM run AS b WHERE b.state = 'planned'"
            " AND b.cell = a.cell AND b.stage = a.stage AND b.block = a.block"
            " AND b.attempt = a.attempt)) ORDER BY cell, stage, block, attempt"
        )
        crashed: list[RunKey] = []
        for block in broken:
            with transaction(self._db, self.path):
                rows = self._db.execute(
                    f"SELECT {KEY}, state, boot_id FROM run WHERE {BLOCK} AND state <> 'planned'"
                    " ORDER BY position",
                    block,
                ).fetchall()
                for *key, state, boot in rows:
                    crashed.append(RunKey(*key))
                    if state == "running":
                        when = "the same boot" if boot == boot_id else "another boot"
                        words = f"{describe(crashed[-1])}: crashed; resumed in {when}"
                        insert_event(self._db, words)
                invalidate_block(self._db, block, "interrupted", running="crash")
        return tuple(crashed)

    def runs(
        self, valid_only: bool = True, *, cell: int | None = None, stage: Stage | None = None
    ) -> Iterator[CampaignRun]:
        """Runs that ended, in the order of the campaign, one at a time.

        `record.trace.rails` decodes a rail's samples (and checks their sha256) each time that it is
        asked for one, so that a night of ten rails need not fit into memory.

        Args:
            valid_only: those that are done; else invalid ones that have samples too.
            cell: only of this one.
            stage: only of this one.

        Raises:
            JournalError: what is stored is damaged.
        """
        where, values = ["document IS NOT NULL"], []
        if valid_only:
            where.append("state = 'done'")
        for name, value in (("cell", cell), ("stage", stage)):
            if value is not None:
                where.append(f"{name} = ?")
                values.append(value)
        ids = self._all(f"SELECT id FROM run WHERE {' AND '.join(where)} {_ORDER}", *values)
        for (run_id,) in ids:
            with sqlite_errors(self.path, writing=False):
                run = read_run(self._db, run_id, self.path)
            yield run

    def findings(self) -> tuple[StoredFinding, ...]:
        """Every finding, in the order in which it was stored."""
        rows = self._all(
            "SELECT check_number, level, subject, text, cell, stage, block, attempt, position, arm"
            " FROM finding ORDER BY id"
        )
        return tuple(StoredFinding(Finding(*row[:4]), *row[4:]) for row in rows)

    # ---- beside the runs

    def store_fact(self, name: str, value: Any) -> None:
        """Keep something found while running, as JSON, in place of what the name had before.

        For accuracy and passes of each arm, the guard that was used, the sensor map, ...
        """
        with transaction(self._db, self.path):
            self._db.execute(
                "INSERT OR REPLACE INTO fact (name, document) VALUES (?, ?)", (name, to_text(value))
            )

    def facts(self) -> Mapping[str, Any]:
        """Every fact by name."""
        rows = self._all("SELECT name, document FROM fact ORDER BY name")
        return {name: self._parsed(name, text) for name, text in rows}

    def store_result(self, result: Mapping[str, Any]) -> None:
        """Keep the figures of an analysis, as JSON; earlier ones stay."""
        with transaction(self._db, self.path):
            self._db.execute(
                "INSERT INTO result (wall_ns, document) VALUES (?, ?)",
                (time.time_ns(), to_text(result)),
            )

    def result(self) -> Mapping[str, Any] | None:
        """The figures stored last, None before the first."""
        rows = self._all("SELECT document FROM result ORDER BY id DESC LIMIT 1")
        return None if not rows else dict(self._parsed("result", rows[0][0]))

    def event(self, text: str) -> None:
        """Keep a sentence with the time."""
        with transaction(self._db, self.path):
            insert_event(self._db, text)

    def events(self) -> tuple[Event, ...]:
        """Every event, in order."""
        return tuple(
            Event(*row) for row in self._all("SELECT wall_ns, text FROM event ORDER BY id")
        )

    def faults(self) -> tuple[str, ...]:
        """Every fault of the file, in words; () when there is none.

        SQLite's integrity and foreign keys, the sha256 of every column and run, and states that
        fit what is stored. Reads all of it: on resume and in reports, not between runs.

        Raises:
            JournalError: it is too damaged to be looked through.
        """
        return faults(self._db, self.path)

    def checkpoint(self) -> None:
        """Move what the write-ahead log holds into the file; between blocks only.

        Raises:
            OutputError: the disk is full or fails; nothing is lost.
        """
        with sqlite_errors(self.path, writing=True):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _refuse_faults(self) -> None:
        found = self.faults()
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise JournalError(
                self.path,
                "contents",
                found=found[0] + more,
                expected="no fault",
                hint="go on with the last good copy of it",
            )

    def _plan(self) -> StoredPlan:
        (text, digest) = self._one("SELECT document, sha256 FROM campaign")
        if sha256(text.encode()) != digest:
            raise JournalError(
                self.path,
                "plan",
                found="a sha256 that is not that of what is stored",
                expected="the plan as it was stored",
                hint="the file is damaged",
            )
        try:
            return from_document(StoredPlan, json.loads(text))
        except ValueError as error:
            raise JournalError(
                self.path, "plan", found=str(error), expected="a plan of this release"
            ) from error

    def _parsed(self, what: str, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise JournalError(self.path, what, found=str(error), expected="JSON") from error

    def _run_id(self, key: RunKey, state: str) -> int:
        row = self._db.execute(
            f"SELECT id, state FROM run WHERE {BLOCK} AND position = ? AND arm = ?",
            (key.cell, key.stage, key.block, key.attempt, key.position, key.arm),
        ).fetchone()
        if row is None or row[1] != state:
            raise ValueError(f"{describe(key)} is {row[1] if row else 'not there'}, not {state}")
        return int(row[0])

    def _all(self, sql: str, *values: object) -> list[Any]:
        with sqlite_errors(self.path, writing=False):
            return self._db.execute(sql, values).fetchall()

    def _one(self, sql: str, *values: object) -> Any:
        rows = self._all(sql, *values)
        if not rows:
            raise JournalError(self.path, "file", found="no row", expected="a whole journal")
        return rows[0]


def verify_journal(path: str | Path) -> tuple[str, ...]:
    """Every fault of a journal, in words; () when there is none. See `Journal.faults`.

    Raises:
        JournalError: it cannot be opened, or is too damaged to be looked through.
    """
    with Journal.open(path) as journal:
        return journal.faults()
