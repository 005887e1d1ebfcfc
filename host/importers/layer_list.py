"""Read a layer list: a JSON file that names the layers, and the file with their weights.

The schema is in docs/models.md; it needs no package beyond NumPy. The weights are in a `.npz`, a
`.safetensors` or a PyTorch file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bacmac.host.arith.network import Shape
from bacmac.host.errors import ModelFileError
from bacmac.host.importers.arrays import read_bounded
from bacmac.host.importers.layer_fields import (
    MAX_SIDE,
    RAW,
    Budget,
    Entry,
    is_side,
    read_method,
    told,
)
from bacmac.host.importers.lowering import Lowering, RefusedError
from bacmac.host.importers.weight_conventions import LayerWeights
from bacmac.host.importers.weight_sources import open_weights
from bacmac.host.model.layers import INPUT, Model

FORMAT = "bacmac-layers"
VERSION = 1
MAX_JSON_BYTES = 16 << 20
MAX_LAYERS = 4096
_HEADER = (
    "format",
    "version",
    "name",
    "input_shape",
    "weights",
    "quantized",
    "input_grid",
    "layers",
)


def load_layer_list(path: str | Path, weights: str | Path | None = None) -> Model:
    """The model of a layer list.

    `source_sha256` covers both files: it is the digest of the two files' digests.

    Args:
        path: the layer list.
        weights: the file of weights, in place of the one that the list names.

    Raises:
        ModelFileError: naming the file, the layer and the field at fault.
    """
    file = Path(path)
    data = read_bounded(file, ModelFileError, "a layer list (JSON)")
    header = _parse(data, file)
    name, shape, entries = _checked_header(header, file, named=weights is None)
    arrays = open_weights(file.parent / header["weights"] if weights is None else weights)
    digest = hashlib.sha256(data).hexdigest() + arrays.sha256
    budget = Budget()
    method = read_method(header.pop("quantized", None), _refuse_header(file, "quantized"))
    layers = [
        Entry(file, index, entry, arrays, method, budget) for index, entry in enumerate(entries)
    ]

    names = {INPUT: INPUT}
    last = INPUT
    uses: Counter[str] = Counter()
    for layer in layers:
        layer.name = layer.text("name")
        if layer.name in names or not layer.name.isprintable() or not layer.name:
            raise layer.error("name", f"{layer.name!r}", "a printable name no other layer has")
        layer.inputs = [layer.text("input", last)]
        layer.op = layer.text("op")
        if layer.op not in _OPS:
            raise layer.error("op", f"{layer.op!r}", ", ".join(sorted(_OPS)))
        if layer.op == "add":
            layer.inputs.append(layer.text("with"))
        for tensor in layer.inputs:
            if tensor not in names:
                raise layer.error("input", f"{tensor!r}", "'input' or a layer before this one")
            uses[tensor] += 1
        layer.grid = layer.optional_grid("grid")
        last = names[layer.name] = layer.name
    uses[last] += 1
    unread = [layer for layer in layers if not uses[layer.name]]
    if unread:
        raise unread[0].error("name", "an output that nothing reads", "one output, the last layer")

    grid = Entry(file, 0, {"grid": header.get("input_grid")}, arrays, None, budget)
    grid.name = INPUT
    input_grid = grid.optional_grid("grid")
    uses.update({f"{RAW}{layer.name}": 1 for layer in layers} | {f"{RAW}{INPUT}": 1})
    try:
        lowering = Lowering(INPUT if input_grid is None else f"{RAW}{INPUT}", shape, uses)
        if input_grid is not None:
            lowering.quantize(INPUT, f"{RAW}{INPUT}", INPUT, input_grid)
    except RefusedError as error:
        raise ModelFileError(
            file, "input_shape", found=error.found, expected=error.expected
        ) from error
    for note in arrays.notes:
        lowering.note(f"{arrays.path.name}: {note}")
    for layer in layers:
        try:
            _OPS[layer.op](layer, lowering)
            if layer.grid is not None:
                lowering.quantize(layer.name, layer.output, layer.name, layer.grid)
        except RefusedError as error:
            raise layer.error(layer.op, error.found, error.expected, error.hint) from error
        layer.refuse_rest()
    try:
        return lowering.finish(
            last,
            name=name,
            source=str(path),
            sha256=hashlib.sha256(digest.encode()).hexdigest(),
        )
    except RefusedError as error:
        raise ModelFileError(file, "layers", found=error.found, expected=error.expected) from error


def _refuse_header(file: Path, field: str) -> Callable[[str, str], ModelFileError]:
    return lambda found, expected: ModelFileError(file, field, found=found, expected=expected)


def _conditioned(layer: Entry, lowering: Lowering, weights: LayerWeights) -> str:
    """The tensor that a layer reads, after what its file does to its input alone."""
    x, inner = layer.x, f"{RAW}{layer.name}\0input"
    if weights.note:
        lowering.note(weights.note)
    if weights.clip is not None:
        lowering.clamp(f"{layer.name}.clip", x, inner, 0.0, weights.clip)
        return inner
    if weights.grid is not None:
        lowering.quantize(f"{layer.name}.grid", x, inner, weights.grid)
        return inner
    return x


def _conv(layer: Entry, lowering: Lowering) -> None:
    weights = layer.weights()
    lowering.conv(
        layer.name,
        _conditioned(layer, lowering, weights),
        layer.output,
        weights.weight,
        layer.bias(),
        stride=layer.pair("stride", 1),
        padding=layer.padding(),
        groups=layer.integers("groups", (1,), 1)[0],
        kept=weights.kept,
    )


def _dense(layer: Entry, lowering: Lowering) -> None:
    weights = layer.weights()
    x = _conditioned(layer, lowering, weights)
    lowering.dense(layer.name, x, layer.output, weights.weight, layer.bias(), kept=weights.kept)


def _max_pool(layer: Entry, lowering: Lowering) -> None:
    kernel = layer.pair("kernel")
    stride = layer.pair("stride", list(kernel))
    padding = layer.padding()
    lowering.pool(layer.name, layer.x, layer.output, "max", kernel, stride=stride, padding=padding)


def _average_pool(layer: Entry, lowering: Lowering) -> None:
    kernel = layer.pair("kernel")
    stride = layer.pair("stride", list(kernel))
    padding = layer.padding()
    lowering.pool(
        layer.name, layer.x, layer.output, "average", kernel, stride=stride, padding=padding
    )


def _global_average(layer: Entry, lowering: Lowering) -> None:
    lowering.global_average(layer.name, layer.x, layer.name)


def _batchnorm(layer: Entry, lowering: Lowering) -> None:
    parts = [layer.array(field) for field in ("scale", "shift", "mean", "variance")]
    epsilon = layer.number("epsilon", 1e-5)
    lowering.batchnorm(layer.name, layer.x, layer.output, *parts, epsilon=epsilon)


def _relu(layer: Entry, lowering: Lowering) -> None:
    lowering.clamp(layer.name, layer.x, layer.output, 0.0, math.inf)


def _relu6(layer: Entry, lowering: Lowering) -> None:
    lowering.clamp(layer.name, layer.x, layer.output, 0.0, 6.0)


def _clip(layer: Entry, lowering: Lowering) -> None:
    low, high = layer.number("low"), layer.number("high")
    lowering.clamp(layer.name, layer.x, layer.output, low, high)


def _add(layer: Entry, lowering: Lowering) -> None:
    lowering.add(layer.name, layer.x, layer.inputs[1], layer.output)


def _flatten(layer: Entry, lowering: Lowering) -> None:
    lowering.flatten(layer.x, layer.output)


def _subsample(layer: Entry, lowering: Lowering) -> None:
    stride = layer.pair("stride", 1)
    before, after = layer.pair("pad_channels", 0)
    present = range(lowering.shape(layer.x)[0])
    if before + len(present) + after > MAX_SIDE:
        raise layer.error("pad_channels", f"{before} and {after}", f"{MAX_SIDE} channels at most")
    channels = (*(-1,) * before, *present, *(-1,) * after)
    if min(stride) < 1:
        raise layer.error("stride", f"{stride}", "1 or more")
    lowering.select(layer.name, layer.x, layer.output, stride=stride, channels=channels)


_OPS: dict[str, Callable[[Entry, Lowering], None]] = {
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
        raise ModelFileError(file, "JSON", found=told(header), expected=expected)
    return header


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key is there twice")
    return keys


def _checked_header(
    header: dict[str, Any], file: Path, *, named: bool
) -> tuple[str, Shape, list[object]]:
    """Name, input shape and layer entries; `named`: the weights are the file that it names."""

    def error(field: str, expected: str) -> ModelFileError:
        return ModelFileError(file, field, found=told(header.get(field)), expected=expected)

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
        or not all(is_side(side) and side > 0 for side in shape)
    ):
        raise error("input_shape", "[C, H, W]")
    weights = header.get("weights")
    if named and (
        not isinstance(weights, str)
        or Path(weights).name != weights
        or "\\" in weights
        or not weights.isprintable()
    ):
        raise error("weights", "the name of a file in the same folder")
    layers = header.get("layers")
    if not isinstance(layers, list) or not layers:
        raise error("layers", "a list of one layer or more")
    if len(layers) > MAX_LAYERS:
        raise ModelFileError(
            file, "layers", found=f"{len(layers)} of them", expected=f"at most {MAX_LAYERS}"
        )
    return name, (shape[0], shape[1], shape[2]), layers
