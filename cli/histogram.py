"""How often each level is used, drawn in characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bacmac.host.arith.schemes import SCHEMES

BARS = "▁▂▃▄▅▆▇█"
UNUSED = "·"
"""A level, or a bin of levels, that no weight is on."""


def on_the_grid(scheme: str, used: Sequence[int], counts: Sequence[int]) -> list[tuple[int, int]]:
    """(level, weights on it) for every level of a scheme, ascending.

    Args:
        scheme: its name.
        used: levels that are used.
        counts: weights on each of them.
    """
    known = dict(zip(used, counts, strict=True))
    return [(level, known.get(level, 0)) for level in SCHEMES[scheme].levels.tolist()]


def binned(grid: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int, int]]:
    """(first level, last level, weights) of at most `most` bins, zero in the middle of one.

    Where there are more levels, bins hold as many neighbours each, the same odd number, and those
    at the ends may hold fewer: so the bins of a symmetric scheme are symmetric.
    """
    width = 1
    while _n_bins(len(grid), width) > most:
        width += 2
    first = -((_n_bins(len(grid), width) * width - len(grid)) // 2)
    bins = []
    for start in range(first, len(grid), width):
        part = grid[max(start, 0) : start + width]
        bins.append((part[0][0], part[-1][0], sum(count for _, count in part)))
    return bins


def sparkline(grid: Sequence[tuple[int, int]], most: int) -> str:
    """A character a level or bin, its height the count over the largest but that of zero.

    Zero, which pruning makes tower above everything, may reach over the top.
    """
    bins = binned(grid, most)
    tallest = max((count for low, high, count in bins if not low <= 0 <= high), default=0)
    return "".join(_bar(count, max(tallest, 1)) for _, _, count in bins)


def bar_rows(
    grid: Sequence[tuple[int, int]], *, most: int, width: int
) -> list[tuple[str, int, float, str]]:
    """(levels, weights, share of all, bar of up to `width`) of each level or bin."""
    bins = binned(grid, most)
    total = sum(count for *_, count in bins)
    tallest = max((count for *_, count in bins), default=0)
    rows = []
    for low, high, count in bins:
        name = str(low) if low == high else f"{low} to {high}"
        share = count / total if total else 0.0
        rows.append((name, count, share, _long_bar(count, tallest, width)))
    return rows


def _n_bins(n_levels: int, width: int) -> int:
    """Bins that a symmetric scheme of an odd number of levels makes about a middle one."""
    if width == 1:
        return n_levels
    side = (n_levels - width) / 2
    return 1 + 2 * int(np.ceil(max(side, 0.0) / width))


def _bar(count: int, tallest: int) -> str:
    if not count:
        return UNUSED
    return BARS[min(max(round(count / tallest * len(BARS)) - 1, 0), len(BARS) - 1)]


def _long_bar(count: int, tallest: int, width: int) -> str:
    """A horizontal bar to an eighth of a character; the least that is not nothing is that."""
    if not count:
        return ""
    eighths = max(round(count / tallest * width * 8), 1)
    return "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")
