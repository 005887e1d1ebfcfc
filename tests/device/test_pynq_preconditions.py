"""What a process lacks to use a board: each lack its own error that says what to do."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from bacmac.host.device.pynq import preconditions
from bacmac.host.device.pynq.lock import BoardLock
from bacmac.host.device.pynq.preconditions import (
    Machine,
    board_model,
    check_machine,
    contiguous_memory,
    find_device,
    import_pynq,
)
from bacmac.host.device.pynq.registry import open_pynq
from bacmac.host.errors import DeviceBusyError, DeviceMissingError, DeviceSetupError


@pytest.fixture
def zynq(tmp_path: Path) -> Machine:
    """A machine on which nothing is missing."""
    (tmp_path / "fpga0").mkdir()
    return Machine({"XILINX_XRT": "/usr"}, 0, tmp_path / "fpga0", tmp_path / "model")


def changed(machine: Machine, **changes: object) -> Machine:
    return Machine(**{**vars(machine), **changes})


def test_a_machine_with_everything_passes(zynq: Machine) -> None:
    check_machine(zynq)


def test_a_machine_that_is_no_zynq_says_where_to_run_instead(tmp_path: Path) -> None:
    machine = Machine({}, 1000, tmp_path / "fpga0")

    with pytest.raises(DeviceMissingError, match=r"no board: .*ssh://.*pynq:emulated"):
        open_pynq("pynq:", machine=machine)


def test_a_user_who_is_not_root_is_told_the_command(zynq: Machine) -> None:
    with pytest.raises(DeviceSetupError, match=r"need root: run `sudo -E"):
        check_machine(changed(zynq, user_id=1000))


@pytest.mark.parametrize("environment", [{}, {"XILINX_XRT": ""}])
def test_an_environment_without_xrt_is_told_what_to_source(zynq: Machine, environment) -> None:
    with pytest.raises(DeviceSetupError, match=r"XILINX_XRT is not set.*source /etc/profile\.d"):
        check_machine(changed(zynq, environment=environment))


def test_pynq_that_finds_no_device_is_told_where_to_look() -> None:
    pynq = SimpleNamespace(Device=SimpleNamespace(devices=[]))

    with pytest.raises(DeviceMissingError, match=r"dmesg \| grep zocl"):
        find_device(pynq)


def installed(versions: dict[str, str]):
    def version(package: str) -> str:
        if package not in versions:
            raise metadata.PackageNotFoundError(package)
        return versions[package]

    return version


@pytest.mark.parametrize(
    ("versions", "error", "message"),
    [
        ({}, DeviceMissingError, r"not installed.*/usr/local/share/pynq-venv.*bacmac\[pynq\]"),
        ({"pynq": "2.7.0"}, DeviceSetupError, r"found PYNQ 2\.7\.0; expected 3\.0 or later"),
        ({"pynq": "4.0.0", "numpy": "2.1.0"}, DeviceSetupError, r"4\.0\.0 .*'numpy<2'"),
        ({"pynq": "3.1.2", "numpy": "1.26.4", "pycparser": "3.0"}, DeviceSetupError, "pycparser<3"),
    ],
)
def test_packages_that_pynq_does_not_work_with_are_named(
    monkeypatch, versions, error, message
) -> None:
    monkeypatch.setattr(preconditions.metadata, "version", installed(versions))

    with pytest.raises(error, match=message):
        import_pynq()


def test_the_board_and_its_contiguous_memory_are_told(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"ZynqMP ZCU104 RevC\0")
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\nCmaTotal:  131072 kB\nCmaFree: 100 kB\n")
    machine = Machine(model=tmp_path / "model", meminfo=tmp_path / "meminfo")

    assert board_model(machine) == "ZynqMP ZCU104 RevC"
    assert contiguous_memory(machine) == "CmaTotal 131072 kB, CmaFree 100 kB"
    none = Machine(model=tmp_path / "x", meminfo=tmp_path / "x")
    assert (board_model(none), contiguous_memory(none)) == ("", "unknown how much is free")


def test_a_lock_is_held_once_and_can_be_taken_after_its_release(tmp_path: Path) -> None:
    path = tmp_path / "board.lock"
    lock = BoardLock("pynq:", path)
    with pytest.raises(DeviceBusyError, match=r"held by process \d+ of .* since 20.*pytest"):
        BoardLock("pynq:", path)

    lock.release()
    lock.release()
    BoardLock("pynq:", path).release()


def test_a_lock_whose_words_are_not_there_yet_is_still_held(tmp_path: Path) -> None:
    path = tmp_path / "board.lock"
    lock = BoardLock("pynq:", path)
    path.write_bytes(b"{")

    with pytest.raises(DeviceBusyError, match="held by another process"):
        BoardLock("pynq:", path)
    lock.release()


def test_a_lock_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    with pytest.raises(DeviceSetupError, match="cannot be opened"):
        BoardLock("pynq:", tmp_path / "missing" / "board.lock")
