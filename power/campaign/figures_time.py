"""Figures of a campaign over time: power during runs, and ratios and drift block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from bacmac.power.campaign.figures import PALETTE, Drawing, arm_style, titled
from bacmac.power.drawing import GUARD, IDLE, RUN, Theme, legend_in_a_line


@dataclass(frozen=True)
class TraceSpan:
    """A window of a trace: its name, edges in s, and mean power where it is used."""

    kind: str
    start_s: float
    end_s: float
    mean_w: float | None = None


@dataclass(frozen=True, eq=False)
class TraceView:
    """One rail during one run: every sample, and its windows."""

    arm: str
    seconds: npt.NDArray[np.float64]
    power_w: npt.NDArray[np.float64]
    spans: tuple[TraceSpan, ...]


SPAN_COLOURS = {"idle": IDLE, "guard": GUARD, "run": RUN}


def traces(
    name: str,
    rail: str,
    views: Sequence[TraceView],
    arms: Sequence[str],
    caption: str,
    *,
    emulated: bool,
) -> Drawing:
    """Power of a rail during one run of each arm, on one scale, windows shaded."""

    def draw(figure: Figure, theme: Theme) -> None:
        all_axes = figure.subplots(len(views), 1, sharex=True, squeeze=False)[:, 0]
        low = min(float(view.power_w.min()) for view in views)
        high = max(float(view.power_w.max()) for view in views)
        margin = 0.06 * (high - low) or 0.01
        for axes, view in zip(all_axes, views, strict=True):
            colour, _ = arm_style(arms, view.arm)
            for span in view.spans:
                shade = SPAN_COLOURS[span.kind]
                axes.axvspan(span.start_s, span.end_s, color=shade, alpha=0.28, linewidth=0)
                if span.mean_w is not None:
                    edges = [span.start_s, span.end_s]
                    axes.plot(edges, [span.mean_w] * 2, color=theme.ink, linewidth=1.8, zorder=4)
            axes.plot(view.seconds, view.power_w, color=colour, linewidth=0.4, alpha=0.6)
            axes.add_patch(_dots(view.seconds, view.power_w, colour))
            # room above for the windows' names: colour is never alone
            axes.set_ylim(low - margin, high + 4.5 * margin)
            for span in view.spans:
                if span.kind != "guard":
                    middle = (span.start_s + span.end_s) / 2
                    axes.text(middle, high + 1.6 * margin, span.kind, ha="center", fontsize=10)
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.set_ylabel(f"{view.arm} (W)")
        all_axes[-1].set_xlabel("time (s)")
        all_axes[0].set_title(titled(emulated, f"{rail}, V x I"))

    label = f"Power of {rail} over time during a run of each arm"
    return Drawing(name, label, caption, 4.2, 0.8 + 1.25 * len(views), emulated, draw)


def _dots(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], colour: str) -> PathPatch:
    """A dot for every sample in one path: a tenth of the file that as many marks make."""
    points = np.repeat(np.column_stack((x, y)), 2, axis=0)
    path = Path(points, np.tile([Path.MOVETO, Path.LINETO], len(x)))
    path.should_simplify = False  # or dots are dropped as lines without a length
    return PathPatch(path, fill=False, edgecolor=colour, linewidth=1.7, capstyle="round")


@dataclass(frozen=True)
class BlockPoint:
    """A block in the block plot: its number from 1, its log ratio, and which arm ran first."""

    block: int
    log_ratio: float | None
    numerator_first: bool
    repeated: bool


@dataclass(frozen=True)
class RunPoint:
    """A run beside it: idle power around it, and the die's temperature before it, if known."""

    block: int
    arm: str
    idle_w: float
    die_c: float | None


@dataclass(frozen=True)
class BlockPlot:
    """What one block plot shows: a pair's log ratios of one quantity, and what drifted below."""

    pair: tuple[str, str]
    quantity: str
    rail: str
    points: tuple[BlockPoint, ...]
    runs: tuple[RunPoint, ...]
    centre: float | None
    low: float | None
    high: float | None


def blocks(
    name: str, plot: BlockPlot, arms: Sequence[str], caption: str, *, emulated: bool
) -> Drawing:
    """Log ratio by block, coloured by order; idle power and temperature below."""
    numerator, denominator = plot.pair
    warm = any(run.die_c is not None for run in plot.runs)

    def draw(figure: Figure, theme: Theme) -> None:
        heights = [2.0, 1.0, 1.0][: 3 if warm else 2]
        panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        _log_ratio_panel(panels[0], plot, theme)
        panels[0].set_title(
            titled(emulated, f"{numerator} / {denominator}, {plot.quantity}, {plot.rail}")
        )
        _run_panel(panels[1], plot.runs, arms, "idle (W)", lambda run: run.idle_w)
        if warm:
            _run_panel(panels[2], plot.runs, arms, "die (°C)", lambda run: run.die_c)
        panels[-1].set_xlabel("block, in the order of the plan")
        panels[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
        figure.align_ylabels(list(panels))

    label = f"Log ratio of {numerator} over {denominator} in every block, with idle power"
    return Drawing(name, label, caption, 4.2, 4.5 if warm else 3.7, emulated, draw)


def _log_ratio_panel(axes: Axes, plot: BlockPlot, theme: Theme) -> None:
    numerator, denominator = plot.pair
    if plot.centre is not None and plot.low is not None and plot.high is not None:
        axes.axhspan(plot.low, plot.high, color=IDLE, alpha=0.25, linewidth=0)
        axes.axhline(plot.centre, color=IDLE, linewidth=1.4)
    for first, colour, marker in ((True, PALETTE[1], "s"), (False, PALETTE[0], "o")):
        chosen = [
            (point.block, point.log_ratio)
            for point in plot.points
            if point.numerator_first == first and point.log_ratio is not None
        ]
        name = numerator if first else denominator
        x, y = [block for block, _ in chosen], [value for _, value in chosen]
        axes.plot(x, y, marker, color=colour, markersize=6, label=f"{name} first")
    low, high = axes.get_ylim()
    if low < 0 < high:
        axes.axhline(0.0, color=theme.ink, linewidth=1.2, zorder=0)
    legend_in_a_line(axes)
    again = [point.block for point in plot.points if point.repeated]
    axes.plot(
        again,
        [0.02] * len(again),
        "^",
        color=theme.ink,
        markersize=4,
        transform=axes.get_xaxis_transform(),
    )
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylabel(f"ln({numerator} / {denominator})")


def _run_panel(
    axes: Axes,
    runs: Sequence[RunPoint],
    arms: Sequence[str],
    label: str,
    value: Callable[[RunPoint], float | None],
) -> None:
    for arm in arms:
        found = [(run.block, value(run)) for run in runs if run.arm == arm]
        known = [(block, v) for block, v in found if v is not None]
        if known:
            colour, marker = arm_style(arms, arm)
            x, y = zip(*known, strict=True)
            axes.plot(x, y, marker, color=colour, markersize=4, label=arm)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.set_ylabel(label)
    legend_in_a_line(axes, columns=4)
