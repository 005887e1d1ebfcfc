"""Open power rails by a word, as boards are opened by a word."""

from __future__ import annotations

from pathlib import Path

from bacmac.host.device.activity import ActivityLog
from bacmac.host.device.board import Board
from bacmac.host.device.clock import Clock, RealClock
from bacmac.host.device.registry import open_board
from bacmac.host.errors import RailError
from bacmac.power.ams import Ams, find_ams
from bacmac.power.boards import BOARDS
from bacmac.power.emulated import PERSONALITIES, EmulatedRails
from bacmac.power.hwmon import DEFAULT_ROOT, HwmonRails
from bacmac.power.rail_faults import FaultyRails, parse_rails_word
from bacmac.power.rails import RailSource


def rail_words() -> dict[str, str]:
    """Every rails word with one line of what it opens."""
    words = {f"emulated:{name}": p.description for name, p in PERSONALITIES.items()}
    words["hwmon:"] = f"the board's own sensors under {DEFAULT_ROOT}"
    words["hwmon:/path"] = "sensors under another hwmon folder"
    words["hwmon:board=NAME"] = f"the same for a board that is named: {', '.join(BOARDS)}"
    return words


def open_rails(word: str, board: Board, *, seed: int = 0) -> RailSource:
    """Open the rails of a board.

    Args:
        word: `emulated:`, `emulated:<personality>` (faults may follow, see
            `bacmac.power.rail_faults`), `hwmon:`, `hwmon:/path`, `hwmon:board=NAME`
            or `hwmon:board=NAME:/path`.
        board: gives the clock, and to emulated rails what it did.
        seed: of an emulated board's noise.

    Raises:
        RailError: unknown word, nothing to read there, or emulated rails on a real board.
    """
    kind, colon, rest = word.partition(":")
    if kind == "emulated" and colon:
        activity = getattr(board, "activity", None)
        if not isinstance(activity, ActivityLog):
            raise RailError(
                f"rails {word!r} emulate what an emulated board does; "
                f"{board.word!r} is none: use hwmon:"
            )
        personality, faults = parse_rails_word(rest)
        if not faults:
            return EmulatedRails(activity, board.clock, personality, seed)
        return FaultyRails(activity, board.clock, personality, seed, faults=faults, word=word)
    return open_hwmon(word, board.clock)


def open_hwmon(word: str, clock: Clock) -> HwmonRails:
    """Open the sensors of the board that this runs on, or those under a folder.

    Raises:
        RailError: no such word, or nothing to read there.
    """
    kind, colon, rest = word.partition(":")
    if kind != "hwmon" or not colon:
        raise RailError(f"no rails {word!r}; there are {', '.join(rail_words())}")
    name = None
    if rest.startswith("board="):
        name, _, rest = rest.removeprefix("board=").partition(":")
    return HwmonRails(clock, Path(rest) if rest else DEFAULT_ROOT, name)


def open_with_clock(word: str) -> tuple[RailSource, Clock]:
    """Rails to be read by themselves: sensors with the real clock, emulated ones with their own.

    Raises:
        RailError: unknown word, or nothing to read there.
    """
    if word.startswith("hwmon:"):
        clock = RealClock()
        return open_hwmon(word, clock), clock
    board = open_board("functional:")
    return open_rails(word, board), board.clock


def excluded_rails(source: RailSource) -> dict[str, str]:
    """Rail -> why it is not offered; empty for a source that offers all it has."""
    return dict(source.excluded) if isinstance(source, HwmonRails) else {}


def ams_of(source: RailSource) -> Ams | None:
    """The system monitor of the board whose rails these are; None where there is none.

    Raises:
        RailError: there is one and nothing of it can be read.
    """
    return find_ams(source.root) if isinstance(source, HwmonRails) else None
