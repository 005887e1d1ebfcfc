"""The fields of a layer list's entries: each taken once, and told by name where it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import Padding
from bacmac.host.errors import ModelFileError
from bacmac.host.importers.weight_conventions import (
    LayerWeights,
    Method,
    kept_weights,
    layer_weights,
)
from bacmac.host.importers.weight_file import ScaledIntegers, WeightFile
from bacmac.host.model.layers import Grid

MAX_SIDE = 1 << 16
MAX_WEIGHTS = 1 << 28
"""Elements of all arrays together: a list may name one array many times."""

RAW = "\0"
"""Put before a layer's name: its tensor before its grid. No layer's name has it."""

_METHODS = ("apot", "deepshift", "none")
_ACTIVATIONS = ("clip", "uniform", "ignore")
_ROUNDINGS = ("half-even", "half-up", "half-away", "floor", "ceil")


class Entry:
    """One entry of a layer list; fields are taken out as they are read: none is overlooked."""

    def __init__(
        self,
        file: Path,
        index: int,
        entry: object,
        arrays: WeightFile,
        method: Method | None,
        budget: Budget,
    ) -> None:
        self.file = file
        self.name = f"{index}"
        self.op = ""
        self.inputs: list[str] = []
        self.grid: Grid | None = None
        self._arrays = arrays
        self._method = method
        self._budget = budget
        if not isinstance(entry, dict):
            raise self.error("entry", f"{entry!r:.40}", "an object with name and op")
        self._fields: dict[str, Any] = dict(entry)

    @property
    def x(self) -> str:
        """The tensor that the layer reads."""
        return self.inputs[0]

    @property
    def output(self) -> str:
        """The tensor that the op writes: the layer's own, or the one before its grid."""
        return self.name if self.grid is None else f"{RAW}{self.name}"

    def error(self, field: str, found: str, expected: str, hint: str = "") -> ModelFileError:
        """An error that names the file, the layer and the field."""
        where = f"layer {self.name!r}, {field}"
        return ModelFileError(self.file, where, found=found, expected=expected, hint=hint)

    def refuse_rest(self) -> None:
        """Refuse a field that has not been taken."""
        if self._fields:
            rest = ", ".join(repr(field) for field in self._fields)
            raise self.error("fields", rest, f"fields that {self.op!r} has", "see docs/models.md")

    def text(self, field: str, usual: str | None = None) -> str:
        """Take a text."""
        value = self._fields.pop(field, usual)
        if not isinstance(value, str):
            raise self.error(field, told(value), "a text")
        return value

    def number(self, field: str, usual: float | None = None) -> float:
        """Take a finite number."""
        value = self._fields.pop(field, usual)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e38:
            raise self.error(field, told(value), "a finite number")
        return float(value)

    def integers(self, field: str, counts: tuple[int, ...], usual: object) -> tuple[int, ...]:
        """Take one integer, or a list of as many as one of `counts`; each 0 to MAX_SIDE."""
        value = self._fields.pop(field, usual)
        values = value if isinstance(value, list) else [value]
        if len(values) not in (1, *counts) or not all(is_side(side) for side in values):
            lists = " or ".join(str(count) for count in counts)
            raise self.error(field, told(value), f"an integer, or a list of {lists}")
        return tuple(values)

    def pair(self, field: str, usual: object = None) -> tuple[int, int]:
        """Take one integer or two, for rows and columns."""
        values = self.integers(field, (2,), usual)
        return values[0], values[-1]

    def padding(self) -> Padding:
        """Take the padding: one integer, two or four."""
        values = self.integers("padding", (2, 4), 0)
        top, left, bottom, right = (values[i % len(values)] for i in range(4))
        return top, left, bottom, right

    def array(self, field: str) -> npt.NDArray[np.float32]:
        """Take a field, and give the array that it names, float32 and finite."""
        key = self.text(field)
        values = self._stored(field, key)
        if isinstance(values, ScaledIntegers) or values.dtype.kind != "f":
            what = "integers" if isinstance(values, ScaledIntegers) else values.dtype
            raise self.error(field, f"{key!r} of {what}", "floats")
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float32)
        if not np.isfinite(narrow).all():
            raise self.error(field, f"NaN or infinity in {key!r}", "finite float32 weights")
        return narrow

    def bias(self) -> npt.NDArray[np.float32] | None:
        """Take the bias, if there is one."""
        return self.array("bias") if "bias" in self._fields else None

    def weights(self) -> LayerWeights:
        """Take `weight` and all that says how it is stored."""
        said = self._fields.pop("quantized", None)
        own = read_method(said, lambda found, expected: self.error("quantized", found, expected))
        scaled = "scale" in self._fields
        key = self.text("weight")
        if scaled and own is not None and own.name != "none":
            raise self.error("scale", f"a scale and the method {own.name}", "one of them")
        if scaled:
            stored = self._stored("weight", key)
            if isinstance(stored, ScaledIntegers) or stored.dtype.kind not in "iu":
                raise self.error("weight", f"{key!r} with a scale", "an array of integers")
            scale = self._numbers("scale")
            zero = self._numbers("zero_point") if "zero_point" in self._fields else np.zeros(1)
            if (zero != np.rint(zero)).any() or np.abs(zero).max(initial=0) > 1 << 30:
                raise self.error("zero_point", "numbers that are not whole", "whole numbers")
            kept = kept_weights(ScaledIntegers(stored, scale, zero.astype(np.int64)))
            self._budget.spend(stored.size, self)
            return LayerWeights(kept.weight, kept)
        method = own if own is not None else self._method
        shown = (key, f"{key.removesuffix('.weight')}.shift")
        if not any(name in self._arrays for name in shown):
            raise self._no_array("weight", key)
        found = layer_weights(self._arrays, key, method, of_all=own is None)
        self._budget.spend(found.weight.size, self)
        return found

    def optional_grid(self, field: str) -> Grid | None:
        """Take a grid, if there is one."""
        said = self._fields.pop(field, None)
        if said is None:
            return None
        if not isinstance(said, dict) or not {"scale", "low", "high"} <= set(said):
            raise self.error(field, told(said), "an object with scale, low and high")
        rest = sorted(set(said) - {"scale", "zero", "low", "high", "rounding"})
        if rest:
            raise self.error(field, f"{rest[0]!r:.40}", "scale, zero, low, high and rounding")
        low, high, rounding = said["low"], said["high"], said.get("rounding", _ROUNDINGS[0])
        if not all(type(end) is int and abs(end) < 1 << 31 for end in (low, high)):
            raise self.error(field, f"{low!r:.40} to {high!r:.40}", "whole numbers")
        if rounding not in _ROUNDINGS:
            raise self.error(field, f"rounding {rounding!r:.40}", ", ".join(_ROUNDINGS))
        self._fields.update({f"{field}.scale": said["scale"], f"{field}.zero": said.get("zero", 0)})
        numbers = [self._numbers(f"{field}.{part}") for part in ("scale", "zero")]
        if any(part.size != 1 for part in numbers):
            raise self.error(field, "several scales or zero points", "one of a tensor")
        return Grid(float(numbers[0][0]), float(numbers[1][0]), low, high, rounding)

    def _numbers(self, field: str) -> npt.NDArray[np.float64]:
        """The number that a field gives, or the numbers of the array that it names: float64."""
        if not isinstance(self._fields.get(field), str):
            return np.array([self.number(field)], np.float64)
        key = self.text(field)
        values = self._stored(field, key)
        if isinstance(values, ScaledIntegers) or values.dtype.kind not in "iuf" or not values.size:
            raise self.error(field, f"{key!r}, no numbers", "an array of numbers")
        wide = values.astype(np.float64).ravel()
        if not np.isfinite(wide).all():
            raise self.error(field, f"NaN or infinity in {key!r}", "finite numbers")
        return wide

    def _stored(self, field: str, key: str) -> npt.NDArray[Any] | ScaledIntegers:
        if key not in self._arrays:
            raise self._no_array(field, key)
        stored = self._arrays.read(key)
        self._budget.spend(
            stored.codes.size if isinstance(stored, ScaledIntegers) else stored.size, self
        )
        return stored

    def _no_array(self, field: str, key: str) -> ModelFileError:
        return self.error(field, f"no array {key!r} in {self._arrays.path.name}", "its name")


class Budget:
    """How many elements may still be read."""

    def __init__(self) -> None:
        self._left = MAX_WEIGHTS

    def spend(self, elements: int, entry: Entry) -> None:
        """Refuse the entry that reads more than all may."""
        self._left -= elements
        if self._left < 0:
            raise entry.error("weight", f"more than {MAX_WEIGHTS} weights", "a smaller network")


def read_method(said: object, refuse: Callable[[str, str], ModelFileError]) -> Method | None:
    """The method that a field `quantized` says."""
    if said is None:
        return None
    if not isinstance(said, dict) or said.get("method") not in _METHODS:
        raise refuse(told(said), f"an object with a method: {', '.join(_METHODS)}")
    rest = sorted(set(said) - {"method", "bits", "activations"})
    if rest:
        raise refuse(f"{rest[0]!r:.40}", "method, bits and activations")
    bits, activations = said.get("bits"), said.get("activations", _ACTIVATIONS[0])
    if bits is not None and (type(bits) is not int or not 2 <= bits <= 8):
        raise refuse(f"bits {bits!r:.40}", "2 to 8")
    if activations not in _ACTIVATIONS:
        raise refuse(f"activations {activations!r:.40}", ", ".join(_ACTIVATIONS))
    return Method(said["method"], bits, activations)


def is_side(value: object) -> bool:
    """Whether a JSON value is a whole number from 0 to MAX_SIDE."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIDE


def told(value: object) -> str:
    """A JSON value for an error's text."""
    return "nothing" if value is None else f"{value!r:.60}"
