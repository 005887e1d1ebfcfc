"""Devices by the word that names them on the command line."""

from __future__ import annotations

from collections.abc import Callable

from bacmac.host.device.board import Board
from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.errors import DeviceError

BOARDS: dict[str, tuple[Callable[[], Board], str]] = {
    "functional:": (
        lambda: EmulatedBoard("functional:"),
        "emulated board; exact arithmetic by the fast engine",
    ),
    "reference:": (
        lambda: EmulatedBoard("reference:"),
        "emulated board; the arithmetic's definition, slow",
    ),
}
"""How each is opened, and one line on what it is."""


def open_board(word: str) -> Board:
    """Open a device.

    Args:
        word: as `functional:`.

    Raises:
        DeviceError: there is no such device; the message lists what there is.
    """
    if word not in BOARDS:
        known = ", ".join(f"{name} ({what})" for name, (_, what) in BOARDS.items())
        raise DeviceError(f"no device {word!r}; there are {known}")
    return BOARDS[word][0]()
