"""The quantized network is the float network, as nearly as its scheme allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bacmac.host.arith.bounds import accumulator_bounds
from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import ConvOp
from bacmac.host.arith.reference import run_reference
from bacmac.host.arith.requantize import float32_exact
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import input_codes, normalized
from bacmac.host.model.layers import (
    INPUT,
    LINEAR,
    RELU,
    Activation,
    Conv,
    Model,
    Normalization,
    Pool,
)
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.model.sparse_fit import Fixed
from bacmac.host.quantize.options import QuantizeOptions
from bacmac.host.quantize.propagate import run_op
from bacmac.host.quantize.quantizer import quantize_model

PIXELS = Normalization(255.0, (0.4, 0.5), (0.3, 0.2))
ONES = (1, 1, 1, 1)


def everything_model(seed: int = 0, last: Activation = LINEAR) -> Model:
    """Every kind of layer once: stem, depthwise, residual, shortcut, both pools, dense."""
    random = np.random.default_rng(seed)

    def weight(c_out: int, c_in: int, k: int) -> np.ndarray:
        return (random.normal(size=(c_out, c_in, k, k)) / np.sqrt(c_in * k * k)).astype(np.float32)

    def bias(n: int) -> np.ndarray:
        return (0.2 * random.normal(size=n)).astype(np.float32)

    select = np.zeros((12, 8, 1, 1), np.float32)
    select[np.arange(2, 10), np.arange(8)] = 1
    relu6 = Activation(0.0, 1.5)
    return Model(
        "everything",
        (2, 8, 8),
        (
            Conv("stem", INPUT, weight(8, 2, 3), bias(8), padding=ONES, activation=relu6),
            Conv(
                "depth", "stem", weight(8, 1, 3), bias(8), padding=ONES, groups=8, activation=RELU
            ),
            Conv("add", "depth", weight(8, 8, 1), bias(8), activation=RELU, residual="stem"),
            Conv("signed", "add", weight(12, 8, 3), bias(12), stride=(2, 2), padding=ONES),
            Conv("short", "add", select, np.zeros(12, np.float32), stride=(2, 2), structural=True),
            Conv(
                "sum",
                "signed",
                np.ones((12, 1, 1, 1), np.float32),
                np.zeros(12, np.float32),
                groups=12,
                residual="short",
                activation=RELU,
                structural=True,
            ),
            Pool("most", "sum", "max", (2, 2), (2, 2)),
            Pool("mean", "most", "average", (2, 2), (2, 2)),
            Conv("dense", "mean", weight(5, 12, 1), bias(5), activation=last),
        ),
    )


def pixels(n: int, seed: int = 1) -> np.ndarray:
    """Smooth images, so that windows are correlated as in photographs."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (n, 2, 4, 4))
    noise = random.integers(-12, 13, (n, 2, 8, 8))
    return np.clip(coarse.repeat(2, 2).repeat(2, 3) + noise, 0, 255).astype(np.uint8)


def quantize(options: QuantizeOptions | None = None, **extra: object) -> QuantizedModel:
    model = extra.pop("model", None) or everything_model()
    return quantize_model(model, pixels(96), PIXELS, options or QuantizeOptions(), **extra)


def relative_output_error(model: Model, quantized: QuantizedModel, images: np.ndarray) -> float:
    codes = input_codes(images, PIXELS, quantized.input_format)
    outputs = run_reference(quantized.network, codes) * quantized.logit_scale[:, None, None]
    wanted = forward(model, normalized(images, PIXELS))
    return float(np.sum((outputs - wanted) ** 2) / np.sum(wanted**2))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_integer_network_tracks_the_float_network(scheme: str) -> None:
    model, unseen = everything_model(), pixels(64, 9)
    error = {}

    for rounding in ("nearest", "compensated"):
        quantized = quantize(QuantizeOptions(scheme, rounding=rounding))
        error[rounding] = relative_output_error(model, quantized, unseen)
        for layer in quantized.layers:
            if isinstance(layer.op, ConvOp):
                assert SCHEMES[layer.scheme].holds(layer.op.levels).all()
                assert layer.scheme == scheme or (layer.structural and scheme == "binary")

    if scheme == "uniform-8":
        assert max(error.values()) < 5e-4
    else:
        assert error["compensated"] < 0.6 * error["nearest"]
        assert error["nearest"] < {"ternary": 0.6, "binary": 1.2}.get(scheme, 0.15)


@pytest.mark.parametrize("scheme", set(SCHEMES) - {"pot-5"})
def test_every_narrow_scheme_is_float32_exact_in_every_channel_residuals_included(
    scheme: str,
) -> None:
    network = quantize(QuantizeOptions(scheme)).network

    for op in network.ops:
        if op.requantize is not None:
            residual = getattr(op, "residual", None)
            certified = float32_exact(
                op.requantize,
                *accumulator_bounds(op, *network.ranges[op.input]),
                None if residual is None else network.ranges[residual],
            )
            assert certified.all()


def test_the_engine_equals_the_reference_on_a_quantized_network() -> None:
    quantized = quantize(QuantizeOptions("uniform-8"))
    codes = input_codes(pixels(40, 3), PIXELS, quantized.input_format)

    assert (Engine(quantized.network).run(codes) == run_reference(quantized.network, codes)).all()


def test_calibration_sees_what_the_network_computes() -> None:
    network = quantize().network
    codes = [input_codes(pixels(10, 4), PIXELS, quantize().input_format)]

    for number, op in enumerate(network.ops[:-1]):
        residual = getattr(op, "residual", None)
        codes.append(run_op(op, codes[op.input], None if residual is None else codes[residual]))
        if number == 5:  # a network may end here: the sum requantizes
            cut = replace(network, ops=network.ops[: number + 1])
            assert (run_reference(cut, codes[0]) == codes[-1]).all()


def test_a_residual_layers_ratio_is_an_exact_integer_multiplier() -> None:
    quantized = quantize()
    layer = next(layer for layer in quantized.layers if layer.name == "add")
    source = next(layer for layer in quantized.layers if layer.name == "depth").output

    how = layer.op.requantize
    ratio = layer.weight_scale * source.scale / layer.output.scale
    assert np.allclose(ratio * 2.0**how.shift, how.multiplier, rtol=1e-9)


def test_structural_weights_stay_zeros_and_ones_at_scale_one() -> None:
    quantized = quantize(QuantizeOptions("ternary", rounding="nearest", bias_correction=True))

    for layer in quantized.layers:
        if layer.structural:
            assert set(np.unique(layer.op.levels)) <= {0, 1}
            assert np.allclose(layer.weight_scale, 1, atol=1e-3)


def test_relu6_clamps_where_the_float_network_does() -> None:
    quantized = quantize(QuantizeOptions("uniform-8"))
    stem = quantized.layers[0]

    assert stem.op.requantize.low == 0
    assert stem.op.requantize.high * stem.output.scale <= 1.5 + 1e-9


def test_a_clip_inside_the_signed_range_moves_the_clamp() -> None:
    model = everything_model()
    layers = [
        replace(layer, activation=Activation(-0.1, 0.7)) if layer.name == "signed" else layer
        for layer in model.layers
    ]

    signed = quantize(model=replace(model, layers=tuple(layers))).layers[3]

    assert signed.output.signed
    assert signed.op.requantize.low == round(-0.1 / signed.output.scale)
    assert signed.op.requantize.high <= round(0.7 / signed.output.scale)


def test_masked_weights_are_zero_and_the_error_is_against_all_weights() -> None:
    model = everything_model()
    mask = np.random.default_rng(5).random(model.layers[0].weight.shape) < 0.5

    pruned = quantize(selections={"stem": Fixed(mask)}).layers[0]

    assert (pruned.op.levels[~mask] == 0).all()
    assert pruned.relative_squared_error > quantize().layers[0].relative_squared_error + 0.2


@pytest.mark.parametrize("rounding", ["nearest", "compensated"])
def test_a_dead_channel_still_says_its_bias(rounding: str) -> None:
    model = everything_model()
    for layer, value in ((model.layers[0], 0.9), (model.layers[2], 0.4), (model.layers[-1], -3.0)):
        layer.weight[1] = 0
        layer.bias[1] = value
    images = pixels(8, 6)

    quantized = quantize(QuantizeOptions(rounding=rounding), model=model)

    codes = input_codes(images, PIXELS, quantized.input_format)
    logits = run_reference(quantized.network, codes) * quantized.logit_scale[:, None, None]
    assert np.allclose(logits[:, 1], -3.0, rtol=1e-5)
    stem = quantized.layers[0]
    cut = replace(quantized.network, ops=quantized.network.ops[:1])
    assert (run_reference(cut, codes)[:, 1] == round(0.9 / stem.output.scale)).all()


def test_weights_that_vanish_beside_their_bias_do_not_overflow() -> None:
    model = everything_model()
    model.layers[2].weight[0] *= 1e-15

    network = quantize(QuantizeOptions("uniform-8"), model=model).network

    assert np.abs(network.ops[2].bias).max() <= 1 << 22
    Engine(network)  # proves that no sum leaves int32


def test_bias_correction_restores_the_mean_of_the_logits() -> None:
    model = everything_model()
    images = pixels(96)
    wanted = forward(model, normalized(images, PIXELS)).mean(0)

    def shift(bias_correction: bool) -> float:
        options = QuantizeOptions("pot-3", rounding="nearest", bias_correction=bias_correction)
        quantized = quantize(options)
        codes = input_codes(images, PIXELS, quantized.input_format)
        logits = run_reference(quantized.network, codes) * quantized.logit_scale[:, None, None]
        return float(np.abs(logits.mean(0) - wanted).max())

    assert shift(True) < 1e-3
    assert shift(True) < 0.1 * shift(False)


def test_schemes_and_bits_follow_the_tables() -> None:
    options = QuantizeOptions(
        "pot-4",
        first_last="uniform-8",
        schemes={"add": "pot-3", "dense": "ternary"},
        activation_bits=6,
        activation_bits_table={"depth": 3, INPUT: 8},
    )

    quantized = quantize(options)

    layers = {layer.name: layer for layer in quantized.layers}
    schemes = {name: layers[name].scheme for name in ("stem", "depth", "add", "dense")}
    assert schemes == {"stem": "uniform-8", "depth": "pot-4", "add": "pot-3", "dense": "ternary"}
    assert layers["depth"].op.requantize.high == 7
    assert layers["stem"].op.requantize.high == 63
    assert quantized.input_format.bits == 8


def test_a_last_layer_with_an_activation_is_stored_and_one_without_leaves_logits() -> None:
    stored = quantize(QuantizeOptions("uniform-8"), model=everything_model(last=RELU))
    logits = quantize()

    assert stored.layers[-1].output is not None
    assert np.allclose(stored.logit_scale, stored.layers[-1].output.scale)
    assert logits.layers[-1].output is None
    assert logits.layers[-1].op.requantize is None
    assert relative_output_error(everything_model(last=RELU), stored, pixels(32, 8)) < 0.005


def test_the_same_input_gives_the_same_network() -> None:
    first, second = quantize(), quantize()

    for a, b in zip(first.layers, second.layers, strict=True):
        if isinstance(a.op, ConvOp):
            assert (a.op.levels == b.op.levels).all()
            assert (a.op.bias == b.op.bias).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (QuantizeOptions(schemes={"nose": "pot-4"}), r"schemes\['nose'\].*one of stem, depth"),
        (QuantizeOptions(schemes={"short": "pot-4"}), r"schemes\['short'\]"),
        (QuantizeOptions(activation_bits_table={"most": 4}), r"activation_bits\['most'\]"),
    ],
)
def test_a_table_that_names_no_such_layer_is_refused(
    options: QuantizeOptions, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        quantize(options)


def test_a_layer_too_wide_for_compensation_is_named() -> None:
    side = 92  # 92 * 92 inputs
    layer = Conv("wide", INPUT, np.ones((2, 1, side, side), np.float32), np.zeros(2, np.float32))
    model = Model("net", (1, side, side), (layer,))
    images = np.ones((2, 1, side, side), np.uint8)

    with pytest.raises(InputError, match=r"8,464 inputs in layer 'wide'"):
        quantize_model(model, images, Normalization(), QuantizeOptions(rounding="compensated"))
