"""Every fault of a journal, in words: SQLite's own checks, every digest, and states that fit."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bacmac.host.errors import JournalError
from bacmac.power.campaign.journal_file import sqlite_errors
from bacmac.power.campaign.plan import RunKey
from bacmac.power.campaign.run_store import KEY, describe, read_run

_BLOCK = "cell, stage, block"


def faults(db: sqlite3.Connection, path: Path) -> tuple[str, ...]:
    """Every fault of an open journal; () when there is none.

    Raises:
        JournalError: it is too damaged to be looked through.
    """
    with sqlite_errors(path, writing=False):
        found = [*_sqlite_faults(db)]
        if found:  # rows cannot be trusted
            return tuple(found)
        return (*_run_faults(db, path), *_state_faults(db))


def _sqlite_faults(db: sqlite3.Connection) -> Iterator[str]:
    for (said,) in db.execute("PRAGMA integrity_check"):
        if said != "ok":
            yield f"SQLite: {said}"
    missing = Counter((row[0], row[2]) for row in db.execute("PRAGMA foreign_key_check"))
    for (table, parent), n in missing.items():
        yield f"table {table}: {n} rows refer to a {parent} that is missing"


def _run_faults(db: sqlite3.Connection, path: Path) -> Iterator[str]:
    for (run_id,) in db.execute("SELECT id FROM run WHERE document IS NOT NULL").fetchall():
        try:
            run = read_run(db, run_id, path)
            for name in run.record.trace.rails:
                run.record.trace.rails[name]  # compares the digests of its columns
        except JournalError as error:
            yield f"{error.field}: {error.found}"
            continue
        if not run.record.trace.rails:
            yield f"{describe(run.key)}: no samples"
        record, key = run.record, run.key
        if (record.block, record.position, record.arm) != (key.block, key.position, key.arm):
            yield f"{describe(key)}: what was measured is of another run"


def _state_faults(db: sqlite3.Connection) -> Iterator[str]:
    for row in db.execute(
        f"SELECT {KEY} FROM run WHERE document IS NULL AND EXISTS"
        " (SELECT * FROM sample WHERE sample.run = run.id)"
    ):
        yield f"{describe(RunKey(*row))}: samples of a run that did not end"
    for cell, stage, block in db.execute(
        f"SELECT {_BLOCK} FROM run WHERE state <> 'invalid' GROUP BY {_BLOCK}"
        " HAVING count(DISTINCT attempt) > 1"
    ):
        yield f"cell {cell}, {stage} block {block}: more than one attempt is not invalid"
    for cell, stage, block in db.execute(
        f"SELECT {_BLOCK} FROM run GROUP BY {_BLOCK}"
        " HAVING max(attempt) > coalesce(max(CASE WHEN state <> 'invalid' THEN attempt END), -1)"
    ):
        yield f"cell {cell}, {stage} block {block}: an attempt is invalid and none is planned"
    for cell, stage, block in db.execute(
        "SELECT o.cell, o.stage, o.block FROM planned_order AS o JOIN run AS r"
        " ON r.cell = o.cell AND r.stage = o.stage AND r.block = o.block"
        " WHERE r.state <> 'invalid' GROUP BY o.cell, o.stage, o.block"
        " HAVING count(DISTINCT o.position) <> count(DISTINCT r.position)"
    ):
        yield f"cell {cell}, {stage} block {block}: not a run of every arm"
