"""Groups and constants: bytes in the order in which the array takes them.

How a layer is cut into groups is `bacmac.host.arith.groups`; docs/accelerator.md says why.

The group list is `bacmac.host.arith.group_list`. A pool's names the bytes of its window, and has
no weights.

Constants, a row for each output block, 12 bytes for each of its channels: bias i32, multiplier
u16, shift u8, zero u8, residual multiplier i32; channels that the layer does not have are zero.
A maximum and int32 outputs are kept as they are: multiplier 1, shift 0.

The array is unsigned: a signed input enters as its value + 128, and what that adds to a sum (128
times the sum of the channel's levels; for a pool 128 times the number of terms) is taken off the
stored bias, modulo 2**32, so that what fits int32 at the end is exact whatever happens on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.group_list import EMPTY, LAST, Entries, group_entries, pack_entries
from bacmac.host.arith.groups import cut_groups, gather_groups
from bacmac.host.arith.network import ConvOp, Op, PoolOp, Shape
from bacmac.host.manifest.overlay import Geometry

Levels = npt.NDArray[np.int8]
Constants = npt.NDArray[np.void]
Bias = npt.NDArray[np.int32]

CONSTANT = np.dtype(
    [
        ("bias", "<i4"),
        ("multiplier", "<u2"),
        ("shift", "u1"),
        ("zero", "u1"),
        ("residual_multiplier", "<i4"),
    ]
)
"""One output channel's constants, 12 bytes."""

INPUT_OFFSET = 128
"""What is added to a signed input on its way into the array."""


@dataclass(frozen=True, eq=False)
class LayerGroups:
    """The groups of one layer as a device holds them.

    Attributes:
        entries: uint32 (n_entries,), the group list.
        levels: int8 (n, outputs, inputs), the groups that are stored, in order of the list.
        n_skipped: groups that are not.
    """

    entries: Entries
    levels: Levels
    n_skipped: int

    @property
    def per_block(self) -> tuple[int, ...]:
        """Entries of each output block that have work; 0 where the block is empty."""
        ends = np.flatnonzero(self.entries & LAST)
        sizes = np.diff(ends, prepend=-1)
        sizes[self.entries[ends] & EMPTY != 0] = 0
        return tuple(sizes.tolist())


def is_dense(op: ConvOp, input_height: int, input_width: int) -> bool:
    """Whether the window is the whole unpadded input, so that HWC memory is one long pixel."""
    return (
        op.levels.shape[2:] == (input_height, input_width)
        and not any(op.padding)
        and op.groups == 1
    )


def layer_groups(op: Op, input_shape: Shape, geometry: Geometry) -> LayerGroups:
    """Cut a layer whose input is (C, H, W) into groups, and leave out the empty ones.

    Raises:
        ValueError: a chunk lies further from its window than an entry can say.
    """
    if isinstance(op, PoolOp):
        entries = pool_entries(op.kernel, input_shape[0], geometry)
        return LayerGroups(entries, no_levels(geometry), 0)
    cut = cut_groups(
        op.levels.shape,
        op.groups,
        dense=is_dense(op, *input_shape[1:]),
        outputs=geometry.outputs,
        inputs=geometry.inputs,
    )
    levels = gather_groups(op.levels, cut)
    full: npt.NDArray[np.bool_] = levels.any(axis=(1, 2)).reshape(-1)
    # what an array executes fits int8: the compiler has refused any other level by now
    stored = levels[full].astype(np.int8)
    return LayerGroups(group_entries(cut, full), stored, int(len(full) - full.sum()))


def pool_entries(kernel: tuple[int, int], channels: int, geometry: Geometry) -> Entries:
    """The list of a pool: for each block, every place of the window.

    Raises:
        ValueError: as `layer_groups`.
    """
    places = [
        (block, ky, kx * channels + block * geometry.outputs)
        for block in range(-(-channels // geometry.outputs))
        for ky in range(kernel[0])
        for kx in range(kernel[1])
    ]
    blocks, rows, offsets = np.array(places, np.int64).T
    return pack_entries(rows, offsets, np.diff(blocks, append=-1) != 0)


def encode_constants(
    op: Op, input_range: tuple[int, int], channels: int, geometry: Geometry
) -> bytes:
    """The constant rows of a layer with that many output channels."""
    records = np.zeros(-(-channels // geometry.outputs) * geometry.outputs, CONSTANT)
    own = records[:channels]
    signed = input_range[0] < 0
    bias = np.zeros(channels, np.int64)
    if isinstance(op, ConvOp):
        bias += op.bias
    if signed:
        bias -= INPUT_OFFSET * terms(op)
    own["bias"] = wrapped(bias)
    how = op.requantize
    if how is not None:
        own["multiplier"], own["shift"] = how.multiplier, how.shift
        if how.residual_multiplier is not None:
            own["residual_multiplier"] = how.residual_multiplier
    else:  # a maximum, or int32 outputs: the value as it is
        own["multiplier"] = 1
    return records.tobytes()


def terms(op: Op) -> npt.NDArray[np.int64] | int:
    """Sum of the levels of each channel (C_out,); for a pool the terms of its sum, or 1."""
    if isinstance(op, ConvOp):
        total: npt.NDArray[np.int64] = op.levels.sum(axis=(1, 2, 3), dtype=np.int64)
        return total
    return op.kernel[0] * op.kernel[1] if op.kind == "average" else 1


def wrapped(wide: npt.NDArray[np.int64]) -> Bias:
    """Modulo 2**32, as int32."""
    result: Bias = wide.astype(np.uint64).astype(np.uint32).view(np.int32)
    return result


def padded_to(data: bytes, beat_bytes: int) -> bytes:
    """Data with zeros up to a whole number of beats."""
    return data + bytes(-len(data) % beat_bytes)


def no_levels(geometry: Geometry) -> Levels:
    """The groups of a layer that has none."""
    return np.zeros((0, geometry.outputs, geometry.inputs), np.int8)
