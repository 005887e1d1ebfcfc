"""An accelerator with faults of its own in front of it: whatever it is, functional or RTL."""

from __future__ import annotations

from typing import Protocol

from bacmac.host.device import dma
from bacmac.host.device.faults import Faults
from bacmac.host.manifest.overlay import Overlay


class Slave(dma.Streams, Protocol):
    """An accelerator: registers and two streams."""

    def read(self, offset: int) -> int:
        """A 32-bit register; DeviceError where there is none."""

    def write(self, offset: int, value: int) -> None:
        """A 32-bit register; DeviceError where there is none."""


class FaultySlave:
    """Stands between the board and an accelerator.

    In the batch `stop_batch` the accelerator is not told to start: it takes its input, says that
    it is busy, its counters stand still, and no output comes until it is reset.

    Args:
        slave: the accelerator.
        overlay: its registers.
        faults: `wrong_id`, `build_id`, `flip_output_bit`, `long_receive` and `stop_batch` apply.
    """

    def __init__(self, slave: Slave, overlay: Overlay, faults: Faults) -> None:
        self._slave, self._faults = slave, faults
        table = overlay.registers
        self._beat_bytes = overlay.manifest.beat_bytes
        self._status, self._control = table.register("STATUS"), table.register("CTRL")
        lies = (("ID", faults.wrong_id), ("BUILD", faults.build_id))
        self._lies = {table.register(name).offset: lie for name, lie in lies if lie is not None}
        self._n_batches = self._n_outputs = 0
        self._stopped = False

    def read(self, offset: int) -> int:
        """A 32-bit register."""
        value = self._slave.read(offset)
        if self._stopped and offset == self._status.offset:
            idle, busy = (self._status.field(name).mask for name in ("IDLE", "BUSY"))
            value = value & ~idle | busy
        return self._lies.get(offset, value)

    def write(self, offset: int, value: int) -> None:
        """A 32-bit register."""
        if offset == self._control.offset:
            start, reset = (self._control.field(n).mask for n in ("START", "SOFT_RESET"))
            if value & reset:
                self._stopped = False
            if value & start:
                self._stopped = self._n_batches == self._faults.stop_batch
                self._n_batches += 1
            if self._stopped:
                return
        self._slave.write(offset, value)

    def offer(self, packet: bytes) -> int | None:
        """A packet for the accelerator."""
        return 0 if self._stopped else self._slave.offer(packet)

    def collect(self, posted_ns: int) -> tuple[bytes, int] | None:
        """A packet of the accelerator."""
        collected = self._slave.collect(posted_ns)
        if collected is None:
            return None
        packet, end_ns = collected
        if self._faults.flip_output_bit is not None:
            packet = _flipped(packet, self._faults.flip_output_bit)
        if self._n_outputs == self._faults.long_receive:
            packet += bytes(self._beat_bytes)
        self._n_outputs += 1
        return packet, end_ns

    def cancel(self) -> None:
        """The DMA was reset."""
        self._slave.cancel()


def _flipped(packet: bytes, bit: int) -> bytes:
    spoiled = bytearray(packet)
    spoiled[bit // 8 % len(spoiled)] ^= 1 << bit % 8
    return bytes(spoiled)
