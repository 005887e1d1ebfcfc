"""What a check of an overlay found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        level: "ok"; "note", worth knowing; "warning", works but not as it should; "error", do not
            use it.
        subject: what was looked at, a word or two.
        text: what was found.
    """

    level: Level
    subject: str
    text: str
