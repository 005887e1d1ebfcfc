"""The contiguous buffers of a driver: a pair for each batch, and one for a load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from bacmac.host.arith.reference import Codes
from bacmac.host.compile.program import Program
from bacmac.host.device.board import Board, Buffer
from bacmac.host.errors import DeviceError


@dataclass(frozen=True)
class Slot:
    """Buffers of one batch: one DMA transfer in, one out."""

    input: Buffer
    output: Buffer


@dataclass(frozen=True, eq=False)
class FilledSlot:
    """A batch that lies in its slot and can be started.

    Attributes:
        slot: whose input buffer holds it.
        codes: the batch, (n, C, H, W), should it have to be laid out again.
        retried: why it is run a second time, or "".
        first_start_ns: when it was started the first time; None before.
    """

    slot: Slot
    codes: Codes
    retried: str = ""
    first_start_ns: int | None = None


class Slots:
    """Allocates, keeps and frees.

    Args:
        board: where.
        n: slots for batches.
    """

    def __init__(self, board: Board, n: int) -> None:
        self._board, self._n = board, n
        self._buffers: list[Buffer] = []
        self._slots: tuple[Slot, ...] = ()

    def get(self, program: Program, batch_size: int) -> tuple[Slot, ...]:
        """The slots, allocated unless they are there; free them before another program's.

        Raises:
            DeviceError: there is not that much memory; nothing is kept.
        """
        if not self._slots:
            n_in, n_out = batch_size * program.input.n_bytes, batch_size * program.output.n_bytes
            try:
                self._slots = tuple(
                    Slot(self._allocate(n_in), self._allocate(n_out)) for _ in range(self._n)
                )
            except BaseException:
                self.free()
                raise
        return self._slots

    @contextmanager
    def holding(self, data: bytes) -> Iterator[Buffer]:
        """A buffer that the device can read these bytes from, for as long as the block lasts."""
        buffer = self._allocate(len(data))
        try:
            buffer.array[:] = np.frombuffer(data, np.uint8)
            buffer.flush()
            yield buffer
        finally:
            self._buffers.remove(buffer)
            buffer.free()

    def free(self) -> None:
        """Give every buffer back; no transfer may be running."""
        self._slots = ()
        while self._buffers:
            with suppress(DeviceError):  # it is gone already: that was told when it was used
                self._buffers.pop().free()

    def _allocate(self, n_bytes: int) -> Buffer:
        buffer = self._board.allocate(n_bytes)
        self._buffers.append(buffer)
        return buffer
