"""Bounds against partial sums in random orders, and the definition on hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.bounds import accumulator_bounds, largest_magnitude, prove_no_overflow
from bacmac.host.arith.network import ConvOp, IntegerNetwork, PoolOp, Requantize
from bacmac.host.arith.reference import requantize, run_reference
from bacmac.host.errors import CompileError

HALVES = Requantize(np.array([1], np.uint16), np.array([1], np.uint8), -128, 127)


def dense(levels: np.ndarray, bias: np.ndarray) -> ConvOp:
    return ConvOp(0, levels.astype(np.int8)[:, :, None, None], bias.astype(np.int32), None)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), clamp=st.sampled_from([(0, 255), (-128, 127), (-8, 7)]))
def test_partial_sums_in_any_order_lie_within_the_bounds(seed, clamp):
    rng = np.random.default_rng(seed)
    levels, bias = rng.integers(-128, 128, (3, 12)), rng.integers(-5000, 5000, 3)
    low, high = accumulator_bounds(dense(levels, bias), *clamp)
    x = rng.integers(clamp[0], clamp[1] + 1, (200, 12))
    x[::4] = rng.choice(clamp, (50, 12))
    for channel in range(3):
        terms = np.concatenate([x * levels[channel], np.full((200, 1), bias[channel])], 1)
        sums = rng.permuted(terms, axis=1).cumsum(1)

        assert low[channel] <= sums.min()
        assert sums.max() <= high[channel]


def test_the_bounds_are_reached():
    op = dense(np.array([[3, -2], [0, 0]]), np.array([10, -7]))

    low, high = accumulator_bounds(op, 0, 255)

    assert (low.tolist(), high.tolist()) == ([-510, -7], [775, 0])
    assert largest_magnitude((low, high)) == 775


def test_bounds_of_pools():
    mean = PoolOp(0, "average", (2, 3), (1, 1), requantize=HALVES)
    best = PoolOp(0, "max", (2, 3), (1, 1))

    assert [bound.tolist() for bound in accumulator_bounds(mean, -8, 7)] == [[-48], [42]]
    assert [bound.tolist() for bound in accumulator_bounds(best, -8, 7)] == [[-8], [7]]


def test_an_accumulator_of_31_bits_is_proven_and_one_more_is_not():
    def network(bias: int) -> IntegerNetwork:
        return IntegerNetwork((1, 1, 1), 0, 255, (dense(np.ones((1, 1)), np.array([bias])),))

    prove_no_overflow(network(2**31 - 1 - 255))
    with pytest.raises(CompileError, match="op 0: channel 0"):
        prove_no_overflow(network(2**31 - 255))


def test_halves_round_up_for_both_signs():
    acc = np.array([-4, -3, -2, -1, 0, 1, 2, 3, 4]).reshape(-1, 1, 1, 1)

    assert requantize(acc, HALVES).ravel().tolist() == [-2, -1, -1, 0, 0, 1, 1, 2, 2]


def test_shift_zero_adds_nothing():
    how = Requantize(np.array([3], np.uint16), np.array([0], np.uint8), 0, 255)

    assert requantize(np.array([5, -5, 200]).reshape(3, 1, 1, 1), how).ravel().tolist() == [
        15,
        0,
        255,
    ]


def test_padding_never_wins_a_maximum_and_is_zero_in_an_average():
    how = Requantize(np.array([1], np.uint16), np.array([2], np.uint8), -128, 127)
    image = np.array([[[[-8, -4]]]], np.int8)
    for op, expected in (
        (PoolOp(0, "max", (2, 2), (1, 1), (1, 0, 0, 0)), [-4]),
        (PoolOp(0, "average", (2, 2), (1, 1), (1, 0, 0, 0), how), [-3]),
    ):
        network = IntegerNetwork((1, 1, 2), -128, 127, (op,))

        assert run_reference(network, image).ravel().tolist() == expected


def test_a_convolution_is_a_cross_correlation():
    levels = np.arange(1, 5, dtype=np.int8).reshape(1, 1, 2, 2)
    op = ConvOp(0, levels, np.array([100], np.int32), None, (1, 2), (0, 1, 0, 0))
    network = IntegerNetwork((1, 2, 3), 0, 255, (op,))
    image = np.array([[[[1, 2, 3], [4, 5, 6]]]], np.uint8)

    found = run_reference(network, image)

    assert found.dtype == np.int32
    assert found.ravel().tolist() == [100 + 2 * 1 + 4 * 4, 100 + 2 + 2 * 3 + 3 * 5 + 4 * 6]


def test_the_reference_notices_an_overflow():
    op = dense(np.ones((1, 1)), np.array([2**31 - 1]))
    network = IntegerNetwork((1, 1, 1), 0, 255, (op,))

    with pytest.raises(OverflowError, match="int32"):
        run_reference(network, np.ones((1, 1, 1, 1), np.uint8))
