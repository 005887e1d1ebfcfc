"""How a sensor answers to a step of load: power pulses before the first block.

SPEC accepts a power meter by pulses of load whose energy is known (SPECpower, PTDaemon acceptance
tests); here the pulses are the accelerator's own work, and what is asked is whether the rail
answers at all and how late. The lag is the mean delay, the area between a step and its answer over
the step's height: for a first-order filter its time constant, for a value that is renewed every T
also T / 2 (the first moment of the impulse response; exact for any linear sensor).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bacmac.host.model.inputs import Images
from bacmac.host.runtime.results import Window
from bacmac.host.runtime.session import Session
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.run import Finding
from bacmac.power.probe import MIN_LEVELS
from bacmac.power.rails import RailInfo, RailSource, chosen_rails
from bacmac.power.refresh import Floats
from bacmac.power.sampler import PowerTrace, RailTrace, Sampler
from bacmac.power.statistics import lag1_autocorrelation

PULSES = 10
PULSE_S = 1.5
PULSE_REFRESHES = 4
"""A pulse holds at least this many refreshes of the slowest rail."""


@dataclass(frozen=True)
class StepResponse:
    """A rail's answer to pulses of work.

    Attributes:
        info: the rail and its sensor.
        n_pulses: how many it is of.
        step_w: mean rise from idle to work.
        u_step_w: its standard uncertainty by the spread of the pulses and the sensor's step.
        lag_s: mean delay; None where the rise is not seen.
        u_lag_s: its standard uncertainty, None likewise.
        noise_w: within idle, the sensor's step taken out.
        lag1: correlation of neighbouring readings there.
    """

    info: RailInfo
    n_pulses: int
    step_w: float
    u_step_w: float
    lag_s: float | None
    u_lag_s: float | None
    noise_w: float
    lag1: float

    @property
    def sure_tau_s(self) -> float:
        """Time constant that its filter surely has: the lag less half a refresh and two u, or 0."""
        if self.lag_s is None or self.u_lag_s is None:
            return 0.0
        refresh_s = (self.info.update_period_ns or 0) * 1e-9
        return max(self.lag_s - 2 * self.u_lag_s - refresh_s / 2, 0.0)

    @property
    def sentence(self) -> str:
        """All of it in words."""
        rise = f"{self.info.name} rises by {self.step_w:.3f} W (u {self.u_step_w * 1e3:.0f} mW)"
        if self.lag_s is None or self.u_lag_s is None:
            return f"{rise}: not seen"
        return f"{rise}, {self.lag_s * 1e3:.0f} ms late (u {self.u_lag_s * 1e3:.0f} ms)"


def pulse_s(infos: Sequence[RailInfo]) -> float:
    """Length of a pulse, and of the pause after it, that every one of these rails can follow."""
    slowest_s = max(((info.update_period_ns or 0) * 1e-9 for info in infos), default=0.0)
    return max(PULSE_S, PULSE_REFRESHES * slowest_s)


def sensor_step_response(
    session: Session,
    images: Images,
    passes_per_s: float,
    rails: RailSource,
    *,
    rail_names: Sequence[str] = (),
    sample_period_s: float = 0.02,
    seed: int = 0,
    limits: Limits | None = None,
) -> dict[str, StepResponse]:
    """Make pulses of work and see how every rail answers.

    Args:
        session: of one arm, not entered.
        images: to be held on chip.
        passes_per_s: how many passes over them are made in a second.
        rails: where to read.
        rail_names: rails to sample; none means all.
        sample_period_s: nominal time between samples.
        seed: of the sampling jitter.
        limits: what counts as a rise.

    Raises:
        RailError: a rail cannot be read.
        DeviceError: the device failed.
    """
    clock, length_s = session.board.clock, pulse_s(chosen_rails(rails, rail_names))
    passes = max(round(passes_per_s * length_s), 1)
    sampler = Sampler(
        rails, clock, rail_names, round(sample_period_s * 1e9), seed, skip_errors=True
    )
    pulses = []
    with session:
        clock.sleep_ns(round(length_s * 1e9))
        sampler.start()
        try:
            clock.sleep_ns(round(length_s * 1e9))
            for i in range(PULSES):
                pulses.append(session.repeat_unverified(images, passes).window)
                # pauses differ, so that pulses meet every phase of a sensor's refresh
                clock.sleep_ns(round(length_s * (1 + i / (PULSES * PULSE_REFRESHES)) * 1e9))
        except BaseException:  # Ctrl-C too: leave no thread that reads sensors
            sampler.abandon()
            raise
        trace = sampler.stop()
    return step_responses(trace, pulses, limits or Limits())


def step_responses(
    trace: PowerTrace, pulses: Sequence[Window], limits: Limits
) -> dict[str, StepResponse]:
    """Answers of all rails of a recording that begins and ends with a pause.

    Args:
        trace: as recorded.
        pulses: two or more, of about equal length, as long as the pauses.
        limits: what counts as a rise.
    """
    return {
        name: _response(rail, pulses, limits)
        for name, rail in trace.rails.items()
        if len(rail.times_ns) > 4
    }


def _response(rail: RailTrace, pulses: Sequence[Window], limits: Limits) -> StepResponse:
    seconds = np.asarray((rail.times_ns - pulses[0].start_ns) * 1e-9, np.float64)
    watts = rail.power_w
    rises, areas, spreads, correlations = [], [], [], []
    for pulse in pulses:
        start, end = ((t - pulses[0].start_ns) * 1e-9 for t in (pulse.start_ns, pulse.end_ns))
        length = end - start
        # in the second half of a pause or a pulse the sensor has followed
        before = _mean_w(seconds, watts, start - length / 2, start)
        busy = _mean_w(seconds, watts, start + length / 2, end)
        after = _mean_w(seconds, watts, end + length / 2, end + length)
        up = busy * length - _area_j(seconds, watts, start, end)
        down = _area_j(seconds, watts, end, end + length) - after * length
        rises += [busy - before, busy - after]
        areas += [up, down]
        idle = watts[(seconds >= start - length / 2) & (seconds < start)]
        if len(idle) > 2 and len(np.unique(idle)) >= MIN_LEVELS:
            spreads.append(float(np.var(idle, ddof=1)))
            correlations.append(lag1_autocorrelation(idle.tolist()) or 0.0)
    step_w, n = float(np.mean(rises)), len(pulses)
    # readings on two steps at most do not show a noise
    variance = float(np.median(spreads)) if 2 * len(spreads) > n else 0.0
    noise_w = math.sqrt(max(variance - rail.info.quantum_w**2 / 12, 0.0))
    # both edges of a pulse share its middle, so pulses are what is independent
    u_step_w = math.hypot(
        float(np.std(np.mean(np.reshape(rises, (n, 2)), axis=1), ddof=1)) / math.sqrt(n),
        rail.info.quantum_w / math.sqrt(12 * n),
    )
    lag_s = u_lag_s = None
    if step_w > limits.min_step_sigmas * u_step_w:
        lag_s = float(np.mean(areas)) / step_w
        per_pulse = np.mean(np.reshape(areas, (n, 2)), axis=1)
        u_lag_s = float(np.std(per_pulse, ddof=1)) / math.sqrt(n) / step_w
    lag1 = float(np.median(correlations)) if correlations else 0.0
    return StepResponse(rail.info, n, step_w, u_step_w, lag_s, u_lag_s, noise_w, lag1)


def _area_j(
    seconds: Floats,
    watts: Floats,
    start_s: float,
    end_s: float,
) -> float:
    """Trapezoid between two moments, edges interpolated."""
    inside = (seconds > start_s) & (seconds < end_s)
    points_s = np.concatenate(([start_s], seconds[inside], [end_s]))
    edges_w = np.interp([start_s, end_s], seconds, watts)
    points_w = np.concatenate((edges_w[:1], watts[inside], edges_w[1:]))
    return float(np.sum(np.diff(points_s) * (points_w[1:] + points_w[:-1])) / 2)


def _mean_w(
    seconds: Floats,
    watts: Floats,
    start_s: float,
    end_s: float,
) -> float:
    return _area_j(seconds, watts, start_s, end_s) / (end_s - start_s)


def check_step_responses(
    found: Mapping[str, StepResponse],
    judged: str,
    guard_s: float,
    limits: Limits,
    stored: Mapping[str, StepResponse] | None = None,
) -> tuple[Finding, ...]:
    """Checks 1, 6 and 9 at the start of a campaign and whenever it is taken up again.

    Args:
        found: as measured now.
        judged: the rail of the headline; the others need not show a rise.
        guard_s: that runs will have.
        limits: thresholds.
        stored: as measured when the campaign began, None when it begins.
    """
    findings: list[Finding] = []
    for name, response in found.items():
        if response.info.sees_logic:
            findings += _check_rise(response, name == judged, limits)
            findings += _check_lag(response, guard_s, limits, (stored or {}).get(name))
    for name, old in (stored or {}).items():
        if name not in found:
            findings.append(Finding(1, "abort", name, "is no longer there"))
        elif found[name].info != old.info:
            text = f"is now {found[name].info}; it was {old.info}"
            findings.append(Finding(1, "abort", name, text))
    return tuple(findings)


def _check_rise(response: StepResponse, judged: bool, limits: Limits) -> Iterator[Finding]:
    wanted_w = limits.min_step_sigmas * response.u_step_w
    if response.step_w < wanted_w:
        text = f"rises by {response.step_w * 1e3:.0f} mW when the accelerator works; "
        text += f"{wanted_w * 1e3:.0f} mW would be seen: it is stuck or sees nothing of it"
        yield Finding(9, "abort" if judged else "warn", response.info.name, text)


def _check_lag(
    response: StepResponse, guard_s: float, limits: Limits, stored: StepResponse | None
) -> Iterator[Finding]:
    lag_s, u_s, info = response.lag_s, response.u_lag_s, response.info
    if lag_s is None or u_s is None:
        return
    refresh_s = (info.update_period_ns or 0) * 1e-9
    needed_s = limits.guard_filter_taus * response.sure_tau_s + refresh_s
    if guard_s < needed_s * (1 - 1e-9):
        text = f"answers {lag_s:.3f} s late; a guard of {needed_s:.3f} s is needed, not {guard_s:g}"
        yield Finding(6, "abort", info.name, text)
    old_s: float | None = None
    u_old_s = 0.0
    if stored is not None:
        old_s, u_old_s = stored.lag_s, stored.u_lag_s or 0.0
    elif info.filter_tau_s is not None:
        old_s = info.filter_tau_s + refresh_s / 2
    if old_s is None:
        return
    allowed_s = limits.max_lag_change_share * old_s
    allowed_s += limits.lag_sigmas * math.hypot(u_s, u_old_s)
    if abs(lag_s - old_s) > allowed_s:
        text = f"answers {lag_s * 1e3:.0f} ms late; {old_s * 1e3:.0f} +- {allowed_s * 1e3:.0f} ms "
        yield Finding(6, "abort", info.name, text + "was expected")
