"""One layer of an imported quantized network as ops of the accelerator (method: `keep`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from bacmac.host.arith.bounds import sum_bounds
from bacmac.host.arith.network import ConvOp, Requantize
from bacmac.host.arith.schemes import SCHEMES, Levels, Scheme
from bacmac.host.errors import InputError
from bacmac.host.model.layers import Activation, Conv, Grid, Rounding
from bacmac.host.model.quantized import ActivationFormat, QuantizedLayer
from bacmac.host.quantize.keep import (
    ConstantChannels,
    FittedSteps,
    Float,
    Integers,
    Steps,
    constant_channels,
    fit_steps,
    fit_steps_with_residual,
    stored_limits,
)
from bacmac.host.quantize.weights import relative_squared_error

STRUCTURAL_SCHEME = "ternary"
LEAST_SCALE = float(np.finfo(np.float32).tiny)
"""Weights of a smaller scale are zeros to every float32."""


@dataclass(frozen=True)
class Wire:
    """A tensor as a layer reads it.

    Attributes:
        number: of the tensor in the integer network.
        stored: its format, zero point included.
        limits: lowest and highest integer that it holds.
        channels: how many it has.
    """

    number: int
    stored: ActivationFormat
    limits: tuple[int, int]
    channels: int


@dataclass(frozen=True, eq=False)
class KeptLayer:
    """What a layer became.

    Attributes:
        layers: one, or two where constant channels had to be added first.
        logit_offset: float64 (C_out,) where the layer leaves int32 sums: output value = sum *
            scale + offset; else None.
        constant_channels: how many channels cannot move their output, and became a constant.
        differing: see `FittedSteps`, summed over the channels.
    """

    layers: tuple[QuantizedLayer, ...]
    logit_offset: Float | None
    constant_channels: int
    differing: int


def keep_conv(
    layer: Conv,
    levels: Levels,
    scale: Float,
    scheme: Scheme,
    source: Wire,
    target: tuple[ActivationFormat, Grid | None] | None,
    residual: Wire | None,
    *,
    free_number: int,
    file: str,
) -> KeptLayer:
    """Ops that do what the file's layer does, by its grids.

    Args:
        layer: bias, activation, geometry; its weights are given apart.
        levels: (C_out, C_in / groups, kh, kw).
        scale: (C_out,), weight = level * scale.
        scheme: holds the levels.
        source: what it reads.
        target: how its output is stored, and the file's grid for it; None leaves int32 sums.
        residual: what is added before the activation.
        free_number: of the next tensor of the integer network.
        file: for errors.

    Raises:
        InputError: padding where the file's zero point is no whole number.
    """
    used = np.where(scale >= LEAST_SCALE, scale, 0.0)
    wide = levels.astype(np.int64)
    wide[used == 0.0] = 0
    padding = _padding_channels(layer, wide, source, scheme, file)
    unit = used * source.stored.scale
    total = wide.sum(axis=(1, 2, 3))
    offset = layer.bias.astype(np.float64)
    if padding is None:
        offset = offset - unit * source.stored.zero * total
    used = np.where(used > 0, used, 1.0)
    if target is None:
        bias, how, constant, differing = np.zeros(len(wide), np.int64), None, 0, 0
    else:
        steps = _steps(layer.activation, unit, offset, target)
        fitted = _fitted(steps, wide, source, padding, target[0], residual)
        wide[fitted.constant] = 0
        bias, how = fitted.bias, fitted.requantize
        constant, differing = int(fitted.constant.sum()), int(fitted.differing.sum())
    reads = source.number
    before: tuple[QuantizedLayer, ...] = ()
    if padding is not None:
        padding.levels[~wide.any(axis=(1, 2, 3))] = 0
        before = (_with_constants(layer, source, padding),)
        reads = free_number
        wide = np.concatenate([wide, padding.levels], axis=1)
    if not scheme.has_zero and not wide.all():  # a channel became a constant
        scheme = SCHEMES[STRUCTURAL_SCHEME]
    op = ConvOp(
        input=reads,
        levels=cast(Levels, wide.astype(scheme.levels.dtype)),
        bias=bias.astype(np.int32),
        requantize=how,
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups,
        residual=None if residual is None else residual.number,
    )
    own = QuantizedLayer(
        layer.name,
        op,
        None if target is None else target[0],
        scheme.name,
        used,
        layer.structural,
        relative_squared_error(
            layer.weight.reshape(len(wide), -1).astype(np.float64),
            levels.reshape(len(wide), -1),
            scale,
        ),
    )
    return KeptLayer((*before, own), offset if target is None else None, constant, differing)


def _steps(
    activation: Activation,
    unit: Float,
    offset: Float,
    target: tuple[ActivationFormat, Grid | None],
) -> Steps:
    stored, grid = target
    low, high = (stored.low, stored.high) if grid is None else stored_limits(grid, stored)
    with np.errstate(over="ignore"):
        low = int(max(low, np.rint(activation.low / stored.scale + stored.zero)))
        high = int(min(high, np.rint(activation.high / stored.scale + stored.zero)))
    zero = int(stored.zero) if float(stored.zero).is_integer() else 0
    rounding: Rounding = "half-up" if grid is None else grid.rounding
    if grid is not None and rounding == "half-away-code":
        # ties about the file's code 0, wherever it is among the stored integers
        zero, rounding = round(stored.zero - grid.zero), "half-away"
    return Steps(
        unit / stored.scale,
        offset / stored.scale + stored.zero,
        low,
        max(low, high),
        rounding,
        zero,
    )


def _fitted(
    steps: Steps,
    levels: Integers,
    source: Wire,
    padding: ConstantChannels | None,
    target: ActivationFormat,
    residual: Wire | None,
) -> FittedSteps:
    if residual is not None:
        ratio = residual.stored.scale / target.scale
        moved = replace(steps, beta=steps.beta - ratio * residual.stored.zero)
        return fit_steps_with_residual(moved, ratio)
    rows = levels.reshape(len(levels), -1)
    low, high = sum_bounds(_narrow(rows), np.zeros(len(rows), np.int32), *source.limits)
    if padding is not None:
        added = (padding.levels.astype(np.int64) * padding.value).reshape(len(rows), -1)
        low, high = low + np.minimum(added, 0).sum(1), high + np.maximum(added, 0).sum(1)
    return fit_steps(steps, low, high)


def _padding_channels(
    layer: Conv, levels: Integers, source: Wire, scheme: Scheme, file: str
) -> ConstantChannels | None:
    if source.stored.zero == 0 or not any(layer.padding):
        return None
    found = constant_channels(levels.astype(np.int16), source.stored.zero, scheme)
    if found is None:
        raise InputError(
            file,
            f"layer {layer.name!r}",
            found=f"padding of a tensor whose zero point is {source.stored.zero:g}",
            expected="a whole zero point where there is padding",
        )
    return found


def _with_constants(layer: Conv, source: Wire, padding: ConstantChannels) -> QuantizedLayer:
    """The tensor again, after each group's channels those of one number."""
    per_group, n = source.channels // layer.groups, padding.levels.shape[1]
    width = (per_group + n) * layer.groups
    levels = np.zeros((width, source.channels, 1, 1), np.int8)
    bias = np.full(width, padding.value, np.int32)
    for group in range(layer.groups):
        own = np.arange(per_group)
        levels[group * (per_group + n) + own, group * per_group + own] = 1
        bias[group * (per_group + n) + own] = 0
    how = Requantize(np.ones(width, np.uint16), np.zeros(width, np.uint8), *source.limits)
    name = f"{layer.name}.padding"
    op = ConvOp(source.number, levels, bias, how)
    return QuantizedLayer(name, op, source.stored, STRUCTURAL_SCHEME, np.ones(width), True)


def _narrow(levels: Integers) -> Levels:
    fits = int(levels.min()) >= -128 and int(levels.max()) <= 127
    return levels.astype(np.int8) if fits else levels.astype(np.int16)
