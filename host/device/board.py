"""The board interface: all that the driver needs of a device, and no more.

Below it stand the emulated models (`functional:`, `reference:`), later the Verilated RTL and
PYNQ. The driver above it (`bacmac.host.device.driver`) is written once. Nothing here waits: a
transfer is started and polled, and whoever polls has a deadline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from bacmac.host.device.clock import Clock
from bacmac.host.manifest.overlay import Overlay

Provenance = Literal["board", "rtl", "functional"]
"""Where a number comes from; kept until it is printed."""


class Buffer(Protocol):
    """Contiguous memory that the DMA can reach.

    On the emulated board the host's array and the device's bytes are distinct, so a forgotten
    flush or invalidate gives wrong data in CI and not first on the board.
    """

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """The host's view, uint8 (n_bytes,)."""

    @property
    def device_address(self) -> int:
        """What the DMA is told."""

    def flush(self) -> None:
        """Make the host's writes visible to the device."""

    def invalidate(self) -> None:
        """Make the device's writes visible to the host."""

    def free(self) -> None:
        """Give it back; using it afterwards is a DeviceError."""


@dataclass(frozen=True)
class TransferState:
    """How one DMA direction stands.

    Attributes:
        idle: finished, or never started; not after an error.
        error: why it failed, "" when it did not.
        n_bytes: its length register: what was asked, or what came of a receive that has ended.
        status: its status register, as read (PG021).
    """

    idle: bool
    error: str
    n_bytes: int
    status: int


class Board(Protocol):
    """A device with at most one overlay loaded."""

    @property
    def word(self) -> str:
        """The device word it was opened by, as `functional:`."""

    @property
    def provenance(self) -> Provenance:
        """Where its numbers come from."""

    @property
    def clock(self) -> Clock:
        """The clock that its windows are stamped with."""

    def load_overlay(self, overlay: Overlay) -> None:
        """Configure the programmable logic; DeviceError when that cannot be done."""

    def read_register(self, offset: int) -> int:
        """A 32-bit word of the accelerator's slave; DeviceError before an overlay is loaded."""

    def write_register(self, offset: int, value: int) -> None:
        """Write a 32-bit word of the accelerator's slave."""

    def allocate(self, n_bytes: int) -> Buffer:
        """Contiguous memory; DeviceError when there is none left."""

    def start_send(self, buffer: Buffer, n_bytes: int) -> None:
        """Start memory-to-stream DMA of the first n_bytes of a buffer; one packet."""

    def start_receive(self, buffer: Buffer, n_bytes: int) -> None:
        """Start stream-to-memory DMA into a buffer of at least n_bytes; one packet."""

    def send_state(self) -> TransferState:
        """How the last send stands."""

    def receive_state(self) -> TransferState:
        """How the last receive stands."""

    def reset_dma(self) -> None:
        """Bring both DMA directions back to idle from any state."""

    def clock_hz(self) -> float:
        """The accelerator clock as read back from the hardware."""

    def close(self) -> None:
        """Give everything back."""
