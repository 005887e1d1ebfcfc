"""How many weights are zero when, and which: a cubic rise, and layer-adaptive magnitudes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Weights = Mapping[str, npt.NDArray[np.float32]]
Masks = dict[str, npt.NDArray[np.bool_]]

RISE = 0.6
"""Part of the epochs in float over which zeros rise; the rest lets what stays settle."""
MASK_STEPS = 64
"""How often masks change over the rise: each change costs a sort of all the weights."""


@dataclass(frozen=True)
class Pool:
    """Layers that reach a share of zeros together.

    Attributes:
        layers: by name.
        share: of their weights, 0 to below 1.
    """

    layers: tuple[str, ...]
    share: float


def risen(progress: float, target: float) -> float:
    """Share of zeros when `progress` (0 to 1) of the rise is done.

    target * (1 - (1 - progress)**3): Zhu and Gupta 2017 (arXiv 1710.01878), equation 1, from 0.
    """
    return target * (1.0 - (1.0 - min(max(progress, 0.0), 1.0)) ** 3)


def masks_at(weights: Weights, pools: tuple[Pool, ...], progress: float) -> Masks:
    """Masks, True = kept, of every layer of the pools at a moment of the rise.

    Weights with the smallest scores go first, to one weight; those that are zero stay zero.
    """
    masks: Masks = {}
    for pool in pools:
        scores = np.concatenate([layer_scores(weights[name]) for name in pool.layers])
        n_zeros = round(risen(progress, pool.share) * scores.size)
        kept = np.ones(scores.size, np.bool_)
        kept[np.argsort(scores, kind="stable")[:n_zeros]] = False
        start = 0
        for name in pool.layers:
            size = weights[name].size
            masks[name] = kept[start : start + size].reshape(weights[name].shape)
            start += size
    return masks


def layer_scores(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """(n,) w^2 over the sum of the squares of the layer's weights that are not smaller.

    Lee et al. 2021, "Layer-adaptive sparsity for the magnitude-based pruning" (arXiv 2010.07611):
    scores of layers with weights of any size can be compared, which folding a BatchNorm demands,
    and the largest weight of each layer, of score 1, stays.
    """
    squares = weight.reshape(-1).astype(np.float64) ** 2
    falling = np.argsort(-squares, kind="stable")
    sums = np.cumsum(squares[falling])
    scores = np.empty_like(squares)
    scores[falling] = squares[falling] / np.where(sums > 0, sums, 1.0)
    return scores
