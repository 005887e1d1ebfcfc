"""Read the header of a Xilinx .bit file: which design, for which part, built when.

The format is public through many readers (as PYNQ's `bit2bin`): a 2-byte length and that many
bytes of preamble, the word 1, then fields of a letter, a 2-byte length and a text ending in NUL:
`a` design, `b` part, `c` date, `d` time; last `e` with the 4-byte length of what follows.
All numbers are big endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bacmac.host.errors import OverlayError

PREAMBLE = bytes.fromhex("0ff00ff00ff00ff000")
_MAX_HEADER_BYTES = 4096


@dataclass(frozen=True)
class BitHeader:
    """What a .bit says of itself.

    Attributes:
        design: name of the top module and Vivado's options, separated by semicolons.
        part: as "xczu7ev-ffvc1156-2-e".
        built: date and time, as "2026/01/31 12:00:00".
        payload_bytes: of the configuration data.
    """

    design: str
    part: str
    built: str
    payload_bytes: int


def read_bit_header(path: Path) -> BitHeader:
    """The header of a .bit file.

    Raises:
        OverlayError: it cannot be read, is not a .bit, or its data are cut short.
    """
    try:
        with path.open("rb") as handle:
            data = handle.read(_MAX_HEADER_BYTES)
            n_bytes = handle.seek(0, 2)
    except OSError as error:
        raise OverlayError(
            path, "file", found=error.strerror or str(error), expected="a readable file"
        ) from error
    cursor = _Cursor(path, data)
    preamble = cursor.take(cursor.number(2, "preamble"), "preamble")
    if preamble != PREAMBLE or cursor.number(2, "preamble") != 1:
        raise OverlayError(path, "preamble", found=preamble[:16].hex(), expected=PREAMBLE.hex())
    design, part, date, time = (cursor.text(key) for key in "abcd")
    cursor.key("e")
    payload_bytes = cursor.number(4, "data")
    left = n_bytes - cursor.position
    if left != payload_bytes:
        raise OverlayError(
            path, "data", found=f"{left} bytes", expected=f"{payload_bytes}, as the header says"
        )
    return BitHeader(design, part, f"{date} {time}", payload_bytes)


class _Cursor:
    """A position in the header; every short read is an error that names the field."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path, self._data, self.position = path, data, 0

    def take(self, n_bytes: int, field: str) -> bytes:
        taken = self._data[self.position : self.position + n_bytes]
        if len(taken) < n_bytes:
            raise OverlayError(
                self._path, field, found="the end of the header", expected=f"{n_bytes} bytes"
            )
        self.position += n_bytes
        return taken

    def number(self, n_bytes: int, field: str) -> int:
        return int.from_bytes(self.take(n_bytes, field), "big")

    def key(self, key: str) -> None:
        found = self.take(1, f"field {key}")
        if found != key.encode():
            raise OverlayError(
                self._path, f"field {key}", found=repr(found), expected=f"the letter {key}"
            )

    def text(self, key: str) -> str:
        self.key(key)
        field = f"field {key}"
        return self.take(self.number(2, field), field).rstrip(b"\0").decode("latin-1")
