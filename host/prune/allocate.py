"""How many units each layer loses, so that the network's outputs suffer least.

A layer's loss curve is what its sums lose, after the rest was refitted, at each share of LADDER.
Its price is how far the network's outputs move for each unit of such loss, measured by pruning that
layer alone. Price times curve, made convex, is a list of segments; the cheapest for what they save
are taken until the share is reached (Shoham and Gersho 1988, "Efficient bit allocation for an
arbitrary set of quantizers"). Labels are not used, nor gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from bacmac.host.model.forward import FloatTensor, run_layer, walk
from bacmac.host.model.layers import Conv, Layer, Model
from bacmac.host.model.moments import Float, window_moments
from bacmac.host.model.sparse_fit import ROUGH_STEPS, damped, sparse_fit
from bacmac.host.prune.structures import Integers, Units

Progress = Callable[[str, int, int], None]

LADDER = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.85, 0.92, 0.97)
"""Shares at which a layer's loss is measured; no layer loses more than the last."""
LEAST_PROBE, MOST_PROBE = 0.3, 0.9
"""The price is measured near the share that is wanted: the outputs do not move in proportion."""
PROBE_IMAGES = 64
DAMPING = 0.01


@dataclass(frozen=True, eq=False)
class Candidate:
    """A layer that loses units.

    Attributes:
        number: (C_out, K) unit of each weight.
        cost: of one unit, in what the share is of: weights, or the array's cycles.
    """

    number: Integers
    cost: float

    @property
    def n_units(self) -> int:
        """How many units there are."""
        return int(self.number.max()) + 1


def share_out(
    model: Model,
    images: FloatTensor,
    candidates: Mapping[str, Candidate],
    share: float,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Units that each candidate loses, all together `share` of their cost, to one unit.

    Args:
        model: the float network.
        images: (N, C, H, W) normalized; the first PROBE_IMAGES are used.
        candidates: by layer name; depthwise and grouped convolutions too.
        share: 0 to below 1.
        progress: called with a stage, how much is done and of how much.
    """
    counts = dict.fromkeys(candidates, 0)
    if share == 0.0:
        return counts
    tensors = dict(walk(model, images[:PROBE_IMAGES]))
    layers = {layer.name: layer for layer in model.layers if isinstance(layer, Conv)}
    segments = []
    for done, (name, candidate) in enumerate(candidates.items()):
        losses = _losses(model, layers[name], tensors, candidate, share)
        steps = np.round(np.array(LADDER) * candidate.n_units).astype(np.int64)
        segments += _convex(name, steps, losses, candidate.cost)
        if progress is not None:
            progress("price of zeros", done + 1, len(candidates))
    budget = share * sum(candidate.n_units * candidate.cost for candidate in candidates.values())
    for segment in sorted(segments, key=lambda segment: segment.slope):
        cost = candidates[segment.layer].cost
        # half a unit: the share is reached to one unit, from either side
        taken = max(0, min(segment.n_units, int(budget / cost + 0.5)))
        counts[segment.layer] += taken
        budget -= taken * cost
    return counts


@dataclass(frozen=True)
class _Segment:
    layer: str
    n_units: int
    slope: float


def _convex(name: str, steps: Integers, losses: Float, cost: float) -> list[_Segment]:
    """The lower convex hull of a loss curve: slopes rise, so sorting keeps a layer's order."""
    hull = [0]
    for point in range(1, len(steps)):
        if steps[point] == steps[hull[-1]]:
            continue
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            left = (losses[b] - losses[a]) * (steps[point] - steps[b])
            if left < (losses[point] - losses[b]) * (steps[b] - steps[a]):
                break
            hull.pop()
        hull.append(point)
    return [
        _Segment(
            name,
            int(steps[b] - steps[a]),
            float((losses[b] - losses[a]) / ((steps[b] - steps[a]) * cost)),
        )
        for a, b in pairwise(hull)
    ]


def _losses(
    model: Model,
    layer: Conv,
    tensors: dict[str, FloatTensor],
    candidate: Candidate,
    share: float,
) -> Float:
    """What the network's outputs are expected to lose at each share of LADDER."""
    moments = window_moments(layer, tensors[layer.input])
    squares = moments.central_squares
    hessians = damped(squares, DAMPING)
    rows = layer.weight.reshape(len(layer.weight), -1).astype(np.float64)
    group = np.repeat(np.arange(layer.groups), len(rows) // layer.groups)

    def pruned(units: int) -> Float:
        return sparse_fit(rows, hessians, Units(candidate.number, units), ROUGH_STEPS)[0]

    def lost(weights: Float) -> float:
        errors = (rows - weights).reshape(layer.groups, -1, rows.shape[1])
        return float(np.sum((errors @ squares) * errors))

    losses = np.array([lost(pruned(round(at * candidate.n_units))) for at in LADDER])
    losses = np.maximum.accumulate(losses)
    probe = pruned(round(min(max(share, LEAST_PROBE), MOST_PROBE) * candidate.n_units))
    means = moments.sums[group] / moments.n_windows
    bias = layer.bias + np.sum((rows - probe) * means, axis=1)
    changed = replace(
        layer,
        weight=probe.reshape(layer.weight.shape).astype(np.float32),
        bias=bias.astype(np.float32),
    )
    probe_loss = lost(probe)
    return losses * (_moved(model, changed, tensors) / probe_loss if probe_loss > 0 else 0.0)


def _moved(model: Model, changed: Conv, tensors: dict[str, FloatTensor]) -> float:
    """Mean squared change of the network's outputs when one layer is `changed`."""
    names = [layer.name for layer in model.layers]
    new: dict[str, FloatTensor] = {}
    for layer in (changed, *model.layers[names.index(changed.name) + 1 :]):
        if layer is changed or any(name in new for name in _inputs(layer)):
            new[layer.name] = run_layer(
                layer, *(new.get(name, tensors[name]) for name in _inputs(layer))
            )
    last = names[-1]
    difference = new.get(last, tensors[last]) - tensors[last]
    return float(np.mean(difference**2, dtype=np.float64))


def _inputs(layer: Layer) -> tuple[str, ...]:
    residual = layer.residual if isinstance(layer, Conv) else None
    return (layer.input,) if residual is None else (layer.input, residual)
