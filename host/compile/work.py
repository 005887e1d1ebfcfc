"""What a network costs on the array: cycles, products, bytes. Pure functions of the weights.

The compiler predicts with these functions and the emulated accelerator counts with them, from the
network it decoded out of its own memories. This is cycle model 1: it describes the weight
stationary loop that is to be built, and no RTL has confirmed it yet.

One convolution, one image, with P output pixels, W cycles to load a group (its bytes through a
port of one beat), tiles of T pixels, of which there are ceil(P / T); B output blocks; E empty and
F full groups in all:

    for each tile (t pixels):
        for each output block:
            for each tap, input block:     empty: 1 cycle
                                           full:  W + t cycles: load, then one pixel a cycle
            t cycles to requantize, and 4 to fill and drain the pipe

    cycles           = F (ceil(P/T) W + P) + E ceil(P/T) + B P + 4 B ceil(P/T) + 16
    products done    = weights that are not zero x P        padding counts: the slots are clocked
    products skipped = zero weights x P
    weight bytes     = F x bytes of a group x ceil(P/T)
    activation bytes = F P x array inputs + output bytes + as many residual bytes

Weights are those of the layer, not of the padded groups; structural layers (an identity that
carries a residual) count like any other. A pool with a window of K, one pixel of `inputs`
channels a cycle, C channels:

    cycles           = P ceil(C / inputs) K + 16            no products, no weights
    activation bytes = P ceil(C / inputs) K inputs + output bytes

A batch of n images, r passes:

    cycles = n (input beats) + r n (sum over layers) + n (output beats)

The images of a batch enter once and stay on chip; the outputs of the last pass leave. Cycles in
which the accelerator waits for the host's streams come on top and are counted apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bacmac.host.arith.network import ConvOp, IntegerNetwork, PoolOp, Shape
from bacmac.host.compile.weights import Levels, blocking, cut, group_bytes, is_dense, matrix
from bacmac.host.manifest.overlay import Geometry

BLOCK_OVERHEAD_CYCLES = 4
LAYER_OVERHEAD_CYCLES = 16


@dataclass(frozen=True)
class Work:
    """Counts over a layer, an image or a batch; see the module's formulas."""

    cycles: int = 0
    products_done: int = 0
    products_skipped: int = 0
    weight_bytes: int = 0
    activation_bytes: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.cycles + other.cycles,
            self.products_done + other.products_done,
            self.products_skipped + other.products_skipped,
            self.weight_bytes + other.weight_bytes,
            self.activation_bytes + other.activation_bytes,
        )

    def times(self, n: int) -> Work:
        """The same n times."""
        return Work(
            n * self.cycles,
            n * self.products_done,
            n * self.products_skipped,
            n * self.weight_bytes,
            n * self.activation_bytes,
        )


def total(parts: Iterable[Work]) -> Work:
    """The sum."""
    return sum(parts, Work())


def layer_groups(op: ConvOp, input_shape: Shape, geometry: Geometry) -> Levels:
    """The layer's groups (n_groups, outputs, inputs) in loading order, empty ones too."""
    dense = is_dense(op, *input_shape[1:])
    return cut(matrix(op, dense=dense), geometry)


def network_work(
    network: IntegerNetwork, geometry: Geometry, code_bits: int, beat_bytes: int
) -> tuple[Work, ...]:
    """Work of each op for one image."""
    shapes = network.shapes
    works = []
    for op, output in zip(network.ops, shapes[1:], strict=True):
        if isinstance(op, PoolOp):
            works.append(_pool_work(op, output, geometry))
        else:
            works.append(_conv_work(op, shapes[op.input], output, geometry, code_bits, beat_bytes))
    return tuple(works)


def batch_work(image: Work, n_images: int, passes: int, io_beats: int) -> Work:
    """Work of a batch, where `io_beats` are the stream beats of one image, in and out."""
    return image.times(n_images * passes) + Work(cycles=n_images * io_beats)


def _conv_work(
    op: ConvOp,
    input_shape: Shape,
    output_shape: Shape,
    geometry: Geometry,
    code_bits: int,
    beat_bytes: int,
) -> Work:
    groups = layer_groups(op, input_shape, geometry)
    full = int(groups.any(axis=(1, 2)).sum())
    empty = len(groups) - full
    c_out, height, width = output_shape
    blocks = blocking(c_out, 1, 1, geometry).output_blocks
    pixels = height * width
    tiles = -(-pixels // geometry.pixel_tile)
    size = group_bytes(geometry, code_bits)
    load_cycles = -(-size // beat_bytes)
    nonzero = int(np.count_nonzero(op.levels))
    output_bytes = c_out * pixels * (1 if op.requantize is not None else 4)
    return Work(
        cycles=full * (tiles * load_cycles + pixels)
        + empty * tiles
        + blocks * (pixels + BLOCK_OVERHEAD_CYCLES * tiles)
        + LAYER_OVERHEAD_CYCLES,
        products_done=nonzero * pixels,
        products_skipped=(op.levels.size - nonzero) * pixels,
        weight_bytes=full * size * tiles,
        activation_bytes=full * pixels * geometry.inputs
        + output_bytes * (1 if op.residual is None else 2),
    )


def _pool_work(op: PoolOp, output_shape: Shape, geometry: Geometry) -> Work:
    channels, height, width = output_shape
    reads = height * width * -(-channels // geometry.inputs) * op.kernel[0] * op.kernel[1]
    return Work(
        cycles=reads + LAYER_OVERHEAD_CYCLES,
        activation_bytes=reads * geometry.inputs + channels * height * width,
    )
