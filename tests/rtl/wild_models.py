"""Random quantized models that use all that a descriptor can say, and every extreme of it."""

from __future__ import annotations

import numpy as np

from bacmac.host.arith.network import ConvOp, Op, PoolOp, Requantize, output_shape
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.model.layers import Normalization
from bacmac.host.model.quantized import ActivationFormat, QuantizedLayer, QuantizedModel

FORMATS = [(8, False), (8, True), (4, False), (4, True), (7, False), (2, True)]
"""Bits and sign of stored activations."""
MAX_MACS = 400_000
"""So that a network takes a fraction of a second."""


def wild_model(rng: np.random.Generator, scheme: str) -> QuantizedModel:
    """One to six layers, each reading one of the last three tensors."""
    channels = int(rng.choice([1, 2, 3, 4, 7, 8, 16, 17, 33]))
    longest = int(rng.choice([11, 11, 28]))
    shapes = [(channels, int(rng.integers(1, longest)), int(rng.integers(1, longest)))]
    bits, signed = FORMATS[rng.integers(len(FORMATS))]
    image = ActivationFormat(1 / 128, bits, signed)
    layers: list[QuantizedLayer] = []
    n_layers = int(rng.integers(1, 7))
    while len(layers) < n_layers:
        source = int(rng.integers(max(0, len(layers) - 2), len(layers) + 1))
        op = _op(rng, scheme, source, shapes, last=len(layers) == n_layers - 1)
        if op is None:
            continue
        shapes.append(output_shape(op, shapes[source]))
        output = _format(op, [image, *(layer.output for layer in layers)])
        scale = np.ones(shapes[-1][0] if isinstance(op, ConvOp) else 0)
        name = f"layer{len(layers)}"
        kind = scheme if isinstance(op, ConvOp) else ""
        layers.append(QuantizedLayer(name, op, output, kind, scale))
    scales = np.ones(shapes[-1][0])
    return QuantizedModel("wild", shapes[0], image, Normalization(), tuple(layers), scales)


def wild_codes(rng: np.random.Generator, model: QuantizedModel, n: int) -> np.ndarray:
    """Input codes (n, C, H, W): anything, or only the two ends of the range, or one of them."""
    low, high = model.input_format.low, model.input_format.high
    dtype, shape = np.int8 if low < 0 else np.uint8, (n, *model.input_shape)
    style = rng.integers(4)
    if style == 0:
        return rng.choice([low, high], shape).astype(dtype)
    if style == 1:
        return np.full(shape, rng.choice([low, high]), dtype)
    return rng.integers(low, high + 1, shape).astype(dtype)


def _format(op: Op, formats: list[ActivationFormat | None]) -> ActivationFormat | None:
    if op.requantize is None:
        return formats[op.input] if isinstance(op, PoolOp) else None
    signed = op.requantize.low < 0
    return ActivationFormat(0.1, int(op.requantize.high).bit_length() + signed, signed)


def _op(
    rng: np.random.Generator,
    scheme: str,
    source: int,
    shapes: list[tuple[int, int, int]],
    *,
    last: bool,
) -> Op | None:
    """An op of any kind, or None where its window does not fit."""
    channels, height, width = shapes[source]
    kernel = (int(rng.integers(1, 8)), int(rng.integers(1, 8)))
    if rng.integers(2):
        kernel = (min(kernel[0], 3), min(kernel[1], 3))
    stride = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    padding = tuple(int(p) for p in rng.integers(0, 4, 4)) if rng.integers(2) else (0, 0, 0, 0)
    style = int(rng.integers(9))
    if style <= 1:
        if rng.integers(2):
            kernel, stride, padding = (height, width), (1, 1), (0, 0, 0, 0)
        how = None
        if style == 1:
            how = _requantize(rng, channels, 1 / (kernel[0] * kernel[1]), residual=False)
        pool = PoolOp(source, "average" if how else "max", kernel, stride, padding, how)
        return pool if _fits(pool, shapes[source]) else None
    groups, c_out = 1, int(rng.choice([1, 2, 5, 8, 15, 16, 17, 40]))
    if style == 2:  # dense
        kernel, stride, padding = (height, width), (1, 1), (0, 0, 0, 0)
    elif style == 3:  # depthwise, perhaps with a channel multiplier
        groups, c_out = channels, channels * int(rng.choice([1, 1, 2, 3]))
    elif style == 4:  # grouped
        groups = int(np.gcd(channels, rng.choice([2, 3, 4, 8])))
        c_out = groups * int(rng.integers(1, 6))
    elif style == 5:  # of one pixel, as an identity is
        kernel, stride, padding, c_out = (1, 1), (1, 1), (0, 0, 0, 0), channels
    elif style >= 7:  # the same size, so that it may have a residual
        kernel, stride, padding, c_out = (3, 3), (1, 1), (1, 1, 1, 1), channels
    levels = _levels(rng, scheme, (c_out, channels // groups, *kernel))
    large = int(rng.choice([1, 1000, 1 << 22, 1 << 30]))
    bias = rng.integers(-large, large + 1, c_out).astype(np.int32)
    op = ConvOp(source, levels, bias, None, stride, padding, groups)
    if not _fits(op, shapes[source]):
        return None
    if last and rng.integers(2):
        return op
    shape = output_shape(op, shapes[source])
    same = [number for number, other in enumerate(shapes) if other == shape]
    residual = int(rng.choice(same)) if same and rng.integers(4) else None
    reach = 1 + 255 * np.abs(levels.astype(int)).sum((1, 2, 3)).mean()
    how = _requantize(rng, c_out, float(255 / reach), residual=residual is not None)
    return ConvOp(source, levels, bias, how, stride, padding, groups, residual)


def _fits(op: Op, shape: tuple[int, int, int]) -> bool:
    try:
        c_out, height, width = output_shape(op, shape)
    except ValueError:
        return False
    taps = op.levels[0].size if isinstance(op, ConvOp) else op.kernel[0] * op.kernel[1]
    return c_out * height * width * taps <= MAX_MACS


def _levels(rng: np.random.Generator, scheme: str, shape: tuple[int, ...]) -> np.ndarray:
    """Levels of the scheme: any, only the largest, or the smallest; zeros alone or in groups."""
    allowed = SCHEMES[scheme].levels
    style = rng.integers(4)
    if style == 0:
        levels = rng.choice([allowed[0], allowed[-1]], shape)
    elif style == 1:
        levels = np.full(shape, rng.choice(allowed))
    else:
        levels = rng.choice(allowed, shape)
    levels[rng.random(shape) < rng.choice([0.0, 0.0, 0.5, 0.9, 1.0])] = 0
    if rng.integers(2):  # whole output blocks, input chunks and rows of the window
        levels[: int(rng.integers(0, 34))] *= rng.integers(0, 2)
        levels[:, : int(rng.integers(0, 34))] *= rng.integers(0, 2)
        levels[:, :, int(rng.integers(shape[2]))] = 0
    return levels.astype(np.int8)


def _requantize(
    rng: np.random.Generator, channels: int, ratio: float, *, residual: bool
) -> Requantize:
    """Any legal multipliers: near the ratio, exact, pure shifts, or plain wild."""
    bits, signed = FORMATS[rng.integers(len(FORMATS))]
    stored = ActivationFormat(1.0, bits, signed)
    style = rng.integers(4)
    if style == 0:
        shift = np.full(channels, rng.integers(0, 16))
        multiplier = np.rint(ratio * 2.0**shift * rng.uniform(0.5, 2, channels))
    elif style == 1:
        shift = np.clip(14 - np.floor(np.log2(ratio)), 0, 40) * np.ones(channels)
        multiplier = rng.integers(1 << 14, 1 << 15, channels)
    elif style == 2:
        shift = np.full(channels, max(0, round(-np.log2(ratio))))
        multiplier = np.ones(channels)
    else:
        shift = rng.integers(0, 41, channels)
        multiplier = rng.integers(0, 1 << 15, channels)
    shift = shift.astype(np.uint8)
    wide = 1 << 31 if style == 3 else 2 << min(int(shift.max()), 29)
    return Requantize(
        np.clip(multiplier, 0, (1 << 15) - 1).astype(np.uint16),
        shift,
        stored.low,
        stored.high,
        rng.integers(-wide, wide, channels).astype(np.int32) if residual else None,
    )
