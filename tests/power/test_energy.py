"""Energies of known power curves, their edges, and the error of a coarse sensor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.errors import TraceTooShortError
from bacmac.host.runtime.results import Window
from bacmac.power.energy import (
    absolute_u_w,
    energy_j,
    energy_per_inference,
    quantisation,
    run_power,
    window_power,
)
from bacmac.power.rails import RailInfo
from bacmac.power.sampler import RailTrace

BOARD = RailInfo("12V", 12.0, "INA226", 1, 0.001, 0.025, 0.001, 0.002)
START = 3 * 86_400 * 10**9  # three days after boot: float64 seconds would lose nanoseconds


def window(start_s: float, end_s: float) -> Window:
    return Window(START + round(start_s * 1e9), START + round(end_s * 1e9))


def uneven_times(n: int, end_s: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    steps = rng.uniform(0.5, 1.5, n)
    return START + np.cumsum(steps / steps.sum() * end_s * 1e9).astype(np.int64)


@given(watts=st.floats(0.001, 100), seed=st.integers(0, 99), start=st.floats(0, 3))
def test_constant_power_gives_power_times_time(watts: float, seed: int, start: float) -> None:
    times = uneven_times(200, 10.0, seed)

    energy = energy_j(times, np.full(200, watts), window(start, start + 6.5), "12V")

    assert energy == pytest.approx(watts * 6.5, rel=1e-9)


@given(slope=st.floats(-3, 3), seed=st.integers(0, 99))
def test_a_ramp_is_integrated_exactly_with_its_edges_interpolated(slope: float, seed: int) -> None:
    times = uneven_times(150, 10.0, seed)
    power = 40 + slope * (times - START) * 1e-9

    energy = energy_j(times, power, window(1.2345, 8.7654), "12V")

    exact = 40 * 7.5309 + slope * (8.7654**2 - 1.2345**2) / 2
    assert energy == pytest.approx(exact, rel=1e-9)


def test_a_step_is_wrong_by_at_most_half_a_sample() -> None:
    times = START + (np.arange(1, 501) * 20e6).astype(np.int64)
    power = np.where((times - START) * 1e-9 < 5.003, 1.0, 3.0)

    energy = energy_j(times, power, window(0.5, 9.5), "12V")

    assert energy == pytest.approx(4.503 + 3 * 4.497, abs=2.0 * 0.02 / 2)


def test_edges_without_a_sample_beyond_are_held() -> None:
    times = START + np.array([2, 3, 4], np.int64) * 10**9

    energy = energy_j(times, np.array([5.0, 6.0, 8.0]), window(0, 6), "12V")

    assert energy == pytest.approx(2 * 5 + 5.5 + 7 + 2 * 8)


def test_a_sampler_that_is_slower_in_one_half_does_not_bias_the_mean() -> None:
    fast = np.arange(0, 5, 0.02)
    slow = np.arange(5, 10, 0.06)
    seconds = np.concatenate((fast, slow))
    times = START + (seconds * 1e9).astype(np.int64)
    power = np.where(seconds < 5, 1.0, 2.0)

    mean = energy_j(times, power, window(0, 10), "12V") / 10

    assert mean == pytest.approx(1.5, abs=0.004)
    assert power.mean() < 1.26


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_samples_are_an_error_and_never_zero_joules(n: int) -> None:
    times = START + np.arange(n, dtype=np.int64) * 10**9

    with pytest.raises(TraceTooShortError, match=rf"rail 12V: {n} sample.*2 or more"):
        energy_j(times, np.ones(n), window(0, 5), "12V")


def test_samples_outside_the_window_do_not_count_as_samples_in_it() -> None:
    times = START + np.array([0, 1, 8, 9], np.int64) * 10**9

    with pytest.raises(TraceTooShortError, match="0 samples"):
        energy_j(times, np.ones(4), window(2, 7), "12V")


def trace_of(power: np.ndarray, seconds: np.ndarray) -> RailTrace:
    milliamperes = np.rint(power / 12.0 * 1e3).astype(np.int64)
    times = START + (seconds * 1e9).astype(np.int64)
    volts = np.full(len(times), 12_000, np.int64)
    return RailTrace(BOARD, times, volts, milliamperes, milliamperes * 12_000 + 5_000)


def test_dynamic_energy_is_that_above_the_mean_of_both_idles() -> None:
    seconds = np.arange(0.0, 30.0, 0.02)
    power = np.where((seconds >= 10) & (seconds < 20), 15.6, 12.0 + 0.024 * seconds)
    trace = trace_of(power, seconds)
    run = window(10, 20)

    rail = run_power(trace, window(2, 9), window(10.5, 19.9), window(21, 28))
    energy = energy_per_inference(rail, run, n_inferences=1000)

    idle_w = 12.0 + 0.024 * 15.0
    assert rail.idle_w == pytest.approx(idle_w, abs=0.001)
    assert energy.dynamic_j == pytest.approx((15.6 - idle_w) * 10 / 1000, rel=1e-3)
    assert energy.total_j == pytest.approx(15.6 * 10 / 1000, rel=1e-6)
    assert energy.total_j == pytest.approx(energy.dynamic_j + energy.static_j)
    assert energy.time_s == pytest.approx(0.01)
    assert energy.energy_delay_js == pytest.approx(energy.total_j * 0.01)
    assert energy.inferences_per_s_per_w == pytest.approx(1 / energy.total_j)
    # a constant offset of the power register cancels
    assert rail.register_dynamic_w == pytest.approx(rail.dynamic_w, abs=1e-6)


def test_dynamic_energy_below_zero_is_kept() -> None:
    seconds = np.arange(0.0, 30.0, 0.02)
    power = np.where((seconds >= 10) & (seconds < 20), 11.0, 12.0)

    rail = run_power(trace_of(power, seconds), window(2, 9), window(11, 19), window(21, 28))

    assert rail.dynamic_w == pytest.approx(-1.0, abs=0.01)


def test_the_largest_gap_counts_the_edges_of_the_window() -> None:
    seconds = np.concatenate((np.arange(0, 4, 0.02), np.arange(4.5, 9, 0.02)))

    inside = window_power(trace_of(np.full(len(seconds), 12.0), seconds), window(1, 8))
    edge = window_power(trace_of(np.full(len(seconds), 12.0), seconds), window(4.1, 8))

    assert inside.max_gap_s == pytest.approx(0.52, abs=0.03)
    assert edge.max_gap_s == pytest.approx(0.4, abs=0.03)
    assert inside.n_samples == np.count_nonzero((seconds >= 1) & (seconds <= 8))


def test_a_fine_sensor_has_no_quantisation_term() -> None:
    result = quantisation(BOARD, [0.02, 0.021, 0.019])

    assert result.u_window_w == 0.0
    assert result.noise_to_step == pytest.approx(1.63, abs=0.05)


def test_a_coarse_sensor_has_a_rectangular_term_where_nothing_dithers() -> None:
    coarse = RailInfo("INT", 0.85, "IRPS5401", 1, 0.125, 0.25)

    still = quantisation(coarse, [0.0, 0.0, 0.0])
    step = coarse.quantum_w
    dithered = quantisation(coarse, [math.hypot(0.3 * step, step / math.sqrt(12))] * 3)

    assert still.u_window_w == pytest.approx(step / math.sqrt(12))
    assert dithered.noise_w == pytest.approx(0.3 * step)
    expected = step / math.sqrt(12) * math.exp(-2 * math.pi**2 * 0.09)
    assert dithered.u_window_w == pytest.approx(expected)


@given(noise=st.floats(0.5, 3), level=st.floats(0, 1))
def test_half_a_step_of_noise_makes_the_mean_of_rounded_readings_right(
    noise: float, level: float
) -> None:
    """The limit that decides whether a term is added: bias below 0.3 % of a step."""
    grid = np.linspace(-12, 12, 200_001)
    density = np.exp(-((grid - level) ** 2) / (2 * noise**2))

    mean = float(np.sum(np.rint(grid) * density) / np.sum(density))

    assert abs(mean - level) < 0.003 + 0.002  # and the tails that the grid cuts


def test_type_b_of_an_absolute_power_is_gain_and_offset_as_rectangles() -> None:
    assert absolute_u_w(BOARD, 14.0) == pytest.approx(math.hypot(0.014, 0.024) / math.sqrt(3))
    assert absolute_u_w(RailInfo("INT", 0.85, "IRPS5401", None, 0.125, 0.25), 3.0) is None
