"""What has to be so before PYNQ can be used on a board; each lack is its own error.

Sources: PYNQ, `pl_server/embedded_device.py` (FPGA manager, root for /dev/mem), `pl_server/
device.py` (XILINX_XRT); numpy 2 makes attributes of `ndarray.device` read-only, on which
`pynq.PynqBuffer` fails; pycparser 3 breaks the metadata parser of PYNQ 3.0 and 3.1.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from bacmac.host.errors import DeviceMissingError, DeviceSetupError

OLDEST_PYNQ = 3
PYNQ_PYTHON = "/usr/local/share/pynq-venv/bin/python3"
"""Where PYNQ's images keep their Python."""


@dataclass(frozen=True)
class Machine:
    """The machine as far as it decides whether there is a board; tests have their own.

    Attributes:
        environment: variables of this process.
        user_id: effective.
        fpga_manager: Linux's interface to the programmable logic, of a Zynq only.
        model: the device tree's name of the board, ended by NUL.
        meminfo: tells how much contiguous memory there is.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    user_id: int = field(default_factory=os.geteuid)
    fpga_manager: Path = Path("/sys/class/fpga_manager/fpga0")
    model: Path = Path("/proc/device-tree/model")
    meminfo: Path = Path("/proc/meminfo")


def check_machine(machine: Machine) -> None:
    """Whether a board can be used by this process.

    Raises:
        DeviceMissingError: this is no Zynq.
        DeviceSetupError: not root, or no XRT environment.
    """
    if not machine.fpga_manager.exists():
        raise DeviceMissingError(
            f"pynq: there is no {machine.fpga_manager}, so this is no board: run on a ZCU104 with "
            "its PYNQ image, from here by --device ssh://USER@BOARD, or without a board by "
            "--device pynq:emulated or functional:"
        )
    if machine.user_id != 0:
        raise DeviceSetupError(
            "pynq: registers and contiguous memory need root: run "
            "`sudo -E env PATH=$PATH bacmac ...` (-E keeps XILINX_XRT)"
        )
    if not machine.environment.get("XILINX_XRT"):
        raise DeviceSetupError(
            "pynq: XILINX_XRT is not set, without it PYNQ finds no device: run "
            "`source /etc/profile.d/xrt_setup.sh` first, and use `sudo -E`"
        )


def import_pynq() -> Any:
    """The pynq package, after what is known to break it was looked at.

    Raises:
        DeviceMissingError: it is not installed.
        DeviceSetupError: it is, and too old, or beside packages that it does not work with.
    """
    try:
        version = metadata.version("pynq")
    except metadata.PackageNotFoundError:
        raise DeviceMissingError(
            f"pynq: PYNQ is not installed for this Python: on a board use its image's own, "
            f"{PYNQ_PYTHON}; without a board: pip install 'bacmac[pynq]'"
        ) from None
    if int(version.partition(".")[0]) < OLDEST_PYNQ:
        raise DeviceSetupError(
            f"pynq: found PYNQ {version}; expected {OLDEST_PYNQ}.0 or later: earlier ones have "
            "another way to the device; take a newer image"
        )
    _check_neighbours(version)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own old dependencies; it finds no device off-board
        return import_module("pynq")


def _check_neighbours(version: str) -> None:
    for package, limit, breaks in (
        ("numpy", 2, "buffers cannot be allocated"),
        ("pycparser", 3, "overlays cannot be read"),
    ):
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        if package == "pycparser" and not version.startswith("3."):
            continue
        if int(found.partition(".")[0]) >= limit:
            raise DeviceSetupError(
                f"pynq: PYNQ {version} does not work with {package} {found}: {breaks}; install "
                f"'{package}<{limit}' beside it"
            )


def find_device(pynq: Any) -> Any:
    """The board's device.

    Raises:
        DeviceMissingError: PYNQ finds none.
    """
    devices = pynq.Device.devices
    if not devices:
        raise DeviceMissingError(
            "pynq: PYNQ finds no device although this is a Zynq: its XRT driver (zocl) is not "
            "loaded; see `dmesg | grep zocl`, and use the image's own PYNQ, not one from pip"
        )
    return devices[0]


def board_model(machine: Machine) -> str:
    """The device tree's name of the board, as "ZynqMP ZCU104 RevC"; "" when it has none."""
    try:
        return machine.model.read_bytes().rstrip(b"\0").decode("ascii", "replace").strip()
    except OSError:
        return ""


def contiguous_memory(machine: Machine) -> str:
    """How much contiguous memory the kernel reserved and has left, in words."""
    try:
        lines = machine.meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return "unknown how much is free"
    found = dict(line.split(":", 1) for line in lines if line.startswith("Cma"))
    if not found:
        return "this kernel reserves none (no CmaTotal in /proc/meminfo)"
    return ", ".join(f"{name} {value.strip()}" for name, value in found.items())
