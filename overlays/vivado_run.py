"""Run Vivado in batch mode on a folder that `write_inputs` made."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bacmac.host.errors import OutputError, OverlayError
from bacmac.overlays.vivado_inputs import RESULTS, SCRIPT

Tell = Callable[[str], None]
"""Called with each line that Vivado prints."""

FINISHED = "build.txt"
"""Written by the script after everything else: where it is, all of it is."""
LOG = "vivado.log"
GRACE_S = 10.0
"""Between asking Vivado to end and ending it."""
_SHOWN_ERRORS = 3


def vivado_command(program: str = "vivado") -> list[str]:
    """The command, for a shell in the folder (UG894, batch mode)."""
    return [program, "-mode", "batch", "-notrace", "-nojournal", "-log", LOG, "-source", SCRIPT]


def run_vivado(program: str, folder: Path, tell: Tell) -> None:
    """Build; there is no deadline, since a build may take hours on a small machine.

    Ctrl-C, and SIGTERM, end Vivado with all that it started.

    Args:
        program: of Vivado.
        folder: that `write_inputs` made; Vivado works in it.
        tell: called with each line.

    Raises:
        OverlayError: Vivado cannot be started, or says errors: the first are in the message.
    """
    errors: list[str] = []
    last = ""
    with _terminated_like_ctrl_c(), _start(program, folder) as process:
        try:
            for line in process.stdout or ():
                last = line.strip() or last
                if line.startswith("ERROR:"):
                    errors.append(line.strip())
                tell(line.rstrip("\n"))
            status = process.wait()
        finally:
            _end(process)
    if status == 0 and (folder / RESULTS / FINISHED).is_file():
        return
    raise OverlayError(
        folder / LOG,
        "Vivado",
        found=" | ".join(errors[:_SHOWN_ERRORS]) or f"exit status {status} after {last!r}",
        expected="a build without errors",
        hint="no bundle was made",
    )


@contextmanager
def locked(folder: Path, *, make: bool = False) -> Iterator[None]:
    """Hold a folder against a second build in it; the lock goes with the process.

    Args:
        folder: that Vivado works in.
        make: make it where it does not exist.

    Raises:
        OverlayError: another process builds there, or there is no such folder.
        OutputError: it cannot be made or written.
    """
    if not make and not folder.is_dir():
        raise OverlayError(
            folder, "folder", found="none", expected="what `bacmac overlay build` has written"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise OutputError(folder, error.strerror or str(error)) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OverlayError(
                folder,
                "folder",
                found="another build at work in it",
                expected="one at a time",
                hint="wait for it, or say another folder by -o",
            ) from error
        yield


def _start(program: str, folder: Path) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            vivado_command(program),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # `vivado` is a script around the program: a group of their own ends together
            start_new_session=True,
        )
    except OSError as error:
        raise OverlayError(
            "--vivado", program, found=error.strerror or str(error), expected="a program to run"
        ) from error


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
            return


@contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that Vivado is not left behind (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
