"""The engine against the definition, bit for bit, on everything a network may hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import ConvOp, IntegerNetwork, Op, PoolOp, Requantize, output_shape
from bacmac.host.arith.reference import run_reference
from bacmac.host.errors import CompileError

RANGES = [(0, 255), (0, 15), (-128, 127), (-8, 7), (0, 127), (-128, 0)]


def random_requantize(
    rng: np.random.Generator, channels: int, ratio: float, *, residual: bool
) -> Requantize:
    """Any legal multipliers: near the ratio, coarse and exact, pure shifts, or plain wild."""
    low, high = RANGES[rng.integers(len(RANGES))]
    style = rng.integers(4)
    if style == 0:
        shift = np.full(channels, rng.integers(0, 16))
        multiplier = np.rint(ratio * 2.0**shift * rng.uniform(0.5, 2, channels))
    elif style == 1:
        shift = np.clip(14 - np.floor(np.log2(ratio)), 0, 40) * np.ones(channels)
        multiplier = rng.integers(1 << 14, 1 << 15, channels)
    elif style == 2:
        shift = np.full(channels, max(0, round(-np.log2(ratio))))
        multiplier = np.ones(channels)
    else:
        shift = rng.integers(0, 41, channels)
        multiplier = rng.integers(0, 1 << 15, channels)
    shift = shift.astype(np.uint8)
    wide = 1 << 31 if style == 3 else 2 << min(int(shift.max()), 29)
    return Requantize(
        np.clip(multiplier, 0, (1 << 15) - 1).astype(np.uint16),
        shift,
        low,
        high,
        rng.integers(-wide, wide, channels).astype(np.int32) if residual else None,
    )


def random_levels(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    kind = rng.integers(4)
    if kind == 0:
        return rng.integers(-128, 128, shape).astype(np.int8)
    if kind == 1:
        return (rng.integers(-1, 2, shape) << rng.integers(0, 7, shape)).astype(np.int8)
    if kind == 2:
        return np.full(shape, rng.choice([-127, 127]), np.int8)
    return rng.integers(-1, 2, shape).astype(np.int8)


def random_network(rng: np.random.Generator) -> IntegerNetwork:
    """A few ops of any kind, each reading any tensor that exists."""
    shape = (
        int(rng.choice([1, 2, 3, 4, 6, 8, 17])),
        int(rng.integers(1, 10)),
        int(rng.integers(1, 10)),
    )
    low, high = RANGES[rng.integers(len(RANGES))]
    shapes, ops = [shape], list[Op]()
    n_ops = int(rng.integers(1, 7))
    while len(ops) < n_ops:
        source = int(rng.integers(max(0, len(ops) - 2), len(ops) + 1))
        op = random_op(rng, source, shapes, last=len(ops) == n_ops - 1)
        try:
            shapes.append(output_shape(op, shapes[source]))
        except ValueError:
            continue
        ops.append(op)
    return IntegerNetwork(shape, low, high, tuple(ops))


def random_op(
    rng: np.random.Generator, source: int, shapes: list[tuple[int, int, int]], *, last: bool
) -> Op:
    channels, height, width = shapes[source]
    kernel = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    stride = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    padding = tuple(int(p) for p in rng.integers(0, 3, 4)) if rng.integers(2) else (0, 0, 0, 0)
    style = rng.integers(8)
    if style == 0:
        return PoolOp(source, "max", kernel, stride, padding)
    if style == 1:
        if rng.integers(2):
            kernel, stride, padding = (height, width), (1, 1), (0, 0, 0, 0)
        how = random_requantize(rng, channels, 1 / (kernel[0] * kernel[1]), residual=False)
        return PoolOp(source, "average", kernel, stride, padding, how)
    groups, c_out = 1, int(rng.choice([1, 2, 3, 5, 8, 17]))
    if style == 2:  # dense
        kernel, stride, padding = (height, width), (1, 1), (0, 0, 0, 0)
    elif style == 3:  # depthwise, perhaps with a channel multiplier
        groups, c_out = channels, channels * int(rng.integers(1, 3))
    elif style == 4:  # elementwise
        groups, c_out, kernel, padding = channels, channels, (1, 1), (0, 0, 0, 0)
    elif style == 5:  # grouped
        groups = int(np.gcd(channels, rng.integers(1, 5)))
        c_out = groups * int(rng.integers(1, 4))
    levels = random_levels(rng, (c_out, channels // groups, *kernel))
    if style == 6:  # a selection of channels
        levels = np.zeros((c_out, channels, 1, 1), np.int8)
        chosen = rng.integers(0, channels) + np.arange(c_out)
        kept = chosen < channels
        levels[kept, chosen[kept]] = rng.choice([1, 1, -3])
        padding = (0, 0, 0, 0)
    if style == 7:  # the same size, so that it may have a residual
        kernel, stride, padding = (3, 3), (1, 1), (1, 1, 1, 1)
        c_out = channels
        levels = random_levels(rng, (c_out, channels, *kernel))
    large = int(rng.choice([1, 1000, 1 << 22, 1 << 30]))
    bias = rng.integers(-large, large + 1, c_out).astype(np.int32)
    op = ConvOp(source, levels, bias, None, stride, padding, groups)
    if last and rng.integers(2):
        return op
    try:
        shape = output_shape(op, shapes[source])
    except ValueError:
        return op
    same = [number for number, other in enumerate(shapes) if other == shape]
    residual = int(rng.choice(same)) if same and rng.integers(3) else None
    ratio = 255 / (1 + 255 * np.abs(levels.astype(int)).sum((1, 2, 3)).mean())
    how = random_requantize(rng, c_out, float(ratio), residual=residual is not None)
    return ConvOp(source, levels, bias, how, stride, padding, groups, residual)


def random_images(rng: np.random.Generator, network: IntegerNetwork, n: int) -> np.ndarray:
    low, high = network.input_low, network.input_high
    dtype = np.int8 if low < 0 else np.uint8
    if rng.integers(3) == 0:
        return rng.choice([low, high], (n, *network.input_shape)).astype(dtype)
    return rng.integers(low, high + 1, (n, *network.input_shape)).astype(dtype)


@settings(max_examples=1000, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 7))
def test_the_engine_equals_the_reference_on_any_network(seed, n):
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    images = random_images(rng, network, n)

    expected = run_reference(network, images)
    found = Engine(network, block_images=4).run(images)

    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def wide_conv(c_in: int, level: int, bias: int = 0) -> IntegerNetwork:
    """A 3x3 convolution whose accumulators reach 9 * c_in * level * 255 + bias."""
    levels = np.full((5, c_in, 3, 3), level, np.int8)
    levels[1::2] *= -1
    levels[4, :, 1] = 0
    how = Requantize(np.full(5, 20001, np.uint16), np.full(5, 30, np.uint8), 0, 255)
    ops = (
        ConvOp(0, levels, np.full(5, bias, np.int32), how, padding=(1, 1, 1, 1)),
        ConvOp(1, np.full((4, 5, 3, 3), -level, np.int8), np.zeros(4, np.int32), None),
    )
    return IntegerNetwork((c_in, 6, 6), 0, 255, ops)


@pytest.mark.parametrize(
    ("c_in", "level", "bias"),
    [(50, 64, 0), (90, 127, 0), (100, -127, 7), (200, 127, 0), (60, 1, 1 << 30)],
    ids=["float32", "two halves", "two halves, bias", "float64", "float64 for the bias"],
)
def test_every_precision_of_the_product_is_exact(c_in, level, bias):
    network = wide_conv(c_in, level, bias)
    rng = np.random.default_rng(c_in)
    for images in (
        rng.integers(0, 256, (3, c_in, 6, 6), dtype=np.uint8),
        np.full((2, c_in, 6, 6), 255, np.uint8),
    ):
        np.testing.assert_array_equal(Engine(network).run(images), run_reference(network, images))


@pytest.mark.parametrize("depth", [400, 900, 1800])
def test_dense_layers_of_every_precision_are_exact(depth):
    rng = np.random.default_rng(depth)
    levels = rng.choice([-127, 127, 127], (7, depth, 2, 1)).astype(np.int8)
    network = IntegerNetwork(
        (depth, 2, 1), 0, 255, (ConvOp(0, levels, np.arange(7, dtype=np.int32), None),)
    )
    images = rng.integers(200, 256, (9, depth, 2, 1), dtype=np.uint8)

    np.testing.assert_array_equal(Engine(network).run(images), run_reference(network, images))


def test_any_number_of_images_in_any_blocks():
    network = wide_conv(3, 5)
    images = np.random.default_rng(0).integers(0, 256, (70, 3, 6, 6), dtype=np.uint8)
    expected = run_reference(network, images)
    engine, small = Engine(network), Engine(network, block_images=3)

    for n in (0, 1, 2, 5, 31, 33, 70):
        np.testing.assert_array_equal(engine.run(images[:n]), expected[:n])
        np.testing.assert_array_equal(small.run(images[:n]), expected[:n])


def test_one_tensor_may_feed_many_readers():
    how = Requantize(np.full(4, 9, np.uint16), np.full(4, 9, np.uint8), 0, 255)
    add = Requantize(how.multiplier, how.shift, 0, 255, np.full(4, 300, np.int32))
    rng = np.random.default_rng(1)

    def levels(*shape: int) -> np.ndarray:
        return rng.integers(-9, 10, shape).astype(np.int8)

    zeros = np.zeros(4, np.int32)
    pad = (1, 1, 1, 1)
    ops = (
        ConvOp(0, levels(4, 4, 3, 3), zeros, how, padding=pad),
        ConvOp(1, levels(4, 4, 3, 3), zeros, how, padding=pad),
        ConvOp(1, levels(4, 4, 5, 5), zeros, add, padding=(2, 2, 2, 2), residual=2),
        ConvOp(1, levels(4, 1, 3, 3), zeros, add, padding=pad, groups=4, residual=1),
        ConvOp(4, levels(4, 4, 1, 1), zeros, add, residual=0),
        ConvOp(3, np.ones((4, 1, 1, 1), np.int8), zeros, add, groups=4, residual=5),
        ConvOp(1, levels(4, 4, 3, 3), zeros, how, stride=(2, 2), padding=pad),
        PoolOp(1, "max", (2, 2), (2, 2)),
        ConvOp(8, np.ones((4, 1, 1, 1), np.int8), zeros, add, groups=4, residual=7),
        ConvOp(9, levels(6, 4, 4, 4), np.zeros(6, np.int32), None),
    )
    network = IntegerNetwork((4, 8, 8), 0, 255, ops)
    images = rng.integers(0, 256, (11, 4, 8, 8), dtype=np.uint8)

    np.testing.assert_array_equal(Engine(network).run(images), run_reference(network, images))


def test_a_possible_overflow_is_refused():
    network = IntegerNetwork(
        (1, 1, 1),
        0,
        255,
        (ConvOp(0, np.ones((1, 1, 1, 1), np.int8), np.array([2**31 - 255], np.int32), None),),
    )

    with pytest.raises(CompileError, match="op 0: channel 0: the accumulator may reach 2147483648"):
        Engine(network)


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 3, 6, 5), np.uint8), np.zeros((1, 3, 6, 6), np.int8), np.zeros((3, 6, 6))],
)
def test_images_that_do_not_fit_are_refused(images):
    with pytest.raises(ValueError, match="images are"):
        Engine(wide_conv(3, 5)).run(images)


def test_values_outside_the_input_range_are_refused():
    network = wide_conv(3, 5)
    narrow = IntegerNetwork(network.input_shape, 0, 15, network.ops)

    with pytest.raises(ValueError, match=r"outside 0\.\.15"):
        Engine(narrow).run(np.full((1, 3, 6, 6), 16, np.uint8))


def test_rows_of_one_width_filled_to_different_columns_do_not_meet():
    """One op fills two columns, the next one of them, and its reader wants a zero beside it."""
    rng = np.random.default_rng(5)

    def how(channels: int) -> Requantize:
        shift = np.full(channels, 8, np.uint8)
        return Requantize(np.full(channels, 200, np.uint16), shift, -128, 127)

    def levels(*shape: int) -> np.ndarray:
        return rng.integers(-9, 10, shape).astype(np.int8)

    bias = np.full(17, 50, np.int32)
    ops = (
        ConvOp(0, levels(17, 17, 1, 1), bias, how(17), stride=(1, 2)),
        PoolOp(1, "max", (1, 1), (3, 3)),
        ConvOp(2, levels(17, 17, 3, 3), bias, how(17), padding=(1, 1, 1, 1)),
        ConvOp(1, levels(17, 17, 1, 2), bias, how(17)),
        ConvOp(3, levels(17, 17, 1, 1), bias, None),
    )
    network = IntegerNetwork((17, 1, 4), 0, 255, ops)
    images = rng.integers(0, 256, (3, 17, 1, 4)).astype(np.uint8)

    found = Engine(network).run(images)

    np.testing.assert_array_equal(found, run_reference(network, images))
