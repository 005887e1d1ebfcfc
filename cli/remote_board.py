"""The end on the board: answers requests on a pipe until the other end is gone."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bacmac.cli.remote_job import (
    Job,
    blobs_folder,
    create_job,
    hash_file,
    job_folder,
    job_names,
    job_outputs,
    job_state,
    jobs_folder,
    last_words,
    place,
    read_job,
    remove_job,
    start_job,
    stop_job,
)
from bacmac.cli.remote_protocol import (
    CHUNK_BYTES,
    GREETING,
    LinkLostError,
    Message,
    installed,
    receive_frame,
    send_frame,
)
from bacmac.host.errors import BacmacError, DeviceError

SILENCE_S = 120.0
"""After so long without a request the user's end is taken for gone: a dead link may not tell."""
SETTLED_S = 3600.0
"""What is younger may belong to a job that is just being sent."""
LOOK_S = 0.1
"""How often `watch` looks at a job's files."""


def serve() -> None:
    """Answer what arrives on standard input, on standard output, until there is no more.

    Nothing else may reach the pipe, so standard output becomes standard error.
    """
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests = sys.stdin.fileno()
    os.write(answers, GREETING)
    try:
        send_frame(answers, installed())
        while True:
            request, body = receive_frame(requests, SILENCE_S)
            send_frame(answers, *_answer(request, body))
    except LinkLostError:
        return


def _answer(request: Message, body: bytes) -> tuple[Message, bytes]:
    action = ACTIONS.get(str(request.pop("do", "")))
    if action is None:
        return {"error": "the board does not know this request"}, b""
    try:
        return action(body=body, **request)
    except BacmacError as error:
        return {"error": str(error)}, b""
    except OSError as error:
        what = error.strerror or str(error)
        return {"error": f"on the board: {what}: {error.filename or 'a file'}"}, b""


def put(*, body: bytes, sha256: str, offset: int, size: int) -> tuple[Message, bytes]:
    """Part of an input; without any, only the question how much of it is here."""
    if re.fullmatch("[0-9a-f]{64}", sha256) is None:
        raise DeviceError(f"{sha256!r} is no sha256")
    blob = blobs_folder() / sha256
    if blob.is_file():
        os.utime(blob)
        return {"have": size}, b""
    part = blob.with_suffix(".part")
    descriptor = os.open(part, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        if not body and size:
            return {"have": min(os.fstat(descriptor).st_size, size)}, b""
        written = 0
        while written < len(body):
            written += os.pwrite(descriptor, body[written:], offset + written)
        if offset + written < size:
            return {"have": offset + written}, b""
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        if hash_file(part) != sha256:
            part.unlink()
            return {"have": 0}, b""
        part.rename(blob)
    except FileNotFoundError:
        if not blob.is_file():  # another user's end has sent the same, and was first
            raise
    return {"have": size}, b""


def create(
    *,
    body: bytes,
    job: str,
    words: list[str],
    cwd: str,
    inputs: list[list[str]],
    folders: list[str],
    outputs: list[str],
    columns: int,
) -> tuple[Message, bytes]:
    """Make a job, unless there is one; it waits until it is watched."""
    create_job(
        Job(
            name=job,
            words=tuple(words),
            cwd=cwd,
            inputs=tuple((path, sha256) for path, sha256 in inputs),
            folders=tuple(folders),
            outputs=tuple(outputs),
            columns=columns,
        )
    )
    return {}, b""


def watch(*, body: bytes, job: str, offset: int, wait_s: float) -> tuple[Message, bytes]:
    """State and progress of a job, and its standard error from an offset on.

    Who watches a job that waits starts it: it never runs for somebody who was told nothing of it.
    Waits until there is something to tell, `wait_s` at most.
    """
    folder = job_folder(job)
    if job_state(folder)[0] == "waiting":
        start_job(folder)
    deadline = time.monotonic() + wait_s
    while True:
        state, status = job_state(folder)  # asked first: nothing is printed after the end
        text = _part_of(folder / "stderr", offset)
        if text or state != "running" or time.monotonic() >= deadline:
            break
        time.sleep(LOOK_S)
    progress = {}
    with suppress(FileNotFoundError, ValueError):  # nothing said yet, or half of it: later then
        progress = json.loads((folder / "progress").read_text())
    why = last_words(folder) if state == "lost" else ""
    return {"state": state, "status": status, "progress": progress, "why": why}, text


def outputs(*, body: bytes, job: str) -> tuple[Message, bytes]:
    """What the job has written where it may."""
    folder = job_folder(job)
    return {"files": job_outputs(folder), "outputs": list(read_job(folder).outputs)}, b""


def read(*, body: bytes, job: str, path: str, offset: int) -> tuple[Message, bytes]:
    """Part of an output, or of what the job printed ("stdout")."""
    folder = job_folder(job)
    if path == "stdout":
        return {}, _part_of(folder / "stdout", offset)
    return {}, _part_of(place(folder, path), offset)


def stop(*, body: bytes, job: str) -> tuple[Message, bytes]:
    """Interrupt a job."""
    stop_job(job_folder(job))
    return {}, b""


def jobs(*, body: bytes) -> tuple[Message, bytes]:
    """All jobs, oldest first."""
    found = []
    for name in job_names():
        folder = job_folder(name)
        state, status = job_state(folder)
        words = list(read_job(folder).words)
        found.append({"job": name, "state": state, "status": status, "words": words})
    return {"jobs": found}, b""


def clean(*, body: bytes, jobs: list[str]) -> tuple[Message, bytes]:
    """Remove these jobs, but none that runs, and all inputs that no job uses any more."""
    removed = []
    for name in jobs:
        folder = job_folder(name)
        if job_state(folder)[0] != "running":
            remove_job(folder)
            removed.append(name)
    for leftover in jobs_folder().glob(".*"):  # of a start that was cut off
        if _is_old(leftover):
            shutil.rmtree(leftover)
    for blob in blobs_folder().iterdir():
        if blob.stat().st_nlink == 1 and _is_old(blob):
            blob.unlink()
    return {"removed": removed}, b""


ACTIONS: dict[str, Callable[..., tuple[Message, bytes]]] = {
    "put": put,
    "create": create,
    "watch": watch,
    "outputs": outputs,
    "read": read,
    "stop": stop,
    "jobs": jobs,
    "clean": clean,
}


def _part_of(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as handle:
            handle.seek(offset)
            return handle.read(CHUNK_BYTES)
    except FileNotFoundError:
        return b""


def _is_old(path: Path) -> bool:
    """Whether nobody can be about to use it."""
    return abs(time.time() - path.stat().st_mtime) > SETTLED_S
