"""The float model: named layers in an order that can be executed.

Two kinds of layer are enough, as in `arith.network`: importers fold BatchNorm and activations
into convolutions, turn a dense layer after a flatten into a convolution whose kernel is its whole
input, and write a residual add that cannot be fused as a depthwise 1x1 convolution of ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import Padding, Shape, window_positions

INPUT = "input"
"""The name of the network's input tensor; every other tensor has its layer's name."""


@dataclass(frozen=True)
class Activation:
    """Clamp to [low, high]: none, ReLU (0, inf), ReLU6 (0, 6) or any Clip that holds 0."""

    low: float = -math.inf
    high: float = math.inf


LINEAR = Activation()
RELU = Activation(0.0)


Rounding = Literal["half-even", "half-up", "half-away", "half-away-code", "floor", "ceil"]
"""What becomes of a value between two codes; ties go away from the value 0 or from the code 0."""


@dataclass(frozen=True)
class Grid:
    """How the file stores a tensor: value = (q - zero) * scale, q a whole number in low..high.

    A file that was quantized by another tool says so of its activations. A bipolar tensor (+-s) is
    the grid of scale 2 s, zero 0.5, codes 0 and 1, rounded half up.

    Attributes:
        scale: above 0.
        zero: the code of the value 0; need not be whole.
        low: smallest code.
        high: largest code.
        rounding: what becomes of values between two codes.
    """

    scale: float
    zero: float
    low: int
    high: int
    rounding: Rounding = "half-even"

    def codes(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Whole numbers (as float64) of values of any shape, rounded and clamped."""
        # the tools divide in float32, which rounds the noise of float32 sums away: a mean that lies
        # between two codes is a tie again
        step = values.dtype.type(self.scale)
        if float(step) == self.scale:
            with np.errstate(over="ignore"):
                ratio = (values / step).astype(np.float64)
        else:
            ratio = values.astype(np.float64) / self.scale
        # a whole zero is added after rounding, as every tool does: ties to even are ties of the
        # value, not of the code
        whole = float(self.zero).is_integer() and self.rounding != "half-away-code"
        rounded = round_as(self.rounding, ratio if whole else ratio + self.zero)
        if whole:
            rounded = rounded + self.zero
        return np.clip(rounded, self.low, self.high)

    def snap(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """The nearest values (float32) that the grid holds."""
        snapped = (self.codes(values) - self.zero) * self.scale
        return snapped.astype(np.float32)


def round_as(rounding: Rounding, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Whole numbers of values of any shape."""
    if rounding == "half-even":
        return np.rint(values)
    if rounding == "half-up":
        return np.floor(values + 0.5)
    if rounding in ("half-away", "half-away-code"):
        return np.trunc(values + np.copysign(0.5, values))
    return np.floor(values) if rounding == "floor" else np.ceil(values)


@dataclass(frozen=True, eq=False)
class KeptWeights:
    """Weights that the file holds as integers: weight = level * scale, exactly those.

    Attributes:
        levels: int16 of the weight's shape, -32767 to 32767; zero points are subtracted already.
        scale: float64 (C_out,), 0 or above.
    """

    levels: npt.NDArray[np.int16]
    scale: npt.NDArray[np.float64]

    @property
    def weight(self) -> npt.NDArray[np.float32]:
        """float32 weights of the same shape."""
        scale = self.scale.reshape(-1, *[1] * (self.levels.ndim - 1))
        return (self.levels * scale).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Conv:
    """Convolution, dense layer or residual add, then bias, residual and activation in that order.

    Attributes:
        name: unique in the model; also the name of the output tensor.
        input: name of the input tensor.
        weight: float32 (C_out, C_in / groups, kh, kw).
        bias: float32 (C_out,).
        residual: name of a tensor of the output's shape, added before the activation.
        structural: the weights are zeros and ones that only move data (an identity, a channel
            selection): never pruned, never counted as weights.
        kept: the integers that `weight` was made from, where the file has them.
        before_residual: grid on which the file puts the sum before the residual is added. The
            accelerator rounds once, after it (docs/decisions/0001).
    """

    name: str
    input: str
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    groups: int = 1
    activation: Activation = LINEAR
    residual: str | None = None
    structural: bool = False
    kept: KeptWeights | None = None
    before_residual: Grid | None = None


@dataclass(frozen=True, eq=False)
class Pool:
    """Max or average pool; an average counts padding as zeros in its divisor."""

    name: str
    input: str
    kind: Literal["max", "average"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = (0, 0, 0, 0)


Layer = Conv | Pool


@dataclass(frozen=True)
class Normalization:
    """From stored pixels to the float input: (pixel / pixel_max - mean[c]) / std[c].

    `mean` and `std` hold one value, or one a channel.
    """

    pixel_max: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def apply(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Float input (N, C, H, W) of uint8 images (N, C, H, W)."""
        mean = np.asarray(self.mean, np.float32).reshape(1, -1, 1, 1)
        std = np.asarray(self.std, np.float32).reshape(1, -1, 1, 1)
        pixels = images.astype(np.float32) / np.float32(self.pixel_max)
        result: npt.NDArray[np.float32] = (pixels - mean) / std
        return result


@dataclass(frozen=True, eq=False)
class Model:
    """A float network. The last layer's output is the network's.

    Attributes:
        name: for people, usually the file's stem.
        input_shape: (C, H, W).
        layers: each reads INPUT or layers before it.
        source: the file it came from.
        source_sha256: hex digest of that file.
        grids: by tensor name, how the file stores it; a float network has none.
        input_gain: the network reads input * input_gain + input_shift, one number each (a file
            that scales its input itself, before the first grid). The tensor INPUT is the result.
        input_shift: likewise.
        notes: what a person must know of the import: what was left out, what could not be kept.

    Raises:
        ValueError: shapes or names do not fit together (importers name the file).
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]
    source: str = ""
    source_sha256: str = ""
    grids: Mapping[str, Grid] = field(default_factory=dict)
    input_gain: float = 1.0
    input_shift: float = 0.0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a model needs at least one layer")
        unknown = [name for name in self.grids if name not in self.shapes]
        if unknown:
            raise ValueError(f"a grid for {unknown[0]!r}, which is no tensor")

    @property
    def is_quantized(self) -> bool:
        """Whether the file holds integers of its own, in weights or activations."""
        return bool(self.grids) or any(
            isinstance(layer, Conv) and layer.kept is not None for layer in self.layers
        )

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every tensor by name, INPUT first."""
        shapes: dict[str, Shape] = {INPUT: self.input_shape}
        for layer in self.layers:
            if layer.name in shapes:
                raise ValueError(f"layer {layer.name!r}: the name is taken")
            if layer.input not in shapes:
                raise ValueError(f"layer {layer.name!r}: input {layer.input!r} is not known yet")
            shape = layer_output_shape(layer, shapes[layer.input])
            if isinstance(layer, Conv):
                if layer.bias.shape != (shape[0],):
                    raise ValueError(
                        f"layer {layer.name!r}: bias {layer.bias.shape}, not ({shape[0]},)"
                    )
                if layer.residual is not None and shapes.get(layer.residual) != shape:
                    raise ValueError(
                        f"layer {layer.name!r}: residual {layer.residual!r} is "
                        f"{shapes.get(layer.residual)}, not {shape}"
                    )
            shapes[layer.name] = shape
        return shapes

    @property
    def output_shape(self) -> Shape:
        """Shape of the last layer's output."""
        return self.shapes[self.layers[-1].name]

    def in_floats(self) -> Model:
        """The same weights as floats alone: nothing of what the file has quantized is kept.

        Except what a grid does beside rounding: it clips. One whose lowest code is 0 is a ReLU,
        which tools leave out of a file where the grid does it, and one around 0 may be the only
        nonlinearity that a network of few bits has. What the last layer gives is not clipped.
        """
        return replace(self, layers=tuple(map(self._in_floats, self.layers)), grids={})

    def _in_floats(self, layer: Layer) -> Layer:
        if not isinstance(layer, Conv):
            return layer
        grid, activation = self.grids.get(layer.name), layer.activation
        if grid is not None and (grid.low == grid.zero or layer is not self.layers[-1]):
            low, high = ((code - grid.zero) * grid.scale for code in (grid.low, grid.high))
            activation = Activation(max(activation.low, low), min(activation.high, high))
        return replace(layer, activation=activation, kept=None, before_residual=None)


def moves_only(layer: Layer) -> bool:
    """Whether a layer only moves values, so that its output keeps its input's format exactly.

    A max pool, or a structural convolution that adds and clamps nothing: the subsampled shortcut
    of a residual network must not lose a bit on its way.
    """
    if isinstance(layer, Pool):
        return layer.kind == "max"
    return (
        layer.structural
        and layer.residual is None
        and layer.activation == LINEAR
        and not layer.bias.any()
        and int(np.count_nonzero(layer.weight, axis=(1, 2, 3)).max()) <= 1
    )


def layer_output_shape(layer: Layer, shape: Shape) -> Shape:
    """Shape of a layer's output.

    Raises:
        ValueError: naming the layer, when the window or the channels do not fit.
    """
    channels, height, width = shape
    if isinstance(layer, Conv):
        c_out, c_in, kh, kw = layer.weight.shape
        if c_in * layer.groups != channels or c_out % layer.groups:
            raise ValueError(
                f"layer {layer.name!r}: weight {layer.weight.shape} in {layer.groups} groups "
                f"does not fit {channels} input channels"
            )
    else:
        c_out, (kh, kw) = channels, layer.kernel
    try:
        places = window_positions((height, width), (kh, kw), layer.stride, layer.padding)
    except ValueError as error:
        raise ValueError(f"layer {layer.name!r}: {error}") from error
    return c_out, *places
