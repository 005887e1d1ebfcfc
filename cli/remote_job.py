"""A job on the board: its folder, the process that runs it, and what is left when it ended.

    ~/.cache/bacmac/jobs/20260925-101502-9f3c01aa/     mode 0700
        job.json     what to run; there before anything runs
        claim        locked by the process that runs the job, for as long as it or the command lives
        pid          process group of the command
        stop         somebody asked for the job to be stopped
        files/       copy of the part of the user's file system that the command names
        stdout stderr progress
        runner       what the process that runs the job has to say; it is silent unless it fails
        status       the exit status; written last, whole or not at all

Exactly one process gets the claim, so a job that was asked for twice runs once. The state is told
by the files and the lock alone: neither the link nor the process that started the job matters.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from bacmac.cli.remote_protocol import is_job_name
from bacmac.host.device.rtl.build import cache_folder
from bacmac.host.errors import DeviceError
from bacmac.host.files import write_text

State = Literal["waiting", "running", "ended", "lost"]
"""Lost: no process and no exit status, as after a power cut, or when memory ran out."""


@dataclass(frozen=True)
class Job:
    """What a job is to run.

    Attributes:
        name: see `is_job_name`.
        words: the command line after `bacmac`.
        cwd: folder to run it in; like all paths here absolute, and taken below `files/`.
        inputs: place and sha256 of each file.
        folders: folders to make.
        outputs: what may be fetched afterwards: these, `OUTPUT.something`, and what lies in them.
        columns: width of the user's terminal; 0 where there is none.
    """

    name: str
    words: tuple[str, ...]
    cwd: str
    inputs: tuple[tuple[str, str], ...]
    folders: tuple[str, ...]
    outputs: tuple[str, ...]
    columns: int


def jobs_folder() -> Path:
    """Where the jobs are, for this user alone; made if it is missing."""
    return _private_folder("jobs")


def blobs_folder() -> Path:
    """Where input files are kept by their sha256, so that one sent before is not sent again."""
    return _private_folder("blobs")


def job_folder(name: str) -> Path:
    """The folder of a job that exists.

    Raises:
        DeviceError: there is no such job.
    """
    if not is_job_name(name) or not (jobs_folder() / name / "job.json").is_file():
        raise DeviceError(
            f"no job {name!r} on the board; `bacmac remote list` tells those there are"
        )
    return jobs_folder() / name


def job_names() -> list[str]:
    """All jobs, oldest first."""
    return sorted(path.parent.name for path in jobs_folder().glob("*/job.json"))


def read_job(folder: Path) -> Job:
    """The job of a folder."""
    fields: dict[str, Any] = json.loads((folder / "job.json").read_text())
    for name in ("words", "inputs", "folders", "outputs"):  # JSON knows no tuples
        fields[name] = tuple(tuple(v) if isinstance(v, list) else v for v in fields[name])
    return Job(**fields)


def create_job(job: Job) -> Path:
    """Make the job's folder, whole or not at all; one that is there already is left as it is.

    Raises:
        DeviceError: the name or a path is not allowed, or an input has not arrived.
    """
    if not is_job_name(job.name):
        raise DeviceError(f"{job.name!r} is no name of a job")
    target = jobs_folder() / job.name
    if target.is_dir():
        return target
    draft = jobs_folder() / f".{job.name}.{os.getpid()}"
    try:
        _fill(draft, job)
        with suppress(FileExistsError):
            draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _fill(folder: Path, job: Job) -> None:
    (folder / "files").mkdir(mode=0o700, parents=True)
    for path in (job.cwd, *job.folders):
        place(folder, path).mkdir(parents=True, exist_ok=True)
    for path, sha256 in job.inputs:
        blob = blobs_folder() / sha256
        if "/" in sha256 or not blob.is_file():
            raise DeviceError(f"the input {path} has not arrived on the board")
        place(folder, path).parent.mkdir(parents=True, exist_ok=True)
        place(folder, path).hardlink_to(blob)
    write_text(folder / "job.json", json.dumps(asdict(job), indent=2))


def place(folder: Path, path: str) -> Path:
    """Where an absolute path of the user's machine is in a job's copy.

    Raises:
        DeviceError: the path is not absolute, or climbs.
    """
    pure = PurePosixPath(path)
    if not pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise DeviceError(f"{path!r} is not an absolute path without '..'")
    return folder / "files" / pure.relative_to(pure.anchor)


def start_job(folder: Path) -> None:
    """See to it that the job runs or has run; return when a process has the claim.

    Raises:
        DeviceError: none could be started.
    """
    with (folder / "runner").open("ab") as log:
        begun = subprocess.run(
            [sys.executable, "-m", "bacmac.cli.remote_job", str(folder)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # the end of the ssh session is not the end of the job
            check=False,
        )
    if begun.returncode:
        raise DeviceError(f"the job could not be started on the board: {last_words(folder)}")


def last_words(folder: Path) -> str:
    """What the process that ran the job said at last; empty, since it is silent, unless it failed.

    The command's own words are in `stderr`.
    """
    said = (folder / "runner").read_text(errors="replace").strip()
    return said.rpartition("\n")[2]


def claim_job(folder: Path) -> int | None:
    """The claim on a job, locked for as long as the descriptor is open; None if it was claimed."""
    draft = folder / f".claim.{os.getpid()}"
    claim = os.open(draft, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(claim, fcntl.LOCK_EX)
    try:
        (folder / "claim").hardlink_to(draft)  # fails where there is one: it appears locked
    except FileExistsError:
        os.close(claim)
        return None
    finally:
        draft.unlink()
    return claim


def run_job(folder: Path, claim: int) -> None:
    """Run the job that one has the claim on, to its end."""
    job = read_job(folder)
    environment = {**os.environ, "BACMAC_PROGRESS": str(folder / "progress")}
    environment.pop("COLUMNS", None)
    if job.columns:
        environment["COLUMNS"] = str(job.columns)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is ignored here would be ignored there
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until `main` can answer it
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        command = subprocess.Popen(
            [sys.executable, "-m", "bacmac.cli", *job.words],
            cwd=place(folder, job.cwd),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            pass_fds=(claim,),
        )
        write_text(folder / "pid", str(command.pid))
        if (folder / "stop").exists():
            interrupt(command.pid)
        status = command.wait()
        os.fsync(out.fileno())
        os.fsync(err.fileno())
    # a signal as shells count it
    write_text(folder / "status", str(status if status >= 0 else 128 - status))


def stop_job(folder: Path) -> None:
    """Send the command what Ctrl-C sends; before it has begun, as soon as it begins."""
    (folder / "stop").touch()
    if job_state(folder)[0] == "running" and (folder / "pid").is_file():
        interrupt(int((folder / "pid").read_text()))


def interrupt(group: int) -> None:
    """SIGINT to a process group; one that has just ended is no error."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGINT)


def job_state(folder: Path) -> tuple[State, int | None]:
    """How far a job is, and its exit status when it ended."""
    if not (folder / "claim").exists():
        return "waiting", None
    alive = _is_claimed(folder)  # asked first: the status is written while the claim is held
    try:
        return "ended", int((folder / "status").read_text())
    except FileNotFoundError:
        return ("running" if alive else "lost"), None


def job_outputs(folder: Path) -> list[tuple[str, int]]:
    """Absolute path and bytes of each file that the job has written where it may."""
    job = read_job(folder)
    inputs = {path for path, _ in job.inputs}
    root = folder / "files"
    found = []
    for path in sorted(root.rglob("*")):
        there = "/" + path.relative_to(root).as_posix()
        wanted = there not in inputs and is_output(there, job.outputs)
        if wanted and path.is_file() and not path.is_symlink():
            found.append((there, path.stat().st_size))
    return found


def is_output(path: str, outputs: Sequence[str]) -> bool:
    """Whether a path is one of the outputs, belongs to one, or lies in one.

    >>> [is_output(path, ["/me/net"]) for path in ("/me/net.json", "/me/net/a", "/me/network")]
    [True, True, False]
    """
    pure = PurePosixPath(path)
    if ".." in pure.parts or not pure.is_absolute():
        return False
    return any(path == o or path.startswith((f"{o}.", f"{o}/")) for o in outputs)


def remove_job(folder: Path) -> None:
    """Remove a job that no process runs."""
    (folder / "job.json").unlink()  # from here on it is none
    shutil.rmtree(folder)


def hash_file(path: Path) -> str:
    """The sha256 of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _private_folder(name: str) -> Path:
    folder = cache_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def _is_claimed(folder: Path) -> bool:
    descriptor = os.open(folder / "claim", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


if __name__ == "__main__":
    if (mine := claim_job(Path(sys.argv[1]))) is not None and os.fork() == 0:
        run_job(Path(sys.argv[1]), mine)  # its parent has ended by then: nobody waits for it
