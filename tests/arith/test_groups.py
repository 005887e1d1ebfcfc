"""The cut of a layer into groups: each weight in one slot, where its input byte is read."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.arith.groups import GroupCut, cut_groups, gather_groups, scatter_groups


@st.composite
def layers(draw: st.DrawFn) -> tuple[tuple[int, int, int, int], int, bool, int, int]:
    groups = draw(st.sampled_from([1, 1, 2, 3, 8]))
    c_out, c_in = (groups * draw(st.integers(1, 20 if groups < 8 else 3)) for _ in range(2))
    shape = (c_out, c_in // groups, draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dense = groups == 1 and draw(st.booleans())
    return shape, groups, dense, draw(st.sampled_from([1, 4, 8])), draw(st.sampled_from([4, 8, 16]))


@given(layer=layers())
def test_every_weight_is_in_one_slot_and_comes_back(
    layer: tuple[tuple[int, int, int, int], int, bool, int, int],
) -> None:
    shape, groups, dense, outputs, inputs = layer
    weights = np.random.default_rng(0).integers(1, 100, shape)

    cut = cut_groups(shape, groups, dense=dense, outputs=outputs, inputs=inputs)

    slots = cut.index[cut.index >= 0]
    assert sorted(slots.tolist()) == list(range(weights.size))
    assert cut.n_weights == weights.size
    grouped = gather_groups(weights, cut)
    assert grouped.sum() == weights.sum()
    assert (scatter_groups(grouped, cut).reshape(shape) == weights).all()


@given(layer=layers())
def test_reading_the_chunks_computes_the_convolution(
    layer: tuple[tuple[int, int, int, int], int, bool, int, int],
) -> None:
    """One window of an HWC image, read byte for byte as the groups say, gives the layer's sums."""
    shape, groups, dense, outputs, inputs = layer
    c_out, c_in, kh, kw = shape
    channels = c_in * groups
    random = np.random.default_rng(1)
    weights = random.integers(-9, 10, shape)
    image = random.integers(0, 256, (kh, kw if dense else kw + 3, channels))
    first_column = 0 if dense else 2

    cut = cut_groups(shape, groups, dense=dense, outputs=outputs, inputs=inputs)
    sums = sums_of_chunks(cut, gather_groups(weights, cut), image, first_column, dense=dense)

    window = image[:, first_column : first_column + kw]
    expected = [
        np.sum(window[:, :, group * c_in : (group + 1) * c_in] * weights[out].transpose(1, 2, 0))
        for out in range(c_out)
        for group in [out // (c_out // groups)]
    ]
    assert sums[:c_out].tolist() == expected
    assert not sums[c_out:].any()


def sums_of_chunks(
    cut: GroupCut, grouped: np.ndarray, image: np.ndarray, first_column: int, *, dense: bool
) -> np.ndarray:
    outputs, inputs = grouped.shape[1:]
    sums = np.zeros((cut.blocks.max() + 1) * outputs, np.int64)
    memory = image.reshape(1 if dense else len(image), -1)
    for block, row, offset, group in zip(cut.blocks, cut.rows, cut.offsets, grouped, strict=True):
        start = first_column * image.shape[2] + offset
        read = memory[row, start : start + inputs]
        sums[block * outputs : (block + 1) * outputs] += group[:, : len(read)] @ read
    return sums


def test_three_channels_make_one_chunk_a_window_row() -> None:
    cut = cut_groups((16, 3, 3, 3), 1, dense=False, outputs=16, inputs=16)

    assert cut.rows.tolist() == [0, 1, 2]
    assert cut.offsets.tolist() == [0, 0, 0]
    assert (cut.index[:, :, 9:] == -1).all()


def test_groups_come_block_by_block_then_row_by_row_then_along_the_row() -> None:
    cut = cut_groups((20, 16, 2, 2), 1, dense=False, outputs=16, inputs=16)

    assert cut.blocks.tolist() == [0] * 4 + [1] * 4
    assert cut.rows.tolist() == [0, 0, 1, 1] * 2
    assert cut.offsets.tolist() == [0, 16] * 4


def test_a_depthwise_block_reads_only_its_own_channels_one_tap_a_chunk() -> None:
    cut = cut_groups((40, 1, 3, 3), 40, dense=False, outputs=16, inputs=16)

    assert len(cut.blocks) == 3 * 9
    assert cut.offsets[:9].tolist() == [0, 40, 80] * 3
    assert cut.offsets[18:21].tolist() == [32, 72, 112]
    assert (cut.index[18, :, 8:] == -1).all()


def test_a_dense_layer_is_one_long_row() -> None:
    cut = cut_groups((10, 8, 4, 4), 1, dense=True, outputs=16, inputs=16)

    assert cut.rows.tolist() == [0] * 8
    assert cut.offsets.tolist() == list(range(0, 128, 16))
