"""Virtual time passes only in sleeps and keeps order; the real clock hands errors over."""

from __future__ import annotations

import itertools
import threading

import pytest

from bacmac.host.device.clock import RealClock, VirtualClock


def every(period_ns, start_ns=0):
    return itertools.count(start_ns + period_ns, period_ns)


def test_calls_are_made_at_their_deadlines_while_somebody_sleeps():
    clock = VirtualClock(100)
    seen = []
    clock.call_at(every(30, 100), lambda: seen.append(("a", clock.now_ns())))
    clock.call_at(every(50, 100), lambda: seen.append(("b", clock.now_ns())))

    assert seen == []
    clock.sleep_ns(100)

    assert clock.now_ns() == 200
    assert seen == [("a", 130), ("b", 150), ("a", 160), ("a", 190), ("b", 200)]


def test_a_stopped_call_is_made_no_more():
    clock = VirtualClock()
    seen = []
    periodic = clock.call_at(every(10), lambda: seen.append(clock.now_ns()))

    clock.sleep_ns(25)
    periodic.stop()
    clock.sleep_ns(100)

    assert seen == [10, 20]


def test_a_call_may_itself_take_virtual_time():
    clock = VirtualClock()
    seen = []

    def slow():
        seen.append(clock.now_ns())
        clock.sleep_ns(15)

    clock.call_at(every(10), slow)
    clock.sleep_ns(40)

    assert seen == sorted(seen)
    assert seen[0] == 10
    assert clock.now_ns() >= 40


def test_a_deadline_that_is_past_is_called_at_once():
    clock = VirtualClock(1000)
    seen = []
    clock.call_at(iter([5, 1010]), lambda: seen.append(clock.now_ns()))

    clock.sleep_ns(20)

    assert seen == [1000, 1010]


def test_time_never_runs_backwards():
    clock = VirtualClock(5)

    clock.sleep_ns(-10)

    assert clock.now_ns() == 5


def test_the_real_clock_calls_from_a_thread_until_stopped():
    called = threading.Event()
    clock = RealClock()
    start_ns = clock.now_ns()
    clock.sleep_ns(0)

    periodic = clock.call_at(every(1, start_ns - 10), called.set)
    made = called.wait(timeout=30)
    periodic.stop()

    assert made
    assert clock.now_ns() >= start_ns
    assert not any(thread.name == "bacmac-periodic" for thread in threading.enumerate())


def test_what_a_call_raises_comes_out_of_stop():
    called = threading.Event()

    def fail():
        called.set()
        raise ZeroDivisionError("in the call")

    periodic = RealClock().call_at(iter([0]), fail)
    called.wait(timeout=30)

    with pytest.raises(ZeroDivisionError, match="in the call"):
        periodic.stop()
