"""Open `pynq:` and `pynq:emulated`."""

from __future__ import annotations

from bacmac.host.device.board import Board
from bacmac.host.device.clock import RealClock
from bacmac.host.device.faults import parse_faults, word_options
from bacmac.host.device.hardware import FunctionalHardware, Hardware
from bacmac.host.device.pynq.board import PynqBoard
from bacmac.host.device.pynq.lock import BoardLock, lock_path
from bacmac.host.device.pynq.preconditions import (
    Machine,
    board_model,
    check_machine,
    contiguous_memory,
    find_device,
    import_pynq,
)
from bacmac.host.device.rtl.accelerator import StreamShape
from bacmac.host.device.rtl.board import RtlHardware
from bacmac.host.device.rtl.build import Tell
from bacmac.host.errors import DeviceError, DeviceSetupError

REAL, EMULATED = "pynq:", "pynq:emulated"
ACCELERATORS = ("functional", "rtl")


def open_pynq(word: str, *, tell: Tell | None = None, machine: Machine | None = None) -> Board:
    """Open the board that this runs on, or an emulated one.

    Args:
        word: "pynq:", or "pynq:emulated" with options as in
            "pynq:emulated,accelerator=rtl,board=desk,stall-send=4": which accelerator is on it,
            a name under which one process at a time has it, and faults.
        tell: told when a simulator is built.
        machine: what is looked at to find a board.

    Raises:
        DeviceMissingError: there is no board, or no PYNQ.
        DeviceSetupError: this process may not, or cannot, use it.
        DeviceBusyError: another process has it.
        DeviceError: the word is not understood.
    """
    if word == REAL:
        return _open_real(machine or Machine())
    options = word_options(word)
    if options.pop("emulated", None) != "":
        raise DeviceError(f"no device {word!r}: there are {REAL} and {EMULATED}")
    name, hardware = options.pop("board", None), _hardware(word, options, tell)
    pynq = import_pynq()
    try:
        from bacmac.host.device.pynq.emulated import EmulatedPynqBoard  # imports pynq
    except ImportError as error:
        raise DeviceSetupError(
            f"device {word!r}: PYNQ {pynq.__version__} lacks what the emulated device stands on "
            f"({error}); 3.0 to 4.0 have it"
        ) from error

    lock = None if name is None else BoardLock(word, lock_path(f"emulated-{_plain(word, name)}"))
    return EmulatedPynqBoard(word, hardware, lock=lock)


def describe_board(machine: Machine | None = None) -> str:
    """What `pynq:` would open: PYNQ's version, the board, its contiguous memory.

    Raises:
        DeviceError: as `open_pynq`, but for a board that another process has.
    """
    machine = machine or Machine()
    check_machine(machine)
    pynq = import_pynq()
    find_device(pynq)
    model = board_model(machine) or "a board without a name"
    return f"PYNQ {pynq.__version__} on {model}; {contiguous_memory(machine)}"


def _open_real(machine: Machine) -> Board:
    check_machine(machine)
    lock = BoardLock(REAL, lock_path("board"))
    try:
        pynq = import_pynq()
        device = find_device(pynq)
    except BaseException:
        lock.release()
        raise
    return PynqBoard(REAL, pynq, device, RealClock(), lock=lock, machine=machine)


def _hardware(word: str, options: dict[str, str], tell: Tell | None) -> Hardware:
    accelerator = options.pop("accelerator", "functional")
    if accelerator not in ACCELERATORS:
        raise DeviceError(
            f"device {word!r}: accelerator: found {accelerator!r}; expected one of "
            f"{', '.join(ACCELERATORS)}"
        )
    faults = parse_faults(word, options)
    if accelerator == "rtl":
        return RtlHardware(StreamShape(), tell=tell, faults=faults)
    return FunctionalHardware(faults=faults)


def _plain(word: str, name: str) -> str:
    if not name.replace("-", "").isalnum():
        raise DeviceError(f"device {word!r}: board: found {name!r}; expected letters and digits")
    return name
