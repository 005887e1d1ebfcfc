"""What a power rail is: its sensor's facts, one raw reading, and the ZCU104's table.

Readings stay the integers that the sensor gave (mV, mA, uW) until the arithmetic, so that what is
stored is what was read.

Sources: ZCU104 rail names and chip addresses, PYNQ's `zcu104.conf` and the mainline device tree
`zynqmp-zcu104-revC.dts`; file names and units, Linux `Documentation/hwmon/sysfs-interface.rst`;
INA226 gain and offset, TI SBOS547B section 6.5; IRPS5401 steps, inferred from public `sensors`
listings of this board (every INT current is a multiple of 1/8 A, every INT power one of 1/4 W,
below V x I).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

PLAUSIBLE_VOLTAGE = 0.10
"""A rail whose voltage is further than this share from nominal is off or misread."""
MAX_CURRENT_A = 30.0


class RawSample(NamedTuple):
    """One reading, in the sensor's integers, stamped in the middle of the read."""

    time_ns: int
    voltage_mv: int
    current_ma: int
    power_uw: int


@dataclass(frozen=True)
class RailInfo:
    """A rail and the sensor on it.

    Attributes:
        name: as on the board: "INT", "12V", ...
        nominal_v: its voltage by design.
        instrument: what measures it, for the report.
        update_period_ns: how often a new value appears; None where no source gives it.
        current_step_a: smallest step of the current reading.
        power_step_w: smallest step of the power register.
        gain_error: largest gain error as a share, None where no datasheet value is known.
        offset_a: largest current offset, None where no datasheet value is known.
    """

    name: str
    nominal_v: float
    instrument: str
    update_period_ns: int | None
    current_step_a: float
    power_step_w: float
    gain_error: float | None = None
    offset_a: float | None = None

    @property
    def quantum_w(self) -> float:
        """Step of voltage x current at the nominal voltage."""
        return self.current_step_a * self.nominal_v


class RailSource(Protocol):
    """Something that power rails can be read from, by one thread at a time."""

    @property
    def word(self) -> str:
        """The rails word it was opened by, as `emulated:`."""

    @property
    def emulated(self) -> bool:
        """Whether its readings come from a model and not from a sensor."""

    def rails(self) -> tuple[RailInfo, ...]:
        """The rails that can be read."""

    def read(self, rail: str) -> RawSample:
        """A fresh reading; RailError when there is none, never a value from before."""


class RailPlace(NamedTuple):
    """Where a rail is found: chip name, I2C address, number of its hwmon features."""

    chip: str
    address: int
    feature: int
    nominal_v: float
    current_step_a: float
    power_step_w: float


_SMALL = (1 / 64, 1 / 32)
ZCU104_RAILS: dict[str, RailPlace] = {
    "INT": RailPlace("irps5401", 0x43, 2, 0.85, 1 / 8, 1 / 4),
    "1V8": RailPlace("irps5401", 0x43, 3, 1.8, *_SMALL),
    "1V2": RailPlace("irps5401", 0x43, 4, 1.2, *_SMALL),
    "MGTA": RailPlace("irps5401", 0x43, 5, 0.9, *_SMALL),
    "3V3": RailPlace("irps5401", 0x44, 2, 3.3, 1 / 8, 1 / 4),
    "1V13": RailPlace("irps5401", 0x44, 3, 1.125, *_SMALL),
    "5V0": RailPlace("irps5401", 0x44, 4, 5.0, *_SMALL),
    "FMC": RailPlace("irps5401", 0x44, 5, 1.8, *_SMALL),
    "MGTRA": RailPlace("irps5401", 0x44, 6, 0.85, *_SMALL),
    "12V": RailPlace("ina226", 0x40, 1, 12.0, 0.001, 0.025),
}
"""No rail of this board feeds the programmable logic alone: INT carries the processors too."""

INA226_GAIN_ERROR = 0.001
INA226_OFFSET_A = 0.002  # 10 uV over the board's 5 mOhm shunt


def implausible(info: RailInfo, sample: RawSample) -> str:
    """Why a reading cannot be what the rail carries; "" when it can.

    An unused FMC rail of the ZCU104 reads about 10 A at 0.156 V: its regulator is off and its
    current telemetry is meaningless.
    """
    volts, amperes = sample.voltage_mv * 1e-3, sample.current_ma * 1e-3
    if abs(volts - info.nominal_v) > PLAUSIBLE_VOLTAGE * info.nominal_v:
        return (
            f"reads {volts:.3f} V where {info.nominal_v:g} V is nominal: "
            f"it is off, so its {amperes:.3f} A mean nothing"
        )
    if abs(amperes) > MAX_CURRENT_A:
        return f"reads {amperes:.3f} A, more than the {MAX_CURRENT_A:g} A any rail here can carry"
    return ""
