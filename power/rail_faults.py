"""What goes wrong with an emulated board's sensors and with the machine around them.

For tests, and from the command line in the rails word, after the personality:

    bacmac campaign run ... --rails emulated:1s-cache,stuck=12V@60,hot@120-180

A fault is NAME, NAME=RAIL for those of a rail, and from then on for good; @START-END says between
which seconds of the emulated board's clock, @START from when, and @OVERLAY while that overlay is
loaded: so a sensor can freeze in one arm only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bacmac.host.device.activity import ActivityLog
from bacmac.host.device.clock import Clock, VirtualClock
from bacmac.host.errors import RailError
from bacmac.power.emulated import EmulatedRails
from bacmac.power.rails import RailInfo, RawSample

GAP_S = 0.3
SLOW_S = 1.0
LAG_S = 0.3
COARSE_W = 0.106
NOISE_A = 0.5
DRIFT_A_PER_S = 0.02

RAIL_FAULTS = {
    "gap": f"each reading takes {GAP_S:g} s, so others are missed",
    "stuck": "the last reading again and again",
    "i2c-error": "readings fail",
    "wrong-page": "another rail's reading: a race for the chip's page register",
    "saturated": "the current of full scale",
    "unused": "10 A at 0.156 V, as a regulator that is off",
    "bogus": "the power register in mW where uW are told",
    "coarse": f"steps of {COARSE_W * 1e3:g} mW",
    "slow": f"a new value every {SLOW_S:g} s, as a cache, and not told",
    "lag": f"a low pass of {LAG_S:g} s, and not told",
    "noisy": f"noise of {NOISE_A:g} A",
    "drift": f"a current that rises by {DRIFT_A_PER_S * 1e3:g} mA every second",
    "sag": "a voltage 5 % too low",
    "dip": "a voltage 1 % lower",
}
"""What each fault of a rail does, by its name in a rails word."""

STATE_FAULTS = {
    "wall-step": "the wall clock is 0.2 s late",
    "wall-drift": "the wall clock runs 0.1 % fast",
    "slow-clock": "the monotonic clock runs 1 % slow",
    "hot": "the die is 50 degrees hotter",
    "heating": "the die warms up by 12 degrees a minute",
    "cold": "ambient is 15 degrees",
    "throttled": "the processors are throttled, with an alarm",
    "governor": "the governor is ondemand",
    "foreign-cpu": "other programs take 20 % of a processor",
    "disk-writes": "4 kB are written every second",
    "wrong-clock": "the accelerator's clock reads back 5 % lower",
    "wrong-id": "register ID reads another overlay's",
    "wrong-build": "register BUILD reads another build's",
    "reboot": "another kernel has booted",
}
"""What each fault beside the rails does."""


@dataclass(frozen=True)
class Fault:
    """One fault and when it is there.

    Attributes:
        name: a key of RAIL_FAULTS or STATE_FAULTS.
        rail: whose, "" for those beside the rails.
        start_s, end_s: of the emulated board's clock.
        overlay: only while this one is loaded, "" always.
    """

    name: str
    rail: str = ""
    start_s: float = 0.0
    end_s: float = math.inf
    overlay: str = ""

    def active(self, now_s: float, overlay: str) -> bool:
        """Whether it is there now, with this overlay loaded."""
        return self.start_s <= now_s < self.end_s and self.overlay in ("", overlay)

    def lasted_s(self, now_s: float) -> float:
        """For how long it has been there by now, overlays not regarded."""
        return max(min(now_s, self.end_s) - self.start_s, 0.0)


def parse_rails_word(rest: str) -> tuple[str, tuple[Fault, ...]]:
    """Personality and faults of what follows `emulated:`.

    >>> parse_rails_word("coarse,stuck=INT@5")[0]
    'coarse'

    Raises:
        RailError: a fault is unknown or its time is none.
    """
    first, *others = rest.split(",") if rest else [""]
    is_fault = any(mark in first for mark in "=@") or first in STATE_FAULTS
    words = [first, *others] if is_fault else others
    return "" if is_fault else first, tuple(_parse(word) for word in words)


def _parse(word: str) -> Fault:
    what, at, when = word.partition("@")
    name, equals, rail = what.partition("=")
    known = RAIL_FAULTS if equals else STATE_FAULTS
    if name not in known or (equals and not rail):
        raise RailError(
            f"no fault {word!r} of emulated rails; there are "
            f"{', '.join(f'{n}=RAIL' for n in RAIL_FAULTS)}, {', '.join(STATE_FAULTS)}, "
            "each with @START, @START-END in seconds or @OVERLAY"
        )
    if not at:
        return Fault(name, rail)
    start, dash, end = when.partition("-")
    try:
        start_s, end_s = float(start), float(end) if dash else math.inf
    except ValueError:
        if not when:
            raise RailError(f"fault {word!r}: nothing after @") from None
        return Fault(name, rail, overlay=when)
    if not 0 <= start_s < end_s:
        raise RailError(f"fault {word!r}: found {when!r}; expected START or START-END in seconds")
    return Fault(name, rail, start_s, end_s)


class FaultyRails(EmulatedRails):
    """Emulated rails with faults.

    Args:
        activity, clock, personality, seed: as those of `EmulatedRails`.
        faults: what goes wrong, and when.

    Raises:
        RailError: a fault is of a rail that is not there.
    """

    def __init__(
        self,
        activity: ActivityLog,
        clock: Clock,
        personality: str = "",
        seed: int = 0,
        *,
        faults: Sequence[Fault],
        word: str = "",
    ) -> None:
        super().__init__(activity, clock, personality, seed)
        names = [info.name for info in super().rails()]
        for fault in faults:
            if fault.name in RAIL_FAULTS and fault.rail not in names:
                raise RailError(
                    f"fault {fault.name}={fault.rail}: there is no such rail; "
                    f"there are {', '.join(names)}"
                )
        self.faults = tuple(faults)
        self.word = word or self.word
        self._activity, self._faulty_clock = activity, clock
        self._kept: dict[tuple[str, str], RawSample] = {}
        self._filtered: dict[str, tuple[int, float]] = {}
        self._fault_rng = np.random.default_rng([seed, 0xFA17])

    def rails(self) -> tuple[RailInfo, ...]:
        """As without faults; a coarse sensor says that it is one."""
        coarse = {fault.rail for fault in self.faults if fault.name == "coarse"}
        return tuple(
            replace(info, current_step_a=COARSE_W / info.nominal_v) if info.name in coarse else info
            for info in super().rails()
        )

    def active(self, rail: str = "") -> tuple[Fault, ...]:
        """Faults that are there now, of a rail or of none."""
        overlays = self._activity.overlays
        overlay = overlays[-1][1].name if overlays else ""
        now_s = self._faulty_clock.now_ns() * 1e-9
        return tuple(f for f in self.faults if f.rail == rail and f.active(now_s, overlay))

    def read(self, rail: str) -> RawSample:
        """What the faulty sensor gives.

        Raises:
            RailError: there is no such rail, or the reading fails.
        """
        sample = super().read(rail)
        faults = self.active(rail)
        if not faults:
            self._filtered.pop(rail, None)
        for fault in faults:
            sample = self._spoil(fault, sample)
        if not any(fault.name == "stuck" for fault in faults):
            self._kept["stuck", rail] = sample
        return sample

    def _spoil(self, fault: Fault, sample: RawSample) -> RawSample:
        info = next(info for info in super().rails() if info.name == fault.rail)
        now, volts_mv, current_ma, power_uw = sample
        match fault.name:
            case "gap":
                self._wait(round(GAP_S * 1e9))
                return sample._replace(time_ns=self._faulty_clock.now_ns())
            case "stuck":
                return self._kept.setdefault(("stuck", fault.rail), sample)._replace(time_ns=now)
            case "i2c-error":
                raise RailError(f"rail {fault.rail}: emulated: Input/output error")
            case "wrong-page":
                others = [i.name for i in super().rails() if i.name != fault.rail]
                return super().read(others[0])._replace(time_ns=now)
            case "saturated":
                return sample._replace(current_ma=round(info.max_current_a * 1e3))
            case "unused":
                return RawSample(now, 156, 10_190, 1_590_000)
            case "bogus":
                return sample._replace(power_uw=power_uw // 1000)
            case "coarse":
                step_ma = COARSE_W / info.nominal_v * 1e3
                return sample._replace(current_ma=round(round(current_ma / step_ma) * step_ma))
            case "slow":
                kept = self._kept.get(("slow", fault.rail))
                if kept is None or now - kept.time_ns >= SLOW_S * 1e9:
                    kept = self._kept["slow", fault.rail] = sample
                return kept._replace(time_ns=now)
            case "lag":
                return sample._replace(current_ma=round(self._low_pass(fault.rail, sample)))
            case "noisy":
                noise_ma = NOISE_A * 1e3 * float(self._fault_rng.standard_normal())
                return sample._replace(current_ma=current_ma + round(noise_ma))
            case "drift":
                risen_ma = DRIFT_A_PER_S * 1e3 * fault.lasted_s(now * 1e-9)
                return sample._replace(current_ma=current_ma + round(risen_ma))
            case "sag":
                return sample._replace(voltage_mv=round(volts_mv * 0.95))
            case _:
                return sample._replace(voltage_mv=round(volts_mv * 0.99))

    def _low_pass(self, rail: str, sample: RawSample) -> float:
        before_ns, value = self._filtered.get(rail, (sample.time_ns, float(sample.current_ma)))
        share = -math.expm1(-(sample.time_ns - before_ns) * 1e-9 / LAG_S)
        value += (sample.current_ma - value) * share
        self._filtered[rail] = sample.time_ns, value
        return value

    def _wait(self, duration_ns: int) -> None:
        clock = self._faulty_clock
        if isinstance(clock, VirtualClock):  # from inside a periodic call: no other is made
            clock.pass_to(clock.now_ns() + duration_ns)
        else:
            clock.sleep_ns(duration_ns)
