"""Faults of emulated rails: said in a word, there when they should be, and only then."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.device.activity import ActivityLog
from bacmac.host.device.clock import VirtualClock
from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.errors import RailError
from bacmac.overlays.registry import load_overlay
from bacmac.power.emulated import EmulatedRails
from bacmac.power.rail_faults import (
    RAIL_FAULTS,
    STATE_FAULTS,
    Fault,
    FaultyRails,
    parse_rails_word,
)
from bacmac.power.sampler import PowerTrace, Sampler
from bacmac.power.sources import open_rails

SECOND = 1_000_000_000
OVERLAYS = ("bac-pot4e4", "mac-uniform8")


def trace(*faults: Fault, seconds: float = 6.0, personality: str = "") -> PowerTrace:
    """Six seconds of both rails; the second overlay is loaded after three."""
    clock = VirtualClock()
    log = ActivityLog(
        overlays=[(i * 3 * SECOND, load_overlay(name).manifest) for i, name in enumerate(OVERLAYS)]
    )
    early = ActivityLog(overlays=log.overlays[:1])
    rails = FaultyRails(early, clock, personality, seed=4, faults=faults)
    sampler = Sampler(rails, clock, skip_errors=True)
    sampler.start()
    clock.sleep_ns(round(seconds * SECOND / 2))
    early.overlays.append(log.overlays[1])
    clock.sleep_ns(round(seconds * SECOND / 2))
    return sampler.stop()


def between(found: PowerTrace, start_s: float, end_s: float, rail: str = "12V") -> np.ndarray:
    own = found.rails[rail]
    inside = (own.times_ns >= start_s * SECOND) & (own.times_ns < end_s * SECOND)
    columns = (own.voltage_mv, own.current_ma, own.power_uw)
    return np.stack([column[inside] for column in columns], axis=1)


@pytest.mark.parametrize("name", RAIL_FAULTS)
def test_a_fault_changes_its_rail_in_its_time_and_nothing_else(name: str) -> None:
    clean, faulty = trace(), trace(Fault(name, "12V", 2.0, 4.0))

    if name == "gap":  # time passes in a reading, so what comes after is read at other moments
        assert np.max(np.diff(faulty.rails["12V"].times_ns)) > 0.29 * SECOND
        return
    assert np.array_equal(between(clean, 0, 2), between(faulty, 0, 2))
    assert np.array_equal(between(clean, 4, 6), between(faulty, 4, 6))
    assert np.array_equal(between(clean, 0, 6, "INT"), between(faulty, 0, 6, "INT"))
    assert not np.array_equal(between(clean, 2, 4), between(faulty, 2, 4))


def test_a_stuck_sensor_repeats_what_it_read_last() -> None:
    found = trace(Fault("stuck", "12V", 2.0))

    after = between(found, 2, 6)
    assert np.array_equal(np.unique(after, axis=0)[0], between(found, 0, 2)[-1])
    assert len(np.unique(after, axis=0)) == 1


def test_a_fault_of_one_overlay_leaves_the_other_alone() -> None:
    found = trace(Fault("stuck", "12V", overlay="mac-uniform8"))

    assert len(np.unique(between(found, 0, 3), axis=0)) > 5
    assert len(np.unique(between(found, 3.1, 6), axis=0)) == 1


def test_failed_readings_are_counted_and_never_filled_in() -> None:
    found = trace(Fault("i2c-error", "INT", 2.0, 3.0))

    assert found.read_errors == pytest.approx(50, abs=3)
    assert len(between(found, 2, 3, "INT")) == 0


def test_a_slow_sensor_has_a_new_value_a_second() -> None:
    changes = np.any(np.diff(between(trace(Fault("slow", "12V")), 0, 6), axis=0) != 0, axis=1)

    assert 4 <= np.count_nonzero(changes) <= 6


def test_a_coarse_sensor_says_so() -> None:
    rails = FaultyRails(EmulatedBoard().activity, VirtualClock(), faults=[Fault("coarse", "12V")])

    assert {info.name: round(info.quantum_w, 3) for info in rails.rails()}["12V"] == 0.106


def test_faults_go_with_a_personality() -> None:
    rails = open_rails("emulated:zcu102,stuck=VCCINT@5-9,hot", EmulatedBoard())

    assert isinstance(rails, FaultyRails)
    assert rails.faults == (Fault("stuck", "VCCINT", 5.0, 9.0), Fault("hot"))
    assert rails.personality.name == "zcu102"
    assert rails.word == "emulated:zcu102,stuck=VCCINT@5-9,hot"


def test_a_word_without_faults_opens_plain_rails() -> None:
    assert type(open_rails("emulated:coarse", EmulatedBoard())) is EmulatedRails


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("emulated:,melted", "no fault 'melted'"),
        ("emulated:stuck=", "no fault 'stuck='"),
        ("emulated:,stuck@5", "no fault 'stuck@5'"),
        ("emulated:hot=12V", "no fault 'hot=12V'"),
        ("emulated:hot@", "nothing after @"),
        ("emulated:hot@9-5", "expected START or START-END"),
        ("emulated:hot@nan", "expected START or START-END"),
        ("emulated:stuck=3V3", "there is no such rail; there are INT, 12V"),
        ("emulated:fast,hot", "no emulated board 'fast'"),
        ("emulated:\t,hot", "no emulated board"),
    ],
)
def test_a_wrong_word_says_what_there_is(word: str, text: str) -> None:
    with pytest.raises(RailError, match=text):
        open_rails(word, EmulatedBoard())


@given(
    st.lists(
        st.tuples(
            st.sampled_from([(n, "12V") for n in RAIL_FAULTS] + [(n, "") for n in STATE_FAULTS]),
            st.integers(0, 1000),
            st.one_of(st.none(), st.integers(1001, 2000)),
        ),
        max_size=5,
    ),
    st.sampled_from(["", "coarse", "1s-cache"]),
)
def test_every_word_means_what_it_says(
    faults: list[tuple[tuple[str, str], int, int | None]], personality: str
) -> None:
    words = [
        f"{name}{'=' + rail if rail else ''}@{start}{'' if end is None else f'-{end}'}"
        for (name, rail), start, end in faults
    ]

    found = parse_rails_word(",".join([personality, *words]))

    expected = tuple(
        Fault(name, rail, float(start), math.inf if end is None else float(end))
        for (name, rail), start, end in faults
    )
    assert found == (personality, expected)
