"""ONNX operators that only move data, and tensors whose channels come last.

Networks that were converted from TensorFlow or Keras keep images as (N, H, W, C) and transpose
them around each convolution. The lowering knows tensors channels first only, so a transpose between
the two is another name for a tensor; which view the file has of it is kept in
`Tensors.channels_last`, for flattened features too, whose order it decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from bacmac.host.importers.lowering import Lowering, RefusedError
from bacmac.host.importers.onnx_constants import BATCH, slice_arguments
from bacmac.host.importers.onnx_node import Node
from bacmac.host.importers.onnx_tensors import Array

TO_FIRST = (0, 3, 1, 2)
TO_LAST = (0, 2, 3, 1)
_ALL = (1 << 31) - 1
"""The end of a slice that has none, or beyond."""
_ELEMENTWISE = (
    "Add",
    "BipolarQuant",
    "Cast",
    "Clip",
    "DequantizeLinear",
    "Div",
    "Identity",
    "IntQuant",
    "Mul",
    "Quant",
    "QuantizeLinear",
    "Sub",
)


def reads_channels_last(source: str, nodes: Iterable[Node]) -> bool:
    """Whether the input's first use, past what works on each value, puts its channels first."""
    same = {source}
    for node in nodes:
        if node.x not in same:
            continue
        if node.op == "Transpose":
            return _perm(node.attributes.get("perm")) == TO_FIRST
        if node.op not in _ELEMENTWISE:
            return False
        same.add(node.output)
    return False


def _perm(attribute: object) -> tuple[int, ...]:
    return tuple(getattr(attribute, "ints", ()))


def sides_in_file(node: Node, lowering: Lowering, tensor: str) -> tuple[int, ...]:
    """(C, H, W) or (H, W, C), as the file sees the tensor; (features,) of a flattened one."""
    channels, *rest = lowering.shape(tensor)
    if lowering.is_flat(tensor):
        return (channels * math.prod(rest),)
    if tensor in node.tensors.three_sided:
        return channels, 1
    last = tensor in node.tensors.channels_last
    return (*rest, channels) if last else (channels, *rest)


def _rank(node: Node, lowering: Lowering) -> int:
    if lowering.is_flat(node.x):
        return 2
    return 3 if node.x in node.tensors.three_sided else 4


def axis_in_model(node: Node, tensor: str, axis: int) -> int:
    """Which axis of (N, C, H, W) an axis of a tensor of four is."""
    return TO_FIRST.index(axis % 4) if tensor in node.tensors.channels_last else axis % 4


def features_first(node: Node, lowering: Lowering, tensor: str, values: Array) -> Array:
    """What a file has for each feature on the last axis, in the model's order of features."""
    channels, height, width = lowering.shape(tensor)
    if tensor not in node.tensors.channels_last or not lowering.is_flat(tensor):
        return values
    if values.shape[-1] != channels * height * width:
        return values
    moved = np.moveaxis(values.reshape(*values.shape[:-1], height, width, channels), -1, -3)
    return moved.reshape(values.shape)


def _alias(node: Node, lowering: Lowering) -> None:
    lowering.alias(node.x, node.output)


def _cast(node: Node, lowering: Lowering) -> None:
    node.ignore("saturate", "round_mode")
    to = node.integer("to", 0)
    if to != 1:
        raise RefusedError(f"a cast of the image's data to type {to}", "float32 (1)")
    lowering.alias(node.x, node.output)


def _cast_like(node: Node, lowering: Lowering) -> None:
    node.ignore("saturate", "round_mode")
    like = node.constant(1) if node.is_constant(1) else None
    if like is not None and like.dtype != np.float32:
        raise RefusedError(f"a cast of the image's data to {like.dtype}", "float32")
    lowering.alias(node.x, node.output)


def _dropout(node: Node, lowering: Lowering) -> None:
    training = node.constant(2)
    if training is not None and bool(training.any()):
        raise RefusedError("training_mode 1", "inference")
    node.ignore("ratio", "seed", "is_test")
    lowering.alias(node.x, node.output)


def _flatten(node: Node, lowering: Lowering) -> None:
    rank = _rank(node, lowering)
    axis = node.integer("axis", 1)
    if axis not in (1, 1 - rank):
        raise RefusedError(f"axis {axis}", "1: all but the images")
    lowering.flatten(node.x, node.output)


def _reshape(node: Node, lowering: Lowering) -> None:
    shape = node.integers(1) if node.has(1) else None
    if not shape or len(shape) not in (2, 4):
        raise RefusedError(f"a reshape to {shape}", "a flatten to (N, features)")
    sides = sides_in_file(node, lowering, node.x)
    inside = lowering.shape(node.x)
    features = math.prod(inside)
    before = (BATCH, *sides)
    if not node.integer("allowzero", 0):
        if any(side == 0 and i >= len(before) for i, side in enumerate(shape)):
            raise RefusedError(f"a reshape of {before[1:]} to {shape}", "sides to copy for 0")
        shape = tuple(before[i] if side == 0 else side for i, side in enumerate(shape))
    batch, rest = shape[0], list(shape[1:])
    known = math.prod(side for side in rest if side != -1)
    if rest.count(-1) == 1 and batch != -1 and known > 0 and features % known == 0:
        rest[rest.index(-1)] = features // known
    last = node.x in node.tensors.channels_last
    whole = [*inside[1:], inside[0]] if last else list(inside)
    flat = rest == [features]
    if batch not in (BATCH, 1, -1) or not (flat or rest == whole):
        told = ["N" if side == BATCH else side for side in shape]
        raise RefusedError(f"a reshape of {sides} to {told}", f"a flatten to (N, {features})")
    lowering.alias(node.x, node.output, flat=flat)


def _squeeze(node: Node, lowering: Lowering) -> None:
    """Rows and columns, of one each, are dropped: both, or one and then the other."""
    given = (node.integers(1) if node.opset >= 13 else node.ints("axes")) or ()
    rank, shape = _rank(node, lowering), lowering.shape(node.x)
    axes = {axis % 3 for axis in given} if rank == 3 else _spatial_axes(node, given)
    whole = {2} if rank == 3 else {2, 3}
    if rank == 2 or shape[1:] != (1, 1) or not axes or not axes <= whole:
        raise RefusedError(f"axes {given} of {shape}", "rows and columns, of one each")
    lowering.alias(node.x, node.output, flat=axes == whole)
    if axes != whole:
        node.tensors.three_sided.add(node.output)


def _unsqueeze(node: Node, lowering: Lowering) -> None:
    """Rows and columns, of one each, are added: both, or one and then the other."""
    given = (node.integers(1) if node.opset >= 13 else node.ints("axes")) or ()
    rank, shape = _rank(node, lowering), lowering.shape(node.x)
    after = rank + len(given)
    axes = {axis % after for axis in given}
    if rank == 4 or shape[1:] != (1, 1) or len(axes) < len(given) or not axes <= {2, 3}:
        raise RefusedError(f"axes {given}", "rows and columns, (2, 3), of features")
    lowering.alias(node.x, node.output, flat=False)
    if after == 3:
        node.tensors.three_sided.add(node.output)


def _reduce_mean(node: Node, lowering: Lowering) -> None:
    axes = node.integers(1) if node.opset >= 18 else node.ints("axes")
    node.ignore("noop_with_empty_axes")
    if lowering.is_flat(node.x) or axes is None or _spatial_axes(node, axes) != {2, 3}:
        raise RefusedError(f"a mean over axes {axes}", "over rows and columns")
    flat = not node.integer("keepdims", 1)
    lowering.global_average(node.name, node.x, node.output, flat=flat)


def _spatial_axes(node: Node, axes: tuple[int, ...] | None) -> set[int]:
    return {axis_in_model(node, node.x, axis) for axis in axes or ()}


def _transpose(node: Node, lowering: Lowering) -> None:
    rank = _rank(node, lowering)
    perm = node.ints("perm", tuple(reversed(range(rank))))
    last = node.tensors.channels_last
    if perm == tuple(range(rank)):
        lowering.alias(node.x, node.output)
        return
    if perm != (TO_FIRST if node.x in last else TO_LAST) or rank != 4:
        raise RefusedError(
            f"a transpose {perm} of the image's data", "NCHW throughout, or to NHWC and back"
        )
    lowering.alias(node.x, node.output)
    if node.x not in last:
        last.add(node.output)


def _pad(node: Node, lowering: Lowering) -> None:
    mode = node.text("mode", "constant")
    if node.opset < 11:
        pads, axes = node.ints("pads"), None
        value = node.number("value", 0.0)
    else:
        pads = node.integers(1)
        value = node.scalar(2, 0.0)
        axes = node.integers(3) if node.opset >= 18 else None
    codes = node.tensors.codes.get(node.x)
    value -= 0.0 if codes is None else codes.zero
    axes = (0, 1, 2, 3) if axes is None else axes
    if lowering.is_flat(node.x) or pads is None or len(pads) != 2 * len(axes):
        raise RefusedError(f"pads {pads} on axes {axes}", "(N, C, H, W), two a side")
    if mode != "constant" or value != 0 or min(pads, default=0) < 0:
        raise RefusedError(f"mode {mode}, value {value:g}, pads {pads}", "zeros, 0 or more a side")
    axes = tuple(axis_in_model(node, node.x, axis) for axis in axes)
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
    places = (axis_in_model(node, node.x, axis) for axis in axes)
    for start, end, axis, step in zip(starts, ends, places, steps, strict=True):
        told = f"[{start}:{end}:{step}] of axis {axis}"
        if axis == 0 and (start, step) == (0, 1) and end >= _ALL:
            continue
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


MOVEMENTS: dict[str, Callable[[Node, Lowering], None]] = {
    "Cast": _cast,
    "CastLike": _cast_like,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Identity": _alias,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By name; all of them know both orders of channels."""
