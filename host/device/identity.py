"""Is the board what the overlay says it is?"""

from __future__ import annotations

from bacmac.host.device.board import Board
from bacmac.host.device.named_registers import NamedRegisters
from bacmac.host.errors import MismatchError
from bacmac.host.manifest.overlay import Overlay

CLOCK_TOLERANCE = 1e-3


def check_identity(board: Board, overlay: Overlay) -> None:
    """Compare ID, ABI, BUILD and the clock that the board reads back with the overlay's.

    Raises:
        MismatchError: the device runs another overlay, another build of it, or another clock.
    """
    manifest = overlay.manifest
    registers = NamedRegisters(board, overlay.registers)
    for name, expected in (
        ("ID", overlay.registers.register("ID").reset),
        ("ABI", manifest.abi),
        ("BUILD", manifest.build_id),
    ):
        found = registers.read(name)
        if found != expected:
            raise MismatchError(
                board.word,
                f"register {name}",
                found=f"{found:#010x}",
                expected=f"{expected:#010x} of overlay {manifest.name}",
                hint="the device runs another overlay or another build of it",
            )
    clock_hz = board.clock_hz()
    if abs(clock_hz - manifest.clock_hz) > CLOCK_TOLERANCE * manifest.clock_hz:
        raise MismatchError(
            board.word,
            "accelerator clock",
            found=f"{clock_hz / 1e6:.3f} MHz",
            expected=f"{manifest.clock_hz / 1e6:.3f} MHz of overlay {manifest.name}",
            hint="no time and no energy can be told at another clock",
        )
