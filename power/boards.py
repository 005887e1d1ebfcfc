"""Which chip measures which rail of which board: tables, and how to tell one board from another.

A chip is named by what does not change between kernels: its kind, its reference designator where
a driver tells it ("u79"), its I2C address, and the channel of the I2C multiplexer before it where
two chips share an address (ZCU102: u76 and u79 both are 0x40). Never by hwmonN.

Steps are those of the current and the power reading; on the board `bacmac power probe` finds what
they are. Sources, by board:

- ZCU104: PYNQ `zcu104.conf`, Linux `zynqmp-zcu104-revC.dts`; IRPS5401 steps and current limits
  inferred from the board's `sensors` listing (M. Simek, linux-hwmon, 10 April 2020), in which
  every INT current is a multiple of 1/8 A and every INT power one of 1/4 W, below V x I.
- ZCU102: UG1182 tables 3-22 and 3-56, Linux `zynqmp-zcu102-revA.dts` (shunts, buses, labels).
- Ultra96-V2: Avnet Ultra96-PYNQ `sensorconf-v2/ultra96.conf`. Steps of its IRPS5401 are taken as
  on the ZCU104 and not confirmed.
- KV260: Linux `zynqmp-sck-kv-g-revB.dtso`, UG1089 (the sensor is on the module's 5 V input).
- INA226: TI SBOS547B, 2.5 uV shunt step; INA260: TI SBOS656C, 1.25 mA, 1.25 mV and 10 mW steps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Logic = Literal["alone", "shared", "none"]
"""What a rail tells about the programmable logic: it alone, it with others, nothing."""

MAX_CURRENT_A = 30.0
"""No rail of these boards can carry more."""


@dataclass(frozen=True)
class RailPlace:
    """Where a rail is found, and what it is.

    Attributes:
        chip: start of the chip's name: "irps5401", "ina226", ...
        address: on its I2C bus.
        output: of a regulator with several, from 1, as its labels count; always 1 for a sensor.
        nominal_v: by design.
        current_step_a, power_step_w: of the readings.
        feeds: what hangs on it.
        logic: whether the programmable logic's power can be told by it.
        designator: of the chip on the board, or "".
        channel: of the multiplexer before it, or None where the address is enough.
        max_current_a: the regulator's limit.
        shunt_ohm: before an INA226, else None.
        index: of the rail's hwmon files where a regulator gives no labels, as PYNQ's kernel
            counts: inputs come first, outputs that are not there are not counted.
    """

    chip: str
    address: int
    output: int
    nominal_v: float
    current_step_a: float
    power_step_w: float
    feeds: str
    logic: Logic = "none"
    designator: str = ""
    channel: int | None = None
    max_current_a: float = MAX_CURRENT_A
    shunt_ohm: float | None = None
    index: int = 0

    @property
    def is_sensor(self) -> bool:
        """Whether it is a current sensor (INA2xx) and not a regulator's telemetry (PMBus)."""
        return self.chip.startswith("ina")


@dataclass(frozen=True)
class Board:
    """A board by name.

    Attributes:
        name: as its maker writes it.
        model: regular expression that its device tree's `model` matches; what is not told there
            is told by the chips.
        rails: by rail name, in the order they are listed.
        remark: what its rails cannot show.
    """

    name: str
    model: str
    rails: dict[str, RailPlace]
    remark: str


_COARSE, _FINE = (1 / 8, 1 / 4), (1 / 64, 1 / 32)


def _irps(
    address: int,
    output: int,
    nominal_v: float,
    steps: tuple[float, float],
    feeds: str,
    logic: Logic = "none",
    max_current_a: float = MAX_CURRENT_A,
    index: int = 0,
) -> RailPlace:
    return RailPlace(
        "irps5401",
        address,
        output,
        nominal_v,
        *steps,
        feeds,
        logic,
        max_current_a=max_current_a,
        index=index or output + 1,
    )


_ZCU104 = {
    "INT": _irps(0x43, 1, 0.85, _COARSE, "VCCINT: logic and processors", "shared", 25.0),
    "1V8": _irps(0x43, 2, 1.8, _FINE, "MIO and I/O banks", "none", 3.1),
    "1V2": _irps(0x43, 3, 1.2, _FINE, "DDR4 of processors and logic", "none", 10.3),
    # output 4 of this chip answers N/A (the listing above), so PYNQ's kernel counts MGTA as fourth
    "MGTA": _irps(0x43, 5, 0.9, _FINE, "GTH transceivers", "none", 0.8, index=5),
    "3V3": _irps(0x44, 1, 3.3, _COARSE, "3.3 V utility", "none", 14.0),
    "1V13": _irps(0x44, 2, 1.125, _FINE, "1.13 V utility", "none", 2.2),
    "5V0": _irps(0x44, 3, 5.0, _FINE, "5 V utility", "none", 4.0),
    "FMC": _irps(0x44, 4, 1.8, _FINE, "VADJ of the FMC connector", "none", 4.8),
    "MGTRA": _irps(0x44, 5, 0.85, _FINE, "PS-GTR transceivers", "none", 0.8),
    "12V": RailPlace(
        "ina226",
        0x40,
        1,
        12.0,
        0.001,
        0.025,
        "the whole board",
        "shared",
        "u183",
        shunt_ohm=0.005,
    ),
}

_ULTRA96V2 = {
    "INT": _irps(0x43, 4, 0.85, _COARSE, "VCCINT: logic", "alone"),
    "PSINT_LP": _irps(0x44, 2, 0.85, _FINE, "processors, low-power domain"),
    "PSINT_FP": _irps(0x44, 4, 0.85, _COARSE, "processors, full-power domain"),
    "AUX": _irps(0x43, 1, 1.8, _COARSE, "VCCAUX"),
    "1V2": _irps(0x43, 2, 1.2, _FINE, "VCCO 1.2 V"),
    "PSDDR": _irps(0x43, 3, 1.1, _FINE, "LPDDR4"),
    "3V3_D": _irps(0x43, 5, 3.3, _FINE, "DisplayPort 3.3 V"),
    "PSAUX": _irps(0x44, 1, 1.8, _COARSE, "processors, auxiliary"),
    "3V3": _irps(0x44, 3, 3.3, _FINE, "VCCO 3.3 V"),
    "PSPLL": _irps(0x44, 5, 1.2, _FINE, "processors' PLLs"),
    "5V": RailPlace("ir3806", 0x45, 1, 5.0, 1 / 64, 1 / 32, "5 V of the board", "shared", index=2),
}


def _zcu102(designator: str, channel: int, address: int, nominal_v: float, feeds: str) -> RailPlace:
    shunt_ohm = 0.002 if designator == "u79" else 0.005
    step_a = 2.5e-6 / shunt_ohm
    logic: Logic = "alone" if designator in ("u79", "u81", "u80") else "none"
    return RailPlace(
        "ina226",
        address,
        1,
        nominal_v,
        max(step_a, 0.001),  # hwmon files hold whole mA
        25 * step_a,
        feeds,
        logic,
        designator,
        channel,
        shunt_ohm=shunt_ohm,
    )


_ZCU102 = {
    "VCCINT": _zcu102("u79", 1, 0x40, 0.85, "logic"),
    "VCCBRAM": _zcu102("u81", 1, 0x41, 0.85, "block RAM of the logic"),
    "VCCAUX": _zcu102("u80", 1, 0x42, 1.8, "logic, auxiliary"),
    "VCC1V2": _zcu102("u84", 1, 0x43, 1.2, "DDR4 and I/O of the logic"),
    "VCC3V3": _zcu102("u16", 1, 0x44, 3.3, "I/O of the logic"),
    "VADJ_FMC": _zcu102("u65", 1, 0x45, 1.8, "FMC connectors"),
    "MGTAVCC": _zcu102("u74", 1, 0x46, 0.9, "GTH transceivers"),
    "MGTAVTT": _zcu102("u75", 1, 0x47, 1.2, "GTH termination"),
    "VCCPSINTFP": _zcu102("u76", 0, 0x40, 0.85, "processors, full-power domain"),
    "VCCPSINTLP": _zcu102("u77", 0, 0x41, 0.85, "processors, low-power domain"),
    "VCCPSAUX": _zcu102("u78", 0, 0x42, 1.8, "processors, auxiliary"),
    "VCCPSPLL": _zcu102("u87", 0, 0x43, 1.2, "processors' PLLs"),
    "MGTRAVCC": _zcu102("u85", 0, 0x44, 0.85, "PS-GTR transceivers"),
    "MGTRAVTT": _zcu102("u86", 0, 0x45, 1.8, "PS-GTR termination"),
    "VCCO_PSDDR_504": _zcu102("u93", 0, 0x46, 1.2, "DDR4 of the processors"),
    "VCCOPS": _zcu102("u88", 0, 0x47, 1.8, "MIO banks"),
    "VCCOPS3": _zcu102("u15", 0, 0x4A, 3.3, "MIO bank 3"),
    "VCCPSDDRPLL": _zcu102("u92", 0, 0x4B, 1.8, "DDR PLL of the processors"),
}

_KV260 = {
    "SOM_5V": RailPlace(
        "ina260",
        0x40,
        1,
        5.0,
        0.00125,
        0.01,
        "the whole module",
        "shared",
        "u14",
        max_current_a=15.0,
    ),
}

BOARDS: dict[str, Board] = {
    "zcu104": Board(
        "ZCU104",
        r"ZCU104",
        _ZCU104,
        "no rail feeds the logic alone: INT carries the processors too",
    ),
    "zcu102": Board(
        "ZCU102", r"ZCU102", _ZCU102, "VCCINT, VCCBRAM and VCCAUX feed the logic alone"
    ),
    "ultra96v2": Board(
        "Ultra96-V2", r"Ultra96[- ]?V2", _ULTRA96V2, "INT feeds the logic alone, in coarse steps"
    ),
    "kv260": Board(
        "KV260",
        r"KV260|SMK?-K26",
        _KV260,
        "one sensor for the whole module: the logic cannot be told apart",
    ),
}
"""Every board known, by the word in `hwmon:board=...`."""


def board_of_model(model: str) -> Board | None:
    """The board that a device tree's `model` names, or None where it names none of these.

    An Ultra96-V2 may call itself "Avnet Ultra96 Rev1" (its device tree has that base): its chips
    tell.
    """
    found = [b for b in BOARDS.values() if re.search(b.model, model, re.IGNORECASE)]
    return found[0] if len(found) == 1 else None
