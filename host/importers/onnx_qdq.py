"""QuantizeLinear and DequantizeLinear, of constants and of what depends on the image.

By their pages of the ONNX specification, opsets 10 to 25. Between the two a tensor holds integers;
the lowering knows it by the values they stand for, so that what only moves data in between is read
as ever, and DequantizeLinear is another name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.importers.lowering import Lowering, RefusedError
from bacmac.host.importers.onnx_node import Node, finite_float32
from bacmac.host.importers.onnx_tensors import Array, Integers, code_range
from bacmac.host.model.layers import Grid

MAX_RANK = 8


def quantize(node: Node, lowering: Lowering) -> None:
    """QuantizeLinear of a tensor that depends on the image: one scale for all of it."""
    scale, zero, dtype = _parameters(node)
    grid = _grid(scale, zero, dtype)
    _axis(node, 4, scale)
    lowering.quantize(node.name, node.x, node.output, grid)
    node.tensors.codes[node.output] = grid


def dequantize(node: Node, lowering: Lowering) -> None:
    """DequantizeLinear of a tensor that QuantizeLinear wrote."""
    codes = codes_of(node, 0)
    scale, zero, dtype = _parameters(node)
    _axis(node, 4, scale)
    check_codes(codes, scale, zero, dtype)
    lowering.alias(node.x, node.output)


def quantized_constant(node: Node) -> Array:
    """QuantizeLinear of a constant: its codes, of the type of the zero point."""
    values = finite_float32(_constant(node, 0), "a constant")
    scale, zero, dtype = _parameters(node)
    low, high = code_range(dtype)
    axis = _axis(node, values.ndim, scale)
    steps = _spread(scale, values.shape, axis)
    with np.errstate(over="ignore"):
        codes = np.rint(values / steps) + _spread(zero, values.shape, axis)
    narrow: Array = np.clip(codes, low, high).astype(dtype)
    return narrow


def dequantized_constant(node: Node) -> Array:
    """DequantizeLinear of a constant: its float32 values; the integers are kept beside them."""
    codes = _constant(node, 0)
    scale, zero, dtype = _parameters(node)
    if node.has(2) and code_range(codes.dtype) != code_range(dtype):
        raise RefusedError(f"a zero point of {dtype} for codes of {codes.dtype}", "one type")
    held = integers_of(codes, scale, zero, _axis(node, codes.ndim, scale))
    node.tensors.integers[node.output] = held
    return finite_float32(held.values, f"weight {node.x!r}")


def integers_of(codes: Array, scale: Array, zero: Array, axis: int) -> Integers:
    """Codes with one scale and zero point, or one of each along an axis."""
    high = code_range(codes.dtype)[1]
    if high > np.iinfo(np.int32).max or codes.ndim > MAX_RANK:
        raise RefusedError(f"codes of {codes.dtype} {codes.shape}", "at most 32 bits, 8 sides")
    levels = codes.astype(np.int64) - _spread(zero, codes.shape, axis)
    limits = np.iinfo(np.int32)
    if levels.size and (levels.min() < limits.min or levels.max() > limits.max):
        raise RefusedError("codes less their zero point beyond 32 bits", "fewer bits")
    wide = _spread(scale.astype(np.float64), codes.shape, axis)
    return Integers(levels.astype(np.int32), np.broadcast_to(wide, codes.shape))


def scale_of(node: Node, index: int) -> npt.NDArray[np.float32]:
    """A scale input: a number or a vector, finite and above 0."""
    scale = node.weight(index)
    if not scale.size or not bool((scale > 0).all()):
        found = float(scale.min()) if scale.size else 0.0
        raise RefusedError(f"scale {node.inputs[index]!r} of {found:g}", "above 0")
    return scale


def zero_of(node: Node, index: int) -> Array:
    """A zero point input, of an integer type."""
    zero = _constant(node, index)
    code_range(zero.dtype)
    return zero


def codes_of(node: Node, index: int) -> Grid:
    """What the integers of an input stand for."""
    name = node.inputs[index] if node.has(index) else ""
    if name not in node.tensors.codes:
        raise RefusedError(f"input {name!r} that is no integers", "what QuantizeLinear wrote")
    return node.tensors.codes[name]


def check_codes(codes: Grid, scale: Array, zero: Array, dtype: np.dtype[Any]) -> None:
    """Refuse to read integers by another scale or zero point than they were written with."""
    read = _grid(scale, zero, dtype)
    if (read.scale, read.zero) != (codes.scale, codes.zero):
        raise RefusedError(
            f"scale {read.scale:g}, zero point {read.zero:g} of integers that were written with "
            f"scale {codes.scale:g}, zero point {codes.zero:g}",
            "the same",
        )


def one_grid(scale: Array, zero: Array) -> Grid:
    """The grid of a whole tensor, of the zero point's type."""
    return _grid(scale, zero, zero.dtype)


def _grid(scale: Array, zero: Array, dtype: np.dtype[Any]) -> Grid:
    zeros = zero.astype(np.int64)
    if bool((scale != scale.ravel()[0]).any()) or bool((zeros != zeros.ravel()[0]).any()):
        raise RefusedError("a scale or zero point a channel of an activation", "one for all")
    low, high = code_range(dtype)
    return Grid(float(scale.ravel()[0]), float(zeros.ravel()[0]), low, high)


def _parameters(node: Node) -> tuple[npt.NDArray[np.float32], Array, np.dtype[Any]]:
    """Scale, zero point and the type of the codes."""
    node.ignore("saturate", "precision")  # of float8 codes, which are refused, and of the division
    if node.integer("block_size", 0):
        raise RefusedError("blocked quantization (block_size)", "a scale a tensor or a channel")
    scale = scale_of(node, 1)
    if scale.ndim > 1:
        raise RefusedError(f"blocked quantization (scale {scale.shape})", "a number or a vector")
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    given = node.integer("output_dtype", 0) if node.op == "QuantizeLinear" else 0
    node.ignore("output_dtype")
    if given:
        dtype = _dtype(given)
    if node.has(2):
        zero = zero_of(node, 2)
        if given and code_range(dtype) != code_range(zero.dtype):
            raise RefusedError(f"output_dtype {given} and a zero point of {zero.dtype}", "one type")
        dtype = zero.dtype
    else:
        zero = np.zeros(scale.shape, np.int64)
    if zero.size != scale.size:
        raise RefusedError(f"{scale.size} scales and {zero.size} zero points", "one of each")
    return scale, zero, dtype


def _dtype(code: int) -> np.dtype[Any]:
    from onnx import helper

    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(code))
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(f"output_dtype {code}", "an integer type") from error


def _axis(node: Node, rank: int, scale: Array) -> int:
    axis = node.integer("axis", 1)
    if scale.size == 1 or rank == 0:
        return 0
    if not -rank <= axis < rank:
        raise RefusedError(f"axis {axis} of {rank}", f"{-rank} to {rank - 1}")
    return axis % rank


def _spread(vector: Array, shape: tuple[int, ...], axis: int) -> Array:
    """A vector along an axis, or one number, so that NumPy broadcasting spreads it."""
    if vector.dtype.kind != "f":
        vector = vector.astype(np.int64)
    if vector.size == 1:
        return vector.reshape(())
    if vector.ndim != 1 or not shape or len(vector) != shape[axis]:
        raise RefusedError(f"{vector.size} scales or zero points for {shape}", f"axis {axis}'s")
    return vector.reshape(-1, *[1] * (len(shape) - axis - 1))


def _constant(node: Node, index: int) -> Array:
    values = node.constant(index)
    if values is None:
        raise RefusedError(f"no input {index}", "a constant")
    return values
