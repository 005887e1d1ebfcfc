"""One process at a time: a lock that says who holds it and that the kernel gives back on a crash.

`flock` (Linux, flock(2)) ends with the process that took it, however that ends, so there is no
stale lock; what the file says of its holder is for people only.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from bacmac.host.errors import DeviceBusyError, DeviceSetupError

WAITS, WAIT_S = 10, 0.02
"""For the words of a holder that has just locked."""


def lock_path(name: str) -> Path:
    """Where the lock of a board of that name is: one place for all users of the machine."""
    folder = Path("/run/lock")
    if not folder.is_dir():
        folder = Path(tempfile.gettempdir())
    return folder / f"bacmac-{name}.lock"


class BoardLock:
    """Held from construction to `release`, or to the end of the process.

    Args:
        word: of the board, for errors.
        path: the lock file; made if it is not there, never removed (a removed file could be
            locked by one process and made again by another).

    Raises:
        DeviceBusyError: another process holds it; the message says which.
        DeviceSetupError: the file cannot be opened.
    """

    def __init__(self, word: str, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise DeviceSetupError(
                f"{word}: the lock {path} cannot be opened: {error.strerror}; run as the user "
                "who opened the board before, or as root"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._descriptor)
            os.close(self._descriptor)
            raise DeviceBusyError(
                f"{word} is held by {holder}; wait for it to end, or end it"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(_ourselves()).encode(), 0)

    def release(self) -> None:
        """Let another process have the board; may be called twice."""
        if self._descriptor < 0:
            return
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = -1


def _ourselves() -> dict[str, object]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = str(os.getuid())
    return {
        "pid": os.getpid(),
        "user": user,
        "command": " ".join(sys.argv)[:500],
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _holder(descriptor: int) -> str:
    """Who holds the lock; it may have been taken this moment, so its words are waited for."""
    for _ in range(WAITS):
        try:
            said = json.loads(os.pread(descriptor, 4096, 0))
            return (
                f"process {said['pid']} of {said['user']} since {said['since']}: {said['command']}"
            )
        except (ValueError, KeyError, TypeError):
            time.sleep(WAIT_S)
    return "another process"
