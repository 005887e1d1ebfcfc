"""Run a TFLite network as the reference kernels of LiteRT do, to the last bit, in NumPy.

Which rounding happens where follows the kernels of LiteRT 2.3 (`tflite/kernels/internal/reference`
and the `Prepare` functions that compute their multipliers), chosen there by
`experimental_op_resolver_type=BUILTIN_REF`. LiteRT's optimised kernels and XNNPACK round
differently. A Softmax at the end is left out.

Sums are computed by float matrix products, which are exact while every partial sum stays under
2^24 (float32) or 2^53 (float64); the bound is proven from each layer's weights, and the narrower
type is taken where it holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from bacmac.host.arith.network import Padding
from bacmac.host.importers.tflite_file import TfliteGraph, read_tflite
from bacmac.host.importers.tflite_integers import Multiplier, code_range, divide, round_half_away
from bacmac.host.importers.tflite_model import lower_network
from bacmac.host.importers.tflite_resolve import resolve
from bacmac.host.importers.tflite_steps import (
    Add,
    Bounds,
    Combine,
    Convolve,
    Dequantize,
    Every,
    Mean,
    Network,
    Pad,
    Pair,
    Quantization,
    Quantize,
    Requantize,
    Same,
    Step,
    Window,
)
from bacmac.host.model.forward import forward

Ints = npt.NDArray[np.int64]
Tensor = npt.NDArray[Any]

BLOCK_IMAGES = 32
ADD_SHIFT = 20
"""Bits by which ADD widens its operands (kernels/add.cc)."""


def run(model: str | Path | TfliteGraph, images: npt.NDArray[np.floating]) -> Tensor:
    """Outputs (N, C, H, W) float32 of images (N, C, H, W), normalized as the network wants them.

    Where a file computes on floats it defines no bits: those networks are computed as `forward`
    computes them.

    Raises:
        ModelFileError: the file cannot be read.
        ValueError: the images are not of the network's input shape.
    """
    graph = model if isinstance(model, TfliteGraph) else read_tflite(model)
    network = resolve(graph)
    if not network.in_integers:
        return forward(lower_network(network, graph.file, graph.sha256), _float32(images))
    codes = run_codes(network, images)
    output = network.quantization.get(network.output)
    values = codes if output is None else _real(codes, output)
    arranged: Tensor = values.transpose(0, 3, 1, 2)
    return arranged


def _float32(images: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(images, np.float32)


def run_codes(network: Network, images: npt.NDArray[np.floating]) -> Tensor:
    """What the output tensor holds, (N, H, W, C): codes, or float32 where it is dequantized."""
    blocks = [
        tensors_of(network, images[start : start + BLOCK_IMAGES])[network.output]
        for start in range(0, len(images), BLOCK_IMAGES)
    ]
    return np.concatenate(blocks)


def tensors_of(network: Network, images: npt.NDArray[np.floating]) -> dict[int, Tensor]:
    """All tensors (N, H, W, C) by number: codes as int16, float tensors as float32."""
    rows, columns, channels = network.input_sides
    if images.shape[1:] != (channels, rows, columns):
        raise ValueError(f"images are {images.shape[1:]}, not {(channels, rows, columns)}")
    x = np.ascontiguousarray(images.transpose(0, 2, 3, 1), np.float32)
    given = network.quantization.get(network.input)
    tensors: dict[int, Tensor] = {network.input: x if given is None else _codes(x, given)}
    for step in network.steps:
        tensors[step.y] = _run_step(network, step, tensors)
    return tensors


def _run_step(network: Network, step: Step, tensors: dict[int, Tensor]) -> Tensor:
    x = tensors[step.x]
    source = network.quantization.get(step.x)
    target = network.quantization.get(step.y)
    if isinstance(step, Same):
        return x
    if isinstance(step, Every):
        return x[:, :: step.stride[0], :: step.stride[1]]
    if isinstance(step, Quantize):
        assert target is not None
        return _codes(x, target)
    assert source is not None
    if isinstance(step, Dequantize):
        return _real(x, source)
    assert target is not None
    if isinstance(step, Pad):
        top, left, bottom, right = step.padding
        sides = (0, 0), (top, bottom), (left, right), step.channels
        return np.pad(x, sides, constant_values=source.zero)
    if isinstance(step, Window):
        return _window(x, step, target)
    if isinstance(step, Convolve):
        acc = _accumulate(x, step, source)
        acc += step.bias.astype(np.int64)
        if step.fixed_point:
            scaled = Multiplier.of(step.multiplier).apply(acc)
        else:
            scaled = round_half_away(acc * step.multiplier).astype(np.int64)
        return _stored(scaled, target, step.bounds)
    if isinstance(step, Add):
        added = tensors[step.other], network.quantization[step.other]
        return _add(x, source, *added, target, step.bounds)
    if isinstance(step, Combine):
        assert step.constant is not None
        codes = step.codes.astype(np.int64)
        if step.kind != "multiply":
            sign = -1 if step.kind == "subtract" else 1
            other = codes, step.constant
            return _add(x, source, *other, target, step.bounds, sign=sign)
        # one float32 product after the other, as kernels/mul.cc has it
        factor = np.float32(source.scale) * np.float32(step.constant.scale)
        wide = (x.astype(np.int64) - source.zero) * (codes - step.constant.zero)
        multiplier = _one(float(factor / np.float32(target.scale)))
        return _stored(multiplier.apply(wide), target, step.bounds)
    if isinstance(step, Mean):
        return _mean(x, source, target)
    assert isinstance(step, Requantize)
    wide = x.astype(np.int64) - source.zero
    return _stored(_one(source.scale / target.scale).apply(wide), target, step.bounds)


def _one(factor: float) -> Multiplier:
    return Multiplier.of(np.array([factor]))


def _codes(values: npt.NDArray[np.float32], grid: Quantization) -> Tensor:
    """AffineQuantize: float32 division, half away from zero."""
    whole = round_half_away(values / np.float32(grid.scale))
    codes: Tensor = np.clip(whole.astype(np.float64) + grid.zero, grid.low, grid.high)
    return codes.astype(np.int16)


def _real(codes: Tensor, grid: Quantization) -> Tensor:
    """Dequantize: a float64 product, stored as float32."""
    return (grid.scale * (codes.astype(np.float64) - grid.zero)).astype(np.float32)


def _stored(values: Ints, grid: Quantization, bounds: Bounds) -> Tensor:
    """Steps of a grid as its codes, within the bounds."""
    low, high = code_range(grid, bounds)
    values += grid.zero
    return np.clip(values, low, high, out=values).astype(np.int16)


def _accumulate(x: Tensor, step: Convolve, source: Quantization) -> Ints:
    """Sums (N, H, W, C_out) int64 of levels times (code - zero point)."""
    c_out, rows, columns, c_in = step.levels.shape
    reach = max(source.high - source.zero, source.zero - source.low)
    largest = int(np.abs(step.levels.astype(np.int64)).sum((1, 2, 3)).max()) * reach
    kind = np.float32 if largest < 1 << 24 else np.float64
    windows = _windows(x - np.int16(source.zero), (rows, columns), step.stride, step.padding, 0)
    n, h, w = windows.shape[:3]
    groups, kernel = step.groups, rows * columns
    if c_in == 1 and groups > 1:
        return _depthwise(windows, step, kind)
    weight = step.levels.reshape(groups, c_out // groups, kernel * c_in).astype(kind)
    sums = np.empty((n * h * w, c_out), np.int64)
    for group in range(groups):
        inside = windows[..., group * c_in : (group + 1) * c_in]
        flat = inside.reshape(n * h * w, kernel * c_in).astype(kind)
        part = slice(group * (c_out // groups), (group + 1) * (c_out // groups))
        sums[:, part] = flat @ weight[group].T
    return sums.reshape(n, h, w, c_out)


def _depthwise(windows: Tensor, step: Convolve, kind: type) -> Ints:
    """The same with one input channel an output channel: one product a place of the kernel."""
    c_out, rows, columns, _ = step.levels.shape
    repeats = c_out // step.groups
    total = np.zeros((*windows.shape[:3], c_out), kind)
    for i in range(rows):
        for j in range(columns):
            place = windows[:, :, :, i, j, :]
            if repeats > 1:
                place = np.repeat(place, repeats, axis=-1)
            total += place * step.levels[:, i, j, 0].astype(kind)
    return total.astype(np.int64)


def _windows(x: Tensor, kernel: Pair, stride: Pair, padding: Padding, fill: int) -> Tensor:
    """(N, H_out, W_out, kh, kw, C), a view of x (N, H, W, C) where it needs no padding."""
    top, left, bottom, right = padding
    if any(padding):
        x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    windows = sliding_window_view(x, kernel, axis=(1, 2))[:, :: stride[0], :: stride[1]]
    arranged: Tensor = windows.transpose(0, 1, 2, 4, 5, 3)
    return arranged


def _window(x: Tensor, step: Window, grid: Quantization) -> Tensor:
    """Pools work on the codes themselves."""
    if step.kind == "max":
        windows = _windows(x, step.kernel, step.stride, step.padding, grid.low)
        values: Ints = windows.max((3, 4)).astype(np.int64)
    else:
        windows = _windows(x, step.kernel, step.stride, step.padding, 0)
        ones = np.ones((1, *x.shape[1:3], 1), np.int16)
        inside = _windows(ones, step.kernel, step.stride, step.padding, 0)
        count = inside.sum((3, 4), dtype=np.int64)
        values = divide(windows.sum((3, 4), dtype=np.int64), count)
    low, high = code_range(grid, step.bounds)
    return np.clip(values, low, high).astype(np.int16)


def _add(
    x: Tensor,
    source: Quantization,
    other: Tensor,
    of_other: Quantization,
    target: Quantization,
    bounds: Bounds,
    *,
    sign: int = 1,
) -> Tensor:
    """Both operands widened and brought to twice the larger scale, added, and stored.

    `sign` -1 subtracts the other.
    """
    twice = 2.0 * max(source.scale, of_other.scale)
    total = np.zeros(1, np.int64)
    for codes, grid, factor in ((x, source, 1), (other, of_other, sign)):
        wide = (codes.astype(np.int64) - grid.zero) << ADD_SHIFT
        total = total + factor * _one(grid.scale / twice).apply(wide)
    back = _one(twice / ((1 << ADD_SHIFT) * target.scale))
    return _stored(back.apply(total), target, bounds)


def _mean(x: Tensor, source: Quantization, target: Quantization) -> Tensor:
    """QuantizedMeanOrSum: 1 / count goes into the multiplier, which is cut, not rounded."""
    count = x.shape[1] * x.shape[2]
    total = x.sum((1, 2), dtype=np.int64, keepdims=True) - source.zero * count
    whole = _one(source.scale / target.scale)
    shift = min(count.bit_length() - 1, 32, 31 + int(whole.shift[0]))
    multiplier = Multiplier((whole.multiplier << shift) // count, whole.shift - shift)
    return _stored(multiplier.apply(total), target, Bounds(-np.inf, np.inf))
