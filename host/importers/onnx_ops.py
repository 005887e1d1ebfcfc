"""What each ONNX operator means for the float model.

One function an operator, each by the operator's page of the ONNX specification, opsets 7 and up
(where an opset moved an attribute to an input, both are read).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from bacmac.host.arith.network import Padding
from bacmac.host.importers.lowering import Lowering, Pair, RefusedError, Vector
from bacmac.host.importers.onnx_constants import BATCH, slice_arguments
from bacmac.host.importers.onnx_node import Array, Node, finite_float32


def lower_node(node: Node, lowering: Lowering) -> None:
    """Feed one node that depends on the image to the lowering.

    Raises:
        RefusedError: the operator, one of its attributes or its inputs cannot be lowered.
    """
    if node.op not in _OPS:
        raise RefusedError(f"op {node.op!r}", f"one of {', '.join(sorted(_OPS))}")
    if not node.output or not node.x:
        raise RefusedError("no input or no output", "one of each")
    _OPS[node.op](node, lowering)
    node.refuse_rest()


def _conv(node: Node, lowering: Lowering) -> None:
    weight = node.weight(1)
    if weight.ndim != 4:
        raise RefusedError(f"a weight of {weight.ndim} dimensions", "4: a 2-D convolution")
    kernel = (weight.shape[2], weight.shape[3])
    if node.ints("kernel_shape", kernel) != kernel:
        raise RefusedError(f"kernel_shape that is not the weight's {kernel}", "the same")
    stride, padding, _ = _window(node, lowering, kernel)
    bias = node.weight(2) if node.has(2) else None
    groups = node.integer("group", 1)
    lowering.conv(
        node.name, node.x, node.output, weight, bias, stride=stride, padding=padding, groups=groups
    )


def _gemm(node: Node, lowering: Lowering) -> None:
    if node.integer("transA", 0):
        raise RefusedError("transA 1", "transA 0: images are rows")
    if not lowering.is_flat(node.x):
        raise RefusedError("an input with rows and columns", "a flatten before it")
    alpha = np.float32(node.number("alpha", 1.0))
    with np.errstate(all="ignore"):  # what is not finite is refused when the layer is made
        weight = alpha * node.weight(1)
    weight = weight if node.integer("transB", 0) else weight.T
    bias = None
    beta = np.float32(node.number("beta", 1.0))
    if node.has(2):
        given = node.weight(2)
        if given.ndim > 2 or (given.ndim == 2 and given.shape[0] != 1) or weight.ndim != 2:
            raise RefusedError(f"C of shape {given.shape}", "one value an output")
        if given.size not in (1, len(weight)):
            raise RefusedError(f"C of shape {given.shape}", f"one value, or {len(weight)}")
        with np.errstate(all="ignore"):
            bias = np.ascontiguousarray(np.broadcast_to(beta * given.ravel(), len(weight)))
    lowering.dense(node.name, node.x, node.output, weight, bias)


def _matmul(node: Node, lowering: Lowering) -> None:
    if not lowering.is_flat(node.x):
        raise RefusedError("an input with rows and columns", "a flatten before it")
    lowering.dense(node.name, node.x, node.output, node.weight(1).T)


def _batchnorm(node: Node, lowering: Lowering) -> None:
    if node.integer("training_mode", 0) or not node.integer("spatial", 1):
        raise RefusedError("training_mode 1 or spatial 0", "inference, one set a channel")
    node.ignore("momentum", "is_test")
    scale, shift, mean, variance = (node.weight(index) for index in range(1, 5))
    epsilon = node.number("epsilon", 1e-5)
    lowering.batchnorm(
        node.name, node.x, node.output, scale, shift, mean, variance, epsilon=epsilon
    )


def _relu(node: Node, lowering: Lowering) -> None:
    lowering.clamp(node.name, node.x, node.output, 0.0, math.inf)


def _clip(node: Node, lowering: Lowering) -> None:
    if node.opset < 11:
        low, high = node.number("min", -math.inf), node.number("max", math.inf)
    else:
        low, high = _scalar(node, 1, -math.inf), _scalar(node, 2, math.inf)
    largest = float(np.finfo(np.float32).max)  # how files write "no limit"
    low = -math.inf if low <= -largest else low
    high = math.inf if high >= largest else high
    lowering.clamp(node.name, node.x, node.output, low, high)


def _max_pool(node: Node, lowering: Lowering) -> None:
    if node.integer("storage_order", 0):
        raise RefusedError("storage_order 1", "0")
    kernel = _kernel(node)
    stride, padding, extra = _window(node, lowering, kernel)
    # a window that ceil_mode lets hang over the edge sees nothing there, as in padding
    padding = (padding[0], padding[1], padding[2] + extra[0], padding[3] + extra[1])
    _pool(node, lowering, "max", kernel, stride, padding)


def _average_pool(node: Node, lowering: Lowering) -> None:
    kernel = _kernel(node)
    stride, padding, extra = _window(node, lowering, kernel)
    if any(padding) and not node.integer("count_include_pad", 0):
        raise RefusedError(
            f"padding {padding} with count_include_pad 0", "count_include_pad 1, or no padding"
        )
    node.ignore("count_include_pad")
    if any(extra):
        raise RefusedError("ceil_mode 1 with windows over the edge", "ceil_mode 0")
    _pool(node, lowering, "average", kernel, stride, padding)


def _pool(
    node: Node,
    lowering: Lowering,
    kind: Literal["max", "average"],
    kernel: Pair,
    stride: Pair,
    padding: Padding,
) -> None:
    lowering.pool(node.name, node.x, node.output, kind, kernel, stride=stride, padding=padding)


def _global_average(node: Node, lowering: Lowering) -> None:
    lowering.global_average(node.name, node.x, node.output)


def _reduce_mean(node: Node, lowering: Lowering) -> None:
    axes = node.integers(1) if node.opset >= 18 else node.ints("axes")
    node.ignore("noop_with_empty_axes")
    if lowering.is_flat(node.x) or axes is None or {axis % 4 for axis in axes} != {2, 3}:
        raise RefusedError(f"a mean over axes {axes}", "over rows and columns, (2, 3)")
    flat = not node.integer("keepdims", 1)
    lowering.global_average(node.name, node.x, node.output, flat=flat)


def _add(node: Node, lowering: Lowering) -> None:
    if not node.has(1):
        raise RefusedError("one input", "two")
    if node.is_constant(0) or node.is_constant(1):
        x, values = _constant_operand(node, lowering)
        lowering.scale(node.name, x, node.output, np.ones(1), values)
    else:
        lowering.add(node.name, node.x, node.inputs[1], node.output)


def _sub(node: Node, lowering: Lowering) -> None:
    x, values = _constant_operand(node, lowering)
    if node.is_constant(0):
        lowering.scale(node.name, x, node.output, -np.ones(1), values)
    else:
        lowering.scale(node.name, x, node.output, np.ones(1), -values)


def _mul(node: Node, lowering: Lowering) -> None:
    x, values = _constant_operand(node, lowering)
    lowering.scale(node.name, x, node.output, values, np.zeros(1))


def _div(node: Node, lowering: Lowering) -> None:
    x, values = _constant_operand(node, lowering)
    if node.is_constant(0) or bool((values == 0).any()):
        raise RefusedError("a division by the image or by 0", "a division by constants")
    lowering.scale(node.name, x, node.output, 1.0 / values, np.zeros(1))


def _alias(node: Node, lowering: Lowering) -> None:
    lowering.alias(node.x, node.output)


def _dropout(node: Node, lowering: Lowering) -> None:
    training = node.constant(2)
    if training is not None and bool(training.any()):
        raise RefusedError("training_mode 1", "inference")
    node.ignore("ratio", "seed", "is_test")
    lowering.alias(node.x, node.output)


def _flatten(node: Node, lowering: Lowering) -> None:
    rank = 2 if lowering.is_flat(node.x) else 4
    axis = node.integer("axis", 1)
    if axis not in (1, 1 - rank):
        raise RefusedError(f"axis {axis}", "1: all but the images")
    lowering.flatten(node.x, node.output)


def _reshape(node: Node, lowering: Lowering) -> None:
    shape = node.integers(1) if node.has(1) else None
    if not shape or len(shape) not in (2, 4):
        raise RefusedError(f"a reshape to {shape}", "a flatten to (N, features)")
    sides = lowering.shape(node.x)
    features = math.prod(sides)
    before = (BATCH, features) if lowering.is_flat(node.x) else (BATCH, *sides)
    if not node.integer("allowzero", 0):
        if any(side == 0 and i >= len(before) for i, side in enumerate(shape)):
            raise RefusedError(f"a reshape of {before[1:]} to {shape}", "sides to copy for 0")
        shape = tuple(before[i] if side == 0 else side for i, side in enumerate(shape))
    batch, rest = shape[0], list(shape[1:])
    known = math.prod(side for side in rest if side != -1)
    if rest.count(-1) == 1 and batch != -1 and known > 0 and features % known == 0:
        rest[rest.index(-1)] = features // known
    flat = rest == [features]
    if batch not in (BATCH, 1, -1) or not (flat or rest == list(sides)):
        told = ["N" if side == BATCH else side for side in shape]
        raise RefusedError(f"a reshape of {sides} to {told}", f"a flatten to (N, {features})")
    lowering.alias(node.x, node.output, flat=flat)


def _squeeze(node: Node, lowering: Lowering) -> None:
    axes = _axes(node)
    shape = lowering.shape(node.x)
    if lowering.is_flat(node.x) or shape[1:] != (1, 1) or {axis % 4 for axis in axes} != {2, 3}:
        raise RefusedError(f"axes {axes} of {shape}", "rows and columns, (2, 3), of one each")
    lowering.alias(node.x, node.output, flat=True)


def _unsqueeze(node: Node, lowering: Lowering) -> None:
    axes = _axes(node)
    shape = lowering.shape(node.x)
    if not lowering.is_flat(node.x) or shape[1:] != (1, 1) or {a % 4 for a in axes} != {2, 3}:
        raise RefusedError(f"axes {axes}", "rows and columns, (2, 3), of features")
    lowering.alias(node.x, node.output, flat=False)


def _transpose(node: Node, lowering: Lowering) -> None:
    rank = 2 if lowering.is_flat(node.x) else 4
    perm = node.ints("perm", tuple(reversed(range(rank))))
    if perm != tuple(range(rank)):
        raise RefusedError(f"a transpose {perm} of the image's data", "NCHW throughout")
    lowering.alias(node.x, node.output)


def _pad(node: Node, lowering: Lowering) -> None:
    mode = node.text("mode", "constant")
    if node.opset < 11:
        pads, value, axes = node.ints("pads"), node.number("value", 0.0), None
    else:
        pads, value = node.integers(1), _scalar(node, 2, 0.0)
        axes = node.integers(3) if node.opset >= 18 else None
    axes = (0, 1, 2, 3) if axes is None else tuple(axis % 4 for axis in axes)
    if lowering.is_flat(node.x) or pads is None or len(pads) != 2 * len(axes):
        raise RefusedError(f"pads {pads} on axes {axes}", "(N, C, H, W), two a side")
    if mode != "constant" or value != 0 or min(pads, default=0) < 0:
        raise RefusedError(f"mode {mode}, value {value:g}, pads {pads}", "zeros, 0 or more a side")
    begin = dict(zip(axes, pads[: len(axes)], strict=True))
    end = dict(zip(axes, pads[len(axes) :], strict=True))
    if begin.get(0) or end.get(0) or max(pads, default=0) > 1 << 16:
        raise RefusedError(f"pads {pads}", "no padding of images, at most 65536 a side")
    present = range(lowering.shape(node.x)[0])
    channels = (*(-1,) * begin.get(1, 0), *present, *(-1,) * end.get(1, 0))
    lowering.select(node.name, node.x, node.output, channels=channels)
    spatial = (begin.get(2, 0), begin.get(3, 0), end.get(2, 0), end.get(3, 0))
    if any(spatial):
        lowering.pad(node.name, node.output, node.output, spatial)


def _slice(node: Node, lowering: Lowering) -> None:
    starts, ends, axes, steps = slice_arguments(node)
    if lowering.is_flat(node.x):
        raise RefusedError("a slice of features", "a slice of (N, C, H, W)")
    sides = lowering.shape(node.x)
    stride, channels = [1, 1], None
    for start, end, axis, step in zip(
        starts, ends, (axis % 4 for axis in axes), steps, strict=True
    ):
        told = f"[{start}:{end}:{step}] of axis {axis}"
        if axis == 0 or step < 1:
            raise RefusedError(told, "a slice of channels, or every n-th row and column")
        kept = range(*slice(start, end, step).indices(sides[axis - 1]))
        if axis == 1 and len(kept):
            channels = tuple(kept)
        elif kept.start == 0 and len(kept) == -(-sides[axis - 1] // step):
            stride[axis - 2] = step
        else:
            raise RefusedError(told, "every n-th row and column, from the first to the last")
    lowering.select(
        node.name, node.x, node.output, stride=(stride[0], stride[1]), channels=channels
    )


def _softmax(node: Node, lowering: Lowering) -> None:
    """Dropped where it is the last node (load_onnx checks that): it keeps the classes' order."""
    rank = 2 if lowering.is_flat(node.x) else 4
    axis = node.integer("axis", -1 if node.opset >= 13 else 1) % rank
    alone = lowering.is_flat(node.x) or lowering.shape(node.x)[1:] == (1, 1)
    if axis != 1 or (node.opset < 13 and not alone):
        raise RefusedError(f"{node.op} over axis {axis}", "over the classes, axis 1")
    lowering.alias(node.x, node.output)


_OPS: dict[str, Callable[[Node, Lowering], None]] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batchnorm,
    "Clip": _clip,
    "Conv": _conv,
    "Div": _div,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "Identity": _alias,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _mul,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Slice": _slice,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": _sub,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def _scalar(node: Node, index: int, usual: float) -> float:
    value = node.constant(index)
    if value is None:
        return usual
    if value.size != 1 or value.dtype.kind not in "fiu":
        raise RefusedError(f"input {index} of {value.dtype} {value.shape}", "one number")
    number = float(value.ravel()[0])
    if math.isnan(number):
        raise RefusedError(f"input {index}, NaN", "a number")
    return number


def _axes(node: Node) -> tuple[int, ...]:
    return (node.integers(1) if node.opset >= 13 else node.ints("axes")) or ()


def _kernel(node: Node) -> Pair:
    kernel = node.ints("kernel_shape")
    if kernel is None or len(kernel) != 2 or min(kernel) < 1:
        raise RefusedError(f"kernel_shape {kernel}", "rows and columns")
    return kernel[0], kernel[1]


def _window(node: Node, lowering: Lowering, kernel: Pair) -> tuple[Pair, Padding, Pair]:
    """Stride, padding, and the rows and columns that ceil_mode adds at the bottom and right."""
    strides = node.ints("strides", (1, 1)) or ()
    pads = node.ints("pads", (0, 0, 0, 0)) or ()
    if set(node.ints("dilations", (1, 1)) or ()) != {1}:
        raise RefusedError("a dilation other than 1", "dilations [1, 1]")
    if len(strides) != 2 or len(pads) != 4 or min(strides) < 1 or min(pads) < 0:
        raise RefusedError(f"strides {strides}, pads {pads}", "two from 1, four from 0")
    if lowering.is_flat(node.x):
        raise RefusedError("an input of features", "rows and columns")
    mode = node.text("auto_pad", "NOTSET")
    ceil = node.integer("ceil_mode", 0)
    begin, end, extra = [0, 0], [0, 0], [0, 0]
    for i, (size, window, stride) in enumerate(
        zip(lowering.shape(node.x)[1:], kernel, strides, strict=True)
    ):
        if mode == "NOTSET":
            begin[i], end[i] = pads[i], pads[i + 2]
        elif mode in ("SAME_UPPER", "SAME_LOWER"):
            total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
            end[i] = total // 2 if mode == "SAME_LOWER" else total - total // 2
            begin[i] = total - end[i]
        elif mode != "VALID":
            raise RefusedError(f"auto_pad {mode!r}", "NOTSET, VALID, SAME_UPPER or SAME_LOWER")
        span = size + begin[i] + end[i] - window
        if ceil and span >= 0 and span % stride:
            last = (span // stride + 1) * stride
            if last < size + begin[i]:  # else the window would see padding only, and is left out
                extra[i] = last - span
    padding = (begin[0], begin[1], end[0], end[1])
    return (strides[0], strides[1]), padding, (extra[0], extra[1])


def _constant_operand(node: Node, lowering: Lowering) -> tuple[str, Vector]:
    """The operand that depends on the image, and the other one: a value, one a channel."""
    side = 0 if node.is_constant(0) else 1
    values = node.constant(side)
    if values is None:
        raise RefusedError("one input", "two")
    x = node.inputs[1 - side]
    return x, _per_channel(values, lowering, x)


def _per_channel(values: Array, lowering: Lowering, x: str) -> Vector:
    """A constant as NumPy broadcasting spreads it over (N, C, H, W) or (N, features)."""
    rank = 2 if lowering.is_flat(x) else 4
    wide = finite_float32(values, "a constant").astype(np.float64)
    if wide.ndim <= rank:
        sides = (1,) * (rank - wide.ndim) + wide.shape
        if sides[0] == 1 and math.prod(sides[2:]) == 1:
            return wide.ravel()
    raise RefusedError(f"a constant of shape {values.shape}", "one value, or one a channel")
