"""The figures of one model: weights on each level, and products of each layer."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from bacmac.power.drawing import IDLE, PAGE, new_figure, page_svg
from bacmac.power.model_report import Histogram, ProductBar

FILLED, ZERO = "#0f8bb3", "#8a94a3"
MOST_BARS = 63
"""Levels that get a bar of their own; more are drawn as one outline."""
TOWERS = 2.0
"""How many times the tallest other level zero must be to be cut."""
LETTERS = 60
"""That fit below the axis, gaps included."""
TALL = 18.0
"""Height of a figure that is not exceeded."""


def histogram_figure(histogram: Histogram, number: int) -> str:
    """Weights on each level. Levels stand side by side, whatever lies between them.

    Args:
        histogram: of one layer.
        number: of the figure on its page.
    """
    levels = [level for level, _ in histogram.grid]
    counts = np.array([count for _, count in histogram.grid])
    shares = 100 * counts / max(int(counts.sum()), 1)
    places = np.arange(len(levels))
    with mpl.rc_context(PAGE.style):
        figure = new_figure(4.2, 2.3)
        axes = figure.add_subplot()
        if len(levels) <= MOST_BARS:
            colours = [ZERO if level == 0 else FILLED for level in levels]
            axes.bar(places, shares, width=0.82, color=colours, linewidth=0)
        else:
            edges = np.arange(len(levels) + 1) - 0.5
            axes.stairs(shares, edges, fill=True, color=FILLED)
        _cut_zero(axes, levels, shares)
        ticks = _level_ticks(levels)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{levels[round(x)]}"))
        axes.set_xlim(-0.8, len(levels) - 0.2)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("level")
        axes.set_ylabel("weights (%)")
        label = f"Weights of {histogram.layer} on each level of {histogram.scheme}"
        return page_svg(figure, f"levels-{number}", label)


def products_figure(bars: Sequence[ProductBar]) -> str:
    """Products of every layer, those with a weight that is not zero set off."""
    names = [bar.layer for bar in bars]
    places = np.arange(len(bars))
    done = np.array([bar.n_products for bar in bars], float)
    every = np.array([bar.n_macs for bar in bars], float)
    share = 100 / every.sum()
    with mpl.rc_context(PAGE.style):
        figure = new_figure(4.2, min(1.4 + 0.24 * len(bars), TALL))
        axes = figure.add_subplot()
        axes.barh(places, done * share, height=0.75, color=FILLED, label="not zero", linewidth=0)
        axes.barh(
            places,
            (every - done) * share,
            left=done * share,
            height=0.75,
            color=IDLE,
            alpha=0.55,
            label="zero",
            linewidth=0,
        )
        axes.set_yticks(places, names)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("products of an image (% of all)")
        figure.legend(loc="outside upper left", ncols=2, columnspacing=1, borderpad=0.1)
        return page_svg(figure, "products", "Products of every layer, zero weights set off")


def _cut_zero(axes: Axes, levels: Sequence[int], shares: npt.NDArray[np.float64]) -> None:
    """Where zero towers above all others, let it reach over the top and say how far it goes."""
    others = [share for level, share in zip(levels, shares, strict=True) if level]
    tallest = max(others, default=0.0)
    if 0 not in levels or tallest <= 0 or shares[levels.index(0)] < TOWERS * tallest:
        return
    place = levels.index(0)
    axes.set_ylim(0, 1.2 * tallest)
    axes.annotate(
        f" zero: {shares[place]:.1f} %",
        (place, 1.2 * tallest),
        (3, -2),
        textcoords="offset points",
        va="top",
        fontsize=10,
    )


def _level_ticks(levels: Sequence[int]) -> list[int]:
    """Places of levels that are named: ends, zero, and what fits between."""
    letters = max(len(str(level)) for level in levels)
    step = max(1, -(-len(levels) * (letters + 1) // LETTERS))
    zero = levels.index(0) if 0 in levels else len(levels) // 2
    return [place for place in range(len(levels)) if (place - zero) % step == 0]
