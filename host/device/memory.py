"""Emulated DDR: buffers whose host and device bytes are distinct, as behind a cache.

What the host writes reaches the device's bytes by `flush`, what the device writes reaches the
host by `invalidate`; one forgotten gives wrong data here and not first on a board. Memory that
was never written holds a pattern, not zeros.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from bacmac.host.device.faults import Faults
from bacmac.host.errors import DeviceError, DeviceMemoryError

PAGE_BYTES = 4096
DRAM_BASE = 0x4000_0000
STALE = 0xA5
"""What the device finds in memory that nobody has flushed."""


class EmulatedBuffer:
    """One contiguous allocation; made by `Memory.allocate`."""

    def __init__(self, memory: Memory, address: int, n_bytes: int) -> None:
        self._memory = memory
        self._address = address
        self._host = np.zeros(n_bytes, np.uint8)
        self._device = np.full(n_bytes, STALE, np.uint8)
        self._freed = False

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """The host's view, uint8 (n_bytes,)."""
        self._check()
        return self._host

    @property
    def device_address(self) -> int:
        """What the DMA is told."""
        return self._address

    @property
    def device_bytes(self) -> npt.NDArray[np.uint8]:
        """The device's side, for the models only."""
        return self._device

    def flush(self) -> None:
        """Host to device."""
        self._check()
        if self._memory.counts("flush", self._memory.faults.skip_flush):
            self._device[:] = self._host

    def invalidate(self) -> None:
        """Device to host."""
        self._check()
        if self._memory.counts("invalidate", self._memory.faults.skip_invalidate):
            self._host[:] = self._device

    def free(self) -> None:
        """Give it back; once is enough, twice is an error."""
        self._check()
        self._freed = True
        self._memory.forget(self._address)

    def _check(self) -> None:
        if self._freed:
            raise DeviceError(f"the buffer at {self._address:#x} was freed and is used again")


class Memory:
    """The contiguous memory of an emulated board.

    Args:
        capacity_bytes: all that can be allocated at one time, in whole pages.
        faults: those of buffers apply.
    """

    def __init__(self, capacity_bytes: int, faults: Faults | None = None) -> None:
        self.capacity_bytes, self.faults = capacity_bytes, faults or Faults()
        self._done: Counter[str] = Counter()
        self._buffers: dict[int, EmulatedBuffer] = {}
        self._next = DRAM_BASE

    @property
    def n_buffers(self) -> int:
        """Buffers that are allocated and not freed."""
        return len(self._buffers)

    def allocate(self, n_bytes: int) -> EmulatedBuffer:
        """A new buffer.

        Raises:
            DeviceError: nothing is asked for.
            DeviceMemoryError: there is not that much left.
        """
        if n_bytes < 1:
            raise DeviceError(f"a buffer of {n_bytes} bytes cannot be allocated")
        possible = self.counts("allocation", self.faults.fail_allocation)
        used = sum(_pages(len(buffer.device_bytes)) for buffer in self._buffers.values())
        if not possible or used + _pages(n_bytes) > self.capacity_bytes:
            raise DeviceMemoryError(
                n_bytes,
                f"{used} of {self.capacity_bytes} are taken by {self.n_buffers} buffers",
            )
        buffer = EmulatedBuffer(self, self._next, n_bytes)
        self._buffers[self._next] = buffer
        # a page between buffers, so that running over the end of one is never in another
        self._next += _pages(n_bytes) + PAGE_BYTES
        return buffer

    def counts(self, what: str, fails: int | None) -> bool:
        """Whether this one happens: it is not the one that fails, counted from 0."""
        number = self._done[what]
        self._done[what] += 1
        return number != fails

    def forget(self, address: int) -> None:
        """A buffer was freed."""
        self._buffers.pop(address, None)  # a fault may have been earlier

    def forget_at(self, address: int) -> None:
        """The buffer that holds this address is freed behind its owner's back."""
        for base, buffer in self._buffers.items():
            if base <= address < base + len(buffer.device_bytes):
                self.forget(base)
                return

    def window(self, address: int, n_bytes: int) -> npt.NDArray[np.uint8] | None:
        """Device bytes at an address, or None where they are in no live buffer."""
        for base, buffer in self._buffers.items():
            offset = address - base
            if offset >= 0 and offset + n_bytes <= len(buffer.device_bytes):
                return buffer.device_bytes[offset : offset + n_bytes]
        return None


def _pages(n_bytes: int) -> int:
    return -(-n_bytes // PAGE_BYTES) * PAGE_BYTES
