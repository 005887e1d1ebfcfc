"""Zeros rise to the share asked for, to one weight, and stay zeros."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.recover.schedule import Pool, layer_scores, masks_at, risen


@given(target=st.floats(0, 0.99), steps=st.integers(1, 40))
def test_zeros_rise_from_none_to_the_target_ever_slower(target: float, steps: int) -> None:
    shares = [risen(step / steps, target) for step in range(steps + 1)]

    assert shares[0] == 0
    assert shares[-1] == target
    rises = np.diff(shares)
    assert (rises >= 0).all()
    assert (np.diff(rises) <= 1e-12).all()


@given(seed=st.integers(0, 1000), share=st.floats(0, 0.97), progress=st.floats(0, 1))
def test_a_pool_reaches_its_share_to_one_weight(seed: int, share: float, progress: float) -> None:
    rng = np.random.default_rng(seed)
    weights = {
        name: rng.normal(0, 10.0 ** rng.integers(-3, 3), (rng.integers(1, 9), 3, 2, 2)).astype(
            np.float32
        )
        for name in "abc"
    }

    masks = masks_at(weights, (Pool(("a", "b", "c"), share),), progress)

    zeros = sum(int((~mask).sum()) for mask in masks.values())
    size = sum(weight.size for weight in weights.values())
    assert zeros == round(risen(progress, share) * size)


def test_what_is_zero_stays_zero_as_the_share_rises() -> None:
    rng = np.random.default_rng(0)
    weights = {"a": rng.normal(0, 1, (4, 4, 3, 3)).astype(np.float32)}
    pools = (Pool(("a",), 0.9),)
    gone = np.zeros(weights["a"].shape, np.bool_)

    for step in range(11):
        mask = masks_at(weights, pools, step / 10)["a"]
        assert not mask[gone].any()
        gone = ~mask
        weights["a"] = (weights["a"] + rng.normal(0, 0.5, mask.shape)).astype(np.float32) * mask


@given(factor=st.floats(1e-3, 1e3))
def test_scores_do_not_depend_on_the_size_of_a_layers_weights(factor: float) -> None:
    weight = np.random.default_rng(0).normal(0, 1, (3, 4)).astype(np.float32)

    np.testing.assert_allclose(
        layer_scores(weight * np.float32(factor)), layer_scores(weight), rtol=1e-5
    )


def test_scores_are_squares_over_the_squares_that_are_not_smaller() -> None:
    scores = layer_scores(np.array([3.0, -1.0, 0.0, 2.0], np.float32))

    np.testing.assert_allclose(scores, [1.0, 1 / 14, 0.0, 4 / 13])
