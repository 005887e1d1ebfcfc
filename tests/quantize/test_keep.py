"""What a file has quantized is carried over: thresholds, zero points, padding."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import ConvOp
from bacmac.host.arith.reference import run_reference
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError
from bacmac.host.importers.lowering import Lowering
from bacmac.host.model.forward import forward, walk
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.layers import Grid, KeptWeights, Normalization, round_as
from bacmac.host.quantize.imported import needs_calibration, quantize_imported
from bacmac.host.quantize.keep import (
    Steps,
    constant_channels,
    fit_steps,
    stored_format,
    stored_limits,
)
from bacmac.host.quantize.options import QuantizeOptions

ROUNDINGS = st.sampled_from(["half-even", "half-up", "half-away", "floor", "ceil"])


def device(fitted, accumulators):
    """(C, n) what the accelerator makes of accumulators (n,)."""
    how = fitted.requantize
    wide = np.where(fitted.constant[:, None], 0, accumulators) + fitted.bias[:, None]
    shift = how.shift.astype(np.int64)[:, None]
    total = wide * how.multiplier.astype(np.int64)[:, None] + ((1 << shift) >> 1)
    return np.clip(total >> shift, how.low, how.high)


def by_definition(steps, accumulators):
    exact = steps.alpha[:, None] * accumulators + steps.beta[:, None] - steps.zero
    return np.clip(round_as(steps.rounding, exact) + steps.zero, steps.low, steps.high)


@settings(max_examples=150)
@given(
    alpha=st.integers(1, 40_000).map(lambda parts: parts / 8192),
    beta=st.integers(-300_000, 300_000).map(lambda parts: parts / 1024),
    bits=st.integers(1, 8),
    zero=st.integers(0, 200),
    rounding=ROUNDINGS,
    reach=st.integers(1, 4000),
)
def test_what_differs_is_counted(alpha, beta, bits, zero, rounding, reach):
    steps = Steps(np.array([alpha]), np.array([beta]), 0, (1 << bits) - 1, rounding, zero)
    accumulators = np.arange(-reach, reach + 1)

    fitted = fit_steps(steps, np.array([-reach]), np.array([reach]))

    apart = np.abs(device(fitted, accumulators) - by_definition(steps, accumulators)).sum()
    assert apart == fitted.differing[0]


@settings(max_examples=60)
@given(
    numerator=st.integers(1, 16),
    exponent=st.integers(8, 12),
    offset=st.integers(-4000, 4000),
    rounding=st.sampled_from(["half-up", "floor", "ceil"]),
    zero=st.integers(0, 3),
)
def test_dyadic_ratios_are_exact_ties_and_all_where_few_bits_are_stored(
    numerator, exponent, offset, rounding, zero
):
    alpha, beta = numerator * 2.0**-exponent, offset * 2.0**-8
    steps = Steps(np.array([alpha]), np.array([beta]), 0, 3, rounding, zero)
    accumulators = np.arange(-2000, 2001)

    fitted = fit_steps(steps, np.array([-2000]), np.array([2000]))

    assert fitted.differing[0] == 0
    assert np.array_equal(device(fitted, accumulators), by_definition(steps, accumulators))


def test_eight_bit_outputs_differ_in_few_accumulators():
    random = np.random.default_rng(3)
    steps = Steps(random.uniform(1e-3, 2e-2, 64), random.uniform(-40, 200, 64), 0, 255, "half-even")

    fitted = fit_steps(steps, np.full(64, -60_000), np.full(64, 60_000))

    steps_crossed = 255 * 64
    assert fitted.differing.sum() / steps_crossed < 0.5  # of an accumulator, at each border


def test_a_channel_that_cannot_move_its_output_becomes_its_constant():
    steps = Steps(np.array([1e-12, 0.0]), np.array([17.2, 300.0]), 0, 255, "half-even")

    fitted = fit_steps(steps, np.array([-1000, 0]), np.array([1000, 0]))

    assert fitted.constant.tolist() == [True, True]
    assert fitted.bias.tolist() == [17, 255]


@pytest.mark.parametrize(
    ("grid", "stored", "limits"),
    [
        (Grid(0.5, 0, 0, 255), (8, False, 0.0), (0, 255)),
        (Grid(0.5, -128, -128, 127), (8, False, 0.0), (0, 255)),
        (Grid(0.5, 0, -128, 127), (8, True, 0.0), (-128, 127)),
        (Grid(0.5, 3, -4, 3), (4, True, 0.0), (-7, 0)),
        (Grid(0.5, 114, 0, 255), (8, False, 114.0), (0, 255)),
        (Grid(0.5, -5, -128, 127), (8, False, 123.0), (0, 255)),
        (Grid(0.5, 0, -1, 1), (2, True, 0.0), (-1, 1)),
        (Grid(2.0, 0.5, 0, 1), (1, False, 0.5), (0, 1)),
        (Grid(0.5, 0, 0, 15), (4, False, 0.0), (0, 15)),
    ],
)
def test_grids_are_stored_without_zero_point_where_eight_bits_allow(grid, stored, limits):
    found = stored_format(grid)

    assert (found.bits, found.signed, found.zero) == stored
    assert stored_limits(grid, found) == limits
    assert stored_format(Grid(0.5, 0, -32768, 32767)) is None


@given(
    zero=st.integers(1, 255),
    scheme=st.sampled_from(["uniform-8", "pot-4", "pot-3", "ternary", "uniform-4"]),
    seed=st.integers(0, 1000),
)
def test_constant_channels_add_what_padded_taps_lack(zero, scheme, seed):
    random = np.random.default_rng(seed)
    levels = random.choice(SCHEMES[scheme].levels, (3, 2, 3, 3)).astype(np.int16)

    found = constant_channels(levels, float(zero), SCHEMES[scheme])

    assert found.value == zero
    assert np.isin(found.levels, SCHEMES[scheme].levels).all()
    assert np.array_equal(found.levels.sum(1), -levels.sum(1))


@pytest.mark.parametrize("seed", range(6))
def test_zero_points_paddings_and_residuals_give_the_files_outputs(built, seed):
    model = built(seed)
    random = np.random.default_rng(seed)
    images = random.normal(0, 1, (16, 3, 9, 9)).astype(np.float32)

    quantized = quantize_imported(model, None, Normalization(), QuantizeOptions())

    codes = input_codes(images, quantized.normalization, quantized.input_format)
    outputs = quantized.values(run_reference(quantized.network, codes))
    expected = forward(model, images)
    step = model.grids[model.layers[-1].name].scale
    # the residual rounds once where the file rounds twice: a step here, seldom, moves the end
    assert np.abs(outputs - expected).max() <= 2.01 * step
    assert np.mean(np.abs(outputs - expected) > 0.5 * step) < 0.2
    assert np.array_equal(
        Engine(quantized.network).run(codes), run_reference(quantized.network, codes)
    )


def test_kept_levels_are_the_files(built):
    model = built(1)
    kept = {layer.name: layer.kept.levels for layer in model.layers if getattr(layer, "kept", None)}

    quantized = quantize_imported(model, None, Normalization(), QuantizeOptions())

    for layer in quantized.layers:
        if layer.name in kept:
            expected = kept[layer.name]
            assert isinstance(layer.op, ConvOp)
            assert np.array_equal(layer.op.levels[:, : expected.shape[1]], expected)


def test_a_padded_layer_without_residual_is_the_files_to_the_integer(built):
    model = built(4)
    images = np.random.default_rng(0).normal(0, 1, (8, 3, 9, 9)).astype(np.float32)
    tensors = dict(walk(model, images))
    grid = model.grids["a"]

    quantized = quantize_imported(model, None, Normalization(), QuantizeOptions())

    names = [layer.name for layer in quantized.layers]
    assert names[:2] == ["a.padding", "a"]
    part = Engine(
        type(quantized.network)(
            quantized.network.input_shape,
            quantized.network.input_low,
            quantized.network.input_high,
            quantized.network.ops[:2],
        )
    )
    codes = part.run(input_codes(images, quantized.normalization, quantized.input_format))
    assert np.mean(codes != grid.codes(tensors["a"])) < 2e-3
    assert np.abs(codes - grid.codes(tensors["a"])).max() <= 1


def test_bipolar_activations_need_no_zero_level_and_are_exact():
    random = np.random.default_rng(2)
    bipolar = Grid(2.0, 0.5, 0, 1, "half-up")
    lowering = Lowering(
        "x", (33, 1, 1), Counter({"x": 1, "q": 1, "a": 1, "s": 1, "r": 1, "o": 1}), flat=True
    )
    lowering.quantize("q", "x", "q", bipolar)
    first = KeptWeights(random.choice([-1, 1], (7, 33)).astype(np.int16), np.ones(7))
    lowering.dense("a", "q", "a", first.weight, None, kept=first)
    gain, shift = random.normal(0, 1, 7), random.normal(0, 3, 7)
    lowering.scale("s", "a", "s", gain, shift)
    lowering.quantize("r", "s", "r", bipolar)
    second = KeptWeights(random.choice([-1, 1], (3, 7)).astype(np.int16), np.ones(3))
    lowering.dense(
        "o", "r", "o", second.weight, np.array([0.3, -0.7, 0.1], np.float32), kept=second
    )
    model = lowering.finish("o", name="made", source="made", sha256="")
    images = random.normal(0, 1, (300, 33, 1, 1)).astype(np.float32)

    quantized = quantize_imported(model, None, Normalization(), QuantizeOptions())

    codes = input_codes(images, quantized.normalization, quantized.input_format)
    outputs = quantized.values(run_reference(quantized.network, codes))
    assert np.allclose(outputs, forward(model, images), atol=1e-5)


def test_what_the_file_left_in_floats_needs_images():
    lowering = Lowering("x", (2, 4, 4), Counter({"x": 1, "c": 1}))
    kept = KeptWeights(np.ones((1, 2, 1, 1), np.int16), np.ones(1))
    lowering.conv("c", "x", "c", kept.weight, None, kept=kept)
    model = lowering.finish("c", name="made", source="made.onnx", sha256="")

    assert needs_calibration(model) == "tensor 'input'"
    with pytest.raises(InputError, match=r"made\.onnx.*tensor 'input'.*no calibration images"):
        quantize_imported(model, None, Normalization(), QuantizeOptions())

    images = np.random.default_rng(0).normal(0, 1, (8, 2, 4, 4)).astype(np.float32)
    quantized = quantize_imported(model, images, Normalization(), QuantizeOptions())
    assert quantized.layers[0].op.levels.tolist() == kept.levels.tolist()


def test_bipolar_padding_is_refused_by_name():
    lowering = Lowering("x", (2, 4, 4), Counter({"x": 1, "q": 1, "c": 1}))
    lowering.quantize("q", "x", "q", Grid(2.0, 0.5, 0, 1, "half-up"))
    kept = KeptWeights(np.ones((1, 2, 3, 3), np.int16), np.ones(1))
    lowering.conv("c", "q", "c", kept.weight, None, kept=kept, padding=(1, 1, 1, 1))
    model = lowering.finish("c", name="made", source="made.onnx", sha256="")

    with pytest.raises(InputError, match=r"layer 'c'.*zero point is 0\.5"):
        quantize_imported(model, None, Normalization(), QuantizeOptions())


def test_a_scaled_input_is_stored_by_the_host():
    lowering = Lowering("x", (1, 2, 2), Counter({"x": 1, "s": 1, "q": 1, "c": 1}))
    lowering.scale("s", "x", "s", np.array([2.0]), np.array([-1.0]))
    lowering.quantize("q", "s", "q", Grid(0.125, 0, -8, 7))
    kept = KeptWeights(np.array([[[[1]], [[0]]]], np.int16)[:, :1], np.ones(1))
    lowering.conv("c", "q", "c", kept.weight, None, kept=kept)
    model = lowering.finish("c", name="made", source="made", sha256="")
    images = np.random.default_rng(1).uniform(0, 1, (50, 1, 2, 2)).astype(np.float32)

    quantized = quantize_imported(model, None, Normalization(), QuantizeOptions())

    assert quantized.input_format.scale == 0.0625
    codes = input_codes(images, quantized.normalization, quantized.input_format)
    outputs = quantized.values(run_reference(quantized.network, codes))
    assert np.allclose(outputs, forward(model, images))


def test_floats_alone_keep_the_relu_that_a_grid_was(built):
    model = built(2).in_floats()

    layers = {layer.name: layer for layer in model.layers}
    assert not model.is_quantized
    assert layers["a"].activation.low == 0.0
    assert layers["a"].activation.high == pytest.approx(255 * 0.03)
    assert layers["p"].activation.low == pytest.approx(-130 * 0.05)
    assert layers["d"].activation.low == -np.inf


def test_a_relu_above_the_lowest_code_narrows_the_grid():
    lowering = Lowering("x", (2, 4, 4), Counter({"x": 1, "q": 1, "c": 1, "r": 1, "o": 1}))
    lowering.quantize("q", "x", "q", Grid(0.02, 114, 0, 255))
    kept = KeptWeights(np.array([[[[3]], [[-2]]]], np.int16), np.full(1, 0.1))
    lowering.conv("c", "q", "c", kept.weight, None, kept=kept)
    lowering.clamp("r", "c", "r", 0.0, np.inf)
    lowering.quantize("o", "r", "o", Grid(0.03, 39, 0, 255))
    model = lowering.finish("o", name="made", source="made", sha256="")
    images = np.random.default_rng(0).normal(0, 1, (8, 2, 4, 4)).astype(np.float32)

    quantized = quantize_imported(model, None, Normalization(), QuantizeOptions())

    assert model.grids["c"] == Grid(0.03, 39, 39, 255)
    outputs = quantized.layers[-1].output
    assert outputs is not None
    assert (outputs.zero, outputs.signed) == (0.0, False)
    codes = input_codes(images, quantized.normalization, quantized.input_format)
    found = quantized.values(run_reference(quantized.network, codes))
    assert np.allclose(found, forward(model, images), atol=1e-6)
