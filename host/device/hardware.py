"""The models of a board, put together: DDR, AXI DMA and an accelerator on one clock.

Two things stand on it and drive it alike: our emulated boards directly, and PYNQ through an
emulated `pynq.Device`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from bacmac.host.device.accelerator import Accelerator
from bacmac.host.device.activity import ActivityLog
from bacmac.host.device.board import Provenance
from bacmac.host.device.clock import Clock, VirtualClock
from bacmac.host.device.dma import AxiDma
from bacmac.host.device.faults import Faults
from bacmac.host.device.faulty import FaultySlave, Slave
from bacmac.host.device.memory import Memory
from bacmac.host.device.timeline import Timeline
from bacmac.host.errors import DeviceError
from bacmac.host.manifest.overlay import Overlay

CMA_BYTES = 128 << 20
"""Contiguous memory; what a PYNQ image for the ZCU104 reserves by default."""


class Hardware(ABC):
    """A ZCU104 in this process; which accelerator is on it is open.

    Args:
        provenance: where its numbers come from.
        clock: the board's.
        memory_bytes: contiguous memory that can be allocated.
        faults: what goes wrong.

    Attributes:
        provenance, clock, faults: as given.
        memory: DDR.
        activity: what the board did and when, for emulated power.
    """

    def __init__(
        self, provenance: Provenance, clock: Clock, memory_bytes: int, faults: Faults
    ) -> None:
        self.provenance, self.clock, self.faults = provenance, clock, faults
        self.memory = Memory(memory_bytes, faults)
        self.activity = ActivityLog()
        self._overlay: Overlay | None = None
        self._accelerator: Slave | None = None
        self._dma: AxiDma | None = None

    def configure(self, overlay: Overlay) -> None:
        """A new accelerator and a new DMA, all state forgotten."""
        manifest = overlay.manifest
        accelerator = FaultySlave(self._configure(overlay), overlay, self.faults)
        self._dma = AxiDma(
            self.memory,
            accelerator,
            self.clock,
            manifest.max_transfer_bytes,
            beat_bytes=manifest.beat_bytes,
            faults=self.faults,
        )
        self._overlay, self._accelerator = overlay, accelerator
        self.activity.overlays.append((self.clock.now_ns(), manifest))

    @property
    def overlay(self) -> Overlay | None:
        """What is configured."""
        return self._overlay

    @property
    def accelerator(self) -> Slave:
        """The accelerator's registers; DeviceError when nothing is configured."""
        if self._accelerator is None:
            raise DeviceError("no overlay is loaded")
        return self._accelerator

    @property
    def dma(self) -> AxiDma:
        """The DMA's registers; DeviceError when nothing is configured."""
        if self._dma is None:
            raise DeviceError("no overlay is loaded")
        return self._dma

    def close(self) -> None:
        """Unload; what is still allocated stays counted by the memory."""
        self._overlay = self._accelerator = self._dma = None

    @abstractmethod
    def _configure(self, overlay: Overlay) -> Slave:
        """An accelerator as it is after configuration; the one before it is gone."""


class FunctionalHardware(Hardware):
    """The accelerator computes by `bacmac.host.arith`.

    Args:
        word: "functional:" or "reference:": by the fast engine or by the definition.
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
        super().__init__("functional", clock or VirtualClock(), memory_bytes, faults or Faults())
        self._word = word

    def _configure(self, overlay: Overlay) -> Slave:
        timeline = Timeline(self.clock, overlay.manifest.clock_hz, self.activity)
        return Accelerator(overlay, self._word, timeline)
