"""How large an accumulator can get: the proof that it neither overflows nor loses a bit.

Activations are integers in [low, high], low <= 0 <= high. With P the sum of an output channel's
positive levels and N the sum of the magnitudes of its negative ones, every sum over any subset of
the terms, in any order, lies in [low * P - high * N, high * P - low * N] (interval arithmetic,
Moore 1966): each term lies in an interval that holds 0, so leaving terms out never widens the
sum. A bias taken in at any point moves that interval by the bias or not at all.

Two limits are asked of these bounds. Below 2**31 an int32 accumulator never wraps. Up to 2**24
every integer is a float32 (IEEE 754 binary32 has a 24-bit significand), so every product, every
addition and every fused multiply-add of a float32 matrix product is exact, whatever its blocking,
its SIMD width or its number of threads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import ConvOp, IntegerNetwork, Op
from bacmac.host.arith.schemes import Levels
from bacmac.host.errors import CompileError

FLOAT32_EXACT = 1 << 24
"""Every integer of at most this magnitude is a float32."""
INT32_LIMIT = 1 << 31

Bounds = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def accumulator_bounds(op: Op, low: int, high: int) -> Bounds:
    """Bounds of every partial sum of an op's accumulators, in any order, bias included.

    Args:
        op: a convolution or a pool; a maximum is no sum, its bounds are those of the input.
        low: smallest input value, at most 0.
        high: largest input value, at least 0.

    Returns:
        (lowest, highest), int64 (C_out,) each; (1,) for a pool that knows no channels. Both
        intervals hold 0.
    """
    if isinstance(op, ConvOp):
        return sum_bounds(op.levels.reshape(len(op.levels), -1), op.bias, low, high)
    if op.requantize is None:
        return np.array([min(low, 0)], np.int64), np.array([max(high, 0)], np.int64)
    area = np.full(op.requantize.multiplier.shape, op.kernel[0] * op.kernel[1], np.int64)
    return area * low, area * high


def sum_bounds(levels: Levels, bias: npt.NDArray[np.int32], low: int, high: int) -> Bounds:
    """`accumulator_bounds` of levels (C_out, K) and a bias (C_out,)."""
    wide = levels.astype(np.int64)
    positive = np.maximum(wide, 0).sum(1)
    negative = np.maximum(-wide, 0).sum(1)
    return (
        low * positive - high * negative + np.minimum(bias, 0),
        high * positive - low * negative + np.maximum(bias, 0),
    )


def largest_magnitude(bounds: Bounds) -> int:
    """The largest |value| within bounds."""
    return int(max(-bounds[0].min(), bounds[1].max()))


def prove_no_overflow(network: IntegerNetwork) -> None:
    """Prove |acc| < 2**31 for every op, channel and input, whatever the order of summation.

    Raises:
        CompileError: naming the first op and channel whose bound reaches 2**31.
    """
    ranges = network.ranges
    for index, op in enumerate(network.ops):
        bounds = accumulator_bounds(op, *ranges[op.input])
        reach = np.maximum(-bounds[0], bounds[1])
        channel = int(reach.argmax())
        if reach[channel] >= INT32_LIMIT:
            raise CompileError(
                f"op {index}: channel {channel}: the accumulator may reach {reach[channel]}; "
                f"an int32 holds less than {INT32_LIMIT}"
            )
