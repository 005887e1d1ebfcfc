"""How much the network's output suffers from each layer in each scheme, on calibration images.

Rounding a layer adds noise to its sums: e' H e for weight errors e and the Hessian H of its inputs,
known for every scheme at the price of a rounding (`compensate`). What that noise does to the output
is measured once a layer: the float network runs with this layer alone rounded. Small noises of
different layers add up at the output (the assumption of HAWQ, Dong et al. 2019, arXiv 1905.03696,
whose curvature this measures directly), so the noise of the whole is the sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bacmac.host.arith.schemes import SCHEMES, Scheme
from bacmac.host.model.forward import FloatTensor, run_layer, walk
from bacmac.host.model.inputs import Images, normalized
from bacmac.host.model.layers import Conv, Model, Normalization
from bacmac.host.model.moments import window_moments
from bacmac.host.quantize.activations import Progress
from bacmac.host.quantize.compensate import compensated_levels
from bacmac.host.quantize.options import weighted_layers
from bacmac.host.quantize.weights import Float, round_to_levels, search_scales

IMAGES = 64
MAX_BYTES = 1 << 28
"""Of all tensors of the images used: fewer images for a larger network."""
MAX_COMPENSATED = 2048
"""Inputs of an output up to which rounding is compensated here; beyond, it is to the nearest."""

Sensitivity = Mapping[str, Mapping[str, float]]
"""Layer -> scheme -> mean squared error of the output, relative to its variance."""


def measure_sensitivity(
    model: Model,
    images: Images,
    normalization: Normalization,
    candidates: Mapping[str, Sequence[str]],
    progress: Progress | None = None,
) -> Sensitivity:
    """Expected relative output noise of each layer in each of its candidate schemes.

    Args:
        model: the float network.
        images: (N, C, H, W); the first IMAGES at most are used.
        normalization: of pixels.
        candidates: names of schemes by layer with weights.
        progress: called with a stage, how much is done and of how much.
    """
    per_image = 4 * sum(int(np.prod(shape)) for shape in model.shapes.values())
    used = images[: max(1, min(IMAGES, MAX_BYTES // per_image))]
    tensors = dict(walk(model, normalized(used, normalization)))
    names = weighted_layers(model)
    result: dict[str, dict[str, float]] = {}
    for number, name in enumerate(names):
        layer = next(layer for layer in model.layers if layer.name == name)
        assert isinstance(layer, Conv)
        result[name] = _layer_noise(model, layer, candidates[name], tensors)
        if progress is not None:
            progress("sensitivity", number + 1, len(names))
    return result


def _layer_noise(
    model: Model, layer: Conv, candidates: Sequence[str], tensors: Mapping[str, FloatTensor]
) -> dict[str, float]:
    rounded: dict[str, Float] = {}
    noise: dict[str, float] = {}
    moments = None
    if layer.weight[0].size <= MAX_COMPENSATED:
        moments = window_moments(layer, tensors[layer.input])
    for scheme in candidates:
        weight = _rounded(layer, SCHEMES[scheme], None if moments is None else moments.squares)
        rounded[scheme] = weight
        if moments is not None:
            error = (weight - _rows(layer)).reshape(layer.groups, -1, weight.shape[1])
            noise[scheme] = float(np.sum((error @ moments.squares) * error))
        else:
            noise[scheme] = float(np.sum((weight - _rows(layer)) ** 2))
    # through the network goes the one in the middle: neither lost in float32 nor beyond what adds
    loudest_first = sorted(candidates, key=lambda scheme: -noise[scheme])
    chosen = loudest_first[len(loudest_first) // 2]
    if noise[chosen] == 0.0:
        return dict.fromkeys(candidates, 0.0)
    changed: FloatTensor = rounded[chosen].reshape(layer.weight.shape).astype(np.float32)
    output = _output_with(model, replace(layer, weight=changed), tensors)
    wanted = tensors[model.layers[-1].name]
    arrived = float(np.mean((output - wanted) ** 2, dtype=np.float64))
    variance = float(np.var(wanted, dtype=np.float64))
    gain = arrived / (variance * noise[chosen]) if variance > 0 else 0.0
    return {scheme: gain * noise[scheme] for scheme in candidates}


def _rounded(layer: Conv, scheme: Scheme, hessians: Float | None) -> Float:
    """The layer's weights (C, K) on a scheme's levels."""
    rows = _rows(layer)
    scale = search_scales(rows, scheme)
    scale = np.where(scale > 0, scale, 1.0)
    if hessians is None:
        levels = round_to_levels(rows / scale[:, None], scheme)
    else:
        kept = np.ones(rows.shape, np.bool_)
        levels = compensated_levels(rows, kept, scale, hessians, scheme)
    weights: Float = levels * scale[:, None]
    return weights


def _output_with(model: Model, changed: Conv, tensors: Mapping[str, FloatTensor]) -> FloatTensor:
    """The network's output with one layer changed; only what depends on it is computed."""
    new: dict[str, FloatTensor] = {}
    for layer in model.layers:
        used = changed if layer.name == changed.name else layer
        residual = used.residual if isinstance(used, Conv) else None
        if used is layer and layer.input not in new and residual not in new:
            continue
        source = new.get(used.input, tensors[used.input])
        other = None if residual is None else new.get(residual, tensors[residual])
        new[layer.name] = run_layer(used, source, other)
    return new.get(model.layers[-1].name, tensors[model.layers[-1].name])


def _rows(layer: Conv) -> Float:
    return layer.weight.reshape(len(layer.weight), -1).astype(np.float64)
