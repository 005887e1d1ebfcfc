"""Emulated AXI DMA in direct register mode: one send and one receive channel.

The semantics that matter to a driver, from AMD PG021 (AXI DMA v7.1), "Register Space" and
"Programming Sequence", direct register mode: a channel starts halted; run/stop starts it; a write
to LENGTH starts a transfer; idle comes with the end and with an interrupt bit that is cleared by
writing 1; a LENGTH of zero and a packet longer than the buffer are internal errors, an address
that nothing answers is a decode error; after an error the channel is halted until a reset. A
receive that ends early writes the packet's length back. Bits that the length register does not
have are lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bacmac.host.device.clock import Clock
from bacmac.host.device.dma_registers import (
    ADDRESS_HIGH,
    ADDRESS_LOW,
    CONTROL,
    DECODE_ERROR,
    DONE_INTERRUPT,
    ERRORS,
    HALTED,
    IDLE,
    INTERNAL_ERROR,
    LENGTH,
    RECEIVE,
    RESET,
    RUN,
    SEND,
    SLAVE_ERROR,
    STATUS,
)
from bacmac.host.device.faults import Faults
from bacmac.host.device.memory import Memory
from bacmac.host.errors import DeviceError


class Streams(Protocol):
    """The accelerator as the DMA sees it."""

    def offer(self, packet: bytes) -> int | None:
        """Take a packet: when its last beat is in (ns), or None while it is not ready for it."""

    def collect(self, posted_ns: int) -> tuple[bytes, int] | None:
        """The output packet for a receiver that has waited since then, and when it is out (ns)."""

    def cancel(self) -> None:
        """The DMA was reset: what it was moving is gone."""


@dataclass
class _Transfer:
    address: int
    n_bytes: int
    posted_ns: int
    packet: bytes = b""
    end_ns: int | None = None
    stalled: bool = False


class AxiDma:
    """The slave; `read` and `write` take byte offsets.

    Args:
        memory: what it reads and writes.
        streams: what it is connected to.
        clock: when transfers end.
        max_transfer_bytes: the largest number that the length register holds.
        beat_bytes: of both streams.
        faults: those of sends and receives apply.
    """

    def __init__(
        self,
        memory: Memory,
        streams: Streams,
        clock: Clock,
        max_transfer_bytes: int,
        *,
        beat_bytes: int = 16,
        faults: Faults | None = None,
    ) -> None:
        self._memory, self._streams, self._clock = memory, streams, clock
        self._length_mask = (1 << max_transfer_bytes.bit_length()) - 1
        self._beat_bytes, self._faults = beat_bytes, faults or Faults()
        self._n_sends = self._n_receives = 0
        self._registers: dict[int, int] = {}
        self._transfers: dict[int, _Transfer] = {}
        self._reset()

    def read(self, offset: int) -> int:
        """A register."""
        self._advance()
        return self._registers.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """A register, with its side effects."""
        self._advance()
        channel = RECEIVE if offset >= RECEIVE else SEND
        register = offset - channel
        if register == CONTROL:
            self._control(channel, value)
        elif register == STATUS:
            self._registers[offset] &= ~(value & DONE_INTERRUPT)
        elif register == LENGTH:
            self._start(channel, value & self._length_mask)
        elif register in (ADDRESS_LOW, ADDRESS_HIGH):
            self._registers[offset] = value
        else:
            raise DeviceError(f"the DMA has no register at {offset:#x}")

    def _reset(self) -> None:
        self._transfers.clear()
        for channel in (SEND, RECEIVE):
            self._registers.update({channel + CONTROL: 0, channel + STATUS: HALTED})

    def _control(self, channel: int, value: int) -> None:
        if value & RESET:  # PG021: a reset of one channel resets the whole engine
            self._reset()
            self._streams.cancel()
            return
        self._registers[channel + CONTROL] = value & RUN
        if not value & RUN:
            self._registers[channel + STATUS] |= HALTED
        elif not self._registers[channel + STATUS] & sum(ERRORS):
            self._registers[channel + STATUS] &= ~HALTED

    def _start(self, channel: int, n_bytes: int) -> None:
        status = self._registers[channel + STATUS]
        self._registers[channel + LENGTH] = n_bytes
        if status & HALTED or channel in self._transfers:
            return
        self._registers[channel + STATUS] = status & ~IDLE
        low = self._registers.get(channel + ADDRESS_LOW, 0)
        address = low | self._registers.get(channel + ADDRESS_HIGH, 0) << 32
        if n_bytes == 0 or self._memory.window(address, n_bytes) is None:
            self._fail(channel, DECODE_ERROR if n_bytes else INTERNAL_ERROR)
            return
        transfer = _Transfer(address, n_bytes, self._clock.now_ns())
        self._transfers[channel] = transfer
        if channel == SEND:
            self._fetch(transfer)
        else:
            transfer.stalled = self._n_receives == self._faults.stall_receive
            self._n_receives += 1
        self._advance()

    def _fetch(self, transfer: _Transfer) -> None:
        """Read the packet from memory now: what is flushed later does not travel."""
        number, faults = self._n_sends, self._faults
        self._n_sends += 1
        if number == faults.free_early:
            self._memory.forget_at(transfer.address)
        window = self._memory.window(transfer.address, transfer.n_bytes)
        if window is None or number == faults.decode_error:
            self._fail(SEND, DECODE_ERROR)
        elif number == faults.slave_error:
            self._fail(SEND, SLAVE_ERROR)
        elif number == faults.stall_send:
            transfer.stalled = True
        elif number == faults.drop_send:
            transfer.end_ns = transfer.posted_ns
        elif number == faults.short_send:
            transfer.packet = window[: -self._beat_bytes].tobytes()
        else:
            transfer.packet = window.tobytes()

    def _advance(self) -> None:
        """Let everything happen that is due by now."""
        now = self._clock.now_ns()
        send = self._transfers.get(SEND)
        if send is not None:
            if send.end_ns is None and send.packet:
                send.end_ns = self._streams.offer(send.packet)
            if send.end_ns is not None and now >= send.end_ns:
                self._finish(SEND)
        receive = self._transfers.get(RECEIVE)
        if receive is None or receive.stalled:
            return
        if receive.end_ns is None:
            output = self._streams.collect(receive.posted_ns)
            if output is None:
                return
            receive.packet, receive.end_ns = output
        if len(receive.packet) > receive.n_bytes:
            self._fail(RECEIVE, INTERNAL_ERROR)
        elif now >= receive.end_ns:
            self._store(receive)

    def _store(self, transfer: _Transfer) -> None:
        window = self._memory.window(transfer.address, len(transfer.packet))
        if window is None:  # freed while the transfer ran
            self._fail(RECEIVE, DECODE_ERROR)
            return
        window.data[:] = transfer.packet
        self._registers[RECEIVE + LENGTH] = len(transfer.packet)
        self._finish(RECEIVE)

    def _finish(self, channel: int) -> None:
        del self._transfers[channel]
        self._registers[channel + STATUS] |= IDLE | DONE_INTERRUPT

    def _fail(self, channel: int, error: int) -> None:
        self._transfers.pop(channel, None)
        self._registers[channel + CONTROL] = 0
        self._registers[channel + STATUS] |= error | HALTED
