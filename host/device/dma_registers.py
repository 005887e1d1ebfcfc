"""The AXI DMA's registers in direct register mode, and the driver of its two channels.

Source: AMD PG021 (AXI DMA v7.1), "Register Space" and "Programming Sequence". The register
accesses are the same on every board; only what carries them differs. PYNQ's own channel class is
not used: its start, stop and wait have no deadline, and it refuses to go on after an error.

    0x00 control: bit 0 run, bit 2 reset          0x18 address, low word
    0x04 status, see below                        0x1C address, high word
                                                  0x28 length in bytes

are the offsets of the send channel (memory to stream); the receive channel's lie 0x30 higher.
"""

from __future__ import annotations

from collections.abc import Callable

from bacmac.host.device.board import Buffer, TransferState
from bacmac.host.device.clock import Clock
from bacmac.host.errors import DeviceError, DeviceTimeoutError

SEND, RECEIVE = 0x00, 0x30
CONTROL, STATUS, ADDRESS_LOW, ADDRESS_HIGH, LENGTH = 0x00, 0x04, 0x18, 0x1C, 0x28
RUN, RESET = 1 << 0, 1 << 2
HALTED, IDLE, DONE_INTERRUPT = 1 << 0, 1 << 1, 1 << 12
INTERNAL_ERROR, SLAVE_ERROR, DECODE_ERROR = 1 << 4, 1 << 5, 1 << 6
ERRORS = {
    INTERNAL_ERROR: "DMAIntErr (a length of 0, or a packet longer than its buffer)",
    SLAVE_ERROR: "DMASlvErr (memory answered with an error)",
    DECODE_ERROR: "DMADecErr (nothing answers at that address)",
}
STATUS_BITS = {
    HALTED: "Halted",
    IDLE: "Idle",
    INTERNAL_ERROR: "DMAIntErr",
    SLAVE_ERROR: "DMASlvErr",
    DECODE_ERROR: "DMADecErr",
    DONE_INTERRUPT: "IOC_Irq",
}
"""Bits of a status register by their names in PG021."""

SETTLE_NS = 10_000_000
"""A reset and a start take some tens of cycles; after 10 ms there will be no answer."""
SETTLE_POLL_NS = 10_000


class DmaChannels:
    """Both channels of one AXI DMA without scatter-gather.

    Args:
        word: of the board, for errors.
        read: a 32-bit register at a byte offset.
        write: likewise.
        clock: for deadlines.
        max_transfer_bytes: the largest number that the length registers hold.
    """

    def __init__(
        self,
        word: str,
        read: Callable[[int], int],
        write: Callable[[int, int], None],
        clock: Clock,
        max_transfer_bytes: int,
    ) -> None:
        self._word, self._read, self._write, self._clock = word, read, write, clock
        self._max_transfer_bytes = max_transfer_bytes

    def start_send(self, buffer: Buffer, n_bytes: int) -> None:
        """Start a memory-to-stream transfer; see `Board.start_send`."""
        self._start(SEND, buffer, n_bytes)

    def start_receive(self, buffer: Buffer, n_bytes: int) -> None:
        """Start a stream-to-memory transfer; see `Board.start_receive`."""
        self._start(RECEIVE, buffer, n_bytes)

    def send_state(self) -> TransferState:
        """How the last send stands."""
        return self._state(SEND)

    def receive_state(self) -> TransferState:
        """How the last receive stands."""
        return self._state(RECEIVE)

    def reset(self) -> None:
        """Both channels halted and without errors, from any state.

        Raises:
            DeviceTimeoutError: the reset does not end.
        """
        self._write(SEND + CONTROL, RESET)  # of either channel: it resets the whole engine
        self._settle(lambda: not self._read(SEND + CONTROL) & RESET, "does not end its reset")

    def _start(self, channel: int, buffer: Buffer, n_bytes: int) -> None:
        if not 0 < n_bytes <= self._max_transfer_bytes:
            raise DeviceError(
                f"a transfer of {n_bytes} bytes: this DMA moves 1 to {self._max_transfer_bytes}"
            )
        state = self._state(channel)
        if not state.idle and not state.error:
            raise DeviceError("a transfer is started while the one before it runs")
        self._write(channel + CONTROL, RUN)
        if not state.error:
            self._settle(lambda: not self._read(channel + STATUS) & HALTED, "does not start")
        address = buffer.device_address
        self._write(channel + ADDRESS_LOW, address & 0xFFFF_FFFF)
        self._write(channel + ADDRESS_HIGH, address >> 32)
        self._write(channel + LENGTH, n_bytes)

    def _state(self, channel: int) -> TransferState:
        status = self._read(channel + STATUS)
        error = ", ".join(name for bit, name in ERRORS.items() if status & bit)
        return TransferState(
            idle=bool(status & (IDLE | HALTED)) and not error,
            error=error,
            n_bytes=self._read(channel + LENGTH),
            status=status,
        )

    def _settle(self, done: Callable[[], bool], what: str) -> None:
        deadline_ns = self._clock.now_ns() + SETTLE_NS
        while not done():
            if self._clock.now_ns() >= deadline_ns:
                states = ", ".join(
                    f"{name} status {self._read(channel + STATUS):#010x}"
                    for name, channel in (("send", SEND), ("receive", RECEIVE))
                )
                raise DeviceTimeoutError(f"{self._word} the DMA {what}: {states}")
            self._clock.sleep_ns(SETTLE_POLL_NS)


def status_words(status: int) -> str:
    """The bits of a status register that are set, by their names in PG021."""
    return " ".join(name for bit, name in STATUS_BITS.items() if status & bit) or "running"
