"""What a device gave back: outputs, counters and the window in which it worked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.device.board import Provenance


@dataclass(frozen=True)
class Counters:
    """The accelerator's own work counters over a window.

    `products_done + products_skipped` is the number of weight slots: every weight of every
    convolution times its output pixels (padding counts), so it does not depend on the data.
    """

    cycles: int
    products_done: int
    products_skipped: int
    images: int

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            self.cycles + other.cycles,
            self.products_done + other.products_done,
            self.products_skipped + other.products_skipped,
            self.images + other.images,
        )


@dataclass(frozen=True)
class Window:
    """Start and end on the device's monotonic clock, in ns."""

    start_ns: int
    end_ns: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return (self.end_ns - self.start_ns) * 1e-9


@dataclass(frozen=True, eq=False)
class BatchResult:
    """One batch.

    Attributes:
        first_index: number of the batch's first image in the stream.
        outputs: (n, C, H, W), int32 logits or stored activations (uint8 or int8).
        counters: work done for the batch (all repeats).
        window: from the start of the first input beat to the end of the last output beat.
        provenance: where it ran.
    """

    first_index: int
    outputs: npt.NDArray[np.int32] | npt.NDArray[np.uint8] | npt.NDArray[np.int8]
    counters: Counters
    window: Window
    provenance: Provenance
