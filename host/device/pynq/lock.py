"""One process at a time has the board."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bacmac.host.errors import DeviceBusyError, DeviceSetupError
from bacmac.host.files import FileHeldError, FileLock


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
        path: the lock file.

    Raises:
        DeviceBusyError: another process holds it; the message says which.
        DeviceSetupError: the file cannot be opened.
    """

    def __init__(self, word: str, path: Path) -> None:
        try:
            self._lock = FileLock(path)
        except FileHeldError as error:
            raise DeviceBusyError(
                f"{word} is held by {error.holder}; wait for it to end, or end it"
            ) from None
        except OSError as error:
            raise DeviceSetupError(
                f"{word}: the lock {path} cannot be opened: {error.strerror}; run as the user "
                "who opened the board before, or as root"
            ) from error

    def release(self) -> None:
        """Let another process have the board; may be called twice."""
        self._lock.release()
