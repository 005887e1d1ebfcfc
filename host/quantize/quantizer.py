"""The float model to the quantized model, layer by layer in execution order.

Each layer is rounded knowing what the layers before it, already quantized, really feed it
(Frantar et al. 2022, arXiv 2210.17323), so that an error made early is not added to blindly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.bounds import accumulator_bounds
from bacmac.host.arith.network import ConvOp, PoolOp
from bacmac.host.arith.requantize import fit_requantize, residual_shift
from bacmac.host.arith.schemes import SCHEMES, Levels, Scheme
from bacmac.host.errors import InputError
from bacmac.host.model.forward import columns
from bacmac.host.model.inputs import Codes, Images, input_codes
from bacmac.host.model.layers import INPUT, LINEAR, Activation, Conv, Model, Normalization, Pool
from bacmac.host.model.quantized import ActivationFormat, QuantizedLayer, QuantizedModel
from bacmac.host.model.sparse_fit import Fixed, Selection
from bacmac.host.quantize.activations import (
    Progress,
    TensorStatistics,
    choose_formats,
    collect_statistics,
    host_format,
)
from bacmac.host.quantize.compensate import MAX_HESSIAN_ROWS
from bacmac.host.quantize.fit import FloatNetwork, fit_layer, image_limit
from bacmac.host.quantize.options import QuantizeOptions, layer_schemes, tensor_bits
from bacmac.host.quantize.propagate import run_op
from bacmac.host.quantize.shifts import next_octaves, shift_formats, shift_requantize, shift_scales
from bacmac.host.quantize.weights import (
    Float,
    relative_squared_error,
    round_to_levels,
    search_scales,
    snap_scales,
)

Selections = Mapping[str, Selection]
"""Layer name -> which of its weights stay."""

MAX_BIAS = 1 << 22
"""Largest bias code. A channel whose weights are so small beside its bias (or all zero) gets a
scale above its best one: its bias counts, and its sums stay within float32's 24 bits."""
LEAST_RATIO = 2.0**-20
"""Least input scale * weight scale / output scale: an accumulator of 2**20 moves the output by 1,
and a 15-bit multiplier with a shift up to 40 keeps all its bits."""
SCALE_FACTORS = (1.0, 0.7, 0.8, 0.9, 1.12, 1.25)
"""Of the scale that is best for the weights; which one is best for the sums, compensation shows.
8 bits are fine enough for the first."""
LEAST_STEPS = 8
"""A scale of fewer steps is left unsnapped: `fit_requantize` then gives it a finer shift."""


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is known of the whole network before its layers are rounded."""

    numbers: dict[str, int]
    formats: dict[str, ActivationFormat]
    statistics: Mapping[str, TensorStatistics]
    schemes: dict[str, Scheme]
    options: QuantizeOptions
    selections: Selections


def weight_scales(model: Model, options: QuantizeOptions) -> dict[str, Float]:
    """Best scale (C_out,) of each layer with weights, before anything is pruned, by name."""
    weights = {layer.name: layer.weight for layer in model.layers if isinstance(layer, Conv)}
    return {
        name: search_scales(_rows(weights[name]), SCHEMES[scheme])
        for name, scheme in layer_schemes(model, options).items()
    }


def quantize_model(
    model: Model,
    images: Images,
    normalization: Normalization,
    options: QuantizeOptions,
    *,
    selections: Selections | None = None,
    statistics: Mapping[str, TensorStatistics] | None = None,
    provenance: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize a float model on calibration images. Deterministic.

    Args:
        model: the float network.
        images: (N, C, H, W) uint8 pixels or normalized float32; N of at least 1.
        normalization: of pixels.
        options: schemes, rounding, bits.
        selections: of layers that lose weights: `Fixed` masks, or choices that are made here,
            jointly with rounding.
        statistics: what `collect_statistics` gives for model, images and normalization; collected
            here unless the caller, who may quantize more than once, has them.
        provenance: stored with the result.
        progress: called with a stage, how much is done and of how much.

    Raises:
        InputError: a table names a layer that does not exist, calibration met a NaN, a layer is
            too wide for compensated rounding, or has zeros that its scheme does not hold.
    """
    schemes = layer_schemes(model, options)
    bits = tensor_bits(model, options)
    if statistics is None:
        statistics = collect_statistics(model, images, normalization, progress)
    formats = choose_formats(model, statistics, bits)
    if options.shift_only:
        formats = shift_formats(model, statistics, formats)
    plan = _Plan(
        numbers={name: number for number, name in enumerate(model.shapes)},
        formats=formats,
        statistics=statistics,
        schemes={
            layer.name: SCHEMES[schemes[layer.name]]
            if layer.name in schemes
            else _structural_scheme(SCHEMES[options.scheme])
            for layer in model.layers
        },
        options=options,
        selections=selections or {},
    )
    _refuse_zeros(model, plan)
    last_use = _last_uses(model)
    codes: dict[str, Codes] = {}
    floats: FloatNetwork | None = None
    chosen_here = any(not isinstance(chosen, Fixed) for chosen in plan.selections.values())
    if options.rounding == "compensated" or chosen_here:
        images = images[: image_limit(model)]
        floats = FloatNetwork(model, images, normalization)
    if floats is not None or options.bias_correction:
        stored = host_format(plan.formats[INPUT], model)
        codes[INPUT] = input_codes(images, normalization, stored)
    layers: list[QuantizedLayer] = []
    for index, layer in enumerate(model.layers):
        is_last = index == len(model.layers) - 1
        if isinstance(layer, Pool):
            quantized = _quantize_pool(layer, plan)
        else:
            quantized = _quantize_conv(layer, plan, codes, floats, is_last=is_last)
        layers.append(quantized)
        if codes and not is_last:
            residual = layer.residual if isinstance(layer, Conv) else None
            codes[layer.name] = run_op(
                quantized.op, codes[layer.input], None if residual is None else codes[residual]
            )
            still_read = {name for name, last in last_use.items() if last > index}
            for name in [name for name in codes if name not in still_read]:
                del codes[name]
            if floats is not None:
                floats.advance(layer, still_read)
        if progress is not None:
            progress("quantize", index + 1, len(model.layers))
    return QuantizedModel(
        name=model.name,
        input_shape=model.input_shape,
        input_format=host_format(plan.formats[INPUT], model),
        normalization=normalization,
        layers=tuple(layers),
        logit_scale=_logit_scale(model, layers[-1], plan.formats),
        provenance=dict(provenance or {}),
    )


def _structural_scheme(scheme: Scheme) -> Scheme:
    """What the zeros and ones of structural layers are stored in, beside layers of `scheme`."""
    return scheme if scheme.has_zero else SCHEMES["ternary"]


def _refuse_zeros(model: Model, plan: _Plan) -> None:
    """A scheme without zero holds no pruned weight: what was 0 would come back as +-1."""
    for layer in model.layers:
        if not isinstance(layer, Conv) or plan.schemes[layer.name].has_zero:
            continue
        kept, selection = _rows(layer.weight) != 0, plan.selections.get(layer.name)
        if selection is not None:
            kept &= selection.kept(np.abs(_rows(layer.weight)), 1.0)
        n_zeros = int(np.count_nonzero(~kept))
        if n_zeros:
            scheme = plan.schemes[layer.name].name
            raise InputError(
                model.source or model.name,
                f"layer {layer.name!r}",
                found=f"{n_zeros} of {layer.weight.size} weights are zero",
                expected=f"none: {scheme} has no zero",
                hint="choose a scheme with a zero for this layer (ternary has two bits)",
            )


def _refuse_too_wide(layer: Conv) -> None:
    n_inputs = layer.weight[0].size
    if n_inputs > MAX_HESSIAN_ROWS:
        raise InputError(
            "options",
            "rounding",
            found=f"compensated, with {n_inputs:,} inputs in layer {layer.name!r}",
            expected=f"at most {MAX_HESSIAN_ROWS:,}, or nearest",
        )


def _quantize_pool(layer: Pool, plan: _Plan) -> QuantizedLayer:
    source, target = plan.formats[layer.input], plan.formats[layer.name]
    number = plan.numbers[layer.input]
    op = PoolOp(number, layer.kind, layer.kernel, layer.stride, layer.padding)
    if layer.kind == "average":
        channels = len(plan.statistics[layer.input].mean)
        area = layer.kernel[0] * layer.kernel[1]
        ratio = np.full(channels, source.scale / (target.scale * area))
        if plan.options.shift_only:
            how = shift_requantize(ratio, low=target.low, high=target.high)
        else:
            how = fit_requantize(
                ratio,
                low=target.low,
                high=target.high,
                acc_low=np.full(channels, area * source.low, np.int64),
                acc_high=np.full(channels, area * source.high, np.int64),
            )
        op = replace(op, requantize=how)
    return QuantizedLayer(layer.name, op, target)


def _quantize_conv(
    layer: Conv,
    plan: _Plan,
    codes: Mapping[str, Codes],
    floats: FloatNetwork | None,
    *,
    is_last: bool,
) -> QuantizedLayer:
    source = plan.formats[layer.input]
    logits = is_last and layer.residual is None and layer.activation == LINEAR
    target = None if logits else plan.formats[layer.name]
    residual = None if layer.residual is None else plan.formats[layer.residual]
    scheme, weights = plan.schemes[layer.name], _rows(layer.weight)
    selection = plan.selections.get(layer.name)

    def scales(weights: Float) -> tuple[Float, ...]:
        return _channel_scales(layer, weights, scheme, source, target, residual, plan.options)

    bias = layer.bias.astype(np.float64)
    compensated = plan.options.rounding == "compensated"
    if layer.structural:
        scale = scales(weights)[0]
        levels = cast(Levels, np.rint(weights).astype(scheme.levels.dtype))
    elif floats is not None and (compensated or not isinstance(selection, Fixed | None)):
        _refuse_too_wide(layer)
        targets = floats.sums(layer)
        if layer.residual is not None and residual is not None:
            stored = codes[layer.residual].astype(np.float32) * np.float32(residual.scale)
            targets += floats[layer.residual] - stored
        fitted = fit_layer(
            layer,
            codes[layer.input],
            source.scale,
            targets,
            scheme,
            scales,
            selection,
            free_bias=plan.options.bias_correction,
            compensated=compensated,
        )
        levels, scale, bias = fitted.levels, fitted.scale, fitted.bias
        if selection is not None and plan.options.bias_correction and not (is_last or residual):
            # a channel that lost all its weights falls silent; what reads it has biases of its own
            bias = np.where(levels.any(1), bias, 0.0)
    else:
        if isinstance(selection, Fixed):
            weights = weights * selection.mask.reshape(weights.shape)
        scale = scales(weights)[0]
        levels = round_to_levels(weights / scale[:, None], scheme)
        if plan.options.bias_correction:
            bias = bias + _bias_correction(layer, plan, codes, levels * scale[:, None])
    unit = scale * source.scale
    # a clipped bias saturates its outputs; the compiler proves that the sums fit int32
    op = ConvOp(
        input=plan.numbers[layer.input],
        levels=levels.reshape(layer.weight.shape),
        bias=np.clip(np.rint(bias / unit), -(1 << 30), 1 << 30).astype(np.int32),
        requantize=None,
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups,
        residual=None if layer.residual is None else plan.numbers[layer.residual],
    )
    if target is not None:
        low, high = _clamp(layer.activation, target)
        acc_low, acc_high = accumulator_bounds(op, source.low, source.high)
        residual_ratio = None if residual is None else residual.scale / target.scale
        if plan.options.shift_only:
            how = shift_requantize(
                unit / target.scale, low=low, high=high, residual_ratio=residual_ratio
            )
        else:
            how = fit_requantize(
                unit / target.scale,
                low=low,
                high=high,
                acc_low=acc_low,
                acc_high=acc_high,
                residual_ratio=residual_ratio,
                residual_range=None if residual is None else (residual.low, residual.high),
            )
        op = replace(op, requantize=how)
    return QuantizedLayer(
        name=layer.name,
        op=op,
        output=target,
        scheme=scheme.name,
        weight_scale=scale,
        structural=layer.structural,
        relative_squared_error=relative_squared_error(_rows(layer.weight), levels, scale),
    )


def _channel_scales(
    layer: Conv,
    weights: Float,
    scheme: Scheme,
    source: ActivationFormat,
    target: ActivationFormat | None,
    residual: ActivationFormat | None,
    options: QuantizeOptions,
) -> tuple[Float, ...]:
    """Scales (C,), above 0, that the requantization of this layer can apply exactly.

    The best for the weights first, then others to choose from by what the sums lose.
    """
    if layer.structural:
        free = [np.ones(len(weights))]
    else:
        least = np.abs(layer.bias).astype(np.float64) / (MAX_BIAS * source.scale)
        if target is not None:
            least = np.maximum(least, LEAST_RATIO * target.scale / source.scale)
        if options.shift_only and target is not None:
            per_step = target.scale / source.scale
            ratio = None if residual is None else residual.scale / target.scale
            best = shift_scales(weights, per_step, scheme, least=least, residual=ratio)
            return best, *next_octaves(best, per_step, least=least, residual=ratio)
        found = search_scales(weights, scheme)
        factors = SCALE_FACTORS if scheme.bits < 8 else SCALE_FACTORS[:1]
        free = [np.maximum(found * factor, least) for factor in factors]
        free = [np.where(scale > 0, scale, 1.0) for scale in free]
    if target is None or residual is None or options.shift_only:
        return tuple(free)
    return tuple(_snapped(weights, scale, scheme, source, target, residual) for scale in free)


def _snapped(
    weights: Float,
    scale: Float,
    scheme: Scheme,
    source: ActivationFormat,
    target: ActivationFormat,
    residual: ActivationFormat,
) -> Float:
    """Scales (C,) near these for which the multiplier is whole at the residual's shift."""
    per_step = target.scale / source.scale
    _, exponent = np.frexp(scale / per_step)
    shift = np.minimum(residual_shift(residual.scale / target.scale), 15 - exponent)
    step = per_step * 2.0**-shift
    snapped = snap_scales(weights, scale, step, scheme)
    dead = ~weights.any(axis=1)
    return np.where(dead | (scale >= LEAST_STEPS * step), snapped, scale)


def _bias_correction(layer: Conv, plan: _Plan, codes: Mapping[str, Codes], rounded: Float) -> Float:
    """(C,) what the mean sum of each channel lost through rounding, here and before.

    Nagel et al. 2019 (arXiv 1906.04721), section 4.2, with means from images; the inputs are
    those of the quantized network, so that layers correct one after another.
    """
    source = plan.formats[layer.input]
    inputs = codes[layer.input].mean(0, dtype=np.float64) * source.scale
    wanted = _mean_sums(layer, _rows(layer.weight), plan.statistics[layer.input].mean)
    return wanted - _mean_sums(layer, rounded, inputs)


def _mean_sums(layer: Conv, weights: Float, mean_image: Float) -> Float:
    """(C,) mean over positions of a convolution, from the mean image (C_in, H, W): it is linear."""
    _, c_in, kh, kw = layer.weight.shape
    image = mean_image[None].astype(np.float32)
    windows = columns(image, (kh, kw), layer.stride, layer.padding)
    means = windows.mean((0, 1, 2), dtype=np.float64).reshape(layer.groups, c_in * kh * kw)
    grouped = weights.reshape(layer.groups, -1, c_in * kh * kw)
    result: Float = np.einsum("gpk,gk->gp", grouped, means).reshape(-1)
    return result


def _clamp(activation: Activation, target: ActivationFormat) -> tuple[int, int]:
    """The output range: the format's, cut where the activation's bounds lie inside it."""
    low = max(target.low, np.rint(activation.low / target.scale))
    high = min(target.high, np.rint(activation.high / target.scale))
    return int(low), int(high)


def _logit_scale(
    model: Model, last: QuantizedLayer, formats: Mapping[str, ActivationFormat]
) -> Float:
    if last.output is None:
        return last.weight_scale * formats[model.layers[-1].input].scale
    return np.full(model.output_shape[0], last.output.scale)


def _last_uses(model: Model) -> dict[str, int]:
    """Index of the last layer that reads each tensor."""
    uses: dict[str, int] = {}
    for index, layer in enumerate(model.layers):
        uses[layer.input] = index
        if isinstance(layer, Conv) and layer.residual is not None:
            uses[layer.residual] = index
    return uses


def _rows(weight: npt.NDArray[np.float32]) -> Float:
    return weight.reshape(len(weight), -1).astype(np.float64)
