"""Selections: what goes together, how many, and never more than asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.arith.groups import cut_groups, gather_groups
from bacmac.host.errors import InputError
from bacmac.host.model.sparse_fit import damped, sparse_fit
from bacmac.host.pack.layer_shape import to_matrix
from bacmac.host.prune.structures import (
    STRUCTURES,
    Both,
    Pattern,
    Units,
    group_numbers,
    parse_pattern,
    unit_numbers,
)

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3))


def scores_of(shape: tuple[int, ...], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.random((shape[0], int(np.prod(shape[1:]))))


@given(
    shape=shapes,
    structure=st.sampled_from(STRUCTURES),
    share=st.floats(0, 1),
    progress=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_as_many_whole_units_go_as_are_wanted(
    shape: tuple[int, ...], structure: str, share: float, progress: float, seed: int
) -> None:
    number = unit_numbers(structure, shape)
    n_units = int(number.max()) + 1
    count = round(share * n_units)

    kept = Units(number, count).kept(scores_of(shape, seed), progress)

    stays = np.bincount(number.reshape(-1), kept.reshape(-1))
    whole = np.bincount(number.reshape(-1))
    assert ((stays == 0) | (stays == whole)).all()
    assert np.count_nonzero(stays == 0) == round(count * progress)


@given(shape=shapes, seed=st.integers(0, 99))
def test_the_cheapest_units_go_first(shape: tuple[int, ...], seed: int) -> None:
    scores, number = scores_of(shape, seed), unit_numbers("block", shape)
    totals = np.bincount(number.reshape(-1), scores.reshape(-1))

    kept = Units(number, len(totals) // 2).kept(scores, 1.0)

    gone = np.unique(number[~kept])
    stays = np.unique(number[kept])
    assert not len(gone) or totals[gone].max() <= totals[stays].min()


@given(shape=shapes, n=st.integers(1, 4), more=st.integers(1, 4), seed=st.integers(0, 99))
def test_at_most_n_of_m_neighbours_in_the_window_stay(
    shape: tuple[int, ...], n: int, more: int, seed: int
) -> None:
    m = n + more
    scores = scores_of(shape, seed)

    kept = Pattern(n, m, shape).kept(scores, 1.0)

    matrix = to_matrix(kept.reshape(shape).astype(np.int8))
    worth = to_matrix(scores.reshape(shape))
    for start in range(0, matrix.shape[1], m):
        part, value = matrix[:, start : start + m], worth[:, start : start + m]
        assert (part.sum(1) == min(n, part.shape[1])).all()
        for row, values in zip(part.astype(bool), value, strict=True):
            assert row.all() or values[row].min() >= values[~row].max()


def test_a_pattern_comes_by_and_by() -> None:
    shape = (8, 16, 1, 1)
    scores = scores_of(shape, 0)

    zeros = [np.count_nonzero(~Pattern(2, 4, shape).kept(scores, p)) for p in (0.0, 0.5, 1.0)]

    assert zeros == [0, 32, 64]


def test_a_tile_is_one_of_the_bitmap_format() -> None:
    shape = (8, 4, 3, 3)

    matrix = to_matrix(unit_numbers("tile", shape).reshape(shape).astype(np.int16))

    assert (matrix[:4, :4] == matrix[0, 0]).all()
    assert len(np.unique(matrix)) == 2 * 9


def test_a_block_is_four_input_channels_with_their_kernels() -> None:
    numbers = unit_numbers("block", (2, 6, 3, 3)).reshape(2, 6, 3, 3)

    assert [np.unique(numbers[0, channel]).tolist() for channel in range(6)] == [[0]] * 4 + [
        [1]
    ] * 2
    assert numbers[1].min() == 2


def test_groups_are_those_of_the_array() -> None:
    shape = (12, 8, 3, 3)
    cut = cut_groups(shape, 1, dense=False, outputs=8, inputs=16)
    kept = Units(group_numbers(cut, shape), 5).kept(scores_of(shape, 3), 1.0)

    filled = np.count_nonzero(gather_groups(kept.reshape(shape), cut), (1, 2)) > 0

    assert np.count_nonzero(~filled) == 5


@given(seed=st.integers(0, 99), share=st.floats(0, 1))
def test_zeros_of_both_count_the_firsts_among_the_seconds(seed: int, share: float) -> None:
    shape = (8, 8, 3, 3)
    scores = scores_of(shape, seed)
    tiles = Units(unit_numbers("tile", shape), 9)
    weights = Units(unit_numbers("weight", shape), round(share * 576))

    kept = Both(tiles, weights).kept(scores, 1.0)

    assert np.count_nonzero(~kept) == max(9 * 16, round(share * 576))
    assert not kept[~tiles.kept(scores, 1.0)].any()


@pytest.mark.parametrize(
    "word", ["", "rows", "0:4", "4:4", "5:4", "2:65", "2:", ":4", "-1:4", "a:b"]
)
def test_a_structure_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="N:M with 1 <= N < M <= 64"):
        parse_pattern(word)


def test_patterns_and_names_are_told_apart() -> None:
    assert parse_pattern("2:4") == (2, 4)
    assert [parse_pattern(name) for name in STRUCTURES] == [None] * len(STRUCTURES)


def hessian_of(inputs: int, n: int, seed: int) -> np.ndarray:
    """Of inputs that are alike, as those of a window are."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(inputs, n)) + 2 * random.normal(size=(1, n))
    return damped((x @ x.T)[None], 0.01)


def loss(errors: np.ndarray, hessian: np.ndarray) -> float:
    return float(np.sum((errors @ hessian) * errors))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_refitted_weights_are_near_the_least_squares_for_their_zeros(structure: str) -> None:
    random = np.random.default_rng(0)
    shape = (8, 8, 2, 2)
    weights, hessian = random.normal(size=(8, 32)), hessian_of(32, 200, 1)
    number = unit_numbers(structure, shape)
    selection = Units(number, (int(number.max()) + 1) // 2)

    found, kept = sparse_fit(weights, hessian, selection)

    best = np.zeros_like(weights)
    for row in range(8):
        stays = np.flatnonzero(kept[row])
        wanted = (hessian[0] @ weights[row])[stays]
        best[row, stays] = np.linalg.solve(hessian[0][np.ix_(stays, stays)], wanted)
    assert not found[~kept].any()
    assert loss(weights - found, hessian[0]) <= 1.02 * loss(weights - best, hessian[0]) + 1e-9


def test_zeros_chosen_with_the_refit_cost_less_than_the_smallest_weights() -> None:
    random = np.random.default_rng(0)
    weights, hessian = random.normal(size=(16, 32)), hessian_of(32, 400, 1)
    selection = Units(unit_numbers("weight", (16, 32, 1, 1)), 256)

    found, _ = sparse_fit(weights, hessian, selection)

    smallest = np.abs(weights) < np.median(np.abs(weights))
    masked = np.where(smallest, 0.0, weights)
    assert loss(weights - found, hessian[0]) < 0.4 * loss(weights - masked, hessian[0])


def test_convolution_groups_are_fitted_each_with_its_own_inputs() -> None:
    random = np.random.default_rng(0)
    weights = random.normal(size=(6, 9))
    hessians = np.concatenate([hessian_of(9, 50, seed) for seed in range(3)])
    number = unit_numbers("weight", (2, 9, 1, 1))
    pattern = Pattern(1, 3, (6, 9, 1, 1))

    together, kept = sparse_fit(weights, hessians, pattern)

    assert number.max() == 17
    for group in range(3):
        rows = slice(2 * group, 2 * group + 2)
        for row in range(*rows.indices(6)):
            stays = np.flatnonzero(kept[row])
            wanted = (hessians[group] @ weights[row])[stays]
            best = np.linalg.solve(hessians[group][np.ix_(stays, stays)], wanted)
            assert np.allclose(together[row, stays], best, atol=0.05)
