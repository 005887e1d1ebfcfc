"""Whole groups go, the cheapest first, and what stays is fitted anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.groups import gather_groups
from bacmac.host.errors import InputError
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import input_codes, normalized
from bacmac.host.model.layers import INPUT, RELU, Conv, Model, Pool
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.pack.summary import skipped_cycles, summarize
from bacmac.host.prune.groups import GroupPruning, layer_cut, prune_groups
from bacmac.host.prune.removal import damped_inverse, removal_order, without_columns


def random_model(seed: int = 0, side: int = 8) -> Model:
    """Two residual blocks' worth of layers, a depthwise one, a pool and a dense end."""
    random = np.random.default_rng(seed)

    def conv(name: str, source: str, *shape: int, **extra: object) -> Conv:
        weight = random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        bias = random.normal(size=shape[0]) * 0.1
        return Conv(name, source, weight.astype(np.float32), bias.astype(np.float32), **extra)

    same = (1, 1, 1, 1)
    return Model(
        "random",
        (3, side, side),
        (
            conv("first", INPUT, 8, 3, 3, 3, padding=same, activation=RELU),
            conv("one", "first", 12, 8, 3, 3, padding=same, activation=RELU),
            conv("deep", "one", 12, 1, 3, 3, padding=same, activation=RELU, groups=12),
            conv("two", "deep", 8, 12, 3, 3, padding=same, activation=RELU, residual="first"),
            Pool("pool", "two", "max", (2, 2), (2, 2)),
            conv("three", "pool", 16, 8, 3, 3, padding=same, activation=RELU),
            conv("last", "three", 5, 16, side // 2, side // 2),
        ),
    )


def random_images(model: Model, n: int = 48, seed: int = 1) -> np.ndarray:
    """Smooth images: neighbours are alike, as they are in real ones."""
    random = np.random.default_rng(seed)
    channels, height, width = model.input_shape
    coarse = random.normal(size=(n, channels, height // 2, width // 2))
    return np.repeat(np.repeat(coarse, 2, 2), 2, 3).astype(np.float32)


def emptied(model: Model, masks: dict[str, np.ndarray], pruning: GroupPruning) -> dict[str, int]:
    """Groups without a weight that is left, by layer."""
    counts = {}
    for layer in model.layers:
        if isinstance(layer, Conv) and layer.name in masks:
            cut = layer_cut(model, layer, pruning.outputs, pruning.inputs)
            kept = gather_groups(masks[layer.name], cut)
            exists = cut.index >= 0
            assert (kept.any((1, 2)) == (kept | ~exists).all((1, 2))).all(), "part of a group"
            counts[layer.name] = int((~kept.any((1, 2))).sum())
    return counts


def problem(rows: int, columns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and a positive definite Hessian of correlated inputs."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(200, columns)) @ random.normal(size=(columns, columns))
    return random.normal(size=(rows, columns)), inputs.T @ inputs + np.eye(columns)


def loss_without(weights: np.ndarray, hessian: np.ndarray, gone: np.ndarray) -> float:
    """What least squares over the columns that stay must leave, from its normal equations."""
    left = np.flatnonzero(~gone)
    best = np.zeros_like(weights)
    if len(left):
        best[:, left] = np.linalg.solve(
            hessian[np.ix_(left, left)], (weights @ hessian)[:, left].T
        ).T
    return float(np.trace((weights - best) @ hessian @ (weights - best).T))


@given(seed=st.integers(0, 99), rows=st.integers(1, 5), size=st.integers(1, 4))
def test_losses_are_those_of_least_squares(seed: int, rows: int, size: int) -> None:
    weights, hessian = problem(rows, 11, seed)
    chunks = np.full((-(-11 // size), size), -1)
    chunks.reshape(-1)[:11] = np.random.default_rng(seed).permutation(11)

    order, losses = removal_order(weights, np.linalg.inv(hessian), chunks)

    assert sorted(order) == list(range(len(chunks)))
    gone = np.zeros(11, bool)
    for step, chunk in enumerate(order):
        gone[chunks[chunk][chunks[chunk] >= 0]] = True
        assert np.isclose(losses[: step + 1].sum(), loss_without(weights, hessian, gone), rtol=1e-6)


def test_the_first_to_go_is_the_cheapest_of_all() -> None:
    weights, hessian = problem(3, 12, 5)
    chunks = np.arange(12).reshape(4, 3)

    order, losses = removal_order(weights, np.linalg.inv(hessian), chunks)

    each = []
    for chunk in chunks:
        gone = np.zeros(12, bool)
        gone[chunk] = True
        each.append(loss_without(weights, hessian, gone))
    assert order[0] == int(np.argmin(each))
    assert np.isclose(losses[0], min(each))


def test_what_stays_is_the_least_squares_choice() -> None:
    weights, hessian = problem(4, 10, 7)
    gone = np.arange(10) % 3 == 0

    found = without_columns(weights, np.linalg.inv(hessian), gone)

    assert not found[:, gone].any()
    lost = np.trace((weights - found) @ hessian @ (weights - found).T)
    assert np.isclose(lost, loss_without(weights, hessian, gone))
    assert without_columns(weights, np.linalg.inv(hessian), np.zeros(10, bool)) is weights


def test_inputs_that_calibration_never_saw_have_a_finite_inverse() -> None:
    assert np.isfinite(damped_inverse(np.zeros((3, 3)))).all()
    assert np.isfinite(damped_inverse(np.diag([1.0, 0.0, 0.0]))).all()


@settings(max_examples=12, deadline=None)
@given(
    share=st.floats(0, 0.95),
    scope=st.sampled_from(["layer", "global"]),
    shape=st.sampled_from([(16, 16), (8, 8), (4, 16), (1, 4)]),
)
def test_whole_groups_of_the_inner_layers_go_to_the_share(
    share: float, scope: str, shape: tuple[int, int]
) -> None:
    model = random_model()
    pruning = GroupPruning(*shape, share, scope)

    smaller, masks = prune_groups(model, random_images(model), pruning)

    assert set(masks) <= {"one", "two", "three"}
    gone = emptied(model, masks, pruning)
    cycles, saved = [], 0
    for old, new in zip(model.layers, smaller.layers, strict=True):
        if not isinstance(old, Conv) or old.name not in ("one", "two", "three"):
            continue
        n_groups = len(layer_cut(model, old, *shape).blocks)
        n_gone = gone.get(old.name, 0)
        pixels = int(np.prod(model.shapes[old.name][1:]))
        cycles += [pixels] * n_groups
        saved += pixels * n_gone
        if scope == "layer":
            assert abs(n_gone - share * n_groups) <= 0.5
        if n_gone:
            assert not new.weight[~masks[old.name]].any()
    if scope == "global":
        assert share * sum(cycles) - max(cycles) < saved <= share * sum(cycles) + 1e-6


def test_groups_that_rounding_will_empty_are_the_first_to_go() -> None:
    model = random_model()
    images = random_images(model)
    pruning = GroupPruning(4, 8, 1 / 3, "layer")

    def rounding(name: str, weights: np.ndarray) -> np.ndarray:
        lost = np.arange(len(weights))[:, None] // 4 == len(weights) // 4 - 1
        return np.where(lost, 0.0, weights)

    smaller, masks = prune_groups(model, images, pruning, rounding=rounding)

    assert not masks["one"][8:].any()
    assert masks["one"][:8].all()
    assert smaller.layers[1].weight[:8].all()


def test_without_a_share_nothing_changes() -> None:
    model = random_model()

    smaller, masks = prune_groups(model, random_images(model), GroupPruning(8, 8, 0.0))

    assert masks == {}
    assert smaller.layers == model.layers


def test_refitting_brings_the_outputs_nearer_the_float_networks() -> None:
    model = random_model()
    images = random_images(model, 200)

    smaller, masks = prune_groups(model, images[:120], GroupPruning(8, 8, 0.5, "layer"))

    merely_masked = replace(
        model,
        layers=tuple(
            replace(layer, weight=layer.weight * masks[layer.name])
            if layer.name in masks
            else layer
            for layer in model.layers
        ),
    )
    fresh = images[120:]
    floats = forward(model, fresh)

    def error(found: Model) -> float:
        return float(np.mean((forward(found, fresh) - floats) ** 2))

    assert error(smaller) < 0.5 * error(merely_masked)


def test_the_same_images_give_the_same_network() -> None:
    model = random_model()
    images = random_images(model)
    pruning = GroupPruning(8, 8, 0.4)

    (first, _), (second, _) = (prune_groups(model, images, pruning) for _ in range(2))

    for one, other in zip(first.layers, second.layers, strict=True):
        if isinstance(one, Conv) and isinstance(other, Conv):
            assert (one.weight == other.weight).all()
            assert (one.bias == other.bias).all()


def test_a_share_of_its_own_reaches_the_ends_and_leaves_the_pool() -> None:
    model = random_model()
    pruning = GroupPruning(8, 8, 0.5, shares={"last": 0.25, "two": 0.0})

    _, masks = prune_groups(model, random_images(model), pruning)

    gone = emptied(model, masks, pruning)
    assert gone["last"] == round(0.25 * len(layer_cut(model, model.layers[-1], 8, 8).blocks))
    assert "two" not in masks


@pytest.mark.parametrize("name", ["deep", "pool", "nowhere"])
def test_a_layer_whose_groups_cannot_go_is_named(name: str) -> None:
    model = random_model()

    with pytest.raises(InputError, match=rf"layer '{name}'.*one of first, one, two, three, last"):
        prune_groups(model, random_images(model), GroupPruning(8, 8, 0.5, shares={name: 0.5}))


def test_a_network_of_two_layers_has_nothing_to_lose() -> None:
    model = random_model()
    two = replace(model, layers=model.layers[:2])

    with pytest.raises(InputError, match="the first and the last"):
        prune_groups(two, random_images(two), GroupPruning(8, 8, 0.5))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"share": 1.0}, "share"),
        ({"share": float("nan")}, "share"),
        ({"shares": {"one": -0.1}}, "one"),
        ({"outputs": 0}, "group"),
        ({"scope": "all"}, "scope"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=field):
        GroupPruning(**{"outputs": 8, "inputs": 8, "share": 0.5} | wrong)


def test_the_digits_network_survives_without_half_its_groups(example_dir: Path) -> None:
    model = load_model(example_dir / "digits_cnn.json")
    calibration, test = (
        load_images(example_dir / f"digits_{name}.npz", shape=model.input_shape)
        for name in ("calibration", "test")
    )
    options = CompressOptions(group=(16, 16), group_sparsity=0.5)

    quantized = compress(model, calibration, options)

    layers = summarize(quantized, (16, 16))
    assert 0.4 < skipped_cycles(layers) <= 0.51
    assert layers[-1].sparsity > 0.5
    assert layers[-1].n_groups == sum(layer.n_groups for layer in layers[:-1])
    normalization = quantized.normalization
    floats = forward(model, normalized(test.images, normalization)).reshape(len(test.images), -1)
    outputs = run(quantized, test.images)
    assert (outputs.argmax(1) == floats.argmax(1)).mean() > 0.9


def test_single_zeros_are_counted_with_those_of_empty_groups(example_dir: Path) -> None:
    model = load_model(example_dir / "digits_cnn.json")
    images = load_images(example_dir / "digits_calibration.npz", shape=model.input_shape)
    options = CompressOptions(
        group=(16, 16), group_sparsity=0.5, scope="layer", sparsity=0.7, bias_correction=False
    )

    layers = summarize(compress(model, images, options), (16, 16))

    for layer in layers[:-1]:
        if layer.n_weights:
            assert 0.69 < layer.sparsity < 0.78
    assert [layer.n_empty_groups for layer in layers if layer.n_weights] == [0, 4, 4, 9, 0, 17]


def run(quantized: QuantizedModel, images: np.ndarray) -> np.ndarray:
    codes = input_codes(images, quantized.normalization, quantized.input_format)
    logits = Engine(quantized.network).run(codes) * quantized.logit_scale[:, None, None]
    return logits.reshape(len(logits), -1)


def test_groups_need_to_be_told_their_shape() -> None:
    with pytest.raises(InputError, match="group: found none"):
        CompressOptions(group_sparsity=0.5)
    with pytest.raises(InputError, match="group_sparsities"):
        CompressOptions(group_sparsities={"one": 1.5}, group=(16, 16))
