"""What a device gives back for a batch."""

from __future__ import annotations

from dataclasses import dataclass

from bacmac.host.arith.reference import Codes, Outputs


@dataclass(frozen=True, eq=False)
class DeviceBatch:
    """What came back for one batch.

    Attributes:
        codes: what went in, (n, C, H, W).
        outputs: (n, C, H, W).
        cycles: from START to DONE without the cycles spent waiting for the host's streams, so
            the number is the same on every host.
        busy_cycles: those in which a pixel went into the array.
        products_done, products_isolated, products_skipped: weight slots, see
            `bacmac.host.compile.work`.
        images: passes times images.
        stall_in_cycles, stall_out_cycles: spent waiting for the host's streams.
        start_ns: just before START, on the board's clock.
        end_ns: when the last output beat was in: START and the accelerator's own cycles, and not
            later than it was seen.
        received_ns: when the outputs were in the host's hands.
        latency_ns: until then from START, the first where the batch was run twice.
        bytes_in, bytes_out: moved over the streams.
        retried: why it was run a second time, "" where once was enough.
    """

    codes: Codes
    outputs: Outputs
    cycles: int
    busy_cycles: int
    products_done: int
    products_isolated: int
    products_skipped: int
    images: int
    stall_in_cycles: int
    stall_out_cycles: int
    start_ns: int
    end_ns: int
    received_ns: int
    latency_ns: int
    bytes_in: int
    bytes_out: int
    retried: str


@dataclass(frozen=True)
class LayerCounters:
    """One layer's counters over a batch, all passes.

    Attributes:
        name: the layer's.
        images: passes times images.
        cycles: from the layer's start to its end.
        busy_cycles, products_done, products_isolated, products_skipped: as in `DeviceBatch`.
        utilisation: products done as a share of what the array could do in these cycles.
    """

    name: str
    images: int
    cycles: int
    busy_cycles: int
    products_done: int
    products_isolated: int
    products_skipped: int
    utilisation: float
