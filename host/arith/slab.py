"""Convolution as matrix products without an im2col copy: the row slab.

Activations lie as [row][channel][column * image], images innermost, so that a channel is a matrix
row, every inner loop is long and contiguous, and a product writes the next layer's layout. A row
of the slab is its channels and then a row of ones that brings in the bias, so that the axes
(kernel row, channel) of a window form one axis with a single stride: the im2col matrix of every
output row is an overlapping strided view, which BLAS takes as it is. Kernel columns are taken one
at a time, the same view a column further on, and their products are added: with stride 1 nothing
is copied. A convolution that is thinned (strided) or has few channels instead holds one copy of
the row for each kernel column.

im2col: Chellapilla et al. 2006; partial expansion: MEC, Cho and Brand 2017 (arXiv 1706.06873); one
product a kernel column: kn2row, Anderson et al. 2017 (arXiv 1709.03395).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
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
MIN_TAP_CHANNELS = 16
"""Fewer channels make products too flat: one product over shifted copies is then faster."""
MIN_GROUP_CHANNELS = 4
"""Depthwise channels are taken together in block-diagonal products of at least this many."""


@dataclass(frozen=True)
class Target:
    """Where (rows, channels, width, images) values are wanted.

    Attributes:
        view: (rows, groups, channels, columns, images), what is written.
        columns: the columns of the values that it takes.
    """

    view: Array
    columns: slice

    def source(self, values: Array) -> Array:
        """The part of values that `view` takes, in its shape."""
        columns: Array = values[:, :, self.columns]
        groups, channels = self.view.shape[1:3]
        split: Array = columns.reshape(len(values), groups, channels, *columns.shape[2:])
        return split


@dataclass(frozen=True)
class SlabGeometry:
    """Shape of one slab; equal geometries may take turns in the same memory.

    Attributes:
        shape: input (C, H, W).
        kernel, stride, padding: as the op's.
        groups: after narrow groups were taken together.
        w_out: output columns.
        images: images in a block.
        dtype: "float32" or "float64".
    """

    shape: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    groups: int
    w_out: int
    images: int
    dtype: str

    @property
    def whole(self) -> bool:
        """Whether rows are held as they are, once; else there is a copy a kernel column."""
        channels = self.shape[0] // self.groups
        return _rows_whole(self.kernel[1], self.stride[1], self.padding[1], channels)

    @property
    def n_copies(self) -> int:
        """Copies of each row."""
        return 1 if self.whole else self.kernel[1]

    @property
    def width(self) -> int:
        """Columns of a row, with the zeros at its end that stand for padding.

        A tap that runs past a row's ends meets those of this row, or of the one before.
        """
        if not self.whole:
            return self.w_out
        return max(self.shape[2], self.w_out) + max(self.padding[1], self.padding[3])

    @property
    def row_depth(self) -> int:
        """Matrix rows that one input row contributes: its channels, and the ones."""
        return self.n_copies * self.shape[0] // self.groups + 1

    def allocate(self) -> Array:
        """A slab (groups, padded rows, row_depth, width * images): zeros, and ones.

        Memory goes on beyond both ends for taps that reach out of the first and the last row.
        """
        top, left, bottom, right = self.padding
        shape = (
            self.groups,
            self.shape[1] + top + bottom,
            self.row_depth,
            self.width * self.images,
        )
        margin = (max(left, right) + self.kernel[1]) * self.images
        memory = np.zeros(prod(shape) + 2 * margin, self.dtype)
        slab = memory[margin : margin + prod(shape)].reshape(shape)
        slab[:, :, -1, : self.w_out * self.images] = 1
        return slab

    def targets(self, slab: Array, width: int) -> Iterator[Target]:
        """Where the input must be written, given that it comes in rows of `width` columns."""
        if self.whole:
            whole = min(width, self.width)
            yield Target(self._copy(slab, 0)[:, :, :, :whole], slice(0, whole))
            return
        left, stride = self.padding[1], self.stride[1]
        for q in range(self.n_copies):
            first = max(0, -(-(left - q) // stride))
            last = min(self.w_out - 1, (self.shape[2] - 1 + left - q) // stride)
            if first <= last:
                start = first * stride + q - left
                columns = slice(start, start + (last - first) * stride + 1, stride)
                yield Target(self._copy(slab, q)[:, :, :, first : last + 1], columns)

    def home(self, slab: Array) -> Array | None:
        """The copy that is the whole input, (H, C, width, images), or None where there is none."""
        if self.groups > 1 or not self.whole:
            return None
        home: Array = self._copy(slab, 0)[:, 0]
        return home

    def _copy(self, slab: Array, q: int) -> Array:
        """Copy q of the input rows: (rows, groups, channels of a group, width, images)."""
        (channels, height, _), top = self.shape, self.padding[0]
        depth = channels // self.groups
        copies = slab[:, top : top + height, q * depth : (q + 1) * depth]
        split = copies.reshape(*copies.shape[:3], self.width, self.images)
        by_row: Array = split.transpose(1, 0, 2, 3, 4)
        return by_row

    def windows(self, slab: Array, tap: int, n_rows: int, columns: int) -> Array:
        """The im2col matrices (groups, n_rows, parts, K, columns) of one tap, a view."""
        by_group, by_row, by_depth, by_column = slab.strides
        parts = self.w_out * self.images // columns
        depth = self.kernel[0] * self.row_depth
        offset = (tap - self.padding[1]) * self.images if self.whole else 0
        memory = slab.base
        assert memory is not None
        start = (slab.ctypes.data - memory.ctypes.data) // by_column + offset
        view: Array = as_strided(
            memory[start:],
            (self.groups, n_rows, parts, depth, columns),
            (by_group, by_row * self.stride[0], columns * by_column, by_depth, by_column),
            writeable=False,
        )
        return view


def merged_groups(op: ConvOp) -> int:
    """Groups left when narrow ones are taken together; 1 where the op has one."""
    depth = op.levels.shape[1]
    for factor in range(1, min(op.groups, 4 * MIN_GROUP_CHANNELS) + 1):
        if op.groups % factor == 0 and factor * depth >= MIN_GROUP_CHANNELS:
            return op.groups // factor
    return op.groups


def slab_geometry(op: ConvOp, shape: Shape, images: int, dtype: str) -> SlabGeometry:
    """The slab for an op on an input of `shape`."""
    return SlabGeometry(
        shape,
        (op.levels.shape[2], op.levels.shape[3]),
        op.stride,
        op.padding,
        merged_groups(op),
        output_shape(op, shape)[2],
        images,
        dtype,
    )


def slab_matrix(op: ConvOp) -> npt.NDArray[np.int64]:
    """Levels and bias as (taps, groups, C_out / groups, K), K as `SlabGeometry.windows` has it."""
    c_out, depth, kh, kw = op.levels.shape
    groups = merged_groups(op)
    factor, per_group = op.groups // groups, c_out // op.groups
    whole = _rows_whole(kw, op.stride[1], op.padding[1], factor * depth)
    copies = 1 if whole else kw
    taps = kw // copies
    blocks = op.levels.reshape(groups, factor, per_group, depth, kh, copies, taps)
    inner = np.zeros((taps, groups, factor, per_group, kh, copies, factor, depth), np.int64)
    for f in range(factor):
        inner[:, :, f, :, :, :, f] = blocks[:, f].transpose(5, 0, 1, 3, 4, 2)
    matrix = np.zeros((*inner.shape[:5], copies * factor * depth + 1), np.int64)
    matrix[..., :-1] = inner.reshape(*matrix.shape[:-1], -1)
    # the ones are whole only in the tap that is not shifted
    bias_tap = op.padding[1] if whole else 0
    matrix[bias_tap, ..., 0, -1] = op.bias.reshape(groups, factor, per_group)
    return matrix.reshape(taps, groups, factor * per_group, -1)


def _rows_whole(kernel: int, stride: int, left: int, channels: int) -> bool:
    """Whether no tap is thinned, one, number `left`, is not shifted, and copies would cost more."""
    return stride == 1 and left < kernel and (kernel == 1 or channels >= MIN_TAP_CHANNELS)


def exact_in_float32(matrix: npt.NDArray[np.int64], depth: int, low: int, high: int) -> bool:
    """Whether float32 sums a matrix (..., K) exactly in any order, for inputs low to high.

    Every `depth`-th row of the input holds ones instead.
    """
    ones = np.arange(matrix.shape[-1]) % depth == depth - 1
    at_low, at_high = matrix * np.where(ones, 0, low), matrix * np.where(ones, 1, high)
    lowest = int(np.minimum(at_low, at_high).sum(-1).min())
    highest = int(np.maximum(at_low, at_high).sum(-1).max())
    return max(-lowest, highest) <= FLOAT32_EXACT


def product_columns(rows: int, depth: int, columns: int) -> int:
    """Columns (a divisor of `columns`) of one product, small enough to skip packing."""
    for multiple in (64, 32, 16):
        for parts in range(1, columns // multiple + 1):
            part = columns // parts
            whole = columns % parts == 0 and part % multiple == 0
            if whole and rows * depth * part <= SMALL_PRODUCT:
                return part
    return columns
