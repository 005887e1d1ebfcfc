"""Checks of what a run's sensors gave: inventory, refresh, completeness, edges, guard, stuck, ...

Pure functions of one run. Nothing is repaired or left out: what is found invalidates the block,
ends the campaign or is told. Method: the two-sided checks are of the readings' time and form;
none of them looks at the energy that comes of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bacmac.host.errors import TraceTooShortError
from bacmac.host.runtime.results import Window
from bacmac.power.analysis import headline_rail
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.run import CampaignRun, Finding
from bacmac.power.campaign.sensor_step import StepResponse
from bacmac.power.energy import window_power
from bacmac.power.probe import MIN_LEVELS
from bacmac.power.rails import RailInfo
from bacmac.power.refresh import find_refresh
from bacmac.power.runs import RunRecord
from bacmac.power.sampler import PowerTrace, RailTrace
from bacmac.power.statistics import lag1_autocorrelation

Responses = Mapping[str, StepResponse]
"""Of each rail, measured at the start of the campaign; empty where that was left out."""


def judged_rail(trace: PowerTrace) -> str:
    """The rail of the headline: what a single run must show is asked of this one alone.

    The others may be too coarse by right; what that means for their ratios is told (check 7).
    """
    return headline_rail(list(trace.rails))


def check_sensors(run: CampaignRun, limits: Limits, responses: Responses) -> Iterator[Finding]:
    """Checks 1, 2, 3, 5, 6, 8, 9 and 10 of every rail."""
    record = run.record
    yield from _length(record, limits)
    n = sum(len(rail.times_ns) for rail in record.trace.rails.values())
    if run.read_errors > limits.max_read_error_share * (n + run.read_errors):
        yield Finding(
            3,
            "invalidate",
            "",
            f"{run.read_errors} of {n + run.read_errors} readings failed; "
            f"at most {limits.max_read_error_share:.1%} may",
        )
    for name, rail in record.trace.rails.items():
        missing = list(_completeness(record, rail, limits))
        yield from missing
        if any(finding.level == "abort" or len(rail.times_ns) < 3 for finding in missing):
            continue
        response = responses.get(name)
        yield from _inventory(rail, response, limits)
        yield from _refresh(record, rail, limits)
        yield from _edges(record, rail, response, limits)
        yield from _guard(record, rail, response, limits)
        yield from _register(rail, limits)
        yield from _stuck(record, rail, response, limits)
        yield from _full_scale(rail, limits)


def windows(record: RunRecord) -> tuple[Window, Window, Window]:
    """Those that energies are of: idle, run after its guard, idle."""
    return record.before, record.used, record.after


def _length(record: RunRecord, limits: Limits) -> Iterator[Finding]:
    if record.run.duration_s < limits.min_run_s * (1 - limits.run_short_share):
        text = f"the run took {record.run.duration_s:.3f} s; {limits.min_run_s:g} s are wanted"
        yield Finding(5, "invalidate", "", text)


def _completeness(record: RunRecord, rail: RailTrace, limits: Limits) -> Iterator[Finding]:
    name, period_s = rail.info.name, record.trace.period_ns * 1e-9
    longest_s = min(limits.max_gap_periods * period_s, limits.max_gap_share * record.run.duration_s)
    for which, window in zip(("idle before", "run", "idle after"), windows(record), strict=True):
        try:
            power = window_power(rail, window)
        except TraceTooShortError as error:
            yield Finding(3, "invalidate", name, f"{which}: {error}")
            continue
        # a window's two edges cut a period, so one sample may be missing by right
        share = (power.n_samples + 1) * period_s / power.duration_s
        if share < limits.min_complete_share:
            text = f"{which}: {share:.1%} of the expected samples"
            yield Finding(3, "invalidate", name, f"{text}; {limits.min_complete_share:.0%} wanted")
        if power.max_gap_s > longest_s:
            text = f"{which}: no sample for {power.max_gap_s * 1e3:.0f} ms"
            yield Finding(3, "invalidate", name, f"{text}; at most {longest_s * 1e3:.0f} ms")


def _inventory(rail: RailTrace, response: StepResponse | None, limits: Limits) -> Iterator[Finding]:
    info = rail.info
    volts = float(np.median(rail.voltage_mv)) * 1e-3
    amperes = float(np.median(rail.current_ma)) * 1e-3
    if abs(volts - info.nominal_v) > limits.max_voltage_share * info.nominal_v:
        text = f"reads {volts:.3f} V and {amperes:.3f} A where {info.nominal_v:g} V is nominal"
        limit = f"within {limits.max_voltage_share:.0%} wanted"
        yield Finding(1, "abort", info.name, f"{text}; {limit}")
    elif abs(amperes) > info.max_current_a:
        text = f"reads {amperes:.3f} A; it can carry {info.max_current_a:g} A"
        yield Finding(1, "abort", info.name, text)
    if response is not None and response.info != info:
        yield Finding(1, "abort", info.name, f"is now {info}; it was {response.info}")


def refresh_s(rail: RailTrace, limits: Limits) -> float:
    """The longest that a value stays: as declared, or as seen where that is longer and sure.

    Readings that toggle between two steps seem to have a period now and then. One is believed
    where it is four readings long and no value ever changed sooner.
    """
    declared_s = (rail.info.update_period_ns or 0) * 1e-9
    columns = (rail.current_ma, rail.voltage_mv, rail.power_uw)
    seen = find_refresh(rail.times_ns, columns)
    if seen.kind != "measured" or seen.n_changes < limits.min_refresh_changes:
        return declared_s
    assert seen.period_ns is not None
    changes = max((rail.times_ns[1:][np.diff(column) != 0] for column in columns), key=len)
    soonest_ns = float(np.min(np.diff(changes)))
    apart_ns = float(np.max(np.diff(rail.times_ns)))
    if seen.period_ns * 1e-9 < (1 + limits.declared_refresh_within) * declared_s:
        return declared_s
    if seen.period_ns < 4 * seen.read_gap_ns or soonest_ns < seen.period_ns - 2 * apart_ns:
        return declared_s
    return max(declared_s, seen.period_ns * 1e-9)


def _refresh(record: RunRecord, rail: RailTrace, limits: Limits) -> Iterator[Finding]:
    period_s, name = refresh_s(rail, limits), rail.info.name
    seconds = record.used.duration_s
    if period_s >= limits.slow_refresh_s:
        guard_s = (record.used.start_ns - record.run.start_ns) * 1e-9
        wanted_s = limits.slow_refresh_guard * period_s
        long_enough = limits.slow_refresh_run_s * (1 - limits.run_short_share)
        if guard_s < wanted_s * (1 - 1e-9) or record.run.duration_s < long_enough:
            text = f"a new value every {period_s:.3g} s (a kernel's cache?)"
            yield Finding(
                2,
                "abort",
                name,
                f"{text}, with a guard of {guard_s:.3g} s and {record.run.duration_s:.3g} s of "
                f"run; {wanted_s:.3g} s and {limits.slow_refresh_run_s:g} s are needed",
            )
        return
    fresh = seconds / max(period_s, record.trace.period_ns * 1e-9)
    if fresh < limits.min_fresh_values:
        text = f"{fresh:.0f} new values in {seconds:.3g} s of run"
        yield Finding(2, "abort", name, f"{text}; {limits.min_fresh_values:g} are needed")


def filter_tau_s(info: RailInfo, response: StepResponse | None) -> float:
    """Time constant of a sensor's filter: as declared, else what it surely was at the start.

    A declared one was held against the sensor's answer at the start (check 6 there).
    """
    if info.filter_tau_s is not None:
        return info.filter_tau_s
    return response.sure_tau_s if response is not None else 0.0


def needed_guard_s(info: RailInfo, limits: Limits, response: StepResponse | None = None) -> float:
    """The shortest guard that checks 2 and 6 take for a rail."""
    refresh = (info.update_period_ns or 0) * 1e-9
    slow_s = limits.slow_refresh_guard * refresh if refresh >= limits.slow_refresh_s else 0.0
    return max(limits.guard_filter_taus * filter_tau_s(info, response) + refresh, slow_s)


def edge_share(record: RunRecord, rail: RailTrace, tau_s: float) -> float:
    """Bound on the error that the used window's edges make, as a share of dynamic energy.

    At its start the reading lags by what the guard did not cover: all of the step where a refresh
    is longer than the guard, else exp(-(guard - refresh) / tau) of it, for tau and one interval.
    Its end is not guarded; there the reading between the last sample and the end is interpolated
    towards one that may be idle: half of that interval is uncertain by as much of the step.
    """
    record_s = record.run.duration_s
    guard_s = (record.used.start_ns - record.run.start_ns) * 1e-9
    refresh = (rail.info.update_period_ns or 0) * 1e-9
    inside = rail.times_ns[
        (rail.times_ns >= record.used.start_ns) & (rail.times_ns <= record.used.end_ns)
    ]
    first_s = float(inside[0] - record.used.start_ns) * 1e-9
    last_s = float(record.used.end_ns - inside[-1]) * 1e-9
    late_s = guard_s - refresh
    left = 1.0 if late_s <= 0 else math.exp(-late_s / tau_s) if tau_s > 0 else 0.0
    start_s = left * (first_s + refresh + tau_s)
    after = rail.times_ns[rail.times_ns > record.used.end_ns]
    gap_s = last_s + (float(after[0] - record.used.end_ns) * 1e-9 if len(after) else 0.0)
    # held beyond the last sample where none comes after; else a straight line over the gap
    end_s = last_s / 2 * (last_s / gap_s) if len(after) and gap_s > 0 else 0.0
    return (start_s + end_s) / record_s


def _edges(
    record: RunRecord, rail: RailTrace, response: StepResponse | None, limits: Limits
) -> Iterator[Finding]:
    share = edge_share(record, rail, filter_tau_s(rail.info, response))
    if share > limits.max_edge_share:
        text = f"the window's edges may be wrong by {share:.2%} of the dynamic energy"
        limit = f"at most {limits.max_edge_share:.2%}"
        yield Finding(5, "invalidate", rail.info.name, f"{text}; {limit}")


def _guard(
    record: RunRecord, rail: RailTrace, response: StepResponse | None, limits: Limits
) -> Iterator[Finding]:
    needed_s = needed_guard_s(rail.info, limits, response)
    at_start_s = (record.used.start_ns - record.run.start_ns) * 1e-9
    at_end_s = (record.after.start_ns - record.run.end_ns) * 1e-9
    guard_s = min(at_start_s, at_end_s)
    if guard_s < needed_s * (1 - 1e-9):
        text = f"samples are used {guard_s:.3f} s after the load changes; the sensor needs "
        text += f"{needed_s:.3f} s ({limits.guard_filter_taus:g} time constants and a refresh)"
        yield Finding(6, "abort", rail.info.name, text)


def _register(rail: RailTrace, limits: Limits) -> Iterator[Finding]:
    """Power registers round or cut down, and V x I has its own step; the rest is no power."""
    step_w = rail.info.power_step_w
    steps = float(np.median(rail.register_w - rail.power_w)) / step_w
    margin = limits.max_register_steps + rail.info.quantum_w / (2 * step_w)
    if not -1.0 - margin <= steps <= 0.5 + margin:
        text = f"power register is {steps:+.2f} of its steps from V x I; {-1.0 - margin:+.2f} to "
        text += f"{0.5 + margin:+.2f} is rounding or cutting down. V x I is used"
        yield Finding(8, "warn", rail.info.name, text)


def longest_unchanged(rail: RailTrace) -> tuple[int, float]:
    """Length of the longest row of equal readings, in samples and in seconds."""
    columns = np.stack((rail.voltage_mv, rail.current_ma, rail.power_uw))
    changed = np.flatnonzero(np.any(np.diff(columns, axis=1) != 0, axis=0)) + 1
    edges = np.concatenate(([0], changed, [columns.shape[1]]))
    lengths = np.diff(edges)
    at = int(np.argmax(lengths))
    first, last = int(edges[at]), int(edges[at + 1]) - 1
    return int(lengths[at]), float(rail.times_ns[last] - rail.times_ns[first]) * 1e-9


def window_noise(record: RunRecord, rail: RailTrace) -> tuple[float, float]:
    """Noise in W within windows, the step's share taken out, and correlation of neighbours.

    The noisiest window speaks: one in which the sensor is stuck has none. Of a window with fewer
    than three different readings nothing is known: on the edge between two steps any noise, however
    small, looks like 0.4 of a step.
    """
    best = (0.0, 0.0)
    step_w = rail.info.quantum_w
    for window in windows(record):
        inside = (rail.times_ns >= window.start_ns) & (rail.times_ns <= window.end_ns)
        watts = rail.power_w[inside]
        if len(np.unique(rail.current_ma[inside])) < MIN_LEVELS:
            continue
        noise_w = math.sqrt(max(float(np.var(watts, ddof=1)) - step_w**2 / 12, 0.0))
        if noise_w > best[0]:
            best = noise_w, lag1_autocorrelation(watts.tolist()) or 0.0
    return best


def stuck_samples_needed(rail: RailTrace, noise_w: float, lag1: float, limits: Limits) -> float:
    """Equal readings in a row that a live sensor does not give; inf where its step covers noise.

    20 samples and 10 refreshes are not enough at noise of a quarter of a step, where a value in
    the middle of a step stays there for seconds. Noise s stays within a step L around it with
    p = erf(L / (2 sqrt(2) s)) for each independent value, of which n correlated samples hold
    n (1 - r) / (1 + r) (first-order autoregressive), so n is taken where that falls below
    `stuck_probability`.
    """
    step_w = rail.info.quantum_w
    if noise_w <= limits.stuck_noise_steps * step_w:
        return math.inf
    spacing_ns = float(np.median(np.diff(rail.times_ns)))
    refreshes = limits.stuck_refreshes * (rail.info.update_period_ns or 0) / spacing_ns
    stays = math.erf(step_w / (2 * math.sqrt(2) * noise_w))
    held = min(max(lag1, 0.0), 0.99)
    independent = math.log(limits.stuck_probability) / math.log(stays) if stays < 1 else math.inf
    return max(limits.stuck_samples, refreshes, independent * (1 + held) / (1 - held))


def _stuck(
    record: RunRecord, rail: RailTrace, response: StepResponse | None, limits: Limits
) -> Iterator[Finding]:
    noise_w, lag1 = window_noise(record, rail)
    if response is not None and response.noise_w > noise_w:
        noise_w, lag1 = response.noise_w, max(lag1, response.lag1)
    n, seconds = longest_unchanged(rail)
    needed = stuck_samples_needed(rail, noise_w, lag1, limits)
    if n > needed:
        text = f"{n} equal readings in a row ({seconds:.1f} s) with noise of "
        text += f"{noise_w * 1e3:.1f} mW and steps of {rail.info.quantum_w * 1e3:.1f} mW; "
        yield Finding(9, "invalidate", rail.info.name, f"{text}at most {needed:.0f}")
    elif (
        n == len(rail.times_ns)
        and response is not None
        and response.lag_s is not None
        and response.step_w >= limits.stuck_load_steps * rail.info.quantum_w
    ):  # a step that covers the noise does not hide a load that is larger than itself
        text = f"all {n} readings are equal, idle or not; at the start the load was "
        text += f"{response.step_w / rail.info.quantum_w:.1f} of its steps and "
        text += f"{limits.stuck_load_steps:g} show"
        yield Finding(9, "invalidate", rail.info.name, text)


def _full_scale(rail: RailTrace, limits: Limits) -> Iterator[Finding]:
    peak_a = float(np.max(np.abs(rail.current_ma))) * 1e-3
    limit_a = limits.max_full_scale_share * rail.info.max_current_a
    if peak_a >= limit_a:
        yield Finding(
            10,
            "invalidate",
            rail.info.name,
            f"reads up to {peak_a:.3f} A; below {limit_a:.3f} A wanted "
            f"({limits.max_full_scale_share:.0%} of the most it can carry)",
        )


def check_block_sensors(runs: Sequence[CampaignRun], limits: Limits) -> Iterator[Finding]:
    """Checks 1 and 9 between the runs of a block.

    A sensor that is stuck over a whole run shows no noise there; another run of the block does.
    """
    for name in runs[0].record.trace.rails:
        rails = [(run, run.record.trace.rails.get(name)) for run in runs]
        infos = {rail.info for _, rail in rails if rail is not None}
        if len(infos) > 1 or any(rail is None for _, rail in rails):
            text = "is not the same sensor in all runs of a block; one wanted"
            yield Finding(1, "abort", name, text)
            continue
        noises = {
            run.key.position: window_noise(run.record, rail)
            for run, rail in rails
            if rail is not None and len(rail.times_ns) > 2
        }
        for run, rail in rails:
            if rail is None or run.key.position not in noises:
                continue
            others = (found for place, found in noises.items() if place != run.key.position)
            noise_w, lag1 = max(others, default=(0.0, 0.0))
            n, seconds = longest_unchanged(rail)
            needed = stuck_samples_needed(rail, noise_w, lag1, limits)
            if n > needed:
                text = f"{run.key.arm}: {n} equal readings in a row ({seconds:.1f} s), with noise "
                text += f"of {noise_w * 1e3:.1f} mW in another run; at most {needed:.0f}"
                yield Finding(9, "invalidate", name, text)
