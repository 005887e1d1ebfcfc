"""The network that is trained is the float network, and the quantized one, to rounding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.importers.images import ImageSet
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.layers import RELU, Activation, Conv, Grid, KeptWeights, Model, Pool
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.recover.network import Network, recovered_model


def _conv(name: str, source: str, c_out: int, c_in: int, k: int, **more: object) -> Conv:
    rng = np.random.default_rng(sum(name.encode()))
    weight = rng.normal(0, 1 / np.sqrt(c_in * k * k), (c_out, c_in, k, k)).astype(np.float32)
    bias = rng.normal(0, 0.2, c_out).astype(np.float32)
    return Conv(name, source, weight, bias, **more)  # type: ignore[arg-type]


def _model() -> Model:
    """Every kind of layer: residual, structural, depthwise, clamps, both pools, dense."""
    select = np.zeros((8, 6, 1, 1), np.float32)
    select[np.arange(1, 7), np.arange(6)] = 1
    return Model(
        "parts",
        (3, 11, 9),
        (
            _conv("a", "input", 6, 3, 3, padding=(1, 1, 1, 1), activation=RELU),
            _conv("b", "a", 6, 1, 3, padding=(0, 1, 2, 1), groups=6, activation=Activation(0, 6)),
            Pool("top", "b", "max", (2, 2), (2, 2), (1, 0, 0, 1)),
            Conv("cut", "top", select, np.zeros(8, np.float32), structural=True),
            _conv(
                "c", "top", 8, 3, 3, padding=(1, 1, 1, 1), groups=2, residual="cut", activation=RELU
            ),
            _conv("d", "c", 8, 8, 1, activation=Activation(-1, 1), stride=(1, 1)),
            Pool("mean", "d", "average", (3, 2), (2, 1), (1, 0, 0, 0)),
            _conv("e", "mean", 5, 8, 1),
        ),
    )


def _closed(model: Model) -> Model:
    """The same with a dense layer at its end."""
    channels, height, width = model.output_shape
    rng = np.random.default_rng(3)
    weight = rng.normal(0, 0.2, (4, channels, height, width)).astype(np.float32)
    dense = Conv("f", "e", weight, np.zeros(4, np.float32))
    return replace(model, layers=(*model.layers, dense))


def _images(model: Model, n: int = 40) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (n, *model.input_shape)).astype(np.float32)


def _quantized(model: Model, **options: object) -> QuantizedModel:
    images = ImageSet(_images(model), None, None, "random", "")
    return compress(model, images, CompressOptions(**options))  # type: ignore[arg-type]


def _run(network: Network, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(images)).numpy()


def test_a_float_network_computes_what_the_model_defines() -> None:
    for model in (_model(), _closed(_model())):
        images = _images(model)

        found = _run(Network(model), images)

        expected = forward(model, images).reshape(len(images), -1)
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("rounding", ["half-even", "half-up", "half-away", "floor", "ceil"])
def test_the_imitated_network_is_the_one_on_the_files_grids(rounding: str) -> None:
    grids = {
        "input": Grid(0.25, 3, 0, 15, rounding),  # type: ignore[arg-type]
        "a": Grid(0.5, 0.5, 0, 7, rounding),  # type: ignore[arg-type]
    }
    model = replace(_model(), grids=grids, input_gain=0.5, input_shift=0.125)
    images = np.round(_images(model) * 16) / 16  # ties of every kind

    found = _run(Network(model), images.astype(np.float32))

    expected = forward(model, images.astype(np.float32)).reshape(len(images), -1)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("shift_only", [False, True])
@pytest.mark.parametrize("scheme", ["pot-4", "uniform-4", "apot-4", "binary", "uniform-8"])
def test_a_rounded_network_computes_what_the_integers_compute(
    scheme: str, shift_only: bool
) -> None:
    model = replace(_closed(_model()), input_gain=0.5)
    images = _images(model)
    quantized = _quantized(model, scheme=scheme, shift_only=shift_only)

    found = _run(Network(model, quantized), images)

    codes = input_codes(images, quantized.normalization, quantized.input_format)
    exact = quantized.values(Engine(quantized.network).run(codes)).reshape(len(images), -1)
    # both round at the same places; a sum that lies beside a border may fall on its other side
    assert np.median(np.abs(found - exact)) < 1e-2 * exact.std()
    assert np.mean((found - exact) ** 2) < 1e-3 * exact.var()


def test_what_was_not_trained_comes_out_unchanged() -> None:
    model = _closed(_model())
    quantized = _quantized(model, scheme="pot-4")

    found = recovered_model(Network(model, quantized))

    for layer, before in zip(found.layers, quantized.layers, strict=True):
        if before.has_weights:
            np.testing.assert_array_equal(layer.op.levels, before.op.levels)
            assert layer.op.levels.dtype == before.op.levels.dtype
            np.testing.assert_allclose(layer.op.bias, before.op.bias, rtol=1e-6, atol=1)
            assert layer.op.requantize is before.op.requantize
        else:
            assert layer is before


def test_gradients_reach_every_weight_and_bias_through_all_that_is_rounded() -> None:
    model = _closed(_model())
    network = Network(model, _quantized(model, scheme="pot-4"))

    network(torch.from_numpy(_images(model))).square().sum().backward()

    for name, parameter in network.parameters.items():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_masks_hold_and_levels_stay_in_their_scheme_whatever_is_learned() -> None:
    model = _closed(_model())
    masks = {"c": np.random.default_rng(0).random((8, 3, 3, 3)) < 0.4}
    network = Network(model, _quantized(model, scheme="pot-3"), masks)
    optimizer = torch.optim.Adam(list(network.parameters.values()), lr=0.5)

    for _ in range(3):
        optimizer.zero_grad()
        network(torch.from_numpy(_images(model))).square().sum().backward()
        optimizer.step()
        network.project()
    found = recovered_model(network)

    levels = {layer.name: layer.op.levels for layer in found.layers if layer.has_weights}
    assert not levels["c"][~masks["c"]].any()
    assert any(
        (levels[layer.name] != layer.op.levels).any()
        for layer in network.quantized.layers
        if layer.has_weights
    )
    for values in levels.values():
        assert set(np.unique(values)) <= set(SCHEMES["pot-3"].levels.tolist())


def test_integers_of_the_file_are_trained_as_floats() -> None:
    model = _model()
    first = model.layers[0]
    assert isinstance(first, Conv)
    kept = KeptWeights(np.rint(first.weight * 50).astype(np.int16), np.full(6, 0.02))
    layers = (replace(first, kept=kept, weight=kept.weight), *model.layers[1:])
    model = replace(model, layers=layers, grids={"a": Grid(0.02, 0, 0, 255)})
    quantized = _quantized(model, scheme="pot-4", imported="requantize")

    network = Network(model, quantized)

    assert "a.weight" in network.parameters
    assert np.isfinite(_run(network, _images(model))).all()
