"""The integer network: what an accelerator computes, with no float and no name in it.

Tensors are numbered: 0 is the network's input, i + 1 is the output of `ops[i]`. All are symmetric
(zero point 0), one scale each, known to whoever holds the network and irrelevant here.

Flatten does not exist: a dense layer after one is a convolution whose kernel is its whole input.
A standalone residual add is a depthwise 1x1 convolution of ones with a residual input. So two
kinds of op are enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.schemes import Levels

Shape = tuple[int, int, int]
"""Channels, height, width."""
Padding = tuple[int, int, int, int]
"""Rows or columns of zeros added at the top, left, bottom, right."""

MAX_SHIFT = 40
MULTIPLIER_BITS = 15


@dataclass(frozen=True, eq=False)
class Requantize:
    """From int32 accumulators to stored activations, one rounding (docs/numerics.md).

        t = acc * multiplier (+ r * residual_multiplier)        exact, 64-bit
        y = clamp((t + (1 << (shift - 1))) >> shift, low, high)   arithmetic shift; shift 0 adds 0

    Attributes:
        multiplier: uint16 (C,), below 2**15.
        shift: uint8 (C,), 0 to 40.
        residual_multiplier: int32 (C,), or None where the op has no residual input.
        low: smallest output, -128 to 0.
        high: largest output, 0 to 255; at most 127 where low is negative.
    """

    multiplier: npt.NDArray[np.uint16]
    shift: npt.NDArray[np.uint8]
    low: int
    high: int
    residual_multiplier: npt.NDArray[np.int32] | None = None


@dataclass(frozen=True, eq=False)
class ConvOp:
    """Convolution (cross-correlation, as every framework does it), dense layer, or residual add.

    Attributes:
        input: number of the input tensor.
        levels: int8 or int16 (C_out, C_in / groups, kh, kw).
        bias: int32 (C_out,), in accumulator units.
        requantize: None leaves the int32 accumulators (logits); only the last op may.
        stride: rows, columns; 1 to 4 each.
        padding: zeros at top, left, bottom, right.
        groups: 1, or C_in for depthwise, or any common divisor.
        residual: number of the residual input tensor (same shape as the output), or None.
    """

    input: int
    levels: Levels
    bias: npt.NDArray[np.int32]
    requantize: Requantize | None
    stride: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    groups: int = 1
    residual: int | None = None


@dataclass(frozen=True, eq=False)
class PoolOp:
    """Max or average pool.

    A maximum passes values through: padding never wins (it counts as the lowest value) and
    `requantize` is None. An average is the sum over the window (padding counts as zero), times
    its own multiplier and shift (C,), bias 0.
    """

    input: int
    kind: Literal["max", "average"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = (0, 0, 0, 0)
    requantize: Requantize | None = None


Op = ConvOp | PoolOp


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """Ops in an order that can be executed, and the range of the input.

    Attributes:
        input_shape: (C, H, W).
        input_low: smallest input value, 0 (unsigned) or -2**(bits-1).
        input_high: largest input value.
        ops: each reads tensors numbered below its own output; the last one is the output.

    Raises:
        ValueError: shapes, ranges or numbers do not fit together (a caller that reads files
            turns this into an error naming the file).
    """

    input_shape: Shape
    input_low: int
    input_high: int
    ops: tuple[Op, ...]

    def __post_init__(self) -> None:
        check_network(self)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of every tensor, the input first."""
        shapes = [self.input_shape]
        for op in self.ops:
            shapes.append(output_shape(op, shapes[op.input]))
        return tuple(shapes)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Lowest and highest value every tensor can hold, the input first; logits: full int32."""
        ranges = [(self.input_low, self.input_high)]
        for op in self.ops:
            if op.requantize is not None:
                ranges.append((op.requantize.low, op.requantize.high))
            elif isinstance(op, PoolOp):
                ranges.append(ranges[op.input])
            else:
                ranges.append((-(2**31), 2**31 - 1))
        return tuple(ranges)


def output_shape(op: Op, shape: Shape) -> Shape:
    """Shape of an op's output for an input of `shape`.

    Raises:
        ValueError: the window does not fit, or the channels do not agree.
    """
    channels, height, width = shape
    if isinstance(op, ConvOp):
        c_out, c_in, kh, kw = op.levels.shape
        if c_in * op.groups != channels or c_out % op.groups:
            raise ValueError(
                f"{op.groups} groups of {c_in} input channels for {c_out} outputs "
                f"do not fit {channels} channels"
            )
    else:
        c_out, (kh, kw) = channels, op.kernel
    return c_out, *window_positions((height, width), (kh, kw), op.stride, op.padding)


def window_positions(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Padding
) -> tuple[int, int]:
    """How many places a window has, down and across.

    Raises:
        ValueError: it has none, or the stride is not above 0.
    """
    top, left, bottom, right = padding
    span_h, span_w = size[0] + top + bottom - kernel[0], size[1] + left + right - kernel[1]
    if span_h < 0 or span_w < 0 or min(stride) < 1:
        raise ValueError(
            f"a {kernel[0]}x{kernel[1]} window, stride {stride}, does not fit {size[0]}x{size[1]} "
            f"with padding {padding}"
        )
    return span_h // stride[0] + 1, span_w // stride[1] + 1


def check_network(network: IntegerNetwork) -> None:
    """Refuse a network that does not fit together.

    Raises:
        ValueError: naming the op by its number.
    """
    if not network.ops:
        raise ValueError("a network needs at least one op")
    highest = 127 if network.input_low < 0 else 255
    if not (-128 <= network.input_low <= 0 <= network.input_high <= highest):
        raise ValueError(f"input range {network.input_low}..{network.input_high} is not 8 bits")
    if min(network.input_shape) < 1:
        raise ValueError(f"input shape {network.input_shape} has an empty side")
    shapes = [network.input_shape]
    for index, op in enumerate(network.ops):
        try:
            shapes.append(_check_op(op, index, shapes, last=index == len(network.ops) - 1))
        except ValueError as error:
            raise ValueError(f"op {index}: {error}") from error


def _check_op(op: Op, index: int, shapes: list[Shape], *, last: bool) -> Shape:
    if not 0 <= op.input <= index:
        raise ValueError(f"reads tensor {op.input}, which does not exist yet")
    if min(op.stride) < 1 or min(op.padding) < 0:
        raise ValueError(f"stride {op.stride} or padding {op.padding} out of range")
    shape = output_shape(op, shapes[op.input])
    channels = shape[0]
    if isinstance(op, PoolOp):
        if min(op.kernel) < 1:
            raise ValueError(f"pool kernel {op.kernel} is empty")
        if (op.kind == "average") != (op.requantize is not None):
            raise ValueError("an average pool requantizes, a max pool does not")
    else:
        if op.levels.dtype not in (np.int8, np.int16) or op.levels.size == 0:
            raise ValueError(f"levels are {op.levels.dtype}{op.levels.shape}, not int8 or int16")
        if op.bias.shape != (channels,) or op.bias.dtype != np.int32:
            raise ValueError(f"bias is {op.bias.dtype}{op.bias.shape}, not int32 ({channels},)")
        if op.requantize is None and not last:
            raise ValueError("only the last op may leave int32 accumulators")
        _check_residual(op, index, shapes, shape)
    if op.requantize is not None:
        _check_requantize(op.requantize, channels)
    return shape


def _check_residual(op: ConvOp, index: int, shapes: list[Shape], shape: Shape) -> None:
    has_multiplier = op.requantize is not None and op.requantize.residual_multiplier is not None
    if (op.residual is not None) != has_multiplier:
        raise ValueError("a residual input and its multiplier come together")
    if op.residual is None:
        return
    if not 0 <= op.residual <= index:
        raise ValueError(f"residual tensor {op.residual} does not exist yet")
    if shapes[op.residual] != shape:
        raise ValueError(f"residual shape {shapes[op.residual]} is not the output's {shape}")


def _check_requantize(requantize: Requantize, channels: int) -> None:
    for name, array, dtype in (
        ("multiplier", requantize.multiplier, np.uint16),
        ("shift", requantize.shift, np.uint8),
        ("residual multiplier", requantize.residual_multiplier, np.int32),
    ):
        if array is not None and (array.shape != (channels,) or array.dtype != dtype):
            raise ValueError(
                f"{name} is {array.dtype}{array.shape}, not {np.dtype(dtype).name} ({channels},)"
            )
    if int(requantize.multiplier.max()) >> MULTIPLIER_BITS:
        raise ValueError(f"a multiplier needs more than {MULTIPLIER_BITS} bits")
    if int(requantize.shift.max()) > MAX_SHIFT:
        raise ValueError(f"a shift is above {MAX_SHIFT}")
    signed = requantize.low < 0
    if not (-128 <= requantize.low <= 0 <= requantize.high <= (127 if signed else 255)):
        raise ValueError(f"clamp {requantize.low}..{requantize.high} is not 8 bits")
