"""`bacmac campaign`: plan, run and report a campaign; each subcommand is imported when called."""

from __future__ import annotations

from importlib import import_module

import click

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


class LazyCampaignGroup(click.Group):
    """Import a subcommand's module only when it is called: help stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the work, not of the alphabet."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command object; None when there is no such command."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module, _ = SUBCOMMANDS[cmd_name]
        command = getattr(import_module(f"bacmac.cli.{module}"), cmd_name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in SUBCOMMANDS.items()])


@click.group(cls=LazyCampaignGroup)
def campaign() -> None:
    """Unattended energy campaigns: planned, journalled, checked, and analysed from raw samples."""
