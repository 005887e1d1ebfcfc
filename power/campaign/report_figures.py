"""Which figures a campaign's report has, and what each of them shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bacmac.host.runtime.results import Window
from bacmac.power.campaign.figures import (
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
from bacmac.power.campaign.plan import Cell
from bacmac.power.campaign.result import (
    ArmEnergy,
    CampaignResult,
    Figure,
    PairRatio,
    RailResult,
    RunSummary,
)
from bacmac.power.campaign.run import CampaignRun
from bacmac.power.campaign.stored import StoredPlan
from bacmac.power.campaign.words import cell_text, interval_text, pair_text
from bacmac.power.energy import window_power
from bacmac.power.sampler import RailTrace
from bacmac.power.statistics import COVERAGE_FACTOR, Interval

MAX_OTHER_RAILS = 24
"""Energy figures of rails beside the headline's; a report of more has their numbers only."""
Accuracy = Mapping[str, tuple[int, int]]
"""Images right, and images, of each arm."""


def forest_drawings(plan: StoredPlan, result: CampaignResult) -> tuple[Drawing, ...]:
    """A forest plot for each rail, the headline's first, and one of the A/A check."""
    drawings = [
        forest(
            f"forest-{_file_word(rail)}",
            rail,
            _forest_rows(plan, [r for r in result.ratios if r.rail == rail]),
            f"Ratio of energies per inference, numerator over denominator; right of the line at 1 "
            "the denominator takes less. Filled: dynamic energy, above idle; hollow: all energy of "
            f"the rail. Lines: 95 % intervals, sensor step included; grey: not resolvable; "
            "†: limited by the sensor's step. "
            f"{_counts(result)} {_sensor(result, rail)}",
            emulated=result.emulated,
        )
        for rail in rail_names(result)
    ]
    if result.aa:
        checks = [r for r in result.aa if r.rail == result.headline_rail]
        drawings.append(
            forest(
                "forest-aa",
                f"A/A, {result.headline_rail}",
                _forest_rows(plan, checks),
                "The first arm against itself: the truth is 1, and an interval that leaves it out "
                "puts the whole chain in doubt.",
                emulated=result.emulated,
            )
        )
    return tuple(drawings)


def rail_names(result: CampaignResult) -> tuple[str, ...]:
    """Every rail once, the headline's first."""
    names = dict.fromkeys(rail.info.name for rail in result.rails)
    return tuple(sorted(names, key=lambda name: name != result.headline_rail))


def _forest_rows(plan: StoredPlan, ratios: Sequence[PairRatio]) -> list[ForestRow]:
    rows: list[ForestRow] = []
    for cell in plan.cells:
        own = [r for r in ratios if r.cell == cell.index]
        if own:
            rows.append(ForestRow(cell_text(cell)))
        rows += [_forest_row(ratio) for ratio in own]
    return rows


def _forest_row(ratio: PairRatio) -> ForestRow:
    e, label = ratio.estimate, f"{pair_text(ratio)}, {ratio.quantity}"
    if e is None:
        return ForestRow(label, missing="no ratio: not above zero")
    limited = " †" if e.resolution_limited else ""
    return ForestRow(
        label,
        e.ratio,
        e.low,
        e.high,
        ratio.quantity == "dynamic",
        e.verdict != "not resolvable",
        interval_text(ratio) + limited,
    )


def energy_drawings(plan: StoredPlan, result: CampaignResult) -> tuple[Drawing, ...]:
    """Energies of every arm: on the headline's rail for each cell, then other rails if few."""
    rails = rail_names(result)
    others = rails[1:] if len(plan.cells) * len(rails[1:]) <= MAX_OTHER_RAILS else ()
    return tuple(
        _energy_drawing(plan, result, cell, rail)
        for rail in (*rails[:1], *others)
        for cell in plan.cells
        if any(e.cell == cell.index and e.rail == rail for e in result.energies)
    )


def _energy_drawing(plan: StoredPlan, result: CampaignResult, cell: Cell, rail: str) -> Drawing:
    arms = [arm.name for arm in plan.arms]
    own = {e.arm: e for e in result.energies if e.cell == cell.index and e.rail == rail}
    runs = [run for run in main_runs(result, cell.index) if rail in run.rails]
    panels = {
        "dynamic": [
            EnergyGroup(
                arm,
                tuple(r.rails[rail].energy.dynamic_j for r in runs if r.key.arm == arm),
                widened(own[arm].dynamic_j),
            )
            for arm in arms
            if arm in own
        ],
        "total": [
            EnergyGroup(
                arm,
                tuple(r.rails[rail].energy.total_j for r in runs if r.key.arm == arm),
                widened(own[arm].total_j),
            )
            for arm in arms
            if arm in own
        ],
    }
    caption = (
        f"{cell_text(cell)}. Small marks: every valid run, in the order of the blocks. Large: mean "
        "with 95 % interval over blocks, sensor step included; gain, shunt and offset are in the "
        f"table. Axes begin at 0. {_counts(result, cell.index)} {_sensor(result, rail)}"
    )
    name = f"energy-{_file_word(rail)}-cell{cell.index}"
    return energies(name, rail, panels, arms, caption, emulated=result.emulated)


def widened(figure: Figure) -> Interval:
    """Interval over blocks with the sensor's step in quadrature."""
    m = figure.mean
    half_width = math.hypot(m.half_width, COVERAGE_FACTOR * figure.type_b.step)
    return Interval(m.centre, m.centre - half_width, m.centre + half_width)


def main_runs(result: CampaignResult, cell: int) -> tuple[RunSummary, ...]:
    """Valid runs of a cell's main blocks."""
    return tuple(r for r in result.runs if r.key.cell == cell and r.key.stage == "main")


def block_drawings(plan: StoredPlan, result: CampaignResult) -> tuple[Drawing, ...]:
    """A block plot for each cell and pair on the headline's rail; total where dynamic has none."""
    chosen: dict[tuple[int, str, str], PairRatio] = {}
    for ratio in result.ratios:
        if ratio.rail == result.headline_rail and ratio.log_ratios:
            key = (ratio.cell, ratio.pair.numerator, ratio.pair.denominator)
            if key not in chosen or ratio.quantity == "dynamic":
                chosen[key] = ratio
    return tuple(_block_drawing(plan, result, ratio) for ratio in chosen.values())


def _block_drawing(plan: StoredPlan, result: CampaignResult, ratio: PairRatio) -> Drawing:
    arms = [arm.name for arm in plan.arms]
    pair = (ratio.pair.numerator, ratio.pair.denominator)
    runs = [r for r in main_runs(result, ratio.cell) if ratio.rail in r.rails]
    repeated = {run.key.block for run in runs if run.key.attempt > 0}
    columns = zip(
        ratio.blocks,
        ratio.log_ratios,
        ratio.numerator_positions,
        ratio.denominator_positions,
        strict=True,
    )
    points = tuple(
        BlockPoint(block + 1, value, n < d, block in repeated) for block, value, n, d in columns
    )
    own = [
        RunPoint(
            run.key.block + 1,
            run.key.arm,
            run.rails[ratio.rail].power.idle_w,
            die_temperature(run.die_c),
        )
        for run in runs
        if run.key.arm in pair
    ]
    e = ratio.estimate
    ends = (None, None, None) if e is None else tuple(map(math.log, (e.ratio, e.low, e.high)))
    plot = BlockPlot(pair, ratio.quantity, ratio.rail, points, tuple(own), *ends)
    p = "" if e is None or e.position_p is None else f" Effect of place: p = {e.position_p:.3f}."
    lag1 = None if e is None else e.log_mean.lag1
    alike = "" if lag1 is None else f" Correlation of neighbours: {lag1:+.2f}."
    caption = (
        f"{cell_text(plan.cells[ratio.cell])}, {pair_text(ratio)}. Each mark is a block, by which "
        "of the two arms ran first; band: 95 % interval of the mean. Triangles at the bottom: "
        "blocks that were repeated. Below: mean of the two idle windows around each run, and the "
        f"die before it, where that was read.{p}{alike}"
    )
    name = f"blocks-cell{ratio.cell}-{_file_word('-'.join(pair))}"
    return blocks(name, plot, arms, caption, emulated=result.emulated)


def die_temperature(die_c: Mapping[str, float]) -> float | None:
    """Of the programmable logic where it is read, else the hottest."""
    logic = [value for name, value in die_c.items() if name.upper().startswith("PL")]
    values = logic or list(die_c.values())
    return max(values) if values else None


def trace_drawings(
    plan: StoredPlan, result: CampaignResult, runs: Iterable[CampaignRun]
) -> tuple[Drawing, ...]:
    """Power of every rail over one run of each arm.

    Args:
        plan: of the campaign.
        result: of it.
        runs: of one block, in order.
    """
    shown = list(runs)
    if not shown:
        return ()
    key = shown[0].key
    origin = result.emulated or any(run.record.trace.emulated for run in shown)
    names = [name for name in rail_names(result) if name in shown[0].record.trace.rails]
    return tuple(
        traces(
            f"trace-{_file_word(rail)}",
            rail,
            [_trace_view(run, run.record.trace.rails[rail]) for run in shown],
            [arm.name for arm in plan.arms],
            f"{cell_text(plan.cells[key.cell])}, block {key.block + 1}, one run of each arm in the "
            "order in which they ran; every sample. Grey: idle, yellow: guard, left out, green: "
            f"run. Lines: means of the windows. {_sensor(result, rail)}",
            emulated=origin,
        )
        for rail in names
    )


def _trace_view(run: CampaignRun, trace: RailTrace) -> TraceView:
    record, start_ns = run.record, run.record.before.start_ns

    def span(kind: str, window: Window, *, mean: bool) -> TraceSpan:
        begin_s, end_s = ((t - start_ns) * 1e-9 for t in (window.start_ns, window.end_ns))
        return TraceSpan(kind, begin_s, end_s, window_power(trace, window).mean_w if mean else None)

    spans = (
        span("idle", record.before, mean=True),
        span("guard", Window(record.run.start_ns, record.used.start_ns), mean=False),
        span("run", record.used, mean=True),
        span("guard", Window(record.run.end_ns, record.after.start_ns), mean=False),
        span("idle", record.after, mean=True),
    )
    seconds = np.asarray((trace.times_ns - start_ns) * 1e-9, np.float64)
    return TraceView(record.arm, seconds, trace.power_w, spans)


def accuracy_drawings(
    plan: StoredPlan, result: CampaignResult, accuracy: Accuracy
) -> tuple[Drawing, ...]:
    """Dynamic energy on the headline's rail against accuracy, for each cell; () without labels."""
    arms = [arm.name for arm in plan.arms]
    drawings = []
    for cell in plan.cells:
        own = [
            e
            for e in result.energies
            if (e.cell, e.rail) == (cell.index, result.headline_rail) and e.arm in accuracy
        ]
        if not own:
            continue
        caption = (
            f"{cell_text(cell)}. Energy: mean with 95 % interval over blocks, from 0. Accuracy on "
            "the campaign's images with Wilson's 95 % interval; all arms saw the same images, so "
            "differences between arms are surer than these intervals show."
        )
        name = f"accuracy-cell{cell.index}"
        points = [_arm_point(energy, accuracy) for energy in own]
        drawings.append(
            energy_accuracy(
                name,
                result.headline_rail,
                "dynamic",
                points,
                arms,
                caption,
                emulated=result.emulated,
            )
        )
    return tuple(drawings)


def clock_drawings(plan: StoredPlan, result: CampaignResult) -> tuple[Drawing, ...]:
    """Energy against the clock that was read back, for each batch that ran at several."""
    drawings = []
    for batch in dict.fromkeys(cell.batch_images for cell in plan.cells):
        points = [
            ClockPoint(e.arm, _clock_hz(result, e), widened(e.dynamic_j), widened(e.static_j))
            for cell in plan.cells
            for e in result.energies
            if cell.batch_images == batch and (e.cell, e.rail) == (cell.index, result.headline_rail)
        ]
        points.sort(key=lambda point: point.clock_hz)
        if len({round(point.clock_hz, -3) for point in points}) < 2:
            continue
        caption = (
            f"Batch {batch}. Mean with 95 % interval over blocks, axes from 0. Static energy is "
            "idle power times the time of an inference, so it falls as the clock rises; clocks "
            f"are those read back. {_sensor(result, result.headline_rail)}"
        )
        drawings.append(
            energy_clock(
                f"clock-batch{batch}",
                result.headline_rail,
                points,
                [arm.name for arm in plan.arms],
                caption,
                emulated=result.emulated,
            )
        )
    return tuple(drawings)


def _clock_hz(result: CampaignResult, energy: ArmEnergy) -> float:
    found = [r.clock_hz for r in main_runs(result, energy.cell) if r.key.arm == energy.arm]
    return sum(found) / len(found)


def _arm_point(energy: ArmEnergy, accuracy: Accuracy) -> ArmPoint:
    return ArmPoint(energy.arm, wilson(*accuracy[energy.arm]), widened(energy.dynamic_j))


def wilson(n_right: int, n: int) -> Interval:
    """A share with its 95 % score interval.

    Source: Wilson, Journal of the American Statistical Association 22, 1927.

    >>> i = wilson(50, 100)
    >>> round(i.low, 4), round(i.high, 4)
    (0.4038, 0.5962)
    """
    z2, share = COVERAGE_FACTOR**2, n_right / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = COVERAGE_FACTOR / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Interval(share, min(middle - half, share), max(middle + half, share))


def _sensor(result: CampaignResult, rail: str) -> str:
    found: RailResult = next(r for r in result.rails if r.info.name == rail)
    info = found.info
    limited = " Limited by the sensor's step." if found.limited else ""
    return f"Sensor: {info.instrument}, step {info.quantum_w * 1e3:.3g} mW.{limited}"


def _counts(result: CampaignResult, cell: int | None = None) -> str:
    valid = sum(b.valid for b in result.blocks if b.stage == "main" and cell in (None, b.cell))
    again = {
        (run.key.cell, run.key.block)
        for run in result.runs
        if run.key.stage == "main" and run.key.attempt > 0 and cell in (None, run.key.cell)
    }
    return f"{valid} valid blocks, {len(again)} of them repeated."


def _file_word(name: str) -> str:
    """A name as part of a file's: letters, digits and hyphens."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name)
