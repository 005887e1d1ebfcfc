"""Sampling: deadlines, jitter, gaps that stay visible, and errors that reach whoever stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from bacmac.host.device.clock import RealClock, VirtualClock
from bacmac.host.errors import RailError
from bacmac.power.rails import RailInfo, RawSample
from bacmac.power.record import record, write_trace_csv
from bacmac.power.sampler import Sampler

PERIOD = 20_000_000
INFOS = (
    RailInfo("INT", 0.85, "fake", 1, 0.125, 0.25),
    RailInfo("12V", 12.0, "fake", 1, 0.001, 0.025),
)


class FakeRails:
    """Counts reads; `on_read` may advance a clock or raise."""

    word, emulated = "fake:", False

    def __init__(
        self, now_ns: Callable[[], int], on_read: Callable[[int], None] = lambda n: None
    ) -> None:
        self.now_ns, self.on_read, self.n = now_ns, on_read, 0

    def rails(self) -> tuple[RailInfo, ...]:
        return INFOS

    def read(self, rail: str) -> RawSample:
        if rail not in ("INT", "12V"):
            raise RailError(f"rail {rail!r} is switched off")
        self.n += 1
        self.on_read(self.n)
        return RawSample(self.now_ns(), 850, 1000 + self.n, 0)


def test_samples_lie_within_the_jitter_of_their_deadlines() -> None:
    clock = VirtualClock(1_000)
    sampler = Sampler(FakeRails(clock.now_ns), clock, seed=4)
    sampler.start()
    clock.sleep_ns(100 * PERIOD)
    trace = sampler.stop()

    times = trace.rails["INT"].times_ns - 1_000
    nominal = np.arange(1, len(times) + 1) * PERIOD
    assert 99 <= len(times) <= 100
    assert np.abs(times - nominal).max() <= 0.3 * PERIOD
    assert np.abs(times - nominal).max() > 0.2 * PERIOD
    assert np.all(np.diff(times) > 0)


def test_the_jitter_is_seeded() -> None:
    def times(seed: int) -> list[int]:
        clock = VirtualClock()
        sampler = Sampler(FakeRails(clock.now_ns), clock, seed=seed)
        sampler.start()
        clock.sleep_ns(50 * PERIOD)
        return list(sampler.stop().rails["12V"].times_ns)

    assert times(1) == times(1)
    assert times(1) != times(2)


def test_the_trace_holds_the_raw_integers_and_where_they_came_from() -> None:
    clock = VirtualClock()
    sampler = Sampler(FakeRails(clock.now_ns), clock, ("12V",))
    sampler.start()
    clock.sleep_ns(3 * PERIOD)
    trace = sampler.stop()

    assert list(trace.rails) == ["12V"]
    assert trace.rails["12V"].current_ma.tolist()[:2] == [1001, 1002]
    assert trace.rails["12V"].power_w[0] == pytest.approx(0.850 * 1.001)
    assert (trace.source, trace.emulated, trace.period_ns) == ("fake:", False, PERIOD)


def test_a_late_sampler_leaves_a_gap_and_no_burst() -> None:
    """A read that blocks for ten periods costs ten samples; none is made up for afterwards."""
    clock = VirtualClock()

    def block(n: int) -> None:
        if n == 20:
            clock._now_ns += 10 * PERIOD

    sampler = Sampler(FakeRails(clock.now_ns, block), clock, ("INT",))
    sampler.start()
    clock.sleep_ns(60 * PERIOD)
    times = sampler.stop().rails["INT"].times_ns

    gaps = np.diff(times)
    assert gaps.max() >= 9 * PERIOD
    assert len(times) <= 52
    assert np.count_nonzero(gaps < 0.39 * PERIOD) <= 1  # the one that follows the late read


def test_an_unknown_or_dead_rail_is_refused_before_sampling() -> None:
    clock = VirtualClock()

    with pytest.raises(RailError, match="'FMC' is switched off"):
        Sampler(FakeRails(clock.now_ns), clock, ("FMC",))


def test_on_the_virtual_clock_a_failed_read_reaches_the_sleeper() -> None:
    clock = VirtualClock()

    def fail(n: int) -> None:
        if n == 5:
            raise RailError("curr2_input: cannot be read")

    sampler = Sampler(FakeRails(clock.now_ns, fail), clock)
    sampler.start()

    with pytest.raises(RailError, match="curr2_input"):
        clock.sleep_ns(100 * PERIOD)


def test_on_the_real_clock_a_failed_read_reaches_whoever_stops() -> None:
    failed = threading.Event()

    def fail(n: int) -> None:
        if n == 3:
            failed.set()
            raise RailError("curr2_input: cannot be read")

    clock = RealClock()
    sampler = Sampler(FakeRails(clock.now_ns, fail), clock, period_ns=1_000_000)
    sampler.start()
    assert failed.wait(10)

    with pytest.raises(RailError, match="curr2_input"):
        sampler.stop()


def test_on_the_real_clock_samples_are_taken_by_a_thread() -> None:
    enough = threading.Event()
    clock = RealClock()

    def count(n: int) -> None:
        if n >= 20:
            enough.set()

    sampler = Sampler(FakeRails(clock.now_ns, count), clock, period_ns=1_000_000)
    sampler.start()
    assert enough.wait(10)

    trace = sampler.stop()
    assert len(trace.rails["INT"].times_ns) >= 10
    assert np.all(np.diff(trace.rails["INT"].times_ns) > 0)


def test_abandoning_hides_a_rail_error_behind_the_first_one() -> None:
    failed = threading.Event()

    def fail(n: int) -> None:
        failed.set()
        raise RailError("second")

    clock = RealClock()
    sampler = Sampler(FakeRails(clock.now_ns, fail), clock, period_ns=1_000_000)
    sampler.start()
    assert failed.wait(10)

    sampler.abandon()
    sampler.abandon()
    with pytest.raises(RuntimeError, match="not started"):
        sampler.stop()


def test_a_clock_that_goes_back_is_an_error() -> None:
    times = iter([5, 6, 4, 7])
    clock = VirtualClock()
    sampler = Sampler(FakeRails(lambda: next(times)), clock, ("INT",))
    sampler.start()
    clock.sleep_ns(round(4.5 * PERIOD))

    with pytest.raises(RailError, match="the clock went back"):
        sampler.stop()


def test_a_recording_is_written_as_the_integers_that_were_read(tmp_path) -> None:
    clock = VirtualClock()
    trace = record(FakeRails(clock.now_ns), clock, 0.1)

    write_trace_csv(tmp_path / "trace.csv", trace)

    lines = (tmp_path / "trace.csv").read_text().splitlines()
    assert lines[0] == "rail,time_ns,voltage_mv,current_ma,power_uw"
    assert len(lines) == 1 + sum(len(rail.times_ns) for rail in trace.rails.values())
    first = trace.rails["INT"]
    assert lines[1] == f"INT,{first.times_ns[0]},850,1001,0"
