"""`bacmac campaign`: plan, run and report a campaign; each subcommand is imported when called."""

from __future__ import annotations

import click

from bacmac.cli.lazy_group import LazyGroup

SUBCOMMANDS = {
    "plan": ("campaign_plan", "Check a campaign.toml whole; tell runs, time, disk and half-width."),
    "run": ("campaign_run", "Carry out a campaign, block by block, into a journal."),
    "resume": ("campaign_run", "Go on with a campaign that was interrupted."),
    "status": ("campaign_run", "Tell what of a campaign is done, owed and invalid."),
    "export": ("campaign_export", "Write a journal as CSV, JSON or Parquet."),
    "analyse": ("campaign_analyse", "Compute every figure again from the raw samples."),
    "report": ("campaign_report", "Write the HTML report and the figures."),
    "diff": ("campaign_report", "Compare two campaigns, like with like."),
}
"""Module below `bacmac.cli` and one line of help of each; the command object has its name."""


@click.group(cls=LazyGroup, commands_in=SUBCOMMANDS)
def campaign() -> None:
    """Unattended energy campaigns: planned, journalled, checked, and analysed from raw samples."""
