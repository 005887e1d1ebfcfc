"""What each ONNX operator means for the float model.

One function an operator, each by the operator's page of the ONNX specification, opsets 7 and up
(where an opset moved an attribute to an input, both are read).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bacmac.host.importers.lowering import Lowering, RefusedError, Vector
from bacmac.host.importers.onnx_layers import (
    average_pool,
    batchnorm,
    conv,
    gemm,
    global_average,
    matmul,
    max_pool,
)
from bacmac.host.importers.onnx_node import Node, finite_float32
from bacmac.host.importers.onnx_qdq import dequantize, quantize
from bacmac.host.importers.onnx_qlinear import QLINEAR
from bacmac.host.importers.onnx_qonnx import bipolar, quant, trunc
from bacmac.host.importers.onnx_shapes import MOVEMENTS, features_first
from bacmac.host.importers.onnx_tensors import Array

_MEASURED = {
    "DynamicQuantizeLinear": "scales computed from each image",
    "ConvInteger": "integers without a scale of their own",
    "MatMulInteger": "integers without a scale of their own",
}


def lower_node(node: Node, lowering: Lowering) -> None:
    """Feed one node that depends on the image to the lowering.

    Raises:
        RefusedError: the operator, one of its attributes or its inputs cannot be lowered.
    """
    if node.op in _MEASURED:
        hint = "quantize statically, in QDQ format"
        raise RefusedError(f"{node.op}, {_MEASURED[node.op]}", "constant scales", hint)
    if node.op not in _OPS:
        raise RefusedError(f"op {node.op!r}", f"one of {', '.join(sorted(_OPS))}")
    if not node.output or not node.x:
        raise RefusedError("no input or no output", "one of each")
    _check_view(node, lowering)
    _OPS[node.op](node, lowering)
    node.refuse_rest()
    tensors = node.tensors
    if node.op in _ON_CODES and node.x in tensors.codes:
        tensors.codes[node.output] = tensors.codes[node.x]
    if node.op in _SAME_SIDES and node.x in tensors.three_sided:
        tensors.three_sided.add(node.output)
    if node.op in _ANY_ORDER and node.op != "Transpose" and node.x in tensors.channels_last:
        tensors.channels_last.add(node.output)


def _check_view(node: Node, lowering: Lowering) -> None:
    """Refuse an operator that would take integers, or channels that come last, for others."""
    images = [name for name in node.inputs if lowering.knows(name)]
    if node.op not in _ON_CODES and node.op not in _READ_CODES:
        codes = [name for name in images if name in node.tensors.codes]
        if codes:
            raise RefusedError(
                f"{node.op} of integers ({codes[0]!r})", "DequantizeLinear before it"
            )
    if node.x in node.tensors.three_sided and node.op not in _THREE_SIDED:
        raise RefusedError(f"{node.op} of a tensor (N, C, 1)", "features, or rows and columns")
    last = [name in node.tensors.channels_last for name in images]
    if any(last) and not lowering.is_flat(node.x):
        known = node.op in _ANY_ORDER and (all(last) or lowering.shape(node.x)[1:] == (1, 1))
        if not known:
            raise RefusedError(f"{node.op} of channels that come last", "a transpose before it")


def _relu(node: Node, lowering: Lowering) -> None:
    lowering.clamp(node.name, node.x, node.output, 0.0, math.inf)


def _clip(node: Node, lowering: Lowering) -> None:
    if node.opset < 11:
        low, high = node.number("min", -math.inf), node.number("max", math.inf)
    else:
        low, high = node.scalar(1, -math.inf), node.scalar(2, math.inf)
    largest = float(np.finfo(np.float32).max)  # how files write "no limit"
    low = -math.inf if low <= -largest else low
    high = math.inf if high >= largest else high
    codes = node.tensors.codes.get(node.x)
    if codes is not None:
        low, high = ((limit - codes.zero) * codes.scale for limit in (low, high))
    lowering.clamp(node.name, node.x, node.output, low, high)


def _max(node: Node, lowering: Lowering) -> None:
    x, low = _other_scalar(node)
    lowering.clamp(node.name, x, node.output, low, math.inf)


def _min(node: Node, lowering: Lowering) -> None:
    x, high = _other_scalar(node)
    lowering.clamp(node.name, x, node.output, -math.inf, high)


def _other_scalar(node: Node) -> tuple[str, float]:
    """The operand that depends on the image, and the other one, a number."""
    if len(node.inputs) != 2:
        raise RefusedError(f"{len(node.inputs)} inputs", "an image and a number")
    side = 0 if node.is_constant(0) else 1
    return node.inputs[1 - side], node.scalar(side, math.nan)


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


def _softmax(node: Node, lowering: Lowering) -> None:
    """Dropped where it is the last node (load_onnx checks that): it keeps the classes' order."""
    node.ignore("opset")  # of QLinearSoftmax: whose Softmax it means
    rank = 2 if lowering.is_flat(node.x) else 4
    axis = node.integer("axis", -1 if node.opset >= 13 else 1) % rank
    alone = lowering.is_flat(node.x) or lowering.shape(node.x)[1:] == (1, 1)
    if axis != 1 or (node.opset < 13 and not alone):
        raise RefusedError(f"{node.op} over axis {axis}", "over the classes, axis 1")
    lowering.note(f"{node.op} at the end is left out: the outputs are what it reads")
    lowering.alias(node.x, node.output)


_OPS: dict[str, Callable[[Node, Lowering], None]] = {
    **MOVEMENTS,
    **QLINEAR,
    "Add": _add,
    "AveragePool": average_pool,
    "BatchNormalization": batchnorm,
    "BipolarQuant": bipolar,
    "Clip": _clip,
    "Conv": conv,
    "DequantizeLinear": dequantize,
    "Div": _div,
    "Gemm": gemm,
    "GlobalAveragePool": global_average,
    "IntQuant": quant,
    "LogSoftmax": _softmax,
    "MatMul": matmul,
    "Max": _max,
    "MaxPool": max_pool,
    "Min": _min,
    "Mul": _mul,
    "Quant": quant,
    "QLinearSoftmax": _softmax,
    "QuantizeLinear": quantize,
    "Relu": _relu,
    "Softmax": _softmax,
    "Sub": _sub,
    "Trunc": trunc,
}
_ON_CODES = (
    "Clip",
    "MaxPool",
    *(op for op in MOVEMENTS if op not in ("Cast", "CastLike", "ReduceMean")),
)
_SAME_SIDES = (
    "BipolarQuant",
    "Clip",
    "DequantizeLinear",
    "Dropout",
    "Identity",
    "IntQuant",
    "Quant",
    "QuantizeLinear",
    "Relu",
)
_THREE_SIDED = (*_SAME_SIDES, "Flatten", "Reshape", "Squeeze", "Unsqueeze")
_READ_CODES = ("DequantizeLinear", "QLinearSoftmax", *QLINEAR)
_ANY_ORDER = (
    *MOVEMENTS,
    "Add",
    "BipolarQuant",
    "Clip",
    "DequantizeLinear",
    "Div",
    "IntQuant",
    "Max",
    "Min",
    "Mul",
    "Quant",
    "QuantizeLinear",
    "Relu",
    "Sub",
    "Trunc",
)


def _constant_operand(node: Node, lowering: Lowering) -> tuple[str, Vector]:
    """The operand that depends on the image, and the other one: a value, one a channel."""
    side = 0 if node.is_constant(0) else 1
    values = node.constant(side)
    if values is None:
        raise RefusedError("one input", "two")
    x = node.inputs[1 - side]
    return x, _per_channel(values, node, lowering, x)


def _per_channel(values: Array, node: Node, lowering: Lowering, x: str) -> Vector:
    """A constant as NumPy broadcasting spreads it over the file's view of the tensor."""
    flat = lowering.is_flat(x)
    rank = 2 if flat else 4
    wide = finite_float32(values, "a constant").astype(np.float64)
    if wide.ndim <= rank:
        sides = (1,) * (rank - wide.ndim) + wide.shape
        axis = 3 if x in node.tensors.channels_last and not flat else 1
        if wide.size == sides[axis]:
            return features_first(node, lowering, x, wide.ravel())
    raise RefusedError(f"a constant of shape {values.shape}", "one value, or one a channel")
