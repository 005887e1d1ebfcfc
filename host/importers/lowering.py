"""From the steps of a model file to the float model: the one place where steps are folded.

An importer feeds its steps in execution order, naming the tensors each reads and writes; what
comes out is `Model`, which knows convolutions and pools only. On the way

* BatchNorm and any per-channel affine step is folded into the convolution before it (Jacob et al.
  2018, arXiv 1712.05877, section 3.2) or, after a flatten, into the dense layer behind it;
* a clamp becomes the activation of the layer before it; through a max pool too, because a maximum
  and a clamp (both monotonic) may change places;
* a dense layer becomes a convolution whose kernel is its whole input;
* an addition becomes the residual input of a convolution that nothing else reads;
* zero padding joins the window that follows; rows, columns and channels that are only selected
  (option A of He et al. 2016, arXiv 1512.03385) become a 1x1 convolution of zeros and ones;
* a grid (the tensor is quantized here) is noted beside the layer; a layer that has one is closed to
  everything but a residual, whose own grid then follows. Integer weights stay integers through all
  of this: a gain per channel only changes their scale, or their sign.

A layer is only rewritten while nothing but the step at hand reads it. Where that does not hold, a
1x1 depthwise convolution of ones (`structural`) carries the addition, clamp or padding instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import Padding, Shape
from bacmac.host.model.layers import (
    INPUT,
    LINEAR,
    Activation,
    Conv,
    Grid,
    KeptWeights,
    Layer,
    Model,
    Pool,
    layer_output_shape,
    moves_only,
)

Floats = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]
Pair = tuple[int, int]

NO_PADDING: Padding = (0, 0, 0, 0)
MAX_ELEMENTS = 1 << 28
"""Of one tensor of one image, or of one weight: far above any SoC, far below a crash."""
MAX_STRUCTURAL = 1 << 25
"""Zeros and ones of all structural layers together: a file asks for them in a few bytes."""
MAX_FOLDED = 1 << 30
"""Weights that gains are folded into, each counted every time: a chain of gains costs time."""
MAX_NAME = 48


class RefusedError(Exception):
    """A step that cannot be lowered; the importer adds the file and the step's name."""

    def __init__(self, found: str, expected: str, hint: str = "") -> None:
        super().__init__(found, expected, hint)
        self.found = found
        self.expected = expected
        self.hint = hint


@dataclass(frozen=True)
class _Move:
    """Data movement not yet written as a layer: select, pad, or step over rows and columns."""

    name: str
    channels: tuple[int, ...]  # source of each channel, -1 for a channel of zeros
    stride: Pair = (1, 1)
    padding: Padding = NO_PADDING


@dataclass(frozen=True, eq=False)
class _Value:
    """What a tensor of the file is: a layer's output, perhaps flattened, moved or scaled since."""

    layer: str
    shape: Shape
    flat: bool = False
    move: _Move | None = None
    affine: tuple[Vector, Vector] | None = None  # gain and shift a feature, after a flatten


class Lowering:
    """Builds a `Model` step by step.

    Args:
        input_tensor: the file's name of the network's input.
        input_shape: (C, H, W); features alone are (C, 1, 1).
        uses: how many steps read each tensor; the network's output counts as one more.
        flat: the input has no rows and columns.

    Every step method takes the step's `name` (for people), the tensors it reads and the `output`
    it writes, and raises RefusedError where the step does not fit.
    """

    def __init__(
        self, input_tensor: str, input_shape: Shape, uses: Mapping[str, int], *, flat: bool = False
    ) -> None:
        self._uses = uses
        self._layers: dict[str, Layer] = {}
        self._shapes: dict[str, Shape] = {INPUT: input_shape}
        # the tensor that holds a layer's output as it is now, with all its readers; None where
        # the layer must stay as it is
        self._tip: dict[str, str | None] = {INPUT: input_tensor}
        _check_size(input_shape, "the input")
        self._values: dict[str, _Value] = {input_tensor: _Value(INPUT, input_shape, flat)}
        self._grids: dict[str, Grid] = {}
        self._input_gain, self._input_shift = 1.0, 0.0
        self._notes: dict[str, None] = {}
        self._folded = 0
        self._structural = 0

    def note(self, text: str) -> None:
        """Say of the import what a person must know; once, however often it is said."""
        self._notes[text] = None

    def grid(self, tensor: str) -> Grid | None:
        """The grid that a tensor is on, if its file has put it on one."""
        return self._grid_of(self._value(tensor).layer)

    def knows(self, tensor: str) -> bool:
        """Whether a step has written this tensor, or it is the input."""
        return tensor in self._values

    def shape(self, tensor: str) -> Shape:
        """(C, H, W) of a tensor; of a flattened one, the shape before."""
        return self._value(tensor).shape

    def is_flat(self, tensor: str) -> bool:
        """Whether the file sees this tensor as (N, features)."""
        return self._value(tensor).flat

    def is_positive(self, tensor: str) -> bool:
        """Whether no value of a tensor can be below 0, as far as layers and grids tell."""
        return self._is_positive(self._value(tensor).layer)

    def conv(
        self,
        name: str,
        x: str,
        output: str,
        weight: Floats,
        bias: Floats | None = None,
        *,
        stride: Pair = (1, 1),
        padding: Padding = NO_PADDING,
        groups: int = 1,
        kept: KeptWeights | None = None,
    ) -> None:
        """Convolution; weight float32 (C_out, C_in / groups, kh, kw), bias (C_out,).

        `kept`: the integers that weight is made of, of its shape.
        """
        value, extra = self._padded(x)
        if value.flat:
            raise RefusedError("a convolution of flattened features", "rows and columns")
        self._emit_conv(
            name,
            value,
            output,
            weight,
            bias,
            stride=stride,
            padding=_sum(padding, extra),
            groups=groups,
            kept=kept,
        )

    def dense(
        self,
        name: str,
        x: str,
        output: str,
        weight: Floats,
        bias: Floats | None = None,
        *,
        kept: KeptWeights | None = None,
    ) -> None:
        """Dense layer on flattened features; weight float32 (C_out, features).

        `kept`: the integers that weight is made of, of its shape.
        """
        value = self._values[x] if self._value(x).affine is not None else self._plain(x)
        features = math.prod(value.shape)
        if not value.flat and value.shape[1:] != (1, 1):
            raise RefusedError(f"a dense layer on {value.shape}", "a flatten before it")
        if weight.ndim != 2 or weight.shape[1] != features:
            raise RefusedError(f"weight {weight.shape}", f"(outputs, {features} features)")
        if value.affine is not None:
            gain, shift = value.affine
            wide = weight.astype(np.float64)
            offset = wide @ shift
            bias = _float32(offset if bias is None else offset + bias)
            weight = _float32(wide * gain)
            if kept is not None and bool((gain == gain[0]).all()):
                kept = _scaled(kept, np.broadcast_to(gain[0], len(weight)))
            elif kept is not None:
                kept = None
                self.note(f"{name}: a gain of each input: its integer weights could not be kept")
        kernel = weight.reshape(-1, *value.shape)
        if kept is not None:
            kept = replace(kept, levels=kept.levels.reshape(kernel.shape))
        plain = replace(value, affine=None)
        self._emit_conv(name, plain, output, kernel, bias, flat=True, kept=kept)

    def scale(self, name: str, x: str, output: str, gain: Vector, shift: Vector) -> None:
        """Compute x * gain + shift: one value, one a channel or, after a flatten, one a feature."""
        value = self._value(x)
        channels, features = value.shape[0], math.prod(value.shape)
        full = features if value.flat else channels
        if any(part.ndim != 1 or part.size not in (1, full) for part in (gain, shift)):
            raise RefusedError(f"constants {gain.shape} and {shift.shape}", f"one, or {full}")
        gain, shift = (np.broadcast_to(part, full).astype(np.float64) for part in (gain, shift))
        if value.affine is None:
            by_channel = [part.reshape(channels, -1) for part in (gain, shift)]
            if all(bool((part == part[:, :1]).all()) for part in by_channel):
                self._scale_channels(name, x, output, by_channel[0][:, 0], by_channel[1][:, 0])
                return
            value = self._plain(x)
        else:
            gain, shift = value.affine[0] * gain, value.affine[1] * gain + shift
        self._tip[value.layer] = None
        self._values[output] = replace(value, affine=(gain, shift))

    def batchnorm(
        self,
        name: str,
        x: str,
        output: str,
        scale: Floats,
        shift: Floats,
        mean: Floats,
        variance: Floats,
        *,
        epsilon: float,
    ) -> None:
        """Compute scale * (x - mean) / sqrt(variance + epsilon) + shift, per channel."""
        parts = (scale, shift, mean, variance)
        if not scale.size or any(part.shape != (scale.size,) for part in parts):
            raise RefusedError(f"{[part.shape for part in parts]}", "four vectors of one length")
        spread = variance.astype(np.float64) + epsilon
        if spread.min() <= 0:
            raise RefusedError(f"variance + epsilon of {spread.min():g}", "above 0")
        gain = scale / np.sqrt(spread)
        self.scale(name, x, output, gain, shift - mean * gain)

    def clamp(self, name: str, x: str, output: str, low: float, high: float) -> None:
        """Clamp to [low, high], which must hold 0."""
        if not low <= 0 <= high:
            raise RefusedError(f"a clamp to [{low:g}, {high:g}]", "a range that holds 0")
        value = self._plain(x)
        if self._clamped_grid(value.layer, low, high):
            self._rename(value, output)
            return
        target = self._clamp_target(value.layer)
        if target is None:
            value = self._emit_identity(name, value, x)
            target = value.layer
        layer = self._layers[target]
        assert isinstance(layer, Conv)
        before = layer.activation
        limits = Activation(
            min(max(before.low, low), high) + 0.0, min(max(before.high, low), high) + 0.0
        )
        self._layers[target] = replace(layer, activation=limits)
        self._rename(value, output)

    def pool(
        self,
        name: str,
        x: str,
        output: str,
        kind: Literal["max", "average"],
        kernel: Pair,
        *,
        stride: Pair,
        padding: Padding = NO_PADDING,
    ) -> None:
        """Max or average pool; an average counts padding as zeros."""
        if any(p >= k for p, k in zip(padding, kernel * 2, strict=True)):
            raise RefusedError(f"padding {padding}", f"less than the {kernel} window")
        value, extra = self._padded(x) if kind == "average" else (self._plain(x), NO_PADDING)
        if value.flat:
            raise RefusedError("a pool of flattened features", "rows and columns")
        pool = Pool(self._free_name(name), value.layer, kind, kernel, stride, _sum(padding, extra))
        self._emit(pool, output)

    def global_average(self, name: str, x: str, output: str, *, flat: bool = False) -> None:
        """Mean over rows and columns; `flat`: the file drops those two axes."""
        value = self._plain(x)
        if value.flat:
            raise RefusedError("a global pool of flattened features", "rows and columns")
        if value.shape[1:] == (1, 1):
            self.alias(x, output, flat=flat)
            return
        kernel = value.shape[1:]
        self._emit(
            Pool(self._free_name(name), value.layer, "average", kernel, (1, 1)), output, flat=flat
        )

    def add(self, name: str, x: str, other: str, output: str) -> None:
        """Sum of two tensors of one shape."""
        a, b = self._plain(x), self._plain(other)
        if a.shape != b.shape or a.flat != b.flat:
            raise RefusedError(f"a sum of {a.shape} and {b.shape}", "two tensors of one shape")
        order = list(self._layers)
        taker = max(
            (pair for pair in ((a, b), (b, a)) if self._takes_residual(pair[0].layer)),
            # a real convolution rounds once for both; among two, the later one need not move
            key=lambda pair: (
                not _structural(self._layers[pair[0].layer]),
                order.index(pair[0].layer),
            ),
            default=None,
        )
        if taker is None:
            taker = (self._emit_identity(name, a, x), b)
        into, residual = taker
        order = list(self._layers)
        conv = self._layers[into.layer]
        assert isinstance(conv, Conv)
        if residual.layer != INPUT and order.index(residual.layer) > order.index(into.layer):
            del self._layers[into.layer]  # nothing but this sum reads it, so it may run later
        self._layers[into.layer] = replace(
            conv, residual=residual.layer, before_residual=self._grids.pop(into.layer, None)
        )
        self._rename(into, output)

    def quantize(self, name: str, x: str, output: str, grid: Grid) -> None:
        """From here on the tensor holds only values of this grid."""
        _check_grid(grid)
        value = self._value(x)
        before = self._grid_of(value.layer)
        if before is not None and _holds(grid, before) and value.affine is None:
            self.alias(x, output)
            return
        value = self._plain(x)
        target = self._grid_target(value.layer)
        if target is None:
            value = self._emit_identity(name, value, x)
            target = value.layer
        self._grids[target] = self._narrowed(target, grid)
        self._rename(value, output)

    def flatten(self, x: str, output: str) -> None:
        """(N, C, H, W) to (N, features), channels outermost; the data do not move."""
        self.alias(x, output, flat=True)

    def alias(self, x: str, output: str, *, flat: bool | None = None) -> None:
        """Another name for a tensor, perhaps seen flattened (True) or not (False)."""
        value = self._value(x)
        if flat is not None:
            value = replace(value, flat=flat)
        if value.move is None and self._only_reader(value.layer):
            self._tip[value.layer] = output
        self._values[output] = value

    def pad(self, name: str, x: str, output: str, padding: Padding) -> None:
        """Rows and columns of zeros at the top, left, bottom and right."""
        value = self._value(x)
        if value.flat or value.affine is not None:
            raise RefusedError("padding of flattened features", "rows and columns")
        if value.move is not None and value.move.stride != (1, 1):
            value = self._plain(x)
        move = value.move or _Move(name, tuple(range(value.shape[0])))
        self._moved(value, output, replace(move, name=name, padding=_sum(move.padding, padding)))

    def select(
        self,
        name: str,
        x: str,
        output: str,
        *,
        stride: Pair = (1, 1),
        channels: tuple[int, ...] | None = None,
    ) -> None:
        """Every stride-th row and column from the first, and these channels (-1: zeros)."""
        value = self._value(x)
        if value.flat or value.affine is not None:
            raise RefusedError("a selection of flattened features", "rows and columns")
        if value.move is not None and value.move.padding != NO_PADDING and stride != (1, 1):
            value = self._plain(x)
        move = value.move or _Move(name, tuple(range(value.shape[0])))
        kept = move.channels
        if channels is not None:
            kept = tuple(move.channels[c] if c >= 0 else -1 for c in channels)
        steps = (move.stride[0] * stride[0], move.stride[1] * stride[1])
        self._moved(value, output, replace(move, name=name, channels=kept, stride=steps))

    def finish(self, output: str, *, name: str, source: str, sha256: str) -> Model:
        """The model whose output is this tensor."""
        self._plain(output)
        if not self._layers:
            raise RefusedError("a network that only passes its input on", "one layer or more")
        return Model(
            name,
            self._shapes[INPUT],
            tuple(self._layers.values()),
            source,
            sha256,
            grids=self._grids,
            input_gain=self._input_gain,
            input_shift=self._input_shift,
            notes=tuple(self._notes),
        )

    def _value(self, tensor: str) -> _Value:
        if tensor not in self._values:
            raise RefusedError(f"tensor {tensor!r}, which nothing wrote", "a tensor written before")
        return self._values[tensor]

    def _plain(self, tensor: str) -> _Value:
        """The tensor as a layer's own output; writes the layer for a move that is pending."""
        value = self._value(tensor)
        if value.affine is not None:
            raise RefusedError(
                "a scale of each flattened feature that no dense layer follows",
                "the flatten, the scale, and then a dense layer",
            )
        if value.move is None:
            return value
        move = value.move
        c_in, c_out = self._shapes[value.layer][0], len(move.channels)
        if move.channels == tuple(range(c_in)):
            self._count_structural(c_in)
            weight, groups = np.ones((c_in, 1, 1, 1), np.float32), c_in
        else:
            self._count_structural(c_out * c_in)
            weight, groups = np.zeros((c_out, c_in, 1, 1), np.float32), 1
            for row, source in enumerate(move.channels):
                if source >= 0:
                    weight[row, source] = 1.0
        return self._emit_conv(
            move.name,
            replace(value, move=None),
            tensor,
            weight,
            stride=move.stride,
            padding=move.padding,
            groups=groups,
            structural=True,
            flat=value.flat,
        )

    def _padded(self, tensor: str) -> tuple[_Value, Padding]:
        """The tensor, and zero padding that the window reading it may take over."""
        value = self._value(tensor)
        move = value.move
        if move is None or move.stride != (1, 1):
            return self._plain(tensor), NO_PADDING
        if move.channels != tuple(range(self._shapes[value.layer][0])):
            return self._plain(tensor), NO_PADDING
        shape = self._shapes[value.layer]
        return replace(value, move=None, shape=shape), move.padding

    def _moved(self, value: _Value, output: str, move: _Move) -> None:
        _, height, width = self._shapes[value.layer]
        top, left, bottom, right = move.padding
        shape = (
            len(move.channels),
            (height + top + bottom - 1) // move.stride[0] + 1,
            (width + left + right - 1) // move.stride[1] + 1,
        )
        _check_size(shape, "a moved tensor")
        # from here on another layer may read this one's output without a tensor of the file
        self._tip[value.layer] = None
        self._values[output] = replace(value, shape=shape, move=move)

    def _rename(self, value: _Value, output: str) -> None:
        """The step was folded into value's layer: `output` is now that layer's tensor."""
        self._tip[value.layer] = output
        self._values[output] = value

    def _is_positive(self, name: str) -> bool:
        while True:
            grid, layer = self._grids.get(name), self._layers.get(name)
            if grid is not None and grid.low >= grid.zero:
                return True
            if isinstance(layer, Conv):
                if layer.activation.low >= 0 or layer.residual is not None:
                    return layer.activation.low >= 0
                if not ((layer.weight >= 0).all() and (layer.bias >= 0).all()):
                    return False
            if layer is None:
                return False
            name = layer.input

    def _only_reader(self, layer: str) -> bool:
        tip = self._tip[layer]
        return tip is not None and self._uses.get(tip) == 1

    def _grid_of(self, layer: str) -> Grid | None:
        """A layer's grid; where it only moves values, that of what it reads."""
        while layer not in self._grids:
            found = self._layers.get(layer)
            if found is None or not moves_only(found):
                return None
            layer = found.input
        return self._grids[layer]

    def _grid_target(self, layer: str) -> str | None:
        """The layer that a grid of this one's output belongs to, if it may still be changed.

        A maximum and a rounding may change places, both being monotonic.
        """
        if self._grid_of(layer) is not None:
            return None
        while self._only_reader(layer):
            found = self._layers.get(layer)
            if not isinstance(found, Pool) or found.kind == "average":
                return layer
            layer = found.input
        return None

    def _narrowed(self, layer: str, grid: Grid) -> Grid:
        """The grid without the codes that the layer's clamp never reaches.

        Where a ReLU ends at the zero point, what lies below it needs no storage.
        """
        found = self._layers.get(layer)
        if not isinstance(found, Conv) or found.activation == LINEAR:
            return grid
        bounds = np.array([found.activation.low, found.activation.high])
        low, high = grid.codes(bounds)
        return replace(grid, low=int(low), high=int(high)) if low < high else grid

    def _clamped_grid(self, layer: str, low: float, high: float) -> bool:
        """Whether the layer has a grid of which a clamp only leaves codes out; it has then."""
        grid = self._grids.get(layer)
        if grid is None or not self._only_reader(layer) or layer == INPUT:
            return False
        bounds = [limit / grid.scale + grid.zero for limit in (low, high)]
        lowest, highest = max(bounds[0], grid.low), min(bounds[1], grid.high)
        if not (float(lowest).is_integer() and float(highest).is_integer()):
            return False
        self._grids[layer] = replace(grid, low=int(lowest), high=int(highest))
        return True

    def _clamp_target(self, layer: str) -> str | None:
        while self._only_reader(layer) and layer != INPUT and layer not in self._grids:
            found = self._layers[layer]
            if isinstance(found, Conv):
                return layer
            if found.kind == "average":
                return None
            layer = found.input
        return None

    def _takes_residual(self, layer: str) -> bool:
        conv = self._layers.get(layer)
        return (
            isinstance(conv, Conv)
            and conv.activation == LINEAR
            and conv.residual is None
            and self._only_reader(layer)
        )

    def _scale_channels(self, name: str, x: str, output: str, gain: Vector, shift: Vector) -> None:
        value = self._plain(x)
        if self._scaled_input(value, gain, shift):
            self._rename(value, output)
            return
        conv = self._layers.get(value.layer)
        keeps_weights = bool((gain == 1.0).all())
        if (
            isinstance(conv, Conv)
            and conv.activation == LINEAR
            and value.layer not in self._grids
            and self._only_reader(value.layer)
            and (keeps_weights or (conv.residual is None and not conv.structural))
        ):
            weight, kept = conv.weight, conv.kept
            if not keeps_weights:
                self._folded += weight.size
                if self._folded > MAX_FOLDED:
                    raise RefusedError("weights scaled again and again", f"{MAX_FOLDED} at most")
                weight = _float32(conv.weight.astype(np.float64) * gain[:, None, None, None])
                kept = None if kept is None else _scaled(kept, gain)
            bias = _float32(conv.bias.astype(np.float64) * gain + shift)
            self._layers[value.layer] = replace(conv, weight=weight, bias=bias, kept=kept)
            self._rename(value, output)
            return
        weight = _float32(gain).reshape(-1, 1, 1, 1)
        self._emit_conv(
            name, value, output, weight, _float32(shift), groups=len(gain), flat=value.flat
        )

    def _scaled_input(self, value: _Value, gain: Vector, shift: Vector) -> bool:
        """Whether the input itself may take the scaling over; it has then.

        Only before the first grid, and only one gain above 0 for all channels: what stores the
        image then stores the scaled one, and no layer is needed.
        """
        alike = bool((gain == gain[0]).all() and (shift == shift[0]).all())
        if value.layer != INPUT or not self._only_reader(INPUT) or not alike or gain[0] <= 0:
            return False
        if INPUT in self._grids or not np.isfinite([gain[0], shift[0]]).all():
            return False
        self._input_gain *= float(gain[0])
        self._input_shift = self._input_shift * float(gain[0]) + float(shift[0])
        return True

    def _emit_identity(self, name: str, value: _Value, tensor: str) -> _Value:
        """A structural copy of a value, which nothing else reads; the tensor keeps its value."""
        channels = value.shape[0]
        self._count_structural(channels)
        weight = np.ones((channels, 1, 1, 1), np.float32)
        before = self._values[tensor]
        copy = self._emit_conv(
            name, value, tensor, weight, groups=channels, structural=True, flat=value.flat
        )
        self._values[tensor] = before
        return copy

    def _emit_conv(
        self,
        name: str,
        value: _Value,
        output: str,
        weight: Floats,
        bias: Floats | None = None,
        *,
        stride: Pair = (1, 1),
        padding: Padding = NO_PADDING,
        groups: int = 1,
        structural: bool = False,
        flat: bool = False,
        kept: KeptWeights | None = None,
    ) -> _Value:
        if weight.ndim != 4 or weight.size == 0:
            raise RefusedError(f"weight {weight.shape}", "(C_out, C_in / groups, kh, kw)")
        if groups < 1:
            raise RefusedError(f"{groups} groups", "1 or more")
        if bias is None:
            bias = np.zeros(len(weight), np.float32)
        if bias.shape != (len(weight),):
            raise RefusedError(f"bias {bias.shape}", f"({len(weight)},)")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise RefusedError("a weight or bias that is not finite", "finite float32")
        layer = Conv(
            self._free_name(name),
            value.layer,
            np.ascontiguousarray(weight, np.float32),
            np.ascontiguousarray(bias, np.float32),
            stride,
            padding,
            groups,
            structural=structural,
            kept=kept,
        )
        return self._emit(layer, output, flat=flat)

    def _emit(self, layer: Layer, output: str, *, flat: bool = False) -> _Value:
        if min(layer.padding) < 0 or min(layer.stride) < 1:
            raise RefusedError(
                f"padding {layer.padding}, stride {layer.stride}", "padding 0 or more, stride 1"
            )
        if isinstance(layer, Pool) and min(layer.kernel) < 1:
            raise RefusedError(f"a window of {layer.kernel}", "one row and column or more")
        try:
            shape = layer_output_shape(layer, self._shapes[layer.input])
        except ValueError as error:
            raise RefusedError(str(error), "a window and channels that fit") from error
        _check_size(shape, f"layer {layer.name!r}")
        self._layers[layer.name] = layer
        self._shapes[layer.name] = shape
        self._tip[layer.name] = output
        self._values[output] = _Value(layer.name, shape, flat)
        return self._values[output]

    def _count_structural(self, weights: int) -> None:
        """Before they are made."""
        self._structural += weights
        if self._structural > MAX_STRUCTURAL:
            found = f"{self._structural} weights that only move data"
            raise RefusedError(found, f"at most {MAX_STRUCTURAL}")

    def _free_name(self, name: str) -> str:
        """A short printable name that no layer has, for the tables that people read."""
        cleaned = "".join(c if c.isprintable() and not c.isspace() else "_" for c in name)
        stem = cleaned[-MAX_NAME:] or "layer"
        free, number = stem, 1
        while free == INPUT or free in self._layers:
            number += 1
            free = f"{stem}_{number}"
        return free


def _scaled(kept: KeptWeights, gain: Vector) -> KeptWeights:
    """The integers of weights times a gain (C_out,): its size goes to the scale, its sign stays."""
    signs = np.sign(gain).astype(np.int16).reshape(-1, *[1] * (kept.levels.ndim - 1))
    return KeptWeights(kept.levels * signs, kept.scale * np.abs(gain))


def _check_grid(grid: Grid) -> None:
    if not (math.isfinite(grid.scale) and grid.scale > 0 and math.isfinite(grid.zero)):
        raise RefusedError(
            f"scale {grid.scale:g}, zero point {grid.zero:g}", "a finite scale above 0"
        )
    if not grid.low <= grid.zero <= grid.high or grid.low >= grid.high:
        raise RefusedError(
            f"codes {grid.low} to {grid.high}, zero point {grid.zero:g}", "a range with its zero"
        )


def _holds(grid: Grid, values: Grid) -> bool:
    """Whether a grid changes nothing of values that are on another one."""
    offset = float(grid.zero - values.zero)
    if grid.scale != values.scale or not offset.is_integer():
        return False
    return grid.low <= values.low + offset and values.high + offset <= grid.high


def _structural(layer: Layer) -> bool:
    return isinstance(layer, Conv) and layer.structural


def _sum(a: Padding, b: Padding) -> Padding:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])


def _float32(values: Vector) -> Floats:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise RefusedError("a folded weight that is not finite in float32", "finite weights")
    return narrow


def _check_size(shape: Shape, what: str) -> None:
    if min(shape) < 1:
        raise RefusedError(f"{what} of shape {shape}", "no empty side")
    if math.prod(shape) > MAX_ELEMENTS:
        raise RefusedError(f"{what} of {math.prod(shape)} values", f"at most {MAX_ELEMENTS}")
