"""An accelerator without one multiplier: every requantization is a shift, and it is still right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import ConvOp, Requantize
from bacmac.host.arith.reference import run_reference
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import input_codes, normalized
from bacmac.host.model.layers import INPUT, LINEAR, RELU, Conv, Model, Normalization, Pool
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.file import read_packed, write_packed
from bacmac.host.quantize.options import QuantizeOptions
from bacmac.host.quantize.quantizer import quantize_model
from bacmac.host.quantize.shifts import shift_requantize, shift_scales
from bacmac.host.quantize.weights import search_scales, squared_error

PIXELS = Normalization(255.0, (0.4, 0.5), (0.3, 0.2))
ONES = (1, 1, 1, 1)


def network(mean: tuple[int, int] = (2, 2), joins: bool = False) -> Model:
    """Residuals of both kinds, a shortcut, both pools and a dense layer."""
    random = np.random.default_rng(3)

    def weight(c_out: int, c_in: int, k: int) -> np.ndarray:
        return (random.normal(size=(c_out, c_in, k, k)) / np.sqrt(c_in * k * k)).astype(np.float32)

    def bias(n: int) -> np.ndarray:
        return (0.2 * random.normal(size=n)).astype(np.float32)

    select = np.zeros((12, 8, 1, 1), np.float32)
    select[np.arange(2, 10), np.arange(8)] = 1
    ones = np.ones((12, 1, 1, 1), np.float32)
    zeros = np.zeros(12, np.float32)
    layers: list[Conv | Pool] = [
        Conv("stem", INPUT, weight(8, 2, 3), bias(8), padding=ONES, activation=RELU),
        Conv("depth", "stem", weight(8, 1, 3), bias(8), padding=ONES, groups=8, activation=RELU),
        Conv("add", "depth", weight(8, 8, 1), bias(8), activation=RELU, residual="stem"),
        Conv("signed", "add", weight(12, 8, 3), bias(12), stride=(2, 2), padding=ONES),
        Conv("short", "add", select, zeros, stride=(2, 2), structural=True),
        Conv(
            "sum", "signed", ones, zeros, groups=12, residual="short", activation=RELU,
            structural=True,
        ),
        Pool("most", "sum", "max", (2, 2), (1, 1)),
        Pool("mean", "most", "average", mean, (1, 1)),
    ]  # fmt: skip
    if joins:  # a mean over 3 added to a tensor of the group that it was made from
        layers.append(
            Conv(
                "join", "mean", ones, zeros, groups=12, residual="most", structural=True,
                activation=RELU,
            )
        )  # fmt: skip
    shape = Model("shape", (2, 8, 8), tuple(layers)).output_shape
    dense = random.normal(size=(5, *shape)).astype(np.float32) / 9
    layers.append(Conv("dense", layers[-1].name, dense, bias(5), activation=LINEAR))
    return Model("everything", (2, 8, 8), tuple(layers))


def pixels(n: int, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (n, 2, 4, 4))
    noise = random.integers(-12, 13, (n, 2, 8, 8))
    return np.clip(coarse.repeat(2, 2).repeat(2, 3) + noise, 0, 255).astype(np.uint8)


def shifted(model: Model, **options: object) -> QuantizedModel:
    chosen = QuantizeOptions(**{"shift_only": True, **options})
    return quantize_model(model, pixels(96), PIXELS, chosen)


def output_error(model: Model, quantized: QuantizedModel) -> float:
    images = pixels(64, 9)
    codes = input_codes(images, PIXELS, quantized.input_format)
    outputs = quantized.values(run_reference(quantized.network, codes))
    wanted = forward(model, normalized(images, PIXELS))
    return float(np.sum((outputs - wanted) ** 2) / np.sum(wanted**2))


def assert_no_multiplier(quantized: QuantizedModel) -> None:
    for layer in quantized.layers:
        how: Requantize | None = layer.op.requantize
        if how is None:
            continue
        assert (how.multiplier == 1).all()
        if how.residual_multiplier is not None:
            powers = how.residual_multiplier
            assert (powers > 0).all()
            assert (powers & (powers - 1) == 0).all()


@pytest.mark.parametrize("scheme", ["pot-4", "pot-3", "uniform-8", "apot-4", "pot-5", "binary"])
@pytest.mark.parametrize("rounding", ["nearest", "compensated"])
def test_the_packed_file_holds_no_multiplier(scheme: str, rounding: str, tmp_path: Path) -> None:
    quantized = shifted(network(), scheme=scheme, rounding=rounding)

    write_packed(tmp_path / "shift.safetensors", quantized)
    packed = read_packed(tmp_path / "shift.safetensors").model

    assert_no_multiplier(packed)
    assert sum(layer.op.requantize is not None for layer in packed.layers) >= 6
    codes = input_codes(pixels(20, 2), PIXELS, packed.input_format)
    outputs = Engine(packed.network).run(codes)
    assert (outputs == run_reference(packed.network, codes)).all()


@pytest.mark.parametrize("scheme", ["uniform-8", "pot-4"])
def test_shifts_cost_little(scheme: str) -> None:
    model = network()
    multiplied = quantize_model(model, pixels(96), PIXELS, QuantizeOptions(scheme))

    error = output_error(model, shifted(model, scheme=scheme))

    assert error < max(2.5 * output_error(model, multiplied), 1e-3)


def test_a_mean_over_any_number_of_values_is_a_sum_and_a_shift() -> None:
    model = network(mean=(3, 1))

    quantized = shifted(model, scheme="uniform-8")

    assert_no_multiplier(quantized)
    most, mean = quantized.layers[6].output, quantized.layers[7].output
    step = np.log2(3 * mean.scale / most.scale)
    assert step == pytest.approx(round(step), abs=1e-9)
    assert output_error(model, quantized) < 2e-3


def test_scales_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="mean over a number that is no power of two"):
        shifted(_join_of_one_size())


def _join_of_one_size() -> Model:
    """max -> mean over 3 in one direction, padded to its size, added to what it was made from."""
    model = network()
    layers = list(model.layers[:7])
    layers.append(Pool("mean", "most", "average", (3, 1), (1, 1), (1, 0, 1, 0)))
    ones, zeros = np.ones((12, 1, 1, 1), np.float32), np.zeros(12, np.float32)
    layers.append(Conv("join", "mean", ones, zeros, groups=12, residual="most", structural=True))
    return replace(model, layers=tuple(layers))


def test_the_scale_of_a_channel_is_the_best_of_its_octaves() -> None:
    weights = np.random.default_rng(4).normal(size=(20, 60)) * np.geomspace(0.1, 9, 20)[:, None]
    scheme, per_step = SCHEMES["uniform-4"], 0.37

    scale = shift_scales(weights, per_step, scheme, least=np.zeros(20), residual=None)

    octaves = np.log2(scale / per_step)
    assert np.allclose(octaves, np.rint(octaves))
    found = squared_error(weights, scale, scheme)
    for other in (0.25, 0.5, 2.0, 4.0):
        allowed = scale * other <= per_step
        assert (found <= squared_error(weights, scale * other, scheme) + 1e-12)[allowed].all()
    assert (scale < 2.0 * search_scales(weights, scheme)).all()


def test_a_ratio_that_is_no_power_of_two_is_a_bug_that_shows() -> None:
    with pytest.raises(ValueError, match="not a power of two"):
        shift_requantize(np.array([0.3]), low=0, high=255)
    with pytest.raises(ValueError, match=r"not within 0\.\.40"):
        shift_requantize(np.array([2.0]), low=0, high=255)


def test_shifts_are_those_of_the_scales() -> None:
    quantized = shifted(network())
    formats = {INPUT: quantized.input_format} | {
        layer.name: layer.output for layer in quantized.layers
    }

    for layer, source in zip(quantized.layers, network().layers, strict=True):
        if not isinstance(layer.op, ConvOp) or layer.op.requantize is None:
            continue
        ratio = layer.weight_scale * formats[source.input].scale / formats[layer.name].scale
        assert np.allclose(ratio, 2.0 ** -layer.op.requantize.shift.astype(float), rtol=1e-9)
        if source.residual is not None:
            ratio = formats[source.residual].scale / formats[layer.name].scale
            held = layer.op.requantize.residual_multiplier / 2.0**layer.op.requantize.shift
            assert np.allclose(held, ratio, rtol=1e-9)
