"""Convolution as a matrix product without an im2col copy: the row slab.

Activations lie as [row][channel][column * image], images innermost, so that a channel is a matrix
row, every inner loop is long and contiguous, and a product writes the next layer's layout. Of each
input row the slab holds `kw` copies shifted by one column (thinned by the stride), then one row of
ones that brings in the bias. The axes (kernel row, kernel column, channel) of a window then form
one axis with a single stride: the im2col matrix of every output row is an overlapping strided
view, which BLAS takes as it is. im2col: Chellapilla et al. 2006; the cheaper partial expansion is
MEC, Cho and Brand 2017 (arXiv 1706.06873).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from bacmac.host.arith.bounds import FLOAT32_EXACT
from bacmac.host.arith.network import ConvOp, Shape, output_shape

Array = npt.NDArray[Any]
"""float32 or float64 holding integers; (rows, channels, columns, images) where four axes."""

SMALL_PRODUCT = 1_000_000
"""Multiply-adds up to which OpenBLAS skips packing its operands (measured: 110 against 90 GFLOPS
at 16 to 64 rows); products are cut into columns below it."""
MIN_GROUP_CHANNELS = 4
"""Depthwise channels are taken together in block-diagonal products of at least this many."""


@dataclass(frozen=True)
class Target:
    """Where (rows, channels, width, images) values are wanted.

    Attributes:
        view: what is written, rows first.
        part: what of the values it takes: columns, where view is (rows, groups, channels,
            columns, images); else, where view is (rows, groups, n), a run of a group's channels
            laid end to end.
    """

    view: Array
    part: slice

    def source(self, values: Array) -> Array:
        """The part of values that `view` takes, in its shape."""
        rows, groups = len(values), self.view.shape[1]
        if self.view.ndim == 3:
            runs: Array = values.reshape(rows, groups, -1)[:, :, self.part]
            return runs
        columns: Array = values[:, :, self.part]
        split: Array = columns.reshape(rows, groups, -1, *columns.shape[2:])
        return split


@dataclass(frozen=True)
class SlabGeometry:
    """Shape of one slab; equal geometries may take turns in the same memory.

    Attributes:
        shape: input (C, H, W).
        kernel, stride, padding: as the op's.
        groups: after narrow groups were taken together.
        w_out: output columns.
        width: columns of a slab row: the zeros at its end serve the shifted copies as padding.
        images: images in a block.
        dtype: "float32" or "float64".
    """

    shape: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    groups: int
    w_out: int
    width: int
    images: int
    dtype: str

    @property
    def row_depth(self) -> int:
        """Matrix rows that one input row contributes: its shifted copies and the ones."""
        return self.kernel[1] * self.shape[0] // self.groups + 1

    def allocate(self) -> Array:
        """A slab (groups, padded rows, row_depth, columns * images): zeros, and ones."""
        top, _, bottom, _ = self.padding
        rows = self.shape[1] + top + bottom
        slab = np.zeros((self.groups, rows, self.row_depth, self.width * self.images), self.dtype)
        slab[:, :, -1] = 1
        return slab

    @property
    def shifts(self) -> bool:
        """Whether one copy holds the whole input, so that the others are that copy, shifted."""
        return self.stride[1] == 1 and self.padding[1] < self.kernel[1]

    def targets(self, slab: Array, width: int) -> Iterator[Target]:
        """Where the input must be written, given that it comes in rows of `width` columns.

        A group's channels are contiguous in the input. Rows that end in as many zeros as the slab
        wants go in as long runs that ignore where channels end: a shifted run that crosses into
        the next channel reads the zeros that padding wants there.
        """
        if not self.shifts or width != self.width:
            yield from self._column_targets(slab)
            return
        for q in range(self.kernel[1]):
            copy = self._copies(slab, q)
            n, offset = copy.shape[2], (q - self.padding[1]) * self.images
            start, stop = max(0, -offset), min(n, n - offset)
            yield Target(copy[:, :, start:stop], slice(start + offset, stop + offset))

    def home(self, slab: Array, width: int) -> Array | None:
        """The copy that is the whole input, (H, C, width, images), or None where there is none."""
        if self.groups > 1 or not self.shifts or width != self.width:
            return None
        whole = self._copies(slab, self.padding[1])
        return whole.reshape(self.shape[1], self.shape[0], self.width, self.images)

    def _copies(self, slab: Array, q: int) -> Array:
        """Copy q of every row, (rows, groups, channels of a group * width * images)."""
        top, run = self.padding[0], self.shape[0] // self.groups * self.width * self.images
        flat = slab.reshape(self.groups, slab.shape[1], -1)[:, top : top + self.shape[1]]
        copies: Array = flat[:, :, q * run : (q + 1) * run].transpose(1, 0, 2)
        return copies

    def _column_targets(self, slab: Array) -> Iterator[Target]:
        """Every copy by itself, thinned by the stride."""
        channels, height, width = self.shape
        top, left = self.padding[:2]
        stride = self.stride[1]
        depth = channels // self.groups
        planes = slab[:, top : top + height].reshape(
            self.groups, height, self.row_depth, self.width, self.images
        )
        for q in range(self.kernel[1]):
            first = max(0, -(-(left - q) // stride))
            last = min(self.w_out - 1, (width - 1 + left - q) // stride)
            if last < first:
                continue
            start = first * stride + q - left
            columns = slice(start, start + (last - first) * stride + 1, stride)
            plane = planes[:, :, q * depth : (q + 1) * depth, first : last + 1]
            yield Target(plane.transpose(1, 0, 2, 3, 4), columns)

    def windows(self, slab: Array, n_rows: int, columns: int) -> Array:
        """The im2col matrices (groups, n_rows, parts, K, columns), a view."""
        by_group, by_row, by_depth, by_column = slab.strides
        parts = self.w_out * self.images // columns
        depth = self.kernel[0] * self.row_depth
        return as_strided(
            slab,
            (self.groups, n_rows, parts, depth, columns),
            (by_group, by_row * self.stride[0], columns * by_column, by_depth, by_column),
            writeable=False,
        )


def merged_groups(op: ConvOp) -> int:
    """Groups left when narrow ones are taken together; 1 where the op has one."""
    depth = op.levels.shape[1]
    for factor in range(1, min(op.groups, 4 * MIN_GROUP_CHANNELS) + 1):
        if op.groups % factor == 0 and factor * depth >= MIN_GROUP_CHANNELS:
            return op.groups // factor
    return op.groups


def slab_geometry(op: ConvOp, shape: Shape, images: int, dtype: str) -> SlabGeometry:
    """The slab for an op on an input of `shape`."""
    w_out = output_shape(op, shape)[2]
    padded = shape[2] + max(op.padding[1], op.padding[3])
    return SlabGeometry(
        shape,
        (op.levels.shape[2], op.levels.shape[3]),
        op.stride,
        op.padding,
        merged_groups(op),
        w_out,
        max(w_out, padded) if op.stride[1] == 1 else w_out,
        images,
        dtype,
    )


def slab_matrix(op: ConvOp) -> npt.NDArray[np.int64]:
    """Levels and bias as (groups, C_out / groups, K), K as `SlabGeometry.windows` orders it."""
    c_out, depth, kh, kw = op.levels.shape
    groups = merged_groups(op)
    factor = op.groups // groups
    per_group = c_out // op.groups
    blocks = op.levels.reshape(groups, factor, per_group, depth, kh, kw)
    matrix = np.zeros((groups, factor, per_group, kh, kw * factor * depth + 1), np.int64)
    inner = matrix[..., :-1].reshape(groups, factor, per_group, kh, kw, factor, depth)
    for f in range(factor):
        inner[:, f, :, :, :, f] = blocks[:, f].transpose(0, 1, 3, 4, 2)
    matrix[..., :-1] = inner.reshape(*matrix.shape[:-1], -1)
    matrix[..., 0, -1] = op.bias.reshape(groups, factor, per_group)
    return matrix.reshape(groups, factor * per_group, -1)


def split_point(
    matrix: npt.NDArray[np.int64], low: int, high: int, ones: npt.NDArray[np.bool_]
) -> int | None:
    """Where to cut K so that float32 computes both parts exactly: K itself is no cut, None: none.

    Args:
        matrix: (..., K) levels and biases.
        low: smallest input.
        high: largest input.
        ones: bool (K,), rows of the input that hold 1 instead of activations.
    """
    at_low, at_high = np.where(ones, 0, low), np.where(ones, 1, high)
    depth: int = matrix.shape[-1]

    def exact(part: slice) -> bool:
        one = matrix[..., part] * at_low[part]
        other = matrix[..., part] * at_high[part]
        lowest = int(np.minimum(one, other).sum(-1).min())
        highest = int(np.maximum(one, other).sum(-1).max())
        return max(-lowest, highest) <= FLOAT32_EXACT

    if exact(slice(depth)):
        return depth
    half: int = depth // 2
    return half if exact(slice(half)) and exact(slice(half, depth)) else None


def product_columns(rows: int, depth: int, columns: int) -> int:
    """Columns (a divisor of `columns`) of one product, small enough to skip packing."""
    for multiple in (64, 32, 16):
        for parts in range(1, columns // multiple + 1):
            part = columns // parts
            whole = columns % parts == 0 and part % multiple == 0
            if whole and rows * depth * part <= SMALL_PRODUCT:
                return part
    return columns
