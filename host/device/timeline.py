"""When the emulated accelerator works: cycles to time, and the activity log."""

from __future__ import annotations

from dataclasses import asdict

from bacmac.host.compile.work import Work
from bacmac.host.device.activity import Activity, ActivityLog
from bacmac.host.device.clock import Clock


class Timeline:
    """One accelerator's work on its board's clock; nothing overlaps.

    Args:
        clock: the board's.
        clock_hz: the accelerator's.
        log: where activities are written, also those that the clock has yet to reach.
    """

    def __init__(self, clock: Clock, clock_hz: float, log: ActivityLog) -> None:
        self._clock, self._clock_hz, self._log = clock, clock_hz, log
        self._free_ns = clock.now_ns()

    def now_ns(self) -> int:
        """The board's time."""
        return self._clock.now_ns()

    def next_ns(self) -> int:
        """When work that arrives now can begin."""
        return max(self._clock.now_ns(), self._free_ns)

    def duration_ns(self, cycles: int) -> int:
        """Time of that many cycles, rounded up."""
        return -int(-cycles * 1e9 // self._clock_hz)

    def cycles(self, duration_ns: int) -> int:
        """Cycles in that time, rounded."""
        return round(duration_ns * 1e-9 * self._clock_hz)

    def add(self, start_ns: int, work: Work, dma_bytes: int) -> int:
        """Log work that begins at start_ns; when it ends (ns)."""
        end_ns = start_ns + self.duration_ns(work.cycles)
        self._free_ns = max(self._free_ns, end_ns)
        if end_ns > start_ns:
            self._log.work.append(Activity(start_ns, end_ns, **vars(work), dma_bytes=dma_bytes))
        return end_ns

    def stop(self) -> None:
        """A reset: what was logged ahead of now does not happen, the rest of a part neither."""
        now, work = self._clock.now_ns(), self._log.work
        self._free_ns = now
        while work and work[-1].start_ns >= now:
            work.pop()
        if work and work[-1].end_ns > now:
            last = work.pop()
            share = (now - last.start_ns) / (last.end_ns - last.start_ns)
            counts = {
                name: int(value * share)
                for name, value in asdict(last).items()
                if name not in ("start_ns", "end_ns")
            }
            work.append(Activity(last.start_ns, now, **counts))
