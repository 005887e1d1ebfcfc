"""The part of an ONNX graph that does not depend on the image, computed while reading.

Exporters leave such parts behind: weights that are reshaped or transposed in the graph, shapes
put together for a Reshape. The number of images is not known; BATCH stands for it and may be
moved about but not calculated with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bacmac.host.importers.lowering import MAX_ELEMENTS, Lowering, RefusedError
from bacmac.host.importers.onnx_node import Node
from bacmac.host.importers.onnx_qdq import dequantized_constant, quantized_constant
from bacmac.host.importers.onnx_qonnx import bipolar_constant, quant_constant
from bacmac.host.importers.onnx_tensors import Array

BATCH = -(1 << 30)
"""In a shape that was computed in the graph: the number of images."""

MAX_RANK = 16

_DTYPES: dict[int, Any] = {  # TensorProto.DataType of onnx.proto
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
}


def is_constant(node: Node) -> bool:
    """Whether a node's output does not depend on the image."""
    if node.op in ("Constant", "Shape"):
        return True
    if node.op == "CastLike":  # the second input is read for its type alone
        return node.is_constant(0)
    given = [index for index in range(len(node.inputs)) if node.has(index)]
    return bool(given) and all(node.is_constant(index) for index in given)


class Budget:
    """How many elements may be computed for one file: a few times what is in it.

    Ops that make much of little (ConstantOfShape, Expand) would otherwise fill the memory.
    """

    def __init__(self, file_bytes: int) -> None:
        self._left = (1 << 24) + 16 * file_bytes

    def take(self, elements: int) -> None:
        """Refuse what is beyond the budget, before it is made where its size is known."""
        if elements > min(self._left, MAX_ELEMENTS):
            raise RefusedError(
                f"a constant of {elements} values", f"at most {min(self._left, MAX_ELEMENTS)}"
            )
        self._left -= elements


def compute(node: Node, lowering: Lowering, budget: Budget) -> Array:
    """The value of a node for which `is_constant` holds.

    Where the node only moves or scales a constant that the file holds as integers, the integers
    follow.

    Raises:
        RefusedError: the op is not one that is computed while reading, or its inputs are wrong.
    """
    if node.op == "Shape":
        return _shape(node, lowering)
    if node.op not in _OPS:
        raise RefusedError(f"{node.op} of constants", f"one of {', '.join(sorted(_OPS))}")
    if node.op in _ARITHMETIC:
        for index in range(len(node.inputs)):
            _refuse_batch(_given(node, index))
    budget.take(_size(node))
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(_OPS[node.op](node))
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise RefusedError(
            f"constants that do not fit ({error})", f"inputs of {node.op}"
        ) from error
    _follow_integers(node, lowering, value)
    return value


def _size(node: Node) -> int:
    """How many values a node makes, as far as it can be told before."""
    shapes = [_given(node, i).shape for i in range(len(node.inputs)) if node.is_constant(i)]
    if node.op in ("ConstantOfShape", "Expand"):
        sides = [int(side) for side in _given(node, len(node.inputs) - 1).ravel()]
        if any(side < 0 for side in sides) or len(sides) > MAX_RANK:
            raise RefusedError(f"a constant of shape {sides[:MAX_RANK]}", "sizes from 0")
        return math.prod(sides) * max(1, math.prod(shapes[0]) if node.op == "Expand" else 1)
    if node.op in _ARITHMETIC or node.op in ("Where", "Equal"):
        try:
            return math.prod(np.broadcast_shapes(*shapes))
        except ValueError as error:
            raise RefusedError(f"constants of {shapes}", "shapes that fit") from error
    if node.op == "Gather" and len(shapes) > 1:
        least = min((side for side in shapes[0] if side), default=1)  # whichever axis it takes from
        return math.prod(shapes[0]) // least * math.prod(shapes[1])
    return sum(math.prod(shape) for shape in shapes)


def _follow_integers(node: Node, lowering: Lowering, value: Array) -> None:
    """Keep the integers of a constant through steps that only move or scale them."""
    held = node.tensors.integers
    if node.output in held or not any(name in held for name in node.inputs):
        return
    first, second = node.x, node.inputs[1] if len(node.inputs) > 1 else ""
    if node.op in _MOVES and first in held:
        step = _OPS[node.op]
        held[node.output] = held[first].moved(lambda part: np.asarray(step(node.reading(part))))
    elif node.op == "Neg":
        held[node.output] = held[first].scaled(np.float32(-1.0))
    elif node.op == "Mul" and (first in held) != (second in held):
        source, factor = (first, second) if first in held else (second, first)
        held[node.output] = held[source].scaled(node.tensors.constants[factor])
    elif node.op == "Div" and first in held and second not in held:
        with np.errstate(all="ignore"):
            held[node.output] = held[first].scaled(1.0 / _given(node, 1).astype(np.float64))
    elif value.ndim > 1:
        lowering.note(f"{node.name}: {node.op} of integer weights: they are read as floats")


def _given(node: Node, index: int) -> Array:
    value = node.constant(index)
    if value is None:
        raise RefusedError(f"no input {index}", "a constant")
    return value


def _refuse_batch(value: Array) -> None:
    if value.dtype.kind == "i" and bool((value == BATCH).any()):
        raise RefusedError("arithmetic on the number of images", "a shape that keeps it apart")


def _axes(node: Node, index: int, opset: int) -> tuple[int, ...] | None:
    return node.integers(index) if node.opset >= opset else node.ints("axes")


def _shape(node: Node, lowering: Lowering) -> Array:
    if node.is_constant(0):
        sides = list(_given(node, 0).shape)
    elif lowering.is_flat(node.x):
        sides = [BATCH, math.prod(lowering.shape(node.x))]
    else:
        sides = [BATCH, *lowering.shape(node.x)]
        if node.x in node.tensors.channels_last:
            sides = [BATCH, *sides[2:], sides[1]]
        if node.x in node.tensors.three_sided:
            sides = sides[:-1]
    start, end = node.integer("start", 0), node.integer("end", len(sides))
    return np.array(sides[start:end], np.int64)


def _constant(node: Node) -> Array:
    for value in (
        node.tensor("value"),
        node.ints("value_ints"),
        node.floats("value_floats"),
    ):
        if value is not None:
            kind = np.float32 if isinstance(value, tuple) and _any_float(value) else None
            return np.asarray(value, kind) if not isinstance(value, np.ndarray) else value
    number = node.number("value_float", math.nan)
    if not math.isnan(number):
        return np.array(number, np.float32)
    return np.array(node.integer("value_int", 0), np.int64)


def _any_float(values: tuple[float, ...]) -> bool:
    return any(isinstance(value, float) for value in values)


def _constant_of_shape(node: Node) -> Array:
    shape = node.integers(0) or ()
    value = node.tensor("value")
    return np.full(shape, 0 if value is None else value.ravel()[0], getattr(value, "dtype", "f4"))


def _cast(node: Node) -> Array:
    to = node.integer("to", 0)
    node.ignore("saturate", "round_mode")
    if to not in _DTYPES:
        raise RefusedError(f"a cast to type {to}", f"one of {sorted(_DTYPES)}")
    value = _given(node, 0)
    if to not in (6, 7):
        _refuse_batch(value)
    return value.astype(_DTYPES[to])


def _cast_like(node: Node) -> Array:
    node.ignore("saturate", "round_mode")
    like = _given(node, 1).dtype if node.is_constant(1) else np.dtype(np.float32)
    value = _given(node, 0)
    if like.kind == "f":
        _refuse_batch(value)
    return value.astype(like)


def _reshape(node: Node) -> Array:
    value, shape = _given(node, 0), list(node.integers(1) or ())
    if not node.integer("allowzero", 0):
        shape = [value.shape[i] if side == 0 else side for i, side in enumerate(shape)]
    return value.reshape(shape)


def _transpose(node: Node) -> Array:
    turned: Array = _given(node, 0).transpose(node.ints("perm"))
    return turned


def _squeeze(node: Node) -> Array:
    return _given(node, 0).squeeze(_axes(node, 1, 13))


def _unsqueeze(node: Node) -> Array:
    return np.expand_dims(_given(node, 0), _axes(node, 1, 13) or ())


def _concat(node: Node) -> Array:
    parts = [_given(node, index) for index in range(len(node.inputs))]
    return np.concatenate(parts, axis=node.integer("axis", 0))


def _gather(node: Node) -> Array:
    taken: Array = np.take(_given(node, 0), _given(node, 1), axis=node.integer("axis", 0))
    return taken


def _slice(node: Node) -> Array:
    value = _given(node, 0)
    starts, ends, axes, steps = slice_arguments(node)
    cut = [slice(None)] * value.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # to the first and beyond: a negative step's end below -size means "through index 0"
        past_start = step < 0 and end < -value.shape[axis]
        cut[axis] = slice(start, None if past_start else end, step)
    return value[tuple(cut)]


def slice_arguments(node: Node) -> tuple[tuple[int, ...], ...]:
    """Starts, ends, axes and steps of a Slice: attributes before opset 10, inputs since."""
    if node.opset < 10:
        starts, ends, axes = node.ints("starts"), node.ints("ends"), node.ints("axes")
        steps = None
    else:
        starts, ends, axes, steps = (node.integers(index) for index in range(1, 5))
    starts, ends = starts or (), ends or ()
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise RefusedError("starts, ends, axes and steps of other lengths", "one length")
    return starts, ends, axes, steps


def _flatten(node: Node) -> Array:
    value, axis = _given(node, 0), node.integer("axis", 1)
    return value.reshape(math.prod(value.shape[:axis]), -1)


def _power(node: Node) -> Array:
    base = _given(node, 0)
    return np.asarray(np.power(base, _given(node, 1).astype(base.dtype)), base.dtype)


def _clip(node: Node) -> Array:
    value = _given(node, 0)
    if node.opset < 11:
        low, high = node.number("min", -math.inf), node.number("max", math.inf)
        return np.clip(value, np.float32(low), np.float32(high))
    wide = value.astype(np.int64) if value.dtype.kind != "f" else value
    for index, limit in ((1, np.maximum), (2, np.minimum)):
        if node.has(index):
            bound = _given(node, index)
            wide = limit(wide, bound if wide.dtype.kind == "f" else bound.astype(np.int64))
    clipped: Array = wide.astype(value.dtype)
    return clipped


def _expand(node: Node) -> Array:
    value, shape = _given(node, 0), node.integers(1) or ()
    return np.array(np.broadcast_to(value, np.broadcast_shapes(value.shape, shape)))


def _product(node: Node) -> Array:
    axes = node.integers(1) if node.opset >= 18 else node.ints("axes")
    node.ignore("noop_with_empty_axes")
    keep = bool(node.integer("keepdims", 1))
    return np.asarray(_given(node, 0).prod(axis=axes, keepdims=keep))


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind != "i":
        return np.asarray(a / b)
    if bool((b == 0).any()):
        raise RefusedError("a division by 0", "another divisor")
    return np.asarray(np.trunc(a / b).astype(a.dtype))  # ONNX divides integers towards zero


_OPS: dict[str, Callable[[Node], Any]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": lambda node: _given(node, 0),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Flatten": _flatten,
    "Add": lambda node: _given(node, 0) + _given(node, 1),
    "Sub": lambda node: _given(node, 0) - _given(node, 1),
    "Mul": lambda node: _given(node, 0) * _given(node, 1),
    "Div": lambda node: _divide(_given(node, 0), _given(node, 1)),
    "Neg": lambda node: -_given(node, 0),
    "Sqrt": lambda node: np.sqrt(_given(node, 0)),
    "Pow": _power,
    "Clip": _clip,
    "Expand": _expand,
    "Equal": lambda node: _given(node, 0) == _given(node, 1),
    "Where": lambda node: np.where(_given(node, 0), _given(node, 1), _given(node, 2)),
    "ReduceProd": _product,
    "QuantizeLinear": quantized_constant,
    "DequantizeLinear": dequantized_constant,
    "Quant": quant_constant,
    "IntQuant": quant_constant,
    "BipolarQuant": bipolar_constant,
}
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Pow", "Clip")
_MOVES = ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather")
