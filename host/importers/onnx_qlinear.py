"""Operators on integers: the QOperator format of onnxruntime's quantizer.

QLinearConv and QLinearMatMul are ONNX's, the others onnxruntime's own (domain com.microsoft; its
ContribOperators page). Each is its float operator between DequantizeLinear and QuantizeLinear, and
is read as that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bacmac.host.importers.lowering import Floats, Lowering, RefusedError
from bacmac.host.importers.onnx_layers import average_pool, convolve, dense_weight, global_average
from bacmac.host.importers.onnx_node import Node
from bacmac.host.importers.onnx_qdq import (
    check_codes,
    codes_of,
    integers_of,
    one_grid,
    scale_of,
    zero_of,
)


def _conv(node: Node, lowering: Lowering) -> None:
    _check_input(node, 0)
    _hold_weight(node, 3, 0)
    weight, kept = node.arranged_weight(3, lowering, lambda values: values)
    bias = _bias(node, 8, len(weight))
    convolve(node, lowering, node.output, weight, kept, bias)
    _quantize(node, lowering, 6)


def _matmul(node: Node, lowering: Lowering) -> None:
    _check_input(node, 0)
    _hold_weight(node, 3, 1)
    weight, kept = dense_weight(node, lowering, 3, turned=True)
    lowering.dense(node.name, node.x, node.output, weight, kept=kept)
    _quantize(node, lowering, 6)


def _gemm(node: Node, lowering: Lowering) -> None:
    turned = not node.integer("transB", 0)
    if node.number("alpha", 1.0) != 1:
        raise RefusedError("alpha other than 1", "1")
    _check_input(node, 0)
    _hold_weight(node, 3, int(turned))
    weight, kept = dense_weight(node, lowering, 3, turned=turned)
    bias = _bias(node, 6, len(weight))
    lowering.dense(node.name, node.x, node.output, weight, bias, kept=kept)
    if node.has(7):
        _quantize(node, lowering, 7)


def _add(node: Node, lowering: Lowering) -> None:
    for index in (0, 3):
        if node.is_constant(index):
            raise RefusedError("a sum with a constant", "two tensors of the image")
        _check_input(node, index)
    lowering.add(node.name, node.x, node.inputs[3], node.output)
    _quantize(node, lowering, 6)


def _average(node: Node, lowering: Lowering) -> None:
    _check_input(node, 0)
    if node.integer("channels_last", 0):
        raise RefusedError("channels_last 1", "0")
    if node.op == "QLinearAveragePool":
        average_pool(node, lowering)
    else:
        global_average(node, lowering)
    _quantize(node, lowering, 3)


QLINEAR: dict[str, Callable[[Node, Lowering], None]] = {
    "QGemm": _gemm,
    "QLinearAdd": _add,
    "QLinearAveragePool": _average,
    "QLinearConv": _conv,
    "QLinearGlobalAveragePool": _average,
    "QLinearMatMul": _matmul,
}


def _check_input(node: Node, index: int) -> None:
    """Inputs index, index + 1, index + 2: integers, and the scale and zero point they have."""
    zero = zero_of(node, index + 2)
    check_codes(codes_of(node, index), scale_of(node, index + 1), zero, zero.dtype)


def _hold_weight(node: Node, index: int, axis: int) -> None:
    """Inputs from index: integers of a constant, scale, zero point; known from now on as held."""
    codes = node.constant(index)
    if codes is None:
        raise RefusedError(f"no input {index}", "a constant")
    scale, zero = scale_of(node, index + 1), zero_of(node, index + 2)
    held = integers_of(codes, scale, zero, axis)
    node.tensors.integers[node.inputs[index]] = held


def _bias(node: Node, index: int, outputs: int) -> Floats | None:
    """Biases are int32 in units of the product of the input's and the weight's scale."""
    codes = node.constant(index)
    if codes is None:
        return None
    if codes.dtype.kind != "i" or codes.shape != (outputs,):
        raise RefusedError(f"a bias {codes.dtype} {codes.shape}", f"int32 ({outputs},)")
    unit = scale_of(node, 1).astype(np.float64) * scale_of(node, 4).astype(np.float64)
    if unit.size not in (1, outputs):
        raise RefusedError(f"{unit.size} scales", f"one, or {outputs}")
    return (codes * unit.ravel()).astype(np.float32)


def _quantize(node: Node, lowering: Lowering, index: int) -> None:
    """Inputs index and index + 1: scale and zero point of the output."""
    grid = one_grid(scale_of(node, index), zero_of(node, index + 1))
    lowering.quantize(node.name, node.output, node.output, grid)
    node.tensors.codes[node.output] = grid
