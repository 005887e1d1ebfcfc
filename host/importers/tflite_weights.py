"""Weights, biases and scales of TFLite tensors, checked, and the factors between two scales.

The rules are those of the TensorFlow Lite 8-bit quantization specification: one scale and zero
point for an activation; one scale, or one an output channel, for a weight, whose zero point is 0
(a UINT8 weight of older converters has one of its own); biases are INT32 of zero point 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.importers.lowering import RefusedError
from bacmac.host.importers.tflite_file import TfliteTensor
from bacmac.host.importers.tflite_steps import Axes, Quantization

_CODES = {"INT8": (-128, 127), "UINT8": (0, 255)}
_FLOATS = ("FLOAT32", "FLOAT16")
MAX_MULTIPLIER = 2.0**30


def quantization_of(tensor: TfliteTensor) -> Quantization | None:
    """How an activation tensor is stored; None for float32.

    Raises:
        RefusedError: another type, or scales and zero points that are not one each.
    """
    if tensor.type == "FLOAT32":
        return None
    if tensor.type not in _CODES:
        raise RefusedError(
            f"{tensor.label} of type {tensor.type}",
            "INT8 or UINT8 activations",
            "16-bit activations are not supported" if tensor.type == "INT16" else "",
        )
    low, high = _CODES[tensor.type]
    if not tensor.plain_quantization or len(tensor.scales) != 1 or len(tensor.zero_points) > 1:
        raise RefusedError(
            f"{tensor.label} with {len(tensor.scales)} scales and {len(tensor.zero_points)} zero "
            "points",
            "one of each",
        )
    scale = float(tensor.scales[0])
    zero = int(tensor.zero_points[0]) if len(tensor.zero_points) else 0
    if not (np.isfinite(scale) and scale > 0):
        raise RefusedError(f"{tensor.label} of scale {scale:g}", "a finite scale above 0")
    if not low <= zero <= high:
        raise RefusedError(f"{tensor.label} of zero point {zero}", f"{low} to {high}")
    return Quantization(scale, zero, low, high)


def weights_of(
    tensor: TfliteTensor, axis: int, *, rank: int, floats: bool
) -> tuple[npt.NDArray[np.int16] | npt.NDArray[np.float32], npt.NDArray[np.float64], bool]:
    """The levels of a weight, its scales (C_out,), and whether it is of the UINT8 kind.

    Args:
        tensor: INT8, INT4 or UINT8; with float activations FLOAT32 and FLOAT16 too, whose levels
            are the weights as float32, and whose scales are 1.
        floats: whether the activations are float.
        axis: where the output channels are.
        rank: how many axes it must have.
    """
    allowed = ("INT4", *_CODES, *(_FLOATS if floats else ()))
    if tensor.data is not None and tensor.type not in allowed:
        raise RefusedError(
            f"{tensor.label} of type {tensor.type}",
            "weights of " + ", ".join(allowed),
            "convert with full integer quantization (a representative data set)",
        )
    codes = tensor.constant
    if codes.ndim != rank or codes.size == 0:
        raise RefusedError(f"{tensor.label} of shape {tensor.shape}", f"{rank} axes, none empty")
    count, scales, zeros = codes.shape[axis], tensor.scales, tensor.zero_points
    if tensor.type in _FLOATS:
        return codes.astype(np.float32), np.ones(count), False
    if len(scales) not in (1, count) or (len(scales) > 1 and tensor.axis != axis):
        raise RefusedError(
            f"{tensor.label} with {len(scales)} scales along axis {tensor.axis}",
            f"one, or {count} along axis {axis}",
        )
    if not np.isfinite(scales).all() or scales.min() <= 0:
        bad = scales[~(np.isfinite(scales) & (scales > 0))][0]
        raise RefusedError(f"{tensor.label} with a scale of {bad:g}", "finite scales above 0")
    legacy = tensor.type == "UINT8"
    if len(zeros) not in (0, 1, len(scales)) or (legacy and len(scales) != 1):
        raise RefusedError(f"{tensor.label} with {len(zeros)} zero points", f"{len(scales)}")
    low, high = (0, 255) if legacy else (0, 0)
    if len(zeros) and not (low <= int(zeros.min()) and int(zeros.max()) <= high):
        raise RefusedError(
            f"{tensor.label} with zero points {zeros.min()} to {zeros.max()}",
            f"{low} to {high} for {tensor.type} weights",
        )
    levels = codes.astype(np.int16) - np.int16(int(zeros[0]) if len(zeros) else 0)
    wide = np.broadcast_to(scales.astype(np.float64), count).copy()
    return levels, wide, legacy


def bias_of(tensor: TfliteTensor | None, count: int, *, floats: bool) -> npt.NDArray[Any]:
    """The bias (count,), zeros where there is none; float64 where the activations are float."""
    if tensor is None:
        return np.zeros(count, np.float64 if floats else np.int64)
    allowed = _FLOATS if floats else ("INT32",)
    if tensor.type not in allowed:
        raise RefusedError(f"bias {tensor.label} of type {tensor.type}", " or ".join(allowed))
    if tensor.shape != (count,):
        raise RefusedError(f"bias {tensor.label} of shape {tensor.shape}", f"({count},)")
    if len(tensor.zero_points) > count or tensor.zero_points.any():
        raise RefusedError(
            f"bias {tensor.label} with a zero point", "one zero point or one a channel, all 0"
        )
    return tensor.constant.astype(np.float64 if floats else np.int64)


def channel_codes(tensor: TfliteTensor, axes: Axes, *, floats: bool) -> npt.NDArray[Any]:
    """The codes of a constant operand, or its values: one, or one a channel, as it is shaped."""
    allowed = _FLOATS if floats else tuple(_CODES)
    if tensor.type not in allowed:
        raise RefusedError(f"{tensor.label} of type {tensor.type}", " or ".join(allowed))
    channels = axes.sides[2]
    # operands are aligned at their last axes; the file's tensors have N before `letters`
    padded = (1,) * (1 + len(axes.letters) - len(tensor.shape)) + tensor.shape
    words = ("", *axes.letters)
    fits = len(padded) == len(words) and all(
        side == 1 or (word == "C" and side == channels)
        for side, word in zip(padded, words, strict=True)
    )
    if not fits:
        raise RefusedError(
            f"{tensor.label} of shape {tensor.shape} with a tensor of {axes.shape}",
            "one value, or one a channel",
        )
    codes = tensor.constant.astype(np.float64 if floats else np.int64).reshape(-1)
    if not np.isfinite(codes).all():
        raise RefusedError(f"{tensor.label} with NaN or infinity", "finite numbers")
    vector: npt.NDArray[Any] = np.broadcast_to(codes, channels).copy()
    return vector


def multipliers(
    x_scale: float, scale: npt.NDArray[np.float64], y_scale: float, *, narrow: bool
) -> npt.NDArray[np.float64]:
    """x_scale * scale / y_scale as the runtime computes it.

    Per channel in float64 (PopulateConvolutionQuantizationParams of LiteRT); `narrow`: the product
    in float32 first (GetQuantizedConvolutionMultipler, for UINT8 weights).
    """
    if narrow:
        with np.errstate(over="ignore"):  # refused below
            product = (np.float32(x_scale) * scale.astype(np.float32)).astype(np.float64)
    else:
        product = x_scale * scale
    factor: npt.NDArray[np.float64] = product / y_scale
    if not np.isfinite(factor).all() or factor.max() >= MAX_MULTIPLIER:
        raise RefusedError(
            f"scales {x_scale:g} and {scale.max():g} into one of {y_scale:g}",
            "a factor below 2^30",
        )
    return factor
