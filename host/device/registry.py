"""Devices by the word that names them on the command line."""

from __future__ import annotations

from collections.abc import Callable

from bacmac.host.device.board import Board
from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.device.rtl.accelerator import Trace
from bacmac.host.device.rtl.board import RtlBoard
from bacmac.host.device.rtl.build import Tell
from bacmac.host.errors import DeviceError

BOARDS: dict[str, tuple[Callable[[], Board], str]] = {
    "functional:": (EmulatedBoard, "emulated board; exact arithmetic by the fast engine"),
    "reference:": (
        lambda: EmulatedBoard("reference:"),
        "emulated board; the arithmetic's definition, slow",
    ),
    "rtl:": (RtlBoard, "emulated board, simulated RTL; also as rtl:idle=0.3,stall=0.2,seed=1"),
}
"""How each is opened, and one line on what it is."""


def open_board(word: str, *, tell: Tell | None = None, trace: Trace | None = None) -> Board:
    """Open a device.

    Args:
        word: as `functional:`.
        tell: told what takes long: `rtl:` builds its simulator once.
        trace: waveforms to record; of `rtl:` only.

    Raises:
        DeviceError: there is no such device; the message lists what there is.
    """
    if word.startswith("rtl:"):
        return RtlBoard(word, tell=tell, trace=trace)
    if trace is not None:
        raise DeviceError(f"device {word!r} has no waveforms to record: rtl: has")
    if word not in BOARDS:
        known = ", ".join(f"{name} ({what})" for name, (_, what) in BOARDS.items())
        raise DeviceError(f"no device {word!r}; there are {known}")
    return BOARDS[word][0]()
