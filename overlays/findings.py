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


def differs(subject: str, what: str, found: str, expected: str, level: Level = "error") -> Finding:
    """That something is not what it has to be."""
    return Finding(level, subject, f"{what}: found {found}; expected {expected}")
