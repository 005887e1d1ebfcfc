"""A model's layers as torch functions, in float or rounded exactly as a quantized model rounds.

Rounding passes gradients straight through (Bengio et al. 2013, arXiv 1308.3432), cut off where a
value is clamped. Weights are kept in units of the rms weight of their output channel: folding a
BatchNorm gives channels very different sizes, and a step should mean the same to all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from bacmac.host.arith.network import ConvOp, PoolOp
from bacmac.host.arith.schemes import SCHEMES, Levels
from bacmac.host.model.layers import INPUT, LINEAR, RELU, Activation, Conv, Grid, Model, Pool
from bacmac.host.model.quantized import ActivationFormat, QuantizedModel
from bacmac.host.quantize.weights import relative_squared_error

Masks = Mapping[str, npt.NDArray[np.bool_]]


HALF = 0.5 + 2.0**-11
"""A tie of the integers goes up; float32 sums may lie a little below it. Pure shifts meet many."""


class _Snap(torch.autograd.Function):  # type: ignore[misc]
    """To the nearest of the values scale * (low..high), half up as the accelerator does it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, low: int, high: int) -> Tensor:
        steps = torch.floor(x * (1.0 / scale) + HALF)
        ctx.save_for_backward((steps >= low) & (steps <= high))
        return steps.clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


class _Level(torch.autograd.Function):  # type: ignore[misc]
    """To the nearest level of a scheme; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, ratio: Tensor, levels: Tensor, borders: Tensor) -> Tensor:
        del ctx
        return levels[torch.bucketize(ratio.contiguous(), borders)]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        del ctx
        return gradients[0], None, None


class Network:
    """A network whose weights and biases can be trained.

    Args:
        model: its layers; weights start from here, or from `quantized`.
        quantized: made of `model`; its scales, formats and clamps are kept, and its levels are
            where training starts. None: a float network.
        masks: weights that may differ from zero, by layer.

    Attributes:
        parameters: what is trained, by "layer.weight" and "layer.bias"; leaves of torch's graph.
        masks: float tensors of 0 and 1 by layer.
    """

    def __init__(
        self,
        model: Model,
        quantized: QuantizedModel | None = None,
        masks: Masks | None = None,
    ) -> None:
        self.model = model
        self.quantized = quantized
        self.masks = {name: _float(mask) for name, mask in (masks or {}).items()}
        self.parameters: dict[str, Tensor] = {}
        self._units: dict[str, Tensor] = {}
        self._fixed: dict[str, Tensor] = {}
        self._formats = {} if quantized is None else _formats(model, quantized)
        self._levels: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        for index, layer in enumerate(model.layers):
            if isinstance(layer, Pool):
                continue
            weight, bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
            if quantized is not None:
                found = quantized.layers[index]
                op = found.op
                assert isinstance(op, ConvOp)
                scale = found.weight_scale
                weight = op.levels * scale[:, None, None, None]
                bias = op.bias * (scale * self._formats[layer.input].scale)
                if not layer.structural:
                    levels = _float(SCHEMES[found.scheme].levels)
                    borders = (levels[1:] + levels[:-1]) / 2
                    self._levels[layer.name] = (_float(scale[:, None, None, None]), levels, borders)
            if layer.structural:
                self._fixed[f"{layer.name}.weight"] = _float(weight)
                self._fixed[f"{layer.name}.bias"] = _float(bias)
                continue
            unit = np.sqrt(np.mean(weight**2, axis=(1, 2, 3), keepdims=True))
            self._add(f"{layer.name}.weight", weight, np.where(unit > 0, unit, 1.0))
            middle = np.sqrt(np.mean(bias**2))
            self._add(f"{layer.name}.bias", bias, np.array(middle if middle > 0 else 1.0))

    def _add(self, name: str, values: npt.NDArray[np.float64], unit: Any) -> None:
        self.parameters[name] = _float(values / unit).requires_grad_()
        self._units[name] = _float(unit)

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the layers with weights, in order."""
        return tuple(
            layer.name
            for layer in self.model.layers
            if isinstance(layer, Conv) and not layer.structural
        )

    def weight(self, name: str) -> Tensor:
        """(C_out, C_in / groups, kh, kw) as the forward pass uses it: pruned, rounded."""
        if f"{name}.weight" in self._fixed:
            return self._fixed[f"{name}.weight"]
        weight = self.parameters[f"{name}.weight"] * self._units[f"{name}.weight"]
        if name in self._levels:
            scale, levels, borders = self._levels[name]
            weight = _Level.apply(weight / scale, levels, borders) * scale
        return weight * self.masks[name] if name in self.masks else weight

    def bias(self, name: str) -> Tensor:
        """(C_out,) float32."""
        if f"{name}.bias" in self._fixed:
            return self._fixed[f"{name}.bias"]
        return self.parameters[f"{name}.bias"] * self._units[f"{name}.bias"]

    def values(self) -> dict[str, npt.NDArray[np.float32]]:
        """Every trained weight and bias in the model's own units, by "layer.weight" and so on."""
        values = {}
        for name in self.trained:
            values[f"{name}.weight"] = self.weight(name).detach().numpy().copy()
            values[f"{name}.bias"] = self.bias(name).detach().numpy().copy()
        return values

    def set_parameters(self, parameters: Mapping[str, Tensor]) -> None:
        """Take these values for `parameters`."""
        with torch.no_grad():
            for name, value in parameters.items():
                self.parameters[name].copy_(value)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def project(self) -> None:
        """Pull weights back to the reach of their levels, and pruned ones to zero."""
        for name, (scale, levels, _) in self._levels.items():
            reach = scale * levels[-1] / self._units[f"{name}.weight"]
            parameter = self.parameters[f"{name}.weight"]
            torch.minimum(torch.maximum(parameter, -reach, out=parameter), reach, out=parameter)
        for name, mask in self.masks.items():
            self.parameters[f"{name}.weight"].mul_(mask)

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs (N, C * H * W) of normalized images (N, C, H, W)."""
        x = x.contiguous(memory_format=torch.channels_last)
        if (self.model.input_gain, self.model.input_shift) != (1.0, 0.0):
            x = x * self.model.input_gain + self.model.input_shift
        x = self._stored(INPUT, x)
        tensors = {INPUT: x}
        for index, layer in enumerate(self.model.layers):
            if isinstance(layer, Pool):
                y = _pool(layer, tensors[layer.input])
            else:
                y = _convolve(
                    layer, tensors[layer.input], self.weight(layer.name), self.bias(layer.name)
                )
                if layer.before_residual is not None and self.quantized is None:
                    y = _on_grid(layer.before_residual, y)
                if layer.residual is not None:
                    y = y + tensors[layer.residual]
                if self.quantized is None:
                    y = _clamp(layer.activation, y)
            tensors[layer.name] = self._stored(layer.name, y, index)
        return tensors[self.model.layers[-1].name].flatten(1)

    def _stored(self, name: str, y: Tensor, index: int | None = None) -> Tensor:
        """A tensor as it is stored: on the file's grid, or on the quantized model's; else as is."""
        if self.quantized is None:
            return _on_grid(self.model.grids[name], y) if name in self.model.grids else y
        if name not in self._formats:
            return y
        form = self._formats[name]
        low, high = form.low, form.high
        if index is not None:
            how = self.quantized.layers[index].op.requantize
            if how is None:  # a maximum, or sums that leave as they are
                return y
            low, high = how.low, how.high
        snapped: Tensor = _Snap.apply(y, form.scale, low, high)
        return snapped

    def integers(self, layer: Conv) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
        """Levels of a rounded layer, and its bias (C_out,) in units of its accumulators."""
        scale, _, _ = self._levels[layer.name]
        with torch.no_grad():
            levels = torch.round(self.weight(layer.name) / scale).numpy().astype(np.int16)
            bias = self.bias(layer.name).numpy().astype(np.float64)
        unit = scale.numpy().reshape(-1).astype(np.float64) * self._formats[layer.input].scale
        return levels, bias / unit


def recovered_model(network: Network) -> QuantizedModel:
    """The quantized model with the levels and biases that training found; all else is its own.

    Raises:
        ValueError: the network is a float one.
    """
    if network.quantized is None:
        raise ValueError("a float network has no levels")
    layers = []
    for layer, source in zip(network.quantized.layers, network.model.layers, strict=True):
        op = layer.op
        if isinstance(source, Pool) or isinstance(op, PoolOp) or source.structural:
            layers.append(layer)
            continue
        found, bias = network.integers(source)
        levels: Levels = found if op.levels.dtype == np.int16 else found.astype(np.int8)
        trained = replace(
            op,
            levels=levels,
            # as the quantizer: a clipped bias saturates its outputs
            bias=np.clip(np.rint(bias), -(1 << 30), 1 << 30).astype(np.int32),
        )
        error = relative_squared_error(
            source.weight.reshape(len(source.weight), -1).astype(np.float64),
            levels.reshape(len(levels), -1),
            layer.weight_scale,
        )
        layers.append(replace(layer, op=trained, relative_squared_error=error))
    return replace(network.quantized, layers=tuple(layers))


def _formats(model: Model, quantized: QuantizedModel) -> dict[str, ActivationFormat]:
    """Format of every stored tensor by name; of the input, after the model's gain and shift."""
    stored = quantized.input_format
    formats = {INPUT: replace(stored, scale=stored.scale * model.input_gain, zero=0.0)}
    for layer in quantized.layers:
        if layer.output is not None:
            formats[layer.name] = layer.output
    return formats


def _convolve(layer: Conv, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    top, left, bottom, right = layer.padding
    if weight.shape[2:] == x.shape[2:] and not any(layer.padding) and layer.groups == 1:
        return functional.linear(x.flatten(1), weight.flatten(1), bias)[:, :, None, None]
    if (top, left) != (bottom, right):
        x = functional.pad(x, (left, right, top, bottom))
        top = left = 0
    return functional.conv2d(
        x, weight, bias, stride=layer.stride, padding=(top, left), groups=layer.groups
    )


def _clamp(activation: Activation, y: Tensor) -> Tensor:
    if activation == LINEAR:
        return y
    # a good fifth of the time of a whole step less than clamping at infinity takes
    return y.relu() if activation == RELU else y.clamp(activation.low, activation.high)


def _pool(layer: Pool, x: Tensor) -> Tensor:
    top, left, bottom, right = layer.padding
    if layer.kind == "max":
        if any(layer.padding):
            x = functional.pad(x, (left, right, top, bottom), value=-np.inf)
        return functional.max_pool2d(x, layer.kernel, layer.stride)
    if any(layer.padding):
        x = functional.pad(x, (left, right, top, bottom))
    return functional.avg_pool2d(x, layer.kernel, layer.stride)


def _on_grid(grid: Grid, x: Tensor) -> Tensor:
    """As `Grid.snap`; the gradient passes within the grid's reach."""
    x = x.clamp((grid.low - grid.zero) * grid.scale, (grid.high - grid.zero) * grid.scale)
    ratio = x.detach() / grid.scale
    whole = float(grid.zero).is_integer() and grid.rounding != "half-away-code"
    codes = _ROUNDINGS[grid.rounding](ratio if whole else ratio + grid.zero)
    codes = (codes + grid.zero if whole else codes).clamp(grid.low, grid.high)
    return x + ((codes - grid.zero) * grid.scale - x.detach())


_ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "half-even": torch.round,
    "half-up": lambda x: torch.floor(x + 0.5),
    "half-away": lambda x: torch.trunc(x + torch.copysign(torch.tensor(0.5), x)),
    "half-away-code": lambda x: torch.trunc(x + torch.copysign(torch.tensor(0.5), x)),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


def _float(values: Any) -> Tensor:
    tensor = torch.from_numpy(np.array(values, np.float32))
    # oneDNN's faster layout for few channels
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
