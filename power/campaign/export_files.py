"""Files of tables, written rows by rows: CSV, JSON or Parquet.

CSV as RFC 4180 with a header, UTF-8, lines ended by a line feed; JSON as one array a table, in
which rows that share most of their columns are one object with arrays; Parquet by pyarrow (extra
`parquet`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from bacmac.host.errors import MissingExtraError
from bacmac.host.files import replace_atomically

Format = Literal["csv", "json", "parquet"]
FORMATS: tuple[Format, ...] = ("csv", "json", "parquet")
SCHEMA, SCHEMA_VERSION = "bacmac.campaign_export", 1

Cell = str | int | float | bool | None
Kind = Literal["int", "float", "str", "bool"]
ROW_GROUP = 200_000
"""Rows of a Parquet row group, so that memory does not grow with the campaign."""


@dataclass(frozen=True)
class Rows:
    """Rows that differ in some columns only; one row where `columns` is empty."""

    constants: Mapping[str, Cell]
    columns: Mapping[str, Sequence[Cell]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """How many."""
        return len(next(iter(self.columns.values()))) if self.columns else 1


Write = Callable[[Rows], None]


@contextmanager
def table_file(
    path: Path, kind: Format, columns: Mapping[str, Kind], *, emulated: bool
) -> Iterator[Write]:
    """Write a table; the file appears whole when this is left without an error.

    Args:
        path: replaced if it is there.
        kind: of the file.
        columns: names and what they hold; those that `Rows.columns` gives come last, as numbers.
        emulated: told in the Parquet file's metadata too.

    Yields:
        a function that takes rows.

    Raises:
        MissingExtraError: Parquet is asked for and pyarrow is not installed.
        OutputError: the file cannot be written.
    """
    opener = _OPENERS[kind]
    if kind == "parquet":
        _pyarrow()  # before any file is made
    with replace_atomically(path) as temporary, opener(temporary, columns, emulated) as write:
        yield write


@contextmanager
def _csv(path: Path, columns: Mapping[str, Kind], _: bool) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerow(columns)

        def write(rows: Rows) -> None:
            constant = [name for name in columns if name not in rows.columns]
            start = _csv_line([rows.constants.get(name) for name in constant])
            if not rows.columns:
                handle.write(start + "\n")
                return
            # columns that vary come last in every table and are numbers: no quoting
            varying = zip(*(rows.columns[n] for n in columns if n in rows.columns), strict=True)
            handle.writelines(f"{start},{','.join(map(repr, row))}\n" for row in varying)

        yield write


def _csv_line(cells: Sequence[Cell]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(
        str(cell).lower() if isinstance(cell, bool) else cell for cell in cells
    )
    return line.getvalue()


@contextmanager
def _json(path: Path, columns: Mapping[str, Kind], _: bool) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as handle:
        between = "[\n"

        def write(rows: Rows) -> None:
            nonlocal between
            row = {n: rows.columns.get(n, rows.constants.get(n)) for n in columns}
            handle.write(between + json.dumps(row, separators=(",", ":"), allow_nan=False))
            between = ",\n"

        yield write
        handle.write("[]\n" if between == "[\n" else "\n]\n")


@contextmanager
def _parquet(path: Path, columns: Mapping[str, Kind], emulated: bool) -> Iterator[Write]:
    pa, pq = _pyarrow()
    types = {"int": pa.int64(), "float": pa.float64(), "str": pa.string(), "bool": pa.bool_()}
    schema = pa.schema(
        [(name, types[kind]) for name, kind in columns.items()],
        metadata={
            "bacmac.schema": f"{SCHEMA} {SCHEMA_VERSION}",
            "bacmac.emulated": str(emulated).lower(),
        },
    )
    waiting: list[Any] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def flush() -> None:
            if waiting:
                writer.write_table(pa.concat_tables(waiting).combine_chunks())
                waiting.clear()

        def write(rows: Rows) -> None:
            arrays = [
                pa.array(rows.columns[each.name], each.type)
                if each.name in rows.columns
                else pa.repeat(pa.scalar(rows.constants.get(each.name), each.type), rows.n)
                for each in schema
            ]
            waiting.append(pa.Table.from_arrays(arrays, schema=schema))
            if sum(len(table) for table in waiting) >= ROW_GROUP:
                flush()

        yield write
        flush()


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError("Parquet", "parquet") from error


_OPENERS: Mapping[
    Format, Callable[[Path, Mapping[str, Kind], bool], AbstractContextManager[Write]]
] = {"csv": _csv, "json": _json, "parquet": _parquet}
