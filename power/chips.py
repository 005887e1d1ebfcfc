"""Chips under a Linux hwmon folder, and which of their files belong to a rail.

A chip is told by its name, its reference designator (in the name or the `label` that a driver
gives: `ina226_u79`, `ina226-u79`), its I2C address, and the multiplexer channel of its bus.

An INA226 or INA260 appears in two ways: through `ina2xx` (an I2C device; in0 is the shunt and in1
the bus voltage; the INA260 has no in0) or through `iio-hwmon` (a platform device without address;
in1 is the shunt and in2 the bus voltage). A PMBus regulator numbers its files by what it supports,
so they are found by label (`vout1`, `iout1`, `pout1`): the mainline `irps5401` driver has its first
output at in6, PYNQ's kernel at in2. Where there are no labels PYNQ's numbers are taken.

Sources: Linux `drivers/hwmon/ina2xx.c`, `drivers/hwmon/iio_hwmon.c`, `drivers/hwmon/pmbus`,
`Documentation/i2c/i2c-sysfs.rst` (names of multiplexed buses).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from bacmac.host.errors import RailError
from bacmac.power.boards import RailPlace
from bacmac.power.rails import PLAUSIBLE_VOLTAGE

IIO_UPDATE_NS = 8_900_000  # 4 averages of 1.1 ms bus + 1.1 ms shunt, drivers/iio/adc/ina2xx-adc.c
INA2XX_UPDATE_NS = 35_200_000  # (1.1 ms bus + 1.1 ms shunt) x 16 averages, SBOS547B
PMBUS_CACHE_NS = 1_000_000_000
"""Kernels before 5.10 re-read PMBus sensors once a second (Linux commit a919ba06979a)."""
MAX_READING = 10**9  # a MV, a MA or a kW: beyond, a product would not fit 64 bits
VOUT_FACTOR = 256
"""Some kernels read the IR38060's output in a wrong format; Avnet's sensor file divides by it."""


@dataclass(frozen=True)
class RailFiles:
    """The three files of a rail; what the voltage file holds is divided by `voltage_divisor`."""

    voltage: Path
    current: Path
    power: Path
    voltage_divisor: int = 1

    def read_mv(self) -> int:
        """Voltage in mV; RailError where it cannot be read."""
        return round(read_int(self.voltage) / self.voltage_divisor)


@dataclass(frozen=True)
class Chip:
    """One hwmon device.

    Attributes:
        path: its folder.
        name: by its driver.
        designator: on the board ("u79"), or "".
        address: on its I2C bus, None for a platform device.
        channel: of the multiplexer that its bus is behind, None where there is none.
    """

    path: Path
    name: str
    designator: str
    address: int | None
    channel: int | None

    def is_at(self, place: RailPlace) -> bool:
        """Whether it may be the place's chip: by designator where both tell one, else by address.

        A platform device that tells neither may be any chip of its kind.
        """
        if not self.name.startswith(place.chip):
            return False
        if self.designator and place.designator:
            return self.designator == place.designator
        if self.address is None:
            return place.is_sensor
        channels = {self.channel, place.channel}
        return self.address == place.address and (None in channels or len(channels) == 1)

    @property
    def _is_i2c_sensor(self) -> bool:
        return self.address is not None or (self.path / "in0_input").exists()

    def files(self, place: RailPlace) -> RailFiles:
        """Files of the place's rail.

        Raises:
            RailError: the chip tells its outputs by label and has not this one.
        """
        if place.is_sensor:
            shunt_is_in1 = not self._is_i2c_sensor and (self.path / "in2_input").exists()
            names = ("in2" if shunt_is_in1 else "in1", "curr1", "power1")
        else:
            others = place.index if place.chip == "irps5401" else 1
            names = self._by_label(place.output, (place.index, others, others))
        voltage, current, power = (self.path / f"{name}_input" for name in names)
        return self._with_divisor(RailFiles(voltage, current, power), place)

    def _by_label(self, n: int, defaults: tuple[int, int, int]) -> tuple[str, str, str]:
        found = []
        for kind, label, default in zip(
            ("in", "curr", "power"), (f"vout{n}", f"iout{n}", f"pout{n}"), defaults, strict=True
        ):
            labels = {read_text(file): file.name for file in self.path.glob(f"{kind}*_label")}
            if labels and label not in labels:
                raise RailError(f"{self.path}: no {label}; it has {', '.join(sorted(labels))}")
            found.append(labels[label].removesuffix("_label") if labels else f"{kind}{default}")
        return found[0], found[1], found[2]

    @staticmethod
    def _with_divisor(files: RailFiles, place: RailPlace) -> RailFiles:
        if place.chip != "ir3806" or not files.voltage.exists():
            return files
        scaled = RailFiles(files.voltage, files.current, files.power, VOUT_FACTOR)
        off_v = abs(scaled.read_mv() * 1e-3 - place.nominal_v)
        return scaled if off_v <= PLAUSIBLE_VOLTAGE * place.nominal_v else files

    def instrument(self, place: RailPlace) -> str:
        """What measures, for the report."""
        kind = place.chip.upper() if place.chip != "ir3806" else "IR38060"
        if not place.is_sensor:
            output = f", output {place.output}" if place.chip == "irps5401" else ""
            return f"{kind} at 0x{place.address:02x}{output}, pmbus"
        which = f" {place.designator}" if place.designator else ""
        binding = "ina2xx" if self._is_i2c_sensor else "iio-hwmon"
        return f"{kind}{which} at 0x{place.address:02x}, {binding}"

    def update_period_ns(self, place: RailPlace, kernel: str) -> int | None:
        """How often a new value appears, None where no source gives it.

        Args:
            place: the rail's.
            kernel: release, as `uname -r` prints it.
        """
        if not place.is_sensor:
            match = re.match(r"(\d+)\.(\d+)", kernel)
            cached = match and (int(match[1]), int(match[2])) < (5, 10)
            return PMBUS_CACHE_NS if cached else None
        interval = self.path / "update_interval"
        if interval.exists():
            return read_int(interval) * 1_000_000
        if place.chip != "ina226":
            return None
        return INA2XX_UPDATE_NS if self._is_i2c_sensor else IIO_UPDATE_NS


def list_chips(root: Path) -> list[Chip]:
    """Every hwmon device under a folder, in the order of their names.

    Raises:
        RailError: there is no such folder, or a device does not tell its name.
    """
    if not root.is_dir():
        raise RailError(f"{root}: no such folder, so there are no rails to read")
    chips = []
    for folder in sorted(root.glob("hwmon*")):
        name = read_text(folder / "name")
        device = Path(os.path.realpath(folder / "device"))
        match = re.fullmatch(r"\d+-([0-9a-f]{4})", device.name)
        address = int(match[1], 16) if match else None
        chips.append(Chip(folder, name, _designator(folder, name), address, _channel(device)))
    return chips


def _designator(folder: Path, name: str) -> str:
    texts = [name]
    texts += [
        read_text(p) for p in (folder / "label", folder / "device/of_node/label") if p.exists()
    ]
    for text in texts:
        match = re.search(r"[-_](u\d+)$", text)
        if match:
            return match[1]
    return ""


def _channel(device: Path) -> int | None:
    bus = device.parent / "name"
    match = re.search(r"\(chan_id (\d+)\)", read_text(bus)) if bus.is_file() else None
    return int(match[1]) if match else None


def read_text(path: Path) -> str:
    """The line in a sysfs file, made printable; RailError where it cannot be read."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip("\0 \t\n")
    except OSError as error:
        raise RailError(f"{path}: cannot be read: {error.strerror or error}") from error
    return "".join(c if c.isprintable() else "?" for c in text)


MAX_TEXT = 64
"""Bytes of a file that are looked at: a reading has at most twenty."""


def read_int(path: Path) -> int:
    """The integer in a sysfs file; a driver reports a failed bus transfer as an OSError.

    Raises:
        RailError: it cannot be read, or holds no integer.
    """
    try:
        # thirty files 50 times a second: without a file object a read takes a third of the time
        descriptor = os.open(path, os.O_RDONLY)
        try:
            text = os.read(descriptor, MAX_TEXT).strip()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RailError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        value = int(text)
    except ValueError:
        raise RailError(f"{path}: found {text[:40]!r}; expected an integer") from None
    if abs(value) > MAX_READING:
        raise RailError(f"{path}: found {text[:40]!r}; no reading is beyond {MAX_READING:.0e}")
    return value
