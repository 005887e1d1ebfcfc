"""What a power rail is: its sensor's facts, one raw reading, and when a reading is none.

Readings stay the integers that the sensor gave (mV, mA, uW) until the arithmetic, so that what is
stored is what was read.

Sources: file names and units, Linux `Documentation/hwmon/sysfs-interface.rst`; INA226 gain and
offset, TI SBOS547B section 6.5; INA260 gain and offset, TI SBOS656C section 6.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from bacmac.host.errors import RailError
from bacmac.power.boards import MAX_CURRENT_A

PLAUSIBLE_VOLTAGE = 0.10
"""A rail whose voltage is further than this share from nominal is off or misread."""


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
        feeds: what hangs on it, "" where that is not known.
        max_current_a: the most it can carry.
        sees_logic: whether the programmable logic's power is part of it.
        shunt_error: tolerance of the shunt as a share, 0 where the gain error covers it, None
            where it is not known.
        filter_tau_s: time constant of its filter or averaging, None where no source gives it.
    """

    name: str
    nominal_v: float
    instrument: str
    update_period_ns: int | None
    current_step_a: float
    power_step_w: float
    gain_error: float | None = None
    offset_a: float | None = None
    feeds: str = ""
    max_current_a: float = MAX_CURRENT_A
    sees_logic: bool = True
    shunt_error: float | None = None
    filter_tau_s: float | None = None

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


def chosen_rails(source: RailSource, names: Sequence[str]) -> tuple[RailInfo, ...]:
    """The rails of these names, in their order; all where none is named.

    Raises:
        RailError: one is not offered; says why, where that is known.
    """
    infos = {info.name: info for info in source.rails()}
    for name in names:
        if name not in infos:
            source.read(name)  # says why
            raise RailError(f"rail {name!r} is not offered; there are {', '.join(infos)}")
    return tuple(infos[name] for name in (names or infos))


INA226_GAIN_ERROR = 0.001
INA226_OFFSET_A = 0.002  # 10 uV over the 5 mOhm shunt of the ZCU104's 12V and most of the ZCU102
INA260_GAIN_ERROR = 0.0015
INA260_OFFSET_A = 0.005


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
    if abs(amperes) > info.max_current_a:
        return f"reads {amperes:.3f} A, more than the {info.max_current_a:g} A it can carry"
    return ""
