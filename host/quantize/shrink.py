"""A network without the channels that say nothing: the same outputs, bit for bit, in less time.

A channel whose weights are all zero and whose stored output is 0 adds nothing to what reads it.
Where only convolutions over all channels read it, directly or through pools, the channel and the
weights that would be multiplied by it can go. A channel that is added to others (a residual), moved
or read by a depthwise convolution stays.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import ConvOp, Op, PoolOp
from bacmac.host.arith.reference import requantize
from bacmac.host.model.quantized import QuantizedLayer, QuantizedModel

Kept = npt.NDArray[np.bool_]


def without_silent_channels(model: QuantizedModel) -> QuantizedModel:
    """The model without channels that can go; itself where none can."""
    kept = _kept(model)
    if all(stays.all() for stays in kept):
        return model
    layers = tuple(
        _cut(layer, kept[layer.op.input], kept[number + 1])
        for number, layer in enumerate(model.layers)
    )
    return replace(model, layers=layers)


def _kept(model: QuantizedModel) -> list[Kept]:
    """(C,) of each tensor, the input first: which of its channels stay."""
    ops = [layer.op for layer in model.layers]
    removable = [False] * (len(ops) + 1)
    for number in reversed(range(1, len(ops))):
        readers = [
            (later, op)
            for later, op in enumerate(ops[number:], number)
            if number in (op.input, _residual(op))
        ]
        removable[number] = bool(readers) and all(
            removable[later + 1]
            if isinstance(op, PoolOp)
            else op.groups == 1 and op.residual != number
            for later, op in readers
        )
    kept = [np.ones(model.input_shape[0], np.bool_)]
    for number, layer in enumerate(model.layers, 1):
        silent = np.zeros(model.network.shapes[number][0], np.bool_)
        if isinstance(layer.op, PoolOp):
            silent = ~kept[layer.op.input]
        elif removable[number] and layer.has_weights and layer.op.groups == 1:
            silent = _silent(layer.op)
            if silent.all():
                silent[0] = False
        kept.append(~silent)
    return kept


def _silent(op: ConvOp) -> Kept:
    """(C_out,) no weights, and the stored output is 0 whatever the input."""
    if op.requantize is None or op.residual is not None:
        return np.zeros(len(op.levels), np.bool_)
    stored = requantize(op.bias.astype(np.int64)[None, :, None, None], op.requantize)
    silent: Kept = ~op.levels.reshape(len(op.levels), -1).any(1) & (stored.reshape(-1) == 0)
    return silent


def _cut(layer: QuantizedLayer, inputs: Kept, outputs: Kept) -> QuantizedLayer:
    """The layer that reads `inputs` and writes `outputs` of its channels."""
    op = layer.op
    how = op.requantize
    if how is not None:
        residual = how.residual_multiplier
        how = replace(
            how,
            multiplier=how.multiplier[outputs],
            shift=how.shift[outputs],
            residual_multiplier=None if residual is None else residual[outputs],
        )
    if isinstance(op, PoolOp):
        return replace(layer, op=replace(op, requantize=how))
    levels = op.levels[outputs] if op.groups > 1 else op.levels[outputs][:, inputs]
    return replace(
        layer,
        op=replace(op, levels=levels, bias=op.bias[outputs], requantize=how),
        weight_scale=layer.weight_scale[outputs],
    )


def _residual(op: Op) -> int | None:
    return op.residual if isinstance(op, ConvOp) else None
