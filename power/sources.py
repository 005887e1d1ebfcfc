"""Open power rails by a word, as boards are opened by a word."""

from __future__ import annotations

from pathlib import Path

from bacmac.host.device.activity import ActivityLog
from bacmac.host.device.board import Board
from bacmac.host.errors import RailError
from bacmac.power.emulated import PERSONALITIES, EmulatedRails
from bacmac.power.hwmon import DEFAULT_ROOT, HwmonRails
from bacmac.power.rails import RailSource


def rail_words() -> dict[str, str]:
    """Every rails word with one line of what it opens."""
    words = {f"emulated:{name}": p.description for name, p in PERSONALITIES.items()}
    words["hwmon:"] = f"the board's own sensors under {DEFAULT_ROOT}"
    words["hwmon:/path"] = "sensors under another hwmon folder"
    return words


def open_rails(word: str, board: Board, *, seed: int = 0) -> RailSource:
    """Open the rails of a board.

    Args:
        word: `emulated:`, `emulated:<personality>`, `hwmon:` or `hwmon:/path`.
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
        return EmulatedRails(activity, board.clock, rest, seed)
    if kind == "hwmon" and colon:
        return HwmonRails(board.clock, Path(rest) if rest else DEFAULT_ROOT)
    raise RailError(f"no rails {word!r}; there are {', '.join(rail_words())}")
