"""Sample rails on absolute deadlines into a trace of raw integers.

Deadlines are multiples of the period from the start, each moved by a seeded jitter, so that a
workload that repeats with the sampling period cannot alias (strict 20 ms sampling of a 20 ms
workload was wrong by up to 30 % in simulation; with +-6 ms of jitter by 2 %). A deadline that has
passed is skipped and leaves a gap that can be seen; nothing is filled in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.device.clock import Clock, Periodic
from bacmac.host.errors import RailError
from bacmac.power.rails import RailInfo, RailSource, RawSample, chosen_rails

DEFAULT_PERIOD_NS = 20_000_000
JITTER_SHARE = 0.3
"""Half range of the uniform jitter, of a period; below 0.5, so that deadlines ascend."""


@dataclass(frozen=True, eq=False)
class RailTrace:
    """One rail over time, as read.

    Attributes:
        info: the rail and its sensor.
        times_ns: int64 (n,), middle of each read, monotonic, ascending.
        voltage_mv, current_ma, power_uw: int64 (n,).
    """

    info: RailInfo
    times_ns: npt.NDArray[np.int64]
    voltage_mv: npt.NDArray[np.int64]
    current_ma: npt.NDArray[np.int64]
    power_uw: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        n = self.times_ns.shape
        if any(a.shape != n for a in (self.voltage_mv, self.current_ma, self.power_uw)):
            raise ValueError(f"rail {self.info.name}: columns of different lengths")
        if np.any(np.diff(self.times_ns) <= 0):
            raise RailError(f"rail {self.info.name}: times do not ascend: the clock went back")

    @property
    def power_w(self) -> npt.NDArray[np.float64]:
        """Voltage x current in W, float64 (n,): finer than the power register on this board."""
        return (self.voltage_mv * self.current_ma).astype(np.float64) * 1e-6

    @property
    def register_w(self) -> npt.NDArray[np.float64]:
        """The sensor's power register in W, float64 (n,)."""
        return self.power_uw.astype(np.float64) * 1e-6


@dataclass(frozen=True, eq=False)
class DieTrace:
    """Die temperatures over a recording.

    Attributes:
        times_ns: int64 (n,), after each reading, ascending.
        celsius: by name, float64 (n,).
    """

    times_ns: npt.NDArray[np.int64]
    celsius: Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class PowerTrace:
    """All rails of one recording.

    Attributes:
        rails: by rail name.
        period_ns: nominal time between samples.
        source: the rails word.
        emulated: whether the readings come from a model.
        die: temperatures, or None where none were recorded.
        read_errors: readings that failed and were left out.
    """

    rails: Mapping[str, RailTrace]
    period_ns: int
    source: str
    emulated: bool
    die: DieTrace | None = None
    read_errors: int = 0


class Sampler:
    """Reads rails periodically between `start` and `stop`.

    Args:
        source: where to read.
        clock: gives the deadlines.
        rails: names, read in this order at each deadline; none means all.
        period_ns: nominal time between samples.
        seed: of the jitter.
        skip_errors: a reading that fails is left out and counted; otherwise it ends the sampling.
    """

    def __init__(
        self,
        source: RailSource,
        clock: Clock,
        rails: Sequence[str] = (),
        period_ns: int = DEFAULT_PERIOD_NS,
        seed: int = 0,
        *,
        skip_errors: bool = False,
    ) -> None:
        self._infos = {info.name: info for info in chosen_rails(source, rails)}
        self._source, self._clock, self._period_ns, self._seed = source, clock, period_ns, seed
        self._samples: dict[str, list[RawSample]] = {name: [] for name in self._infos}
        self._periodic: Periodic | None = None
        self._skip_errors, self._read_errors = skip_errors, 0

    def start(self) -> None:
        """Begin sampling now."""
        self._samples = {name: [] for name in self._infos}
        self._read_errors = 0
        self._periodic = self._clock.call_at(self._deadlines(self._clock.now_ns()), self._read)

    def stop(self) -> PowerTrace:
        """End sampling and give what was read.

        Raises:
            RailError: a read failed; or whatever else a read raised.
        """
        if self._periodic is None:
            raise RuntimeError("the sampler was not started")
        periodic, self._periodic = self._periodic, None
        periodic.stop()
        traces = {
            name: _trace(self._infos[name], samples) for name, samples in self._samples.items()
        }
        source = self._source
        return PowerTrace(
            traces,
            self._period_ns,
            source.word,
            source.emulated,
            read_errors=self._read_errors,
        )

    def abandon(self) -> None:
        """End sampling after another error, which is the one to tell."""
        if self._periodic is not None:
            periodic, self._periodic = self._periodic, None
            try:
                periodic.stop()
            except RailError:
                return

    def _read(self) -> None:
        for name, samples in self._samples.items():
            try:
                samples.append(self._source.read(name))
            except RailError:
                if not self._skip_errors:
                    raise
                self._read_errors += 1

    def _deadlines(self, start_ns: int) -> Iterator[int]:
        rng = np.random.default_rng(self._seed)
        period, index = self._period_ns, 0
        while True:
            jitters = rng.uniform(-JITTER_SHARE, JITTER_SHARE, 1024) * period
            for jitter in jitters.astype(np.int64).tolist():
                index += 1
                deadline = start_ns + index * period + jitter
                if deadline > self._clock.now_ns():
                    yield deadline


def _trace(info: RailInfo, samples: list[RawSample]) -> RailTrace:
    columns = np.array(samples, np.int64).reshape(-1, 4).T
    return RailTrace(info, *(np.ascontiguousarray(column) for column in columns))
