"""ONNX operators with weights or windows, which become the layers of the model."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from bacmac.host.arith.network import Padding
from bacmac.host.importers.lowering import Floats, Lowering, Pair, RefusedError
from bacmac.host.importers.onnx_node import Node
from bacmac.host.importers.onnx_shapes import features_first
from bacmac.host.importers.onnx_tensors import Array
from bacmac.host.model.layers import KeptWeights


def conv(node: Node, lowering: Lowering) -> None:
    """Conv, two-dimensional."""
    weight, kept = node.arranged_weight(1, lowering, lambda values: values)
    bias = node.weight(2) if node.has(2) else None
    convolve(node, lowering, node.output, weight, kept, bias)


def convolve(
    node: Node,
    lowering: Lowering,
    output: str,
    weight: Floats,
    kept: KeptWeights | None,
    bias: Floats | None,
) -> None:
    """A convolution by the attributes of Conv, which QLinearConv shares."""
    if weight.ndim != 4:
        raise RefusedError(f"a weight of {weight.ndim} dimensions", "4: a 2-D convolution")
    kernel = (weight.shape[2], weight.shape[3])
    if node.ints("kernel_shape", kernel) != kernel:
        raise RefusedError(f"kernel_shape that is not the weight's {kernel}", "the same")
    stride, padding, _ = window(node, lowering, kernel)
    lowering.conv(
        node.name,
        node.x,
        output,
        weight,
        bias,
        stride=stride,
        padding=padding,
        groups=node.integer("group", 1),
        kept=kept,
    )


def gemm(node: Node, lowering: Lowering) -> None:
    """Gemm of images times a constant."""
    weight, kept = dense_weight(node, lowering, 1, turned=not node.integer("transB", 0))
    alpha = np.float32(node.number("alpha", 1.0))
    with np.errstate(all="ignore"):  # what is not finite is refused when the layer is made
        if alpha != 1:
            weight, kept = alpha * weight, _times(kept, float(alpha))
        beta = np.float32(node.number("beta", 1.0))
        bias = beta * _gemm_bias(node, node.weight(2), len(weight)) if node.has(2) else None
    lowering.dense(node.name, node.x, node.output, weight, bias, kept=kept)


def matmul(node: Node, lowering: Lowering) -> None:
    """MatMul of images times a constant."""
    weight, kept = dense_weight(node, lowering, 1, turned=True)
    lowering.dense(node.name, node.x, node.output, weight, kept=kept)


def dense_weight(
    node: Node, lowering: Lowering, index: int, *, turned: bool
) -> tuple[Floats, KeptWeights | None]:
    """The weight (outputs, features) of a dense layer; `turned`: the file has (features, outputs).

    Features are in the model's order, channels first.
    """
    if node.integer("transA", 0):
        raise RefusedError("transA 1", "transA 0: images are rows")
    if not lowering.is_flat(node.x):
        raise RefusedError("an input with rows and columns", "a flatten before it")

    def arrange(values: Array) -> Array:
        rows = values.T if turned else values
        return features_first(node, lowering, node.x, rows) if rows.ndim == 2 else rows

    return node.arranged_weight(index, lowering, arrange)


def _gemm_bias(node: Node, given: Floats, outputs: int) -> Floats:
    if given.ndim > 2 or (given.ndim == 2 and given.shape[0] != 1):
        raise RefusedError(f"C of shape {given.shape}", "one value an output")
    if given.size not in (1, outputs):
        raise RefusedError(f"C of shape {given.shape}", f"one value, or {outputs}")
    return np.ascontiguousarray(np.broadcast_to(given.ravel(), outputs))


def _times(kept: KeptWeights | None, factor: float) -> KeptWeights | None:
    if kept is None or not math.isfinite(factor):
        return None
    sign = np.int16(-1 if factor < 0 else factor > 0)
    return KeptWeights(kept.levels * sign, kept.scale * abs(factor))


def batchnorm(node: Node, lowering: Lowering) -> None:
    """BatchNormalization at inference."""
    if node.integer("training_mode", 0) or not node.integer("spatial", 1):
        raise RefusedError("training_mode 1 or spatial 0", "inference, one set a channel")
    node.ignore("momentum", "is_test")
    scale, shift, mean, variance = (
        features_first(node, lowering, node.x, node.weight(index)) for index in range(1, 5)
    )
    epsilon = node.number("epsilon", 1e-5)
    lowering.batchnorm(
        node.name, node.x, node.output, scale, shift, mean, variance, epsilon=epsilon
    )


def max_pool(node: Node, lowering: Lowering) -> None:
    """MaxPool."""
    if node.integer("storage_order", 0):
        raise RefusedError("storage_order 1", "0")
    kernel = _kernel(node)
    stride, padding, extra = window(node, lowering, kernel)
    # a window that ceil_mode lets hang over the edge sees nothing there, as in padding
    padding = (padding[0], padding[1], padding[2] + extra[0], padding[3] + extra[1])
    _pool(node, lowering, "max", kernel, stride, padding)


def average_pool(node: Node, lowering: Lowering) -> None:
    """AveragePool: padding counts, or there is none."""
    kernel = _kernel(node)
    stride, padding, extra = window(node, lowering, kernel)
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


def global_average(node: Node, lowering: Lowering) -> None:
    """GlobalAveragePool."""
    lowering.global_average(node.name, node.x, node.output)


def _kernel(node: Node) -> Pair:
    kernel = node.ints("kernel_shape")
    if kernel is None or len(kernel) != 2 or min(kernel) < 1:
        raise RefusedError(f"kernel_shape {kernel}", "rows and columns")
    return kernel[0], kernel[1]


def window(node: Node, lowering: Lowering, kernel: Pair) -> tuple[Pair, Padding, Pair]:
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
