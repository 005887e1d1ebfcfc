"""A journal as tables for other programs, run by run: CSV, JSON or Parquet.

Every row says whether it is emulated. That is never taken from one place: the words of device and
rails, the run's provenance and its trace must all say "measured", and what the journal holds of a
run is compared with its sha256 first, so an emulated run cannot leave as a measured one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from bacmac.host.errors import OutputError
from bacmac.host.files import write_text
from bacmac.host.runtime.results import Counters
from bacmac.power.campaign.documents import to_document, to_text
from bacmac.power.campaign.export_files import (
    SCHEMA,
    SCHEMA_VERSION,
    Cell,
    Format,
    Kind,
    Rows,
    table_file,
)
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.plan import RunKey
from bacmac.power.campaign.run import CampaignRun
from bacmac.power.campaign.run_store import COLUMNS, is_emulated
from bacmac.power.campaign.stored import words_are_emulated

_KEY: dict[str, Kind] = {
    "cell": "int",
    "stage": "str",
    "block": "int",
    "attempt": "int",
    "position": "int",
    "arm": "str",
}
_WINDOWS = ("before", "run", "used", "after")
_RUN: dict[str, Kind] = {
    "boot_id": "str",
    "begun_wall_ns": "int",
    "ended_wall_ns": "int",
    "provenance": "str",
    "rails": "str",
    "overlay": "str",
    "overlay_sha256": "str",
    "model_sha256": "str",
    "clock_hz": "float",
    **{f"{window}_{edge}_ns": "int" for window in _WINDOWS for edge in ("start", "end")},
    **{counter.name: "int" for counter in fields(Counters)},
    "outputs_sha256": "str",
    "n_verified": "int",
    "read_errors": "int",
    "retries": "int",
    "surroundings_before": "str",
    "surroundings_after": "str",
}
TABLES: Mapping[str, Mapping[str, Kind]] = {
    "runs": {**_KEY, "state": "str", "reason": "str", "valid": "bool", "emulated": "bool", **_RUN},
    "samples": {
        **_KEY,
        "valid": "bool",
        "emulated": "bool",
        "rail": "str",
        "time_ns": "int",
        **dict.fromkeys(COLUMNS[1:], "int"),
    },
    "die": {
        **_KEY,
        "valid": "bool",
        "emulated": "bool",
        "name": "str",
        "time_ns": "int",
        "celsius": "float",
    },
    "findings": {
        "check": "int",
        "level": "str",
        "subject": "str",
        "text": "str",
        **_KEY,
        "emulated": "bool",
    },
    "events": {"wall_ns": "int", "text": "str", "emulated": "bool"},
}
"""Columns of each table and what they hold; units are in the names, null where nothing is."""


@dataclass(frozen=True)
class Exported:
    """A table that was written."""

    table: str
    path: Path
    n_rows: int


def export_journal(journal: Journal, folder: str | Path, kind: Format) -> tuple[Exported, ...]:
    """Write every table of a journal, and `campaign.json` with plan, facts and figures.

    Files of these names are replaced, each whole.

    Args:
        journal: open.
        folder: made where it is missing.
        kind: of the tables.

    Raises:
        MissingExtraError: Parquet is asked for and pyarrow is not installed.
        OutputError: the folder or a file cannot be written.
        JournalError: the journal is damaged.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(target, error.strerror or str(error)) from error
    written = []
    for table, columns in TABLES.items():
        path, n = target / f"{table}.{kind}", 0
        with table_file(path, kind, columns, emulated=journal.emulated) as write:
            for rows in _TABLE_ROWS[table](journal):
                write(rows)
                n += rows.n
        written.append(Exported(table, path, n))
    write_text(target / "campaign.json", _campaign(journal))
    return tuple(written)


def _campaign(journal: Journal) -> str:
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "emulated": journal.emulated,
        "plan": to_document(journal.plan),
        "main_blocks": [journal.main_blocks(cell.index) for cell in journal.cells],
        "facts": journal.facts(),
        "result": journal.result(),
    }
    return json.dumps(json.loads(to_text(document)), indent=2) + "\n"


# ---- rows


def _run_rows(journal: Journal) -> Iterator[Rows]:
    measured = {run.key: row for run, row in _measured(journal)}
    for state in journal.states():
        yield Rows(
            {
                **_key(state.key),
                "state": state.state,
                "reason": state.reason,
                "valid": state.state == "done",
                "emulated": journal.emulated,
                "boot_id": state.boot_id,
                "begun_wall_ns": state.begun_wall_ns,
                "ended_wall_ns": state.ended_wall_ns,
                **measured.get(state.key, {}),
            }
        )


def _measured(journal: Journal) -> Iterator[tuple[CampaignRun, dict[str, Cell]]]:
    for run in journal.runs(valid_only=False):
        record = run.record
        windows = {
            f"{name}_{edge}_ns": getattr(getattr(record, name), f"{edge}_ns")
            for name in _WINDOWS
            for edge in ("start", "end")
        }
        yield (
            run,
            {
                "emulated": _emulated(journal, run),
                "provenance": record.provenance,
                "rails": record.trace.source,
                "overlay": record.overlay,
                "overlay_sha256": record.overlay_sha256,
                "model_sha256": record.model_sha256,
                "clock_hz": record.clock_hz,
                **windows,
                **to_document(record.counters),
                "outputs_sha256": record.outputs_sha256,
                "n_verified": record.n_verified,
                "read_errors": run.read_errors,
                "retries": run.retries,
                "surroundings_before": to_text(to_document(run.before)),
                "surroundings_after": to_text(to_document(run.after)),
            },
        )


def _sample_rows(journal: Journal) -> Iterator[Rows]:
    for run, about in _about_runs(journal):
        for name in run.record.trace.rails:
            rail = run.record.trace.rails[name]
            columns = {column: getattr(rail, column).tolist() for column in COLUMNS[1:]}
            yield Rows({**about, "rail": name}, {"time_ns": rail.times_ns.tolist(), **columns})


def _die_rows(journal: Journal) -> Iterator[Rows]:
    for run, about in _about_runs(journal):
        die = run.record.trace.die
        if die is None:
            continue
        for name, celsius in die.celsius.items():
            columns = {"time_ns": die.times_ns.tolist(), "celsius": celsius.tolist()}
            yield Rows({**about, "name": name}, columns)


def _about_runs(journal: Journal) -> Iterator[tuple[CampaignRun, dict[str, Cell]]]:
    valid = {state.key for state in journal.states() if state.state == "done"}
    for run in journal.runs(valid_only=False):
        about = {"valid": run.key in valid, "emulated": _emulated(journal, run)}
        yield run, {**_key(run.key), **about}


def _finding_rows(journal: Journal) -> Iterator[Rows]:
    for found in journal.findings():
        place = {name: getattr(found, name) for name in _KEY}
        yield Rows({**to_document(found.finding), **place, "emulated": journal.emulated})


def _event_rows(journal: Journal) -> Iterator[Rows]:
    for event in journal.events():
        yield Rows({**to_document(event), "emulated": journal.emulated})


_TABLE_ROWS: Mapping[str, Callable[[Journal], Iterator[Rows]]] = {
    "runs": _run_rows,
    "samples": _sample_rows,
    "die": _die_rows,
    "findings": _finding_rows,
    "events": _event_rows,
}


def _key(key: RunKey) -> dict[str, Cell]:
    return {name: getattr(key, name) for name in _KEY}


def _emulated(journal: Journal, run: CampaignRun) -> bool:
    plan = journal.plan
    return is_emulated(run) or words_are_emulated(plan.device, plan.rails)
