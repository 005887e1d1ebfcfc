"""Fronts of cost and accuracy: what is on one, and what chance alone keeps off it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from bacmac.host.runtime.pareto import difference, sign_test, standings


def _right(n_correct: int, n_images: int = 1000, *, first: int = 0) -> np.ndarray:
    """As many right answers in a row."""
    flags = np.zeros(n_images, np.bool_)
    flags[first : first + n_correct] = True
    return flags


@given(a=st.integers(0, 80), b=st.integers(0, 80))
def test_the_sign_test_is_the_binomial_one(a, b):
    expected = binomtest(a, a + b).pvalue if a + b else 1.0

    assert sign_test(a, b) == pytest.approx(expected, abs=1e-12)


def test_a_difference_is_paired_over_the_images():
    one, other = _right(910), _right(900)  # ten images that only the first has right

    found = difference(one, other)

    assert found.mean == pytest.approx(0.01)
    assert found.standard_error == pytest.approx(np.sqrt((0.01 - 0.0001) / 1000))
    assert found.p == pytest.approx(2 / 2**10)
    assert found.is_certain


def test_the_same_accuracy_on_other_images_is_no_certain_difference():
    found = difference(_right(500), _right(500, first=500))

    assert found.mean == 0
    assert found.standard_error > 0.03
    assert not found.is_certain


def test_standings_of_a_small_trade_off():
    points = [
        (3.0, _right(900)),  # cheapest: on the front
        (4.0, _right(930)),  # dearer and certainly better
        (4.5, _right(926)),  # behind the second, by four images: chance
        (5.0, _right(910)),  # behind the second for certain
        (8.0, _right(931)),  # one more image than the second: on the front, not for certain
    ]

    found = standings([cost for cost, _ in points], [flags for _, flags in points])

    assert [s.place for s in found] == ["front", "front", "noise", "behind", "front"]
    assert [s.certain for s in found] == [True, True, False, False, False]


def test_equal_points_stand_on_the_front_together():
    found = standings([4.0, 4.0], [_right(900), _right(900)])

    assert [s.place for s in found] == ["front", "front"]


@given(
    points=st.lists(
        st.tuples(st.integers(1, 6), st.lists(st.booleans(), min_size=12, max_size=12)),
        min_size=1,
        max_size=8,
    )
)
def test_the_front_is_what_no_point_dominates(points):
    costs = [float(cost) for cost, _ in points]
    flags = [np.array(row) for _, row in points]
    counts = [int(row.sum()) for row in flags]

    found = standings(costs, flags)

    for p, standing in enumerate(found):
        dominated = any(
            costs[q] <= costs[p]
            and counts[q] >= counts[p]
            and (costs[q] < costs[p] or counts[q] > counts[p])
            for q in range(len(points))
        )
        assert (standing.place == "front") == (not dominated)
        assert standing.place == "front" or not standing.certain
    best = min(range(len(points)), key=lambda p: (-counts[p], costs[p]))
    assert found[best].place == "front"
