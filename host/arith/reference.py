"""The definition of what a network computes, in int64 NumPy: slow, short, and the oracle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from bacmac.host.arith.network import ConvOp, IntegerNetwork, PoolOp, Requantize

Codes = npt.NDArray[np.uint8] | npt.NDArray[np.int8]
"""Stored activations (N, C, H, W)."""
Outputs = npt.NDArray[np.int32] | npt.NDArray[np.uint8] | npt.NDArray[np.int8]
"""(N, C, H, W): int32 logits, or stored activations, int8 where the lowest value is negative."""
Wide = npt.NDArray[np.int64]


def run_reference(network: IntegerNetwork, images: Codes) -> Outputs:
    """Outputs (N, C, H, W) of input codes (N, C, H, W), as docs/numerics.md defines them.

    Raises:
        ValueError: the images are not of the network's shape, dtype or range.
        OverflowError: an accumulator leaves int32 (`bounds.prove_no_overflow` excludes it).
    """
    check_images(network, images)
    tensors: list[Wide] = [images.astype(np.int64)]
    for op in network.ops:
        x, (low, _) = tensors[op.input], network.ranges[op.input]
        if isinstance(op, ConvOp):
            residual = None if op.residual is None else tensors[op.residual]
            tensors.append(_convolve(op, x, residual))
        else:
            tensors.append(_pool(op, x, low))
    outputs = empty_outputs(network, len(images))
    outputs[...] = tensors[-1]
    return outputs


def requantize(acc: Wide, how: Requantize, residual: Wide | None = None) -> Wide:
    """Stored activations (N, C, H, W) of accumulators of that shape: one rounding, half up."""
    total = acc * _per_channel(how.multiplier)
    if residual is not None and how.residual_multiplier is not None:
        total = total + residual * _per_channel(how.residual_multiplier)
    shift = _per_channel(how.shift)
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    result: Wide = np.clip((total + half) >> shift, how.low, how.high)
    return result


def check_images(network: IntegerNetwork, images: Codes) -> None:
    """Refuse images that the network does not take.

    Raises:
        ValueError: shape, dtype, or a value outside the input range.
    """
    low, high = network.input_low, network.input_high
    dtype = np.int8 if low < 0 else np.uint8
    if images.ndim != 4 or images.shape[1:] != network.input_shape or images.dtype != dtype:
        raise ValueError(
            f"images are {images.dtype}{images.shape}, "
            f"not {np.dtype(dtype).name} (N, {', '.join(map(str, network.input_shape))})"
        )
    if images.size and (int(images.min()) < low or int(images.max()) > high):
        raise ValueError(f"an image value lies outside {low}..{high}")


def empty_outputs(network: IntegerNetwork, n: int) -> Outputs:
    """Memory for n outputs (n, C, H, W), of the dtype that the network's output has."""
    shape, dtype = (n, *network.shapes[-1]), output_dtype(network)
    if dtype is np.int32:
        return np.empty(shape, np.int32)
    return np.empty(shape, np.int8) if dtype is np.int8 else np.empty(shape, np.uint8)


def output_dtype(network: IntegerNetwork) -> type[np.int32 | np.uint8 | np.int8]:
    """The dtype of the network's output: int32 logits, else the stored activations'."""
    low, high = network.ranges[-1]
    if high > 255:
        return np.int32
    return np.int8 if low < 0 else np.uint8


def _convolve(op: ConvOp, x: Wide, residual: Wide | None) -> Wide:
    c_out, c_in, kh, kw = op.levels.shape
    windows = _windows(x, (kh, kw), op.stride, op.padding, fill=0)
    n, _, h_out, w_out = windows.shape[:4]
    grouped = windows.reshape(n, op.groups, c_in, h_out, w_out, kh, kw)
    levels = op.levels.astype(np.int64).reshape(op.groups, c_out // op.groups, c_in, kh, kw)
    acc = np.einsum("ngihwyx,goiyx->ngohw", grouped, levels).reshape(n, c_out, h_out, w_out)
    acc += _per_channel(op.bias)
    if acc.size and max(-int(acc.min()), int(acc.max()) + 1) > 1 << 31:
        raise OverflowError("an accumulator leaves int32")
    return acc if op.requantize is None else requantize(acc, op.requantize, residual)


def _pool(op: PoolOp, x: Wide, low: int) -> Wide:
    if op.requantize is None:
        maximum: Wide = _windows(x, op.kernel, op.stride, op.padding, fill=low).max((4, 5))
        return maximum
    total = _windows(x, op.kernel, op.stride, op.padding, fill=0).sum((4, 5))
    return requantize(total, op.requantize)


def _windows(
    x: Wide,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    *,
    fill: int,
) -> Wide:
    """Windows (N, C, H_out, W_out, kh, kw) of x (N, C, H, W) with `fill` around it."""
    top, left, bottom, right = padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    return sliding_window_view(x, kernel, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]


def _per_channel(values: npt.NDArray[np.integer]) -> Wide:
    return values.astype(np.int64).reshape(1, -1, 1, 1)
