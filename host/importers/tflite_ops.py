"""What each supported TFLite operator means: one reader an operator, by the schema's name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from bacmac.host.importers.lowering import RefusedError
from bacmac.host.importers.tflite_reading import Reading
from bacmac.host.importers.tflite_shapes import (
    after_mean,
    every_nth,
    named,
    reshape_target,
    split_padding,
    transposed,
    window,
)
from bacmac.host.importers.tflite_steps import (
    UNBOUNDED,
    Add,
    Axes,
    Bounds,
    Combination,
    Combine,
    Convolve,
    Dequantize,
    Every,
    Mean,
    Pad,
    Quantize,
    Requantize,
    Same,
    Window,
    spatial_axes,
)
from bacmac.host.importers.tflite_weights import (
    bias_of,
    channel_codes,
    multipliers,
    quantization_of,
    weights_of,
)

_FUSED = {0: UNBOUNDED, 1: Bounds(0.0, np.inf), 2: Bounds(-1.0, 1.0), 3: Bounds(0.0, 6.0)}
"""ActivationFunctionType of the schema; 4 is TANH, 5 SIGN_BIT."""
_COMBINATIONS: Mapping[str, Combination] = {"ADD": "add", "SUB": "subtract", "MUL": "multiply"}
_CLAMPS = {"RELU": _FUSED[1], "RELU_N1_TO_1": _FUSED[2], "RELU6": _FUSED[3]}


def _fused(reading: Reading, field: int) -> Bounds:
    code = reading.integer(field, "b")
    if code not in _FUSED:
        raise RefusedError(f"fused activation {code}", "none, RELU, RELU6 or RELU_N1_TO_1")
    return _FUSED[code]


def _quantize(reading: Reading) -> None:
    x, axes = reading.source()
    reading.progress.put(reading.y, axes)
    reading.grid(reading.y)
    if x not in reading.progress.quantization:
        reading.emit(Quantize(reading.name, x, reading.y))
        return
    reading.rescaled(x)
    reading.emit(Requantize(reading.name, x, reading.y, UNBOUNDED))


def _dequantize(reading: Reading) -> None:
    x, axes = reading.source()
    reading.grid(x)
    reading.progress.put(reading.y, axes)
    if reading.y in reading.progress.quantization:
        raise RefusedError(f"{reading.tensor(reading.y).label} as its output", "FLOAT32")
    reading.emit(Dequantize(reading.name, x, reading.y))


def _clamp(reading: Reading) -> None:
    x, axes = reading.source()
    reading.progress.put(reading.y, axes)
    if not reading.in_floats(x):
        reading.rescaled(x)
    reading.emit(Requantize(reading.name, x, reading.y, _CLAMPS[reading.operator.code]))


def _factors(
    reading: Reading, x: int, scale: npt.NDArray[np.float64], *, narrow: bool
) -> npt.NDArray[np.float64]:
    """From sums to the output's steps; empty where there are none."""
    if reading.in_floats(x):
        return np.zeros(0)
    scales = reading.grid(x).scale, reading.grid(reading.y).scale
    return multipliers(scales[0], scale, scales[1], narrow=narrow)


def _convolve(reading: Reading) -> None:
    x, axes = reading.image()
    rows, columns, channels = axes.sides
    deep = reading.operator.code == "DEPTHWISE_CONV_2D"
    floats = x not in reading.progress.quantization
    levels, scale, narrow = weights_of(reading.weight(), 3 if deep else 0, rank=4, floats=floats)
    if deep:
        if levels.shape[0] != 1 or levels.shape[3] % channels:
            raise RefusedError(f"weight {levels.shape}", f"(1, rows, columns, n x {channels})")
        levels, groups = levels[0].transpose(2, 0, 1)[..., None], channels
    else:
        groups = channels // levels.shape[3]
        if groups * levels.shape[3] != channels or groups < 1 or len(levels) % groups:
            raise RefusedError(f"weight {levels.shape}", f"one for {channels} channels")
    first = 5 if deep else 4
    dilation = tuple(reading.integer(each, default=1) for each in (first, first + 1))
    if dilation != (1, 1):
        raise RefusedError(f"dilation {dilation}", "1")
    stride = (reading.integer(2), reading.integer(1))
    kernel = (levels.shape[1], levels.shape[2])
    padding, places = window(reading.integer(0, "b"), (rows, columns), kernel, stride)
    reading.progress.put(reading.y, spatial_axes((*places, len(levels))))
    reading.emit(
        Convolve(
            reading.name,
            x,
            reading.y,
            levels,
            scale,
            bias_of(reading.bias(), len(levels), floats=floats),
            _factors(reading, x, scale, narrow=narrow),
            stride,
            padding,
            groups,
            _fused(reading, 4 if deep else 3),
        )
    )


def _fully_connected(reading: Reading) -> None:
    x, axes = reading.source()
    if reading.integer(1, "b") != 0:
        raise RefusedError("shuffled weights", "weights in their own order")
    floats = x not in reading.progress.quantization
    levels, scale, _ = weights_of(reading.weight(), 0, rank=2, floats=floats)
    if levels.shape[1] != math.prod(axes.sides):
        raise RefusedError(f"weight {levels.shape}", f"(outputs, {math.prod(axes.sides)})")
    letters: tuple[str, ...] = ("C" if len(levels) > 1 else "",)
    if reading.integer(2, "?"):  # the output keeps the input's axes
        letters = ("",) * (len(axes.letters) - 1) + letters
    reading.progress.put(reading.y, Axes(letters, (1, 1, len(levels))))
    reading.emit(
        Convolve(
            reading.name,
            x,
            reading.y,
            np.ascontiguousarray(axes.to_model(levels, 1)),
            scale,
            bias_of(reading.bias(), len(levels), floats=floats),
            _factors(reading, x, scale, narrow=False),
            (1, 1),
            (0, 0, 0, 0),
            1,
            _fused(reading, 0),
            fixed_point=False,  # LiteRT 2's reference kernel of dense layers uses float64
        )
    )


def _combine(reading: Reading) -> None:
    kind = _COMBINATIONS[reading.operator.code]
    inputs = reading.operator.inputs
    computed = [place for place in (0, 1) if inputs[place] in reading.progress.axes]
    x, axes = reading.source(computed[0] if computed else 0)
    reading.progress.put(reading.y, axes)
    bounds = _fused(reading, 0)
    floats = reading.in_floats(x)
    if kind == "subtract" and computed[0] != 0:
        raise RefusedError("a constant less a tensor", "a tensor less a constant")
    if len(computed) == 2:
        other, of_other = reading.source(1)
        if floats == (other in reading.progress.quantization):
            raise RefusedError("a float and a quantized operand", "both the same")
        if kind != "add" or of_other != axes:
            raise RefusedError(
                f"two tensors of {axes.shape} and {of_other.shape}",
                "a sum of two of one shape, or a constant",
            )
        reading.emit(Add(reading.name, x, reading.y, other, bounds))
        return
    tensor = reading.tensor(inputs[1 - computed[0]])
    codes = channel_codes(tensor, axes, floats=floats)
    constant = None if floats else quantization_of(tensor)
    if constant is not None:
        _factors(reading, x, np.array([constant.scale]), narrow=True)
    reading.emit(Combine(reading.name, x, reading.y, kind, codes, constant, bounds))


def _pool(reading: Reading) -> None:
    x, axes = reading.image()
    stride = (reading.integer(2), reading.integer(1))
    kernel = (reading.integer(4), reading.integer(3))
    padding, places = window(reading.integer(0, "b"), axes.sides[:2], kernel, stride)
    if x in reading.progress.below:
        x, padded = reading.progress.below[x]
        top, left, bottom, right = (a + b for a, b in zip(padding, padded, strict=True))
        padding = top, left, bottom, right
    reading.progress.put(reading.y, spatial_axes((*places, axes.sides[2])))
    reading.same_grid(x)
    kind: Literal["average", "max"] = "average"
    if reading.operator.code == "MAX_POOL_2D":
        kind = "max"
    bounds = _fused(reading, 5)
    reading.emit(Window(reading.name, x, reading.y, kind, kernel, stride, padding, bounds))


def _mean(reading: Reading) -> None:
    x, axes = reading.source()
    keep = bool(reading.integer(0, "?"))
    reading.progress.put(reading.y, after_mean(axes, reading.constant(1), keep=keep))
    if not reading.in_floats(x):
        reading.rescaled(x)
    reading.emit(Mean(reading.name, x, reading.y))


def _pad(reading: Reading) -> None:
    x, axes = reading.source()
    padding, channels = split_padding(axes, reading.constant(1))
    below = reading.operator.code == "PADV2" and _pads_below(reading, x)
    top, left, bottom, right = padding
    rows, columns, count = axes.sides
    sides = (rows + top + bottom, columns + left + right, count + sum(channels))
    if any(channels):  # channels are chosen by a convolution of zeros and ones
        reading.progress.count(count * sides[2])
    letters = tuple(axes.letter(axis) for axis in range(len(axes.letters)))
    reading.progress.put(reading.y, named(Axes(letters, sides)))
    reading.same_grid(x)
    if below:  # as a maximum pads by itself: its own business
        if any(channels):
            raise RefusedError("channels of the lowest value", "rows and columns")
        reading.progress.below[reading.y] = x, padding
        return
    reading.emit(Pad(reading.name, x, reading.y, padding, channels))


def _pads_below(reading: Reading, x: int) -> bool:
    """Whether PADV2 pads by a value that no maximum takes; else it must be the value 0."""
    index = reading.operator.inputs[2]
    values = reading.tensor(index).constant.reshape(-1)[:2]
    grid = reading.progress.quantization.get(x)
    zero, lowest = (grid.zero, grid.low) if grid else (0, np.finfo(np.float32).min)
    if len(values) == 1 and values[0] == zero:
        return False
    if len(values) == 1 and values[0] <= lowest:
        return True
    raise RefusedError(f"padding by {values.tolist()}", f"{zero}, or {lowest} before a maximum")


def _slice(reading: Reading) -> None:
    x, axes = reading.source()
    if any(reading.integer(each) for each in (2, 3, 4)):
        raise RefusedError("a slice that adds or drops axes", "every n-th row and column")
    begin, end, step = (reading.constant(place) for place in (1, 2, 3))
    stride = every_nth(axes, begin, end, step, (reading.integer(0), reading.integer(1)))
    rows, columns, channels = axes.sides
    sides = (-(-rows // stride[0]), -(-columns // stride[1]), channels)
    reading.progress.put(reading.y, named(Axes(axes.letters, sides)))
    reading.same_grid(x)
    reading.emit(Every(reading.name, x, reading.y, stride))


def _reshape(reading: Reading) -> None:
    x, axes = reading.source()
    progress = reading.progress
    shape = reshape_target(progress.graph, reading.operator, axes, progress.folded)
    found = axes.reshaped(shape)
    if found is None:
        raise RefusedError(
            f"a reshape of {axes.shape} to {shape}", "one that keeps or joins whole axes"
        )
    _alias(reading, x, found)


def _transpose(reading: Reading) -> None:
    x, axes = reading.source()
    _alias(reading, x, transposed(axes, reading.constant(1)))


def _alias(reading: Reading, x: int, axes: Axes) -> None:
    reading.progress.put(reading.y, axes)
    reading.same_grid(x)
    reading.emit(Same(reading.name, x, reading.y))


READERS: Mapping[str, Callable[[Reading], None]] = {
    "ADD": _combine,
    "AVERAGE_POOL_2D": _pool,
    "CONV_2D": _convolve,
    "DEPTHWISE_CONV_2D": _convolve,
    "DEQUANTIZE": _dequantize,
    "EXPAND_DIMS": _reshape,
    "FULLY_CONNECTED": _fully_connected,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "MUL": _combine,
    "PAD": _pad,
    "PADV2": _pad,
    "QUANTIZE": _quantize,
    "RELU": _clamp,
    "RELU6": _clamp,
    "RELU_N1_TO_1": _clamp,
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "STRIDED_SLICE": _slice,
    "SUB": _combine,
    "TRANSPOSE": _transpose,
}
INPUTS: Mapping[str, int] = {"ADD": 2, "SUB": 2, "MUL": 2, "STRIDED_SLICE": 4, "PADV2": 3}
"""The least number of inputs of an operator, where it is not one."""
