"""Our rails in pynq's own Rail, MultiSensor and DataRecorder; runs where pynq is installed."""

from __future__ import annotations

import threading

import pytest
from pynq.pmbus import DataRecorder, MultiSensor, Rail

from bacmac.host.device.registry import open_board
from bacmac.host.errors import RailError
from bacmac.power.probe import analyse_reads, watch
from bacmac.power.pynq_rail import as_pynq_rails
from bacmac.power.rails import RailInfo, RawSample
from bacmac.power.sources import open_rails


class CountingRails:
    """Counts its reads; fails after `good` of them."""

    word, emulated = "fake:", False

    def __init__(self, good: int = 10**9) -> None:
        self.n, self.good = 0, good
        self.enough = threading.Event()

    def rails(self) -> tuple[RailInfo, ...]:
        return (
            RailInfo("INT", 0.85, "fake", None, 0.125, 0.25),
            RailInfo("12V", 12.0, "fake", None, 0.001, 0.025),
        )

    def read(self, rail: str) -> RawSample:
        self.n += 1
        if self.n >= 8:
            self.enough.set()
        if self.n > self.good:
            raise RailError(f"{rail}: curr1_input: cannot be read")
        return RawSample(self.n, 12_100 if rail == "12V" else 851, 1000 + self.n, self.n * 25_000)


def test_every_rail_is_a_rail_of_pynq_with_units() -> None:
    rails = as_pynq_rails(CountingRails())

    assert list(rails) == ["INT", "12V"]
    assert all(isinstance(rail, Rail) for rail in rails.values())
    assert rails["INT"].voltage.value == pytest.approx(0.851)
    assert rails["12V"].current.value == pytest.approx(1.002)
    assert rails["12V"].power.value == pytest.approx(0.075)
    assert repr(rails["12V"].voltage) == "Sensor {name=12V_voltage, value=12.1V}"
    assert repr(rails["12V"]).startswith("Rail {name=12V, voltage=Sensor {name=12V_voltage")


def test_a_row_of_a_rail_is_one_reading() -> None:
    source = CountingRails()
    rail = as_pynq_rails(source)["12V"]

    row = MultiSensor([rail.voltage, rail.current, rail.power]).get_values()

    assert source.n == 1
    assert row == pytest.approx((12.1, 1.001, 0.025))


def test_a_failed_read_raises_and_repeats_nothing() -> None:
    rail = as_pynq_rails(CountingRails(good=1))["12V"]
    both = MultiSensor([rail.voltage, rail.power])
    both.get_values()

    with pytest.raises(RailError, match="curr1_input: cannot be read"):
        both.get_values()
    with pytest.raises(RailError, match="curr1_input: cannot be read"):
        _ = rail.current.value


def test_pynqs_recorder_records_them() -> None:
    source = CountingRails()
    rails = as_pynq_rails(source)
    recorder = DataRecorder(rails["INT"].voltage, rails["INT"].current, rails["12V"].power)

    with recorder.record(0.001):
        assert source.enough.wait(30)

    frame = recorder.frame
    assert list(frame.columns) == ["Mark", "INT_voltage", "INT_current", "12V_power"]
    assert len(frame) >= 3
    assert frame["INT_voltage"].to_list() == pytest.approx([0.851] * len(frame))
    currents = frame["INT_current"].to_list()
    assert currents == pytest.approx([1.001 + 0.002 * row for row in range(len(frame))])


def test_emulated_rails_follow_pynqs_emulated_board() -> None:
    board = open_board("pynq:emulated")
    source = open_rails("emulated:", board)

    probe = analyse_reads(watch(source, board.clock, source.rails()[1], 5.0), virtual=True)

    assert probe.refresh.period_ns == pytest.approx(35.2e6, rel=0.01)
