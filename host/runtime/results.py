"""What a device gave back: outputs, counters and the window in which it worked."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from bacmac.host.device.board import Provenance


@dataclass(frozen=True)
class Counters:
    """The accelerator's own work counters over a window.

    Weight slots are those of the array, outputs x inputs for every group and output pixel
    (padding and edges count), so no count depends on the data.

    Attributes:
        cycles: without those spent waiting for the host's streams.
        busy_cycles: those in which a pixel went into the array.
        products_done: slots with a weight that is not zero.
        products_isolated: other slots of the groups that were executed: operands held still.
        products_skipped: slots of groups that hold only zeros: they take no cycle.
        images: finished, every pass counted.
    """

    cycles: int = 0
    busy_cycles: int = 0
    products_done: int = 0
    products_isolated: int = 0
    products_skipped: int = 0
    images: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


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
        received_ns: when the outputs were in the host's hands, on the clock of `window`.
        latency_ns: until then from START, the first where the batch was run twice.
        stall_in_cycles, stall_out_cycles: in which the accelerator waited for the host's streams;
            not in `counters`, which are equal on every host.
        bytes_in, bytes_out: moved over the streams.
        retried: why the batch was run a second time, "" where once was enough.
        n_verified: images whose outputs were compared with the exact engine's, all equal.
    """

    first_index: int
    outputs: npt.NDArray[np.int32] | npt.NDArray[np.uint8] | npt.NDArray[np.int8]
    counters: Counters
    window: Window
    provenance: Provenance
    received_ns: int
    latency_ns: int
    stall_in_cycles: int
    stall_out_cycles: int
    bytes_in: int
    bytes_out: int
    retried: str = ""
    n_verified: int = 0
