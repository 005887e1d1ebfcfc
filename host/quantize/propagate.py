"""Stored integers through one op: what later layers see while they are being quantized."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from bacmac.host.arith.network import ConvOp, Op, PoolOp, output_shape
from bacmac.host.arith.reference import requantize
from bacmac.host.model.forward import convolve
from bacmac.host.model.inputs import Codes

BLOCK_VALUES = 1 << 22


def run_op(op: Op, inputs: Codes, residual: Codes | None = None) -> Codes:
    """Stored outputs (N, C, H, W) of an op that requantizes, or of a max pool.

    Sums are float32 matrix products of integers: exact wherever the op's bound is 2**24 or less,
    and near enough for calibration beyond.

    Args:
        op: the op.
        inputs: (N, C_in, H_in, W_in).
        residual: (N, C, H, W), where the op has one.
    """
    shape = output_shape(op, inputs.shape[1:])
    signed = op.requantize.low < 0 if op.requantize is not None else inputs.dtype == np.int8
    outputs: Codes = np.empty((len(inputs), *shape), np.int8 if signed else np.uint8)
    block = max(1, BLOCK_VALUES // max(int(np.prod(shape)), inputs[0].size))
    for start in range(0, len(inputs), block):
        part = slice(start, start + block)
        if isinstance(op, PoolOp):
            outputs[part] = _pool(op, inputs[part])
        else:
            outputs[part] = _convolve(
                op, inputs[part], None if residual is None else residual[part]
            )
    return outputs


def _convolve(op: ConvOp, inputs: Codes, residual: Codes | None) -> npt.NDArray[np.int64]:
    if op.requantize is None:
        raise ValueError("an op that leaves its accumulators has no stored output")
    levels = op.levels.astype(np.float32)
    sums = convolve(inputs.astype(np.float32), levels, op.stride, op.padding, op.groups)
    accumulators = sums.astype(np.int64) + op.bias[:, None, None]
    wide = None if residual is None else residual.astype(np.int64)
    return requantize(accumulators, op.requantize, wide)


def _pool(op: PoolOp, inputs: Codes) -> npt.NDArray[np.int64]:
    top, left, bottom, right = op.padding
    fill = 0 if op.requantize is not None else np.iinfo(inputs.dtype).min
    x = np.pad(inputs, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    windows = sliding_window_view(x, op.kernel, axis=(2, 3))
    windows = windows[:, :, :: op.stride[0], :: op.stride[1]]
    if op.requantize is None:
        largest: npt.NDArray[np.int64] = windows.max((4, 5)).astype(np.int64)
        return largest
    return requantize(windows.sum((4, 5), dtype=np.int64), op.requantize)
