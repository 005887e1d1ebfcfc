"""Runs of a campaign made from known powers: what analysis has to find again.

Used by tests and by tests/benchmarks/analysis_speed.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bacmac.host.runtime.results import Counters, Window
from bacmac.power.campaign.plan import Cell, Design, Pair, RunKey, Stage, block_keys
from bacmac.power.campaign.run import CampaignRun, Surroundings
from bacmac.power.rails import RailInfo
from bacmac.power.runs import RunRecord
from bacmac.power.sampler import PowerTrace, RailTrace

START_NS = 3 * 86_400 * 10**9
IMAGES = 20_000
FINE = RailInfo("12V", 12.0, "INA226", 35_200_000, 0.001, 0.025, 0.001, 0.002, "the whole board")
COARSE = RailInfo("INT", 0.85, "IRPS5401", 8_800_000, 0.125, 0.25)


@dataclass(frozen=True)
class Arm:
    name: str


@dataclass(frozen=True)
class Plan:
    """What analysis needs of a plan, and no network."""

    design: Design = field(default_factory=Design)
    name: str = "known"
    board: str = "one"
    sha256: str = "5a" * 32
    arms: tuple[Arm, ...] = (Arm("bac"), Arm("mac4"), Arm("mac8"))
    cells: tuple[Cell, ...] = (Cell(0, 16, None),)
    pairs: tuple[Pair, ...] = (
        Pair("mac8", "bac", "saving"),
        Pair("mac8", "mac4", "bits"),
        Pair("mac4", "bac", "shift"),
    )


@dataclass(frozen=True)
class Truth:
    """Powers in W on each rail, and what disturbs them.

    Attributes:
        dynamic_w: by arm.
        idle_w: of the overlay of each arm, by rail.
        noise_w: white, of each sample.
        spread: of dynamic power from run to run, log-normal.
        order_w: more dynamic power in the second place, twice that in the third.
        run_s: length of a run, by arm; the design's where none is given.
        rails: sensors.
    """

    dynamic_w: Mapping[str, float] = field(
        default_factory=lambda: {"bac": 0.5, "mac4": 0.6, "mac8": 0.9}
    )
    idle_w: Mapping[str, float] = field(default_factory=lambda: {"12V": 13.8, "INT": 3.6})
    noise_w: float = 0.02
    spread: float = 0.0
    order_w: float = 0.0
    run_s: Mapping[str, float] = field(default_factory=dict)
    rails: tuple[RailInfo, ...] = (FINE,)


def campaign_runs(
    plan: Plan, truth: Truth, blocks: int, seed: int = 0, stages: tuple[Stage, ...] = ("aa", "main")
) -> Iterator[CampaignRun]:
    """Every run of the first blocks, in order, one at a time."""
    rng = np.random.default_rng(seed)
    start_ns = START_NS
    for cell in plan.cells:
        for stage in stages:
            for block in range(plan.design.aa_blocks if stage == "aa" else blocks):
                for key in block_keys(plan, cell.index, stage, block):  # type: ignore[arg-type]
                    run = campaign_run(plan, truth, key, start_ns, rng)
                    yield run
                    start_ns = run.record.after.end_ns + 3 * 10**9


def campaign_run(
    plan: Plan, truth: Truth, key: RunKey, start_ns: int, rng: np.random.Generator
) -> CampaignRun:
    """One run: idle, one second between, run, one second, idle."""
    d = plan.design
    run_s = truth.run_s.get(key.arm, d.run_s)
    before = Window(start_ns, start_ns + round(d.idle_s * 1e9))
    run = Window(before.end_ns + 10**9, before.end_ns + 10**9 + round(run_s * 1e9))
    used = Window(run.start_ns + round(d.guard_s * 1e9), run.end_ns)
    after = Window(run.end_ns + 10**9, run.end_ns + 10**9 + round(d.idle_s * 1e9))
    watts = truth.dynamic_w[key.arm] * float(np.exp(truth.spread * rng.standard_normal()))
    watts += truth.order_w * key.position
    rails = {
        info.name: _trace(d, truth, info, before, run, after, watts, rng) for info in truth.rails
    }
    trace = PowerTrace(rails, round(d.sample_period_s * 1e9), "hwmon:", False)
    record = RunRecord(
        key.block,
        key.position,
        key.arm,
        f"overlay-{key.arm}",
        "0a" * 32,
        "0b" * 32,
        150e6,
        before,
        run,
        used,
        after,
        Counters(images=IMAGES),
        "0c" * 32,
        "board",
        8,
        trace,
    )
    beside = Surroundings(
        start_ns, start_ns, "boot", 150e6, 1, 1, {"die_pl_c": 41.5}, {}, None, None, None, None,
        None, None,
    )  # fmt: skip
    return CampaignRun(key, record, beside, beside)


def _trace(
    design: Design,
    truth: Truth,
    info: RailInfo,
    before: Window,
    run: Window,
    after: Window,
    watts: float,
    rng: np.random.Generator,
) -> RailTrace:
    period_ns = round(design.sample_period_s * 1e9)
    times = np.arange(before.start_ns, after.end_ns, period_ns, dtype=np.int64)
    times += rng.integers(-period_ns // 4, period_ns // 4, len(times))
    power_w = truth.idle_w[info.name] + truth.noise_w * rng.standard_normal(len(times))
    power_w[(times >= run.start_ns) & (times < run.end_ns)] += watts
    step_ma = info.current_step_a * 1e3
    current_ma = np.rint(np.rint(power_w / info.nominal_v * 1e3 / step_ma) * step_ma)
    current = current_ma.astype(np.int64)
    voltage = np.full(len(times), round(info.nominal_v * 1e3), np.int64)
    return RailTrace(info, times, voltage, current, voltage * current)
