"""Channels that say nothing go, and the outputs stay the same bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.network import ConvOp
from bacmac.host.arith.reference import run_reference
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.layers import INPUT, LINEAR, RELU, Conv, Model, Normalization, Pool
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.quantize.options import QuantizeOptions
from bacmac.host.quantize.quantizer import quantize_model
from bacmac.host.quantize.shrink import without_silent_channels

SAME = (1, 1, 1, 1)


def network(random: np.random.Generator, dead: dict[str, list[int]]) -> Model:
    """A pool, a residual and a depthwise layer behind layers of which some channels are dead."""

    def conv(name: str, source: str, *shape: int, **extra: object) -> Conv:
        weight = random.normal(size=shape).astype(np.float32)
        bias = random.normal(size=shape[0]).astype(np.float32)
        weight[dead.get(name, [])] = 0.0
        bias[dead.get(name, [])] = 0.0
        return Conv(name, source, weight, bias, **{"activation": RELU} | extra)

    return Model(
        "silent",
        (2, 8, 8),
        (
            conv("a", INPUT, 6, 2, 3, 3, padding=SAME),
            Pool("max", "a", "max", (2, 2), (2, 2)),
            Pool("mean", "max", "average", (2, 2), (2, 2)),
            conv("b", "mean", 6, 6, 3, 3, padding=SAME),
            conv("c", "b", 6, 6, 1, 1, residual="mean"),
            conv("deep", "c", 6, 1, 3, 3, padding=SAME, groups=6),
            conv("d", "deep", 5, 6, 1, 1),
            conv("end", "d", 3, 5, 2, 2, activation=LINEAR),
        ),
    )


def outputs(model: QuantizedModel, images: np.ndarray) -> np.ndarray:
    codes = input_codes(images, model.normalization, model.input_format)
    return run_reference(model.network, codes)


dead_channels = st.fixed_dictionaries(
    {
        name: st.lists(st.integers(0, n - 1), unique=True, max_size=n)
        for name, n in (("a", 6), ("b", 6), ("c", 6), ("deep", 6), ("d", 5), ("end", 3))
    }
)


@settings(max_examples=60, deadline=None)
@given(dead=dead_channels, seed=st.integers(0, 99))
def test_the_outputs_are_the_same_and_what_can_go_is_gone(
    dead: dict[str, list[int]], seed: int
) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (4, 2, 8, 8)).astype(np.uint8)
    options = QuantizeOptions(rounding="nearest")
    model = quantize_model(network(random, dead), images, Normalization(), options)

    smaller = without_silent_channels(model)

    assert (outputs(smaller, images) == outputs(model, images)).all()
    width = {layer.name: len(layer.op.levels) for layer in smaller.layers if layer.has_weights}
    # what is read by a residual or a depthwise convolution, and the outputs, stay whole
    assert (width["a"], width["c"], width["deep"], width["end"]) == (6, 6, 6, 3)
    assert width["b"] == max(1, 6 - len(dead["b"]))
    assert width["d"] == max(1, 5 - len(dead["d"]))


def test_channels_go_through_pools() -> None:
    random = np.random.default_rng(0)
    whole = network(random, {"a": [1, 4]})
    chain = replace(whole, layers=whole.layers[:4])
    images = random.integers(0, 256, (4, 2, 8, 8)).astype(np.uint8)
    model = quantize_model(chain, images, Normalization(), QuantizeOptions(rounding="nearest"))

    smaller = without_silent_channels(model)

    assert smaller.network.shapes[1:4] == ((4, 8, 8), (4, 4, 4), (4, 2, 2))
    assert (outputs(smaller, images) == outputs(model, images)).all()


def test_nothing_silent_is_nothing_changed() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, 2, 8, 8)).astype(np.uint8)
    model = quantize_model(network(random, {}), images, Normalization(), QuantizeOptions())

    assert without_silent_channels(model) is model


def test_pruned_channels_make_the_network_smaller(example_dir: Path) -> None:
    model = load_model(example_dir / "digits_cnn.json")
    images = load_images(example_dir / "digits_calibration.npz", shape=model.input_shape)
    options = CompressOptions(structure="channel", sparsity=0.25, calibration_images=64)

    quantized = compress(model, images, options)

    before = sum(layer.weight.size for layer in model.layers if isinstance(layer, Conv))
    after = sum(layer.op.levels.size for layer in quantized.layers if isinstance(layer.op, ConvOp))
    assert after < 0.9 * before
