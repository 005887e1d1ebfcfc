"""One layer's weights, zeros, levels and bias, fitted to what its sums are in the float network.

Rounding that only minds its own layer lets errors add up. Here each layer aims at the *float*
network's sums, from what the compressed network so far feeds it: least squares over all windows
(He et al. 2017, arXiv 1707.06168; for rounding, Li et al. 2025, GPTAQ, arXiv 2504.02692), residual
inputs included, so that a layer also makes good what those before it lost. Then, in this order,
zeros are chosen and the rest refitted (`model.sparse_fit`), scales are searched, and levels are
rounded and improved (`compensate`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bacmac.host.arith.schemes import Levels, Scheme
from bacmac.host.model.forward import FloatTensor, run_layer
from bacmac.host.model.inputs import Codes, Images, normalized
from bacmac.host.model.layers import INPUT, LINEAR, Conv, Layer, Model, Normalization
from bacmac.host.model.moments import window_moments
from bacmac.host.model.sparse_fit import Fixed, Selection, damped, sparse_fit
from bacmac.host.quantize.compensate import (
    DAMPING,
    compensated_levels,
    descended,
    exchanged,
)
from bacmac.host.quantize.weights import Float, round_to_levels

FIT_DAMPING = 0.03
"""Of the mean diagonal, holds the fit to the float sums near the float weights: what calibration
hardly saw stays as it was. 0.01 to 0.1 are alike on ResNet-20 with 512 images."""
MAX_TENSOR_BYTES = 1 << 28
"""Of one float tensor over all images: fewer images are used where a layer is larger."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """What becomes of a layer.

    Attributes:
        levels: (C, K).
        scale: float64 (C,): weight = level * scale.
        bias: float64 (C,).
    """

    levels: Levels
    scale: Float
    bias: Float


class FloatNetwork:
    """The float network's tensors over the calibration images, while later layers read them."""

    def __init__(self, model: Model, images: Images, normalization: Normalization) -> None:
        """Begin at the input.

        Args:
            model: the float network.
            images: (N, C, H, W), as many as `image_limit` allows.
            normalization: of pixels.
        """
        x = normalized(images, normalization)
        x = x * np.float32(model.input_gain) + np.float32(model.input_shift)
        self._tensors: dict[str, FloatTensor] = {INPUT: x}

    def sums(self, layer: Conv) -> FloatTensor:
        """(N, C_out, H, W) of a convolution and its bias, before residual and activation."""
        return run_layer(replace(layer, activation=LINEAR, residual=None), self[layer.input])

    def advance(self, layer: Layer, still_read: Collection[str]) -> None:
        """Run a layer; keep its output, and no tensor that is not in `still_read`."""
        residual = layer.residual if isinstance(layer, Conv) else None
        self._tensors[layer.name] = run_layer(
            layer, self[layer.input], None if residual is None else self[residual]
        )
        for name in [name for name in self._tensors if name not in still_read]:
            del self._tensors[name]

    def __getitem__(self, tensor: str) -> FloatTensor:
        """A tensor (N, C, H, W) by name."""
        return self._tensors[tensor]


def image_limit(model: Model) -> int:
    """How many images are calibrated on, so that no tensor is beyond MAX_TENSOR_BYTES."""
    largest = max(int(np.prod(shape)) for shape in model.shapes.values())
    return max(1, MAX_TENSOR_BYTES // (4 * largest))


def fit_layer(
    layer: Conv,
    codes: Codes,
    unit: float,
    targets: FloatTensor,
    scheme: Scheme,
    scales: Callable[[Float], Sequence[Float]],
    selection: Selection | None,
    *,
    free_bias: bool,
    compensated: bool = True,
) -> Fitted:
    """Fit a layer.

    Args:
        layer: the float layer.
        codes: (N, C, H, W) what it reads, as stored.
        unit: value of the code 1.
        targets: (N, C_out, H', W') what its sums, bias included, should be.
        scheme: of its levels.
        scales: of weights (C, K), the scales (C,) to choose from, above 0, the best for the weights
            themselves first. What counts is the error of the sums, channel by channel.
        selection: which weights stay; None: all.
        free_bias: the bias takes up what the mean of the sums loses; else it stays.
        compensated: round with compensation; else each weight to its nearest level.
    """
    moments = window_moments(layer, codes, targets)
    rows = layer.weight.reshape(len(layer.weight), -1).astype(np.float64)
    bias = layer.bias.astype(np.float64)
    group = np.repeat(np.arange(layer.groups), len(rows) // layer.groups)
    sums, n = moments.sums[group] * unit, moments.n_windows
    offset = moments.target_sums / n if free_bias else bias
    squares = (moments.central_squares if free_bias else moments.squares) * unit**2
    products = moments.products * unit - offset[:, None] * sums

    by_group = rows.reshape(layer.groups, -1, rows.shape[1])
    missing = products.reshape(by_group.shape) - by_group @ squares
    step = np.linalg.solve(damped(squares, FIT_DAMPING), missing.transpose(0, 2, 1))
    wanted = (by_group + step.transpose(0, 2, 1)).reshape(rows.shape)

    hessians = damped(squares, DAMPING)
    weights, kept = wanted, np.ones(rows.shape, np.bool_)
    if selection is not None:
        weights, kept = sparse_fit(wanted, hessians, selection)
    scale, *others = scales(weights)
    if compensated:

        def rounded(scale: Float) -> Levels:
            levels = compensated_levels(weights, kept, scale, squares, scheme)
            return descended(levels, wanted, kept, scale, hessians, scheme)

        levels = rounded(scale)
        least = _losses(wanted - levels * scale[:, None], hessians)
        for tried in others:
            new = rounded(tried)
            losses = _losses(wanted - new * tried[:, None], hessians)
            wins = losses < least
            levels[wins], scale = new[wins], np.where(wins, tried, scale)
            least = np.minimum(losses, least)
        if selection is not None and not isinstance(selection, Fixed):
            levels, kept = exchanged(levels, wanted, kept, scale, hessians, scheme, selection)
    else:
        levels = round_to_levels(weights / scale[:, None], scheme)
    if free_bias:
        bias = offset - np.sum(levels * scale[:, None] * sums, axis=1) / n
    return Fitted(levels, scale, bias)


def _losses(errors: Float, hessians: Float) -> Float:
    """(C,) squared error of each channel's sums, for errors (C, K) of its weights."""
    by_group = errors.reshape(len(hessians), -1, errors.shape[1])
    losses: Float = np.sum((by_group @ hessians) * by_group, axis=2).reshape(-1)
    return losses
