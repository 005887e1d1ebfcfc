"""Checks of the power in a run's windows and of the voltage in a block: 11, 12 and 15.

Check 12 asks whether this run could resolve the dynamic power that the rail showed at the start of
the campaign, not whether its own value came out large: a block is never chosen by its outcome. A
value at or below zero is told and kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from bacmac.host.errors import TraceTooShortError
from bacmac.power.analysis import ROUNDING
from bacmac.power.campaign.checks_sensor import Responses, judged_rail, window_noise, windows
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.run import CampaignRun, Finding
from bacmac.power.campaign.sensor_step import StepResponse
from bacmac.power.energy import FINE_ENOUGH, RunPower, run_power, step_uncertainty_w
from bacmac.power.runs import RunRecord
from bacmac.power.sampler import RailTrace


def check_power(run: CampaignRun, limits: Limits, responses: Responses) -> Iterator[Finding]:
    """Checks 11 and 12 of rails that show the work, 15 of every rail.

    The rail of the headline is judged by them, others are told.
    """
    record = run.record
    judged = judged_rail(record.trace)
    for name, rail in record.trace.rails.items():
        if len(rail.times_ns) == 0:
            continue
        yield from _supply(rail, limits)
        response = responses.get(name)
        unseen = response is not None and response.lag_s is None
        if not rail.info.sees_logic or (unseen and name != judged):
            continue
        try:
            power = run_power(rail, *windows(record))
        except TraceTooShortError:  # check 3 tells
            continue
        noise = window_noise(record, rail)
        known_w = response.step_w if response is not None and not unseen else None
        yield from _idle(record, rail, power, noise, known_w, name == judged, limits)
        if power.dynamic_w <= ROUNDING * abs(power.idle_w):
            text = f"dynamic power is {power.dynamic_w * 1e3:.1f} mW: kept, and no ratio has it"
            yield Finding(12, "warn", name, text)
        if name == judged:
            yield from _resolvable(record, rail, power, noise, response, limits)


def _supply(rail: RailTrace, limits: Limits) -> Iterator[Finding]:
    """One reading off is enough: it may be another page's."""
    info = rail.info
    shares = np.abs(rail.voltage_mv * 1e-3 / info.nominal_v - 1)
    wrong = shares > limits.max_supply_share
    if np.any(wrong):
        volts = rail.voltage_mv[int(np.argmax(shares))] * 1e-3
        text = (
            f"{int(np.count_nonzero(wrong))} of {len(shares)} readings are off {info.nominal_v:g} V"
        )
        limit = f"by more than {limits.max_supply_share:.0%}, one reads {volts:.3f} V"
        yield Finding(15, "invalidate", info.name, f"{text} {limit}")


def _idle(
    record: RunRecord,
    rail: RailTrace,
    power: RunPower,
    noise: tuple[float, float],
    known_w: float | None,
    judged: bool,
    limits: Limits,
) -> Iterator[Finding]:
    change_w = power.after.mean_w - power.before.mean_w
    quantum_w = rail.info.quantum_w
    # a coarse sensor's idle may lie on the edge of a step and jump by one
    step_w = quantum_w if noise[0] < FINE_ENOUGH * quantum_w else 0.0
    dynamic_w = known_w if known_w is not None else abs(power.dynamic_w)
    limit_w = min(
        limits.max_idle_change_share * power.idle_w, limits.max_idle_change_dynamic * dynamic_w
    )
    u_w = mean_noise_w(rail, noise, (record.before.duration_s, record.after.duration_s))
    allowed_w = limit_w + limits.idle_change_sigmas * u_w + step_w
    if abs(change_w) > allowed_w:
        text = f"idle changed by {change_w * 1e3:+.1f} mW over the run; {allowed_w * 1e3:.1f} mW "
        text += f"allowed ({limit_w * 1e3:.1f} mW, noise and step on top)"
        yield Finding(11, "invalidate" if judged else "warn", rail.info.name, text)


def mean_noise_w(rail: RailTrace, noise: tuple[float, float], windows_s: Sequence[float]) -> float:
    """Standard uncertainty of a difference of means over windows, by noise alone.

    The variance of a mean over T is s^2 tau / T with tau = spacing (1 + r) / (1 - r) (first-order
    autoregressive; Zieba and Ramza, Metrology and Measurement Systems 18, 2011).
    """
    noise_w, lag1 = noise
    spacing_s = float(np.median(np.diff(rail.times_ns))) * 1e-9 if len(rail.times_ns) > 1 else 0.0
    held = min(max(lag1, 0.0), 0.99)
    tau_s = spacing_s * (1 + held) / (1 - held)
    return noise_w * math.sqrt(sum(min(tau_s / window_s, 1.0) for window_s in windows_s))


def dynamic_u_w(record: RunRecord, rail: RailTrace, noise: tuple[float, float]) -> float:
    """Standard uncertainty of a run's dynamic power by the sensor's noise and step alone."""
    idle_s = record.before.duration_s + record.after.duration_s
    by_noise = mean_noise_w(rail, noise, (record.used.duration_s, idle_s))
    by_step = math.sqrt(2) * step_uncertainty_w(rail.info.quantum_w, noise[0])
    return math.hypot(by_noise, by_step)


def _resolvable(
    record: RunRecord,
    rail: RailTrace,
    power: RunPower,
    noise: tuple[float, float],
    response: StepResponse | None,
    limits: Limits,
) -> Iterator[Finding]:
    """A run with more noise than the start showed; a rail that never resolves it is only told."""
    u_w, dynamic_w, whose = dynamic_u_w(record, rail, noise), abs(power.dynamic_w), "of this run"
    level: Literal["invalidate", "warn"] = "invalidate"
    if response is not None and response.lag_s is not None:
        dynamic_w, whose = response.step_w, "as known from the start"
        at_start_w = dynamic_u_w(record, rail, (response.noise_w, response.lag1))
        if dynamic_w <= limits.min_dynamic_u * at_start_w:
            level, whose = "warn", "too little for this rail in any run of this length"
    if dynamic_w <= limits.min_dynamic_u * u_w:
        text = f"dynamic power of {dynamic_w * 1e3:.1f} mW, {whose}, with an uncertainty of "
        text += f"{u_w * 1e3:.1f} mW in this run; {limits.min_dynamic_u:g} times that is needed"
        yield Finding(12, level, rail.info.name, text)


def check_block_supply(runs: Sequence[CampaignRun], limits: Limits) -> Iterator[Finding]:
    """Check 15 over a block: mean voltages of all windows of all runs."""
    for name, rail in runs[0].record.trace.rails.items():
        means = []
        for run in runs:
            found = run.record.trace.rails.get(name)
            for window in windows(run.record) if found is not None else ():
                assert found is not None
                inside = (found.times_ns >= window.start_ns) & (found.times_ns <= window.end_ns)
                if np.any(inside):
                    means.append(float(np.mean(found.voltage_mv[inside])) * 1e-3)
        if not means:
            continue
        share = (max(means) - min(means)) / rail.info.nominal_v
        if share > limits.max_supply_change_share:
            text = f"voltage between {min(means):.3f} and {max(means):.3f} V in one block; "
            text += f"it may change by {limits.max_supply_change_share:.1%}"
            yield Finding(15, "invalidate", name, text)
