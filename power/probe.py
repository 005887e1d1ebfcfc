"""What a rail's sensor really does: refresh, steps, noise, cost of a read, readings that are none.

`watch` reads one rail as fast as is reasonable; everything else is a pure function of what was
read. A sensor is only known by its changes: where a value does not change, nothing is told about
its refresh, and the result says so.

Method. *Refresh*: `power/refresh.py`. *Step*: the largest of which all values are multiples up to
rounding to the file's unit. *Noise*: one value a refresh, a straight line taken out, the step's
share L^2/12 taken out (Widrow and Kollar, Quantization Noise, 2008).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bacmac.host.device.clock import Clock
from bacmac.host.errors import RailError
from bacmac.power.rails import RailInfo, RailSource, RawSample, implausible
from bacmac.power.refresh import Floats, Ints, Refresh, find_refresh
from bacmac.power.statistics import lag1_autocorrelation

READ_PERIOD_NS = 1_000_000
MAX_DIVISOR = 64
MIN_LEVELS = 3
"""Fewer different values bound a step and do not show it."""


@dataclass(frozen=True, eq=False)
class ReadLog:
    """One rail as it was read.

    Attributes:
        info: the rail and its sensor.
        begin_ns, end_ns: int64 (n,), around each read.
        voltage_mv, current_ma, power_uw: int64 (n,).
        n_failed: reads that failed, and are not among the n.
        failure: what the first of them said, or "".
    """

    info: RailInfo
    begin_ns: Ints
    end_ns: Ints
    voltage_mv: Ints
    current_ma: Ints
    power_uw: Ints
    n_failed: int = 0
    failure: str = ""

    @property
    def times_ns(self) -> Ints:
        """Middle of each read, int64 (n,)."""
        return (self.begin_ns + self.end_ns) // 2

    @property
    def power_w(self) -> Floats:
        """Voltage x current in W, float64 (n,)."""
        return (self.voltage_mv * self.current_ma).astype(np.float64) * 1e-6


@dataclass(frozen=True)
class Step:
    """Smallest step of a quantity, in its own unit; None where only one value was seen."""

    size: float | None
    n_levels: int

    @property
    def sure(self) -> bool:
        """Whether there were values enough to be more than an upper bound."""
        return self.n_levels >= MIN_LEVELS


@dataclass(frozen=True)
class Noise:
    """Spread of voltage x current between fresh values.

    Attributes:
        sd_w: as read, a straight line taken out.
        noise_w: the step's own share taken out of that.
        lag1: correlation of neighbours, None where nothing varies.
        spacing_s: time between the values it is of.
    """

    sd_w: float
    noise_w: float
    lag1: float | None
    spacing_s: float


@dataclass(frozen=True)
class ReadCost:
    """Time that a read takes, by the clock."""

    median_s: float
    p99_s: float


@dataclass(frozen=True)
class RegisterCheck:
    """The power register against voltage x current.

    Attributes:
        ratio: of the means; None where voltage x current is 0.
        difference_w: median of register less voltage x current.
        agrees: whether rounding explains it.
        text: what that means.
    """

    ratio: float | None
    difference_w: float
    agrees: bool
    text: str


@dataclass(frozen=True)
class RailProbe:
    """All that was found about one rail.

    Attributes:
        info: the rail as its table describes it.
        n_reads, duration_s: what it is based on.
        mean_w: mean of voltage x current.
        voltage_v, current_a, register_w: steps.
        step_w: of voltage x current: the current's step at the mean voltage; the table's where
            fewer than MIN_LEVELS currents were seen (`step_is_measured`).
        cost: None on a virtual clock, where a read takes no time.
        bogus: what of the readings cannot be, in words; empty where all can.
    """

    info: RailInfo
    n_reads: int
    duration_s: float
    mean_w: float
    refresh: Refresh
    voltage_v: Step
    current_a: Step
    register_w: Step
    step_w: float
    step_is_measured: bool
    noise: Noise
    register: RegisterCheck
    cost: ReadCost | None
    bogus: tuple[str, ...]


def watch(
    source: RailSource,
    clock: Clock,
    info: RailInfo,
    duration_s: float,
    period_ns: int = READ_PERIOD_NS,
    progress: Callable[[str, int, int], None] | None = None,
) -> ReadLog:
    """Read one rail again and again: every `period_ns`, or as fast as it answers.

    Raises:
        RailError: fewer than three reads succeeded.
    """
    start_ns, duration_ns = clock.now_ns(), round(duration_s * 1e9)
    rows: list[tuple[int, int, RawSample]] = []
    n_failed, failure, told = 0, "", -1
    while (begin := clock.now_ns()) - start_ns < duration_ns:
        try:
            sample = source.read(info.name)
            rows.append((begin, clock.now_ns(), sample))
        except RailError as error:
            n_failed, failure = n_failed + 1, failure or str(error)
        clock.sleep_ns(max(period_ns - (clock.now_ns() - begin), 0))
        percent = min((clock.now_ns() - start_ns) * 100 // duration_ns, 100)
        if progress is not None and percent != told:
            progress(f"watching {info.name}", percent, 100)
            told = percent
    if len(rows) < 3:
        why = f": {failure}" if failure else ": raise --seconds"
        raise RailError(f"rail {info.name}: {len(rows)} readings in {duration_s:g} s{why}")
    table = np.array([(b, e, s[1], s[2], s[3]) for b, e, s in rows], np.int64)
    begin_ns, end_ns, voltage, current, power = (np.ascontiguousarray(c) for c in table.T)
    return ReadLog(info, begin_ns, end_ns, voltage, current, power, n_failed, failure)


def analyse_reads(log: ReadLog, *, virtual: bool = False) -> RailProbe:
    """Everything that the readings tell about the sensor.

    Args:
        log: three reads or more.
        virtual: the clock was virtual, so that reads took no time.
    """
    times, watts = log.times_ns, log.power_w
    refresh = find_refresh(times, (log.current_ma, log.voltage_mv, log.power_uw))
    voltage, current, register = (
        Step(None if s.size is None else round(s.size * unit, 9), s.n_levels)
        for s, unit in (
            (find_step(log.voltage_mv), 1e-3),
            (find_step(log.current_ma), 1e-3),
            (find_step(log.power_uw), 1e-6),
        )
    )
    measured = current.size is not None and current.sure
    step_a = current.size if measured and current.size is not None else log.info.current_step_a
    step_w = step_a * float(np.mean(log.voltage_mv)) * 1e-3
    durations_s = (log.end_ns - log.begin_ns) * 1e-9
    return RailProbe(
        log.info,
        len(times),
        float(times[-1] - times[0]) * 1e-9,
        float(np.mean(watts)),
        refresh,
        voltage,
        current,
        register,
        step_w,
        measured,
        find_noise(times, watts, refresh, step_w),
        check_register(log, register, step_w),
        None
        if virtual
        else ReadCost(float(np.median(durations_s)), float(np.quantile(durations_s, 0.99))),
        find_bogus(log),
    )


def find_step(values: Ints) -> Step:
    """Largest step of which all values are multiples up to rounding to whole units.

    A sensor's step need not be whole in the file's unit: 8.83 mA shows as 8 and 9.
    """
    levels = np.unique(values)
    if len(levels) < 2:
        return Step(None, len(levels))
    offsets = (levels - levels[0]).astype(np.float64)
    smallest = float(np.min(np.diff(levels)))
    for divisor in range(1, min(int(smallest // 3), MAX_DIVISOR) + 1):
        for guess in (smallest / divisor, (smallest + 1) / divisor):
            step = _fit_step(offsets, guess)
            if step is not None:
                return Step(step, len(levels))
    return Step(float(np.gcd.reduce(np.diff(levels))), len(levels))


def _fit_step(offsets: Floats, guess: float) -> float | None:
    """Follow the lattice outwards from its first point, refining the step on the way."""
    step = guess
    for n in range(2, len(offsets) + 1):
        multiples = np.round(offsets[:n] / step)
        if np.any(np.diff(multiples) == 0):
            return None
        step = float(np.sum(multiples * offsets[:n]) / np.sum(multiples**2))
        if np.max(np.abs(offsets[:n] - multiples * step)) > 1.0:  # two roundings of half a unit
            return None
    return step if step >= 3 else None


def find_noise(times_ns: Ints, watts: Floats, refresh: Refresh, step_w: float) -> Noise:
    """Spread and correlation of fresh values.

    Args:
        times_ns: (n,), n >= 3.
        watts: (n,).
        refresh: one value a period is used where it was measured, else every reading.
        step_w: of `watts`.
    """
    seconds = (times_ns - times_ns[0]) * 1e-9
    spacing_s = refresh.read_gap_ns * 1e-9
    if refresh.kind == "measured" and refresh.period_ns is not None:
        spacing_s = refresh.period_ns * 1e-9
        wanted = np.arange(seconds[0], seconds[-1], spacing_s)
        index = np.unique(np.searchsorted(seconds, wanted))
        if len(index) >= 3:
            seconds, watts = seconds[index], watts[index]
    slope, level = np.polyfit(seconds - seconds.mean(), watts, 1)
    rest = watts - (level + slope * (seconds - seconds.mean()))
    sd_w = math.sqrt(float(np.sum(rest**2)) / max(len(rest) - 2, 1))
    noise_w = math.sqrt(max(sd_w**2 - step_w**2 / 12, 0.0))
    varies = bool(np.ptp(watts) > 0)
    return Noise(sd_w, noise_w, lag1_autocorrelation(rest.tolist()) if varies else None, spacing_s)


def check_register(log: ReadLog, step: Step, product_step_w: float) -> RegisterCheck:
    """Compare the power register with voltage x current.

    Args:
        log: the readings.
        step: of the register.
        product_step_w: of voltage x current.
    """
    watts, register = log.power_w, log.power_uw * 1e-6
    difference = float(np.median(register - watts))
    mean_w = float(np.mean(watts))
    ratio = float(np.mean(register)) / mean_w if mean_w else None
    step_w = step.size if step.size is not None and step.sure else log.info.power_step_w
    agrees = -step_w / 4 <= difference <= (step_w + product_step_w) / 2
    if ratio is not None and 0.0005 < ratio < 0.002:
        agrees = False
        text = "is a thousandth of V x I: iio-hwmon of an old kernel gives mW as uW; use V x I"
    elif agrees:
        text = "agrees with V x I within rounding"
    elif -1.5 * step_w <= difference < 0:
        text = "is below V x I by up to its step: it cuts down; use V x I"
    else:
        text = "does not agree with V x I; use V x I"
    return RegisterCheck(ratio, difference, agrees, text)


def find_bogus(log: ReadLog) -> tuple[str, ...]:
    """What cannot be what the rail carries, in words."""
    found = []
    samples = zip(log.times_ns, log.voltage_mv, log.current_ma, log.power_uw, strict=True)
    reasons = [implausible(log.info, RawSample(*map(int, sample))) for sample in samples]
    wrong = [reason for reason in reasons if reason]
    if wrong:
        found.append(f"{len(wrong)} of {len(reasons)} readings cannot be: it {wrong[0]}")
    if np.any(log.current_ma < 0):
        found.append(f"current down to {int(log.current_ma.min())} mA: the rail takes power")
    if all(np.all(c == c[0]) for c in (log.voltage_mv, log.current_ma, log.power_uw)):
        seconds = float(log.times_ns[-1] - log.times_ns[0]) * 1e-9
        found.append(
            f"nothing changed in {len(reasons)} readings over {seconds:.1f} s: "
            "steadier than its step, or stuck; probe while the board works"
        )
    if log.n_failed:
        found.append(f"{log.n_failed} reads failed: {log.failure}")
    return tuple(found)
