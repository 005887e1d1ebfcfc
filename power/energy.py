"""Energy and mean power of windows, by the trapezoid on monotonic time.

The power of a run is integrated between its edges; at an edge the power is interpolated between
the samples on both sides, or held where a side has none. Samples are never averaged plainly: a
sampler that is slower while the processors work would bias the mean (3 % in simulation).

Dynamic energy is that above idle with the same overlay loaded and clocked, idle measured before
and after: E_dyn = (P_run - (P_before + P_after) / 2) * t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.errors import TraceTooShortError
from bacmac.host.runtime.results import Window
from bacmac.power.rails import RailInfo
from bacmac.power.sampler import RailTrace

FINE_ENOUGH = 0.5
"""Noise of half a step or more makes the mean of rounded readings good to 0.2 % of a step."""


def energy_j(
    times_ns: npt.NDArray[np.int64], power_w: npt.NDArray[np.float64], window: Window, rail: str
) -> float:
    """Energy of a window in J.

    Args:
        times_ns: int64 (n,), ascending.
        power_w: float64 (n,).
        window: from when to when.
        rail: for the message.

    Raises:
        TraceTooShortError: fewer than two samples lie in the window.
    """
    return _points(times_ns, window, rail).energy_j(power_w)


@dataclass(frozen=True, eq=False)
class _Points:
    """Where the power of a window is known: its edges and the samples between them.

    Attributes:
        inside: the samples in the window.
        near: those and one more on either side, where there is one: they give the edges.
        near_s: times of `near`, from the window's start.
        edges_s: 0 and the window's length.
        gaps_s: between edge, samples and edge.
    """

    inside: slice
    near: slice
    near_s: npt.NDArray[np.float64]
    edges_s: npt.NDArray[np.float64]
    gaps_s: npt.NDArray[np.float64]

    def energy_j(self, power_w: npt.NDArray[np.float64]) -> float:
        """The trapezoid; edges beyond the first and last sample are held."""
        at_edges = np.interp(self.edges_s, self.near_s, power_w[self.near])
        points_w = np.concatenate((at_edges[:1], power_w[self.inside], at_edges[1:]))
        return float(np.sum(self.gaps_s * (points_w[1:] + points_w[:-1])) / 2)


def _points(times_ns: npt.NDArray[np.int64], window: Window, rail: str) -> _Points:
    """The points of a window; TraceTooShortError where fewer than two samples lie in it."""
    inside = _inside(times_ns, window)
    n = inside.stop - inside.start
    if n < 2:
        raise TraceTooShortError(
            f"rail {rail}: {n} sample{'' if n == 1 else 's'} in a window of "
            f"{window.duration_s:.3f} s; energy needs 2 or more: sample faster or run longer"
        )
    near = slice(max(inside.start - 1, 0), inside.stop + 1)
    # int64 differences first: float64 cannot hold nanoseconds since boot and their fractions
    near_s = (times_ns[near] - window.start_ns).astype(np.float64) * 1e-9
    first = inside.start - near.start
    edges_s = np.array([0.0, window.duration_s])
    points_s = np.concatenate((edges_s[:1], near_s[first : first + n], edges_s[1:]))
    return _Points(inside, near, near_s, edges_s, points_s[1:] - points_s[:-1])


def energy_bound_j(
    times_ns: npt.NDArray[np.int64], window: Window, slew_w_per_s: float, jumps_w: float
) -> float:
    """What `energy_j` can be wrong by at most, in J, for exact readings at exact times.

    For every power that is a continuous part with a slope of at most S and jumps of J in all
    (their sizes added up), at whatever times the samples were taken. The trapezoid is linear in
    the power, so the two parts add up:

    - Continuous, between samples h apart: at most S h^2 / 4 (each end's power bounds it by a line
      of slope S; the worst is a tent halfway). Of a piece s of the h that an edge of the window
      cuts: at most S h s / 2, since chord and power are at most 2 S u (h - u) / h apart at u. At
      an edge held for s: at most S s^2 / 2.
    - Jumps: J h / 2, J s and J s likewise; at worst all of J falls into the worst of them.

    Noise, the sensor's step and errors of the time stamps are not in it.

    Args:
        times_ns: int64 (n,), ascending, two or more of them in the window.
        window: from when to when.
        slew_w_per_s: S, 0 or more.
        jumps_w: J, 0 or more; for a window over a change of load, the change.
    """
    inside = _inside(times_ns, window)
    points_s = (times_ns[inside] - window.start_ns) * 1e-9
    gaps_s = np.diff(points_s)
    slope_part = float(np.sum(gaps_s**2)) / 4
    jump_part_s = float(np.max(gaps_s, initial=0.0)) / 2
    ends = (
        (points_s[0], inside.start - 1, 1),
        (window.duration_s - points_s[-1], inside.stop, -1),
    )
    for cut_s, beyond, inward in ends:
        jump_part_s = max(jump_part_s, cut_s)
        if 0 <= beyond < len(times_ns):
            whole_s = abs(int(times_ns[beyond + inward] - times_ns[beyond])) * 1e-9
            slope_part += whole_s * cut_s / 2
        else:
            slope_part += cut_s**2 / 2
    return slew_w_per_s * slope_part + jumps_w * jump_part_s


def _inside(times_ns: npt.NDArray[np.int64], window: Window) -> slice:
    """Where the samples of a window lie; its edges belong to it."""
    start = int(np.searchsorted(times_ns, window.start_ns, "left"))
    return slice(start, int(np.searchsorted(times_ns, window.end_ns, "right")))


@dataclass(frozen=True)
class WindowPower:
    """Power over one window.

    Attributes:
        mean_w: trapezoid of voltage x current over the window's length.
        register_w: the same from the power register.
        sd_w: standard deviation of the samples of voltage x current.
        n_samples: how many there were.
        max_gap_s: longest time without a sample, the window's edges included.
    """

    mean_w: float
    register_w: float
    sd_w: float
    n_samples: int
    max_gap_s: float
    duration_s: float


def window_power(trace: RailTrace, window: Window) -> WindowPower:
    """Mean power and sampling facts of a window.

    Raises:
        TraceTooShortError: fewer than two samples lie in it.
    """
    points, power_w = _points(trace.times_ns, window, trace.info.name), trace.power_w
    return WindowPower(
        points.energy_j(power_w) / window.duration_s,
        points.energy_j(trace.register_w) / window.duration_s,
        float(np.std(power_w[points.inside], ddof=1)),
        points.inside.stop - points.inside.start,
        float(np.max(points.gaps_s)),
        window.duration_s,
    )


@dataclass(frozen=True)
class RunPower:
    """One rail over one run: idle, run, idle."""

    before: WindowPower
    run: WindowPower
    after: WindowPower

    @property
    def idle_w(self) -> float:
        """Mean of the two idle windows."""
        return (self.before.mean_w + self.after.mean_w) / 2

    @property
    def dynamic_w(self) -> float:
        """Power of the run above idle; may be 0 or below where the sensor cannot see it."""
        return self.run.mean_w - self.idle_w

    @property
    def register_dynamic_w(self) -> float:
        """Dynamic power by the sensor's power register, for comparison."""
        idle_w = (self.before.register_w + self.after.register_w) / 2
        return self.run.register_w - idle_w


def run_power(trace: RailTrace, before: Window, run: Window, after: Window) -> RunPower:
    """Power of the three windows of a run; TraceTooShortError where one has too few samples."""
    return RunPower(*(window_power(trace, window) for window in (before, run, after)))


@dataclass(frozen=True)
class EnergyPerInference:
    """What one inference takes, from one run.

    Attributes:
        dynamic_j: above idle, E_dyn.
        total_j: all the rail delivered during the run.
        static_j: idle power times the inference's time.
        time_s: time of one inference.
    """

    dynamic_j: float
    total_j: float
    static_j: float
    time_s: float

    @property
    def energy_delay_js(self) -> float:
        """Total energy times time, EDP."""
        return self.total_j * self.time_s

    @property
    def inferences_per_s_per_w(self) -> float:
        """Inferences a second for each W of the rail: the inverse of the total energy."""
        return 1.0 / self.total_j


def energy_per_inference(power: RunPower, run: Window, n_inferences: int) -> EnergyPerInference:
    """Energies of one inference of a run.

    The whole run counts, guard included: the mean power after the guard stands for all of it.

    Args:
        power: of the rail over this run.
        run: from the first input beat to the last output beat.
        n_inferences: images worked through in it.
    """
    time_s = run.duration_s / n_inferences
    return EnergyPerInference(
        power.dynamic_w * time_s, power.run.mean_w * time_s, power.idle_w * time_s, time_s
    )


@dataclass(frozen=True)
class Quantisation:
    """What the sensor's step does to means of its readings (Type B).

    Attributes:
        quantum_w: step of voltage x current.
        noise_w: noise seen, the step's own share taken out.
        u_window_w: standard uncertainty of one window's mean; 0 where noise dithers the step.
    """

    quantum_w: float
    noise_w: float
    u_window_w: float

    @property
    def noise_to_step(self) -> float:
        """Noise over step; below 0.5 a mean does not average the step away."""
        return self.noise_w / self.quantum_w


def quantisation(info: RailInfo, sds_w: Sequence[float]) -> Quantisation:
    """Quantisation term from the spread of the samples within windows.

    The mean of a rounded noisy value is wrong by at most (L / pi) exp(-2 pi^2 s^2 / L^2) (the
    first harmonic of the rounding error; Widrow and Kollar, Quantization Noise, 2008). Below
    s = L / 2 that becomes u_q = (L / sqrt 12) exp(-2 pi^2 s^2 / L^2), rectangular at s = 0. The
    noise is pooled as the median over windows of sqrt(sd^2 - L^2 / 12): one window at the edge
    of a step misleads.
    """
    step = info.quantum_w
    corrected = [math.sqrt(max(sd * sd - step * step / 12, 0.0)) for sd in sds_w]
    noise = float(np.median(corrected))
    return Quantisation(step, noise, step_uncertainty_w(step, noise))


def step_uncertainty_w(step_w: float, noise_w: float) -> float:
    """Standard uncertainty of a mean of rounded readings, 0 from FINE_ENOUGH noise on."""
    if noise_w / step_w >= FINE_ENOUGH:
        return 0.0
    return step_w / math.sqrt(12) * math.exp(-2 * math.pi**2 * (noise_w / step_w) ** 2)


def absolute_u_w(info: RailInfo, power_w: float) -> float | None:
    """Standard Type B uncertainty of an absolute power, or None where no datasheet value exists.

    Gain and offset limits as rectangular distributions (JCGM 100:2008, 4.3.7). Gain cancels in
    a ratio and offset in a dynamic energy, so neither is part of a ratio's interval.
    """
    if info.gain_error is None or info.offset_a is None:
        return None
    gain_w, offset_w = info.gain_error * power_w, info.offset_a * info.nominal_v
    return math.hypot(gain_w, offset_w) / math.sqrt(3)
