"""Which weights stay: magnitude and PoT-aware pruning to an exact sparsity.

Magnitude: the smallest |w| go first (Han et al. 2015, arXiv 1506.02626). PoT-aware: the zero
threshold of the logarithmic quantiser is the knob, so the weights that would land in the smallest
exponents go first (Przewlocka-Rus and Kryjak 2022, arXiv 2209.15257); inside one exponent the
smallest |w| go first, so that any sparsity can be reached and not only those of whole exponents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from bacmac.host.errors import InputError
from bacmac.host.model.layers import Conv, Model

METHODS = ("magnitude", "pot-aware")
SCOPES = ("layer", "global")
Masks = dict[str, npt.NDArray[np.bool_]]
"""Layer name -> bool of the weight's shape, True = kept."""


def prune(
    model: Model,
    sparsity: float,
    *,
    method: str = "magnitude",
    scope: str = "layer",
    sparsities: Mapping[str, float] | None = None,
    exclude: Collection[str] = (),
    scales: Mapping[str, npt.NDArray[np.float64]] | None = None,
) -> Masks:
    """Masks of every layer that loses weights; structural layers never do.

    Args:
        model: the float network.
        sparsity: share of zeros, 0 to below 1, of each layer (scope "layer") or of all the layers
            that it applies to together (scope "global"); reached to one weight.
        method: "magnitude" or "pot-aware": which weights go first.
        scope: note that folding a BatchNorm makes magnitudes incomparable between layers; where
            the target is high, "layer" usually loses much less accuracy.
        sparsities: targets of single layers; these leave the global pool.
        exclude: layers that `sparsity` does not apply to (`sparsities` still does).
        scales: per layer (C_out,) weight scales, value of level 1; "pot-aware" needs them.

    Raises:
        InputError: a name is not a layer that can be pruned, or a sparsity is out of range.
    """
    weights = {
        layer.name: layer.weight
        for layer in model.layers
        if isinstance(layer, Conv) and not layer.structural
    }
    table = dict(sparsities or {})
    for name in [*table, *exclude]:
        if name not in weights:
            raise InputError(
                "sparsity",
                f"layer {name!r}",
                found="no layer of this name with weights",
                expected=f"one of {', '.join(weights)}",
            )
    for name, value in [("sparsity", sparsity), *table.items()]:
        if not 0.0 <= value < 1.0:
            raise InputError("sparsity", name, found=f"{value}", expected="0 to below 1")

    def bins(name: str) -> npt.NDArray[np.int64]:
        if method == "magnitude":
            return np.zeros(weights[name].size, np.int64)
        if scales is None:
            raise ValueError("pot-aware pruning needs the weight scales")
        return exponent_bins(weights[name], scales[name]).reshape(-1)

    pools = [([name], target) for name, target in table.items()]
    rest = [name for name in weights if name not in table and name not in exclude]
    pools += [(rest, sparsity)] if scope == "global" else [([name], sparsity) for name in rest]
    masks: Masks = {}
    for names, target in pools:
        if target == 0.0 or not names:
            continue
        kept = _keep(
            np.concatenate([bins(name) for name in names]),
            np.concatenate([np.abs(weights[name]).reshape(-1) for name in names]),
            target,
        )
        start = 0
        for name in names:
            size = weights[name].size
            masks[name] = kept[start : start + size].reshape(weights[name].shape)
            start += size
    return masks


def exponent_bins(
    weight: npt.NDArray[np.float32], scale: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Where the logarithmic quantiser puts each weight: 0 for zero, k + 1 for 2**k.

    Borders lie halfway between neighbours (0.5, 1.5, 3, 6, ...), as nearest rounding has them.

    Args:
        weight: (C_out, ...).
        scale: (C_out,), value of level 1; 0 in a channel without weights.
    """
    safe = np.where(scale > 0, scale, 1.0).reshape(-1, *[1] * (weight.ndim - 1))
    ratio = np.abs(weight) / safe
    exponent = np.maximum(np.ceil(np.log2(np.maximum(ratio, 0.5) / 1.5)), 0.0)
    bins: npt.NDArray[np.int64] = np.where(ratio <= 0.5, 0, exponent + 1).astype(np.int64)
    return bins


def _keep(
    bins: npt.NDArray[np.int64], magnitudes: npt.NDArray[np.float32], sparsity: float
) -> npt.NDArray[np.bool_]:
    """True for all but the round(sparsity * n) smallest by (bin, magnitude, position)."""
    n_zeros = round(sparsity * bins.size)
    order = np.lexsort((magnitudes, bins))
    kept = np.ones(bins.size, np.bool_)
    kept[order[:n_zeros]] = False
    return kept
