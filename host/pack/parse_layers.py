"""From the fields and tensors of one layer of a packed file to a checked layer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np

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
from bacmac.host.model.layers import INPUT
from bacmac.host.model.quantized import ActivationFormat, QuantizedLayer
from bacmac.host.pack.container import Tensors
from bacmac.host.pack.formats import DENSE, Packer, packer
from bacmac.host.pack.layer_shape import LayerShape
from bacmac.host.pack.limits import (
    MAX_KERNEL,
    MAX_PADDING,
    MAX_PRODUCTS,
    MAX_SCALE,
    MAX_SIDE,
    MAX_STRIDE,
    MAX_TENSOR_ELEMENTS,
    MAX_TOTAL_ELEMENTS,
    MAX_WEIGHTS,
)
from bacmac.host.pack.metadata import Field
from bacmac.host.pack.parse_fields import activation_format, scales

FIRST_SCHEMES = ("uniform-8", "uniform-4", "uniform-3", "pot-4", "pot-4e4", "pot-3", "ternary")
"""What a file of version 1 may hold."""


@dataclass
class Graph:
    """What is known while layers are read: tensor 0 is the network's input."""

    version: int
    shapes: list[Shape]
    formats: list[ActivationFormat | None]
    ranges: list[tuple[int, int]]
    names: set[str] = field(default_factory=lambda: {INPUT})
    elements: int = 0
    weights: int = 0
    products: int = 0


@dataclass(frozen=True)
class Stored:
    """How a layer's weights lie in the file.

    Attributes:
        format: name of the storage format; "" for a pool.
        n_bytes: of the packed codes; 0 for a pool.
    """

    format: str = ""
    n_bytes: int = 0


def parse_layer(
    entry: Field, index: int, last: bool, graph: Graph, tensors: Tensors
) -> tuple[QuantizedLayer, Stored]:
    """A layer, and how its weights are stored; what it gives is added to `graph`.

    Raises:
        PackedFileError: anything at all is not as it should be.
    """
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
        output = activation_format(fields["output"], graph.version)
    elif not (is_conv and last):
        fields["output"].refuse("a format; only a convolution at the end may leave int32")
    op: Op
    scheme, scale, stored = "", np.zeros(0), Stored()
    if is_conv:
        op, stored = _conv(fields, index, source, output, graph, tensors)
        scheme = _scheme_name(fields["scheme"], graph.version)
        scale = scales(tensors, f"layers.{index}.scale", op.levels.shape[0])
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
    return layer, stored


def _conv(
    fields: dict[str, Field],
    index: int,
    source: int,
    output: ActivationFormat | None,
    graph: Graph,
    tensors: Tensors,
) -> tuple[ConvOp, Stored]:
    shape = cast(
        tuple[int, int, int, int], fields["weight_shape"].integers(4, 1, MAX_TENSOR_ELEMENTS)
    )
    scheme = SCHEMES[_scheme_name(fields["scheme"], graph.version)]
    packing = _packer(fields["storage"], graph.version)
    groups = fields["groups"].integer(1, MAX_SIDE)
    padding = cast(Padding, fields["padding"].integers(4, 0, MAX_PADDING))
    stride = cast(tuple[int, int], fields["stride"].integers(2, 1, MAX_STRIDE))
    _, height, width = graph.shapes[source]
    whole = (height + padding[0] + padding[2], width + padding[1] + padding[3])
    if max(shape[2:]) > MAX_KERNEL and shape[2:] != whole:
        fields["weight_shape"].refuse(
            f"kernel sides of 1 to {MAX_KERNEL}, or the whole padded input, {whole[0]}x{whole[1]}"
        )
    dense = shape[2:] == whole and not any(padding) and groups == 1
    residual = None
    if fields["residual"].value is not None:
        residual = fields["residual"].integer(0, index)
    codes = tensors.take(f"layers.{index}.codes", "U8", None)
    n = math.prod(shape)
    graph.weights += n
    if graph.weights > MAX_WEIGHTS:
        fields["weight_shape"].refuse(f"at most {MAX_WEIGHTS}", f"{graph.weights} weights so far")
    try:
        levels = packing.unpack(codes, scheme, LayerShape(shape, groups, dense))
    except ValueError as error:
        raise PackedFileError(
            tensors.file,
            f"layers.{index}.codes",
            found=str(error),
            expected=f"{n} weights in {scheme.name} codes, {packing.name}",
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
    return op, Stored(packing.name, int(codes.size))


def _scheme_name(at: Field, version: int) -> str:
    return at.choice(FIRST_SCHEMES if version == 1 else tuple(SCHEMES))


def _packer(at: Field, version: int) -> Packer:
    if version == 1:
        at.choice((DENSE,))
    try:
        return packer(at.text())
    except ValueError as error:
        raise PackedFileError(
            at.file, at.name, found=repr(at.value), expected=str(error)
        ) from error


def _pool(
    fields: dict[str, Field],
    index: int,
    source: int,
    output: ActivationFormat | None,
    graph: Graph,
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


def _add_shape(at: Field, op: Op, source: int, graph: Graph) -> None:
    try:
        graph.shapes.append(output_shape(op, graph.shapes[source]))
    except ValueError as error:
        raise PackedFileError(
            at.file, at.name, found=str(error), expected="a layer that fits its input"
        ) from error
    check_elements(at, graph)


def check_elements(at: Field, graph: Graph) -> None:
    """Count the newest tensor, and refuse more than a file may have."""
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
