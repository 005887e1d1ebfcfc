"""How often a sensor has a new value, from the changes of what was read.

Changes happen only when a new value appears, so the times d between changes are multiples of the
period. Their Rayleigh statistic R(T) = |mean exp(2 pi i d / T)| (Fisher, Statistical Analysis of
Circular Data, 1993) is near 1 there, lowered by the time between reads g to sinc(g/T)^2; the
longest T that reaches 80 % of it is taken and refined by least squares. Shorter than two reads it
cannot be seen: then it is "at most" that, and readings alias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MIN_INTERVALS = 12
"""Fewer times between changes do not show a period."""
MAX_INTERVALS = 200
PEAK_SHARE = 0.8


@dataclass(frozen=True)
class Refresh:
    """How often a new value appears.

    Attributes:
        kind: "measured"; "at most" where reads or changes were too few to tell more; "not seen"
            where nothing changed twice.
        period_ns: the period, or its bound, or None.
        n_changes: of the quantity that changed most often.
        median_ns, spread_ns: of the times between changes: median and interquartile range.
        read_gap_ns: median time between reads.
    """

    kind: Literal["measured", "at most", "not seen"]
    period_ns: float | None
    n_changes: int
    median_ns: float | None
    spread_ns: float | None
    read_gap_ns: float

    @property
    def aliased(self) -> bool:
        """Whether values may come and go between two reads."""
        return self.period_ns is not None and self.period_ns < 2 * self.read_gap_ns


def find_refresh(times_ns: Ints, columns: tuple[Ints, ...]) -> Refresh:
    """Period at which values change.

    Each column is a file of its own, read at its own moment, so the one that changes most often is
    followed alone: together they would seem to change twice where a refresh falls between them.

    Args:
        times_ns: (n,), n >= 2.
        columns: quantities, each (n,).
    """
    gap = float(np.median(np.diff(times_ns)))
    changes = max((times_ns[1:][np.diff(c) != 0] for c in columns), key=len)
    intervals = np.diff(changes).astype(np.float64)
    if not len(intervals):
        return Refresh("not seen", None, len(changes), None, None, gap)
    low, median, high = (float(q) for q in np.quantile(intervals, (0.25, 0.5, 0.75)))
    period = _period(intervals, gap) if len(intervals) >= MIN_INTERVALS else None
    kind: Literal["measured", "at most"] = "measured" if period else "at most"
    bound = max(float(np.quantile(intervals, 0.05)), gap) if period is None else period
    return Refresh(kind, bound, len(changes), median, high - low, gap)


def _period(intervals: Floats, gap: float) -> float | None:
    """Longest period that the intervals are multiples of, or None."""
    median = float(np.median(intervals))
    if median < 2 * gap:
        return None
    used = intervals[intervals <= 8 * median][:MAX_INTERVALS]
    step = 1 / (64 * median)
    frequencies = np.arange(1 / (median + gap) - step, 1 / (2 * gap) + step, step)
    lengths = np.array([_rayleigh(used, f) for f in frequencies])
    wanted = PEAK_SHARE * np.sinc(gap * frequencies) ** 2
    inner = lengths[1:-1]
    peaks = (inner >= lengths[:-2]) & (inner >= lengths[2:]) & (inner >= wanted[1:-1])
    if not peaks.any():
        return None
    period = 1 / float(frequencies[1:-1][peaks][0])
    multiples = np.round(used / period)
    return float(np.sum(multiples * used) / np.sum(multiples**2))


def _rayleigh(intervals: Floats, frequency: float) -> float:
    return float(np.abs(np.mean(np.exp(2j * np.pi * frequency * intervals))))
