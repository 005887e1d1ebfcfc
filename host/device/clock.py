"""Time, real or virtual, behind one small protocol.

Everything that waits or stamps asks a Clock, so that an emulated campaign of hours runs in
seconds with the code that a board runs. On the real clock a periodic call is a thread on absolute
deadlines; on the virtual clock it is made at its deadline while time is advanced by whoever
sleeps, in the sleeper's own thread: nothing is concurrent, every run is the same.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

Deadlines = Iterator[int]
"""Absolute times in ns, ascending."""


class Periodic(Protocol):
    """A running periodic call."""

    def stop(self) -> None:
        """End it; returns after the last call has ended and raises what a call raised."""


class Clock(Protocol):
    """A monotonic clock."""

    def now_ns(self) -> int:
        """Monotonic time in ns."""

    def sleep_ns(self, duration_ns: int) -> None:
        """Wait that long."""

    def call_at(self, deadlines: Deadlines, call: Callable[[], None]) -> Periodic:
        """Make the call at each deadline until stopped; one that is past is called at once."""


class RealClock:
    """`time.monotonic_ns`, and a thread for periodic calls."""

    def now_ns(self) -> int:
        """Monotonic time in ns."""
        return time.monotonic_ns()

    def sleep_ns(self, duration_ns: int) -> None:
        """Wait that long."""
        if duration_ns > 0:
            time.sleep(duration_ns * 1e-9)

    def call_at(self, deadlines: Deadlines, call: Callable[[], None]) -> Periodic:
        """Make the calls from one daemon thread."""
        return _Thread(deadlines, call)


class _Thread:
    def __init__(self, deadlines: Deadlines, call: Callable[[], None]) -> None:
        self._deadlines, self._call = deadlines, call
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="bacmac-periodic", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for deadline in self._deadlines:
                wait_s = (deadline - time.monotonic_ns()) * 1e-9
                if self._stopped.wait(max(wait_s, 0.0)):
                    return
                self._call()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that stops us
            self._error = error

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        if self._error is not None:
            raise self._error


class VirtualClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._queue: list[tuple[int, int, _Scheduled]] = []
        self._order = itertools.count()

    def now_ns(self) -> int:
        """Virtual time in ns."""
        return self._now_ns

    def sleep_ns(self, duration_ns: int) -> None:
        """Advance, making every periodic call that falls due on the way, in order of time."""
        until = self._now_ns + max(int(duration_ns), 0)
        while self._queue and self._queue[0][0] <= until:
            deadline, _, scheduled = heapq.heappop(self._queue)
            if scheduled.stopped:
                continue
            self.pass_to(deadline)
            scheduled.call()
            self._push(scheduled)
        self.pass_to(until)

    def pass_to(self, until_ns: int) -> None:
        """Make it at least that late, without any call: what happens meanwhile goes here."""
        self._now_ns = max(self._now_ns, until_ns)

    def call_at(self, deadlines: Deadlines, call: Callable[[], None]) -> Periodic:
        """Make the calls while time is advanced."""
        scheduled = _Scheduled(deadlines, call)
        self._push(scheduled)
        return scheduled

    def _push(self, scheduled: _Scheduled) -> None:
        deadline = next(scheduled.deadlines, None)
        if deadline is not None and not scheduled.stopped:
            heapq.heappush(self._queue, (deadline, next(self._order), scheduled))


class _Scheduled:
    def __init__(self, deadlines: Deadlines, call: Callable[[], None]) -> None:
        self.deadlines, self.call, self.stopped = deadlines, call, False

    def stop(self) -> None:
        self.stopped = True
