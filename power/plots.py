"""The report's figures: inline SVG, the same bytes for the same comparison.

Widths suit a phone: a figure is about 360 units wide with letters of 10 to 12.
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bacmac.host.runtime.results import Window
from bacmac.power.compare import Comparison
from bacmac.power.drawing import (
    GUARD,
    IDLE,
    PAGE,
    RATIO_LIMIT,
    RUN,
    legend_in_a_line,
    new_figure,
    page_svg,
    ratio_axis,
)
from bacmac.power.runs import ArmName, RunRecord
from bacmac.power.statistics import RatioEstimate
from bacmac.power.units import si_scale

COLOURS: dict[str, str] = {"bac": "#0f8bb3", "mac": "#d1691e"}
"""Readable on white and on near black, and apart for colour-blind eyes (blue and orange)."""


def ratio_figure(comparison: Comparison) -> str:
    """Forest plot: the ratio of every rail, dynamic and total, with a line at 1."""
    rows: list[tuple[str, RatioEstimate | None, bool]] = []
    for rail in comparison.rails:
        rows.append((f"{rail.info.name}, dynamic", rail.dynamic, True))
        rows.append((f"{rail.info.name}, total", rail.total, False))
    with mpl.rc_context(PAGE.style):
        figure, axes = _figure(4.2, 1.25 + 0.52 * len(rows))
        axes.axvline(1.0, color=PAGE.ink, linewidth=1.2)
        ends = [1.0]
        for y, (_, ratio, is_dynamic) in enumerate(rows):
            if ratio is None:
                axes.text(1.0, y, "  no ratio: not above zero", va="center", fontsize=10)
                continue
            low = min(max(ratio.low, 1 / RATIO_LIMIT), RATIO_LIMIT)
            high = min(max(ratio.high, 1 / RATIO_LIMIT), RATIO_LIMIT)
            ends += [low, high]
            decided = ratio.verdict != "not resolvable"
            colour = COLOURS["bac"] if decided else IDLE
            axes.plot([low, high], [y, y], color=colour, linewidth=3, solid_capstyle="butt")
            face = colour if is_dynamic else PAGE.card
            axes.plot(
                [ratio.ratio], [y], "o", color=colour, markerfacecolor=face, markersize=7, mew=1.8
            )
        ratio_axis(axes, min(ends), max(ends))
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("E_MAC / E_BAC   (right of 1: BAC takes less)")
        axes.set_title(_title(comparison, "ratio of energies"))
        return page_svg(figure, "ratio", "Energy of MAC over energy of BAC for every rail")


def trace_figure(comparison: Comparison, arm: ArmName) -> str:
    """Power of the headline's rail over the first run of an arm, its windows shaded."""
    rail = comparison.primary
    records = {name: _first(comparison, name) for name in ("bac", "mac")}
    low = min(float(r.trace.rails[rail].power_w.min()) for r in records.values())
    high = max(float(r.trace.rails[rail].power_w.max()) for r in records.values())
    record = records[arm]
    trace = record.trace.rails[rail]
    start = record.before.start_ns
    seconds = (trace.times_ns - start) * 1e-9
    with mpl.rc_context(PAGE.style):
        figure, axes = _figure(4.2, 2.75)
        guards = (
            Window(record.run.start_ns, record.used.start_ns),
            Window(record.run.end_ns, record.after.start_ns),
        )
        for window, colour in (
            (record.before, IDLE),
            (record.after, IDLE),
            (record.used, RUN),
            *((guard, GUARD) for guard in guards),
        ):
            begin, end = ((t - start) * 1e-9 for t in (window.start_ns, window.end_ns))
            axes.axvspan(begin, end, color=colour, alpha=0.28, linewidth=0)
        axes.plot(seconds, trace.power_w, ".-", color=COLOURS[arm], linewidth=0.5, markersize=1.6)
        power = next(
            r.power
            for result in comparison.rails
            if result.info.name == rail
            for r in result.runs
            if r.arm == arm and r.block == record.block
        )
        for window, watts in (
            (record.before, power.before.mean_w),
            (record.used, power.run.mean_w),
            (record.after, power.after.mean_w),
        ):
            span = [(t - start) * 1e-9 for t in (window.start_ns, window.end_ns)]
            axes.plot(span, [watts, watts], color=PAGE.ink, linewidth=1.8)
        margin = 0.06 * (high - low) or 0.01
        axes.set_ylim(low - margin, high + margin)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("time (s)")
        axes.set_ylabel(f"{rail}, V x I (W)")
        axes.set_title(_title(comparison, f"{arm.upper()}, block {record.block + 1}"))
        return page_svg(figure, f"trace-{arm}", f"Power of {rail} during a run of {arm.upper()}")


def blocks_figure(comparison: Comparison) -> str:
    """Ratio of every block of the headline's rail, coloured by the order of the arms."""
    rail = comparison.primary_result
    ratio, kind = (rail.dynamic, "dynamic") if rail.dynamic else (rail.total, "total")
    values = np.exp(ratio.log_ratios)
    bac_first = [order[0] == "bac" for order in comparison.orders]
    with mpl.rc_context(PAGE.style):
        figure, axes = _figure(4.2, 2.95)
        axes.axhline(1.0, color=PAGE.ink, linewidth=1.2)
        axes.axhspan(ratio.low, ratio.high, color=IDLE, alpha=0.25, linewidth=0)
        axes.axhline(ratio.ratio, color=IDLE, linewidth=1.4)
        for first, colour, label, marker in (
            (True, COLOURS["bac"], "BAC first", "o"),
            (False, COLOURS["mac"], "MAC first", "s"),
        ):
            chosen = [i for i, is_first in enumerate(bac_first) if is_first == first]
            x = [i + 1 for i in chosen]
            axes.plot(x, values[chosen], marker, color=colour, label=label, markersize=6)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("block, in the order they were run")
        axes.set_ylabel("E_MAC / E_BAC")
        legend_in_a_line(axes)
        axes.set_title(_title(comparison, f"{kind} energy on {rail.info.name}"))
        return page_svg(figure, "blocks", "Ratio of every block")


def drift_figure(comparison: Comparison) -> str:
    """Idle power of the headline's rail around every run, over the whole comparison."""
    rail = comparison.primary_result
    start = comparison.records[0].before.start_ns
    with mpl.rc_context(PAGE.style):
        figure, axes = _figure(4.2, 2.95)
        for name, marker in (("bac", "o"), ("mac", "s")):
            minutes, watts = [], []
            for record, run in zip(comparison.records, rail.runs, strict=True):
                if record.arm == name:
                    minutes.append((record.run.start_ns - start) / 60e9)
                    watts.append(run.power.idle_w)
            label = f"{name.upper()} loaded"
            axes.plot(minutes, watts, marker, color=COLOURS[name], label=label, markersize=5)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("time (min)")
        axes.set_ylabel(f"{rail.info.name}, idle (W)")
        legend_in_a_line(axes)
        axes.set_title(_title(comparison, "idle power of every run"))
        return page_svg(figure, "drift", "Idle power around every run")


def energy_figure(comparison: Comparison) -> str:
    """Dynamic energy per inference of every run, with mean and interval, from zero."""
    rail = comparison.primary_result
    arms = (("bac", rail.bac), ("mac", rail.mac))
    factor, prefix = si_scale(max(abs(arm.dynamic_j.centre) for _, arm in arms))
    with mpl.rc_context(PAGE.style):
        figure, axes = _figure(4.2, 2.95)
        axes.axhline(0.0, color=PAGE.ink, linewidth=1.2)
        tops = [0.0]
        for x, (name, arm) in enumerate(arms):
            points = [r.energy.dynamic_j * factor for r in rail.runs if r.arm == name]
            spread = np.linspace(-0.28, -0.06, len(points))
            axes.plot(x + spread, points, "o", color=COLOURS[name], alpha=0.65, markersize=4.5)
            low, mid, high = (
                v * factor for v in (arm.dynamic_j.low, arm.dynamic_j.centre, arm.dynamic_j.high)
            )
            axes.errorbar(
                [x + 0.14],
                [mid],
                [[mid - low], [high - mid]],
                fmt="o",
                color=COLOURS[name],
                capsize=6,
                markersize=7,
                elinewidth=2,
                capthick=2,
            )
            axes.text(x + 0.23, mid, f"{mid:#.3g}", va="center", fontsize=11)
            tops += [*points, high]
        axes.set_xlim(-0.5, 1.6)
        axes.set_ylim(min(0.0, axes.get_ylim()[0]), max(tops) * 1.08)
        axes.set_xticks([0, 1], ["BAC", "MAC"])
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(f"dynamic ({prefix}J per inference)")
        axes.set_title(_title(comparison, f"every run, {rail.info.name}"))
        return page_svg(figure, "energy", "Dynamic energy per inference of both arms")


def _first(comparison: Comparison, arm: str) -> RunRecord:
    return next(record for record in comparison.records if record.arm == arm)


def _title(comparison: Comparison, text: str) -> str:
    return f"EMULATED: {text}" if comparison.emulated else text[0].upper() + text[1:]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, height)
    return figure, figure.add_subplot()
