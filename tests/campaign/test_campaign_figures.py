"""Axes of energies begin at zero, every block is drawn, and colour is never alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bacmac.power.campaign.figures import (
    MARKERS,
    PALETTE,
    ArmPoint,
    ClockPoint,
    Drawing,
    EnergyGroup,
    ForestRow,
    energies,
    energy_accuracy,
    energy_clock,
    forest,
)
from bacmac.power.campaign.figures_time import (
    BlockPlot,
    BlockPoint,
    RunPoint,
    TraceSpan,
    TraceView,
    blocks,
    traces,
)
from bacmac.power.campaign.report_figures import die_temperature, wilson
from bacmac.power.drawing import PAGE, PAPER, page_svg, paper_pdf, paper_svg
from bacmac.power.statistics import Interval

ARMS = ("bac", "mac4", "mac8")


def drawn(drawing: Drawing) -> Figure:
    with mpl.rc_context(PAPER.style):
        return drawing.figure(PAPER)


def groups(values: Sequence[float]) -> list[EnergyGroup]:
    return [EnergyGroup(arm, tuple(values), Interval(2e-6, 1.9e-6, 2.1e-6)) for arm in ARMS]


def marks(axes: Axes) -> int:
    """Points drawn as small marks without an edge."""
    return sum(len(line.get_xdata()) for line in axes.lines if line.get_markersize() == 3.5)


@pytest.mark.parametrize("values", [[2e-6, 2.1e-6, 1.9e-6], [1e-7, -3e-6, 2e-6], [-1e-6] * 3])
def test_energy_axes_hold_zero_and_every_blocks_point(values: list[float]) -> None:
    panels = {"dynamic": groups(values), "total": groups([40e-6, 41e-6])}
    figure = drawn(energies("e", "12V", panels, ARMS, "", emulated=False))

    dynamic, total = figure.axes
    for axes in (dynamic, total):
        low, high = axes.get_ylim()
        assert low <= 0 < high
    assert dynamic.get_ylim()[0] <= min(values) * 1e6
    assert dynamic.get_ylim()[1] >= max(values) * 1e6
    assert total.get_ylim()[0] == 0
    assert (marks(dynamic), marks(total)) == (9, 6)


def test_a_forest_holds_the_line_at_one_and_draws_beyond_its_limit_at_it() -> None:
    rows = [
        ForestRow("batch 16"),
        ForestRow("a / b", 1.3, 1.2, 1.4, decided=True, numbers="1.300 (1.200 to 1.400)"),
        ForestRow("a / c", 2.0, 1e-30, 1e30, numbers="2.000 (0.000 to 1e30)"),
        ForestRow("b / c", missing="no ratio: not above zero"),
    ]
    (axes,) = drawn(forest("f", "12V", rows, "", emulated=False)).axes

    low, high = axes.get_xlim()
    assert low < 1 < high < 100
    assert 1.0 in axes.get_xticks()
    assert "1.300 (1.200 to 1.400)" in axes.get_yticklabels()[1].get_text()
    assert "no ratio: not above zero" in axes.texts[0].get_text()


def test_orders_of_blocks_differ_in_colour_and_in_shape() -> None:
    points = tuple(BlockPoint(i + 1, 0.2 + 0.01 * i, i % 2 == 0, i == 2) for i in range(6))
    runs = tuple(RunPoint(i + 1, arm, 13.8, None) for i in range(6) for arm in ("bac", "mac8"))
    ends = (0.22, 0.2, 0.24)
    plot = BlockPlot(("mac8", "bac"), "dynamic", "12V", points, runs, *ends)

    figure = drawn(blocks("b", plot, ARMS, "", emulated=False))

    assert len(figure.axes) == 2  # no temperature was read: no empty panel
    lines = [line for line in figure.axes[0].lines if line.get_label().endswith("first")]
    assert [len(line.get_xdata()) for line in lines] == [3, 3]
    assert lines[0].get_color() != lines[1].get_color()
    assert lines[0].get_marker() != lines[1].get_marker()
    warm = blocks(
        "b",
        BlockPlot(
            plot.pair,
            "total",
            "12V",
            points,
            tuple(RunPoint(1, "bac", 1.0, 40.0) for _ in "ab"),
            *ends,
        ),
        ARMS,
        "",
        emulated=False,
    )
    assert len(drawn(warm).axes) == 3


def test_a_trace_draws_every_sample_and_shades_every_window() -> None:
    seconds = np.arange(0, 22, 0.02)
    spans = (
        TraceSpan("idle", 0, 5, 13.8),
        TraceSpan("guard", 6, 6.5),
        TraceSpan("run", 6.5, 16, 14.3),
        TraceSpan("idle", 17, 22, 13.8),
    )
    views = [TraceView(arm, seconds, 13.8 + 0.01 * np.sin(seconds), spans) for arm in ARMS]

    figure = drawn(traces("t", "12V", views, ARMS, "", emulated=False))

    assert len(figure.axes) == 3
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    for axes in figure.axes:
        # shaded windows, and one path with a dot for every sample
        dots = [patch for patch in axes.patches if len(patch.get_path().vertices) == 2200]
        assert len(dots) == 1
        assert len(axes.patches) == 5
        assert [text.get_text() for text in axes.texts] == ["idle", "run", "idle"]


def test_energy_and_accuracy_begin_at_zero_energy() -> None:
    points = [ArmPoint(arm, wilson(95, 100), Interval(2e-6, 1.9e-6, 2.1e-6)) for arm in ARMS]
    (axes,) = drawn(energy_accuracy("a", "12V", "dynamic", points, ARMS, "", emulated=False)).axes

    assert axes.get_ylim()[0] == 0
    assert axes.get_xlim()[0] < 95 < axes.get_xlim()[1]


def test_energy_against_the_clock_begins_at_zero_and_tells_both_parts() -> None:
    energy = Interval(2e-6, 1.9e-6, 2.1e-6)
    points = [ClockPoint(arm, hz, energy, energy) for arm in ARMS for hz in (1e8, 2e8)]
    figure = drawn(energy_clock("c", "12V", points, ARMS, "", emulated=False))

    assert [axes.get_ylabel().split()[0] for axes in figure.axes] == ["dynamic", "static"]
    for axes in figure.axes:
        assert axes.get_ylim()[0] == 0
        assert len(axes.containers) == 3
        assert axes.get_xlim()[0] < 100 < 200 < axes.get_xlim()[1]


def test_emulated_goes_across_the_figure_and_into_its_title() -> None:
    rows = [ForestRow("a / b", 1.3, 1.2, 1.4, numbers="1.3")]
    plain, emulated = (
        drawn(forest("f", "12V", rows, "", emulated=emulated)) for emulated in (False, True)
    )

    assert [text.get_text() for text in plain.texts] == ["Ratios, 12V"]
    assert [text.get_text() for text in emulated.texts] == ["EMULATED: ratios, 12V", "EMULATED"]
    assert emulated.texts[1].get_fontsize() >= 40
    tall = drawn(forest("f", "12V", rows * 25, "", emulated=True))
    assert [text.get_text() for text in tall.texts].count("EMULATED") == 3


def test_letters_of_a_page_are_not_rounded_with_its_paths() -> None:
    rows = [ForestRow("a / b", 1.3, 1.2, 1.4, numbers="1.00004 (0.99996 to 1.00012)")]
    drawing = forest("f", "12V", rows, "", emulated=True)

    svg = drawing.render(PAGE, lambda figure: page_svg(figure, "f", 'a "label" & more'))

    assert "1.00004 (0.99996 to 1.00012)" in svg
    assert not [path for path in svg.split(' d="')[1:] if "." in path and _long(path)]
    assert 'aria-label="a &quot;label&quot; &amp; more"' in svg


def _long(path: str) -> bool:
    numbers = path[: path.index('"')].split()
    return any(len(number.partition(".")[2]) > 2 for number in numbers)


def test_a_figure_has_the_same_bytes_twice_and_no_date() -> None:
    drawing = forest("f", "12V", [ForestRow("a", 1.3, 1.2, 1.4, numbers="1.3")], "", emulated=True)

    for write in (paper_svg, paper_pdf):
        first, second = (drawing.render(PAPER, write) for _ in range(2))
        assert first == second
        assert b"Date" not in first
    assert b"/Type3" not in drawing.render(PAPER, paper_pdf)


def test_arms_differ_in_shape_as_well_as_in_colour() -> None:
    assert len(set(PALETTE)) == len(PALETTE) == len(set(MARKERS)) == len(MARKERS)


@pytest.mark.parametrize("ground", ["#ffffff", "#f4f6f8", "#12161b", "#1b2128"])
def test_colours_stand_out_on_light_and_dark_grounds(ground: str) -> None:
    """Contrast of 3 to 1 and more, as WCAG 2.1 asks of graphics (success criterion 1.4.11)."""
    for colour in PALETTE:
        light, dark = sorted((_luminance(colour), _luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3.0, colour


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_logics_temperature_is_taken_where_it_is_known() -> None:
    assert die_temperature({"fpd": 50.0, "pl": 41.0}) == 41.0
    assert die_temperature({"lpd": 39.0, "fpd": 50.0}) == 50.0
    assert die_temperature({}) is None


def test_wilsons_interval_stays_within_a_share() -> None:
    for n_right, n in ((0, 10), (10, 10), (97, 100)):
        found = wilson(n_right, n)
        assert 0 <= found.low <= found.centre <= found.high <= 1
    assert math.isclose(wilson(0, 10).high, 0.2775, abs_tol=1e-4)
