"""The float model: named layers in an order that can be executed.

Two kinds of layer are enough, as in `arith.network`: importers fold BatchNorm and activations
into convolutions, turn a dense layer after a flatten into a convolution whose kernel is its whole
input, and write a residual add that cannot be fused as a depthwise 1x1 convolution of ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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

    Raises:
        ValueError: shapes or names do not fit together (importers name the file).
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]
    source: str = ""
    source_sha256: str = ""

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a model needs at least one layer")
        _ = self.shapes

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
