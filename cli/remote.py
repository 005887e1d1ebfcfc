"""`bacmac remote`: jobs that were started by `--device ssh://...`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from bacmac.cli.choices import OUTPUT
from bacmac.cli.output import json_option, note, print_json, print_table
from bacmac.cli.remote_board import serve
from bacmac.cli.remote_link import Link, parse_address
from bacmac.cli.remote_protocol import job_age_s
from bacmac.cli.remote_run import Record, attend, find_record, forget_records
from bacmac.host.errors import InputError

address_argument = click.argument("address", metavar="ssh://USER@BOARD[:PORT][/WORD]")
job_argument = click.argument("job")


@click.group()
def remote() -> None:
    """List, fetch, stop and clean jobs that --device ssh://... started on a board."""


@remote.command("list")
@address_argument
@json_option
def list_command(address: str, as_json: bool) -> None:
    """List the jobs on a board, oldest first."""
    with Link(parse_address(address), note, any_version=True) as link:
        jobs = link.call("jobs")[0]["jobs"]
    if as_json:
        print_json(jobs)
        return
    if not jobs:
        note("No jobs there.")
        return
    print_table(
        ["job", "state", "status", "started", "bacmac"],
        [
            (
                job["job"],
                job["state"],
                "" if job["status"] is None else job["status"],
                _ago(job_age_s(job["job"])),
                shlex.join(job["words"]),
            )
            for job in jobs
        ],
        numbers=(2,),
        prose=(4,),
    )


@remote.command()
@address_argument
@job_argument
@click.option(
    "-o", "--output", type=OUTPUT, help="Folder for the files [default: where they belong]."
)
def fetch(address: str, job: str, output: Path | None) -> None:
    """Follow JOB to its end, bring the files that it wrote, and print what it printed.

    The exit status is the job's.
    """
    where = parse_address(address)
    record = find_record(job)
    if record is None and output is None:
        raise InputError(
            job,
            "outputs",
            found="a job that this machine did not start",
            expected="--output FOLDER",
            hint="where its files belong only the machine knows that started it",
        )
    with Link(where, note, any_version=True) as link:
        status = attend(link, record or Record(job, str(where), ()), output)
    raise SystemExit(status)


@remote.command()
@address_argument
@job_argument
def stop(address: str, job: str) -> None:
    """Interrupt JOB as Ctrl-C would; `fetch` then brings what it has printed."""
    with Link(parse_address(address), note, any_version=True) as link:
        link.call("stop", job=job)
    note(f"{job}: interrupted")


@remote.command()
@address_argument
@click.option(
    "--days",
    type=click.FloatRange(0),
    default=7.0,
    show_default=True,
    help="Only jobs as old as this; 0 for all that ended.",
)
def clean(address: str, days: float) -> None:
    """Remove jobs that ended from a board, and the inputs that no job there uses any more."""
    with Link(parse_address(address), note, any_version=True) as link:
        names = [job["job"] for job in link.call("jobs")[0]["jobs"]]
        old = [name for name in names if job_age_s(name) >= days * 86400]
        removed = link.call("clean", jobs=old)[0]["removed"]
    forget_records(removed)
    note(f"{len(removed)} job{'' if len(removed) == 1 else 's'} removed.")


@remote.command(hidden=True)
def board() -> None:
    """Serve a user at the other end of `ssh`; not for people."""
    serve()


def _ago(age_s: float) -> str:
    for unit_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if age_s >= unit_s:
            return f"{age_s / unit_s:.0f} {unit} ago"
    return f"{age_s:.0f} s ago"
