"""Die temperatures and supply voltages of a Zynq UltraScale+, by its own system monitor (AMS).

The kernel's `xilinx-ams` driver offers it under IIO as `in_tempN_raw` with scale and offset, and
`in_voltageN_raw` with scale; a value is (raw + offset) * scale in thousandths of a degree Celsius
or of a volt. What a channel measures is told by a label file (later mainline kernels), by a suffix
(Xilinx kernels: `in_temp2_pl_temp_raw`), or not at all (mainline before): then the three
temperatures are in the driver's order.

Sources: Linux `Documentation/ABI/testing/sysfs-bus-iio` (units, formula),
`drivers/iio/adc/xilinx-ams.c` (channels, order, labels), AMD UG580 equation 2-7 (what a code
means). Temperatures are of the processors' low-power domain (LPD), full-power domain (FPD) and the
programmable logic (PL).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bacmac.host.errors import RailError
from bacmac.power.chips import read_int, read_text

NAMES = ("xilinx-ams", "ams")
TEMPERATURES = ("LPD", "FPD", "PL")
_TEMPERATURE_WORDS = {
    "temp_lpd": "LPD",
    "ps_temp": "LPD",
    "temp_fpd": "FPD",
    "remote_temp": "FPD",
    "temp_pl": "PL",
    "pl_temp": "PL",
}
PLAUSIBLE_C = (-55.0, 150.0)
PLAUSIBLE_V = (0.0, 7.0)
"""Outside of these a channel is not powered or not read: a code of 0 is -280 degrees."""


@dataclass(frozen=True)
class _Channel:
    name: str
    is_temperature: bool
    raw: Path
    offset: float
    scale: float

    def read(self) -> float:
        """Degrees Celsius, or volts.

        Raises:
            RailError: it cannot be read, or gives what cannot be.
        """
        value = (read_int(self.raw) + self.offset) * self.scale * 1e-3
        low, high = PLAUSIBLE_C if self.is_temperature else PLAUSIBLE_V
        if not low <= value <= high:
            unit = "degrees Celsius" if self.is_temperature else "V"
            raise RailError(f"{self.raw}: gives {value:.1f} {unit}; expected {low:g} to {high:g}")
        return value


class Ams:
    """The system monitor under a folder of IIO devices.

    Args:
        root: as /sys/bus/iio/devices.

    Attributes:
        excluded: channel -> why it is not offered.

    Raises:
        RailError: there is none, or none of its channels can be read.
    """

    def __init__(self, root: Path) -> None:
        device = _find(root)
        if device is None:
            raise RailError(f"{root}: no device called {' or '.join(NAMES)}")
        self.excluded: dict[str, str] = {}
        self._channels: list[_Channel] = []
        for name, kind, raw in _named_files(device):
            try:
                channel = _channel(name, kind, raw)
                channel.read()
            except RailError as error:
                self.excluded[name] = str(error)
            else:
                self._channels.append(channel)
        if not self._channels:
            raise RailError(f"{device}: no channel of the system monitor can be read")

    def temperatures_c(self) -> dict[str, float]:
        """Die temperatures in degrees Celsius; RailError where one cannot be read."""
        return {c.name: c.read() for c in self._channels if c.is_temperature}

    def voltages_v(self) -> dict[str, float]:
        """Supply voltages in V; RailError where one cannot be read."""
        return {c.name: c.read() for c in self._channels if not c.is_temperature}


def find_ams(hwmon_root: Path) -> Ams | None:
    """The system monitor beside a hwmon folder, or None where there is none.

    Args:
        hwmon_root: as /sys/class/hwmon; IIO devices are looked for in /sys/bus/iio/devices.

    Raises:
        RailError: there is one and nothing of it can be read.
    """
    root = hwmon_root.parent.parent / "bus" / "iio" / "devices"
    return None if _find(root) is None else Ams(root)


def _find(root: Path) -> Path | None:
    for device in sorted(root.glob("iio:device*")):
        if (device / "name").is_file() and read_text(device / "name") in NAMES:
            return device
    return None


def _named_files(device: Path) -> list[tuple[str, str, Path]]:
    """(name, "temp" or "voltage", raw file) of every channel, in the order of their numbers."""
    found = []
    for raw in device.glob("in_*_raw"):
        match = re.fullmatch(r"in_(temp|voltage)(\d+)(?:_(\w+))?_raw", raw.name)
        if match:
            found.append((match[1], int(match[2]), match[3] or "", raw))
    found.sort(key=lambda item: item[:2])
    unnamed = iter(TEMPERATURES if sum(kind == "temp" for kind, *_ in found) == 3 else ())
    named: dict[str, tuple[str, Path]] = {}
    for kind, number, suffix, raw in found:
        label = raw.with_name(raw.name.removesuffix("_raw") + "_label")
        word = read_text(label) if label.is_file() else suffix
        name = _name(kind, word) or next(unnamed if kind == "temp" else iter(()), "")
        name = name if name and name not in named else f"{name or kind}{number}"
        named[name] = kind, raw
    return [(name, kind, raw) for name, (kind, raw) in named.items()]


def _channel(name: str, kind: str, raw: Path) -> _Channel:
    stem = raw.name.removesuffix("_raw")
    offset = raw.with_name(f"{stem}_offset")
    return _Channel(
        name,
        kind == "temp",
        raw,
        _read_float(offset) if offset.is_file() else 0.0,
        _read_float(raw.with_name(f"{stem}_scale")),
    )


def _name(kind: str, word: str) -> str:
    if kind == "temp":
        return _TEMPERATURE_WORDS.get(word.lower(), word)
    return word.upper().replace("VCC_", "VCC")


def _read_float(path: Path) -> float:
    text = read_text(path)
    try:
        return float(text)
    except ValueError:
        raise RailError(f"{path}: found {text[:40]!r}; expected a number") from None
