"""The probe finds refresh, steps and noise where they are known, and says what it cannot tell."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.device.activity import Activity, ActivityLog
from bacmac.host.device.clock import VirtualClock
from bacmac.host.errors import RailError
from bacmac.overlays.registry import load_overlay
from bacmac.power.coefficients import load_coefficients
from bacmac.power.emulated import PERSONALITIES, STEP_NS, EmulatedRails
from bacmac.power.hwmon import HwmonRails
from bacmac.power.probe import RailProbe, analyse_reads, find_step, watch
from bacmac.power.rails import RailInfo, RawSample

MS = 1_000_000


class SteppedRail:
    """A sensor whose value is new every `period_ns`, noisy, and rounded to a step of current.

    Args:
        clock: virtual; a read takes `cost_ns` of it.
        lag1: correlation of one value with the next.
        spoil: changes the n-th reading.
    """

    word, emulated = "fake:", False

    def __init__(
        self,
        clock: VirtualClock,
        period_ns: float = 35.2 * MS,
        step_a: float = 0.001,
        noise_a: float = 0.002,
        mean_a: float = 1.1583,
        volts: float = 12.1,
        lag1: float = 0.0,
        cost_ns: int = 0,
        power_step_w: float = 0.025,
        spoil: Any = None,
        seed: int = 1,
    ) -> None:
        self.info = RailInfo("12V", 12.0, "fake", None, step_a, power_step_w)
        self.clock, self.period_ns, self.cost_ns, self.spoil = clock, period_ns, cost_ns, spoil
        self.volts, self.n, self.power_step_w = volts, 0, power_step_w
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal(60_000)
        for i in range(1, len(noise) if lag1 else 0):
            noise[i] = lag1 * noise[i - 1] + math.sqrt(1 - lag1**2) * noise[i]
        self.amperes = np.round((mean_a + noise_a * noise) / step_a) * step_a

    def rails(self) -> tuple[RailInfo, ...]:
        return (self.info,)

    def read(self, rail: str) -> RawSample:
        begin = self.clock.now_ns()
        self.n += 1
        amperes = float(self.amperes[int((begin + 7.3 * MS) // self.period_ns)])
        watts = math.floor(self.volts * amperes / self.power_step_w + 1e-9) * self.power_step_w
        self.clock.pass_to(begin + self.cost_ns)
        sample = RawSample(
            begin + self.cost_ns // 2,
            round(self.volts * 1e3),
            round(amperes * 1e3),
            round(watts * 1e6),
        )
        return sample if self.spoil is None else self.spoil(self.n, sample)


def probed(seconds: float = 20.0, **options: Any) -> RailProbe:
    clock = VirtualClock()
    rail = SteppedRail(clock, **options)
    return analyse_reads(watch(rail, clock, rail.info, seconds))


@settings(deadline=None, max_examples=25)
@given(period_ms=st.floats(3.0, 300.0), seed=st.integers(0, 99))
def test_the_refresh_is_found_whatever_it_is(period_ms: float, seed: int) -> None:
    found = probed(period_ns=period_ms * MS, seed=seed).refresh

    assert found.kind == "measured"
    assert found.period_ns == pytest.approx(period_ms * MS, rel=0.01)
    assert not found.aliased


@pytest.mark.parametrize("noise_a", [0.03, 0.04])
def test_the_refresh_is_found_where_most_new_values_look_like_the_old(noise_a: float) -> None:
    found = probed(60.0, period_ns=8.9 * MS, step_a=0.125, noise_a=noise_a, mean_a=4.5).refresh

    assert found.n_changes < 60e9 / (8.9 * MS) / 4
    assert found.period_ns == pytest.approx(8.9 * MS, rel=0.01)


def test_two_thirds_of_the_reads_delayed_do_not_hide_the_refresh() -> None:
    rng = np.random.default_rng(3)
    clock = VirtualClock()

    def delay(n: int, sample: RawSample) -> RawSample:
        clock.pass_to(clock.now_ns() + int(rng.integers(0, 3 * MS)))
        return sample

    rail = SteppedRail(clock, spoil=delay)
    found = analyse_reads(watch(rail, clock, rail.info, 20.0)).refresh

    assert found.period_ns == pytest.approx(35.2 * MS, rel=0.01)


def test_a_refresh_faster_than_the_reads_is_bounded_and_aliases() -> None:
    found = probed(period_ns=0.4 * MS).refresh

    assert found.kind == "at most"
    assert found.period_ns == pytest.approx(found.read_gap_ns)
    assert found.aliased


def test_slow_reads_bound_the_refresh_by_their_own_time() -> None:
    probe = probed(period_ns=4.0 * MS, cost_ns=5 * MS)

    assert probe.refresh.kind == "at most"
    assert probe.refresh.period_ns == pytest.approx(5 * MS)
    assert probe.cost is not None
    assert probe.cost.median_s == pytest.approx(5e-3)


def test_too_few_changes_bound_the_refresh_and_do_not_measure_it() -> None:
    found = probed(8.0, period_ns=1000 * MS).refresh

    assert (found.kind, found.n_changes) == ("at most", 7)
    assert found.period_ns == pytest.approx(1000 * MS, rel=0.01)


def test_a_value_that_never_changes_tells_no_refresh() -> None:
    probe = probed(5.0, noise_a=0.0)

    assert (probe.refresh.kind, probe.refresh.period_ns) == ("not seen", None)
    assert probe.noise.lag1 is None
    assert not probe.step_is_measured
    assert "nothing changed in 5000 readings" in probe.bogus[0]


@pytest.mark.parametrize("step", [1, 2, 5, 25, 125])
def test_a_whole_step_is_found(step: int) -> None:
    rng = np.random.default_rng(7)
    values = 4000 // step * step + step * rng.integers(-6, 7, 400)

    assert find_step(values).size == step


@settings(deadline=None)
@given(step=st.floats(4.0, 200.0), levels=st.integers(4, 30), start=st.integers(1, 400))
def test_a_step_that_is_not_whole_is_found_to_a_unit_over_its_levels(
    step: float, levels: int, start: int
) -> None:
    values = np.round(step * np.arange(start, start + levels)).astype(np.int64)

    found = find_step(values)

    assert found.n_levels == levels
    assert found.size == pytest.approx(step, abs=1.5 / (levels - 1))


def test_two_levels_bound_a_step_and_one_tells_none() -> None:
    assert find_step(np.array([250, 500, 250])).size == 250
    assert not find_step(np.array([250, 500, 250])).sure
    assert find_step(np.array([250, 250])).size is None


def test_the_steps_of_all_four_quantities_are_told() -> None:
    probe = probed(step_a=0.0088333, noise_a=0.02)

    assert probe.voltage_v.size is None
    assert probe.current_a.size == pytest.approx(0.0088333, rel=0.02)
    assert probe.register_w.size == pytest.approx(0.025)
    assert probe.step_w == pytest.approx(0.1069, rel=0.02)


@pytest.mark.parametrize("lag1", [0.0, 0.8])
def test_noise_and_its_correlation_are_those_of_fresh_values(lag1: float) -> None:
    noise = probed(60.0, noise_a=0.004, lag1=lag1).noise

    assert noise.spacing_s == pytest.approx(0.0352, rel=0.01)
    assert noise.noise_w == pytest.approx(12.1 * 0.004, rel=0.1)
    assert noise.lag1 == pytest.approx(lag1, abs=0.06)


def test_a_drift_is_not_taken_for_noise() -> None:
    def drift(n: int, sample: RawSample) -> RawSample:
        return sample._replace(current_ma=sample.current_ma + n // 200)

    noise = probed(20.0, noise_a=0.004, spoil=drift).noise

    assert noise.noise_w == pytest.approx(12.1 * 0.004, rel=0.1)


def test_the_steps_own_share_is_no_noise() -> None:
    noise = probed(60.0, step_a=0.01, noise_a=0.004).noise

    assert noise.sd_w > 1.1 * noise.noise_w
    assert noise.noise_w == pytest.approx(12.1 * 0.004, rel=0.1)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s._replace(power_uw=s.voltage_mv * s.current_ma), "agrees with V x I"),
        (lambda s: s, "it cuts down"),
        (lambda s: s._replace(power_uw=s.power_uw // 1000), "mW as uW"),
        (lambda s: s._replace(power_uw=2 * s.power_uw), "does not agree"),
        (lambda s: s._replace(power_uw=0), "does not agree"),
        (lambda s: s._replace(power_uw=14_025_000), "agrees with V x I within rounding"),
    ],
)
def test_the_power_register_is_held_against_v_times_i(change: Any, text: str) -> None:
    probe = probed(spoil=lambda n, sample: change(sample))

    assert text in probe.register.text


def test_a_rail_that_is_off_is_bogus() -> None:
    probe = probed(5.0, volts=0.156, mean_a=10.187)

    assert "5000 of 5000 readings cannot be: it reads 0.156 V" in probe.bogus[0]


def test_one_reading_of_another_page_is_bogus() -> None:
    def page(n: int, sample: RawSample) -> RawSample:
        return sample._replace(voltage_mv=851) if n == 700 else sample

    assert "1 of 5000 readings cannot be: it reads 0.851 V" in probed(5.0, spoil=page).bogus[0]


def test_failed_reads_are_counted_and_nothing_stands_for_them() -> None:
    def fail(n: int, sample: RawSample) -> RawSample:
        if n % 100 == 0:
            raise RailError("curr1_input: cannot be read: Input/output error")
        return sample

    probe = probed(5.0, spoil=fail)

    assert probe.n_reads == 4950
    assert "50 reads failed: curr1_input: cannot be read" in probe.bogus[-1]


def test_a_rail_that_only_fails_is_an_error_with_its_reason() -> None:
    def fail(n: int, sample: RawSample) -> RawSample:
        raise RailError("curr1_input: cannot be read")

    with pytest.raises(RailError, match=r"12V: 0 readings in 1 s: curr1_input: cannot be read"):
        probed(1.0, spoil=fail)


def test_a_watch_that_is_too_short_says_so() -> None:
    with pytest.raises(RailError, match=r"2 readings in 0\.002 s: raise --seconds"):
        probed(0.002)


def emulated(personality: str, rail: str, busy: bool) -> RailProbe:
    clock = VirtualClock()
    log = ActivityLog(overlays=[(0, load_overlay("bac-pot4").manifest)])
    rng, begin = np.random.default_rng(1), 0
    while busy and begin < 40e9:
        end = begin + int(rng.uniform(5, 200) * MS)
        products = int(rng.uniform(0, 1) * (end - begin) * 600)
        log.work.append(Activity(begin, end, 1, 1, products, 0, 0, 0, 0, 0))
        begin = end
    source = EmulatedRails(log, clock, personality, seed=3)
    info = next(info for info in source.rails() if info.name == rail)
    return analyse_reads(watch(source, clock, info, 30.0), virtual=True)


@pytest.mark.parametrize("personality", [n for n in PERSONALITIES if n != "zcu102"])
def test_the_emulated_12v_sensor_is_found_as_it_was_made(personality: str) -> None:
    probe = emulated(personality, "12V", busy=False)
    numbers = load_coefficients()

    assert probe.refresh.period_ns == pytest.approx(4 * STEP_NS, rel=0.01)
    step_a = PERSONALITIES[personality].board_step_a
    assert probe.current_a.size == pytest.approx(step_a, rel=0.05)
    assert probe.register_w.size == pytest.approx(0.025)
    assert probe.cost is None  # its time is virtual
    # two Ornstein-Uhlenbeck processes, one of them before the regulator, each averaged over a
    # conversion: variance factor 2 (x - 1 + exp(-x)) / x^2 with x = conversion / tau
    x = 4 * STEP_NS * 1e-9 / numbers["noise_tau_s"]
    share = math.sqrt(2 * (x - 1 + math.exp(-x)) / x**2)
    expected_w = numbers["noise_w"] * math.hypot(1, 1 / numbers["regulator_efficiency"]) * share
    if personality != "coarse":  # there the step hides part of it
        assert probe.noise.noise_w == pytest.approx(expected_w, rel=0.15)
        assert probe.noise.lag1 == pytest.approx(math.exp(-x), abs=0.1)


def test_the_emulated_int_rail_is_found_as_it_was_made_once_the_board_works() -> None:
    probe = emulated("", "INT", busy=True)

    assert probe.refresh.period_ns == pytest.approx(STEP_NS, rel=0.01)
    assert probe.current_a.size == pytest.approx(0.125)
    assert probe.step_w == pytest.approx(0.125 * 0.851)
    assert probe.register_w.size == pytest.approx(0.25)
    assert "it cuts down" in probe.register.text


def test_the_old_kernels_cache_shows_as_a_refresh_of_a_second() -> None:
    probe = emulated("1s-cache", "INT", busy=True)

    assert probe.refresh.kind == "measured"
    assert probe.refresh.period_ns == pytest.approx(1e9, rel=0.01)


def test_a_sensor_under_hwmon_is_probed_by_its_files(sysfs: Any) -> None:
    """A new value every 20 ms, written into the files as a driver would."""
    files = {"in0_input": 6, "in1_input": 12_100, "curr1_input": 1_150}
    home: Path = sysfs.chip("i2c-5/5-0040", "ina226", files | {"power1_input": 13_900_000})

    class WritingClock(VirtualClock):
        updates = 0

        def sleep_ns(self, duration_ns: int) -> None:
            super().sleep_ns(duration_ns)
            if self.now_ns() >= self.updates * 20 * MS:
                self.updates += 1
                (home / "curr1_input").write_text(f"{1_150 + 2 * (self.updates * 7 % 5)}\n")

    clock = WritingClock()
    source = HwmonRails(clock, sysfs.hwmon)

    probe = analyse_reads(watch(source, clock, source.rails()[0], 2.0))

    assert probe.refresh.period_ns == pytest.approx(20 * MS, rel=0.01)
    assert probe.current_a.size == pytest.approx(0.002)
    assert probe.bogus == ()
