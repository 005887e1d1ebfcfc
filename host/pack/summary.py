"""What a person wants to know of a quantized model, layer by layer and in all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.groups import cut_groups, gather_groups
from bacmac.host.arith.network import ConvOp, Op, Shape
from bacmac.host.arith.schemes import SCHEMES, Levels
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.layer_shape import to_matrix
from bacmac.host.pack.sparse import TILE


@dataclass(frozen=True)
class LayerSummary:
    """What a person wants to know of one layer, or of all ("total").

    Attributes:
        name: the layer's, or "total".
        op: "conv", "dense", "structural", "max pool", "average pool", or "" for the total.
        scheme: of the weights; "" where there are none, "mixed" for a total of several.
        weight_shape: (C_out, C_in / groups, kh, kw), or () where there are no weights.
        output_shape: (C, H, W).
        n_weights: weights that count; 0 for pools and structural layers.
        n_zeros: of these, how many are zero.
        levels_used: distinct levels among these, ascending.
        level_counts: how many weights are on each of them.
        relative_squared_error: sum((w - level*scale)^2) / sum(w^2) against the float weights; the
            total is the mean of the layers', each counted by its weights.
        bits_per_weight: bits of one dense code (a mean over all weights for the total).
        macs: multiply-accumulates of one image, structural layers and pools not counted.
        n_products: of these, how many have a weight that is not zero.
        n_groups: groups that an overlay's array cuts the weights into; 0 where none was named.
        n_empty_groups: of these, how many it skips because all their weights are zero.
        n_tiles: 4x4 tiles of the bitmap format.
        n_empty_tiles: of these, how many hold no weight: two bytes each in that format, no element.
        n_channels: output channels with weights.
        n_empty_channels: of these, how many have none that is not zero.
    """

    name: str
    op: str
    scheme: str
    weight_shape: tuple[int, ...]
    output_shape: Shape
    n_weights: int
    n_zeros: int
    levels_used: tuple[int, ...]
    relative_squared_error: float
    bits_per_weight: float
    macs: int
    level_counts: tuple[int, ...] = ()
    n_products: int = 0
    n_groups: int = 0
    n_empty_groups: int = 0
    n_tiles: int = 0
    n_empty_tiles: int = 0
    n_channels: int = 0
    n_empty_channels: int = 0

    @property
    def sparsity(self) -> float:
        """Share of zero weights; 0 where there are no weights."""
        return self.n_zeros / self.n_weights if self.n_weights else 0.0


def summarize(
    model: QuantizedModel, group: tuple[int, int] | None = None
) -> tuple[LayerSummary, ...]:
    """One summary a layer in execution order, then the total.

    Args:
        model: what is summed up.
        group: output channels and inputs of a group, where groups are to be counted.
    """
    shapes = model.network.shapes
    layers = []
    for index, layer in enumerate(model.layers):
        op, shape = layer.op, shapes[index + 1]
        weighted = isinstance(op, ConvOp) and layer.has_weights
        levels = op.levels if isinstance(op, ConvOp) else np.zeros((0,), np.int8)
        used, counts = np.unique(levels if weighted else levels[:0], return_counts=True)
        filled = _filled_groups(op, shapes[op.input], group) if weighted and group else np.zeros(0)
        tiles = _filled_tiles(levels) if weighted else np.zeros(0)
        channels = levels.reshape(len(levels), -1).any(1) if weighted else np.zeros(0)
        layers.append(
            LayerSummary(
                name=layer.name,
                op=_op_word(op, structural=layer.structural, input_shape=shapes[op.input]),
                scheme=layer.scheme if weighted else "",
                weight_shape=levels.shape if isinstance(op, ConvOp) else (),
                output_shape=shape,
                n_weights=levels.size if weighted else 0,
                n_zeros=levels.size - int(np.count_nonzero(levels)) if weighted else 0,
                levels_used=tuple(used.tolist()),
                level_counts=tuple(counts.tolist()),
                relative_squared_error=layer.relative_squared_error,
                bits_per_weight=float(SCHEMES[layer.scheme].bits) if weighted else 0.0,
                macs=levels[0].size * int(np.prod(shape)) if weighted else 0,
                n_products=int(np.count_nonzero(levels)) * shape[1] * shape[2] if weighted else 0,
                n_groups=len(filled),
                n_empty_groups=len(filled) - int(np.count_nonzero(filled)),
                n_tiles=tiles.size,
                n_empty_tiles=tiles.size - int(np.count_nonzero(tiles)),
                n_channels=channels.size,
                n_empty_channels=channels.size - int(np.count_nonzero(channels)),
            )
        )
    return (*layers, _total(layers))


def skipped_cycles(layers: tuple[LayerSummary, ...]) -> float:
    """Share of the array's cycles, a pixel a group, that empty groups save over all the layers."""
    rows = [layer for layer in layers if layer.op]
    cycles = [layer.output_shape[1] * layer.output_shape[2] for layer in rows]
    whole = sum(layer.n_groups * n for layer, n in zip(rows, cycles, strict=True))
    empty = sum(layer.n_empty_groups * n for layer, n in zip(rows, cycles, strict=True))
    return empty / whole if whole else 0.0


def _filled_groups(op: Op, input_shape: Shape, group: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(n,) whether each group of a convolution holds a weight that is not zero."""
    if not isinstance(op, ConvOp):
        return np.zeros(0, np.bool_)
    dense = op.levels.shape[2:] == input_shape[1:] and not any(op.padding) and op.groups == 1
    outputs, inputs = group
    cut = cut_groups(op.levels.shape, op.groups, dense=dense, outputs=outputs, inputs=inputs)
    filled: npt.NDArray[np.bool_] = np.count_nonzero(gather_groups(op.levels, cut), (1, 2)) > 0
    return filled


def _filled_tiles(levels: Levels) -> npt.NDArray[np.bool_]:
    """Whether each 4x4 tile of the weight matrix holds a weight that is not zero."""
    matrix = to_matrix(levels) != 0
    down = np.logical_or.reduceat(matrix, np.arange(0, matrix.shape[0], TILE), axis=0)
    filled: npt.NDArray[np.bool_] = np.logical_or.reduceat(
        down, np.arange(0, matrix.shape[1], TILE), axis=1
    )
    return filled


def _op_word(op: Op, *, structural: bool, input_shape: Shape) -> str:
    if not isinstance(op, ConvOp):
        return f"{op.kind} pool"
    if structural:
        return "structural"
    whole = op.levels.shape[2:] == input_shape[1:] and not any(op.padding) and op.groups == 1
    return "dense" if whole else "conv"


def _total(layers: list[LayerSummary]) -> LayerSummary:
    weighted = [layer for layer in layers if layer.n_weights]
    n_weights = sum(layer.n_weights for layer in weighted)
    schemes = {layer.scheme for layer in weighted}
    counts: Counter[int] = Counter()
    for layer in weighted:
        counts.update(dict(zip(layer.levels_used, layer.level_counts, strict=True)))
    used = tuple(sorted(counts))

    def mean(values: list[float]) -> float:
        total = sum(v * layer.n_weights for v, layer in zip(values, weighted, strict=True))
        return total / n_weights if n_weights else 0.0

    return LayerSummary(
        name="total",
        op="",
        scheme=schemes.pop() if len(schemes) == 1 else "mixed" if schemes else "",
        weight_shape=(),
        output_shape=layers[-1].output_shape,
        n_weights=n_weights,
        n_zeros=sum(layer.n_zeros for layer in weighted),
        levels_used=used,
        level_counts=tuple(counts[level] for level in used),
        relative_squared_error=mean([layer.relative_squared_error for layer in weighted]),
        bits_per_weight=mean([layer.bits_per_weight for layer in weighted]),
        macs=sum(layer.macs for layer in weighted),
        n_products=sum(layer.n_products for layer in weighted),
        n_groups=sum(layer.n_groups for layer in weighted),
        n_empty_groups=sum(layer.n_empty_groups for layer in weighted),
        n_tiles=sum(layer.n_tiles for layer in weighted),
        n_empty_tiles=sum(layer.n_empty_tiles for layer in weighted),
        n_channels=sum(layer.n_channels for layer in weighted),
        n_empty_channels=sum(layer.n_empty_channels for layer in weighted),
    )
