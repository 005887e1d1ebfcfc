"""From the fields and tensors of a packed file to a checked QuantizedModel."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import (
    MAX_SHIFT,
    MULTIPLIER_BITS,
    ConvOp,
    Op,
    Padding,
    PoolOp,
    Requantize,
    Shape,
    output_shape,
)
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import PackedFileError
from bacmac.host.model.layers import INPUT, Normalization
from bacmac.host.model.quantized import ActivationFormat, QuantizedLayer, QuantizedModel
from bacmac.host.pack.container import Tensors
from bacmac.host.pack.metadata import Field, parse_json
from bacmac.host.pack.packer import PACKERS

METADATA_KEY = "bacmac"
FORMAT = "bacmac-packed"
VERSION = 1
STORAGE = "dense"

# Bounds on what a file may declare, far above any network for an embedded accelerator (ResNet-152
# at 224 x 224: 155 layers, 3.2 million elements a tensor, 1.1e10 products; VGG-19: 1.4e8 weights,
# 2e10 products), so that a hostile file cannot ask its reader for endless memory or time.
MAX_LAYERS = 4096
MAX_SIDE = 1 << 16
MAX_TENSOR_ELEMENTS = 1 << 24
MAX_TOTAL_ELEMENTS = 1 << 28
MAX_PRODUCTS = 1 << 37
MAX_WEIGHTS = 1 << 28
MAX_KERNEL = 7
MAX_STRIDE = 4
MAX_PADDING = 16

# a scale is used in float32 by the fast paths: it must be a normal number there
MIN_SCALE = float(np.finfo(np.float32).tiny)
MAX_SCALE = float(np.finfo(np.float32).max)


@dataclass
class _Graph:
    """What is known while layers are read: tensor 0 is the network's input."""

    shapes: list[Shape]
    formats: list[ActivationFormat | None]
    ranges: list[tuple[int, int]]
    names: set[str] = field(default_factory=lambda: {INPUT})
    elements: int = 0
    weights: int = 0
    products: int = 0


def parse_model(
    file: str, metadata: dict[str, Field], tensors: Tensors
) -> tuple[QuantizedModel, dict[str, int]]:
    """The model, and the bytes of packed codes by layer name.

    Raises:
        PackedFileError: anything at all is not as it should be.
    """
    if METADATA_KEY not in metadata:
        raise PackedFileError(
            file,
            "metadata",
            found="no key 'bacmac'",
            expected="a packed model's",
            hint="another program wrote this safetensors file",
        )
    if len(metadata) > 1:
        other = min(key for key in metadata if key != METADATA_KEY)
        raise PackedFileError(
            file, "metadata", found=f"the key {other[:60]!r}", expected="only the key 'bacmac'"
        )
    text = metadata[METADATA_KEY].value
    if not isinstance(text, str):
        metadata[METADATA_KEY].refuse("text")
    root = parse_json(file, "metadata", text.encode("utf-8", "surrogatepass"))
    fields = _versioned(root)
    input_shape = cast(Shape, fields["input_shape"].integers(3, 1, MAX_SIDE))
    input_format = _activation_format(fields["input_format"])
    graph = _Graph([input_shape], [input_format], [(input_format.low, input_format.high)])
    _check_elements(fields["input_shape"], graph)
    layers: list[QuantizedLayer] = []
    layer_bytes: dict[str, int] = {}
    entries = fields["layers"].items(1, MAX_LAYERS)
    for index, entry in enumerate(entries):
        layer, code_bytes = _layer(entry, index, index == len(entries) - 1, graph, tensors)
        layers.append(layer)
        layer_bytes[layer.name] = code_bytes
    logit_scale = _scales(tensors, "logit_scale", graph.shapes[-1][0])
    tensors.finish()
    model = QuantizedModel(
        name=fields["name"].text(),
        input_shape=input_shape,
        input_format=input_format,
        normalization=_normalization(fields["normalization"], input_shape[0]),
        layers=tuple(layers),
        logit_scale=logit_scale,
        provenance=_provenance(fields["provenance"]),
    )
    try:
        _ = model.network
    except ValueError as error:
        raise PackedFileError(
            file, "layers", found=str(error), expected="a network that fits together"
        ) from error
    return model, layer_bytes


def _versioned(root: Field) -> dict[str, Field]:
    """The top-level fields, once format and version are known to be ours."""
    outline = root.mapping()
    for key in ("format", "version"):
        if key not in outline:
            root.refuse(f"the key {key!r}", "none")
    outline["format"].choice((FORMAT,))
    version = outline["version"].integer(1, 1 << 31)
    if version > VERSION:
        raise PackedFileError(
            root.file,
            "version",
            found=f"version {version}",
            expected=f"version {VERSION}, the newest that this release reads",
            hint="a newer bacmac wrote it",
        )
    return root.record(
        "format",
        "version",
        "name",
        "input_shape",
        "input_format",
        "normalization",
        "layers",
        "provenance",
    )


def _layer(
    entry: Field, index: int, last: bool, graph: _Graph, tensors: Tensors
) -> tuple[QuantizedLayer, int]:
    kind = entry.mapping().get("kind", Field(entry.file, f"{entry.name}.kind", None))
    is_conv = kind.choice(("conv", "max", "average")) == "conv"
    own = ("residual", "groups", "scheme", "storage", "weight_shape") if is_conv else ("kernel",)
    fields = entry.record(
        *("name", "kind", "input", "stride", "padding", "output", "clamp"),
        *("structural", "relative_squared_error", *own),
    )
    name = fields["name"].text()
    if name in graph.names:
        fields["name"].refuse("a name of its own", f"{name!r} again")
    graph.names.add(name)
    source = fields["input"].integer(0, index)
    output = None
    if fields["output"].value is not None:
        output = _activation_format(fields["output"])
    elif not (is_conv and last):
        fields["output"].refuse("a format; only a convolution at the end may leave int32")
    op: Op
    scheme, scale, code_bytes = "", np.zeros(0), 0
    if is_conv:
        op, code_bytes = _conv(fields, index, source, output, graph, tensors)
        scheme = fields["scheme"].choice(tuple(SCHEMES))
        scale = _scales(tensors, f"layers.{index}.scale", op.levels.shape[0])
        _check_accumulators(entry, op, graph.ranges[source])
    else:
        op = _pool(fields, index, source, output, graph, tensors)
    layer = QuantizedLayer(
        name=name,
        op=op,
        output=output,
        scheme=scheme,
        weight_scale=scale,
        structural=fields["structural"].flag(),
        relative_squared_error=fields["relative_squared_error"].number(0.0, MAX_SCALE),
    )
    graph.formats.append(output)
    clamped = graph.ranges[source]
    if op.requantize is not None:
        clamped = (op.requantize.low, op.requantize.high)
    graph.ranges.append(clamped)
    return layer, code_bytes


def _conv(
    fields: dict[str, Field],
    index: int,
    source: int,
    output: ActivationFormat | None,
    graph: _Graph,
    tensors: Tensors,
) -> tuple[ConvOp, int]:
    shape = cast(
        tuple[int, int, int, int], fields["weight_shape"].integers(4, 1, MAX_TENSOR_ELEMENTS)
    )
    scheme = SCHEMES[fields["scheme"].choice(tuple(SCHEMES))]
    packer = PACKERS[fields["storage"].choice(tuple(PACKERS))]
    groups = fields["groups"].integer(1, MAX_SIDE)
    padding = cast(Padding, fields["padding"].integers(4, 0, MAX_PADDING))
    stride = cast(tuple[int, int], fields["stride"].integers(2, 1, MAX_STRIDE))
    _, height, width = graph.shapes[source]
    whole = (height + padding[0] + padding[2], width + padding[1] + padding[3])
    if max(shape[2:]) > MAX_KERNEL and shape[2:] != whole:
        fields["weight_shape"].refuse(
            f"kernel sides of 1 to {MAX_KERNEL}, or the whole padded input, {whole[0]}x{whole[1]}"
        )
    residual = None
    if fields["residual"].value is not None:
        residual = fields["residual"].integer(0, index)
    codes = tensors.take(f"layers.{index}.codes", "U8", None)
    n = math.prod(shape)
    graph.weights += n
    if graph.weights > MAX_WEIGHTS:
        fields["weight_shape"].refuse(f"at most {MAX_WEIGHTS}", f"{graph.weights} weights so far")
    try:
        levels = packer.unpack(codes, n, scheme).reshape(shape)
    except ValueError as error:
        raise PackedFileError(
            tensors.file,
            f"layers.{index}.codes",
            found=str(error),
            expected=f"{n} weights in {scheme.name} codes",
        ) from error
    bias = tensors.take(f"layers.{index}.bias", "I32", (shape[0],))
    requantize = _requantize(
        fields, index, output, shape[0], tensors, has_residual=residual is not None
    )
    op = ConvOp(source, levels, bias, requantize, stride, padding, groups, residual)
    _add_shape(fields["weight_shape"], op, source, graph)
    if residual is not None and graph.shapes[residual] != graph.shapes[-1]:
        fields["residual"].refuse(
            f"a tensor of the output's shape, {list(graph.shapes[-1])}",
            f"tensor {residual} of {list(graph.shapes[residual])}",
        )
    _, out_h, out_w = graph.shapes[-1]
    graph.products += n * out_h * out_w
    if graph.products > MAX_PRODUCTS:
        fields["weight_shape"].refuse(
            f"at most {MAX_PRODUCTS} in a network", f"{graph.products} products an image"
        )
    return op, int(codes.size)


def _pool(
    fields: dict[str, Field],
    index: int,
    source: int,
    output: ActivationFormat | None,
    graph: _Graph,
    tensors: Tensors,
) -> PoolOp:
    kind = cast(Literal["max", "average"], fields["kind"].choice(("max", "average")))
    kernel = cast(tuple[int, int], fields["kernel"].integers(2, 1, MAX_SIDE))
    # no window may lie in the padding alone
    padding = cast(Padding, fields["padding"].integers(4, 0, MAX_PADDING))
    if any(amount >= kernel[side % 2] for side, amount in enumerate(padding)):
        fields["padding"].refuse(f"less than the kernel, {kernel[0]}x{kernel[1]}")
    stride = cast(tuple[int, int], fields["stride"].integers(2, 1, MAX_SIDE))
    requantize = None
    if kind == "average":
        channels = graph.shapes[source][0]
        requantize = _requantize(fields, index, output, channels, tensors, has_residual=False)
    else:
        if fields["clamp"].value is not None:
            fields["clamp"].refuse("null: a maximum is not requantized")
        if output != graph.formats[source]:
            fields["output"].refuse("its input's format: a maximum passes values through")
    op = PoolOp(source, kind, kernel, stride, padding, requantize)
    _add_shape(fields["kernel"], op, source, graph)
    return op


def _requantize(
    fields: dict[str, Field],
    index: int,
    output: ActivationFormat | None,
    channels: int,
    tensors: Tensors,
    *,
    has_residual: bool,
) -> Requantize | None:
    clamp = fields["clamp"]
    if output is None:
        if clamp.value is not None:
            clamp.refuse("null: int32 outputs are not clamped")
        if has_residual:
            fields["residual"].refuse("null: int32 outputs take no residual")
        return None
    low = clamp.items(2, 2)[0].integer(output.low, 0)
    high = clamp.items(2, 2)[1].integer(0, output.high)
    multiplier = tensors.take(f"layers.{index}.multiplier", "U16", (channels,))
    shift = tensors.take(f"layers.{index}.shift", "U8", (channels,)).copy()
    for name, array, top in (
        ("multiplier", multiplier, (1 << MULTIPLIER_BITS) - 1),
        ("shift", shift, MAX_SHIFT),
    ):
        if int(array.max()) > top:
            at = int(array.argmax())
            raise PackedFileError(
                tensors.file,
                f"layers.{index}.{name}[{at}]",
                found=str(int(array[at])),
                expected=f"at most {top}",
            )
    residual_multiplier = None
    if has_residual:
        residual_multiplier = tensors.take(
            f"layers.{index}.residual_multiplier", "I32", (channels,)
        )
    return Requantize(multiplier, shift, low, high, residual_multiplier)


def _add_shape(at: Field, op: Op, source: int, graph: _Graph) -> None:
    try:
        graph.shapes.append(output_shape(op, graph.shapes[source]))
    except ValueError as error:
        raise PackedFileError(
            at.file, at.name, found=str(error), expected="a layer that fits its input"
        ) from error
    _check_elements(at, graph)


def _check_elements(at: Field, graph: _Graph) -> None:
    n = math.prod(graph.shapes[-1])
    graph.elements += n
    if n > MAX_TENSOR_ELEMENTS or graph.elements > MAX_TOTAL_ELEMENTS:
        at.refuse(
            f"at most {MAX_TENSOR_ELEMENTS} in a tensor and {MAX_TOTAL_ELEMENTS} in all",
            f"{n} elements in a tensor, {graph.elements} so far",
        )


def _check_accumulators(at: Field, op: ConvOp, input_range: tuple[int, int]) -> None:
    """No sum, in any order, may leave int32: sum |level| * max|x| + |bias| < 2^31."""
    largest = max(-input_range[0], input_range[1])
    reach = np.abs(op.levels.reshape(op.levels.shape[0], -1)).sum(1, dtype=np.int64) * largest
    reach += np.abs(op.bias.astype(np.int64))
    if int(reach.max()) >= 1 << 31:
        at.refuse("less than 2147483648", f"accumulators up to {int(reach.max())}")


def _activation_format(at: Field) -> ActivationFormat:
    fields = at.record("scale", "bits", "signed")
    return ActivationFormat(
        scale=fields["scale"].number(MIN_SCALE, MAX_SCALE),
        bits=fields["bits"].integer(2, 8),
        signed=fields["signed"].flag(),
    )


def _scales(tensors: Tensors, name: str, n: int) -> npt.NDArray[np.float64]:
    scales: npt.NDArray[np.float64] = tensors.take(name, "F64", (n,))
    # written so that NaN is refused too
    bad = ~((scales >= MIN_SCALE) & (scales <= MAX_SCALE))
    if bad.any():
        at = int(bad.argmax())
        raise PackedFileError(
            tensors.file,
            f"{name}[{at}]",
            found=str(float(scales[at])),
            expected=f"a number from {MIN_SCALE:.6g} to {MAX_SCALE:.6g}",
        )
    return scales


def _normalization(at: Field, channels: int) -> Normalization:
    fields = at.record("pixel_max", "mean", "std")

    def per_channel(key: str, low: float) -> tuple[float, ...]:
        items = fields[key].items(1, channels)
        if len(items) not in (1, channels):
            fields[key].refuse(f"one value, or one a channel ({channels})")
        return tuple(item.number(low, MAX_SCALE) for item in items)

    return Normalization(
        pixel_max=fields["pixel_max"].number(MIN_SCALE, MAX_SCALE),
        mean=per_channel("mean", -MAX_SCALE),
        std=per_channel("std", MIN_SCALE),
    )


def _provenance(at: Field) -> dict[str, object]:
    at.mapping()
    return cast(dict[str, object], at.plain())
