"""Read a TOML file strictly: nothing missing, nothing unknown, every value of its type and range.

Format: TOML 1.0 (https://toml.io/en/v1.0.0). A `Table` hands out values key by key and notes each
problem; `Table.finish` raises them as one `OverlayError`, so that a file is mended in one go.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from bacmac.host.errors import BacmacError, InputError, OverlayError
from bacmac.overlays.bounded_file import read_bounded

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 1 << 20
"""No manifest or register map is near this; what is larger is some other file."""


class _Problem(NamedTuple):
    field: str
    found: str
    expected: str


class _Notes(NamedTuple):
    """What the tables of one file share."""

    problems: list[_Problem]
    unread: list[tuple[str, dict[str, Any]]]


def read_text(path: Path) -> str:
    """The text of a small UTF-8 file.

    Raises:
        OverlayError: it cannot be read, is larger than MAX_BYTES, or is not UTF-8.
    """
    data = read_bounded(path, MAX_BYTES, "a small TOML file")
    try:
        # TOML allows either line ending; the sha256 of a text must not depend on which
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise OverlayError(
            path, f"byte {error.start}", found="not UTF-8", expected="TOML in UTF-8"
        ) from error


class Table:
    """One TOML table, read key by key; a key that is never asked for is a problem.

    Every reader returns a harmless value of its type when it notes a problem, so that reading
    goes on; nothing so read may be used before `finish` has passed.
    """

    def __init__(
        self, path: Path, values: object, *, prefix: str = "", notes: _Notes | None = None
    ) -> None:
        self._path = path
        self._prefix = prefix
        self._notes = _Notes([], []) if notes is None else notes
        self._unread: dict[str, Any] = {}
        if isinstance(values, dict):
            self._unread.update(values)
        else:
            self._note(prefix.rstrip("."), _shown(values), "a table")
        self._notes.unread.append((prefix, self._unread))

    @classmethod
    def parse(cls, path: Path, text: str) -> Table:
        """The whole file as a table.

        Raises:
            OverlayError: it is not TOML.
        """
        try:
            return cls(path, tomllib.loads(text))
        except (ValueError, RecursionError) as error:  # RecursionError: arrays nested without end
            raise OverlayError(path, "text", found=str(error), expected="TOML 1.0") from error

    def problem(self, key: str, found: object, expected: str) -> None:
        """Note a problem that the caller found; `found` is shown as it would be written."""
        self._note(self._prefix + key, _shown(found), expected)

    def refused(self, key: str, value: object, error: BacmacError) -> None:
        """Note that what a value names cannot be used; `error` says why."""
        if isinstance(error, InputError):
            found = f"{_shown(value)} ({error.file}: {error.field}: found {error.found})"
            self._note(self._prefix + key, found, error.expected)
        else:
            self._note(self._prefix + key, f"{_shown(value)} ({error})", "one that can be used")

    def text(self, key: str, pattern: str, expected: str) -> str:
        """A string that matches `pattern` wholly; `expected` says the pattern in words."""
        value = self._take(key, expected)
        if value is None:
            return ""
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            self.problem(key, value, expected)
            return ""
        return value

    def line(self, key: str) -> str:
        """One line of text that says something, every character printable."""
        value = self.text(key, r".*\S.*", "one line of text")
        if not value.isprintable():
            self.problem(key, value, "one line of printable text")
            return ""
        return value

    def integer(self, key: str, low: int, high: int, *, multiple_of: int = 1) -> int:
        """An integer in low .. high."""
        step = f", a multiple of {multiple_of}" if multiple_of > 1 else ""
        expected = f"an integer in {_bound(low)} .. {_bound(high)}{step}"
        value = self._take(key, expected)
        if value is None:
            return low
        if type(value) is not int or not low <= value <= high or value % multiple_of:
            self.problem(key, value, expected)
            return low
        return value

    def number(self, key: str, low: float, high: float) -> float:
        """A finite number in low .. high."""
        expected = f"a number in {low:g} .. {high:g}"
        value = self._take(key, expected)
        if value is None:
            return low
        if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
            self.problem(key, value, expected)
            return low
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._take(key, "true or false")
        if value is not None and type(value) is not bool:
            self.problem(key, value, "true or false")
        return value is True

    def items(self, key: str) -> Table:
        """The items of an array, one or more, as a table whose keys are their places from 0."""
        value = self._take(key, "an array of one item or more")
        if value is None:
            return self._inner(key, {})
        if not isinstance(value, list) or not value:
            self.problem(key, value, "an array of one item or more")
            return self._inner(key, {})
        return self._inner(key, {str(place): item for place, item in enumerate(value)})

    def table(self, key: str) -> Table:
        """The table under a key."""
        value = self._take(key, "a table")
        return self._inner(key, {} if value is None else value)

    def tables(self, key: str, *, required: bool) -> list[Table]:
        """The array of tables under a key; may be absent, and then empty, unless required."""
        expected = "one or more tables" if required else "an array of tables"
        value = self._take(key, expected) if required or key in self._unread else []
        if value is None:
            return []
        if not isinstance(value, list) or (required and not value):
            self.problem(key, value, expected)
            return []
        return [self._inner(f"{key}[{index}]", inner) for index, inner in enumerate(value)]

    def names(self) -> tuple[str, ...]:
        """The keys that have not been read yet."""
        return tuple(self._unread)

    def finish(self) -> None:
        """End of reading the file; called once, on the whole file's table.

        Raises:
            OverlayError: there was any problem. The first is told in full, the others briefly.
        """
        for prefix, unread in self._notes.unread:
            for key in unread:
                self._note(prefix + key, "an unknown key", "no such key")
        if not self._notes.problems:
            return
        first, *others = self._notes.problems
        hint = "; ".join(f"also {p.field}: found {p.found}; expected {p.expected}" for p in others)
        raise OverlayError(
            self._path, first.field, found=first.found, expected=first.expected, hint=hint
        )

    def _take(self, key: str, expected: str) -> Any:
        """The value, or None with a problem noted when the key is absent; TOML has no null."""
        if key not in self._unread:
            self._note(self._prefix + key, "nothing", expected)
            return None
        return self._unread.pop(key)

    def _inner(self, key: str, values: object) -> Table:
        return Table(self._path, values, prefix=f"{self._prefix}{key}.", notes=self._notes)

    def _note(self, field: str, found: str, expected: str) -> None:
        self._notes.problems.append(_Problem(field, found, expected))


def _bound(value: int) -> str:
    return f"{value:#x}" if value > 0xFFFF else str(value)


def _shown(value: object) -> str:
    text = hex(value) if type(value) is int and abs(value) > 0xFFFF else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
