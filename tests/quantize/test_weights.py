"""The scale search against a dense one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.quantize.weights import (
    LEAST_WEIGHT,
    relative_squared_error,
    round_to_levels,
    search_scales,
    snap_scales,
    squared_error,
)

rows = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 20)),
    elements=st.floats(-8, 8, width=32),
)
schemes = st.sampled_from(list(SCHEMES.values()))


@given(values=arrays(np.float64, 30, elements=st.floats(-200, 200)), scheme=schemes)
def test_rounding_finds_a_nearest_level(values: np.ndarray, scheme: object) -> None:
    levels = round_to_levels(values, scheme)

    distances = np.abs(values[:, None] - scheme.levels.astype(float))
    assert np.isin(levels, scheme.levels).all()
    assert np.allclose(np.abs(values - levels), distances.min(axis=1))


@given(weights=rows, scheme=schemes)
def test_the_scale_search_is_never_worse_than_scaling_by_the_largest(
    weights: np.ndarray, scheme: object
) -> None:
    scale = search_scales(weights, scheme)

    alive = np.abs(weights).max(axis=1) >= LEAST_WEIGHT
    plain = np.abs(weights[alive]).max(axis=1) / scheme.max_level
    assert (scale[~alive] == 0).all()
    found = squared_error(weights[alive], scale[alive], scheme)
    assert (found <= squared_error(weights[alive], plain, scheme)).all()


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_the_scale_search_is_near_a_dense_search(scheme: object) -> None:
    weights = np.random.default_rng(5).normal(size=(4, 200))
    largest = np.abs(weights).max(axis=1) / scheme.max_level

    found = squared_error(weights, search_scales(weights, scheme), scheme)

    dense = np.min(
        [squared_error(weights, largest * f, scheme) for f in np.linspace(0.2, 1.6, 1500)], axis=0
    )
    assert (found <= dense * 1.02).all()


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_weights_on_a_grid_are_kept_exactly(scheme: object) -> None:
    random = np.random.default_rng(4)
    levels = random.choice(scheme.levels, (3, 60))
    levels[:, 0] = scheme.max_level
    scale = np.array([0.3, 0.01, 7.0])

    found = search_scales(levels * scale[:, None], scheme)

    again = round_to_levels(levels * scale[:, None] / found[:, None], scheme)
    assert relative_squared_error(levels * scale[:, None], again, found) < 1e-20


@given(weights=rows, scheme=schemes, steps=st.floats(0.3, 5000))
def test_snapped_scales_are_whole_multiples_beside_the_best(
    weights: np.ndarray, scheme: object, steps: float
) -> None:
    scale = np.full(len(weights), 0.5)
    step = scale / steps

    multiples = snap_scales(weights, scale, step, scheme) / step

    assert np.allclose(multiples, np.rint(multiples))
    assert (np.rint(multiples) >= 1).all()
    assert (np.abs(multiples - max(steps, 1)) <= 1 + 1e-6).all()
