"""What a network costs on the array: cycles, products, bytes. Pure functions of the weights.

The compiler predicts with these functions and the emulated accelerator counts with them, from what
it decoded out of its own memories. Cycles are exact: docs/accelerator.md, "Time", has the
recurrence, and the hardware counts the same.

One layer, one image, with P output pixels in tiles of T, and a group list whose block b has n(b)
entries. W is the cycles in which the words of a group are read (0 for a pool and for an empty
block), `step` the cycles of a pixel in the write-back:

    issued    A(0)     = HEAD + max(1, W(0))           HEAD = HEAD_CYCLES + 64 / inputs
              A(k + 1) = max(A(k) + max(t, W(k + 1)), buffer(b) at the first of block b)
    written   S(b)     = max(A(last of b) + t + ACCUMULATE, S(b - 1) + step t(b - 1))
              buffer(b + 2) = S(b) + max(step (t(b) - 1) - EARLY, RELEASE)
    layer              = S(last) + step t(last) + DRAIN

    busy cycles       = entries that are not empty x P: a pixel goes into the array
    products done     = weights that are not zero x P        padding counts: the slots are clocked
    products isolated = other slots of the groups in the list x P: operands held still
    products skipped  = slots of the groups that are not in it x P: no cycle at all
    weight bytes      = bytes of the groups x tiles
    activation bytes  = busy cycles x array inputs + output bytes + as many residual bytes

Slots are those of whole groups, edges included: done + isolated = outputs x inputs x busy cycles.
A pool is busy and has no products.

A batch of n images, r passes, i and o the beats of an image in and out:

    cycles = BATCH + n i + r n (sum over layers) + n (OUTPUT + o)
    BATCH  = BATCH_CYCLES + 64 / inputs

Cycles in which the accelerator waits for the host's streams come on top and are counted apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np

from bacmac.host.arith.array_codes import group_bytes
from bacmac.host.arith.network import ConvOp, Op, Shape
from bacmac.host.compile.descriptor import DESCRIPTOR_BYTES
from bacmac.host.compile.weights import LayerGroups
from bacmac.host.manifest.overlay import Geometry

HEAD_CYCLES, ACCUMULATE, EARLY, RELEASE, DRAIN = 34, 11, 6, 2, 15
"""Latencies of a layer in cycles, see docs/accelerator.md; HEAD also reads the descriptor."""
BATCH_CYCLES, OUTPUT = 52, 5
"""Latencies of a batch, which also reads a descriptor, and of each image's output."""


@dataclass(frozen=True)
class Work:
    """Counts over a layer, an image or a batch; see the module's formulas."""

    cycles: int = 0
    busy_cycles: int = 0
    products_done: int = 0
    products_isolated: int = 0
    products_skipped: int = 0
    weight_bytes: int = 0
    activation_bytes: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Work)))

    def times(self, n: int) -> Work:
        """The same n times."""
        return Work(*(n * getattr(self, f.name) for f in fields(Work)))


def total(parts: Iterable[Work]) -> Work:
    """The sum."""
    return sum(parts, Work())


def batch_work(
    image: Work,
    n_images: int,
    passes: int,
    *,
    input_beats: int,
    output_beats: int,
    geometry: Geometry,
) -> Work:
    """Work of a batch whose images have so many stream beats."""
    begin = BATCH_CYCLES + DESCRIPTOR_BYTES // geometry.inputs
    streams = begin + n_images * (input_beats + OUTPUT + output_beats)
    return image.times(n_images * passes) + Work(cycles=streams)


def layer_work(
    op: Op, groups: LayerGroups, output_shape: Shape, geometry: Geometry, scheme: str
) -> Work:
    """Work of one layer for one image."""
    channels, height, width = output_shape
    pixels, slots = height * width, geometry.outputs * geometry.inputs
    convolution = isinstance(op, ConvOp)
    residual = isinstance(op, ConvOp) and op.residual is not None
    wide = isinstance(op, ConvOp) and op.requantize is None
    size = group_bytes(geometry.outputs, geometry.inputs, scheme)
    step = 4 * geometry.outputs // geometry.inputs if wide else 2 if residual else 1
    cycles = layer_cycles(
        groups.per_block,
        pixels,
        geometry.pixel_tile,
        head=HEAD_CYCLES + DESCRIPTOR_BYTES // geometry.inputs,
        load_cycles=size // geometry.inputs if convolution else 0,
        step=step,
        residual=residual,
    )
    busy = sum(groups.per_block) * pixels
    done = int(np.count_nonzero(groups.levels)) * pixels
    output_bytes = channels * pixels * (4 if wide else 1)
    return Work(
        cycles,
        busy,
        done,
        slots * busy - done if convolution else 0,
        slots * groups.n_skipped * pixels,
        len(groups.levels) * size * -(-pixels // geometry.pixel_tile),
        busy * geometry.inputs + output_bytes * (2 if residual else 1),
    )


@dataclass(frozen=True)
class BlockTimes:
    """When one output block of one tile passes, in cycles since the layer's start.

    Attributes:
        issued: its first pixel goes into the array.
        issue_end: after its last.
        written: its write-back begins.
        write_end: its accumulators are read.
    """

    issued: int
    issue_end: int
    written: int
    write_end: int


def layer_cycles(
    per_block: tuple[int, ...],
    pixels: int,
    tile: int,
    *,
    head: int,
    load_cycles: int,
    step: int,
    residual: bool,
) -> int:
    """Cycles of one layer; the arguments are those of `layer_blocks`."""
    end = 0
    for block in layer_blocks(
        per_block, pixels, tile, head=head, load_cycles=load_cycles, step=step, residual=residual
    ):
        end = block.write_end
    return end + DRAIN


def layer_blocks(
    per_block: tuple[int, ...],
    pixels: int,
    tile: int,
    *,
    head: int,
    load_cycles: int,
    step: int,
    residual: bool,
) -> Iterator[BlockTimes]:
    """The recurrence, a block at a time, tile after tile.

    Inside a block every entry takes as long as the one before, so that only first and last
    entries need be followed.

    Args:
        per_block: entries of each output block, 0 where it is empty.
        pixels: output pixels.
        tile: pixels of a tile.
        head: cycles until the first entry is there.
        load_cycles: cycles in which the words of a group are read; 0 for a pool.
        step: cycles of a pixel in the write-back.
        residual: the write-back begins in an even cycle.
    """
    before, write_end = head, 0  # when the entry before was issued; the end of the write-back
    free = [0, 0]  # when the two sets of accumulators can be used
    length = 0
    for start in range(0, pixels, tile):
        t = min(tile, pixels - start)
        for entries in per_block:
            load = load_cycles if entries else 0
            first = max(before + max(length, load, 1), free[0])
            length = t
            last = first + max(entries - 1, 0) * max(t, load)
            written = max(last + t + ACCUMULATE, write_end)
            if residual:
                written += written % 2
            write_end = written + step * t
            before = last
            free = [free[1], written + max(step * (t - 1) - EARLY, RELEASE)]
            yield BlockTimes(first, last + t, written, write_end)
