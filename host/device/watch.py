"""The driver's transfers and waits: every wait has a deadline, every failure tells the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from bacmac.host.device.board import Board, Buffer
from bacmac.host.device.named_registers import NamedRegisters
from bacmac.host.device.state import DeviceState, read_state
from bacmac.host.errors import DeviceError, DeviceTimeoutError
from bacmac.host.manifest.registers import RegisterMap

DEADLINE_FACTOR = 2
DEADLINE_FLOOR_NS = 250_000_000
"""Deadline = 2 x what the cycles say + 0.25 s: room for a host that is busy elsewhere."""
POLL_NS = 20_000
MAX_POLL_NS = 100_000_000
"""While work is due the driver sleeps until it should be over, at most 0.1 s at a time."""
LATE_SHARE, LATE_FLOOR_NS = 64, 1_000_000
"""What is late is looked at more and more rarely, down to every 1/64 of its time or 1 ms: an
accelerator that has waited for memory is not left idle for long."""


class Watch:
    """Starts transfers, waits for what they bring, and resets a device that failed.

    Args:
        board: with the overlay loaded before anything is waited for.
        table: the accelerator's registers.
    """

    def __init__(self, board: Board, table: RegisterMap) -> None:
        self._board, self._table = board, table
        self._registers = NamedRegisters(board, table)
        self._asked_send = self._asked_receive = 0

    def start_send(self, buffer: Buffer, n_bytes: int) -> None:
        """Start a transfer to the device."""
        self._asked_send = n_bytes
        self._board.start_send(buffer, n_bytes)

    def start_receive(self, buffer: Buffer, n_bytes: int) -> None:
        """Start a transfer from the device."""
        self._asked_receive = n_bytes
        self._board.start_receive(buffer, n_bytes)

    def reset(self) -> None:
        """Bring accelerator and DMA back to the state after configuration, from any state."""
        self._asked_send = self._asked_receive = 0
        self._board.reset_dma()
        self._registers.command("SOFT_RESET")

    def until(
        self, done: Callable[[], bool], what: str, expected_ns: int = 0, elapsed_ns: int = 0
    ) -> None:
        """Poll until done; before the time it should take is over, sleep rather than poll.

        Args:
            done: whether it is.
            what: does not happen, for the error.
            expected_ns: how long it should take.
            elapsed_ns: how much of that has passed.

        Raises:
            DeviceError: the accelerator or the DMA reports an error; it was reset.
            DeviceTimeoutError: the deadline passed; likewise.
        """
        clock = self._board.clock
        start_ns = clock.now_ns() - elapsed_ns
        due_ns = start_ns + expected_ns
        deadline_ns = start_ns + DEADLINE_FACTOR * expected_ns + DEADLINE_FLOOR_NS
        pause_ns, rarest_ns = POLL_NS, max(expected_ns // LATE_SHARE, LATE_FLOOR_NS)
        while not done():
            if self._has_failed():
                self.fail(DeviceError, what)
            now_ns = clock.now_ns()
            if now_ns >= deadline_ns:
                waited_s = (now_ns - start_ns) * 1e-9
                self.fail(DeviceTimeoutError, f"{what} within {waited_s:.3f} s")
            if now_ns < due_ns:
                clock.sleep_ns(min(due_ns - now_ns, MAX_POLL_NS))
            else:
                clock.sleep_ns(pause_ns)
                pause_ns = min(2 * pause_ns, rarest_ns, MAX_POLL_NS)

    def fail(self, kind: type[DeviceError], what: str) -> NoReturn:
        """Look at the device, reset it, and raise with what was seen.

        Raises:
            DeviceError: always, of that kind.
        """
        state = self.state(what)
        message = f"{self._board.word} {what}: {state.line}; {self._after_reset()}"
        raise kind(message, state=state.as_json())

    def explain(self, error: DeviceError, what: str) -> None:
        """Give an error that a transfer raised the state of the device, and reset that."""
        error.state = error.state or self.state(what).as_json()
        self._after_reset()

    def state(self, what: str) -> DeviceState:
        """The device as it is, while it is waited for `what`."""
        return read_state(self._board, self._table, what, (self._asked_send, self._asked_receive))

    def _has_failed(self) -> bool:
        states = self._board.send_state(), self._board.receive_state()
        return any(state.error for state in states) or self._registers.flag("STATUS", "ERROR")

    def _after_reset(self) -> str:
        try:
            self.reset()
        except DeviceError as error:  # the first failure is the one to tell
            return f"its reset failed: {error}"
        return "it was reset"
