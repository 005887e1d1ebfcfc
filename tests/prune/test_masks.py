"""Masks reach the sparsity to one weight and zero what the method says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.errors import InputError
from bacmac.host.model.layers import INPUT, Conv, Model
from bacmac.host.prune.masks import exponent_bins, prune


def conv(name: str, source: str, weight: np.ndarray, **extra: object) -> Conv:
    weight = weight.astype(np.float32)
    return Conv(name, source, weight, np.zeros(len(weight), np.float32), **extra)


def small_model(seed: int = 0) -> Model:
    """Two weighted layers of very different magnitude around a structural one."""
    random = np.random.default_rng(seed)
    identity = np.ones((5, 1, 1, 1))
    return Model(
        "small",
        (3, 4, 4),
        (
            conv("a", INPUT, random.normal(size=(5, 3, 3, 3)), padding=(1, 1, 1, 1)),
            conv("move", "a", identity, groups=5, structural=True),
            conv("b", "move", 0.01 * random.normal(size=(7, 5, 1, 1))),
        ),
    )


@given(
    sparsity=st.floats(0, 0.999),
    scope=st.sampled_from(["layer", "global"]),
    method=st.sampled_from(["magnitude", "pot-aware"]),
)
def test_the_sparsity_is_reached_to_one_weight(sparsity: float, scope: str, method: str) -> None:
    model = small_model()
    scales = {"a": np.full(5, 0.05), "b": np.full(7, 0.0005)}

    masks = prune(model, sparsity, scope=scope, method=method, scales=scales)

    zeros = {
        name: int(masks[name].size - masks[name].sum()) if name in masks else 0 for name in scales
    }
    if scope == "global":
        assert abs(sum(zeros.values()) - sparsity * 170) <= 0.5
    else:
        assert abs(zeros["a"] - sparsity * 135) <= 0.5
        assert abs(zeros["b"] - sparsity * 35) <= 0.5


def test_magnitude_removes_the_smallest_weights() -> None:
    model = small_model()

    mask = prune(model, 0.4)["a"]

    magnitudes = np.abs(model.layers[0].weight)
    assert magnitudes[~mask].max() <= magnitudes[mask].min()


def test_global_magnitude_takes_from_the_layer_of_small_weights_first() -> None:
    masks = prune(small_model(), 0.2, scope="global")

    assert not masks["b"].any() or masks["b"].mean() < 0.1
    assert masks["a"].mean() > 0.95


def test_structural_layers_are_never_pruned() -> None:
    assert set(prune(small_model(), 0.9)) == {"a", "b"}


def test_excluded_layers_keep_everything_and_a_table_entry_wins() -> None:
    masks = prune(small_model(), 0.5, sparsities={"a": 0.2}, exclude=["b"])

    assert set(masks) == {"a"}
    assert (~masks["a"]).sum() == 27


def test_pot_aware_empties_the_smallest_exponents_of_each_channel_first() -> None:
    weight = np.array([[0.6, 8.0, 3.5, 1.2], [60.0, 800.0, 350.0, 120.0]])[:, :, None, None]
    model = Model("two", (4, 1, 1), (conv("w", INPUT, weight),))

    mask = prune(model, 0.5, method="pot-aware", scales={"w": np.array([1.0, 100.0])})["w"]

    # both channels lose exponents 0 and 1; magnitude alone would have emptied the first one
    assert mask[:, :, 0, 0].tolist() == [[False, True, True, False]] * 2


def test_pot_aware_orders_one_exponent_by_magnitude() -> None:
    weight = np.array([[1.1, 0.9, 1.0, 64.0]])[:, :, None, None]
    model = Model("one", (4, 1, 1), (conv("w", INPUT, weight),))

    mask = prune(model, 0.5, method="pot-aware", scales={"w": np.ones(1)})["w"]

    assert mask.reshape(-1).tolist() == [True, False, False, True]


def test_exponent_bins_have_the_borders_of_nearest_rounding() -> None:
    ratios = np.array([0.0, 0.49, 0.51, 1.49, 1.51, 2.99, 3.01, 95.9, 96.1])

    bins = exponent_bins(ratios[None].astype(np.float32), np.ones(1))

    assert bins[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 7, 8]


@pytest.mark.parametrize("names", [{"sparsities": {"c": 0.1}}, {"exclude": ["c"]}])
def test_an_unknown_layer_is_named_with_what_exists(names: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"layer 'c'.*one of a, b"):
        prune(small_model(), 0.5, **names)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan")])
def test_a_sparsity_out_of_range_is_refused(sparsity: float) -> None:
    with pytest.raises(InputError, match="0 to below 1"):
        prune(small_model(), sparsity)


def test_nothing_to_prune_gives_no_mask_and_needs_no_scales() -> None:
    assert prune(small_model(), 0.0, method="pot-aware") == {}
