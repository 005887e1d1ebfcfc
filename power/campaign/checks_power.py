"""Checks of the power in a run's windows and of the voltage in a block: 11, 12 and 15.

Check 12 asks whether this run could resolve the dynamic power that the rail showed at the start of
the campaign, not whether its own value came out large: a block is never chosen by its outcome. A
value at or below zero is told and kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from bacmac.host.errors import TraceTooShortError
from bacmac.power.campaign.checks_sensor import Responses, judged_rail, window_noise, windows
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.run import CampaignRun, Finding
from bacmac.power.energy import FINE_ENOUGH, RunPower, run_power, step_uncertainty_w
from bacmac.power.runs import RunRecord
from bacmac.power.sampler import RailTrace


def check_power(run: CampaignRun, limits: Limits, responses: Responses) -> Iterator[Finding]:
    """Checks 11 and 12 of rails that see the logic, 15 of every rail."""
    record = run.record
    judged = judged_rail(record.trace)
    for name, rail in record.trace.rails.items():
        if len(rail.times_ns) == 0:
            continue
        yield from _supply(rail, limits)
        if not rail.info.sees_logic:
            continue
        try:
            power = run_power(rail, *windows(record))
        except TraceTooShortError:  # check 3 tells
            continue
        noise_w, lag1 = window_noise(record, rail)
        response = responses.get(name)
        known_w = response.step_w if response is not None and response.lag_s is not None else None
        u_w = dynamic_u_w(record, rail, noise_w, lag1)
        yield from _idle(name, rail, power, noise_w, known_w, judged == name, limits)
        yield from _resolvable(name, power, u_w, known_w, judged == name, limits)


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
    name: str,
    rail: RailTrace,
    power: RunPower,
    noise_w: float,
    known_w: float | None,
    judged: bool,
    limits: Limits,
) -> Iterator[Finding]:
    change_w = power.after.mean_w - power.before.mean_w
    # a coarse sensor's idle may lie on the edge of a step and jump by one
    step_w = rail.info.quantum_w if noise_w < FINE_ENOUGH * rail.info.quantum_w else 0.0
    dynamic_w = known_w if known_w is not None else abs(power.dynamic_w)
    limit_w = min(
        limits.max_idle_change_share * power.idle_w, limits.max_idle_change_dynamic * dynamic_w
    )
    if abs(change_w) > limit_w + step_w:
        text = f"idle changed by {change_w * 1e3:+.0f} mW over the run; "
        text += f"{(limit_w + step_w) * 1e3:.0f} mW allowed"
        yield Finding(11, "invalidate" if judged else "warn", name, text)


def dynamic_u_w(record: RunRecord, rail: RailTrace, noise_w: float, lag1: float) -> float:
    """Standard uncertainty of a run's dynamic power by the sensor's noise and step alone.

    The variance of a mean over T is s^2 tau / T with tau = spacing (1 + r) / (1 - r) (first-order
    autoregressive; Zieba and Ramza, Metrology and Measurement Systems 18, 2011); the step's part
    is that of `power.energy`, of run and idle.
    """
    spacing_s = float(np.median(np.diff(rail.times_ns))) * 1e-9 if len(rail.times_ns) > 1 else 0.0
    held = min(max(lag1, 0.0), 0.99)
    tau_s = spacing_s * (1 + held) / (1 - held)
    idle_s = record.before.duration_s + record.after.duration_s
    by_noise = noise_w * math.sqrt(
        min(tau_s / record.used.duration_s, 1.0) + min(tau_s / idle_s, 1.0)
    )
    return math.hypot(by_noise, math.sqrt(2) * step_uncertainty_w(rail.info.quantum_w, noise_w))


def _resolvable(
    name: str,
    power: RunPower,
    u_w: float,
    known_w: float | None,
    judged: bool,
    limits: Limits,
) -> Iterator[Finding]:
    if power.dynamic_w <= 0:
        text = f"dynamic power is {power.dynamic_w * 1e3:.1f} mW: kept, and no ratio comes of it"
        yield Finding(12, "warn", name, text)
    dynamic_w = known_w if known_w is not None else abs(power.dynamic_w)
    if dynamic_w <= limits.min_dynamic_u * u_w:
        whose = "as known from the start" if known_w is not None else "of this run"
        text = f"dynamic power of {dynamic_w * 1e3:.1f} mW, {whose}, with an uncertainty of "
        text += f"{u_w * 1e3:.1f} mW in this run; {limits.min_dynamic_u:g} times that is needed"
        yield Finding(12, "invalidate" if judged else "warn", name, text)


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
