"""Write a file whole or not at all, and hold one so that one process at a time works on it."""

from __future__ import annotations

import fcntl
import getpass
import glob
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from bacmac.host.errors import OutputError


@contextmanager
def replace_atomically(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on leaving without an error it takes `path`'s place.

    The data are flushed to the disk before the rename, so that neither a crash nor a full disk
    leaves a file that is half old and half new. On any error (Ctrl-C too) the temporary file is
    removed and `path` is as it was.

    Raises:
        OutputError: the folder is missing or read-only, the disk is full, ...
    """
    target = Path(path)
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".part", dir=target.parent
        )
        os.close(descriptor)
    except OSError as error:
        raise OutputError(target, error.strerror or str(error)) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        # mkstemp makes files private; a result has the permissions any other new file would have
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise OutputError(target, error.strerror or str(error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove_parts(path: str | Path) -> None:
    """Remove what a writer of `path` that was killed has left beside it; none may be writing it."""
    target = Path(path)
    with suppress(OSError):
        for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
            part.unlink()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with replace_atomically(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


WAITS, WAIT_S = 10, 0.02
"""For the words of a holder that has just locked."""


class FileHeldError(Exception):
    """Another process holds the lock; `holder` says which. For callers to tell in their words."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class FileLock:
    """A lock that says who holds it and that the kernel gives back on a crash.

    `flock` (Linux, flock(2)) ends with the process that took it, however that ends, so there is no
    stale lock; what the file says of its holder is for people only. Held from construction to
    `release`, or to the end of the process.

    Args:
        path: the lock file; made if it is not there, never removed (a removed file could be
            locked by one process and made again by another).

    Raises:
        FileHeldError: another process holds it.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._descriptor)
            os.close(self._descriptor)
            raise FileHeldError(holder) from None
        except OSError:
            os.close(self._descriptor)
            raise
        with suppress(OSError):  # a full disk keeps no one from holding the lock
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(_ourselves()).encode(), 0)

    def release(self) -> None:
        """Let another process have it; may be called twice."""
        if self._descriptor < 0:
            return
        with suppress(OSError):
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
            who = f"process {said['pid']} of {said['user']} since {said['since']}"
            return f"{who}: {said['command']}"
        except (ValueError, KeyError, TypeError):
            time.sleep(WAIT_S)
    return "another process"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
