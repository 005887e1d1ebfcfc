"""Write a file whole or not at all, and read one with errors that name it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
