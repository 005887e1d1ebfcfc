"""How a command speaks: tables or JSON on standard output, progress on standard error."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Advance = Callable[[str, int, int], None]
"""Called with (what is being done, how many are done, of how many)."""

PIPED_WIDTH = 160
"""Columns where standard output is a file or a pipe: nothing there should be cut to 80."""

WIDEST = 10_000
"""Columns at which a table is measured to see whether it needs its gaps."""

PROGRESS_S = 1.0
"""Shortest time between two writes of progress to a file."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def print_json(payload: object) -> None:
    """One JSON document on standard output; NaN and infinity are refused, not printed."""
    click.echo(json.dumps(payload, indent=2, allow_nan=False))


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str = "",
    numbers: Sequence[int] = (),
    prose: Sequence[int] = (),
) -> None:
    """A table on standard output.

    Args:
        headers: one a column.
        rows: cells of any kind, printed as they are.
        title: above it.
        numbers: columns that are aligned right.
        prose: columns that may be folded where the terminal is narrow. The others stay on one
            line, and what is cut of them ends in an ellipsis.
    """
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, header in enumerate(headers):
        table.add_column(
            _plain(header),
            justify="right" if index in numbers else "left",
            overflow="fold" if index in prose else "ellipsis",
            no_wrap=index not in prose,
        )
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    target = console()
    if Measurement.get(target, target.options.update(width=WIDEST), table).maximum > target.width:
        table.padding = (0, 1, 0, 0)
    target.print(table)


def console() -> Console:
    """A console on today's standard output (tests and pipes replace it).

    COLUMNS, which rich reads, is believed of a pipe too: a terminal may be at its other end.
    """
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False)


@contextmanager
def progress() -> Iterator[Advance]:
    """Progress bars on standard error, one for each thing done; silent where that is no terminal.

    Where BACMAC_PROGRESS names a file, they are written to it as JSON instead, for another
    process to draw: {"what": [done, total], ...}.

    Yields:
        a function to be called with (what, done, total) as often as one likes.
    """
    if file := os.environ.get("BACMAC_PROGRESS"):
        yield _write_progress(Path(file))
        return
    stderr = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr,
        disable=not stderr.is_terminal,
        transient=True,
    ) as bars:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield advance


def _write_progress(file: Path) -> Advance:
    state: dict[str, tuple[int, int]] = {}
    written_s = -PROGRESS_S

    def advance(what: str, done: int, total: int) -> None:
        nonlocal written_s
        state[what] = (done, total)
        if done >= total or time.monotonic() >= written_s + PROGRESS_S:
            written_s = time.monotonic()
            file.write_text(json.dumps(state))

    return advance


def say(text: str) -> None:
    """A sentence on standard output, folded to the terminal's width."""
    console().print(_plain(text))


def note(text: str) -> None:
    """A remark for a person, on standard error."""
    click.echo(text, err=True)


def _plain(cell: object) -> str:
    # names come from files: brackets in them are not rich's markup
    return str(cell).replace("[", r"\[")
