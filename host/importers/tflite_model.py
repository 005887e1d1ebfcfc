"""Read a quantized TFLite file into the float model, its integers and grids kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.lowering import Lowering, RefusedError
from bacmac.host.importers.tflite_file import read_tflite
from bacmac.host.importers.tflite_resolve import resolve
from bacmac.host.importers.tflite_steps import (
    UNBOUNDED,
    Add,
    Bounds,
    Combine,
    Convolve,
    Dequantize,
    Every,
    Mean,
    Network,
    Pad,
    Quantization,
    Quantize,
    Requantize,
    Same,
    Step,
    Window,
)
from bacmac.host.model.layers import Grid, KeptWeights, Model


def load_tflite(path: str | Path) -> Model:
    """The model of a fully quantized `.tflite` file; a Softmax at its end is left out.

    Every activation tensor has the file's scale and zero point as its grid, every weight its
    integers. `forward` of the model differs from the runtime by what float sums and one rounding
    in the place of two do: a step of a tensor's grid at most where its inputs are equal.

    Raises:
        ModelFileError: naming the file and the operator or tensor at fault.
    """
    graph = read_tflite(path)
    return lower_network(resolve(graph), graph.file, graph.sha256)


def lower_network(network: Network, file: Path, sha256: str) -> Model:
    """The same of steps; file and digest are what the model says of itself."""
    rows, columns, channels = network.input_sides
    step: Step | None = None
    try:
        lowering = Lowering(_key(network.input), (channels, rows, columns), _uses(network))
        for note in network.notes:
            lowering.note(note)
        if network.input in network.quantization:  # the file takes codes, not floats
            grid = _grid(network.quantization[network.input])
            lowering.quantize("input", _key(network.input), _key(network.input), grid)
        with np.errstate(over="ignore"):  # weights and biases must be finite in float32
            for step in network.steps:
                _lower(step, lowering, network)
        return lowering.finish(
            _key(network.output), name=network.name, source=str(file), sha256=sha256
        )
    except RefusedError as error:
        raise ModelFileError(
            file,
            "input" if step is None else f"operator {step.name!r}",
            found=error.found,
            expected=error.expected,
            hint=error.hint,
        ) from error


def _key(tensor: int) -> str:
    """The name that a tensor has while it is lowered: names in the file may repeat."""
    return str(tensor)


def _uses(network: Network) -> Counter[str]:
    uses = Counter(_key(step.x) for step in network.steps)
    uses.update(_key(step.other) for step in network.steps if isinstance(step, Add))
    # values between the parts of one step, read by its next part only
    uses.update(f"{_key(step.y)}:{part}" for step in network.steps for part in _PARTS)
    uses[_key(network.output)] += 1
    return uses


_PARTS = ("sum", "clamped", "padded")


def _grid(quantization: Quantization) -> Grid:
    """A grid as the kernels round to it."""
    low, high = quantization.low, quantization.high
    return Grid(quantization.scale, float(quantization.zero), low, high, "half-away")


def _alike(a: Quantization, b: Quantization) -> bool:
    """Whether two tensors hold the same values, in other codes perhaps (INT8 and UINT8)."""
    offsets = [(each.zero - each.low, each.high - each.low) for each in (a, b)]
    return a.scale == b.scale and offsets[0] == offsets[1]


def _lower(step: Step, lowering: Lowering, network: Network) -> None:
    x, y = _key(step.x), _key(step.y)
    total = f"{y}:sum"
    if isinstance(step, (Same, Dequantize)):
        lowering.alias(x, y)
    elif isinstance(step, Every):
        lowering.select(step.name, x, y, stride=step.stride)
    elif isinstance(step, Pad):
        _lower_pad(step, lowering)
    elif isinstance(step, Quantize):
        _store(step, x, UNBOUNDED, lowering, network)
    elif isinstance(step, Requantize):
        _lower_requantize(step, lowering, network)
    elif isinstance(step, Convolve):
        source = network.quantization[step.x].scale
        levels = np.ascontiguousarray(step.levels.transpose(0, 3, 1, 2))
        kept = KeptWeights(levels, step.scale)
        lowering.conv(
            step.name,
            x,
            total,
            kept.weight,
            (step.bias * (step.scale * source)).astype(np.float32),
            stride=step.stride,
            padding=step.padding,
            groups=step.groups,
            kept=kept,
        )
        _store(step, total, step.bounds, lowering, network)
    elif isinstance(step, Add):
        lowering.add(step.name, x, _key(step.other), total)
        _store(step, total, step.bounds, lowering, network)
    elif isinstance(step, Combine):
        _lower_combine(step, lowering, network)
    elif isinstance(step, Mean):
        lowering.global_average(step.name, x, total)
        _store(step, total, UNBOUNDED, lowering, network)
    else:
        assert isinstance(step, Window)
        _lower_window(step, lowering, network)


def _store(step: Step, tensor: str, bounds: Bounds, lowering: Lowering, network: Network) -> None:
    """Clamp a step's values and put them on the grid of its output."""
    if bounds != UNBOUNDED:
        lowering.clamp(step.name, tensor, f"{_key(step.y)}:clamped", bounds.low, bounds.high)
        tensor = f"{_key(step.y)}:clamped"
    lowering.quantize(step.name, tensor, _key(step.y), _grid(network.quantization[step.y]))


def _lower_requantize(step: Requantize, lowering: Lowering, network: Network) -> None:
    x, y = _key(step.x), _key(step.y)
    alike = _alike(network.quantization[step.x], network.quantization[step.y])
    if alike and step.bounds == UNBOUNDED:
        lowering.alias(x, y)
    elif alike and (step.bounds.low, step.bounds.high) == (0.0, np.inf):
        lowering.clamp(step.name, x, y, 0.0, np.inf)
    else:
        _store(step, x, step.bounds, lowering, network)


def _lower_pad(step: Pad, lowering: Lowering) -> None:
    x, y = _key(step.x), _key(step.y)
    if any(step.channels):
        count = lowering.shape(x)[0]
        before, after = ((-1,) * each for each in step.channels)
        lowering.select(step.name, x, f"{y}:padded", channels=(*before, *range(count), *after))
        x = f"{y}:padded"
    lowering.pad(step.name, x, y, step.padding)


def _lower_combine(step: Combine, lowering: Lowering, network: Network) -> None:
    """A depthwise convolution: of ones with the constant as bias, or of the constant's codes."""
    codes = (step.codes - step.constant.zero).astype(np.int16)
    bias = np.zeros(len(codes), np.float32)
    scale = np.full(len(codes), step.constant.scale)
    if step.kind != "multiply":
        sign = -1 if step.kind == "subtract" else 1
        bias = (sign * codes * scale).astype(np.float32)
        codes, scale = np.ones_like(codes), np.ones_like(scale)
    kept = KeptWeights(codes.reshape(-1, 1, 1, 1), scale)
    total = f"{_key(step.y)}:sum"
    lowering.conv(step.name, _key(step.x), total, kept.weight, bias, groups=len(codes), kept=kept)
    _store(step, total, step.bounds, lowering, network)


def _lower_window(step: Window, lowering: Lowering, network: Network) -> None:
    x, y = _key(step.x), _key(step.y)
    total = f"{y}:sum"
    if step.kind == "max":
        if step.bounds == UNBOUNDED:  # it holds codes that its input holds
            total = y
        lowering.pool(
            step.name, x, total, "max", step.kernel, stride=step.stride, padding=step.padding
        )
        if step.bounds != UNBOUNDED:
            _store(step, total, step.bounds, lowering, network)
        return
    if any(step.padding):
        raise RefusedError(
            f"an average pool whose windows pass the edge (SAME, padding {step.padding})",
            "windows within the image",
        )
    if step.kernel == (1, 1):
        lowering.select(step.name, x, total, stride=step.stride)
    else:
        lowering.pool(step.name, x, total, "average", step.kernel, stride=step.stride)
    _store(step, total, step.bounds, lowering, network)
