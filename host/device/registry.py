"""Devices by the word that names them on the command line."""

from __future__ import annotations

from bacmac.host.device.board import Board
from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.device.rtl.accelerator import Trace
from bacmac.host.device.rtl.board import RtlBoard
from bacmac.host.device.rtl.build import Tell
from bacmac.host.errors import DeviceError

DEVICES = {
    "functional:": "emulated board; exact arithmetic by the fast engine",
    "reference:": "emulated board; the arithmetic's definition, slow",
    "rtl:": "emulated board, simulated RTL; also as rtl:idle=0.3,stall=0.2,seed=1",
    "pynq:": "the board that this runs on, through PYNQ",
    "pynq:emulated": "PYNQ itself, on an emulated board",
}
"""Each word, and one line on what it is. Faults follow the emulated ones as options."""


def open_board(word: str, *, tell: Tell | None = None, trace: Trace | None = None) -> Board:
    """Open a device.

    Args:
        word: as `functional:`; for faults that can be emulated see `bacmac.host.device.faults`.
        tell: told what takes long: `rtl:` builds its simulator once.
        trace: waveforms to record; of `rtl:` only.

    Raises:
        DeviceError: there is no such device (the message lists what there is), or it cannot be
            opened.
    """
    kind = word.partition(":")[0] + ":"
    if kind == "rtl:":
        return RtlBoard(word, tell=tell, trace=trace)
    if trace is not None:
        raise DeviceError(f"device {word!r} has no waveforms to record: rtl: has")
    if kind not in DEVICES or ":" not in word:
        known = ", ".join(f"{name} ({what})" for name, what in DEVICES.items())
        raise DeviceError(f"no device {word!r}; there are {known}")
    if kind == "pynq:":
        from bacmac.host.device.pynq.registry import open_pynq  # only where it is asked for

        return open_pynq(word, tell=tell)
    return EmulatedBoard(word)
