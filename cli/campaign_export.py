"""`bacmac campaign export`: a journal as CSV, JSON or Parquet."""

from __future__ import annotations

from pathlib import Path

import click

from bacmac.cli.choices import FILE
from bacmac.cli.output import json_option, note, print_json, print_table
from bacmac.power.campaign.export import export_journal
from bacmac.power.campaign.export_files import FORMATS, Format
from bacmac.power.campaign.journal import Journal


@click.command()
@click.argument("file", type=FILE)
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    default="csv",
    show_default=True,
    help="Of the tables; Parquet needs the extra `parquet`.",
)
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder; made if it is missing. Files of the tables' names are replaced.",
)
@json_option
def export(file: Path, kind: Format, output: Path, as_json: bool) -> None:
    """Write every table of the journal FILE: runs, raw samples, findings, events.

    Invalid runs are written too, and marked; each row says whether it is emulated.
    """
    with Journal.open(file) as journal:
        emulated = journal.emulated
        written = export_journal(journal, output, kind)
    if as_json:
        tables = [{"table": e.table, "path": str(e.path), "rows": e.n_rows} for e in written]
        print_json({"emulated": emulated, "tables": tables})
        return
    print_table(
        ("table", "rows", "file"),
        [(e.table, f"{e.n_rows:,}", e.path) for e in written],
        numbers=(1,),
    )
    if emulated:
        note("EMULATED: these are no measurements, and every row says so.")
