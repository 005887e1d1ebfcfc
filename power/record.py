"""Record rails for a while, and write what was read."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bacmac.host.device.clock import Clock
from bacmac.host.files import replace_atomically
from bacmac.power.ams import Ams
from bacmac.power.rails import RailSource
from bacmac.power.sampler import DEFAULT_PERIOD_NS, DieTrace, PowerTrace, Sampler

CSV_COLUMNS = ("rail", "time_ns", "voltage_mv", "current_ma", "power_uw")


def record(
    source: RailSource,
    clock: Clock,
    duration_s: float,
    *,
    rails: Sequence[str] = (),
    period_ns: int = DEFAULT_PERIOD_NS,
    ams: Ams | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> PowerTrace:
    """Sample rails (all, where none is named) for `duration_s` seconds of `clock`.

    Die temperatures of `ams` are read about ten times a second.

    Raises:
        RailError: a rail or a temperature is not there or cannot be read.
    """
    sampler = Sampler(source, clock, rails, period_ns)
    steps = max(1, round(duration_s * 10))
    die: list[tuple[int, dict[str, float]]] = []
    sampler.start()
    try:
        for step in range(steps):
            clock.sleep_ns(round(duration_s * 1e9 / steps))
            if ams is not None:
                die.append((clock.now_ns(), ams.temperatures_c()))
            if progress is not None:
                progress("recording", step + 1, steps)
    except BaseException:
        sampler.abandon()
        raise
    trace = sampler.stop()
    return trace if ams is None else replace(trace, die=_die_trace(die))


def _die_trace(readings: Sequence[tuple[int, dict[str, float]]]) -> DieTrace:
    times = np.array([time for time, _ in readings], np.int64)
    names = readings[0][1]
    return DieTrace(
        times, {name: np.array([found[name] for _, found in readings]) for name in names}
    )


def write_trace_csv(path: str | Path, trace: PowerTrace) -> None:
    """Write a trace as CSV: one row a reading, in the sensor's own integers.

    Die temperatures have a column each (`die_pl_c`, ...). A temperature stands in the first row of
    a rail that is not before it, once; cells between two temperatures are empty.

    Raises:
        OutputError: it cannot be written.
    """
    die = trace.die or DieTrace(np.zeros(0, np.int64), {})
    header = (*CSV_COLUMNS, *(f"die_{name.lower()}_c" for name in die.celsius))
    with replace_atomically(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(header)
        for name, rail in trace.rails.items():
            columns = (rail.times_ns, rail.voltage_mv, rail.current_ma, rail.power_uw)
            rows = np.searchsorted(rail.times_ns, die.times_ns).tolist()
            cells = {
                row: [f"{values[i]:.3f}" for values in die.celsius.values()]
                for i, row in enumerate(rows)
            }
            empty = [""] * len(die.celsius)
            table = zip(*(column.tolist() for column in columns), strict=True)
            for row, values in enumerate(table):
                writer.writerow((name, *values, *cells.get(row, empty)))
