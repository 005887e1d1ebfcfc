"""Read JSON that may be hostile: bounded before it is parsed, typed and bounded as it is used."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from bacmac.host.errors import PackedFileError

MAX_VALUES = 500_000
"""Commas and opening brackets in one JSON text: bounds the memory that parsing can take."""
MAX_DIGITS = 20
MAX_TEXT = 4096
MAX_NAME = 200
MAX_DEPTH = 8


@dataclass(frozen=True)
class Field:
    """One JSON value with the file and the place it came from, to be taken as what it should be.

    Every method raises PackedFileError, naming both, where the value is something else.
    """

    file: str
    name: str
    value: object

    def refuse(self, expected: str, found: str | None = None) -> NoReturn:
        """Raise PackedFileError for this field."""
        raise PackedFileError(
            self.file,
            self.name,
            found=_described(self.value) if found is None else found,
            expected=expected,
        )

    def integer(self, low: int, high: int) -> int:
        """A whole number within low..high."""
        if type(self.value) is not int or not low <= self.value <= high:
            self.refuse(f"a whole number from {low} to {high}")
        return self.value

    def number(self, low: float, high: float) -> float:
        """A finite number within low..high."""
        if type(self.value) not in (int, float) or not low <= float(self.value) <= high:  # type: ignore[arg-type]
            self.refuse(f"a number from {low:.6g} to {high:.6g}")
        return float(self.value)  # type: ignore[arg-type]

    def flag(self) -> bool:
        """True or false."""
        if type(self.value) is not bool:
            self.refuse("true or false")
        return self.value

    def text(self, longest: int = MAX_NAME, shortest: int = 1) -> str:
        """Printable text of bounded length, so that it can be shown as it is."""
        value = self.value
        if not isinstance(value, str):
            self.refuse("text")
        if not shortest <= len(value) <= longest:
            self.refuse(f"{shortest} to {longest} characters", f"{len(value)} characters")
        if not value.isprintable():
            self.refuse("printable characters only", ascii(value[:60]))
        return value

    def choice(self, options: Sequence[str]) -> str:
        """One of a few words."""
        value = self.value
        if not isinstance(value, str) or value not in options:
            self.refuse("one of " + ", ".join(options))
        return value

    def items(self, least: int, most: int) -> list[Field]:
        """A list of least..most values."""
        value = self.value
        if not isinstance(value, list):
            self.refuse("a list")
        if not least <= len(value) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            self.refuse(f"a list of {wanted}")
        return [Field(self.file, f"{self.name}[{i}]", item) for i, item in enumerate(value)]

    def integers(self, count: int, low: int, high: int) -> tuple[int, ...]:
        """A list of `count` whole numbers within low..high."""
        return tuple(item.integer(low, high) for item in self.items(count, count))

    def mapping(self) -> dict[str, Field]:
        """An object, whatever its keys."""
        value = self.value
        if not isinstance(value, dict):
            self.refuse("an object")
        return {key: Field(self.file, f"{self.name}.{key}", item) for key, item in value.items()}

    def record(self, *keys: str, optional: Sequence[str] = ()) -> dict[str, Field]:
        """An object with exactly these keys, and perhaps some of the optional ones."""
        fields = self.mapping()
        missing = [key for key in keys if key not in fields]
        unknown = sorted(key for key in fields if key not in keys and key not in optional)
        if missing:
            self.refuse(f"the key {missing[0]!r}", "none")
        if unknown:
            self.refuse("only the keys " + ", ".join((*keys, *optional)), f"the key {unknown[0]!r}")
        return fields

    def plain(self, depth: int = MAX_DEPTH) -> object:
        """Printable texts and finite numbers, and lists and objects of them, not nested deeply."""
        value = self.value
        if isinstance(value, (list, dict)):
            if depth == 0:
                self.refuse(f"at most {MAX_DEPTH} levels of nesting", "more")
            if isinstance(value, list):
                return [item.plain(depth - 1) for item in self.items(0, MAX_VALUES)]
            return {
                Field(self.file, f"{self.name}: a key", key).text(): item.plain(depth - 1)
                for key, item in self.mapping().items()
            }
        if isinstance(value, str):
            return self.text(MAX_TEXT, 0)
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse("a finite number")
        return value


def parse_json(file: str, name: str, text: bytes) -> Field:
    """Parse bounded JSON text: UTF-8, no duplicate keys, no NaN, no numbers of endless digits.

    Raises:
        PackedFileError: it is not that.
    """
    whole = Field(file, name, None)
    n_values = text.count(b",") + text.count(b"[") + text.count(b"{")
    if n_values > MAX_VALUES:
        whole.refuse(f"at most {MAX_VALUES} JSON values", f"{n_values}")

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = dict(pairs)
        if len(keys) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            whole.refuse("every key once", f"the key {twice[:60]!r} twice")
        return keys

    def bounded(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            whole.refuse(f"numbers of at most {MAX_DIGITS} digits", f"one of {len(digits)}")
        return int(digits)

    def constant(word: str) -> NoReturn:
        whole.refuse("finite numbers", word)

    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=unique,
            parse_int=bounded,
            parse_constant=constant,
        )
    except UnicodeDecodeError as error:
        raise PackedFileError(
            file, name, found=f"byte {error.start} that is not UTF-8", expected="JSON in UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        raise PackedFileError(
            file, name, found=f"broken JSON ({error.msg} at {error.pos})", expected="JSON"
        ) from error
    except RecursionError as error:
        raise PackedFileError(
            file, name, found="endless nesting", expected=f"at most {MAX_DEPTH} levels or so"
        ) from error
    return Field(file, name, value)


def _described(value: object) -> str:
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, list):
        short = len(value) <= 8 and all(isinstance(item, (int, float)) for item in value)
        return str(value) if short else f"a list of {len(value)}"
    if isinstance(value, str):
        return ascii(value) if len(value) <= 60 else f"{value[:60]!a}... ({len(value)} long)"
    return json.dumps(value)
