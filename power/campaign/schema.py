"""Tables of a journal, as the steps that make them: a new file takes all, an old one the rest.

`PRAGMA user_version` counts the steps that a file has had. A step is never edited once files exist
that had it; what changes is a further step. `PRAGMA application_id` tells a journal from any other
SQLite file (SQLite, "Database File Format", 1.3.17).

- 1: the plan, the order of every block that may be made, runs, samples, findings.
- 2: `emulated` in every run; die temperatures; facts, results and events.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from functools import cache

from bacmac.host.errors import JournalError

APPLICATION_ID = int.from_bytes(b"bacj", "big")

_STEP_1 = (
    """CREATE TABLE campaign (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        document TEXT NOT NULL,
        sha256 TEXT NOT NULL
    )""",
    "CREATE TABLE cell (cell INTEGER PRIMARY KEY, main_blocks INTEGER)",
    """CREATE TABLE planned_order (
        cell INTEGER NOT NULL REFERENCES cell,
        stage TEXT NOT NULL CHECK (stage IN ('aa', 'main')),
        block INTEGER NOT NULL,
        position INTEGER NOT NULL,
        arm TEXT NOT NULL,
        PRIMARY KEY (cell, stage, block, position),
        UNIQUE (cell, stage, block, position, arm)
    )""",
    """CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        cell INTEGER NOT NULL,
        stage TEXT NOT NULL,
        block INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        position INTEGER NOT NULL,
        arm TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('planned', 'running', 'done', 'invalid')),
        reason TEXT NOT NULL DEFAULT '',
        boot_id TEXT,
        begun_wall_ns INTEGER,
        ended_wall_ns INTEGER,
        document TEXT,
        sha256 TEXT,
        UNIQUE (cell, stage, block, attempt, position),
        FOREIGN KEY (cell, stage, block, position, arm)
            REFERENCES planned_order (cell, stage, block, position, arm),
        CHECK ((state = 'invalid') = (reason <> '')),
        CHECK (state <> 'done' OR document IS NOT NULL),
        CHECK (state NOT IN ('planned', 'running') OR document IS NULL),
        CHECK ((document IS NULL) = (sha256 IS NULL))
    )""",
    "CREATE TABLE rail (id INTEGER PRIMARY KEY, document TEXT NOT NULL UNIQUE)",
    """CREATE TABLE sample (
        run INTEGER NOT NULL REFERENCES run,
        rail INTEGER NOT NULL REFERENCES rail,
        name TEXT NOT NULL,
        data BLOB NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (run, rail, name)
    )""",
    """CREATE TABLE finding (
        id INTEGER PRIMARY KEY,
        check_number INTEGER NOT NULL,
        level TEXT NOT NULL CHECK (level IN ('invalidate', 'warn', 'abort')),
        subject TEXT NOT NULL,
        text TEXT NOT NULL,
        cell INTEGER,
        stage TEXT,
        block INTEGER,
        attempt INTEGER,
        position INTEGER,
        arm TEXT
    )""",
)

_STEP_2 = (
    "ALTER TABLE run ADD COLUMN emulated INTEGER CHECK (emulated IN (0, 1))",
    """CREATE TABLE die (
        run INTEGER NOT NULL REFERENCES run,
        name TEXT NOT NULL,
        data BLOB NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (run, name)
    )""",
    "CREATE TABLE fact (name TEXT PRIMARY KEY, document TEXT NOT NULL)",
    """CREATE TABLE result (
        id INTEGER PRIMARY KEY, wall_ns INTEGER NOT NULL, document TEXT NOT NULL
    )""",
    "CREATE TABLE event (id INTEGER PRIMARY KEY, wall_ns INTEGER NOT NULL, text TEXT NOT NULL)",
)


def _step_1(db: sqlite3.Connection) -> None:
    for statement in _STEP_1:
        db.execute(statement)


def _step_2(db: sqlite3.Connection) -> None:
    for statement in _STEP_2:
        db.execute(statement)
    rows = db.execute("SELECT id, document FROM run WHERE document IS NOT NULL").fetchall()
    for run, text in rows:
        document = json.loads(text)
        emulated = document["trace"]["emulated"] or document["record"]["provenance"] != "board"
        db.execute("UPDATE run SET emulated = ? WHERE id = ?", (int(emulated), run))


STEPS: tuple[Callable[[sqlite3.Connection], None], ...] = (_step_1, _step_2)
VERSION = len(STEPS)


def version_of(db: sqlite3.Connection, path: str) -> int:
    """Steps that a file has had.

    Raises:
        JournalError: it is no journal, a later release made it, or its tables are damaged.
    """
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise JournalError(path, "file", found="another SQLite file", expected="a journal")
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if not 1 <= version <= VERSION:
        raise JournalError(
            path,
            "version",
            found=str(version),
            expected=f"1 to {VERSION}",
            hint="a later bacmac made it" if version > VERSION else "",
        )
    if not _tables_after(version) <= _tables(db):
        raise JournalError(
            path,
            "tables",
            found="others",
            expected=f"those of version {version}",
            hint="the file is damaged",
        )
    return version


@cache
def _tables_after(version: int) -> frozenset[tuple[str, str, str]]:
    db = sqlite3.connect(":memory:")
    for step in STEPS[:version]:
        step(db)
    tables = _tables(db)
    db.close()
    return tables


def _tables(db: sqlite3.Connection) -> frozenset[tuple[str, str, str]]:
    return frozenset(db.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master"))


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Take the steps after `version`; within a transaction of the caller's, so all or none."""
    for step in STEPS[version:]:
        step(db)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")
