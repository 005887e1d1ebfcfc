"""From run records to energies, ratios and verdicts: pure functions, no clock and no device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bacmac.power.energy import (
    EnergyPerInference,
    Quantisation,
    RunPower,
    absolute_u_w,
    energy_per_inference,
    quantisation,
    run_power,
)
from bacmac.power.rails import RailInfo
from bacmac.power.runs import ARMS, ArmName, RunRecord
from bacmac.power.statistics import (
    COVERAGE_FACTOR,
    Interval,
    RatioEstimate,
    estimate_ratio,
    mean_interval,
)

ROUNDING = 1e-9
"""Share of idle power below which a difference is float rounding."""
PRIMARY_RAILS = ("12V", "INT")
"""The rail of the headline is the first of these that was read: 12V has the finer sensor."""


def headline_rail(names: Sequence[str]) -> str:
    """Name of the rail that the headline speaks of, the first where none is preferred."""
    return next((name for name in PRIMARY_RAILS if name in names), names[0])


@dataclass(frozen=True)
class RunEnergy:
    """One rail in one run."""

    block: int
    arm: str
    power: RunPower
    energy: EnergyPerInference


@dataclass(frozen=True)
class ArmEnergy:
    """One rail, one arm: means over blocks with 95 % intervals, the sensor's step included.

    Attributes:
        dynamic_j, total_j: energy of an inference above idle, and in all.
        static_j: idle power times an inference's time.
        time_s: of an inference.
        energy_delay_js: total energy times time.
        inferences_per_s_per_w: of this rail.
        systematic_j: standard Type B uncertainty of `total_j` by the sensor's gain and offset
            (they cancel in a ratio and are not in any interval here), None where unknown.
    """

    dynamic_j: Interval
    total_j: Interval
    static_j: Interval
    time_s: float
    energy_delay_js: float
    inferences_per_s_per_w: float
    systematic_j: float | None


@dataclass(frozen=True)
class RailResult:
    """All that one rail says.

    Attributes:
        info: the rail and its sensor.
        runs: in the order they were made.
        bac, mac: energies of the arms.
        dynamic: ratio of dynamic energies, or None, see `dynamic_reason`.
        dynamic_reason: why there is no ratio, else "".
        dynamic_smallest: smallest difference in dynamic energy that could have been shown, as a
            share of MAC's, or None where MAC's own energy is not above zero.
        total: ratio of total energies.
        quantisation: what the sensor's step does.
    """

    info: RailInfo
    runs: tuple[RunEnergy, ...]
    bac: ArmEnergy
    mac: ArmEnergy
    dynamic: RatioEstimate | None
    dynamic_reason: str
    dynamic_smallest: float | None
    total: RatioEstimate
    quantisation: Quantisation


def analyse(records: Sequence[RunRecord]) -> tuple[RailResult, ...]:
    """Every rail of whole blocks.

    Args:
        records: one of either arm a block, two blocks or more, in the order they were made.

    Raises:
        TraceTooShortError: a window holds fewer than two samples of a rail.
        ValueError: a block is not whole.
    """
    blocks = [record.block for record in records]
    for arm in ARMS:
        if sorted(r.block for r in records if r.arm == arm) != sorted(set(blocks)):
            raise ValueError(f"not every block has one run of {arm}")
    return tuple(_analyse_rail(records, rail) for rail in records[0].trace.rails)


def _analyse_rail(records: Sequence[RunRecord], rail: str) -> RailResult:
    runs = []
    for record in records:
        power = run_power(record.trace.rails[rail], record.before, record.used, record.after)
        energy = energy_per_inference(power, record.run, record.n_inferences)
        runs.append(RunEnergy(record.block, record.arm, power, energy))
    info = records[0].trace.rails[rail].info
    step = quantisation(
        info, [w.sd_w for r in runs for w in (r.power.before, r.power.run, r.power.after)]
    )
    by_arm = {a: sorted((r for r in runs if r.arm == a), key=_block) for a in ARMS}
    bac, mac = (_arm_energy(info, by_arm[a], step.u_window_w) for a in ARMS)
    bac_first = _bac_first(records)

    # a run's and its idle's mean are each wrong by up to u, and in every block alike
    u_dynamic = _u_ratio(by_arm, lambda r: r.power.dynamic_w, math.sqrt(2) * step.u_window_w)
    u_total = _u_ratio(by_arm, lambda r: r.power.run.mean_w, step.u_window_w)
    total = estimate_ratio(_logs(by_arm, lambda e: e.total_j), bac_first, u_total)
    dynamic, reason = None, _not_positive(runs, rail)
    if not reason:
        dynamic = estimate_ratio(_logs(by_arm, lambda e: e.dynamic_j), bac_first, u_dynamic)
    smallest = dynamic.smallest_difference if dynamic else _smallest(by_arm, bac, mac)
    return RailResult(info, tuple(runs), bac, mac, dynamic, reason, smallest, total, step)


def _block(run: RunEnergy) -> int:
    return run.block


def _bac_first(records: Sequence[RunRecord]) -> list[bool]:
    firsts = sorted((r.block, r.arm == "bac") for r in records if r.position == 0)
    return [bac for _, bac in firsts]


def _not_positive(runs: Sequence[RunEnergy], rail: str) -> str:
    """Dynamic energies at or below zero are kept and told; no ratio can be made of them."""
    n = sum(run.power.dynamic_w <= ROUNDING * run.power.idle_w for run in runs)
    if not n:
        return ""
    return f"{n} of {len(runs)} runs show no dynamic energy above zero on {rail}"


def _logs(
    by_arm: dict[ArmName, list[RunEnergy]], energy: Callable[[EnergyPerInference], float]
) -> list[float]:
    pairs = zip(by_arm["bac"], by_arm["mac"], strict=True)
    return [math.log(energy(mac.energy) / energy(bac.energy)) for bac, mac in pairs]


def _u_ratio(
    by_arm: dict[ArmName, list[RunEnergy]], power_w: Callable[[RunEnergy], float], u_w: float
) -> float:
    """Standard uncertainty of a log ratio when both powers are wrong by u_w."""
    means = [sum(map(power_w, runs)) / len(runs) for runs in by_arm.values()]
    return math.hypot(*(u_w / mean for mean in means)) if min(means) > 0 else math.inf


def _smallest(
    by_arm: dict[ArmName, list[RunEnergy]], bac: ArmEnergy, mac: ArmEnergy
) -> float | None:
    """Half width of the paired difference over MAC's energy, where no ratio can be formed."""
    pairs = zip(by_arm["bac"], by_arm["mac"], strict=True)
    paired = mean_interval([m.energy.dynamic_j - b.energy.dynamic_j for b, m in pairs])
    if mac.dynamic_j.centre <= 0:
        return None
    quantised = max(_half(bac.dynamic_j), _half(mac.dynamic_j))
    return max(_half(paired), quantised) / mac.dynamic_j.centre


def _half(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def _arm_energy(info: RailInfo, runs: Sequence[RunEnergy], u_w: float) -> ArmEnergy:
    energies = [run.energy for run in runs]
    time_s = sum(e.time_s for e in energies) / len(energies)
    total = _widened([e.total_j for e in energies], u_w * time_s)
    u_b = absolute_u_w(info, total.centre / time_s)
    return ArmEnergy(
        _widened([e.dynamic_j for e in energies], math.sqrt(2) * u_w * time_s),
        total,
        _widened([e.static_j for e in energies], u_w * time_s),
        time_s,
        total.centre * time_s,
        1.0 / total.centre,
        None if u_b is None else u_b * time_s,
    )


def _widened(values: Sequence[float], u_quantisation: float) -> Interval:
    t = mean_interval(values)
    half_width = math.hypot(t.high - t.centre, COVERAGE_FACTOR * u_quantisation)
    return Interval(t.centre, t.centre - half_width, t.centre + half_width)
