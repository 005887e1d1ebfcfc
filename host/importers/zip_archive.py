"""Open a ZIP archive that nobody vouches for: `.npz` and PyTorch files are such archives.

What zip bombs are made of is refused before anything is inflated: names that are there twice,
members that share bytes of the file, more than DEFLATE can inflate, encryption, names that lead
out of a folder (Fifield 2019, "A better zip bomb", WOOT). Python's zipfile checks the rest, the
checksums included.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bacmac.host.errors import InputError

MAX_MEMBERS = 1 << 16
MAX_MEMBER_BYTES = 2 << 30
MAX_INFLATION = 1100  # DEFLATE reaches at most 1032:1 (zlib technical details)
MAX_LARGE_INFLATION = 100
"""Of a member above FREE_BYTES: weights and images are not as empty as that."""
FREE_BYTES = 64 << 20

_ENTRY = b"PK\x01\x02"
_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)
"""What zipfile raises on damaged or exotic archives."""


@dataclass(frozen=True, eq=False)
class ZipArchive:
    """The members of an archive, each inflated when asked for.

    Attributes:
        path: as given.
        sizes: bytes of each member, by name, in the archive's order.
    """

    path: Path
    sizes: Mapping[str, int]
    _archive: zipfile.ZipFile
    _error: type[InputError]

    def read(self, name: str, field: str) -> bytes:
        """All bytes of a member.

        Raises:
            InputError: of the class given to `open_zip`, about `field`: the data are damaged.
        """
        try:
            return self._archive.read(name)
        except _ERRORS as problem:
            raise self._error(
                self.path, field, found=f"damaged data ({problem})", expected="an intact archive"
            ) from problem


def open_zip(path: Path, data: bytes, error: type[InputError], expected: str) -> ZipArchive:
    """The archive that a file's bytes are.

    Raises:
        InputError: of class `error`: damaged, or larger than it could honestly be.
    """

    def refuse(field: str, found: str, wanted: str) -> InputError:
        return error(path, field, found=found, expected=wanted)

    if data.count(_ENTRY) > MAX_MEMBERS:  # before zipfile makes an object of each
        raise refuse("header", f"more than {MAX_MEMBERS} members", "fewer")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _ERRORS as problem:
        raise refuse("header", f"a damaged archive ({problem})", expected) from problem
    sizes: dict[str, int] = {}
    stored = 0
    for member in archive.infolist():
        name = member.filename
        field = f"member {name!r}"
        if name in sizes:
            raise refuse(field, "the name twice", "names that differ")
        if name.startswith("/") or "\\" in name or ".." in name.split("/") or not name:
            raise refuse(field, "a name that leads out of the archive", "a plain name")
        if member.flag_bits & 1:
            raise refuse(field, "an encrypted member", "no encryption")
        limit = _largest(min(member.compress_size, len(data)))
        if member.file_size > limit:
            found = f"{member.file_size} bytes in {member.compress_size}"
            raise refuse(field, found, f"at most {limit}")
        sizes[name] = member.file_size
        stored += member.compress_size
        if stored > len(data):
            raise refuse(field, "members that overlap", f"{len(data)} bytes of them together")
    return ZipArchive(path, sizes, archive, error)


def _largest(stored_bytes: int) -> int:
    """Bytes that a member of so many stored bytes may have."""
    free = min(FREE_BYTES, MAX_INFLATION * stored_bytes + 1024)
    return min(MAX_MEMBER_BYTES, max(free, MAX_LARGE_INFLATION * stored_bytes))
