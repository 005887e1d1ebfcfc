"""What is shown of a campaign while it runs: a table in a terminal, else lines of a log.

Nothing is drawn while sensors are sampled: drawing takes a processor, and that is on a rail. So the
table stands still during a run's windows, and is drawn anew between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bacmac.host.errors import RailError
from bacmac.power.campaign.plan import RunKey
from bacmac.power.campaign.progress import Progress, RunningRatio
from bacmac.power.campaign.run import CampaignRun
from bacmac.power.energy import run_power
from bacmac.power.runs import Phase

NOT_FINAL = "running interval, not final: nothing is stopped by it"
SAID_LINES = 6


@dataclass(frozen=True)
class RailPower:
    """Mean powers of the run made last, on one rail."""

    name: str
    idle_w: float
    run_w: float


def rail_powers(run: CampaignRun) -> tuple[RailPower, ...]:
    """Mean powers of a run; a rail with too few samples is left out, which check 3 tells."""
    record, found = run.record, []
    for name, rail in record.trace.rails.items():
        try:
            power = run_power(rail, record.before, record.used, record.after)
        except RailError:
            continue
        found.append(RailPower(name, power.idle_w, power.run.mean_w))
    return tuple(found)


@dataclass(frozen=True)
class View:
    """All that is shown.

    Attributes:
        name: of the campaign.
        emulated: whether anything of it is a model.
        cell: in hand.
        key: the run in hand, None between runs.
        phase: part of that run.
        progress: of the campaign.
        rails: of the run made last.
        headline_rail: whose ratios are shown.
        ratios: of the cell in hand, as they stand.
        seconds_left: until everything known to be owed is made; None before it can be told.
    """

    name: str
    emulated: bool
    cell: int
    key: RunKey | None
    phase: Phase | None
    progress: Progress
    rails: tuple[RailPower, ...]
    headline_rail: str
    ratios: tuple[RunningRatio, ...]
    seconds_left: float | None


class LiveView(Protocol):
    """Something that shows a campaign."""

    def show(self, view: View) -> None:
        """How things stand; called only while no sensor is sampled."""

    def block_ended(self, view: View) -> None:
        """A block is done and counts."""

    def say(self, text: str) -> None:
        """Something that happened, in a sentence."""


@dataclass
class LogLines:
    """Lines with the time, for a file or a service's log.

    Attributes:
        write: takes one line.
        now: the local time as text.
    """

    write: Callable[[str], None]
    now: Callable[[], str] = field(default=lambda: time.strftime("%Y-%m-%d %H:%M:%S"))

    def show(self, view: View) -> None:
        """Nothing: a log is told of blocks, not of phases."""

    def block_ended(self, view: View) -> None:
        """One line a block; its ratios with it once the cell's main blocks have begun."""
        done = sum(stage.done for stage in view.progress.stages)
        invalid = sum(view.progress.invalid_runs.values())
        parts = [f"{done} of {blocks_text(view.progress)}", f"{invalid} runs invalid"]
        if view.seconds_left is not None:
            parts.append(f"{duration_text(view.seconds_left)} left")
        self.say(f"block done: {', '.join(parts)}")
        for ratio in view.ratios:
            if len(ratio.log_ratios) >= 2 or ratio.reason:
                pair = f"{ratio.pair.numerator}/{ratio.pair.denominator}"
                self.say(f"  {pair} on {view.headline_rail}: {ratio.text} ({NOT_FINAL})")

    def say(self, text: str) -> None:
        """One line; none where nobody reads any more: a campaign outlives its terminal."""
        try:
            self.write(f"{self.now()} {text}")
        except OSError:  # the journal has its events all the same
            self.write = _nowhere


class TerminalTable:
    """A table that is drawn in place.

    Args:
        console: on a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._live = RichLive(console=console, auto_refresh=False, transient=False)
        self._said: list[str] = []
        self._view: View | None = None
        self._gone = False

    def __enter__(self) -> TerminalTable:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._gone:
            self._live.stop()

    def show(self, view: View) -> None:
        """Draw it."""
        self._view = view
        self._draw()

    def block_ended(self, view: View) -> None:
        """Draw it."""
        self.show(view)

    def say(self, text: str) -> None:
        """Below the table, with the time; the last few stay."""
        self._said = [*self._said, f"{time.strftime('%H:%M:%S')} {text}"][-SAID_LINES:]
        self._draw()

    def _draw(self) -> None:
        """What there is; nothing where the terminal is gone: a campaign outlives it."""
        if self._view is None or self._gone:
            return
        try:
            self._live.update(render(self._view, self._said), refresh=True)
        except OSError:  # the journal has its events all the same
            self._gone = True


def _nowhere(line: str) -> None:
    """Where lines go that nobody reads."""


def render(view: View, said: Sequence[str]) -> Group:
    """The table with what was said last."""
    grid = Table(show_header=False, box=None, pad_edge=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")

    def row(head: str, text: str) -> None:
        grid.add_row(head, escape(text))

    row("campaign", ("EMULATED  " if view.emulated else "") + view.name)
    row("run in hand", _run_text(view))
    if len({stage.cell for stage in view.progress.stages}) > 1:
        done = sum(stage.done for stage in view.progress.stages)
        row("all cells", f"{done} of {blocks_text(view.progress)}")
    for stage in view.progress.stages:
        if stage.cell != view.cell or not stage.planned:
            continue
        known = "" if stage.fixed else " (pilot; the rest follows from it)"
        invalid = f", {stage.invalid} made again" if stage.invalid else ""
        what = "A/A" if stage.stage == "aa" else "main"
        row(f"cell {stage.cell} {what}", f"{stage.done} of {stage.planned} blocks{known}{invalid}")
    for rail in view.rails:
        difference = rail.run_w - rail.idle_w
        row(
            f"rail {rail.name}",
            f"run {rail.run_w:.3f} W, idle {rail.idle_w:.3f} W, {difference:+.3f} W (last run)",
        )
    for ratio in view.ratios:
        row(f"{ratio.pair.numerator}/{ratio.pair.denominator}", ratio.text)
    if view.ratios:
        row("", f"dynamic energy on {view.headline_rail}; {NOT_FINAL}")
    invalid = ", ".join(f"{n} x {reason}" for reason, n in view.progress.invalid_runs.items())
    row("invalid runs", invalid or "none")
    if view.seconds_left is not None:
        least = "" if all(s.fixed for s in view.progress.stages) else "at least "
        row("time left", least + duration_text(view.seconds_left))
    return Group(grid, *(Text(line, style="dim") for line in said))


def _run_text(view: View) -> str:
    key = view.key
    if key is None:
        return "none"
    what = "A/A block" if key.stage == "aa" else "block"
    again = f", attempt {key.attempt + 1}" if key.attempt else ""
    phase = f": {view.phase}" if view.phase else ""
    return (
        f"cell {key.cell}, {what} {key.block + 1}{again}, run {key.position + 1}, {key.arm}{phase}"
    )


def blocks_text(progress: Progress) -> str:
    """Number of blocks, and whether it is final.

    >>> blocks_text(Progress((), 0, 0, {}, None))
    '0 blocks'
    """
    planned = sum(stage.planned for stage in progress.stages)
    more = "" if all(stage.fixed for stage in progress.stages) else " or more"
    return f"{planned}{more} blocks"


def duration_text(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds.

    >>> duration_text(7321), duration_text(75)
    ('2 h 02 min', '1 min 15 s')
    """
    whole = max(round(seconds), 0)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
