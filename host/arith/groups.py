"""How a layer's weights are cut into groups: the unit that the array loads, and skips when empty.

A group is `outputs` output channels by one chunk of `inputs` contiguous bytes of a window row, as
docs/accelerator.md has it: in HWC without gaps the bytes that a window takes from one input row are
contiguous, so a chunk may span taps. The compiler cuts levels with these functions and the pruner
saliencies, so both mean the same groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class GroupCut:
    """The groups of one layer in loading order: output block, window row, segment, chunk.

    Attributes:
        blocks: (n,) output block of each group; it holds channels from `outputs` times that.
        rows: (n,) window row ky of its chunk.
        offsets: (n,) bytes from the window's first column to its chunk.
        index: (n, outputs, inputs) which weight each slot holds: its position in the flattened
            (C_out, C_in / groups, kh, kw); -1 where there is none (edges, other groups' inputs).
        n_weights: weights of the layer.
    """

    blocks: Integers
    rows: Integers
    offsets: Integers
    index: Integers
    n_weights: int


def cut_groups(
    weight_shape: tuple[int, ...], groups: int, *, dense: bool, outputs: int, inputs: int
) -> GroupCut:
    """Cut a layer.

    Args:
        weight_shape: (C_out, C_in / groups, kh, kw).
        groups: of the convolution, a common divisor of C_out and C_in.
        dense: the window is the whole unpadded input (and `groups` is 1), so that all its rows
            are one.
        outputs: output channels of a group.
        inputs: bytes of a chunk.
    """
    c_out, c_in, kh, kw = weight_shape
    channels, per_group = c_in * groups, c_out // groups
    row_bytes = kw * channels
    chunks = []
    for block in range(-(-c_out // outputs)):
        if dense:
            segments = [(0, 0, kh * row_bytes)]
        elif groups > 1 and outputs % per_group == 0:
            # the channels of a block see only the inputs of their own convolution groups
            span = outputs // per_group * c_in
            first, stop = block * span, min((block + 1) * span, channels)
            taps = [(ky, kx) for ky in range(kh) for kx in range(kw)]
            segments = [(ky, kx * channels + first, kx * channels + stop) for ky, kx in taps]
        else:
            segments = [(ky, 0, row_bytes) for ky in range(kh)]
        chunks += [
            (block, ky, offset, stop)
            for ky, start, stop in segments
            for offset in range(start, stop, inputs)
        ]
    blocks, rows, offsets, stops = np.array(chunks, np.int64).T

    # a weight's position is a part of its output channel and a part of its input
    position = offsets[:, None] + np.arange(inputs)
    channel_out = blocks[:, None] * outputs + np.arange(outputs)
    first_in = channel_out // per_group * c_in
    ky = rows[:, None] + position // row_bytes
    kx = position // channels % kw
    of_output = (channel_out * c_in - first_in) * (kh * kw)
    of_input = (position % channels * kh + ky) * kw + kx
    index = of_output[:, :, None] + of_input[:, None, :]
    exists = (channel_out < c_out)[:, :, None] & (position < stops[:, None])[:, None, :]
    if groups > 1:
        channel_in = (position % channels)[:, None, :] - first_in[:, :, None]
        exists &= (channel_in >= 0) & (channel_in < c_in)
    if not exists.all():
        index[~exists] = -1
    return GroupCut(blocks, rows, offsets, index, c_out * c_in * kh * kw)


def gather_groups(values: npt.NDArray[Number], cut: GroupCut) -> npt.NDArray[Number]:
    """(n, outputs, inputs) of values of the weight's shape, zero where a slot holds none."""
    flat = np.append(values.reshape(-1), np.zeros(1, values.dtype))
    result: npt.NDArray[Number] = flat[cut.index]
    return result


def scatter_groups(grouped: npt.NDArray[Number], cut: GroupCut) -> npt.NDArray[Number]:
    """The inverse of `gather_groups`: (n_weights,) flat values; each weight is in one slot."""
    flat = np.zeros(cut.n_weights + 1, grouped.dtype)
    flat[cut.index] = grouped
    return flat[:-1]
