"""The emulated board: our models of DDR, AXI DMA and accelerator behind the board interface."""

from __future__ import annotations

from bacmac.host.device.activity import ActivityLog
from bacmac.host.device.array import COMPUTE
from bacmac.host.device.board import Buffer, Provenance
from bacmac.host.device.clock import Clock
from bacmac.host.device.dma_board import DmaBoard
from bacmac.host.device.dma_registers import DmaChannels
from bacmac.host.device.faults import Faults, parse_faults, word_options
from bacmac.host.device.hardware import CMA_BYTES, FunctionalHardware, Hardware
from bacmac.host.errors import DeviceError
from bacmac.host.manifest.overlay import Overlay


class ModelBoard(DmaBoard):
    """A ZCU104 as the driver sees it, in this process.

    Args:
        word: the device word.
        hardware: the models.
    """

    def __init__(self, word: str, hardware: Hardware) -> None:
        super().__init__(word)
        self._hardware = hardware

    @property
    def provenance(self) -> Provenance:
        """Where its numbers come from."""
        return self._hardware.provenance

    @property
    def clock(self) -> Clock:
        """The clock that its windows are stamped with."""
        return self._hardware.clock

    @property
    def activity(self) -> ActivityLog:
        """What the board did and when, for emulated power."""
        return self._hardware.activity

    @property
    def n_buffers(self) -> int:
        """Buffers that are allocated and not freed."""
        return self._hardware.memory.n_buffers

    def load_overlay(self, overlay: Overlay) -> None:
        """Configure: a new accelerator and a new DMA, all state forgotten."""
        self._hardware.configure(overlay)
        engine, limit = self._hardware.dma, overlay.manifest.max_transfer_bytes
        self._channels = DmaChannels(self._word, engine.read, engine.write, self.clock, limit)

    def read_register(self, offset: int) -> int:
        """A 32-bit word of the accelerator's slave."""
        self._loaded()
        return self._hardware.accelerator.read(offset)

    def write_register(self, offset: int, value: int) -> None:
        """Write a 32-bit word of the accelerator's slave."""
        self._loaded()
        self._hardware.accelerator.write(offset, value)

    def allocate(self, n_bytes: int) -> Buffer:
        """Contiguous memory."""
        return self._hardware.memory.allocate(n_bytes)

    def clock_hz(self) -> float:
        """The accelerator clock as read back."""
        self._loaded()
        overlay, lie_hz = self._hardware.overlay, self._hardware.faults.clock_hz
        assert overlay is not None
        return lie_hz if lie_hz is not None else overlay.manifest.clock_hz

    def close(self) -> None:
        """Unload; what is still allocated stays counted by `n_buffers`."""
        self._channels = None
        self._hardware.close()


class EmulatedBoard(ModelBoard):
    """A board whose accelerator computes by `bacmac.host.arith`.

    Args:
        word: "functional:" or "reference:", faults after it, see `faults`.
        clock: virtual unless given, so that hours of device time take no time.
        memory_bytes: contiguous memory that can be allocated.
        faults: what goes wrong, unless the word says it.
    """

    def __init__(
        self,
        word: str = "functional:",
        *,
        clock: Clock | None = None,
        memory_bytes: int = CMA_BYTES,
        faults: Faults | None = None,
    ) -> None:
        kind = word.partition(":")[0] + ":"
        if kind not in COMPUTE:
            raise DeviceError(f"no emulated board is called {word!r}: there are {sorted(COMPUTE)}")
        faults = faults or parse_faults(word, word_options(word))
        hardware = FunctionalHardware(kind, clock=clock, memory_bytes=memory_bytes, faults=faults)
        super().__init__(word, hardware)
