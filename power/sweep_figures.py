"""The figures of a sweep: accuracy against each cost, inline SVG, the same bytes each time.

Rows are logarithmic in the error: 99.1 and 99.4 % are as far apart as 91 and 94 %.
"""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bacmac.power.drawing import PAGE, new_figure, page_svg
from bacmac.power.sweep import COSTS, CostName, Row, Sweep, error_ticks, option_of, option_text
from bacmac.power.units import si_scale

COLOURS = (
    *("#0f8bb3", "#d1691e", "#3f9b5f", "#a2559c", "#b58900"),
    *("#c0504d", "#5b7fd1", "#2aa198", "#8a6d4b"),
)
"""Readable on white and on near black; with the marks' shapes apart for colour-blind eyes."""
SHAPES = "os^DvPX<*"


def cost_figure(sweep: Sweep, name: CostName) -> str:
    """Accuracy of every network against a cost; numbers are those of the table."""
    pairs = [(cost, row) for row in sweep.rows if (cost := row.cost(name)) is not None]
    factor, label = _unit(name, [cost for cost, _ in pairs], sweep.rows[0].size.n_macs)
    points = [(cost * factor, row) for cost, row in pairs]
    least = 0.5 / sweep.reference.n_images
    with mpl.rc_context(PAGE.style):
        figure = new_figure(4.2, 3.6)
        axes = figure.add_subplot()
        by = coloured_by(sweep)
        groups = list(dict.fromkeys(option_text(option_of(row.options, by)) for row in sweep.rows))
        _error_axis(axes, sweep, least)
        axes.axhline(max(1 - sweep.reference.accuracy, least), color=PAGE.faint, ls="--", lw=1.2)
        for place, group in enumerate(groups):
            own = [p for p in points if option_text(option_of(p[1].options, by)) == group]
            _draw_group(axes, own, name, place, least)
            axes.plot([], [], SHAPES[place % 9], color=COLOURS[place % 9], label=group)
        _draw_front(axes, points, name, least)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(label)
        axes.set_ylabel("accuracy (%)")
        axes.margins(x=0.1)
        figure.legend(
            loc="outside upper left", ncols=4, columnspacing=1, handletextpad=0.2, borderpad=0.1
        )
        return page_svg(figure, f"cost-{name}", f"Accuracy against {COSTS[name]}")


def coloured_by(sweep: Sweep) -> str:
    """The option that colours tell apart."""
    return "scheme" if "scheme" in sweep.varied or not sweep.varied else sweep.varied[0]


def _unit(name: CostName, costs: list[float], n_macs: int) -> tuple[float, str]:
    """By what costs are multiplied, and the name of the axis."""
    if name == "bits":
        return 1.0, "bits stored per weight"
    if name == "products":
        return 100 / n_macs, f"products, % of {n_macs:,} an image"
    factor, prefix = si_scale(max(costs, default=1.0))
    return factor, f"ESTIMATED energy of products ({prefix}J an image)"


def _error_axis(axes: Axes, sweep: Sweep, least: float) -> None:
    errors = [max(1 - score.accuracy, least) for score in (r.score for r in sweep.rows)]
    errors.append(max(1 - sweep.reference.accuracy, least))
    low, high = min(errors) / 1.35, min(max(errors) * 1.25, 1.0)
    axes.set_yscale("log")
    axes.set_ylim(high, low)
    axes.yaxis.set_major_locator(FixedLocator(error_ticks(low, high, 13)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 * (1 - error):.6g}"))


def _draw_group(
    axes: Axes, points: list[tuple[float, Row]], name: CostName, place: int, least: float
) -> None:
    colour, shape = COLOURS[place % 9], SHAPES[place % 9]
    for cost, row in points:
        error, spread = 1 - row.score.accuracy, row.score.standard_error
        standing = row.standings[name].place
        faint = 0.45 if standing == "behind" else 1.0
        face = colour if standing == "front" else PAGE.card
        if standing != "behind":
            ends = [max(error - spread, least), max(error + spread, least)]
            axes.plot([cost, cost], ends, color=colour, lw=1, alpha=0.6)
        axes.plot(
            [cost],
            [max(error, least)],
            shape,
            color=colour,
            markerfacecolor=face,
            markersize=6.5,
            mew=1.5,
            alpha=faint,
        )


def _draw_front(axes: Axes, points: list[tuple[float, Row]], name: CostName, least: float) -> None:
    """Steps along the front, and the numbers of its points."""
    front = [(cost, row) for cost, row in points if row.standings[name].place == "front"]
    front.sort(key=lambda point: (point[0], -point[1].score.n_correct))
    costs = [cost for cost, _ in front]
    errors = [max(1 - row.score.accuracy, least) for _, row in front]
    axes.step(costs, errors, where="post", color=PAGE.faint, lw=1, zorder=0)
    numbers: dict[tuple[float, float], list[str]] = {}
    for cost, error, (_, row) in zip(costs, errors, front, strict=True):
        numbers.setdefault((cost, error), []).append(str(row.number))
    for place, words in numbers.items():
        axes.annotate(
            # nothing is cheaper and more accurate than the front: there is room there
            ", ".join(words),
            place,
            (-5, 4),
            textcoords="offset points",
            ha="right",
            fontsize=10,
            zorder=5,
        )
