"""Our rails as `pynq.pmbus.Rail` objects, for those who record with pynq's DataRecorder.

`pynq.get_rails` needs libsensors, crashes where it is called again and again, repeats the last
value where a read fails, and gives nothing on a KV260. The seam that needs none of it: a Rail is
given any sensors that have `name`, `parents`, `value` and `get_value(parents)`. Here the three
sensors of a rail share one parent, the reading, which the recorder reads once a row: voltage,
current and power of a row belong together, and a read that fails raises RailError.

Source: `pynq/pmbus.py` of pynq 3.0.1 to 4.0.0 (Rail, MultiSensor, DataRecorder).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from bacmac.host.device.pynq.preconditions import import_pynq
from bacmac.power.rails import RailSource, RawSample

_COLUMNS = {"voltage": (1, 1e-3, "V"), "current": (2, 1e-3, "A"), "power": (3, 1e-6, "W")}


class Reading:
    """One reading of a rail: the parent of its sensors.

    Args:
        source: where to read.
        rail: its name.
    """

    def __init__(self, source: RailSource, rail: str) -> None:
        self._source = source
        self.name = rail
        self.parents: tuple[Reading, ...] = ()

    def get_value(self, parents: Sequence[object] | None = None) -> RawSample:
        """A fresh reading; RailError when there is none."""
        return self._source.read(self.name)


class ReadingSensor:
    """Voltage, current or power of a rail, as pynq's own sensors look.

    Args:
        reading: of the rail.
        kind: "voltage", "current" or "power".
    """

    def __init__(self, reading: Reading, kind: str) -> None:
        self._column, self._scale, self._unit = _COLUMNS[kind]
        self.name = f"{reading.name}_{kind}"
        self.parents = (reading,)

    def get_value(self, parents: Sequence[RawSample] | None = None) -> float:
        """In V, A or W, from the parents' value where it is given.

        Raises:
            RailError: the rail cannot be read.
        """
        sample = self.parents[0].get_value() if parents is None else parents[0]
        return sample[self._column] * self._scale

    @property
    def value(self) -> float:
        """A fresh value in V, A or W; RailError where the rail cannot be read."""
        return self.get_value()

    def __repr__(self) -> str:
        return f"Sensor {{name={self.name}, value={self.value}{self._unit}}}"


def as_pynq_rails(source: RailSource) -> dict[str, Any]:
    """Every rail of a source as a `pynq.pmbus.Rail`, by name.

        rails = as_pynq_rails(HwmonRails(RealClock()))
        recorder = pynq.DataRecorder(rails["12V"].voltage, rails["12V"].current)

    Raises:
        DeviceMissingError: pynq is not installed.
        DeviceSetupError: it is, beside packages that it does not work with.
    """
    import_pynq()
    pmbus: Any = importlib.import_module("pynq.pmbus")
    rails = {}
    for info in source.rails():
        reading = Reading(source, info.name)
        rail = pmbus.Rail(info.name)
        for kind in ("voltage", "current", "power"):
            setattr(rail, kind, ReadingSensor(reading, kind))
        rails[info.name] = rail
    return rails
