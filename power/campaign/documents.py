"""Dataclasses as JSON documents and back, checked by their own annotations.

Only what a journal stores: bool, int, float, str, None, Literal, tuple[X, ...], Mapping[str, X] and
dataclasses of these. Floats come back equal to the last bit (JSON numbers are written by `repr`).
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_text(document: object) -> str:
    """A document as JSON: one line, keys in order; NaN and infinity are refused.

    Raises:
        ValueError: it holds NaN or infinity.
        TypeError: it holds what JSON has no word for.
    """
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain
    )


def to_document(value: Any, *, without: tuple[str, ...] = ()) -> Any:
    """A dataclass as plain types; fields named in `without` are left out."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: to_document(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in without
        }
    if isinstance(value, Mapping):
        return {str(key): to_document(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_document(item) for item in value]
    return value


def from_document(cls: type[T], document: object, **given: Any) -> T:
    """The dataclass of a document; fields in `given` are not looked for in it.

    A field that the document lacks takes its default.

    Raises:
        ValueError: a field is missing, unknown or of another type; says which.
    """
    if not isinstance(document, dict):
        raise ValueError(f"{cls.__name__}: found {type(document).__name__}; expected an object")
    hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    unknown = sorted(set(document) - set(hints))
    if unknown:
        raise ValueError(f"{cls.__name__}: unknown field {', '.join(unknown)}")
    fields = {
        name: _value(hints[name], item, f"{cls.__name__}.{name}") for name, item in document.items()
    }
    try:
        return cls(**fields, **given)
    except TypeError as error:  # a field without a default is missing
        raise ValueError(f"{cls.__name__}: {error}") from error


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _value(hint: Any, item: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if item is None and type(None) in arguments:
            return None
        (hint,) = (a for a in arguments if a is not type(None))
        return _value(hint, item, where)
    if origin is tuple and isinstance(item, list):
        return tuple(_value(arguments[0], each, where) for each in item)
    if origin is collections.abc.Mapping and isinstance(item, dict):
        return {key: _value(arguments[1], each, f"{where}.{key}") for key, each in item.items()}
    if origin is Literal and item in arguments:
        return item
    if dataclasses.is_dataclass(hint):
        return from_document(hint, item)  # type: ignore[arg-type]
    if hint is Any or _is(hint, item):
        return item
    raise ValueError(f"{where}: found {item!r}; expected {hint}")


def _is(hint: Any, item: object) -> bool:
    if hint is float:
        return isinstance(item, int | float) and not isinstance(item, bool)
    if hint is int:
        return isinstance(item, int) and not isinstance(item, bool)
    return isinstance(hint, type) and isinstance(item, hint)


def _plain(value: Any) -> Any:
    """NumPy scalars, which arithmetic leaves here and there, as Python's."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")
