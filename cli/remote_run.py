"""A command on a board, from here: send what it reads, start it, follow it, fetch what it wrote."""

from __future__ import annotations

import codecs
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bacmac.cli.output import note, progress
from bacmac.cli.remote_command import Plan
from bacmac.cli.remote_job import hash_file, is_output
from bacmac.cli.remote_link import Link, parse_address
from bacmac.cli.remote_protocol import CHUNK_BYTES, is_job_name, new_job_name
from bacmac.host.device.rtl.build import cache_folder
from bacmac.host.errors import DeviceError, InputError, OutputError
from bacmac.host.files import replace_atomically, write_text

WATCH_S = 2.0
"""Longest wait in one question for news. Each costs the board a few ms of one core."""


@dataclass(frozen=True)
class Record:
    """What this machine remembers of a job, to fetch its results later.

    Attributes:
        job: its name.
        address: the board, as a text.
        outputs: absolute paths that the user told the command to write to; nothing the board says
            can make a file appear elsewhere.
    """

    job: str
    address: str
    outputs: tuple[str, ...]


def run_remotely(plan: Plan) -> int:
    """Run a command on a board; its standard error appears live, its output at the end.

    Returns:
        the exit status of the command there.

    Raises:
        DeviceError: no link, or none for too long; the message then names the job, which goes on.
        MismatchError: another bacmac is installed there.
    """
    address = parse_address(plan.address)
    with Link(address, note) as link:
        inputs = [(path, place, hash_file(path)) for path, place in plan.inputs]
        _send(link, [(path, sha256) for path, _, sha256 in inputs])
        record = Record(new_job_name(), str(address), plan.outputs)
        write_record(record)
        link.call(
            "create",
            job=record.job,
            words=list(plan.words),
            cwd=plan.cwd,
            inputs=[[place, sha256] for _, place, sha256 in inputs],
            folders=list(plan.folders),
            outputs=list(plan.outputs),
            columns=shutil.get_terminal_size().columns if sys.stdout.isatty() else 0,
        )
        note(f"{address.destination}: job {record.job}")
        return attend(link, record)


def attend(link: Link, record: Record, into: Path | None = None) -> int:
    """Start a job if it waits, follow it to its end, bring what it made; Ctrl-C interrupts it.

    Args:
        link: to the board.
        record: which job.
        into: a folder for the files; None for where the command was told to write them.

    Returns:
        its exit status.

    Raises:
        DeviceError: the link is lost for too long, or the job is.
        KeyboardInterrupt: Ctrl-C a second time: the job is left to itself.
    """
    link.if_lost = _later(record)
    follower = _Follower(link, record.job)
    try:
        try:
            status = follower.follow()
        except KeyboardInterrupt:
            note(
                f"Interrupting job {record.job} on {link.address.destination}; "
                "Ctrl-C once more leaves it there."
            )
            link.call("stop", job=record.job)
            status = follower.follow()
    except KeyboardInterrupt:
        note(f"Job {record.job} is left alone{_later(record)}")
        raise
    try:
        _fetch(link, record, into)
    except OutputError:
        note(f"The results are still there: bacmac remote fetch {record.address} {record.job}")
        raise
    _print_stdout(link, record.job)
    return status


def write_record(record: Record) -> None:
    """Remember a job.

    Raises:
        OutputError: the cache cannot be written.
    """
    path = _record_path(record.job)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    text = json.dumps({"address": record.address, "outputs": list(record.outputs)})
    write_text(path, text)


def find_record(job: str) -> Record | None:
    """What this machine remembers of a job; None when it was started elsewhere."""
    if not is_job_name(job):
        raise InputError(
            "JOB", "name", found=repr(job), expected="a name as 20260925-101502-9f3c01aa"
        )
    try:
        fields = json.loads(_record_path(job).read_text())
    except FileNotFoundError:
        return None
    return Record(job, fields["address"], tuple(fields["outputs"]))


def forget_records(jobs: Sequence[str]) -> None:
    """Forget jobs that are no more."""
    for job in jobs:
        if is_job_name(job):
            _record_path(job).unlink(missing_ok=True)


def _send(link: Link, files: Sequence[tuple[Path, str]]) -> None:
    """Send the files that the board does not have."""
    with progress() as advance:
        for path, sha256 in files:
            size = path.stat().st_size
            have = int(link.call("put", sha256=sha256, offset=0, size=size)[0]["have"])
            with path.open("rb") as handle:
                refused = 0
                while have < size:
                    handle.seek(have)
                    data = handle.read(CHUNK_BYTES)
                    answer, _ = link.call("put", data, sha256=sha256, offset=have, size=size)
                    refused += int(answer["have"]) <= have
                    have = int(answer["have"])
                    advance(f"sending {path.name}", have, size)
                    if refused > 1:  # once: an older part of it was damaged there
                        raise InputError(
                            path, "content", found="another than at first", expected="no change"
                        )


class _Follower:
    """What of a job's standard error has been printed, so that nothing is printed twice."""

    def __init__(self, link: Link, job: str) -> None:
        self._link = link
        self._job = job
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def follow(self) -> int:
        """Print the job's standard error as it comes, until the job ended; its exit status."""
        with progress() as advance:
            while True:
                answer, text = self._link.call(
                    "watch", job=self._job, offset=self._offset, wait_s=WATCH_S
                )
                self._offset += len(text)
                sys.stderr.write(self._decoder.decode(text))
                sys.stderr.flush()
                for what, (done, total) in answer["progress"].items():
                    advance(str(what), int(done), int(total))
                if text or answer["state"] == "running":
                    continue
                if answer["state"] == "ended":
                    return int(answer["status"])
                why = (
                    answer["why"]
                    or "the board was switched off, or ran out of memory (dmesg) or disk"
                )
                raise DeviceError(
                    f"{self._link.address.destination}: job {self._job} is gone without an exit "
                    f"status: {why}"
                )


def _fetch(link: Link, record: Record, into: Path | None) -> None:
    answer, _ = link.call("outputs", job=record.job)
    with progress() as advance:
        for path, size in answer["files"]:
            target = _target(path, record.outputs, answer["outputs"], into)
            if target is None:
                raise DeviceError(
                    f"{link.address.destination}: the board offers {path!r}, which is none of the "
                    "files that the command was told to write"
                )
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(target, error.strerror or str(error)) from error
            with replace_atomically(target) as temporary, temporary.open("wb") as handle:
                while handle.tell() < size:
                    _, data = link.call("read", job=record.job, path=path, offset=handle.tell())
                    if not data:
                        raise DeviceError(f"{path}: the board has less of it than it said")
                    handle.write(data)
                    advance(f"fetching {target.name}", handle.tell(), size)


def _target(
    path: str, outputs: Sequence[str], outputs_there: Sequence[str], into: Path | None
) -> Path | None:
    """Where a file of the job goes here; None when it may not."""
    if into is None:
        return Path(path) if is_output(path, outputs) else None
    for output in outputs_there:
        if is_output(path, [output]):
            return into / Path(path).relative_to(Path(output).parent)
    return None


def _print_stdout(link: Link, job: str) -> None:
    offset = 0
    while True:
        _, data = link.call("read", job=job, path="stdout", offset=offset)
        if not data:
            return
        click.echo(data, nl=False)
        offset += len(data)


def _later(record: Record) -> str:
    return f"; the job goes on there: bacmac remote fetch {record.address} {record.job}"


def _record_path(job: str) -> Path:
    return cache_folder() / "remote" / f"{job}.json"
