"""What reaches one lane of the array when a network runs: real activations beside real weights.

The array's order is that of docs/accelerator.md: tile by tile, group by group, one pixel a cycle;
empty groups take no cycle. Streams are stretches of that order, each seen by one lane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.groups import cut_groups, gather_groups
from bacmac.host.arith.network import ConvOp, IntegerNetwork
from bacmac.host.model.inputs import Codes
from bacmac.host.quantize.propagate import run_op

STREAMS = 64
TILE = 64  # output pixels
SIGNED_OFFSET = 128  # signed activations enter the array with the top bit inverted

Bytes = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Trace:
    """What a lane is given, cycle by cycle, in 64 independent streams.

    Attributes:
        activations: uint8 (cycles, 64, inputs), as they enter the array.
        levels: int8 (cycles, 64, inputs).
        base: int64 (cycles, 64), the accumulator that the dot product is added to.
    """

    activations: Bytes
    levels: Levels
    base: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """One layer of one image as the array executes it.

    Attributes:
        windows: uint8 (n_chunks, pixels, inputs): every chunk of every output pixel.
        groups: int8 (n, outputs, inputs), those that are not empty, block by block.
        chunk: (n,) which of the chunks each group takes.
        block: (n,) its output block.
    """

    windows: Bytes
    groups: Levels
    chunk: npt.NDArray[np.int64]
    block: npt.NDArray[np.int64]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(group, first pixel of the tile) in order; a run is a cycle a pixel of the tile."""
        tiles = range(0, self.windows.shape[1], TILE)
        return [(group, first) for first in tiles for group in range(len(self.groups))]


def capture_layers(
    network: IntegerNetwork,
    image: Codes,
    *,
    inputs: int = 16,
    outputs: int = 16,
) -> list[LayerTrace]:
    """Every layer with weights, for one image (C, H, W) of input codes.

    Raises:
        ValueError: the image is not the network's input.
    """
    tensors = [image[None]]
    layers = []
    for index, op in enumerate(network.ops):
        codes = tensors[op.input]
        residual = None
        if isinstance(op, ConvOp):
            signed = network.ranges[op.input][0] < 0
            layers.append(_layer(op, codes[0], signed, inputs, outputs))
            residual = None if op.residual is None else tensors[op.residual]
        if index < len(network.ops) - 1:  # nothing reads the last, which may be no activation
            tensors.append(run_op(op, codes, residual))
    return layers


def sample_trace(layers: list[LayerTrace], cycles: int, seed: int) -> Trace:
    """64 stretches of `cycles` cycles, each of a random lane, from random places of the run.

    A stretch that reaches the end of the network goes on at its beginning. Every cycle of the
    run is as likely a beginning as any other.
    """
    rng = np.random.default_rng(seed)
    runs = [(layer, *run) for layer in layers for run in layer.runs]
    lengths = np.array([min(TILE, layer.windows.shape[1] - first) for layer, _, first in runs])
    ends = np.cumsum(lengths)
    inputs, lanes = layers[0].groups.shape[2], layers[0].groups.shape[1]
    activations = np.zeros((cycles, STREAMS, inputs), np.uint8)
    levels = np.zeros((cycles, STREAMS, inputs), np.int8)
    base = np.zeros((cycles, STREAMS), np.int64)
    for stream in range(STREAMS):
        lane, start = int(rng.integers(lanes)), int(rng.integers(ends[-1]))
        at = int(np.searchsorted(ends, start, side="right"))
        skip, cycle = start - int(ends[at] - lengths[at]), 0
        while cycle < cycles:
            layer, group, first = runs[at]
            pixels = slice(first + skip, first + int(lengths[at]))
            n = min(pixels.stop - pixels.start, cycles - cycle)
            pixels, rows = slice(pixels.start, pixels.start + n), slice(cycle, cycle + n)
            activations[rows, stream] = layer.windows[layer.chunk[group], pixels]
            levels[rows, stream] = layer.groups[group, lane]
            base[rows, stream] = _accumulated(layer, group, lane, pixels)
            cycle, skip, at = cycle + n, 0, (at + 1) % len(runs)
    return Trace(activations, levels, base)


def _accumulated(layer: LayerTrace, group: int, lane: int, pixels: slice) -> npt.NDArray[np.int64]:
    """The accumulators (n pixels,) of a lane before a group."""
    before = np.flatnonzero(layer.block[:group] == layer.block[group])
    windows = layer.windows[layer.chunk[before], pixels].astype(np.int64)
    weights = layer.groups[before, lane].astype(np.int64)
    total: npt.NDArray[np.int64] = np.einsum("kpi,ki->p", windows, weights)
    return total


def _layer(op: ConvOp, codes: Codes, signed: bool, inputs: int, outputs: int) -> LayerTrace:
    channels, height, width = codes.shape
    kernel = (op.levels.shape[2], op.levels.shape[3])
    dense = kernel == (height, width) and not any(op.padding) and op.groups == 1
    cut = cut_groups(op.levels.shape, op.groups, dense=dense, outputs=outputs, inputs=inputs)
    groups = gather_groups(op.levels.astype(np.int8, copy=False), cut)
    kept = np.flatnonzero(groups.any(axis=(1, 2)))
    places = np.stack([cut.rows, cut.offsets], axis=1)
    chunks, chunk = np.unique(places, axis=0, return_inverse=True)

    offset = SIGNED_OFFSET if signed else 0
    image = (codes.astype(np.int64) + offset).astype(np.uint8).transpose(1, 2, 0)
    if dense:
        image = image.reshape(1, 1, -1)
        height, width, channels = image.shape
        kernel = (1, 1)
    top, left, bottom, right = op.padding
    rows, columns = height + top + bottom, width + left + right
    spare = int(chunks[:, 1].max()) + inputs  # a chunk may read past its segment
    padded = np.full((rows, columns * channels + spare), offset, np.uint8)
    padded[top : top + height, left * channels : (left + width) * channels] = image.reshape(
        height, -1
    )
    y = np.arange((rows - kernel[0]) // op.stride[0] + 1) * op.stride[0]
    x = np.arange((columns - kernel[1]) // op.stride[1] + 1) * op.stride[1]
    windows = np.stack(
        [
            padded[
                (y + ky)[:, None, None],
                (x * channels + start)[None, :, None] + np.arange(inputs),
            ].reshape(-1, inputs)
            for ky, start in chunks.tolist()
        ]
    )
    return LayerTrace(windows, groups[kept], chunk.reshape(-1)[kept], cut.blocks[kept])
