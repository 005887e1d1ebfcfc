"""Each op as calls on a tape: convolution by slab, dense, elementwise; pools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import ConvOp, PoolOp, Shape
from bacmac.host.arith.slab import (
    Array,
    SlabGeometry,
    Target,
    exact_in_float32,
    product_columns,
    slab_matrix,
)
from bacmac.host.arith.tape import Tape, add_requantize, add_store

CHUNK_BYTES = 192 * 1024
"""Accumulators that are requantized together: they stay in a level 2 cache."""
MAX_SEGMENTS = 4
"""A selection of channels in more pieces than this goes through the matrix product."""

Exact = npt.NDArray[np.bool_]
Kind = Literal["dense", "elementwise", "slab"]


@dataclass
class Output:
    """Where an op's output goes.

    Attributes:
        width: columns of a row, with the zeros at its end that its reader wants.
        targets: everywhere it must be written.
    """

    width: int
    targets: list[Target] = field(default_factory=list)


def conv_kind(op: ConvOp, shape: Shape) -> Kind:
    """How a convolution of an input of `shape` is computed."""
    kernel = op.levels.shape[2:]
    if kernel == (1, 1) and not any(op.padding) and _segments(op) is not None:
        return "elementwise"
    if kernel == shape[1:] and not any(op.padding) and op.groups == 1:
        return "dense"
    return "slab"


def slab_dtype(op: ConvOp, low: int, high: int) -> str:
    """float32 where its products are exact; else float64."""
    return "float64" if _products(slab_matrix(op), op, low, high) is None else "float32"


def add_slab_conv(
    tape: Tape,
    op: ConvOp,
    input_range: tuple[int, int],
    exact: Exact,
    geometry: SlabGeometry,
    slab: Array,
    residual: Array | None,
    output: Output,
) -> None:
    """A convolution whose input has been written to `slab`."""
    matrix = slab_matrix(op)
    taps, groups, per_group, depth = matrix.shape
    parts = _products(matrix, op, *input_range)
    if parts is None:
        parts = [(tap, slice(depth)) for tap in range(taps)]
    # products that are exact one by one may need more than float32 together
    whole = exact_in_float32(_joined(matrix), geometry.row_depth, *input_range)
    dtype = "float32" if whole else "float64"
    n_rows = (slab.shape[1] - geometry.kernel[0]) // op.stride[0] + 1
    columns = product_columns(per_group, depth, geometry.w_out * geometry.images)
    weights = matrix.astype(slab.dtype)[:, :, None, None]
    windows = [geometry.windows(slab, tap, n_rows, columns) for tap in range(taps)]
    row_shape = (groups * per_group, output.width, geometry.images)
    for rows in _chunks(n_rows, prod(row_shape) * np.dtype(dtype).itemsize):
        shape = (rows.stop - rows.start, *row_shape)
        acc = tape.scratch(_rows_of("acc", geometry.w_out), shape, dtype)
        for number, (tap, part) in enumerate(parts):
            direct = number == 0 and acc.dtype == slab.dtype
            name = _rows_of("product", geometry.w_out)
            product = acc if direct else tape.scratch(name, shape, slab.dtype.name)
            tape.add(
                np.matmul,
                weights[tap][..., part],
                windows[tap][:, rows, :, part],
                out=_as_products(product, groups, geometry.w_out, columns),
            )
            if number > 0:
                tape.add(np.add, acc, product, out=acc)
            elif not direct:
                tape.add(np.copyto, acc, product)
        _add_output(tape, op, acc, exact, residual, rows, output.targets)


def add_dense(
    tape: Tape,
    op: ConvOp,
    input_range: tuple[int, int],
    exact: Exact,
    source: Array,
    residual: Array | None,
    output: Output,
) -> None:
    """A convolution whose kernel is its whole input: one product with source (H, C, W, images)."""
    matrix = op.levels.transpose(0, 2, 1, 3).reshape(len(op.levels), -1).astype(np.int64)
    images = source.shape[3]
    depth = matrix.shape[1]
    x = source.reshape(depth, images)
    with_bias = np.append(matrix, op.bias[:, None].astype(np.int64), 1)
    half = depth // 2
    whole = exact_in_float32(with_bias, depth + 1, *input_range)
    halves = exact_in_float32(matrix[:, :half], depth + 1, *input_range) and exact_in_float32(
        matrix[:, half:], depth + 1, *input_range
    )
    shape, dtype = (len(matrix), images), "float32" if whole else "float64"
    acc = tape.scratch("dense", shape, dtype)
    if whole:
        tape.add(np.matmul, matrix.astype(np.float32), x, out=acc)
    elif halves:
        first, second = tape.scratch("first half", shape), tape.scratch("second half", shape)
        tape.add(np.matmul, matrix[:, :half].astype(np.float32), x[:half], out=first)
        tape.add(np.matmul, matrix[:, half:].astype(np.float32), x[half:], out=second)
        tape.add(np.add, first, second, out=acc, dtype=np.float64)
    else:
        wide = tape.scratch("wide input", x.shape, "float64")
        tape.add(np.copyto, wide, x)
        tape.add(np.matmul, matrix.astype(np.float64), wide, out=acc)
    padded = tape.scratch(_rows_of("acc", 1), (1, len(matrix), output.width, images), dtype)
    tape.add(np.add, acc, op.bias[:, None].astype(dtype), out=padded[0, :, 0])
    _add_output(tape, op, padded, exact, residual, slice(0, 1), output.targets)


def add_elementwise(
    tape: Tape,
    op: ConvOp,
    input_shape: Shape,
    exact: Exact,
    source: Array,
    residual: Array | None,
    output: Output,
) -> None:
    """A 1x1 convolution in which each output channel reads at most one input channel."""
    segments = _segments(op)
    assert segments is not None
    levels = op.levels.reshape(len(op.levels), -1).sum(1, dtype=np.int64)
    height, width = input_shape[1:]
    x = source[: height : op.stride[0], :, : width : op.stride[1]]
    n_rows, _, width, images = x.shape
    # a level times an activation is below 2**23; a large bias needs more than float32 has
    dtype = "float32" if np.abs(op.bias.astype(np.int64)).max() < 1 << 23 else "float64"
    for rows in _chunks(n_rows, len(levels) * width * images * np.dtype(dtype).itemsize):
        shape = (rows.stop - rows.start, len(levels), output.width, images)
        padded = tape.scratch(_rows_of("acc", width), shape, dtype)
        acc = padded[:, :, :width]
        for first, last, channel in segments:
            part = acc[:, first:last]
            if channel is None:
                tape.add(part.fill, 0)
            elif (levels[first:last] == 1).all():
                tape.add(np.copyto, part, x[rows, channel : channel + last - first])
            else:
                factor = levels[first:last].astype(dtype).reshape(-1, 1, 1)
                tape.add(np.multiply, x[rows, channel : channel + last - first], factor, out=part)
        if op.bias.any():
            tape.add(np.add, acc, op.bias.astype(dtype).reshape(-1, 1, 1), out=acc)
        _add_output(tape, op, padded, exact, residual, rows, output.targets)


def add_pool(
    tape: Tape,
    op: PoolOp,
    input_shape: Shape,
    low: int,
    exact: Exact,
    source: Array,
    output: Output,
) -> None:
    """A pool of source (H, C, W, images), `low` its smallest value: first rows, then columns."""
    source = source[:, :, : input_shape[2]]
    height, channels, width, images = source.shape
    top, left, bottom, right = op.padding
    join, fill = (np.maximum, low) if op.kind == "max" else (np.add, 0)
    h_out = (height + top + bottom - op.kernel[0]) // op.stride[0] + 1
    w_out = (width + left + right - op.kernel[1]) // op.stride[1] + 1
    by_rows = tape.scratch("pooled rows", (h_out, channels, width, images))
    _add_taps(tape, join, fill, source, by_rows, 0, op.kernel[0], op.stride[0], top)
    acc = tape.scratch(_rows_of("acc", w_out), (h_out, channels, output.width, images))
    part = acc[:, :, :w_out]
    _add_taps(tape, join, fill, by_rows, part, 2, op.kernel[1], op.stride[1], left)
    rows = slice(0, h_out)
    if op.requantize is None:
        add_store(tape, acc, rows, output.targets)
    else:
        add_requantize(tape, acc, op.requantize, exact, None, rows, output.targets)


def _add_taps(
    tape: Tape,
    join: np.ufunc,
    fill: int,
    source: Array,
    out: Array,
    axis: int,
    kernel: int,
    stride: int,
    padding: int,
) -> None:
    """Reduce windows along one axis; what lies outside the source counts as `fill`."""
    n_in, n_out = source.shape[axis], out.shape[axis]
    taps = []
    for tap in range(kernel):
        first = max(0, -(-(padding - tap) // stride))
        last = min(n_out - 1, (n_in - 1 + padding - tap) // stride)
        if first <= last:
            start = first * stride + tap - padding
            taps.append(
                (
                    _along(out, axis, slice(first, last + 1)),
                    _along(source, axis, slice(start, start + (last - first) * stride + 1, stride)),
                )
            )
    if taps and taps[0][0].shape == out.shape:
        tape.add(np.copyto, out, taps[0][1])
        taps = taps[1:]
    else:
        tape.add(out.fill, fill)
    for view, values in taps:
        tape.add(join, view, values, out=view)


def _rows_of(name: str, columns: int) -> str:
    """Scratch whose rows hold that many columns and then zeros.

    Two ops may want rows of one width and fill them to different columns: what the one leaves
    behind must not stand where the other relies on zeros.
    """
    return f"{name}, {columns} columns"


def _along(array: Array, axis: int, index: slice) -> Array:
    return array[(slice(None),) * axis + (index,)]


def _add_output(
    tape: Tape,
    op: ConvOp,
    acc: Array,
    exact: Exact,
    residual: Array | None,
    rows: slice,
    targets: Sequence[Target],
) -> None:
    if op.requantize is None:
        add_store(tape, acc, rows, targets)
    else:
        part = None if residual is None else residual[rows]
        add_requantize(tape, acc, op.requantize, exact, part, rows, targets)


def _as_products(acc: Array, groups: int, w_out: int, columns: int) -> Array:
    """View acc (rows, C, width, images) as (groups, rows, parts, C / groups, columns)."""
    rows, channels, _, images = acc.shape
    flat = acc.reshape(rows, groups, channels // groups, -1)[..., : w_out * images]
    split: Array = flat.reshape(*flat.shape[:3], -1, columns)
    products: Array = split.transpose(1, 0, 3, 2, 4)
    return products


def _chunks(n_rows: int, row_bytes: int) -> Iterator[slice]:
    """Even runs of rows of about CHUNK_BYTES."""
    n_chunks = min(n_rows, max(1, round(n_rows * row_bytes / CHUNK_BYTES)))
    for chunk in range(n_chunks):
        yield slice(chunk * n_rows // n_chunks, (chunk + 1) * n_rows // n_chunks)


def _products(
    matrix: npt.NDArray[np.int64], op: ConvOp, low: int, high: int
) -> list[tuple[int, slice]] | None:
    """(tap, part of K) of products that float32 computes exactly; None where there are none."""
    taps, depth, kh = len(matrix), matrix.shape[3], op.levels.shape[2]
    row_depth = depth // kh
    for cut in (depth, kh // 2 * row_depth):
        halves = (slice(0, cut), slice(cut, depth)) if 0 < cut < depth else (slice(0, depth),)
        if all(exact_in_float32(matrix[..., half], row_depth, low, high) for half in halves):
            return [(tap, half) for tap in range(taps) for half in halves]
    return None


def _joined(matrix: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """All taps (taps, ..., K) of an output channel in one row (..., taps * K)."""
    joined: npt.NDArray[np.int64] = np.concatenate(list(matrix), axis=-1)
    return joined


def _segments(op: ConvOp) -> list[tuple[int, int, int | None]] | None:
    """Runs of output channels [first, last) that read input channels from a number on, or none.

    None where an output reads two inputs, or the runs are many.
    """
    c_out, depth = op.levels.shape[:2]
    levels = op.levels[:, :, 0, 0]
    if np.count_nonzero(levels, axis=1).max() > 1:
        return None
    alive: Exact = np.count_nonzero(levels, axis=1) > 0
    offset = np.arange(c_out) // (c_out // op.groups) * depth
    channels = np.where(alive, (levels != 0).argmax(1) + offset, -1)
    segments: list[tuple[int, int, int | None]] = []
    first = 0
    for channel in range(1, c_out + 1):
        run = channels[first] + channel - first if alive[first] else -1
        if channel < c_out and channels[channel] == run:
            continue
        segments.append((first, channel, int(channels[first]) if alive[first] else None))
        first = channel
    return segments if len(segments) <= MAX_SEGMENTS else None
