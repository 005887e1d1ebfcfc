"""The emulated board: our models of DDR, AXI DMA and accelerator behind the board interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

from bacmac.host.device import dma
from bacmac.host.device.accelerator import Accelerator
from bacmac.host.device.activity import ActivityLog
from bacmac.host.device.array import COMPUTE
from bacmac.host.device.board import Buffer, Provenance, TransferState
from bacmac.host.device.clock import Clock, VirtualClock
from bacmac.host.device.dma import AxiDma
from bacmac.host.device.memory import Memory
from bacmac.host.device.timeline import Timeline
from bacmac.host.errors import DeviceError
from bacmac.host.manifest.overlay import Overlay

CMA_BYTES = 128 << 20
"""Contiguous memory; what a PYNQ image for the ZCU104 reserves by default."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong, for tests. Sends are numbered from 0 since the overlay was loaded.

    Attributes:
        stall_send: this send never ends.
        drop_send: this send ends, and nothing arrives.
        flip_output_bit: this bit of every output packet is inverted.
        build_id: what BUILD reads instead of the manifest's.
        clock_hz: what the clock reads back instead of the manifest's.
    """

    stall_send: int | None = None
    drop_send: int | None = None
    flip_output_bit: int | None = None
    build_id: int | None = None
    clock_hz: float | None = None


class Slave(dma.Streams, Protocol):
    """An accelerator: registers and two streams."""

    def read(self, offset: int) -> int:
        """A 32-bit register; DeviceError where there is none."""

    def write(self, offset: int, value: int) -> None:
        """A 32-bit register; DeviceError where there is none."""


class ModelBoard(ABC):
    """A ZCU104 as the driver sees it, in this process; which accelerator is on it is open.

    Args:
        word: the device word.
        provenance: where its numbers come from.
        clock: the board's.
        memory_bytes: contiguous memory that can be allocated.
        faults: what goes wrong.

    Attributes:
        activity: what the board did and when, for emulated power.
    """

    def __init__(
        self, word: str, provenance: Provenance, clock: Clock, memory_bytes: int, faults: Faults
    ) -> None:
        self.activity = ActivityLog()
        self._word, self._provenance = word, provenance
        self._clock, self._memory, self._faults = clock, Memory(memory_bytes), faults
        self._overlay: Overlay | None = None
        self._accelerator: Slave | None = None
        self._dma: AxiDma | None = None

    @property
    def word(self) -> str:
        """The device word."""
        return self._word

    @property
    def provenance(self) -> Provenance:
        """Where its numbers come from."""
        return self._provenance

    @property
    def clock(self) -> Clock:
        """The clock that its windows are stamped with."""
        return self._clock

    @property
    def n_buffers(self) -> int:
        """Buffers that are allocated and not freed."""
        return self._memory.n_buffers

    def load_overlay(self, overlay: Overlay) -> None:
        """Configure: a new accelerator and a new DMA, all state forgotten."""
        limit = overlay.manifest.max_transfer_bytes
        accelerator = self._configure(overlay)
        self._dma = AxiDma(self._memory, accelerator, self._clock, limit, self._send_fault)
        self._overlay, self._accelerator = overlay, accelerator
        self.activity.overlays.append((self._clock.now_ns(), overlay.manifest))

    def read_register(self, offset: int) -> int:
        """A 32-bit word of the accelerator's slave."""
        return self._loaded()[0].read(offset)

    def write_register(self, offset: int, value: int) -> None:
        """Write a 32-bit word of the accelerator's slave."""
        self._loaded()[0].write(offset, value)

    def allocate(self, n_bytes: int) -> Buffer:
        """Contiguous memory."""
        return self._memory.allocate(n_bytes)

    def start_send(self, buffer: Buffer, n_bytes: int) -> None:
        """Start a memory-to-stream transfer."""
        self._start(dma.SEND, buffer, n_bytes)

    def start_receive(self, buffer: Buffer, n_bytes: int) -> None:
        """Start a stream-to-memory transfer."""
        self._start(dma.RECEIVE, buffer, n_bytes)

    def send_state(self) -> TransferState:
        """How the last send stands."""
        return self._state(dma.SEND)

    def receive_state(self) -> TransferState:
        """How the last receive stands."""
        return self._state(dma.RECEIVE)

    def reset_dma(self) -> None:
        """Both directions idle."""
        self._loaded()[1].write(dma.CONTROL, dma.RESET)

    def clock_hz(self) -> float:
        """The accelerator clock as read back."""
        manifest = self._loaded()[2].manifest
        return self._faults.clock_hz if self._faults.clock_hz is not None else manifest.clock_hz

    def close(self) -> None:
        """Unload; what is still allocated stays counted by `n_buffers`."""
        self._overlay = self._accelerator = self._dma = None

    @abstractmethod
    def _configure(self, overlay: Overlay) -> Slave:
        """An accelerator as it is after configuration; the one before it is gone."""

    def _loaded(self) -> tuple[Slave, AxiDma, Overlay]:
        if self._accelerator is None or self._dma is None or self._overlay is None:
            raise DeviceError(f"{self._word} has no overlay loaded")
        return self._accelerator, self._dma, self._overlay

    def _start(self, channel: int, buffer: Buffer, n_bytes: int) -> None:
        _, engine, overlay = self._loaded()
        if not 0 < n_bytes <= overlay.manifest.max_transfer_bytes:
            raise DeviceError(
                f"a transfer of {n_bytes} bytes: the DMA of {overlay.manifest.name} moves 1 to "
                f"{overlay.manifest.max_transfer_bytes}"
            )
        if not self._state(channel).idle and not self._state(channel).error:
            raise DeviceError("a transfer is started while the one before it runs")
        engine.write(channel + dma.CONTROL, dma.RUN)
        engine.write(channel + dma.ADDRESS_LOW, buffer.device_address & 0xFFFF_FFFF)
        engine.write(channel + dma.ADDRESS_HIGH, buffer.device_address >> 32)
        engine.write(channel + dma.LENGTH, n_bytes)

    def _state(self, channel: int) -> TransferState:
        engine = self._loaded()[1]
        status = engine.read(channel + dma.STATUS)
        error = " ".join(name for bit, name in dma.ERRORS.items() if status & bit)
        return TransferState(
            idle=bool(status & (dma.IDLE | dma.HALTED)) and not error,
            error=error,
            n_bytes=engine.read(channel + dma.LENGTH),
        )

    def _send_fault(self, number: int, packet: bytes) -> bytes | None:
        if number == self._faults.stall_send:
            return None
        return b"" if number == self._faults.drop_send else packet


class EmulatedBoard(ModelBoard):
    """A board whose accelerator computes by `bacmac.host.arith`.

    Args:
        word: "functional:" or "reference:".
        clock: virtual unless given, so that hours of device time take no time.
        memory_bytes: contiguous memory that can be allocated.
        faults: what goes wrong.
    """

    def __init__(
        self,
        word: str = "functional:",
        *,
        clock: Clock | None = None,
        memory_bytes: int = CMA_BYTES,
        faults: Faults | None = None,
    ) -> None:
        if word not in COMPUTE:
            raise DeviceError(f"no emulated board is called {word!r}: there are {sorted(COMPUTE)}")
        super().__init__(
            word, "functional", clock or VirtualClock(), memory_bytes, faults or Faults()
        )

    def _configure(self, overlay: Overlay) -> Slave:
        manifest, faults = overlay.manifest, self._faults
        build_id = faults.build_id if faults.build_id is not None else manifest.build_id
        spoil = self._flip if faults.flip_output_bit is not None else None
        timeline = Timeline(self._clock, manifest.clock_hz, self.activity)
        return Accelerator(overlay, self._word, timeline, build_id=build_id, spoil=spoil)

    def _flip(self, packet: bytes) -> bytes:
        bit = self._faults.flip_output_bit or 0
        spoiled = bytearray(packet)
        spoiled[bit // 8 % len(spoiled)] ^= 1 << bit % 8
        return bytes(spoiled)
