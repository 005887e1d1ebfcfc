"""Runs of a campaign made of random numbers: what a journal keeps does not depend on physics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bacmac.host.runtime.results import Counters, Window
from bacmac.power.campaign.plan import RunKey
from bacmac.power.campaign.run import CampaignRun, Surroundings
from bacmac.power.rails import RailInfo
from bacmac.power.runs import RunRecord
from bacmac.power.sampler import DieTrace, PowerTrace, RailTrace

INT = RailInfo("INT", 0.85, "IRPS5401", None, 0.125, 0.25)
BOARD = RailInfo("12V", 12.0, "INA226", 35_200_000, 0.001, 0.025, 0.001, 0.002)
PERIOD_NS = 20_000_000


def made_run(
    key: RunKey,
    *,
    seed: int = 0,
    samples: int = 100,
    rails: tuple[RailInfo, ...] = (INT, BOARD),
    emulated: bool = True,
    die: bool = False,
) -> CampaignRun:
    """A run as if it had been measured: noisy rails, jittered times, work in the middle half."""
    rng = np.random.default_rng([seed, key.cell, key.block, key.attempt, key.position])
    start = int(rng.integers(10**12, 10**15))
    quarter = samples * PERIOD_NS // 4
    times = start + np.arange(samples) * PERIOD_NS
    work = np.abs(times - start - 2 * quarter) < quarter
    traces = {info.name: _rail(rng, info, times, work) for info in rails}
    celsius = {"pl": rng.normal(40, 0.5, 8), "fpd": rng.normal(38, 0.5, 8)}
    trace = PowerTrace(
        traces,
        PERIOD_NS,
        "emulated:" if emulated else "hwmon:",
        emulated,
        DieTrace(start + np.arange(8) * 100_000_000, celsius) if die else None,
    )
    run = Window(start + quarter, start + 3 * quarter)
    record = RunRecord(
        block=key.block,
        position=key.position,
        arm=key.arm,
        overlay="bac-pot4e4",
        overlay_sha256="0a" * 32,
        model_sha256="0b" * 32,
        clock_hz=1e8 / 3,
        before=Window(start, start + quarter),
        run=run,
        used=Window(run.start_ns + 1, run.end_ns),
        after=Window(start + 3 * quarter, start + 4 * quarter),
        counters=Counters(10**9, 10**8, 7, 8, 9, 16 * 500),
        outputs_sha256="0c" * 32,
        provenance="functional" if emulated else "board",
        n_verified=4,
        trace=trace,
    )
    return CampaignRun(
        key, record, _around(start, {"pl": 40.1}), _around(start + 4 * quarter, {"pl": 40.7})
    )


def same_run(a: CampaignRun, b: CampaignRun) -> bool:
    """Whether two runs are equal to the last bit, samples included."""
    if (a.key, a.before, a.after, a.read_errors) != (b.key, b.before, b.after, b.read_errors):
        return False
    plain = [
        {name: value for name, value in vars(r.record).items() if name != "trace"} for r in (a, b)
    ]
    one, two = a.record.trace, b.record.trace
    return (
        plain[0] == plain[1]
        and (one.period_ns, one.source, one.emulated) == (two.period_ns, two.source, two.emulated)
        and list(one.rails) == list(two.rails)
        and all(_same_rail(one.rails[name], two.rails[name]) for name in one.rails)
        and _same_die(one.die, two.die)
    )


def _rail(
    rng: np.random.Generator, info: RailInfo, times: np.ndarray, work: np.ndarray
) -> RailTrace:
    n = len(times)
    late = rng.integers(-PERIOD_NS // 4, PERIOD_NS // 4, n)
    step_ma = max(1, round(info.current_step_a * 1e3))
    current = np.round((1100 + 400 * work + rng.normal(0, 5, n)) / step_ma).astype(np.int64)
    voltage = round(info.nominal_v * 1e3) + rng.integers(-1, 2, n)
    power = voltage * current * step_ma
    return RailTrace(info, times + late, voltage, current * step_ma, power)


def _around(monotonic_ns: int, die_c: Mapping[str, float]) -> Surroundings:
    return Surroundings(
        monotonic_ns=monotonic_ns,
        wall_ns=1_700_000_000_000_000_000 + monotonic_ns,
        boot_id="b007",
        clock_hz=1e8 / 3,
        overlay_id=1,
        build_id=2,
        die_c=die_c,
        supply_v={"ps": 0.1 + 0.2},
        governor=None,
        cpu_hz=1.2e9,
        cpu_total_s=1.25,
        cpu_own_s=None,
        cpu_sampler_s=None,
        disk_written_bytes=None,
    )


def _same_rail(a: RailTrace, b: RailTrace) -> bool:
    columns = ("times_ns", "voltage_mv", "current_ma", "power_uw")
    return a.info == b.info and all(
        getattr(a, name).dtype == np.int64 and np.array_equal(getattr(a, name), getattr(b, name))
        for name in columns
    )


def _same_die(a: DieTrace | None, b: DieTrace | None) -> bool:
    if a is None or b is None:
        return a is b
    return (
        np.array_equal(a.times_ns, b.times_ns)
        and list(a.celsius) == list(b.celsius)
        and all(np.array_equal(a.celsius[name], b.celsius[name]) for name in a.celsius)
    )
