"""What is read beside a run, from a synthetic machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bacmac.host.device.board import Board
from bacmac.host.device.clock import RealClock
from bacmac.host.device.registry import open_board
from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.registry import load_overlay
from bacmac.power.campaign.surroundings import (
    EmulatedSurroundings,
    MachineSurroundings,
    open_surroundings,
    sampler_cpu_s,
)
from bacmac.power.sources import open_rails

TICKS = os.sysconf("SC_CLK_TCK")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def overlay() -> Overlay:
    return load_overlay("bac-pot4e4")


@pytest.fixture
def board(overlay: Overlay) -> Iterator[Board]:
    opened = open_board("functional:")
    opened.load_overlay(overlay)
    yield opened
    opened.close()


@pytest.fixture
def machine(tmp_path: Path) -> MachineSurroundings:
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    write(proc / "sys/kernel/random/boot_id", "5e1f-boot\n")
    # user nice system idle iowait irq softirq steal guest guest_nice
    write(proc / "stat", "cpu  700 20 200 9000 500 10 60 10 300 0\ncpu0 1 1 1 1\n")
    fields = " ".join(["0"] * 10)
    write(proc / "self/stat", f"77 (a ) b) S {fields} 250 50 0 0 20\n")
    write(
        proc / "diskstats",
        " 179 0 mmcblk0 5 0 40 3 7 0 1000 9 0 1 2\n"
        " 179 1 mmcblk0p1 5 0 40 3 7 0 1000 9 0 1 2\n"
        "   7 0 loop0 5 0 40 3 7 0 64 9 0 1 2\n",
    )
    (sys / "block/mmcblk0/device").mkdir(parents=True)
    (sys / "block/loop0").mkdir(parents=True)
    write(sys / "devices/system/cpu/cpufreq/policy0/scaling_governor", "performance\n")
    write(sys / "devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "1199999\n")
    write(sys / "class/hwmon/hwmon0/name", "irps5401\n")
    write(sys / "class/hwmon/hwmon0/in1_alarm", "0\n")
    return MachineSurroundings(proc, sys)


def test_a_machine_tells_clocks_processors_disk_and_registers(
    machine: MachineSurroundings, board: Board, overlay: Overlay
) -> None:
    found = machine.read(board, overlay)

    assert found.boot_id == "5e1f-boot"
    assert found.cpu_total_s == pytest.approx(1000 / TICKS)  # neither idle nor iowait nor guests
    assert found.cpu_own_s == pytest.approx(300 / TICKS)
    assert found.disk_written_bytes == 1000 * 512  # the partition is in it, the loop is no disk
    assert (found.governor, found.cpu_hz) == ("performance", 1.199999e9)
    assert found.clock_hz == overlay.manifest.clock_hz
    assert found.build_id == overlay.manifest.build_id
    assert found.overlay_id == overlay.registers.register("ID").reset
    assert found.throttled == ""


def test_an_alarm_of_a_sensor_is_named(
    machine: MachineSurroundings, board: Board, overlay: Overlay
) -> None:
    write(machine.sys / "class/hwmon/hwmon0/curr2_max_alarm", "1\n")

    assert machine.read(board, overlay).throttled == "irps5401 curr2_max_alarm"


def test_governors_that_differ_are_all_told(
    machine: MachineSurroundings, board: Board, overlay: Overlay
) -> None:
    write(machine.sys / "devices/system/cpu/cpufreq/policy4/scaling_governor", "ondemand\n")
    write(machine.sys / "devices/system/cpu/cpufreq/policy4/scaling_cur_freq", "600000\n")

    found = machine.read(board, overlay)

    assert found.governor == "ondemand, performance"
    assert found.cpu_hz == 600e6


def test_what_a_machine_does_not_tell_is_none_and_never_zero(
    tmp_path: Path, board: Board, overlay: Overlay
) -> None:
    found = MachineSurroundings(tmp_path / "none", tmp_path / "none").read(board, overlay)

    unknown = (
        found.boot_id,
        found.governor,
        found.cpu_hz,
        found.cpu_total_s,
        found.cpu_own_s,
        found.disk_written_bytes,
    )
    assert unknown == (None,) * 6
    assert found.die_c == found.supply_v == {}


def test_the_machine_that_runs_this_test_can_be_read(board: Board, overlay: Overlay) -> None:
    first = MachineSurroundings().read(board, overlay)
    sum(i * i for i in range(300_000))
    second = MachineSurroundings().read(board, overlay)

    assert first.boot_id == second.boot_id
    assert first.cpu_own_s is not None
    assert second.cpu_own_s is not None
    assert second.cpu_own_s >= first.cpu_own_s


def test_the_sampling_thread_is_found_while_it_lives(tmp_path: Path) -> None:
    clock, called = RealClock(), threading.Event()
    assert sampler_cpu_s() is None

    periodic = clock.call_at(iter([0, clock.now_ns() + 3_600_000_000_000]), called.set)
    called.wait()
    found = sampler_cpu_s()
    periodic.stop()

    assert found is not None
    assert found >= 0
    assert sampler_cpu_s() is None


def test_an_emulated_board_has_a_quiet_machine_on_its_own_clock(
    board: Board, overlay: Overlay
) -> None:
    source = open_surroundings(board, open_rails("emulated:", board))
    first = source.read(board, overlay)
    board.clock.sleep_ns(10_000_000_000)
    second = source.read(board, overlay)

    assert isinstance(source, EmulatedSurroundings)
    assert second.monotonic_ns - first.monotonic_ns == 10_000_000_000
    assert second.wall_ns - first.wall_ns == 10_000_000_000
    assert first.boot_id == second.boot_id == source.boot_id()
    assert first.disk_written_bytes == second.disk_written_bytes
