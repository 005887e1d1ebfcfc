"""What an emulated board did and when: all that an emulated power model may know of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bacmac.host.manifest.overlay import Manifest


@dataclass(frozen=True)
class Activity:
    """Work spread evenly over [start_ns, end_ns) of the board's clock.

    Attributes:
        start_ns, end_ns: on the board's monotonic clock.
        cycles: accelerator clock cycles.
        busy_cycles: those in which a pixel goes into the array.
        products_done: weight slots executed with a weight that is not zero.
        products_isolated: other slots of executed groups (operands held still).
        products_skipped: slots of groups that are not executed: they take no cycle.
        weight_bytes: bytes read from the weight memory.
        activation_bytes: bytes read from and written to the activation memories.
        dma_bytes: bytes moved over AXI4-Stream, both directions.
    """

    start_ns: int
    end_ns: int
    cycles: int
    busy_cycles: int
    products_done: int
    products_isolated: int
    products_skipped: int
    weight_bytes: int
    activation_bytes: int
    dma_bytes: int


@dataclass
class ActivityLog:
    """Grows as the emulated board works; times ascend.

    Attributes:
        overlays: (time in ns, manifest) of each configuration.
        work: activities, none overlapping.
    """

    overlays: list[tuple[int, Manifest]] = field(default_factory=list)
    work: list[Activity] = field(default_factory=list)
