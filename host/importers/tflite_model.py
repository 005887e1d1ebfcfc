"""Read a quantized TFLite file into the float model, its integers and grids kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.lowering import Lowering, RefusedError
from bacmac.host.importers.tflite_file import read_tflite
from bacmac.host.importers.tflite_integers import code_range
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
    Pair,
    Quantization,
    Quantize,
    Requantize,
    Same,
    Step,
    Window,
)
from bacmac.host.model.layers import Grid, KeptWeights, Model, Rounding


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
        builder = _Builder(network, lowering, _code_ranges(network))
        if network.input in network.quantization:  # the file takes codes, not floats
            key = _key(network.input)
            lowering.quantize("input", key, key, builder.grid(network.input))
        with np.errstate(over="ignore"):  # weights and biases must be finite in float32
            for step in network.steps:
                builder.lower(step)
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


def _code_ranges(network: Network) -> dict[int, Pair]:
    """Smallest and largest code of each tensor, as far as activations say."""
    ranges = {tensor: (each.low, each.high) for tensor, each in network.quantization.items()}
    for step in network.steps:
        if step.y not in ranges or step.x not in ranges:
            continue
        source, target = network.quantization[step.x], network.quantization[step.y]
        low, high = ranges[step.x]
        bounds = UNBOUNDED
        if isinstance(step, (Convolve, Add, Combine, Requantize, Window)):
            bounds = step.bounds
        least, most = code_range(target, bounds)
        if isinstance(step, Pad):
            low, high = min(low, source.zero), max(high, source.zero)
        # what only moves, compares or averages codes leaves their range
        if isinstance(step, (Window, Pad, Every, Same)) and source == target:
            least, most = min(max(low, least), most), max(min(high, most), least)
        if least < most:  # else one number is left, and a grid has two
            ranges[step.y] = least, most
    return ranges


def _alike(a: Quantization, b: Quantization) -> bool:
    """Whether two tensors hold the same values, in other codes perhaps (INT8 and UINT8)."""
    offsets = [(each.zero - each.low, each.high - each.low) for each in (a, b)]
    return a.scale == b.scale and offsets[0] == offsets[1]


@dataclass(frozen=True, eq=False)
class _Builder:
    """Feeds the steps of a network to the lowering."""

    network: Network
    lowering: Lowering
    ranges: Mapping[int, Pair]

    def grid(self, tensor: int) -> Grid:
        """A tensor's grid, as the kernels round to it."""
        quantization = self.network.quantization[tensor]
        zero = float(quantization.zero)
        return Grid(quantization.scale, zero, *self.ranges[tensor], "half-away")

    def lower(self, step: Step) -> None:
        """Lower one step."""
        x, y = _key(step.x), _key(step.y)
        total = f"{y}:sum"
        if isinstance(step, (Same, Dequantize)):
            self.lowering.alias(x, y)
        elif isinstance(step, Every):
            self.lowering.select(step.name, x, y, stride=step.stride)
        elif isinstance(step, Pad):
            self._lower_pad(step)
        elif isinstance(step, Quantize):
            self._store(step, x, UNBOUNDED)
        elif isinstance(step, Requantize):
            self._lower_requantize(step)
        elif isinstance(step, Convolve):
            source = self.network.quantization.get(step.x)
            unit = step.scale * source.scale if source is not None else 1.0
            levels = np.ascontiguousarray(step.levels.transpose(0, 3, 1, 2))
            kept = None
            if levels.dtype == np.int16:
                kept = KeptWeights(levels.astype(np.int16), step.scale)
            self.lowering.conv(
                step.name,
                x,
                total,
                levels.astype(np.float32) if kept is None else kept.weight,
                (step.bias * unit).astype(np.float32),
                stride=step.stride,
                padding=step.padding,
                groups=step.groups,
                kept=kept,
            )
            self._store(step, total, step.bounds)
        elif isinstance(step, Add):
            self.lowering.add(step.name, x, _key(step.other), total)
            self._store(step, total, step.bounds)
        elif isinstance(step, Combine):
            self._lower_combine(step)
        elif isinstance(step, Mean):
            self.lowering.global_average(step.name, x, total)
            self._store(step, total, UNBOUNDED)
        else:
            assert isinstance(step, Window)
            self._lower_window(step)

    def _store(
        self, step: Step, tensor: str, bounds: Bounds, rounding: Rounding = "half-away"
    ) -> None:
        """Clamp a step's values and put them on the grid of its output."""
        if bounds != UNBOUNDED:
            self.lowering.clamp(
                step.name, tensor, f"{_key(step.y)}:clamped", bounds.low, bounds.high
            )
            tensor = f"{_key(step.y)}:clamped"
        if step.y in self.network.quantization:
            grid = replace(self.grid(step.y), rounding=rounding)
            self.lowering.quantize(step.name, tensor, _key(step.y), grid)
        else:
            self.lowering.alias(tensor, _key(step.y))

    def _lower_requantize(self, step: Requantize) -> None:
        x, y = _key(step.x), _key(step.y)
        if step.x not in self.network.quantization:
            self._store(step, x, step.bounds)
            return
        alike = _alike(self.network.quantization[step.x], self.network.quantization[step.y])
        if alike and step.bounds == UNBOUNDED:
            self.lowering.alias(x, y)
        elif alike and (step.bounds.low, step.bounds.high) == (0.0, np.inf):
            self.lowering.clamp(step.name, x, y, 0.0, np.inf)
        else:
            self._store(step, x, step.bounds)

    def _lower_pad(self, step: Pad) -> None:
        x, y = _key(step.x), _key(step.y)
        if any(step.channels):
            count = self.lowering.shape(x)[0]
            before, after = ((-1,) * each for each in step.channels)
            self.lowering.select(
                step.name, x, f"{y}:padded", channels=(*before, *range(count), *after)
            )
            x = f"{y}:padded"
        self.lowering.pad(step.name, x, y, step.padding)

    def _lower_combine(self, step: Combine) -> None:
        """A depthwise convolution: of ones and a bias, or of the constant's codes.

        Between floats it is folded like BatchNorm.
        """
        total = f"{_key(step.y)}:sum"
        if step.constant is None:
            one, none = np.ones(1), np.zeros(1)
            sign = -1.0 if step.kind == "subtract" else 1.0
            values = sign * step.codes.astype(np.float64)
            gain, shift = (values, none) if step.kind == "multiply" else (one, values)
            self.lowering.scale(step.name, _key(step.x), total, gain, shift)
            self._store(step, total, step.bounds)
            return
        codes = (step.codes - step.constant.zero).astype(np.int16)
        bias = np.zeros(len(codes), np.float32)
        scale = np.full(len(codes), step.constant.scale)
        if step.kind != "multiply":
            sign = -1 if step.kind == "subtract" else 1
            bias = (sign * codes * scale).astype(np.float32)
            codes, scale = np.ones_like(codes), np.ones_like(scale)
        kept = KeptWeights(codes.reshape(-1, 1, 1, 1), scale)
        self.lowering.conv(
            step.name, _key(step.x), total, kept.weight, bias, groups=len(codes), kept=kept
        )
        self._store(step, total, step.bounds)

    def _lower_window(self, step: Window) -> None:
        x, y = _key(step.x), _key(step.y)
        total = f"{y}:sum"
        if step.kind == "max":
            if step.bounds == UNBOUNDED:  # it holds codes that its input holds
                total = y
            self.lowering.pool(
                step.name, x, total, "max", step.kernel, stride=step.stride, padding=step.padding
            )
            if step.bounds != UNBOUNDED:
                self._store(step, total, step.bounds)
            return
        if any(step.padding):
            raise RefusedError(
                f"an average pool whose windows pass the edge (SAME, padding {step.padding})",
                "windows within the image",
            )
        if step.kernel == (1, 1):
            self.lowering.select(step.name, x, total, stride=step.stride)
            self._store(step, total, step.bounds)
            return
        self.lowering.pool(step.name, x, total, "average", step.kernel, stride=step.stride)
        self._store(step, total, step.bounds, "half-away-code")
