"""Rails straight from Linux hwmon files: no PYNQ, no libsensors, any root folder.

Chips are found by their name and I2C address, never by hwmonN, whose order is not stable. PYNQ's
own loop hides read errors (it ignores the return code and repeats the last value) and returns 0
without libsensors; here a failed read is an error that names the file.

The INA226 appears in two ways: through `ina2xx` (in0 shunt, in1 bus voltage, an I2C device) or
through `iio-hwmon` (in1 shunt, in2 bus voltage, a platform device without an address).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from bacmac.host.device.clock import Clock
from bacmac.host.errors import RailError
from bacmac.power.rails import (
    INA226_GAIN_ERROR,
    INA226_OFFSET_A,
    ZCU104_RAILS,
    RailInfo,
    RailPlace,
    RawSample,
    implausible,
)

DEFAULT_ROOT = Path("/sys/class/hwmon")
PMBUS_CACHE_NS = 1_000_000_000
"""Kernels before 5.10 re-read PMBus sensors once a second (Linux commit a919ba06979a)."""
IIO_UPDATE_NS = 8_900_000
INA2XX_UPDATE_NS = 35_200_000  # (1.1 ms bus + 1.1 ms shunt) x 16 averages, SBOS547B


@dataclass(frozen=True)
class _Files:
    voltage: Path
    current: Path
    power: Path


class HwmonRails:
    """The rails of a ZCU104 under a hwmon folder.

    Attributes:
        excluded: rail -> why it is not offered (missing chip, switched off, ...).

    Raises:
        RailError: nothing of the board is found, a rail is found twice, or a file of a rail that
            is there cannot be read.
    """

    emulated = False

    def __init__(
        self,
        clock: Clock,
        root: Path = DEFAULT_ROOT,
        places: dict[str, RailPlace] = ZCU104_RAILS,
        kernel: str | None = None,
    ) -> None:
        self._clock = clock
        self.word = "hwmon:" if root == DEFAULT_ROOT else f"hwmon:{root}"
        self.excluded: dict[str, str] = {}
        self._files: dict[str, _Files] = {}
        self._infos: dict[str, RailInfo] = {}
        chips = _chips(root)
        for name, place in places.items():
            found = [chip for chip in chips if chip.is_at(place)]
            if not found:
                self.excluded[name] = f"no {place.chip} at 0x{place.address:02x} under {root}"
                continue
            if len(found) > 1:
                both = " and ".join(str(chip.path) for chip in found)
                raise RailError(f"rail {name}: {both} both are {place.chip}; give a root with one")
            self._add(name, place, found[0], kernel or os.uname().release)
        if not self._infos:
            raise RailError(
                f"{root}: none of the ZCU104's rails can be read: {self._why_none(chips)}"
            )

    def _why_none(self, chips: list[_Chip]) -> str:
        names = ", ".join(sorted({chip.name for chip in chips})) or "no chip at all"
        off = "; ".join(f"{k} {v}" for k, v in self.excluded.items() if not v.startswith("no "))
        return f"found {names}, expected irps5401 at 0x43 and 0x44 and ina226" + (
            f" ({off})" if off else ""
        )

    def _add(self, name: str, place: RailPlace, chip: _Chip, kernel: str) -> None:
        files = chip.files(place)
        is_ina = place.chip == "ina226"
        info = RailInfo(
            name,
            place.nominal_v,
            chip.instrument(place),
            chip.update_period_ns(kernel) if is_ina else _pmbus_update_ns(kernel),
            place.current_step_a,
            place.power_step_w,
            INA226_GAIN_ERROR if is_ina else None,
            INA226_OFFSET_A if is_ina else None,
        )
        self._files[name] = files
        reason = implausible(info, self.read(name))
        if reason:
            del self._files[name]
            self.excluded[name] = reason
        else:
            self._infos[name] = info

    def rails(self) -> tuple[RailInfo, ...]:
        """Rails that are there and read a plausible voltage."""
        return tuple(self._infos.values())

    def read(self, rail: str) -> RawSample:
        """Read voltage, current and power of a rail, stamped in the middle.

        Raises:
            RailError: the rail is not offered, or a file cannot be read.
        """
        files = self._files.get(rail)
        if files is None:
            raise RailError(
                f"rail {rail!r} cannot be read: {self.excluded.get(rail, 'unknown name')}; "
                f"there are {', '.join(self._infos)}"
            )
        before = self._clock.now_ns()
        voltage, current, power = (
            _read_int(files.voltage),
            _read_int(files.current),
            _read_int(files.power),
        )
        return RawSample((before + self._clock.now_ns()) // 2, voltage, current, power)


@dataclass(frozen=True)
class _Chip:
    path: Path
    name: str
    address: int | None

    def is_at(self, place: RailPlace) -> bool:
        if not self.name.startswith(place.chip):
            return False
        if self.address is None:  # iio-hwmon: a platform device
            return place.chip == "ina226"
        return self.address == place.address

    @property
    def is_iio(self) -> bool:
        return not (self.path / "in0_input").exists()

    def files(self, place: RailPlace) -> _Files:
        n = place.feature
        voltage = n + 1 if place.chip == "ina226" and self.is_iio else n
        return _Files(
            self.path / f"in{voltage}_input",
            self.path / f"curr{n}_input",
            self.path / f"power{n}_input",
        )

    def instrument(self, place: RailPlace) -> str:
        if place.chip != "ina226":
            return f"IRPS5401 at 0x{place.address:02x}, output {place.feature - 1}, pmbus"
        return f"INA226 at 0x{place.address:02x}, {'iio-hwmon' if self.is_iio else 'ina2xx'}"

    def update_period_ns(self, kernel: str) -> int:
        if self.is_iio:
            return IIO_UPDATE_NS
        interval = self.path / "update_interval"
        return _read_int(interval) * 1_000_000 if interval.exists() else INA2XX_UPDATE_NS


def _chips(root: Path) -> list[_Chip]:
    try:
        folders = sorted(root.glob("hwmon*"))
        if not root.is_dir():
            raise RailError(f"{root}: no such folder, so there are no rails to read")
        chips = []
        for folder in folders:
            name = (folder / "name").read_text(encoding="ascii", errors="replace").strip()
            device = Path(os.path.realpath(folder / "device")).name
            match = re.fullmatch(r"\d+-([0-9a-f]{4})", device)
            chips.append(_Chip(folder, name, int(match[1], 16) if match else None))
    except OSError as error:
        raise RailError(f"{error.filename or root}: {error.strerror or error}") from error
    return chips


def _read_int(path: Path) -> int:
    """The integer in a sysfs file; a driver reports a failed bus transfer as an OSError."""
    try:
        text = path.read_bytes().strip()
    except OSError as error:
        raise RailError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return int(text)
    except ValueError:
        raise RailError(f"{path}: found {text[:40]!r}; expected an integer") from None


def _pmbus_update_ns(kernel: str) -> int | None:
    match = re.match(r"(\d+)\.(\d+)", kernel)
    if match and (int(match[1]), int(match[2])) < (5, 10):
        return PMBUS_CACHE_NS
    return None
