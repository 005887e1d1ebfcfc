"""The figures of a campaign's report, drawn from plain rows.

Every function gives a `Drawing`: a figure that can be drawn in any theme, on the page and on paper.
Nothing is computed here but places on axes. Whatever is emulated says so in the title and across
the whole figure. Axes of energies begin at zero; every block's point is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bacmac.power.drawing import (
    IDLE,
    RATIO_LIMIT,
    Theme,
    legend_in_a_line,
    new_figure,
    ratio_axis,
)
from bacmac.power.statistics import Interval
from bacmac.power.units import si_scale

PALETTE = ("#0f8bb3", "#d1691e", "#8f63c4", "#5f8f2f", "#c2407a", "#7a6a58")
"""Readable on white and on near black, and apart for colour-blind eyes."""
MARKERS = ("o", "s", "D", "^", "v", "P")
"""Colour is never alone: each arm, and each order, has a shape too."""

MARK_EVERY = 4.0
"""Height of a figure that one mark serves."""

Draw = Callable[[Figure, Theme], None]
Written = TypeVar("Written", str, bytes)


@dataclass(frozen=True)
class Drawing:
    """A figure before it has a theme.

    Attributes:
        name: of its file, letters, digits and hyphens.
        label: what it shows, for who cannot see it.
        caption: below it: what was measured, by what, over how many.
        width, height: as `new_figure` takes them.
        emulated: whether any part of what it shows is a model.
        draw: fills a figure.
    """

    name: str
    label: str
    caption: str
    width: float
    height: float
    emulated: bool
    draw: Draw

    def figure(self, theme: Theme) -> Figure:
        """Draw it."""
        figure = new_figure(self.width, self.height)
        self.draw(figure, theme)
        if self.emulated:
            _mark(figure, theme, max(1, round(self.height / MARK_EVERY)))
        return figure

    def render(self, theme: Theme, write: Callable[[Figure], Written]) -> Written:
        """Draw it and write it with `write`."""
        with mpl.rc_context(theme.style):
            return write(self.figure(theme))


def _mark(figure: Figure, theme: Theme, n: int) -> None:
    """EMULATED across the figure, n times from top to bottom: no part can be cut out without."""
    for i in range(n):
        figure.text(
            *(0.5, (i + 0.5) / n, "EMULATED"),
            rotation=24,
            ha="center",
            va="center",
            fontsize=44,
            fontweight="bold",
            color=theme.ink,
            alpha=0.1,
            zorder=0,
            in_layout=False,
        )


def titled(emulated: bool, text: str) -> str:
    """A figure's title: EMULATED first where it is."""
    return f"EMULATED: {text}" if emulated else text[:1].upper() + text[1:]


def _title_above(figure: Figure, title: str) -> None:
    """A title of the whole figure, from its left edge."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")


@dataclass(frozen=True)
class ForestRow:
    """One ratio of a forest plot.

    Attributes:
        label: which pair and quantity; a heading where `ratio` is None and `missing` is "".
        ratio, low, high: with its 95 % interval, or None.
        filled: filled mark (dynamic energy) or hollow (total).
        decided: whether the interval excludes 1.
        numbers: the same as text.
        missing: why there is no ratio.
    """

    label: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    filled: bool = True
    decided: bool = False
    numbers: str = ""
    missing: str = ""


def forest(
    name: str, rail: str, rows: Sequence[ForestRow], caption: str, *, emulated: bool
) -> Drawing:
    """Forest plot of ratios with a line at 1, their numbers beside their names."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.add_subplot()
        axes.axvline(1.0, color=theme.ink, linewidth=1.2)
        ends = [1.0]
        for y, row in enumerate(rows):
            if row.missing:
                axes.text(1.0, y, f"  {row.missing}", va="center", fontsize=10)
            if row.ratio is None or row.low is None or row.high is None:
                continue
            low, high = max(row.low, 1 / RATIO_LIMIT), min(row.high, RATIO_LIMIT)
            ratio = min(max(row.ratio, 1 / RATIO_LIMIT), RATIO_LIMIT)
            ends += [low, high, ratio]
            colour = PALETTE[0] if row.decided else IDLE
            axes.plot([low, high], [y, y], color=colour, linewidth=3, solid_capstyle="butt")
            face = colour if row.filled else theme.card
            axes.plot([ratio], [y], "o", color=colour, mfc=face, markersize=7, mew=1.8)
        ratio_axis(axes, min(ends), max(ends))
        texts = [f"{row.label}\n{row.numbers}" if row.numbers else row.label for row in rows]
        axes.set_yticks(range(len(rows)), texts, linespacing=1.15)
        for label, row in zip(axes.get_yticklabels(), rows, strict=True):
            if not row.numbers and not row.missing:
                label.set_fontweight("bold")
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("ratio of energies")
        _title_above(figure, titled(emulated, f"ratios, {rail}"))

    label = f"Ratios of energy per inference on {rail} with 95 % intervals and a line at 1"
    return Drawing(name, label, caption, 4.2, 1.0 + 0.42 * len(rows), emulated, draw)


@dataclass(frozen=True)
class EnergyGroup:
    """Energies per inference of one arm: one value a block, and their mean with its interval."""

    arm: str
    values_j: tuple[float, ...]
    mean: Interval


def energies(
    name: str,
    rail: str,
    panels: Mapping[str, Sequence[EnergyGroup]],
    arms: Sequence[str],
    caption: str,
    *,
    emulated: bool,
) -> Drawing:
    """Energy per inference, one panel a quantity; every block's point, mean, interval; from 0."""

    def draw(figure: Figure, theme: Theme) -> None:
        all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (quantity, groups) in zip(all_axes, panels.items(), strict=True):
            _energy_panel(axes, quantity, groups, arms, theme)
        _title_above(figure, titled(emulated, f"every block, {rail}"))

    label = f"Energy per inference of {', '.join(arms)} on {rail}, every block a point"
    return Drawing(name, label, caption, 4.2, 2.9, emulated, draw)


def _energy_panel(
    axes: Axes, quantity: str, groups: Sequence[EnergyGroup], arms: Sequence[str], theme: Theme
) -> None:
    factor, prefix = si_scale(max(abs(group.mean.centre) for group in groups))
    axes.axhline(0.0, color=theme.ink, linewidth=1.2)
    ends = [0.0]
    for x, group in enumerate(groups):
        colour, marker = arm_style(arms, group.arm)
        points = [value * factor for value in group.values_j]
        places = x + np.linspace(-0.32, 0.02, len(points))
        axes.plot(places, points, marker, color=colour, alpha=0.6, markersize=3.5, mew=0)
        low, mid, high = (v * factor for v in (group.mean.low, group.mean.centre, group.mean.high))
        axes.errorbar(
            [x + 0.22],
            [mid],
            [[mid - low], [high - mid]],
            fmt=marker,
            color=colour,
            capsize=4,
            markersize=6,
            elinewidth=2,
            capthick=2,
        )
        ends += [*points, low, high]
    top = max(ends)
    for x, group in enumerate(groups):
        highest = factor * max(*group.values_j, group.mean.high, 0.0)
        text = f"{group.mean.centre * factor:.3g}"
        axes.text(x, highest + 0.03 * top, text, ha="center", fontsize=10)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(1.05 * min(ends) if min(ends) < 0 else 0.0, 1.17 * top if top > 0 else 1.0)
    axes.set_xticks(range(len(groups)), [group.arm for group in groups])
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylabel(f"{quantity} ({prefix}J per inference)")


def arm_style(arms: Sequence[str], arm: str) -> tuple[str, str]:
    """Colour and marker of an arm, the same in every figure."""
    i = list(arms).index(arm)
    return PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]


@dataclass(frozen=True)
class ArmPoint:
    """An arm in the energy and accuracy plane; intervals at 95 %."""

    arm: str
    accuracy: Interval
    energy_j: Interval


def energy_accuracy(
    name: str,
    rail: str,
    quantity: str,
    points: Sequence[ArmPoint],
    arms: Sequence[str],
    caption: str,
    *,
    emulated: bool,
) -> Drawing:
    """Energy per inference against accuracy, both with intervals; energy from 0."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.add_subplot()
        factor, prefix = si_scale(max(abs(point.energy_j.centre) for point in points))
        top = 0.0
        for point in points:
            colour, marker = arm_style(arms, point.arm)
            x, y = point.accuracy, point.energy_j
            axes.errorbar(
                [100 * x.centre],
                [factor * y.centre],
                [[factor * (y.centre - y.low)], [factor * (y.high - y.centre)]],
                [[100 * (x.centre - x.low)], [100 * (x.high - x.centre)]],
                fmt=marker,
                color=colour,
                capsize=4,
                markersize=7,
                elinewidth=1.6,
                label=point.arm,
            )
            top = max(top, factor * y.high)
        axes.set_ylim(min(0.0, *(factor * p.energy_j.low for p in points)), 1.15 * top)
        axes.set_xlabel("accuracy (%)")
        axes.set_ylabel(f"{quantity} ({prefix}J per inference)")
        legend_in_a_line(axes, columns=4)
        axes.set_title(titled(emulated, f"energy and accuracy, {rail}"))

    label = f"Energy per inference on {rail} against accuracy, one point an arm"
    return Drawing(name, label, caption, 4.2, 2.8, emulated, draw)


@dataclass(frozen=True)
class ClockPoint:
    """An arm at one clock: what of an inference's energy is dynamic and what is static."""

    arm: str
    clock_hz: float
    dynamic_j: Interval
    static_j: Interval


def energy_clock(
    name: str,
    rail: str,
    points: Sequence[ClockPoint],
    arms: Sequence[str],
    caption: str,
    *,
    emulated: bool,
) -> Drawing:
    """Dynamic and static energy per inference against the clock, from 0."""

    def draw(figure: Figure, theme: Theme) -> None:
        panels = figure.subplots(1, 2)
        for axes, quantity in zip(panels, ("dynamic", "static"), strict=True):
            found = [(p, p.dynamic_j if quantity == "dynamic" else p.static_j) for p in points]
            factor, prefix = si_scale(max(abs(energy.centre) for _, energy in found))
            axes.axhline(0.0, color=theme.ink, linewidth=1.2)
            for arm in arms:
                own = [(p.clock_hz * 1e-6, e) for p, e in found if p.arm == arm]
                if not own:
                    continue
                colour, marker = arm_style(arms, arm)
                mids = [factor * e.centre for _, e in own]
                ends = [
                    [factor * (e.centre - e.low) for _, e in own],
                    [factor * (e.high - e.centre) for _, e in own],
                ]
                clocks_mhz = [mhz for mhz, _ in own]
                axes.errorbar(
                    clocks_mhz, mids, ends, fmt=f"{marker}-", color=colour, capsize=4, label=arm
                )
            low = factor * min(0.0, *(e.low for _, e in found))
            axes.set_ylim(low, 1.08 * factor * max(e.high for _, e in found))
            axes.set_ylabel(f"{quantity} ({prefix}J per inference)")
            axes.set_xlabel("clock (MHz)")
        # energies are far from 0 here, where the axes begin
        panels[0].legend(loc="lower left", ncols=1, borderpad=0.4, handletextpad=0.3)
        _title_above(figure, titled(emulated, f"energy and clock, {rail}"))

    label = f"Dynamic and static energy per inference on {rail} against the clock"
    return Drawing(name, label, caption, 4.2, 2.9, emulated, draw)
