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
from bacmac.host.importers.onnx_node import Array, Node

BATCH = -(1 << 30)
"""In a shape that was computed in the graph: the number of images."""

_DTYPES: dict[int, Any] = {  # TensorProto.DataType of onnx.proto
    1: np.float32,
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
    given = [index for index in range(len(node.inputs)) if node.has(index)]
    return bool(given) and all(node.is_constant(index) for index in given)


def compute(node: Node, lowering: Lowering) -> Array:
    """The value of a node for which `is_constant` holds.

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
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(_OPS[node.op](node))
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise RefusedError(
            f"constants that do not fit ({error})", f"inputs of {node.op}"
        ) from error
    if value.size > MAX_ELEMENTS:
        raise RefusedError(f"a constant of {value.size} values", f"at most {MAX_ELEMENTS}")
    return value


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
    if any(side < 0 for side in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise RefusedError(f"a constant of shape {shape}", f"at most {MAX_ELEMENTS} values")
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


_OPS: dict[str, Callable[[Node], Any]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": lambda node: _given(node, 0),
    "Cast": _cast,
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
}
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Neg", "Sqrt")


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind != "i":
        return np.asarray(a / b)
    if bool((b == 0).any()):
        raise RefusedError("a division by 0", "another divisor")
    return np.asarray(np.trunc(a / b).astype(a.dtype))  # ONNX divides integers towards zero
