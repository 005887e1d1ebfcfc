"""A run in the tables of a journal, and back: every field, every raw sample, checked by sha256."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bacmac.host.errors import JournalError, RailError
from bacmac.power.campaign.blobs import decode_column, encode_column, sha256
from bacmac.power.campaign.documents import from_document, to_document, to_text
from bacmac.power.campaign.plan import RunKey
from bacmac.power.campaign.run import CampaignRun
from bacmac.power.rails import RailInfo
from bacmac.power.runs import RunRecord
from bacmac.power.sampler import DieTrace, PowerTrace, RailTrace

COLUMNS = ("times_ns", "voltage_mv", "current_ma", "power_uw")
"""Of a rail, in the order of `RailTrace`."""
KEY = "cell, stage, block, attempt, position, arm"
"""Columns of `RunKey`, in its order."""
CELSIUS = "celsius:"
"""Before the name of a die temperature; its float64 are stored by their bits."""


def describe(key: RunKey) -> str:
    """A run in words, for errors and events."""
    return (
        f"cell {key.cell}, {key.stage} block {key.block}, attempt {key.attempt}, run {key.position}"
        f" ({key.arm})"
    )


def write_run(db: sqlite3.Connection, run_id: int, run: CampaignRun) -> None:
    """Store what was measured in a run that was running; within a transaction of the caller's."""
    trace = run.record.trace
    document = to_text(
        {
            "run": to_document(run, without=("key", "record")),
            "record": to_document(run.record, without=("trace",)),
            "trace": to_document(trace, without=("rails", "die")),
        }
    )
    stored: list[tuple[str, str, str]] = []
    for rail in trace.rails.values():
        rail_id = _rail_id(db, rail.info)
        for name in COLUMNS:
            data = encode_column(getattr(rail, name))
            stored.append((rail.info.name, name, sha256(data)))
            db.execute(
                "INSERT INTO sample (run, rail, name, data, sha256) VALUES (?, ?, ?, ?, ?)",
                (run_id, rail_id, name, data, stored[-1][-1]),
            )
    for name, data in _die_columns(trace.die):
        stored.append(("", name, sha256(data)))
        db.execute(
            "INSERT INTO die (run, name, data, sha256) VALUES (?, ?, ?, ?)",
            (run_id, name, data, stored[-1][-1]),
        )
    db.execute(
        "UPDATE run SET state = 'done', ended_wall_ns = ?, document = ?, sha256 = ?, emulated = ?"
        " WHERE id = ?",
        (
            time.time_ns(),
            document,
            run_sha256(run.key, document, stored),
            int(is_emulated(run)),
            run_id,
        ),
    )


def is_emulated(run: CampaignRun) -> bool:
    """Whether any of it, accelerator or rails, is a model."""
    trace = run.record.trace
    return (
        trace.emulated or trace.source.startswith("emulated:") or run.record.provenance != "board"
    )


def run_sha256(key: RunKey, document: str, columns: list[tuple[str, str, str]]) -> str:
    """Digest of a run: its key, its document, and the digests of its columns in their order."""
    return sha256(to_text([to_document(key), document, columns]).encode())


def read_run(db: sqlite3.Connection, run_id: int, path: Path) -> CampaignRun:
    """A run that has been stored; rails are decoded when they are asked for.

    Raises:
        JournalError: its document or a digest of it is damaged.
    """
    row = db.execute(
        f"SELECT {KEY}, document, sha256, emulated FROM run WHERE id = ?", (run_id,)
    ).fetchone()
    key, (text, digest, emulated) = RunKey(*row[:6]), row[6:]
    samples = db.execute(
        "SELECT rail.document, sample.name, sample.data, sample.sha256 FROM sample"
        " JOIN rail ON rail.id = sample.rail WHERE sample.run = ? ORDER BY sample.rowid",
        (run_id,),
    ).fetchall()
    die = db.execute(
        "SELECT name, data, sha256 FROM die WHERE run = ? ORDER BY rowid", (run_id,)
    ).fetchall()
    try:
        rails = StoredRails(path, key, samples)
        columns = [*rails.digests(), *(("", name, digest) for name, _, digest in die)]
        if run_sha256(key, text, columns) != digest:
            raise ValueError("its sha256 is not that of what is stored")
        run = _built(key, json.loads(text), rails, _die(die))
        if is_emulated(run) != bool(emulated):
            raise ValueError("its row and its document differ in whether it is emulated")
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, key, str(error)) from error
    return run


class StoredRails(Mapping[str, RailTrace]):
    """Rails of a stored run; each is decoded, and its digests compared, when it is asked for.

    Args:
        path: of the journal, for errors.
        key: of the run, for errors.
        rows: (document of the rail, name of the column, bytes, sha256), as stored.
    """

    def __init__(self, path: Path, key: RunKey, rows: list[tuple[str, str, bytes, str]]) -> None:
        self._path, self._key = path, key
        self._columns: dict[str, dict[str, tuple[bytes, str]]] = {}
        self._infos: dict[str, RailInfo] = {}
        for document, name, data, digest in rows:
            info = _rail_info(document)
            self._infos[info.name] = info
            self._columns.setdefault(info.name, {})[name] = (data, digest)

    def __getitem__(self, name: str) -> RailTrace:
        columns = self._columns[name]
        try:
            return RailTrace(
                self._infos[name], *(_checked(column, *columns[column]) for column in COLUMNS)
            )
        except (ValueError, KeyError, RailError) as error:
            raise _damaged(self._path, self._key, f"rail {name}: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def digests(self) -> list[tuple[str, str, str]]:
        """(rail, column, sha256) of every column, in the order in which they were stored."""
        return [
            (rail, name, digest)
            for rail, columns in self._columns.items()
            for name, (_, digest) in columns.items()
        ]


def _built(
    key: RunKey, document: Any, rails: Mapping[str, RailTrace], die: DieTrace | None
) -> CampaignRun:
    trace = from_document(PowerTrace, document["trace"], rails=rails, die=die)
    record = from_document(RunRecord, document["record"], trace=trace)
    return from_document(CampaignRun, document["run"], key=key, record=record)


def _checked(name: str, data: bytes, digest: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    if sha256(data) != digest:
        raise ValueError(f"sha256 of {name} is not that of its bytes")
    return decode_column(data)


def _rail_id(db: sqlite3.Connection, info: RailInfo) -> int:
    text = to_text(to_document(info))
    db.execute("INSERT OR IGNORE INTO rail (document) VALUES (?)", (text,))
    return int(db.execute("SELECT id FROM rail WHERE document = ?", (text,)).fetchone()[0])


@lru_cache(maxsize=256)
def _rail_info(text: str) -> RailInfo:
    return from_document(RailInfo, json.loads(text))


def _die_columns(die: DieTrace | None) -> Iterator[tuple[str, bytes]]:
    if die is None:
        return
    yield "times_ns", encode_column(die.times_ns)
    for name, celsius in die.celsius.items():
        bits = np.ascontiguousarray(celsius, np.float64).view(np.int64)
        yield CELSIUS + name, encode_column(bits)


def _die(rows: list[tuple[str, bytes, str]]) -> DieTrace | None:
    columns = {name: _checked(name, data, digest) for name, data, digest in rows}
    if not columns:
        return None
    times = columns.pop("times_ns")
    return DieTrace(
        times, {name[len(CELSIUS) :]: bits.view(np.float64) for name, bits in columns.items()}
    )


def _damaged(path: Path, key: RunKey, what: str) -> JournalError:
    return JournalError(
        path, describe(key), found=what, expected="what was stored", hint="the file is damaged"
    )
