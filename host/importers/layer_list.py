"""Read a layer list: a JSON file that names the layers, and the `.npz` with their weights.

The schema is in docs/models.md; it needs no package beyond NumPy.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import Padding, Shape
from bacmac.host.errors import ModelFileError
from bacmac.host.importers.arrays import ArrayFile, open_arrays, read_bounded
from bacmac.host.importers.lowering import Lowering, RefusedError
from bacmac.host.model.layers import INPUT, Model

FORMAT = "bacmac-layers"
VERSION = 1
MAX_JSON_BYTES = 16 << 20
MAX_SIDE = 1 << 16
_HEADER = ("format", "version", "name", "input_shape", "weights", "layers")


def load_layer_list(path: str | Path) -> Model:
    """The float model of a layer list.

    `source_sha256` covers both files: it is the digest of the two files' digests.

    Raises:
        ModelFileError: naming the file, the layer and the field at fault.
    """
    file = Path(path)
    data = read_bounded(file, ModelFileError, "a layer list (JSON)")
    header = _parse(data, file)
    name, shape, entries = _checked_header(header, file)
    arrays = open_arrays(file.parent / header["weights"], ModelFileError)
    digest = hashlib.sha256(data).hexdigest() + arrays.sha256
    layers = [_Entry(file, index, entry, arrays) for index, entry in enumerate(entries)]

    names = [INPUT]
    uses: Counter[str] = Counter()
    for layer in layers:
        layer.name = layer.text("name")
        if layer.name in names or not layer.name.isprintable() or not layer.name:
            raise layer.error("name", f"{layer.name!r}", "a printable name no other layer has")
        layer.inputs = [layer.text("input", names[-1])]
        layer.op = layer.text("op")
        if layer.op not in _OPS:
            raise layer.error("op", f"{layer.op!r}", ", ".join(sorted(_OPS)))
        if layer.op == "add":
            layer.inputs.append(layer.text("with"))
        for tensor in layer.inputs:
            if tensor not in names:
                raise layer.error("input", f"{tensor!r}", "'input' or a layer before this one")
            uses[tensor] += 1
        names.append(layer.name)
    uses[names[-1]] += 1
    unread = [layer for layer in layers if not uses[layer.name]]
    if unread:
        raise unread[0].error("name", "an output that nothing reads", "one output, the last layer")

    try:
        lowering = Lowering(INPUT, shape, uses)
    except RefusedError as error:
        raise ModelFileError(
            file, "input_shape", found=error.found, expected=error.expected
        ) from error
    for layer in layers:
        try:
            _OPS[layer.op](layer, lowering)
        except RefusedError as error:
            raise layer.error(layer.op, error.found, error.expected, error.hint) from error
        layer.refuse_rest()
    try:
        return lowering.finish(
            names[-1],
            name=name,
            source=str(path),
            sha256=hashlib.sha256(digest.encode()).hexdigest(),
        )
    except RefusedError as error:
        raise ModelFileError(file, "layers", found=error.found, expected=error.expected) from error


class _Entry:
    """One entry of `layers`; fields are taken out as they are read, so that none is overlooked."""

    def __init__(self, file: Path, index: int, entry: object, arrays: ArrayFile) -> None:
        self.file = file
        self.name = f"{index}"
        self.op = ""
        self.inputs: list[str] = []
        self._arrays = arrays
        if not isinstance(entry, dict):
            raise self.error("entry", f"{entry!r:.40}", "an object with name and op")
        self._fields: dict[str, Any] = dict(entry)

    @property
    def x(self) -> str:
        return self.inputs[0]

    def error(self, field: str, found: str, expected: str, hint: str = "") -> ModelFileError:
        where = f"layer {self.name!r}, {field}"
        return ModelFileError(self.file, where, found=found, expected=expected, hint=hint)

    def refuse_rest(self) -> None:
        if self._fields:
            rest = ", ".join(repr(field) for field in self._fields)
            raise self.error("fields", rest, f"fields that {self.op!r} has", "see docs/models.md")

    def text(self, field: str, usual: str | None = None) -> str:
        value = self._fields.pop(field, usual)
        if not isinstance(value, str):
            raise self.error(field, _told(value), "a text")
        return value

    def number(self, field: str, usual: float | None = None) -> float:
        value = self._fields.pop(field, usual)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e38:
            raise self.error(field, _told(value), "a finite number")
        return float(value)

    def integers(self, field: str, counts: tuple[int, ...], usual: object) -> tuple[int, ...]:
        """One integer, or a list of as many as one of `counts`; each 0 to MAX_SIDE."""
        value = self._fields.pop(field, usual)
        values = value if isinstance(value, list) else [value]
        if len(values) not in (1, *counts) or not all(_is_side(side) for side in values):
            lists = " or ".join(str(count) for count in counts)
            raise self.error(field, _told(value), f"an integer, or a list of {lists}")
        return tuple(values)

    def pair(self, field: str, usual: object = None) -> tuple[int, int]:
        values = self.integers(field, (2,), usual)
        return values[0], values[-1]

    def padding(self) -> Padding:
        values = self.integers("padding", (2, 4), 0)
        top, left, bottom, right = (values[i % len(values)] for i in range(4))
        return top, left, bottom, right

    def array(self, field: str) -> npt.NDArray[np.float32]:
        """The array that a field names, float32 and finite."""
        key = self.text(field)
        if key not in self._arrays:
            raise self.error(field, f"no array {key!r} in {self._arrays.path.name}", "its name")
        values = self._arrays.read(key)
        if values.dtype.kind != "f":
            raise self.error(field, f"{key!r} of {values.dtype}", "floats")
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float32)
        if not np.isfinite(narrow).all():
            raise self.error(field, f"NaN or infinity in {key!r}", "finite float32 weights")
        return narrow

    def bias(self) -> npt.NDArray[np.float32] | None:
        return self.array("bias") if "bias" in self._fields else None


def _conv(layer: _Entry, lowering: Lowering) -> None:
    lowering.conv(
        layer.name,
        layer.x,
        layer.name,
        layer.array("weight"),
        layer.bias(),
        stride=layer.pair("stride", 1),
        padding=layer.padding(),
        groups=layer.integers("groups", (1,), 1)[0],
    )


def _dense(layer: _Entry, lowering: Lowering) -> None:
    lowering.dense(layer.name, layer.x, layer.name, layer.array("weight"), layer.bias())


def _max_pool(layer: _Entry, lowering: Lowering) -> None:
    kernel = layer.pair("kernel")
    stride = layer.pair("stride", list(kernel))
    padding = layer.padding()
    lowering.pool(layer.name, layer.x, layer.name, "max", kernel, stride=stride, padding=padding)


def _average_pool(layer: _Entry, lowering: Lowering) -> None:
    kernel = layer.pair("kernel")
    stride = layer.pair("stride", list(kernel))
    padding = layer.padding()
    lowering.pool(
        layer.name, layer.x, layer.name, "average", kernel, stride=stride, padding=padding
    )


def _global_average(layer: _Entry, lowering: Lowering) -> None:
    lowering.global_average(layer.name, layer.x, layer.name)


def _batchnorm(layer: _Entry, lowering: Lowering) -> None:
    parts = [layer.array(field) for field in ("scale", "shift", "mean", "variance")]
    epsilon = layer.number("epsilon", 1e-5)
    lowering.batchnorm(layer.name, layer.x, layer.name, *parts, epsilon=epsilon)


def _relu(layer: _Entry, lowering: Lowering) -> None:
    lowering.clamp(layer.name, layer.x, layer.name, 0.0, math.inf)


def _relu6(layer: _Entry, lowering: Lowering) -> None:
    lowering.clamp(layer.name, layer.x, layer.name, 0.0, 6.0)


def _clip(layer: _Entry, lowering: Lowering) -> None:
    low, high = layer.number("low"), layer.number("high")
    lowering.clamp(layer.name, layer.x, layer.name, low, high)


def _add(layer: _Entry, lowering: Lowering) -> None:
    lowering.add(layer.name, layer.x, layer.inputs[1], layer.name)


def _flatten(layer: _Entry, lowering: Lowering) -> None:
    lowering.flatten(layer.x, layer.name)


def _subsample(layer: _Entry, lowering: Lowering) -> None:
    stride = layer.pair("stride", 1)
    before, after = layer.pair("pad_channels", 0)
    present = range(lowering.shape(layer.x)[0])
    channels = (*(-1,) * before, *present, *(-1,) * after)
    if min(stride) < 1:
        raise layer.error("stride", f"{stride}", "1 or more")
    lowering.select(layer.name, layer.x, layer.name, stride=stride, channels=channels)


_OPS: dict[str, Callable[[_Entry, Lowering], None]] = {
    "conv": _conv,
    "dense": _dense,
    "maxpool": _max_pool,
    "avgpool": _average_pool,
    "globalavgpool": _global_average,
    "batchnorm": _batchnorm,
    "relu": _relu,
    "relu6": _relu6,
    "clip": _clip,
    "add": _add,
    "flatten": _flatten,
    "subsample": _subsample,
}


def _parse(data: bytes, file: Path) -> dict[str, Any]:
    expected = "a JSON object"
    if len(data) > MAX_JSON_BYTES:
        raise ModelFileError(
            file, "size", found=f"{len(data)} bytes", expected=f"at most {MAX_JSON_BYTES}"
        )
    try:
        header = json.loads(data.decode("utf-8"), object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(file, "JSON", found=str(error), expected=expected) from error
    if not isinstance(header, dict):
        raise ModelFileError(file, "JSON", found=_told(header), expected=expected)
    return header


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key is there twice")
    return keys


def _checked_header(header: dict[str, Any], file: Path) -> tuple[str, Shape, list[object]]:
    """Name, input shape and layer entries."""

    def error(field: str, expected: str) -> ModelFileError:
        return ModelFileError(file, field, found=_told(header.get(field)), expected=expected)

    if header.get("format") != FORMAT:
        raise error("format", f"{FORMAT!r}")
    if header.get("version") != VERSION or isinstance(header["version"], bool):
        raise error("version", f"{VERSION}")
    unknown = sorted(set(header) - set(_HEADER))
    if unknown:
        raise ModelFileError(file, "fields", found=f"{unknown[0]!r}", expected=", ".join(_HEADER))
    name = header.get("name", file.stem)
    if not isinstance(name, str) or not name:
        raise error("name", "a text")
    shape = header.get("input_shape")
    if (
        not isinstance(shape, list)
        or len(shape) != 3
        or not all(_is_side(side) and side > 0 for side in shape)
    ):
        raise error("input_shape", "[C, H, W]")
    weights = header.get("weights")
    if (
        not isinstance(weights, str)
        or Path(weights).name != weights
        or "\\" in weights
        or not weights.isprintable()
    ):
        raise error("weights", "the name of a file in the same folder")
    layers = header.get("layers")
    if not isinstance(layers, list) or not layers:
        raise error("layers", "a list of one layer or more")
    return name, (shape[0], shape[1], shape[2]), layers


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIDE


def _told(value: object) -> str:
    return "nothing" if value is None else f"{value!r:.60}"
