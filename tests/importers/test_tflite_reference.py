"""The executor gives LiteRT's reference kernels' integers, bit for bit."""

from __future__ import annotations

import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.importers.tflite_file import TfliteGraph, read_tflite
from bacmac.host.importers.tflite_integers import Multiplier, divide, round_half_away
from bacmac.host.importers.tflite_reference import run, run_codes, tensors_of
from bacmac.host.importers.tflite_resolve import resolve
from bacmac.host.importers.tflite_steps import Network

NETS = Path(__file__).parent / "tflite"
FLOATS = ("constants_float16", "keras_float32", "wide_dynamic")
NAMES = sorted({path.stem for path in NETS.glob("*.tflite")} - set(FLOATS))
DTYPES = {"INT8": "i1", "UINT8": "u1", "FLOAT32": "f4"}
CHANNELS_LAST = (0, 3, 1, 2)


def images_of(name: str, network: Network, given_input: np.ndarray[Any, Any]) -> Any:
    """The images (N, C, H, W) as floats, from what the file takes."""
    grid = network.quantization.get(network.input)
    values = given_input.astype("f4")
    if grid is not None:
        values = ((values - grid.zero) * grid.scale).astype("f4")
    if name == "channels_first":
        return values
    if name == "no_channel":
        return values[:, None]
    return values.transpose(CHANNELS_LAST)


def opened(name: str) -> tuple[TfliteGraph, Network, dict[str, Any]]:
    graph = read_tflite(NETS / f"{name}.tflite")
    with np.load(NETS / f"{name}.npz") as file:
        return graph, resolve(graph), dict(file)


def as_stored(graph: TfliteGraph, index: int, tensor: Any) -> bytes | None:
    """The bytes of a tensor as the file has it; None where it has other axes."""
    told = graph.tensor(index)
    _, rows, columns, channels = tensor.shape
    if len(told.shape) == 4 and told.shape[1:] != (rows, columns, channels):
        return None
    if len(told.shape) != 4 and rows * columns > 1 and channels > 1 and "Reshape" not in told.name:
        return None
    return bytes(np.ascontiguousarray(tensor.astype(DTYPES[told.type])).tobytes())


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_has_the_bytes_that_litert_computed(name: str) -> None:
    graph, network, vectors = opened(name)
    tensors = tensors_of(network, images_of(name, network, vectors["input"]))
    compared = 0

    for index, expected in zip(vectors["tensors"], vectors["crc32"], strict=True):
        if int(index) not in tensors or name == "channels_first":
            continue  # numbers of shapes, what follows a Softmax, and axes in another order
        stored = as_stored(graph, int(index), tensors[int(index)])
        if stored is not None:
            compared += 1
            assert zlib.crc32(stored) == expected, graph.tensor(int(index)).label

    output = tensors[network.output].reshape(vectors["output"].shape)
    assert np.array_equal(output.astype(vectors["output"].dtype), vectors["output"])
    assert compared >= len(network.steps) - 2 or name == "channels_first"


@pytest.mark.parametrize(
    ("name", "apart"),
    # with dynamic range LiteRT rounds activations to 8 bits as it goes; the file does not say so
    [("constants_float16", 1e-5), ("keras_float32", 1e-5), ("wide_dynamic", 0.1)],
)
def test_networks_of_floats_are_computed_in_float32(name: str, apart: float) -> None:
    graph, network, vectors = opened(name)
    images = images_of(name, network, vectors["input"])

    found = run(graph, images)

    assert not network.in_integers
    assert np.abs(found.reshape(vectors["output"].shape) - vectors["output"]).max() <= apart


def test_all_supported_operators_are_in_those_networks() -> None:
    codes = {
        operator.code
        for name in NAMES
        for operator in read_tflite(NETS / f"{name}.tflite").operators
    }

    assert codes >= {
        *("ADD", "AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE"),
        *("FULLY_CONNECTED", "MAX_POOL_2D", "MEAN", "MUL", "PACK", "PAD", "QUANTIZE", "RELU"),
        *("RESHAPE", "SHAPE", "SOFTMAX", "STRIDED_SLICE", "SUB", "TRANSPOSE"),
    }


def test_a_published_apot_network_gives_its_vectors(real_data: Path | None) -> None:
    if real_data is None:
        graph, network, vectors = opened("residual")
        images, expected = images_of("residual", network, vectors["input"]), vectors["output"]
    else:
        graph = read_tflite(real_data / "potacc_apot_resnet20_4bit.tflite")
        with np.load(real_data / "potacc_apot_resnet20_4bit_vectors.npz") as file:
            images, expected = file["input"].transpose(CHANNELS_LAST), file["logits"]

    found = run(graph, images)

    assert found.dtype == np.float32
    assert np.array_equal(found[:, :, 0, 0], expected)


def test_images_in_several_blocks_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _, network, vectors = opened("paths")
    images = images_of("paths", network, vectors["input"])
    whole = run_codes(network, images)

    monkeypatch.setattr("bacmac.host.importers.tflite_reference.BLOCK_IMAGES", 3)

    assert np.array_equal(run_codes(network, images), whole)


def test_images_of_another_shape_are_a_value_error() -> None:
    _, network, _ = opened("paths")

    with pytest.raises(ValueError, match=r"images are \(3, 8, 8\), not \(3, 12, 12\)"):
        tensors_of(network, np.zeros((1, 3, 8, 8), "f4"))


def doubling_high_product(a: int, b: int) -> int:
    """The rounding of gemmlowp's SaturatingRoundingDoublingHighMul, on Python's integers."""
    product = a * b
    nudge = (1 << 30) if product >= 0 else 1 - (1 << 30)
    magnitude = abs(product + nudge) >> 31  # C++ divides towards zero
    return magnitude if product + nudge >= 0 else -magnitude


def half_away(value: Fraction) -> int:
    whole = int(abs(value) + Fraction(1, 2))
    return whole if value >= 0 else -whole


@settings(deadline=None)
@given(
    st.lists(st.integers(-(1 << 24), 1 << 24), min_size=1, max_size=20),
    st.floats(1e-9, 100.0, allow_subnormal=False),
)
def test_a_factor_is_applied_with_two_roundings(values: list[int], factor: float) -> None:
    scaled = Multiplier.of(np.array([factor]))
    multiplier, shift = int(scaled.multiplier[0]), int(scaled.shift[0])

    found = scaled.apply(np.array(values, np.int64)[:, None])[:, 0]

    assert multiplier == 0 or 1 << 30 <= multiplier < 1 << 31
    for value, each in zip(values, found.tolist(), strict=True):
        high = doubling_high_product(value << max(shift, 0), multiplier)
        assert each == half_away(Fraction(high, 1 << max(-shift, 0)))
        assert abs(each - value * factor) <= 1 + abs(value * factor) * 2.0**-30


def test_a_factor_too_small_for_31_bits_is_zero() -> None:
    scaled = Multiplier.of(np.array([2.0**-33, 0.0, 1.0]))

    assert scaled.multiplier.tolist() == [0, 0, 1 << 30]
    assert scaled.apply(np.full((1, 3), 1000, np.int64)).tolist() == [[0, 0, 1000]]


@given(st.integers(-10_000, 10_000), st.integers(1, 64))
def test_averages_round_half_away_from_zero(total: int, count: int) -> None:
    found = divide(np.array([total]), np.array([count]))

    assert found.tolist() == [half_away(Fraction(total, count))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_just_below_a_half_are_rounded_down(dtype: type) -> None:
    below = np.nextafter(dtype(0.5), dtype(0))

    rounded = round_half_away(np.array([below, 0.5, -0.5, -below, 2.5, -2.5], dtype))

    assert rounded.tolist() == [0, 1, -1, 0, 3, -3]
