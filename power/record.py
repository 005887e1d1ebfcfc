"""Record rails for a while, and write what was read."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from bacmac.host.device.clock import Clock
from bacmac.host.files import replace_atomically
from bacmac.power.rails import RailSource
from bacmac.power.sampler import DEFAULT_PERIOD_NS, PowerTrace, Sampler

CSV_COLUMNS = ("rail", "time_ns", "voltage_mv", "current_ma", "power_uw")


def record(
    source: RailSource,
    clock: Clock,
    duration_s: float,
    *,
    rails: Sequence[str] = (),
    period_ns: int = DEFAULT_PERIOD_NS,
    progress: Callable[[str, int, int], None] | None = None,
) -> PowerTrace:
    """Sample rails (all, where none is named) for `duration_s` seconds of `clock`.

    Raises:
        RailError: a rail is not there or cannot be read.
    """
    sampler = Sampler(source, clock, rails, period_ns)
    steps = max(1, round(duration_s * 10))
    sampler.start()
    try:
        for step in range(steps):
            clock.sleep_ns(round(duration_s * 1e9 / steps))
            if progress is not None:
                progress("recording", step + 1, steps)
    except BaseException:
        sampler.abandon()
        raise
    return sampler.stop()


def write_trace_csv(path: str | Path, trace: PowerTrace) -> None:
    """Write a trace as CSV: one row a reading, in the sensor's own integers.

    Raises:
        OutputError: it cannot be written.
    """
    with replace_atomically(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(CSV_COLUMNS)
        for name, rail in trace.rails.items():
            columns = (rail.times_ns, rail.voltage_mv, rail.current_ma, rail.power_uw)
            for row in zip(*(column.tolist() for column in columns), strict=True):
                writer.writerow((name, *row))
