"""The trapezoid against exact integrals: never further off than its stated bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.runtime.results import Window
from bacmac.power.energy import energy_bound_j, energy_j

START_NS = 3 * 86_400 * 10**9
CASES = 10_000
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Signal:
    """A power over time with its exact integral from 0, its steepest slope and its jumps."""

    power_w: Callable[[Values], Values]
    energy_j: Callable[[float], float]
    slew_w_per_s: float
    jumps_w: float

    def __add__(self, other: Signal) -> Signal:
        return Signal(
            lambda t: self.power_w(t) + other.power_w(t),
            lambda t: self.energy_j(t) + other.energy_j(t),
            self.slew_w_per_s + other.slew_w_per_s,
            self.jumps_w + other.jumps_w,
        )


def step(at_s: float, height_w: float) -> Signal:
    return Signal(
        lambda t: np.where(t >= at_s, height_w, 0.0),
        lambda t: height_w * max(t - at_s, 0.0),
        0.0,
        abs(height_w),
    )


def ramp(base_w: float, slope: float) -> Signal:
    return Signal(
        lambda t: base_w + slope * t,
        lambda t: base_w * t + slope * t * t / 2,
        abs(slope),
        0.0,
    )


def sine(amplitude_w: float, hz: float, phase: float) -> Signal:
    w = 2 * math.pi * hz
    return Signal(
        lambda t: amplitude_w * np.sin(w * t + phase),
        lambda t: amplitude_w / w * (math.cos(phase) - math.cos(w * t + phase)),
        abs(amplitude_w) * w,
        0.0,
    )


def exponential(at_s: float, height_w: float, tau_s: float) -> Signal:
    """A load that comes at a time and is seen through a filter."""
    return Signal(
        lambda t: height_w * -np.expm1(-np.maximum(t - at_s, 0.0) / tau_s),
        lambda t: height_w * (max(t - at_s, 0) + tau_s * math.expm1(-max(t - at_s, 0) / tau_s)),
        abs(height_w) / tau_s,
        0.0,
    )


def random_signal(rng: np.random.Generator, length_s: float) -> Signal:
    at_s, watts = float(rng.uniform(0, length_s)), float(rng.uniform(-3, 3))
    kinds = (
        lambda: step(at_s, watts),
        lambda: ramp(float(rng.uniform(1, 20)), watts),
        lambda: sine(watts, float(10 ** rng.uniform(-1, 2.5)), float(rng.uniform(0, 7))),
        lambda: exponential(at_s, watts, float(10 ** rng.uniform(-3, 1))),
    )
    chosen = rng.permutation(4)[: int(rng.integers(1, 5))]
    signal = ramp(0.0, 0.0)
    for kind in chosen:
        signal = signal + kinds[kind]()
    return signal


def sample_times(rng: np.random.Generator, length_s: float, period_s: float) -> Values:
    """Jittered, with gaps, and not always as far as the window's edges."""
    begin, end = rng.uniform(-0.2, 0.2, 2)
    times = np.arange(begin, length_s + end, period_s)
    times = times + rng.uniform(-0.3, 0.3, len(times)) * period_s
    for _ in range(int(rng.integers(0, 4))):
        gap_s = float(rng.uniform(0, length_s))
        gap_end_s = gap_s + float(rng.exponential(8 * period_s))
        times = times[(times < gap_s) | (times > gap_end_s)]
    return times


def error_and_bound_j(signal: Signal, times_s: Values, window_s: float) -> tuple[float, float]:
    times_ns = START_NS + np.rint(times_s * 1e9).astype(np.int64)
    window = Window(START_NS, START_NS + round(window_s * 1e9))
    power_w = signal.power_w((times_ns - START_NS) * 1e-9)
    error = energy_j(times_ns, power_w, window, "12V") - (
        signal.energy_j(window.duration_s) - signal.energy_j(0.0)
    )
    bound = energy_bound_j(times_ns, window, signal.slew_w_per_s, signal.jumps_w)
    return abs(error), bound + 1e-9  # rounding of float64 at tens of J


def test_no_case_of_ten_thousand_is_beyond_the_bound() -> None:
    rng = np.random.default_rng(20)
    shares: list[float] = []
    while len(shares) < CASES:
        length_s = float(rng.uniform(0.5, 12))
        times = sample_times(rng, length_s, 0.02)
        if np.count_nonzero((times >= 0) & (times <= length_s)) < 2:
            continue
        error, bound = error_and_bound_j(random_signal(rng, length_s), times, length_s)
        assert error <= bound
        shares.append(error / bound)

    assert max(shares) > 0.5  # a bound that is nearly reached says something


@settings(max_examples=300)
@given(
    seed=st.integers(0, 2**32),
    length_s=st.floats(0.2, 20),
    period_s=st.floats(0.001, 0.5),
)
def test_the_bound_holds_at_any_length_and_period(
    seed: int, length_s: float, period_s: float
) -> None:
    rng = np.random.default_rng(seed)
    times = sample_times(rng, length_s, period_s)
    if np.count_nonzero((times >= 0) & (times <= length_s)) < 2 or np.any(np.diff(times) < 1e-6):
        return

    error, bound = error_and_bound_j(random_signal(rng, length_s), times, length_s)

    assert error <= bound


@pytest.mark.parametrize("late_s", [1e-6, 0.0099, 0.0199])
def test_a_jump_just_after_a_sample_takes_half_a_gap(late_s: float) -> None:
    times = np.arange(-0.02, 1.04, 0.02)

    error, bound = error_and_bound_j(step(0.5 + late_s, 2.0), times, 1.0)

    assert error == pytest.approx(2.0 * abs(0.01 - late_s), abs=1e-6)
    assert bound == pytest.approx(2.0 * 0.01, rel=1e-3)


def test_a_tent_between_two_samples_takes_all_of_the_bound() -> None:
    tent = Signal(
        lambda t: np.maximum(0.01 - np.abs(t - 0.51), 0.0), lambda t: 1e-4 * (t > 0.6), 1.0, 0.0
    )
    times = np.array([0.0, 0.5, 0.52, 1.0])

    error, bound = error_and_bound_j(tent, times, 1.0)

    gaps = np.diff(times)
    assert error == pytest.approx(0.02**2 / 4, rel=1e-6)
    assert bound == pytest.approx(float(np.sum(gaps**2)) / 4, rel=1e-6)


def test_a_jump_in_an_edge_that_is_held_takes_all_of_the_edge() -> None:
    times = np.arange(0.05, 1.0, 0.02)

    error, bound = error_and_bound_j(step(0.05, 1.0), times, 1.0)

    assert error == pytest.approx(0.05, abs=1e-6)
    assert bound == pytest.approx(0.05, rel=1e-6)
