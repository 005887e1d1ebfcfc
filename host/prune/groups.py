"""Empty whole groups of weights, the unit that the array skips in time, and refit what stays.

Layer after layer, on calibration images, without labels or gradients:

1. Refit. The layer gets the weights and bias that bring its sums, from what the network pruned so
   far feeds it, nearest those of the float network, in squares over all windows; where it adds a
   residual, what the residual has lost counts as its own to mend. Damping holds the weights near
   the float ones. (Least squares reconstruction layer by layer: He et al. 2017, arXiv 1707.06168.)
2. Remove. The cheapest groups go, one after the other, and those that stay take over (`removal`).
   Their price is that of the weights as they will be rounded: what rounding to powers of two
   takes from a group is lost whether the group stays or goes.

How many groups each layer loses, scope "global": so that the share of the array's *time* is reached
over all layers together (a group costs a cycle for each of the layer's output pixels), where the
outputs suffer least. A group's price is what its layer's sums lose, times how much the network's
outputs moved for each unit of such loss when PROBE_SHARE of that layer alone was removed, over its
cycles. Scope "layer": the same share of the groups of each layer.

The first and the last layer with weights are left whole, and so are grouped (depthwise)
convolutions, whose groups are mostly empty slots; `shares` can name the former.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.groups import GroupCut, cut_groups
from bacmac.host.errors import InputError
from bacmac.host.model.forward import FloatTensor, run_layer, walk
from bacmac.host.model.layers import INPUT, LINEAR, Conv, Layer, Model
from bacmac.host.model.moments import Float, window_moments
from bacmac.host.prune.masks import SCOPES, Masks
from bacmac.host.prune.removal import damped_inverse, removal_order, without_columns

Progress = Callable[[str, int, int], None]
Tensors = dict[str, FloatTensor]
Rounding = Callable[[str, Float], Float]
"""What rounding makes of a layer's weights: name, (C_out, K) -> (C_out, K)."""

PROBE_SHARE = 0.3
PROBE_IMAGES = 256
MAX_TENSOR_BYTES = 1 << 28
"""Of one tensor over all the images: fewer images are used where a layer is larger."""
MAX_COLUMNS = 1 << 13
"""Inputs of an output that this takes: matrices of 0.5 GB."""


@dataclass(frozen=True)
class GroupPruning:
    """Which groups, and how many.

    Attributes:
        outputs: output channels of a group, `geometry.group_outputs` of the overlay.
        inputs: window-row bytes of a group, `geometry.group_inputs`.
        share: to be emptied, 0 to below 1.
        scope: "global" (of the array's cycles over all layers) or "layer" (of each one's groups).
        shares: of single layers; these leave the global pool.

    Raises:
        InputError: a share is out of range, a side is not above 0, or the scope does not exist.
    """

    outputs: int
    inputs: int
    share: float
    scope: str = "global"
    shares: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, share in {"share": self.share, **self.shares}.items():
            if not 0.0 <= share < 1.0:
                raise InputError("group pruning", name, found=str(share), expected="0 to below 1")
        if min(self.outputs, self.inputs) < 1:
            shape = f"{self.outputs}x{self.inputs}"
            raise InputError("group pruning", "group", found=shape, expected="sides above 0")
        if self.scope not in SCOPES:
            expected = f"one of {', '.join(SCOPES)}"
            raise InputError("group pruning", "scope", found=repr(self.scope), expected=expected)


@dataclass(frozen=True, eq=False)
class _Sequence:
    """The groups of a layer in the order in which they go, and what each costs the layer's sums."""

    cut: GroupCut
    order: npt.NDArray[np.int64]
    losses: Float


def prune_groups(
    model: Model,
    images: FloatTensor,
    pruning: GroupPruning,
    *,
    rounding: Rounding | None = None,
    progress: Progress | None = None,
) -> tuple[Model, Masks]:
    """Empty groups and refit the weights that stay. Deterministic.

    Args:
        model: the float network.
        images: (N, C, H, W) normalized images like those it will see.
        pruning: what to do.
        rounding: what becomes of weights later; None: they stay as they are.
        progress: called with a stage, how much is done and of how much.

    Returns:
        The network with new weights, zero in the empty groups, and new biases; and for each layer
        that lost groups the mask of the weights that are left.

    Raises:
        InputError: a share names a layer whose groups cannot be emptied, nothing can be, or a
            layer has too many inputs.
    """
    candidates = _candidates(model, pruning)
    largest = max(int(np.prod(shape)) for shape in model.shapes.values()) * 4
    images = images[: max(1, MAX_TENSOR_BYTES // largest)]
    counts = _counts(model, images[:PROBE_IMAGES], pruning, candidates, rounding, progress)

    floats: Tensors = {INPUT: images}
    pruned: Tensors = {INPUT: images}
    layers: list[Layer] = []
    masks: Masks = {}
    for index, layer in enumerate(model.layers):
        changed: Layer = layer
        if isinstance(layer, Conv) and not layer.structural and layer.groups == 1:
            changed, mask = _refit(
                model, layer, floats, pruned, counts.get(layer.name, 0), pruning, rounding
            )
            if mask is not None:
                masks[layer.name] = mask
        layers.append(changed)
        floats[layer.name] = _run(layer, floats)
        same = changed is layer and all(floats[name] is pruned[name] for name in _inputs(layer))
        pruned[layer.name] = floats[layer.name] if same else _run(changed, pruned)
        still_read = {name for later in model.layers[index + 1 :] for name in _inputs(later)}
        for name in [name for name in floats if name not in still_read]:
            del floats[name], pruned[name]
        if progress is not None:
            progress("prune groups", index + 1, len(model.layers))
    return replace(model, layers=tuple(layers)), masks


def layer_cut(model: Model, layer: Conv, outputs: int, inputs: int) -> GroupCut:
    """The groups of a layer of `model`."""
    dense = (
        layer.weight.shape[2:] == model.shapes[layer.input][1:]
        and not any(layer.padding)
        and layer.groups == 1
    )
    return cut_groups(layer.weight.shape, layer.groups, dense=dense, outputs=outputs, inputs=inputs)


def _candidates(model: Model, pruning: GroupPruning) -> dict[str, Conv]:
    """The layers that lose groups, by name."""
    weighted = [layer for layer in model.layers if isinstance(layer, Conv) and not layer.structural]
    possible = {layer.name: layer for layer in weighted if layer.groups == 1}
    for name in pruning.shares:
        if name not in possible:
            raise InputError(
                "group pruning",
                f"layer {name!r}",
                found="no layer of this name whose groups can be emptied",
                expected=f"one of {', '.join(possible)}",
            )
    ends = {layer.name for layer in (*weighted[:1], *weighted[-1:])}
    chosen = {
        name: layer
        for name, layer in possible.items()
        if name in pruning.shares or name not in ends
    }
    if not chosen:
        raise InputError(
            "group pruning",
            model.name,
            found="no layer beside the first and the last, which are left whole",
            expected="one, or a share for one of these by its name",
        )
    for layer in chosen.values():
        if layer.weight[0].size > MAX_COLUMNS:
            raise InputError(
                "group pruning",
                f"layer {layer.name!r}",
                found=f"{layer.weight[0].size:,} inputs of an output",
                expected=f"at most {MAX_COLUMNS:,}",
            )
    return chosen


def _counts(
    model: Model,
    images: FloatTensor,
    pruning: GroupPruning,
    candidates: Mapping[str, Conv],
    rounding: Rounding | None,
    progress: Progress | None,
) -> dict[str, int]:
    """How many groups each layer loses."""
    counts = {}
    pool = []
    for name, layer in candidates.items():
        n_groups = len(layer_cut(model, layer, pruning.outputs, pruning.inputs).blocks)
        if pruning.scope == "global" and name not in pruning.shares:
            pool.append(layer)
        counts[name] = round(pruning.shares.get(name, pruning.share) * n_groups)
    if not pool or pruning.share == 0.0:
        return counts
    tensors = dict(walk(model, images))
    names, prices, cycles = [], [], []
    for number, layer in enumerate(pool):
        prices_of_layer = _prices(model, layer, tensors, pruning, rounding)
        names += [layer.name] * len(prices_of_layer)
        prices.append(prices_of_layer)
        pixels = int(np.prod(model.shapes[layer.name][1:]))
        cycles += [pixels] * len(prices_of_layer)
        if progress is not None:
            progress("price of groups", number + 1, len(pool))
    counts.update(dict.fromkeys((layer.name for layer in pool), 0))
    budget = pruning.share * sum(cycles)
    for position in np.argsort(np.concatenate(prices) / cycles, kind="stable"):
        if cycles[position] <= budget:
            budget -= cycles[position]
            counts[names[position]] += 1
    return counts


def _prices(
    model: Model,
    layer: Conv,
    tensors: Tensors,
    pruning: GroupPruning,
    rounding: Rounding | None,
) -> Float:
    """(n,) rising: what the network's outputs are expected to lose with each group of a layer."""
    moments = window_moments(layer, tensors[layer.input])
    weights = _rows(layer)
    inverse = damped_inverse(moments.central_squares[0])
    cut = layer_cut(model, layer, pruning.outputs, pruning.inputs)
    sequence = _removal_sequence(_rounded(layer, weights, rounding), inverse, cut)
    n_probe = max(1, int(PROBE_SHARE * len(sequence.order)))
    kept = _kept(sequence, n_probe, layer)
    probed = _without(weights, inverse, kept, pruning.outputs)
    bias = layer.bias + (weights - probed) @ moments.sums[0] / moments.n_windows
    changed = dict(tensors)
    start = [other.name for other in model.layers].index(layer.name)
    for later in (_with(layer, probed, bias), *model.layers[start + 1 :]):
        if later.name == layer.name or any(
            changed[name] is not tensors[name] for name in _inputs(later)
        ):
            changed[later.name] = _run(later, changed)
    last = model.layers[-1].name
    moved = float(np.mean((changed[last] - tensors[last]) ** 2, dtype=np.float64))
    lost = float(sequence.losses[:n_probe].sum())
    losses: Float = np.maximum.accumulate(sequence.losses)
    return losses * (moved / lost if lost > 0 else 0.0)


def _refit(
    model: Model,
    layer: Conv,
    floats: Tensors,
    pruned: Tensors,
    count: int,
    pruning: GroupPruning,
    rounding: Rounding | None,
) -> tuple[Conv, npt.NDArray[np.bool_] | None]:
    """The layer that stands in for `layer` in the pruned network, without `count` groups."""
    untouched = all(floats[name] is pruned[name] for name in _inputs(layer))
    if (untouched and not count) or layer.weight[0].size > MAX_COLUMNS:
        return layer, None
    targets = run_layer(replace(layer, activation=LINEAR, residual=None), floats[layer.input])
    if layer.residual is not None:
        targets += floats[layer.residual] - pruned[layer.residual]
    moments = window_moments(layer, pruned[layer.input], targets)
    mean, target_mean = (
        sums / moments.n_windows for sums in (moments.sums[0], moments.target_sums)
    )
    squares = moments.central_squares[0]
    products = moments.products - moments.target_sums[:, None] * mean
    inverse = damped_inverse(squares)
    weights = _rows(layer)
    weights = weights + (products - weights @ squares) @ inverse
    kept = None
    if count:
        cut = layer_cut(model, layer, pruning.outputs, pruning.inputs)
        sequence = _removal_sequence(_rounded(layer, weights, rounding), inverse, cut)
        kept = _kept(sequence, count, layer)
        weights = _without(weights, inverse, kept, pruning.outputs)
    return _with(layer, weights, target_mean - weights @ mean), kept


def _removal_sequence(weights: Float, inverse: Float, cut: GroupCut) -> _Sequence:
    """The blocks' sequences merged into one: at each step the cheapest next group of any block.

    A group that costs less than one that must go before it waits for that one.
    """
    outputs = cut.index.shape[1]
    order, rising, losses = [], [], []
    for block in range(int(cut.blocks[-1]) + 1):
        groups = np.flatnonzero(cut.blocks == block)
        first = cut.index[groups, 0]
        columns = np.where(first >= 0, first % weights.shape[1], -1)
        rows = weights[block * outputs : (block + 1) * outputs]
        block_order, block_losses = removal_order(rows, inverse, columns)
        order.append(groups[block_order])
        losses.append(block_losses)
        rising.append(np.maximum.accumulate(block_losses))
    merged = np.argsort(np.concatenate(rising), kind="stable")
    return _Sequence(cut, np.concatenate(order)[merged], np.concatenate(losses)[merged])


def _kept(sequence: _Sequence, count: int, layer: Conv) -> npt.NDArray[np.bool_]:
    """Mask of the weight's shape without the first `count` groups of the sequence."""
    kept = np.ones(layer.weight.size + 1, np.bool_)
    kept[sequence.cut.index[sequence.order[:count]]] = False
    return kept[:-1].reshape(layer.weight.shape)


def _without(weights: Float, inverse: Float, kept: npt.NDArray[np.bool_], outputs: int) -> Float:
    """Weights (C_out, K) where not kept zero, and the others of each block at their best."""
    gone = ~kept.reshape(weights.shape)
    blocks = range(0, len(weights), outputs)
    parts = [
        without_columns(weights[start : start + outputs], inverse, gone[start]) for start in blocks
    ]
    return np.concatenate(parts)


def _rounded(layer: Conv, weights: Float, rounding: Rounding | None) -> Float:
    return weights if rounding is None else rounding(layer.name, weights)


def _with(layer: Conv, weights: Float, bias: Float) -> Conv:
    weight = weights.reshape(layer.weight.shape).astype(np.float32)
    return replace(layer, weight=weight, bias=bias.astype(np.float32))


def _run(layer: Layer, tensors: Tensors) -> FloatTensor:
    inputs = [tensors[name] for name in _inputs(layer)]
    return run_layer(layer, *inputs)


def _inputs(layer: Layer) -> tuple[str, ...]:
    residual = layer.residual if isinstance(layer, Conv) else None
    return (layer.input,) if residual is None else (layer.input, residual)


def _rows(layer: Conv) -> Float:
    return layer.weight.reshape(len(layer.weight), -1).astype(np.float64)
