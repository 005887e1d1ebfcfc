"""How a person ends a campaign early: asked once, after the run in hand; twice, at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether the campaign is to end.

    Attributes:
        requested: no further run is begun; one that has just begun is dropped.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at_once = self._may_drop = False

    def request(self) -> None:
        """Ask; a second time drops the run in hand.

        Raises:
            KeyboardInterrupt: the second time, while a run may be dropped (nothing is being
                written then).
        """
        self._at_once, self.requested = self.requested, True
        if self._at_once and self._may_drop:
            raise KeyboardInterrupt

    @contextmanager
    def may_drop(self) -> Iterator[None]:
        """While a run is made: what is asked twice ends it."""
        if self._at_once:
            raise KeyboardInterrupt
        self._may_drop = True
        try:
            yield
        finally:
            self._may_drop = False


@contextmanager
def on_signals(stop: Stop, tell: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal ask to stop; in the main thread only.

    A signal that is ignored stays so: `nohup` means a campaign to outlive its terminal.

    Args:
        stop: that is asked.
        tell: told what was understood; called from a signal handler.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if not stop.requested:
            tell(
                f"{signal.Signals(number).name}: a run that has just begun is dropped, any other "
                "is finished and stored; once more drops it at once"
            )
        stop.request()

    heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
