"""How fast a stream of batches went, and what the accelerator waited for: pure arithmetic.

The time of a stream is split into four parts that add up to it: the accelerator worked, waited for
input beats, waited for somebody to take its output beats (all three by its own counters), and had
no batch (the rest: the host had none ready, or had not looked yet).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bacmac.host.runtime.results import BatchResult

PERCENTILE_METHOD = "nearest rank: the smallest latency that so many of the batches did not exceed"
"""The inverted empirical distribution (Hyndman & Fan 1996, type 1): every number was observed."""


@dataclass(frozen=True)
class StreamSummary:
    """A stream of batches, on the board's clock (virtual where the board is emulated).

    What a batch that was run twice took counts from its first START; its bytes are those of the
    second run.

    Attributes:
        batches, images: how many.
        wall_s: from the first START until the last outputs were in the host's hands.
        images_per_s: over that time.
        latency_p50_s, latency_p90_s, latency_p99_s, latency_max_s: of a batch, from START to
            outputs in hand, see `PERCENTILE_METHOD`.
        busy_share: of `wall_s`, in which the accelerator worked: CYCLES without the stalls.
        stall_in_share, stall_out_share: of `wall_s`, in which it waited for either stream.
        bytes_in, bytes_out: moved over the streams.
        retries: causes of the batches that were run a second time, in order.
        n_verified: images whose outputs were compared with the exact engine's, all equal.
    """

    batches: int
    images: int
    wall_s: float
    images_per_s: float
    latency_p50_s: float
    latency_p90_s: float
    latency_p99_s: float
    latency_max_s: float
    busy_share: float
    stall_in_share: float
    stall_out_share: float
    bytes_in: int
    bytes_out: int
    retries: tuple[str, ...]
    n_verified: int


def summarize_stream(results: Iterable[BatchResult], clock_hz: float) -> StreamSummary:
    """Summary of the results of one stream.

    Args:
        results: in the order in which they came, one at least.
        clock_hz: of the accelerator, as read back.

    Raises:
        ValueError: there are none.
    """
    batches = list(results)
    if not batches:
        raise ValueError("a stream without a batch has no latency")
    latencies_s = sorted(batch.latency_ns * 1e-9 for batch in batches)
    first_ns = min(batch.received_ns - batch.latency_ns for batch in batches)
    last_ns = max(batch.received_ns for batch in batches)
    wall_s = (last_ns - first_ns) * 1e-9
    cycles = wall_s * clock_hz
    n_images = sum(len(batch.outputs) for batch in batches)
    return StreamSummary(
        len(batches),
        n_images,
        wall_s,
        n_images / wall_s,
        percentile(latencies_s, 50),
        percentile(latencies_s, 90),
        percentile(latencies_s, 99),
        latencies_s[-1],
        sum(batch.counters.cycles for batch in batches) / cycles,
        sum(batch.stall_in_cycles for batch in batches) / cycles,
        sum(batch.stall_out_cycles for batch in batches) / cycles,
        sum(batch.bytes_in for batch in batches),
        sum(batch.bytes_out for batch in batches),
        tuple(batch.retried for batch in batches if batch.retried),
        sum(batch.n_verified for batch in batches),
    )


def percentile(ascending: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile of values in ascending order, one at least.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50)
    2.0
    >>> percentile([1.0, 2.0, 3.0, 4.0], 99)
    4.0
    """
    return ascending[max(math.ceil(len(ascending) * percent / 100), 1) - 1]
