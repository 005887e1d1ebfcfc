"""The weights of an imported network: its file's integers, or floats that are quantized here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bacmac.host.arith.schemes import SCHEMES, Levels, Scheme
from bacmac.host.model.forward import walk
from bacmac.host.model.inputs import Images, normalized
from bacmac.host.model.layers import Conv, KeptWeights, Model, Normalization
from bacmac.host.quantize.activations import BLOCK_IMAGES
from bacmac.host.quantize.compensate import MAX_HESSIAN_ROWS, compensated_levels, hessian
from bacmac.host.quantize.keep import Float
from bacmac.host.quantize.level_sets import keep_exactly
from bacmac.host.quantize.options import QuantizeOptions, layer_schemes
from bacmac.host.quantize.weights import round_to_levels, search_scales


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """Levels (C_out, C_in / groups, kh, kw), scales (C_out,) and the scheme that holds them."""

    levels: Levels
    scale: Float
    scheme: Scheme


def imported_weights(
    model: Model, images: Images | None, normalization: Normalization, options: QuantizeOptions
) -> dict[str, LayerWeights]:
    """Levels and scales of every layer with weights: the file's, or quantized here."""
    schemes = layer_schemes(model, options)
    weights: dict[str, LayerWeights] = {}
    floats: list[Conv] = []
    for layer in model.layers:
        if not isinstance(layer, Conv) or layer.structural:
            continue
        own = None if layer.kept is None else file_weights(layer.kept)
        if own is None:
            floats.append(layer)
        else:
            weights[layer.name] = own
    compensated = [
        layer
        for layer in floats
        if options.rounding == "compensated" and layer.weight[0].size <= MAX_HESSIAN_ROWS
    ]
    hessians = _hessians(model, compensated, images, normalization)
    for layer in floats:
        scheme = SCHEMES[schemes[layer.name]]
        rows = layer.weight.reshape(len(layer.weight), -1).astype(np.float64)
        scale = search_scales(rows, scheme)
        scale = np.where(scale > 0, scale, 1.0)
        if layer.name in hessians:
            kept = np.ones(rows.shape, np.bool_)
            levels = compensated_levels(rows, kept, scale, hessians[layer.name], scheme)
        else:
            levels = round_to_levels(rows / scale[:, None], scheme)
        weights[layer.name] = LayerWeights(levels.reshape(layer.weight.shape), scale, scheme)
    return weights


def file_weights(kept: KeptWeights) -> LayerWeights | None:
    """The file's integers in the smallest scheme that holds them; None where none does.

    -128 has no code in a symmetric scheme, and is the one integer that becomes another, -127.
    """
    lowest, highest = int(kept.levels.min()), int(kept.levels.max())
    exact = keep_exactly(kept)
    if exact is not None:
        return LayerWeights(exact[0].levels, exact[0].scale, exact[1])
    if lowest < -128 or highest > 127:
        return None
    return LayerWeights(np.maximum(kept.levels, -127), kept.scale, SCHEMES["uniform-8"])


def _hessians(
    model: Model, layers: list[Conv], images: Images | None, normalization: Normalization
) -> dict[str, Float]:
    """(groups, K, K) by layer, of what the layers read while the file's network runs."""
    sums: dict[str, Float] = {}
    if images is None or not layers:
        return sums
    readers: dict[str, list[Conv]] = {}
    for layer in layers:
        readers.setdefault(layer.input, []).append(layer)
    for start in range(0, len(images), BLOCK_IMAGES):
        block = normalized(images[start : start + BLOCK_IMAGES], normalization)
        for name, tensor in walk(model, block):
            for layer in readers.get(name, ()):
                own = hessian(layer, tensor)
                sums[layer.name] = sums[layer.name] + own if layer.name in sums else own
    return sums
