"""The half of the board interface that is the same wherever an AXI DMA is: driving it."""

from __future__ import annotations

from bacmac.host.device.board import Buffer, TransferState
from bacmac.host.device.dma_registers import DmaChannels
from bacmac.host.errors import DeviceError


class DmaBoard:
    """A board with a DMA once an overlay is loaded.

    Args:
        word: the device word.
    """

    def __init__(self, word: str) -> None:
        self._word = word
        self._channels: DmaChannels | None = None

    @property
    def word(self) -> str:
        """The device word."""
        return self._word

    def start_send(self, buffer: Buffer, n_bytes: int) -> None:
        """Start a memory-to-stream transfer."""
        self._loaded().start_send(buffer, n_bytes)

    def start_receive(self, buffer: Buffer, n_bytes: int) -> None:
        """Start a stream-to-memory transfer."""
        self._loaded().start_receive(buffer, n_bytes)

    def send_state(self) -> TransferState:
        """How the last send stands."""
        return self._loaded().send_state()

    def receive_state(self) -> TransferState:
        """How the last receive stands."""
        return self._loaded().receive_state()

    def reset_dma(self) -> None:
        """Both directions idle."""
        self._loaded().reset()

    def _loaded(self) -> DmaChannels:
        if self._channels is None:
            raise DeviceError(f"{self._word} has no overlay loaded")
        return self._channels
