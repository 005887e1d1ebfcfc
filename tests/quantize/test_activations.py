"""Activation formats: signs, bits, grids of pixels, clamps."""

from __future__ import annotations

import numpy as np
import pytest

from bacmac.host.errors import InputError
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.layers import (
    INPUT,
    RELU,
    Activation,
    Conv,
    Model,
    Normalization,
    Pool,
)
from bacmac.host.model.quantized import ActivationFormat
from bacmac.host.quantize import activations
from bacmac.host.quantize.activations import (
    TensorStatistics,
    choose_formats,
    collect_statistics,
    search_scale,
)
from bacmac.host.quantize.options import QuantizeOptions
from bacmac.host.quantize.propagate import run_op
from bacmac.host.quantize.quantizer import quantize_model


def statistics_of(values: np.ndarray) -> TensorStatistics:
    values = values.astype(np.float32)
    return TensorStatistics(float(values.min()), float(values.max()), values, np.zeros((1, 1, 1)))


def pooled_model(activation: Activation) -> Model:
    weight = np.array([1.0, -1.0], np.float32).reshape(2, 1, 1, 1)
    return Model(
        "pooled",
        (1, 4, 4),
        (
            Conv("conv", INPUT, weight, np.zeros(2, np.float32), activation=activation),
            Pool("most", "conv", "max", (2, 2), (2, 2)),
            Pool("mean", "most", "average", (2, 2), (2, 2)),
        ),
    )


def formats_of(model: Model, bits: int = 8) -> dict[str, ActivationFormat]:
    images = np.random.default_rng(1).integers(0, 256, (20, 1, 4, 4), np.uint8)
    collected = collect_statistics(model, images, Normalization(16.0))
    return choose_formats(model, collected, dict.fromkeys(model.shapes, bits))


@pytest.mark.parametrize("pixel_max", [255.0, 16.0, 100.0])
def test_pixels_on_a_grid_come_out_without_loss(pixel_max: float) -> None:
    pixels = np.arange(int(min(pixel_max, 255)) + 1, dtype=np.uint8)[:, None, None, None]
    normalization = Normalization(pixel_max)
    values = normalization.apply(pixels)

    scale = search_scale(statistics_of(values), ActivationFormat(1.0))

    codes = input_codes(pixels, normalization, ActivationFormat(scale))
    assert np.allclose(codes * scale, values, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_the_clip_is_never_worse_than_no_clip_and_clips_a_long_tail(
    bits: int, signed: bool
) -> None:
    values = np.random.default_rng(2).laplace(size=20_000)
    values = values if signed else np.abs(values)
    target = ActivationFormat(1.0, bits, signed)

    def error(scale: float) -> float:
        codes = np.clip(np.rint(values / scale), target.low, target.high)
        return float(np.mean((codes * scale - values) ** 2))

    scale = search_scale(statistics_of(values), target)

    plain = np.abs(values).max() / target.high
    assert error(scale) <= error(plain)
    if bits < 8:
        assert scale < 0.8 * plain


def test_a_tensor_is_unsigned_after_relu_and_through_both_pools() -> None:
    formats = formats_of(pooled_model(RELU))

    assert not any(formats[name].signed for name in (INPUT, "conv", "most", "mean"))


def test_a_max_pool_keeps_its_inputs_format_and_a_signed_one_stays_signed() -> None:
    formats = formats_of(pooled_model(Activation()), bits=5)

    assert formats["most"] is formats["conv"]
    assert formats["conv"].signed
    assert formats["mean"].signed
    assert formats["mean"].bits == 5
    assert formats["mean"].scale != formats["conv"].scale


def test_relu6_caps_the_scale_at_six() -> None:
    formats = formats_of(pooled_model(Activation(0.0, 6.0)))

    assert formats["conv"].scale <= 6 / 255 + 1e-12


def test_a_tensor_that_is_always_zero_still_has_a_format() -> None:
    assert search_scale(statistics_of(np.zeros(10)), ActivationFormat(1.0)) > 0


def test_the_sample_stays_bounded_and_the_range_is_that_of_all_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activations, "SAMPLE_VALUES", 500)
    images = np.random.default_rng(3).normal(size=(100, 1, 4, 4)).astype(np.float32)

    collected = collect_statistics(pooled_model(RELU), images, Normalization())

    assert all(entry.sample.size <= 1000 for entry in collected.values())
    assert collected[INPUT].low == images.min()
    assert collected[INPUT].high == images.max()
    assert np.allclose(collected[INPUT].mean, images.mean(0))


def test_a_value_that_is_not_finite_names_the_tensor() -> None:
    model = pooled_model(RELU)
    model.layers[0].bias[0] = np.inf

    with pytest.raises(InputError, match=r"tensor 'conv'.*NaN or infinite"):
        collect_statistics(model, np.zeros((1, 1, 4, 4), np.uint8), Normalization())


@pytest.mark.parametrize("values", [np.linspace(-10, -9, 50), np.linspace(-3.0, 0.1, 200)])
def test_a_tensor_that_is_mostly_negative_is_not_clipped_to_its_positive_side(
    values: np.ndarray,
) -> None:
    target = ActivationFormat(1.0, 8, signed=True)

    scale = search_scale(statistics_of(values), target)

    codes = np.clip(np.rint(values / scale), target.low, target.high)
    assert np.abs(codes * scale - values).max() <= scale


def test_a_tensor_and_its_negative_get_nearly_the_same_scale() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=4000) - 0.5
    target = ActivationFormat(1.0, 8, signed=True)

    scales = [search_scale(statistics_of(sign * values), target) for sign in (1, -1)]

    assert scales[0] == pytest.approx(scales[1], rel=0.05)


def test_a_channel_selection_moves_its_input_without_losing_a_bit() -> None:
    rng = np.random.default_rng(2)
    select = np.zeros((4, 2, 1, 1), np.float32)
    select[1, 0] = select[2, 1] = 1
    zeros = np.zeros(4, np.float32)
    weight = rng.standard_normal((2, 1, 3, 3)).astype(np.float32)
    model = Model(
        "shortcut",
        (1, 8, 8),
        (
            Conv("conv", INPUT, weight, zeros[:2], activation=RELU),
            Conv("pad", "conv", select, zeros, stride=(2, 2), structural=True),
            Conv("last", "pad", np.ones((1, 4, 1, 1), np.float32), zeros[:1]),
        ),
    )
    images = rng.integers(0, 256, (9, 1, 8, 8)).astype(np.uint8)

    quantized = quantize_model(model, images, Normalization(), QuantizeOptions())

    conv, pad, _ = quantized.layers
    codes = input_codes(images, quantized.normalization, quantized.input_format)
    stored = run_op(conv.op, codes)
    moved = run_op(pad.op, stored)
    assert pad.output == conv.output
    assert moved[:, 1].tolist() == stored[:, 0, ::2, ::2].tolist()
    assert moved[:, 2].tolist() == stored[:, 1, ::2, ::2].tolist()
    assert not moved[:, [0, 3]].any()
