"""Read the header of a Xilinx .bit file: which design, for which part, built when and how.

The format is public through many readers (as PYNQ's `bit2bin`): a 2-byte length and that many
bytes of preamble, the word 1, then fields of a letter, a 2-byte length and a text ending in NUL:
`a` design, `b` part, `c` date, `d` time; last `e` with the 4-byte length of what follows.
All numbers are big endian. The design's name is followed by options, `;KEY=VALUE` each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bacmac.host.errors import OverlayError

PREAMBLE = bytes.fromhex("0ff00ff00ff00ff000")
_MAX_HEADER_BYTES = 4096

_SYNC_WORD = bytes.fromhex("aa995566")
"""Start of configuration data, UG570 "Configuration packets"; a .bin has nothing before it."""


@dataclass(frozen=True)
class BitHeader:
    """What a .bit says of itself.

    Attributes:
        design: name of the top module.
        options: Vivado's, by upper-case key: USERID, VERSION, PARTIAL, ENCRYPT, ...
        part: as "xczu7ev-ffvc1156-2-e".
        built: date and time, as "2026/01/31 12:00:00".
        payload_bytes: of the configuration data.
    """

    design: str
    options: dict[str, str]
    part: str
    built: str
    payload_bytes: int

    @property
    def user_id(self) -> int | None:
        """BITSTREAM.CONFIG.USERID (UG908), None where it was left at its default of all ones."""
        text = self.options.get("USERID", "").lower()
        if re.fullmatch(r"0x[0-9a-f]{1,8}", text) is None or text == "0xffffffff":
            return None
        return int(text, 16)


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
    if not data.startswith(len(PREAMBLE).to_bytes(2, "big") + PREAMBLE + b"\0\1"):
        raise OverlayError(
            path, "preamble", found=_instead(data), expected="a .bit as Vivado writes it"
        )
    cursor = _Cursor(path, data, len(PREAMBLE) + 4)
    design, part, date, time = (cursor.text(key) for key in "abcd")
    cursor.key("e")
    payload_bytes = cursor.number(4, "data")
    left = n_bytes - cursor.position
    if left != payload_bytes:
        raise OverlayError(
            path, "data", found=f"{left} bytes", expected=f"{payload_bytes}, as the header says"
        )
    name, *options = design.split(";")
    pairs = (option.partition("=") for option in options)
    return BitHeader(
        design=name,
        options={key.strip().upper(): value.strip() for key, _, value in pairs},
        part=part,
        built=f"{date} {time}",
        payload_bytes=payload_bytes,
    )


def _instead(data: bytes) -> str:
    """What a file without the preamble is, in words where they are known."""
    if not data:
        return "an empty file"
    if _SYNC_WORD in data[:512] or _SYNC_WORD[::-1] in data[:512]:
        return "configuration data without a header (a .bin, as bit2bin and bootgen make them)"
    if data.startswith(b"PK\x03\x04"):
        return "a zip archive (an .xsa holds the .bit)"
    if data.startswith(b"xclbin2"):
        return "an xclbin"
    return data[:16].hex()


class _Cursor:
    """A position in the header; every short read is an error that names the field."""

    def __init__(self, path: Path, data: bytes, position: int) -> None:
        self._path, self._data, self.position = path, data, position

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
