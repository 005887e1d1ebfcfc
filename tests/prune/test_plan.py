"""How many of what each layer loses, and what that does to a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.engine import Engine
from bacmac.host.errors import InputError
from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import input_codes, normalized
from bacmac.host.model.layers import INPUT, RELU, Conv, Model, Pool
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.model.sparse_fit import Fixed, Selection
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.pack.summary import skipped_cycles, summarize
from bacmac.host.prune.plan import Pruning, selections
from bacmac.host.prune.structures import Pattern, Units


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


def random_images(model: Model, n: int = 16, seed: int = 1) -> np.ndarray:
    """Smooth images: neighbours are alike, as they are in real ones."""
    random = np.random.default_rng(seed)
    channels, height, width = model.input_shape
    coarse = random.normal(size=(n, channels, height // 2, width // 2))
    return np.repeat(np.repeat(coarse, 2, 2), 2, 3).astype(np.float32)


MODEL = random_model()
IMAGES = random_images(MODEL)


def chosen(pruning: Pruning, model: Model = MODEL) -> dict[str, Selection]:
    return selections(model, IMAGES, pruning, lambda: {})


def counts(found: Mapping[str, Selection]) -> dict[str, int]:
    return {name: one.count for name, one in found.items() if isinstance(one, Units)}


def run(quantized: QuantizedModel, images: np.ndarray) -> np.ndarray:
    codes = input_codes(images, quantized.normalization, quantized.input_format)
    logits = quantized.values(Engine(quantized.network).run(codes))
    return logits.reshape(len(logits), -1)


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.01, 0.97))
def test_a_global_share_is_reached_to_one_weight(share: float) -> None:
    found = counts(chosen(Pruning(sparsity=share)))

    total = sum(layer.weight.size for layer in MODEL.layers if isinstance(layer, Conv))
    assert abs(sum(found.values()) - share * total) <= 1.0


@given(share=st.floats(0, 0.999), structure=st.sampled_from(["weight", "block", "tile"]))
def test_a_share_of_each_layer_is_reached_to_one_unit(share: float, structure: str) -> None:
    found = chosen(Pruning(sparsity=share, structure=structure, scope="layer"))

    for one in found.values():
        assert isinstance(one, Units)
        assert abs(one.count - share * (int(one.number.max()) + 1)) <= 0.5


@settings(max_examples=15, deadline=None)
@given(
    share=st.floats(0.05, 0.95),
    scope=st.sampled_from(["layer", "global"]),
    shape=st.sampled_from([(16, 16), (8, 8), (4, 16), (1, 4)]),
)
def test_groups_of_the_inner_layers_go_to_the_share(
    share: float, scope: str, shape: tuple[int, int]
) -> None:
    found = chosen(Pruning(group_sparsity=share, group=shape, scope=scope))

    assert set(found) <= {"one", "two", "three"}
    if scope == "layer":
        for one in found.values():
            assert isinstance(one, Units)
            assert abs(one.count - share * (int(one.number.max()) + 1)) <= 0.5
        return
    every = chosen(Pruning(group_sparsity=0.999, group=shape, scope="layer"))
    pixels = {name: int(np.prod(MODEL.shapes[name][1:])) for name in every}
    units = {name: int(one.number.max()) + 1 for name, one in every.items()}
    whole = sum(pixels[name] * n for name, n in units.items())
    saved = sum(pixels[name] * n for name, n in counts(found).items())
    assert abs(saved - share * whole) <= max(pixels.values())


def test_zeros_go_where_the_outputs_feel_them_least() -> None:
    """A layer that hardly reaches the outputs loses more than an equal one that does."""
    layers = {layer.name: layer for layer in MODEL.layers}
    one, three = layers["one"], layers["three"]
    faint = replace(one, weight=one.weight * np.float32(0.01), bias=one.bias * np.float32(0.01))
    quiet = replace(MODEL, layers=tuple(faint if x.name == "one" else x for x in MODEL.layers))

    found = counts(chosen(Pruning(sparsity=0.5), quiet))

    assert found["one"] / one.weight.size > 0.8
    assert found.get("three", 0) / three.weight.size < 0.6


def test_a_share_of_its_own_leaves_the_pool_and_an_excluded_layer_keeps_everything() -> None:
    pruning = Pruning(sparsity=0.5, sparsities={"one": 0.2, "two": 0.0}, exclude=["first", "last"])

    found = counts(chosen(pruning))

    assert found["one"] == round(0.2 * 864)
    assert not {"two", "first", "last"} & set(found)


def test_structures_of_single_layers_and_channels_spare_the_networks_outputs() -> None:
    found = chosen(Pruning(sparsity=0.5, structure="channel", structures={"two": "1:4"}))

    assert isinstance(found["two"], Pattern)
    assert "last" not in found
    assert all(isinstance(found[name], Units) for name in found if name != "two")


def test_magnitude_gives_the_masks_at_once() -> None:
    found = chosen(Pruning(sparsity=0.5, method="magnitude"))

    assert all(isinstance(one, Fixed) for one in found.values())
    assert set(found) == {"first", "one", "deep", "two", "three", "last"}


def test_without_a_share_nothing_is_chosen() -> None:
    assert chosen(Pruning()) == {}
    assert chosen(Pruning(group=(8, 8))) == {}


@pytest.mark.parametrize("name", ["deep", "pool", "nowhere"])
def test_a_layer_whose_groups_cannot_go_is_named(name: str) -> None:
    pruning = Pruning(group_sparsity=0.5, group=(8, 8), group_sparsities={name: 0.5})

    with pytest.raises(InputError, match=rf"layer '{name}'.*one of first, one, two, three, last"):
        chosen(pruning)


def test_a_network_of_two_layers_has_no_groups_to_lose() -> None:
    two = replace(MODEL, layers=MODEL.layers[:2])

    with pytest.raises(InputError, match="the first and the last"):
        chosen(Pruning(group_sparsity=0.5, group=(8, 8)), two)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"sparsity": 1.0}, "sparsity"),
        ({"sparsity": float("nan")}, "sparsity"),
        ({"sparsities": {"one": -0.1}}, "one"),
        ({"group_sparsity": 0.5}, "group: found none"),
        ({"group_sparsity": 0.5, "group": (0, 4)}, "group: found 0x4"),
        ({"scope": "all"}, "scope"),
        ({"structure": "row"}, "structure"),
        ({"structures": {"one": "4:2"}}, "structure"),
        ({"structure": "2:4", "sparsity": 0.5}, "2:4 says how many stay"),
        ({"structure": "2:4", "sparsities": {"one": 0.5}}, "its structure is a pattern"),
        ({"structure": "tile", "method": "magnitude"}, "anything but single weights"),
        ({"group_sparsity": 0.5, "group": (4, 4), "method": "pot-aware"}, "single weights"),
        ({"method": "random"}, "one of compensated, magnitude, pot-aware"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=field):
        Pruning(**wrong)


def test_a_name_that_is_no_layer_is_refused() -> None:
    with pytest.raises(InputError, match=r"layer 'nowhere'.*one of first, one"):
        chosen(Pruning(structures={"nowhere": "tile"}))


@pytest.fixture(scope="module")
def digits(example_dir: Path) -> tuple[Model, ImageSet, ImageSet]:
    model = load_model(example_dir / "digits_cnn.json")
    calibration, test = (
        load_images(example_dir / f"digits_{name}.npz", shape=model.input_shape)
        for name in ("calibration", "test")
    )
    return model, calibration, test


@pytest.mark.parametrize(
    ("structure", "sparsity", "least"),
    [("tile", 0.3, 0.95), ("block", 0.3, 0.9), ("2:4", 0.0, 0.93), ("channel", 0.1, 0.75)],
)
def test_the_digits_network_survives_each_structure(
    digits: tuple[Model, ImageSet, ImageSet], structure: str, sparsity: float, least: float
) -> None:
    model, calibration, test = digits
    options = CompressOptions(structure=structure, sparsity=sparsity)

    quantized = compress(model, calibration, options)

    whole = sum(layer.weight.size for layer in model.layers if isinstance(layer, Conv))
    total = summarize(quantized)[-1]
    # silent channels are not there at all
    assert total.n_weights - total.n_zeros <= (1 - (sparsity or 0.45)) * whole * 1.02
    assert (total.n_weights < whole) == (structure == "channel")
    floats = forward(model, normalized(test.images, quantized.normalization))
    agreed = run(quantized, test.images).argmax(1) == floats.reshape(len(floats), -1).argmax(1)
    assert agreed.mean() >= least


def test_the_digits_network_survives_without_half_its_groups(
    digits: tuple[Model, ImageSet, ImageSet],
) -> None:
    model, calibration, test = digits

    quantized = compress(model, calibration, CompressOptions(group=(16, 16), group_sparsity=0.5))

    layers = summarize(quantized, (16, 16))
    assert 0.4 < skipped_cycles(layers) <= 0.6
    assert layers[-1].n_groups == sum(layer.n_groups for layer in layers[:-1])
    floats = forward(model, normalized(test.images, quantized.normalization))
    agreed = run(quantized, test.images).argmax(1) == floats.reshape(len(floats), -1).argmax(1)
    assert agreed.mean() > 0.9


def test_single_zeros_are_counted_with_those_of_empty_groups(
    digits: tuple[Model, ImageSet, ImageSet],
) -> None:
    model, calibration, _ = digits
    options = CompressOptions(group=(16, 16), group_sparsity=0.5, scope="layer", sparsity=0.7)

    layers = summarize(compress(model, calibration, options), (16, 16))

    for layer in layers[:-1]:
        if layer.n_weights:
            assert 0.69 < layer.sparsity < 0.78
    empty = [layer.n_empty_groups for layer in layers if layer.n_weights]
    assert all(n >= least for n, least in zip(empty[1:4], (4, 4, 9), strict=True))


def test_the_same_images_give_the_same_bits(digits: tuple[Model, ImageSet, ImageSet]) -> None:
    model, calibration, _ = digits
    options = CompressOptions(sparsity=0.6, calibration_images=64)

    first, second = (compress(model, calibration, options) for _ in range(2))

    for one, other in zip(first.layers, second.layers, strict=True):
        if one.has_weights:
            assert (one.op.levels == other.op.levels).all()
            assert (one.op.bias == other.op.bias).all()


def test_what_is_empty_is_counted(digits: tuple[Model, ImageSet, ImageSet]) -> None:
    model, calibration, _ = digits
    images = replace(calibration, images=calibration.images[:64])
    found = {
        structure: summarize(
            compress(model, images, CompressOptions(structure=structure, sparsity=0.5))
        )
        for structure in ("weight", "tile", "channel")
    }

    share = {name: layers[-1].n_empty_tiles / layers[-1].n_tiles for name, layers in found.items()}
    assert share["tile"] >= 0.45 > 0.1 > share["weight"]
    gone = [layer.n_empty_channels for layer in found["channel"] if layer.n_weights]
    assert gone[-1] == sum(gone[:-1]) > 0
    assert gone[-2] == 0
