"""The SQLite file below a journal: where it may lie, how it is opened, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from bacmac.host.errors import BacmacError, JournalError, OutputError
from bacmac.host.files import FileHeldError, FileLock, replace_atomically
from bacmac.power.campaign.schema import VERSION, migrate, version_of

NETWORK_FILE_SYSTEMS = (
    *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
    *("gfs2", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "vboxsf"),
)
"""Whose memory maps and locks are not shared by all who see the file, as a write-ahead log needs
(SQLite, "Write-Ahead Logging": all processes must be on the same host)."""
BUSY_MS = 5000
"""Patience with a reader that is just recovering the log."""
_MOUNTS = Path("/proc/self/mountinfo")

_NOT_WRITTEN = {
    "database or disk is full": "the disk is full",
    "disk I/O error": "the disk fails, or is full",
    "attempt to write a readonly database": "it is read-only",
    "database is locked": "another process is working on it",
}
"""SQLite's words for what keeps it from writing (SQLite, "Result and Error Codes"), and ours."""
_DAMAGED = (
    *("file is not a database", "malformed", "disk I/O error", "unsupported file format"),
    "Could not decode",
)


@contextmanager
def sqlite_errors(path: Path, *, writing: bool) -> Iterator[None]:
    """Tell the user what SQLite says of the disk or the file; what says of a bug stays as it is.

    Raises:
        OutputError: the disk is full, fails or is read-only; or another process keeps the file.
        JournalError: the file is damaged or not SQLite's.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        told = _told(path, str(error), writing)
        if told is None:
            raise
        raise told from error
    except UnicodeDecodeError as error:  # SQLite's message names a table by damaged bytes
        found = "names that are not UTF-8"
        raise JournalError(path, "file", found=found, expected="a journal") from error


def _told(path: Path, words: str, writing: bool) -> BacmacError | None:
    if writing:
        for known, reason in _NOT_WRITTEN.items():
            if known in words:
                return OutputError(path, reason)
    if not words or any(known in words for known in _DAMAGED):  # none where they are not UTF-8
        return JournalError(
            path,
            "file",
            found=words or "damage that SQLite has no words for",
            expected="a journal",
            hint="it is damaged; take a copy of it",
        )
    if "unable to open" in words:
        return (
            OutputError(path, "it cannot be opened for writing")
            if writing
            else JournalError(path, "file", found=words, expected="a journal that can be read")
        )
    if "locked" in words:
        return JournalError(
            path, "file", found=words, expected="a journal", hint="another process recovers it"
        )
    return None


@contextmanager
def transaction(db: sqlite3.Connection, path: Path) -> Iterator[None]:
    """All that is written inside, or nothing of it; on the disk when this is left.

    Raises:
        OutputError: it cannot be written; nothing was.
        JournalError: the file is damaged.
    """
    with sqlite_errors(path, writing=True):
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:  # Ctrl-C too
            if db.in_transaction:  # not where SQLite itself went back
                with suppress(sqlite3.DatabaseError):
                    db.execute("ROLLBACK")
            raise


def hold(path: Path) -> FileLock:
    """The lock of a journal's one writer; given back when the process ends.

    Raises:
        OutputError: another process holds it (says which), or its folder cannot be written.
    """
    try:
        return FileLock(path.with_name(path.name + ".lock"))
    except FileHeldError as error:
        raise OutputError(
            path, f"it is held by {error.holder}; wait for that to end, or end it"
        ) from None
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error


def refuse_network(path: Path) -> None:
    """See that a journal that is to be written lies on a file system of this machine.

    Where the kernel does not tell (no /proc), nothing is refused.

    Raises:
        OutputError: it would lie on a network file system.
    """
    kind = file_system(path)
    if kind in NETWORK_FILE_SYSTEMS:
        raise OutputError(
            path,
            f"it lies on {kind}, a network file system, where a power cut or a second writer can "
            "damage a journal; take a local disk and copy the file afterwards",
        )


def file_system(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Type of the file system that holds `path`, as "ext4"; None where that is not known.

    Source: Linux proc_pid_mountinfo(5): the mount point is field 5, the type follows the " - ".
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    target, found, longest = path.resolve(), None, -1
    for line in lines:  # of mounts at one place the later covers the earlier
        fields, _, rest = line.partition(" - ")
        point = Path(_unescaped(fields.split()[4]))
        if (target == point or point in target.parents) and len(point.parts) >= longest:
            found, longest = rest.split()[0], len(point.parts)
    return found


def _unescaped(word: str) -> str:
    for escape, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        word = word.replace(escape, letter)
    return word


@contextmanager
def new_file(path: Path) -> Iterator[sqlite3.Connection]:
    """A database with all tables and no row, to be filled; it appears whole under its name.

    Raises:
        OutputError: there is a file of that name, or it cannot be written.
    """
    if path.exists():
        raise OutputError(path, "the file exists; `campaign resume` goes on with it")
    for ending in ("-wal", "-journal"):  # SQLite would take them for the new file's
        beside = path.with_name(path.name + ending)
        if beside.exists():
            raise OutputError(path, f"{beside.name}, which belonged to another journal, is there")
    with replace_atomically(path) as temporary:
        db = sqlite3.connect(temporary, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode=MEMORY")  # the whole file is flushed before its rename
            db.execute("PRAGMA foreign_keys=ON")
            with transaction(db, path):
                migrate(db, 0)
                yield db
        finally:
            db.close()
    _flush_folder(path.parent)


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open a journal and bring its tables up to date.

    A file that nothing can be written beside (a read-only disk, an archive) can be read when it was
    closed in order.

    Raises:
        JournalError: it is missing, no journal, damaged or of a later release.
        OutputError: it is to be written, or brought up to date, and cannot be.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise JournalError(path, "file", found=found, expected="a journal")
    with sqlite_errors(path, writing=write):
        db = _opened(path, write)
        try:
            version = version_of(db, str(path))
            if version < VERSION:
                _bring_up_to_date(db, path, write)
        except BaseException:
            db.close()
            raise
    return db


def _opened(path: Path, write: bool) -> sqlite3.Connection:
    mode = "mode=rw" if write else _mode_to_read(path)
    uri = f"file:{quote(str(path.resolve()))}?{mode}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        db.execute("PRAGMA foreign_keys=ON")
        if write:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA wal_autocheckpoint=0")  # only where `checkpoint` is called
        else:
            db.execute("PRAGMA query_only=ON")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _mode_to_read(path: Path) -> str:
    """How a journal can be read where it lies (SQLite, "Write-Ahead Logging", read-only databases).

    Where nothing can be written beside it a closed one is read as it is; one that another user is
    writing is read through that user's index of the log.
    """
    network = file_system(path) in NETWORK_FILE_SYSTEMS
    if not network and os.access(path.parent, os.W_OK) and os.access(path, os.W_OK):
        return "mode=rw"
    log, index = (path.with_name(path.name + ending) for ending in ("-wal", "-shm"))
    if not log.exists() or not log.stat().st_size:
        return "immutable=1"
    if index.exists() and not network:
        return "mode=ro"
    raise JournalError(
        path,
        "file",
        found=f"{log.name} beside it, where nothing can be written",
        expected="a journal that was closed",
        hint="copy both to a local disk and open them there",
    )


def _bring_up_to_date(db: sqlite3.Connection, path: Path, write: bool) -> None:
    lock = None if write else hold(path)  # a writer has it already
    try:
        db.execute("PRAGMA query_only=OFF")
        with transaction(db, path):
            migrate(db, version_of(db, str(path)))
        if not write:
            db.execute("PRAGMA query_only=ON")
    finally:
        if lock is not None:
            lock.release()


def _flush_folder(folder: Path) -> None:
    """Make a new name last: a rename is on the disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
