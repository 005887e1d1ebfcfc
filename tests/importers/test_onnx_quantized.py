"""Quantized ONNX files keep their integers, and compute what they define."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from bacmac.host.importers.images import load_images
from bacmac.host.importers.onnx_file import load_onnx
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import normalized
from bacmac.host.model.layers import INPUT, Conv, KeptWeights, Model, Normalization

FILES = Path(__file__).parent / "onnx"
CIFAR10 = Normalization(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_Array = npt.NDArray[Any]


class Net:
    """A graph from `x` (N, 4, 9, 7) written node by node."""

    def __init__(self, opset: int = 21) -> None:
        self.opset, self.count = opset, 0
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.random = np.random.default_rng(5)

    def const(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def narrow(self, kind: int, values: _Array) -> str:
        """A constant of a type that NumPy lacks, of 4 or 2 bits."""
        name = f"c{len(self.initializers)}"
        self.initializers.append(
            helper.make_tensor(name, kind, values.shape, values.ravel().tolist())
        )
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], f"n{output}", **attributes))
        return output

    def codes(self, *shape: int, low: int = -127, high: int = 127) -> _Array:
        return self.random.integers(low, high + 1, shape)

    def spread(self, count: int) -> _Array:
        return self.random.uniform(0.01, 0.03, count).astype(np.float32)

    def snap(self, x: str, scale: float, zero: int, dtype: Any = np.uint8) -> str:
        """Quantize and dequantize."""
        parameters = self.const(scale), self.const(zero, dtype)
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *parameters), *parameters)

    def save(self, path: Path, output: str, domains: tuple[str, ...] = ()) -> Path:
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "g",
            [value("x", TensorProto.FLOAT, ["N", 4, 9, 7])],
            [value(output, TensorProto.FLOAT, None)],
            self.initializers,
        )
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(domain, 1) for domain in domains]
        model = helper.make_model(graph, opset_imports=imports, ir_version=10)
        path.write_bytes(model.SerializeToString())
        return path


def weights(model: Model) -> list[KeptWeights | None]:
    """Of the layers that are not structural."""
    layers = [layer for layer in model.layers if isinstance(layer, Conv) and not layer.structural]
    return [layer.kept for layer in layers]


def first_kept(model: Model) -> KeptWeights:
    kept = weights(model)[0]
    assert kept is not None
    return kept


def run_onnxruntime(path: Path, x: _Array) -> _Array:
    """One node after another, as the file has them: fused kernels round otherwise."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    result: _Array = session.run(None, {name: x})[0]
    return result


Built = tuple[str, _Array, _Array]
"""Output of a graph, and the integers and scales that its first layer must keep."""


def conv_per_tensor(net: Net) -> Built:
    levels = net.codes(5, 4, 3, 3)
    weight = net.op("DequantizeLinear", net.const(levels, np.int8), net.const(0.02))
    return net.op("Conv", "x", weight), levels, np.full(5, np.float32(0.02))


def conv_per_channel(net: Net) -> Built:
    levels, scale = net.codes(5, 4, 3, 3), net.spread(5)
    zero = net.const(np.zeros(5), np.int8)
    codes = net.const(levels, np.int8)
    weight = net.op("DequantizeLinear", codes, net.const(scale), zero, axis=0)
    return net.op("Conv", "x", weight, net.const(net.spread(5))), levels, scale


def conv_by_negative_axis(net: Net) -> Built:
    levels, scale = net.codes(5, 4, 3, 3), net.spread(5)
    codes = net.const(levels, np.int8)
    return (
        net.op("Conv", "x", net.op("DequantizeLinear", codes, net.const(scale), axis=-4)),
        levels,
        scale,
    )


def conv_of_uint8(net: Net) -> Built:
    codes, zeros, scale = net.codes(5, 4, 3, 3, low=0, high=255), net.codes(5), net.spread(5)
    zeros = zeros + 128
    weight = net.op(
        "DequantizeLinear",
        net.const(codes, np.uint8),
        net.const(scale),
        net.const(zeros, np.uint8),
        axis=0,
    )
    return net.op("Conv", "x", weight), codes - zeros.reshape(-1, 1, 1, 1), scale


def conv_of_int16(net: Net) -> Built:
    levels = net.codes(5, 4, 3, 3, low=-32767, high=32767)
    weight = net.op("DequantizeLinear", net.const(levels, np.int16), net.const(1e-4))
    return net.op("Conv", "x", weight), levels, np.full(5, np.float32(1e-4))


def conv_of_int4(net: Net) -> Built:
    levels, scale = net.codes(5, 4, 3, 3, low=-8, high=7), net.spread(5)
    codes = net.narrow(TensorProto.INT4, levels)
    weight = net.op("DequantizeLinear", codes, net.const(scale), axis=0)
    return net.op("Conv", "x", weight), levels, scale


def conv_of_uint4(net: Net) -> Built:
    codes = net.codes(5, 4, 3, 3, low=0, high=15)
    zero = net.narrow(TensorProto.UINT4, np.array(7))
    held = net.narrow(TensorProto.UINT4, codes)
    weight = net.op("DequantizeLinear", held, net.const(0.125), zero)
    return net.op("Conv", "x", weight), codes - 7, np.full(5, 0.125)


def conv_of_floats_quantized_in_the_graph(net: Net) -> Built:
    scale = net.spread(5)
    values = net.random.normal(0, 1, (5, 4, 3, 3)).astype(np.float32)
    parameters = net.const(scale), net.const(np.zeros(5), np.int8)
    codes = net.op("QuantizeLinear", net.const(values), *parameters, axis=0)
    steps = values / scale.reshape(-1, 1, 1, 1)
    weight = net.op("DequantizeLinear", codes, *parameters, axis=0)
    return net.op("Conv", "x", weight), np.clip(np.rint(steps), -128, 127), scale


def conv_of_floats_in_a_narrow_range(net: Net) -> Built:
    """QCDQ: a Clip between the two takes the most negative code, and bits, away."""
    values = net.random.normal(0, 1, (5, 4, 3, 3)).astype(np.float32)
    parameters = net.const(0.25), net.const(0, np.int8)
    codes = net.op("QuantizeLinear", net.const(values), *parameters)
    clipped = net.op("Clip", codes, net.const(-7, np.int8), net.const(7, np.int8))
    weight = net.op("DequantizeLinear", clipped, *parameters)
    return net.op("Conv", "x", weight), np.clip(np.rint(values * 4), -7, 7), np.full(5, 0.25)


def conv_of_floats_to_int4(net: Net) -> Built:
    values = net.random.normal(0, 1, (5, 4, 3, 3)).astype(np.float32)
    zero = net.narrow(TensorProto.INT4, np.array(0))
    codes = net.op("QuantizeLinear", net.const(values), net.const(0.25), zero)
    weight = net.op("DequantizeLinear", codes, net.const(0.25), zero)
    return net.op("Conv", "x", weight), np.clip(np.rint(values * 4), -8, 7), np.full(5, 0.25)


def conv_of_onnxruntimes_own_operator(net: Net) -> Built:
    """Of 16 bits and before opset 21: in onnxruntime's domain."""
    levels, zero = net.codes(5, 4, 3, 3, low=-9999, high=9999), net.const(0, np.int16)
    weight = net.op(
        "DequantizeLinear",
        net.const(levels, np.int16),
        net.const(1e-4),
        zero,
        domain="com.microsoft",
    )
    return net.op("Conv", "x", weight), levels, np.full(5, np.float32(1e-4))


def conv_of_a_turned_weight(net: Net) -> Built:
    """Stored (kh, kw, in, out), as Keras has it."""
    levels, scale = net.codes(3, 3, 4, 5), net.spread(5)
    weight = net.op("DequantizeLinear", net.const(levels, np.int8), net.const(scale), axis=3)
    turned = net.op("Transpose", weight, perm=[3, 2, 0, 1])
    return net.op("Conv", "x", turned), levels.transpose(3, 2, 0, 1), scale


def conv_of_a_reshaped_weight(net: Net) -> Built:
    levels, scale = net.codes(5, 36), net.spread(5)
    weight = net.op("DequantizeLinear", net.const(levels, np.int8), net.const(scale), axis=0)
    shape = net.const([5, 4, 3, 3], np.int64)
    return net.op("Conv", "x", net.op("Reshape", weight, shape)), levels.reshape(5, 4, 3, 3), scale


def conv_of_a_scaled_weight(net: Net) -> Built:
    """Times a constant a channel, of either sign."""
    levels = net.codes(5, 4, 3, 3)
    factor = np.array([1.5, -2.0, 0.5, -0.25, 3.0], np.float32)
    weight = net.op("DequantizeLinear", net.const(levels, np.int8), net.const(0.03125))
    scaled = net.op("Mul", net.const(factor.reshape(5, 1, 1, 1)), weight)
    signs = np.sign(factor).astype(int).reshape(5, 1, 1, 1)
    return net.op("Conv", "x", scaled), levels * signs, 0.03125 * np.abs(factor)


def conv_then_batchnorm(net: Net) -> Built:
    """A network that was trained with its BatchNorm apart: the scales take it over."""
    levels = net.codes(5, 4, 3, 3)
    gain = np.array([1.0, -0.5, 2.0, 0.25, -4.0], np.float32)
    weight = net.op("DequantizeLinear", net.const(levels, np.int8), net.const(0.03125))
    y = net.op("Conv", "x", weight)
    rest = net.const(net.spread(5)), net.const(net.spread(5)), net.const(np.ones(5))
    y = net.op("BatchNormalization", y, net.const(gain), *rest, epsilon=0.0)
    signs = np.sign(gain).astype(int).reshape(5, 1, 1, 1)
    return net.op("Relu", y), levels * signs, 0.03125 * np.abs(gain)


def depthwise(net: Net) -> Built:
    levels, scale = net.codes(4, 1, 3, 3), net.spread(4)
    weight = net.op("DequantizeLinear", net.const(levels, np.int8), net.const(scale), axis=0)
    return net.op("Conv", "x", weight, group=4, pads=[1, 1, 1, 1]), levels, scale


def gemm_of_rows(net: Net) -> Built:
    levels, scale = net.codes(6, 252), net.spread(6)
    weight = net.op("DequantizeLinear", net.const(levels, np.int8), net.const(scale), axis=0)
    y = net.op("Gemm", net.op("Flatten", "x"), weight, net.const(net.spread(6)), transB=1)
    return y, levels.reshape(6, 4, 9, 7), scale


def gemm_of_columns(net: Net) -> Built:
    levels, scale = net.codes(252, 6), net.spread(6)
    weight = net.op("DequantizeLinear", net.const(levels, np.int8), net.const(scale), axis=1)
    y = net.op("Gemm", net.op("Flatten", "x"), weight, alpha=-0.5)
    return y, -levels.T.reshape(6, 4, 9, 7), scale * 0.5


def matmul(net: Net) -> Built:
    levels, scale = net.codes(252, 6), net.spread(6)
    weight = net.op("DequantizeLinear", net.const(levels, np.int8), net.const(scale), axis=-1)
    y = net.op("MatMul", net.op("Flatten", "x"), weight)
    return net.op("Mul", y, net.const(0.5)), levels.T.reshape(6, 4, 9, 7), scale * 0.5


WEIGHTS: list[Callable[[Net], Built]] = [
    conv_per_tensor, conv_per_channel, conv_by_negative_axis, conv_of_uint8, conv_of_int16,
    conv_of_int4, conv_of_uint4, conv_of_floats_quantized_in_the_graph,
    conv_of_floats_in_a_narrow_range, conv_of_floats_to_int4, conv_of_onnxruntimes_own_operator,
    conv_of_a_turned_weight, conv_of_a_reshaped_weight,
    conv_of_a_scaled_weight, conv_then_batchnorm, depthwise, gemm_of_rows, gemm_of_columns, matmul,
]  # fmt: skip


@pytest.mark.parametrize("build", WEIGHTS, ids=lambda build: build.__name__)
def test_every_integer_of_a_weight_is_kept(build: Callable[[Net], Built], tmp_path: Path) -> None:
    net = Net()
    output, levels, scale = build(net)
    path = net.save(tmp_path / "net.onnx", output, ("com.microsoft",))
    x = net.random.normal(0, 1, (3, 4, 9, 7)).astype(np.float32)

    model = load_onnx(path)

    kept = first_kept(model)
    assert np.array_equal(kept.levels, levels)
    assert np.allclose(kept.scale, scale, rtol=1e-7)
    assert model.notes == ()
    expected = run_onnxruntime(path, x)
    found = forward(model, x).reshape(expected.shape)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def scales_within_a_channel(net: Net) -> str:
    codes, scale = net.const(net.codes(5, 4, 3, 3), np.int8), net.const(net.spread(4))
    return net.op("Conv", "x", net.op("DequantizeLinear", codes, scale, axis=1))


def sum_of_integers(net: Net) -> str:
    codes = net.const(net.codes(5, 4, 3, 3), np.int8)
    weight = net.op("DequantizeLinear", codes, net.const(0.5))
    return net.op("Conv", "x", net.op("Add", weight, net.const(0.3)))


def integers_of_32_bits(net: Net) -> str:
    codes = net.const(net.codes(5, 4, 3, 3, low=-(1 << 20), high=1 << 20), np.int32)
    return net.op("Conv", "x", net.op("DequantizeLinear", codes, net.const(1e-6)))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (scales_within_a_channel, "differ within one output channel"),
        (sum_of_integers, "Add of integer weights"),
        (integers_of_32_bits, "more than 16 bits"),
    ],
)
def test_integers_that_cannot_be_kept_are_floats_and_it_is_said(
    build: Callable[[Net], str], reason: str, tmp_path: Path
) -> None:
    net = Net()
    path = net.save(tmp_path / "net.onnx", build(net))
    x = net.random.normal(0, 1, (2, 4, 9, 7)).astype(np.float32)

    model = load_onnx(path)

    assert weights(model) == [None]
    assert reason in " ".join(model.notes)
    expected = run_onnxruntime(path, x)
    assert np.abs(forward(model, x) - expected).max() <= 1e-5 * np.abs(expected).max()


def relu(net: Net) -> str:
    y = net.snap(conv(net, net.snap("x", 0.02, 128)), 0.05, 0)
    return net.snap(conv(net, y), 0.1, 100)


def conv(net: Net, x: str) -> str:
    codes, scale = net.const(net.codes(4, 4, 3, 3), np.int8), net.const(net.spread(4))
    weight = net.op("DequantizeLinear", codes, scale, axis=0)
    return net.op("Conv", x, weight, pads=[1, 1, 1, 1])


def relu_after_the_grid(net: Net) -> str:
    y = net.snap(conv(net, "x"), 0.05, 3, np.int8)
    return net.snap(net.op("Relu", y), 0.05, 3, np.int8)


def residual(net: Net) -> str:
    x = net.snap("x", 0.0237, 128)
    y = net.snap(conv(net, x), 0.0613, 120)
    return net.snap(net.op("Relu", net.op("Add", y, x)), 0.0417, 0)


def residual_of_two_convolutions(net: Net) -> str:
    x = net.snap("x", 0.0311, 128)
    y = net.op("Add", net.snap(conv(net, x), 0.0613, 120), net.snap(conv(net, x), 0.0719, 131))
    return net.snap(net.op("Relu", y), 0.0417, 0)


def pools(net: Net) -> str:
    y = net.snap(conv(net, "x"), 0.05, 17)
    y = net.snap(net.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), 0.05, 17)
    return net.snap(net.op("GlobalAveragePool", y), 0.01, 3)


def movement_between_the_two(net: Net) -> str:
    """Max pool, slice, pad and flatten of integers."""
    parameters = net.const(0.05), net.const(0, np.int8)
    q = net.op("QuantizeLinear", conv(net, "x"), *parameters)
    q = net.op("MaxPool", q, kernel_shape=[3, 3], strides=[2, 2])
    ones = net.const([1], np.int64), net.const([3], np.int64), net.const([1], np.int64)
    q = net.op("Slice", q, *ones)
    q = net.op("Pad", q, net.const([0, 1, 0, 0, 0, 1, 0, 0], np.int64), net.const(0, np.int8))
    y = net.op("DequantizeLinear", net.op("Flatten", q), *parameters)
    levels = net.op("DequantizeLinear", net.const(net.codes(48, 3), np.int8), net.const(0.01))
    return net.op("MatMul", y, levels)


def pad_at_the_zero_point(net: Net) -> str:
    parameters = net.const(0.05), net.const(7, np.uint8)
    q = net.op("QuantizeLinear", "x", *parameters)
    pads = net.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    q = net.op("Pad", q, pads, net.const(7, np.uint8))
    return net.snap(conv(net, net.op("DequantizeLinear", q, *parameters)), 0.1, 128)


def clip_to_fewer_bits(net: Net) -> str:
    parameters = net.const(0.25), net.const(0, np.uint8)
    q = net.op("QuantizeLinear", conv(net, "x"), *parameters)
    q = net.op("Clip", q, net.const(0, np.uint8), net.const(15, np.uint8))
    return conv(net, net.op("DequantizeLinear", q, *parameters))


def one_tensor_quantized_for_each_reader(net: Net) -> str:
    """Dedicated pairs: the same tensor is quantized alike for two readers."""
    y = conv(net, "x")
    parameters = net.const(0.05), net.const(128, np.uint8)
    a, b = (
        net.op("DequantizeLinear", net.op("QuantizeLinear", y, *parameters), *parameters)
        for _ in range(2)
    )
    return net.op("Add", conv(net, a), b)


def sixteen_bits(net: Net) -> str:
    return net.snap(conv(net, net.snap("x", 1e-4, 32768, np.uint16)), 2e-4, 0, np.int16)


def no_zero_point(net: Net) -> str:
    """uint8 and zero point 0 are what is meant."""
    scale = net.const(0.02)
    y = net.op("DequantizeLinear", net.op("QuantizeLinear", "x", scale), scale)
    return conv(net, y)


def output_dtype(net: Net) -> str:
    scale = net.const(0.02)
    q = net.op("QuantizeLinear", "x", scale, output_dtype=TensorProto.INT8)
    return conv(net, net.op("DequantizeLinear", q, scale))


def transposed_and_back(net: Net) -> str:
    """As converters from TensorFlow leave it: quantized with its channels last."""
    parameters = net.const(0.02), net.const(100, np.uint8)
    y = net.op("Transpose", conv(net, "x"), perm=[0, 2, 3, 1])
    q = net.op("QuantizeLinear", y, *parameters)
    y = net.op("Relu", net.op("DequantizeLinear", q, *parameters))
    y = net.op("Add", y, net.const(net.spread(4)))
    y = net.op("MaxPool", net.op("Transpose", y, perm=[0, 3, 1, 2]), kernel_shape=[2, 2])
    y = net.op("Transpose", y, perm=[0, 2, 3, 1])
    y = net.op("Reshape", y, net.const([-1, 8 * 6 * 4], np.int64))
    y = net.op("Mul", y, net.const(net.random.uniform(0.5, 2, 192)))
    return net.op("MatMul", y, net.const(net.random.normal(0, 0.1, (192, 5))))


ACTIVATIONS: list[Callable[[Net], str]] = [
    relu, relu_after_the_grid, residual, residual_of_two_convolutions, pools,
    movement_between_the_two, pad_at_the_zero_point, clip_to_fewer_bits,
    one_tensor_quantized_for_each_reader, sixteen_bits, no_zero_point, output_dtype,
    transposed_and_back,
]  # fmt: skip


@pytest.mark.parametrize("build", ACTIVATIONS, ids=lambda build: build.__name__)
def test_activations_lie_on_the_files_grids(build: Callable[[Net], str], tmp_path: Path) -> None:
    net = Net()
    path = net.save(tmp_path / "net.onnx", build(net))
    x = net.random.normal(0, 1, (8, 4, 9, 7)).astype(np.float32)

    model = load_onnx(path)
    found = forward(model, x)

    expected = run_onnxruntime(path, x)
    # a float sum in another order moves a value across the border of two codes now and then
    same = np.isclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
    assert same.mean() > 0.995
    steps = [grid.scale for grid in model.grids.values()]
    assert steps
    assert np.abs(found.reshape(expected.shape) - expected).max() <= 1.01 * max(steps) + 0.1


def test_a_tensor_quantized_for_each_reader_needs_no_copy(tmp_path: Path) -> None:
    net = Net()
    output = one_tensor_quantized_for_each_reader(net)

    model = load_onnx(net.save(tmp_path / "net.onnx", output))

    assert len(model.layers) == 2
    assert not any(layer.structural for layer in model.layers if isinstance(layer, Conv))


def specified_quant(
    x: _Array, scale: Any, zero: Any, bits: int, *, signed: int, narrow: int, mode: str
) -> _Array:
    """QONNX's Quant as its page defines it (quant_op.md), in float32."""
    y = (x / scale + zero).astype(np.float32)
    if bits == 1 and signed:
        y = np.where(y >= 0, 1, -1)
    else:
        low = -(2 ** (bits - 1)) + narrow if signed else 0
        high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
        y = np.clip(y, low, high)
        away = np.sign(y)
        y = {
            "ROUND": np.round(y),
            "CEIL": np.ceil(y),
            "FLOOR": np.floor(y),
            "UP": away * np.ceil(np.abs(y)),
            "DOWN": np.fix(y),
            "ROUND_TO_ZERO": np.fix(y),
            "HALF_UP": away * np.floor(np.abs(y) + 0.5),
            "HALF_DOWN": away * np.ceil(np.abs(y) - 0.5),
        }[mode.upper()]
    result: _Array = ((y - zero) * scale).astype(np.float32)
    return result


MODES = ["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "ROUND_TO_ZERO", "HALF_UP", "HALF_DOWN", "round"]
DOMAINS = ["qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"]


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    bits=st.integers(1, 12),
    signed=st.integers(0, 1),
    narrow=st.integers(0, 1),
    mode=st.sampled_from(MODES),
    domain=st.sampled_from(DOMAINS),
    by_channel=st.booleans(),
    zero=st.integers(0, 3),
    ties=st.booleans(),
)
def test_quant_of_a_weight_is_what_its_page_says(
    bits: int, signed: int, narrow: int, mode: str, domain: str, by_channel: bool, zero: int,
    ties: bool, tmp_path: Path,
) -> None:  # fmt: skip
    if bits == 1:
        narrow, zero = 0, 0
    net = Net()
    scale = net.random.uniform(0.05, 0.2, (5, 1, 1, 1)) if by_channel else np.float32(0.25)
    scale = np.asarray(scale, np.float32)
    values = net.random.normal(0, 1, (5, 4, 3, 3)).astype(np.float32)
    if ties:
        values = (np.rint(values * 4) / 2 * scale).astype(np.float32)
    inputs = (net.const(values), net.const(scale), net.const(zero), net.const(bits))
    given = {"signed": signed, "narrow": narrow, "rounding_mode": mode, "domain": domain}
    weight = net.op("IntQuant" if ties else "Quant", *inputs, **given)
    path = net.save(tmp_path / "net.onnx", net.op("Conv", "x", weight))

    model = load_onnx(path)

    expected = specified_quant(values, scale, zero, bits, signed=signed, narrow=narrow, mode=mode)
    assert np.array_equal(model.layers[0].weight, expected)  # type: ignore[union-attr]
    kept = first_kept(model)
    assert np.array_equal(kept.scale, np.broadcast_to(scale.ravel().astype(float), 5))
    assert np.abs(kept.levels).max() <= 2**bits + zero


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    bits=st.integers(1, 9),
    signed=st.integers(0, 1),
    narrow=st.integers(0, 1),
    mode=st.sampled_from(MODES),
    zero=st.sampled_from([0, 2]),
)
def test_quant_of_the_image_is_what_its_page_says_or_refused(
    bits: int, signed: int, narrow: int, mode: str, zero: int, tmp_path: Path
) -> None:
    if bits == 1:
        narrow, zero = 0, 0
    by_sign = mode in ("UP", "DOWN", "ROUND_TO_ZERO", "HALF_DOWN", "HALF_UP")
    if by_sign and (signed or mode == "HALF_DOWN"):
        mode = "FLOOR"  # the ones that look at a sign are refused: test_hostile_onnx
    if zero > 2 ** (bits - signed) - 1 - (narrow and not signed):
        zero = 0
    net = Net()
    inputs = ("x", net.const(0.25), net.const(zero), net.const(bits))
    given = {"signed": signed, "narrow": narrow, "rounding_mode": mode, "domain": DOMAINS[0]}
    unit = net.const(np.eye(4).reshape(4, 4, 1, 1))
    path = net.save(tmp_path / "net.onnx", net.op("Conv", net.op("Quant", *inputs, **given), unit))
    # quarters, eighths and sixteenths: on codes, between two, and anywhere
    x = (np.rint(net.random.normal(0, 16, (2, 4, 9, 7))) / 16).astype(np.float32)

    found = forward(load_onnx(path), x)

    expected = specified_quant(x, 0.25, zero, bits, signed=signed, narrow=narrow, mode=mode)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("mode", ["FLOOR", "CEIL", "ROUND"])
@pytest.mark.parametrize("version", [1, 2])
def test_trunc_drops_low_bits_as_either_version_of_its_page_says(
    version: int, mode: str, tmp_path: Path
) -> None:
    net = Net()
    # no power of two: values are off the grid by a rounding, where only floor and ceil stand it
    scale = 0.25 if mode == "ROUND" else 0.3
    given = {"domain": DOMAINS[0], "rounding_mode": mode}
    inputs = ("x", net.const(scale), net.const(0), net.const(8))
    x = net.op("Quant", *inputs, signed=0, narrow=0, domain=DOMAINS[0], rounding_mode="ROUND")
    if version == 1:
        y = net.op("Trunc", x, net.const(scale), net.const(0), net.const(8), net.const(5), **given)
    else:
        rest = (net.const(8), net.const(scale * 8), net.const(5))
        y = net.op("Trunc", x, net.const(scale), net.const(0), *rest, signed=0, **given)
    unit = net.const(np.eye(4).reshape(4, 4, 1, 1))
    path = net.save(tmp_path / "net.onnx", net.op("Conv", y, unit))
    images = net.random.uniform(-3, 80, (4, 4, 9, 7)).astype(np.float32)

    found = forward(load_onnx(path), images)

    codes = np.clip(np.rint(images / np.float32(scale)), 0, 255)
    shortened = {"FLOOR": np.floor, "CEIL": np.ceil, "ROUND": np.rint}[mode](codes / 8)
    # clamped before rounding, by the page; whole limits make their order no matter
    shortened = np.minimum(shortened, 31) * (8 if version == 2 else 1)
    assert np.abs(found - shortened * np.float32(scale)).max() < 1e-4


@pytest.mark.parametrize("bits", [3, 4])
def test_an_average_by_sum_and_trunc_needs_no_weights(bits: int, tmp_path: Path) -> None:
    """As Brevitas wrote its average pool before version 2 of Trunc: mean, times area, trunc."""
    net = Net()
    scale, inputs = 0.3, ("x", net.const(0.3), net.const(0), net.const(bits))
    y = net.op("Quant", *inputs, signed=0, narrow=0, domain=DOMAINS[1], rounding_mode="ROUND")
    y = net.op("AveragePool", y, kernel_shape=[4, 4], strides=[4, 4])
    y = net.op("Mul", y, net.const(16))
    widths = net.const(bits + 4), net.const(bits)
    y = net.op(
        "Trunc", y, net.const(scale), net.const(0), *widths, domain=DOMAINS[1],
        rounding_mode="FLOOR",
    )  # fmt: skip
    unit = net.const(np.eye(4).reshape(4, 4, 1, 1))
    path = net.save(tmp_path / "net.onnx", net.op("Conv", y, unit))
    images = net.random.uniform(-0.5, 6, (16, 4, 9, 7)).astype(np.float32)

    model = load_onnx(path)
    found = forward(model, images)

    codes = np.clip(np.rint(images / np.float32(scale)), 0, 2**bits - 1)[:, :, :8, :4]
    sums = codes.reshape(16, 4, 2, 4, 1, 4).sum((3, 5))
    assert np.abs(found - np.floor(sums / 16) * np.float32(scale)).max() < 1e-5
    grid = next(each for each in model.grids.values() if each.rounding == "floor")
    assert (grid.low, grid.high) == (0, 2**bits - 1)


def test_two_signs_are_kept_as_signs(tmp_path: Path) -> None:
    net = Net()
    values = net.random.normal(0, 1, (5, 4, 3, 3)).astype(np.float32)
    values[0, 0] = 0.0
    scale = net.spread(5).reshape(5, 1, 1, 1)
    weight = net.op("BipolarQuant", net.const(values), net.const(scale), domain=DOMAINS[1])
    x = net.op("BipolarQuant", "x", net.const(0.5), domain=DOMAINS[1])
    path = net.save(tmp_path / "net.onnx", net.op("Conv", x, weight))
    images = net.random.normal(0, 1, (2, 4, 9, 7)).astype(np.float32)
    images[0, 0, 0] = 0.0

    model = load_onnx(path)

    kept = first_kept(model)
    assert np.array_equal(kept.levels, np.where(values >= 0, 1, -1))
    assert np.array_equal(kept.scale, scale.ravel().astype(np.float64))
    snapped = model.grids[INPUT].snap(images)
    assert np.array_equal(snapped, np.where(images >= 0, 0.5, -0.5))


def softmax(values: _Array) -> _Array:
    powers = np.exp(values - values.max(1, keepdims=True))
    result: _Array = powers / powers.sum(1, keepdims=True)
    return result


GOLDEN = {
    "brevitas_qcdq": ("brevitas_vectors", "input"),
    "brevitas_qonnx": ("brevitas_vectors", "input"),
    "brevitas_qonnx_dynamo": ("brevitas_vectors", "input"),
    "keras_nhwc": ("keras_vectors", "nhwc_input"),
    "keras_qonnx": ("keras_vectors", "qonnx_input"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_file_of_another_exporter_gives_its_vectors(name: str) -> None:
    archive, images = GOLDEN[name]
    vectors = np.load(FILES / f"{archive}.npz", allow_pickle=False)

    model = load_onnx(FILES / f"{name}.onnx")
    found = forward(model, vectors[images])[:, :, 0, 0]

    if name == "keras_nhwc":
        found = softmax(found)
    else:
        assert all(kept is not None for kept in weights(model)[:3])
        assert len(model.grids) > 1
    assert np.abs(found - vectors[name]).max() <= 2e-6


@pytest.mark.parametrize("name", ["qonnx_tfc_2w2a", "qonnx_tfc_1w1a", "qonnx_jettagging_6bit"])
def test_a_published_qonnx_network_gives_its_vectors(name: str, real_data: Path | None) -> None:
    if real_data is None:
        folder, name = FILES, "keras_qonnx"
        vectors = np.load(FILES / "keras_vectors.npz", allow_pickle=False)
        x, expected = vectors["qonnx_input"], vectors["keras_qonnx"]
    else:
        folder = real_data
        vectors = np.load(real_data / f"{name}_vectors.npz", allow_pickle=False)
        x, expected = vectors["input"], vectors["output"]

    model = load_onnx(folder / f"{name}.onnx")
    found = forward(model, x.reshape(-1, *model.input_shape))[:, :, 0, 0]

    assert all(kept is not None for kept in weights(model))
    if name == "qonnx_jettagging_6bit":
        found = softmax(found)
        assert any("Softmax" in note for note in model.notes)
    assert np.abs(found - expected).max() <= 1e-6


@pytest.mark.parametrize(("name", "accuracy"), [("2w2a", 0.9660), ("1w1a", 0.9296)])
def test_published_binary_and_ternary_networks_have_their_accuracy(
    name: str, accuracy: float, real_data: Path | None
) -> None:
    if real_data is None:
        model = load_onnx(FILES / "brevitas_qonnx.onnx")
        assert {int(level) for level in np.unique(first_kept(model).levels)} == {-1, 0, 1}
        return
    model = load_onnx(real_data / f"qonnx_tfc_{name}.onnx")
    images = load_images(real_data / "mnist_test_10000.npz", shape=model.input_shape)
    assert images.labels is not None

    outputs = forward(model, normalized(images.images, Normalization()))[:, :, 0, 0]

    assert abs((outputs.argmax(1) == images.labels).mean() - accuracy) <= 0.0003


def test_resnet20_keeps_every_integer_of_its_file(real_data: Path | None) -> None:
    import onnx

    path = FILES / "brevitas_qcdq.onnx"
    if real_data is not None:
        path = real_data / "resnet20_cifar10_qdq_int8.onnx"
    proto = onnx.load(str(path))
    stored = [
        numpy_helper.to_array(tensor)
        for tensor in proto.graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) in (2, 4)
    ]

    kept = weights(load_onnx(path))

    assert len(kept) >= len(stored)
    if real_data is not None:
        assert len(stored) == 20
    for levels in stored:
        assert any(
            each is not None
            and each.levels.size == levels.size
            and np.array_equal(each.levels.ravel(), levels.ravel())
            for each in kept
        )


def test_resnet20_agrees_with_onnxruntime(real_data: Path | None) -> None:
    if real_data is None:
        path = FILES / "brevitas_qcdq.onnx"
        x = np.load(FILES / "brevitas_vectors.npz", allow_pickle=False)["input"]
        expected = np.concatenate([run_onnxruntime(path, image[None]) for image in x])
    else:
        path = real_data / "resnet20_cifar10_qdq_int8.onnx"
        images = load_images(real_data / "cifar10_test_2000.npz").images[:200]
        x = normalized(images, CIFAR10)
        expected = run_onnxruntime(path, x)
    model = load_onnx(path)

    found = forward(model, x)[:, :, 0, 0]

    step = 0.2119788 if real_data is not None else 1e-4  # of the file's logits
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.99
    # a code that a float sum puts on the other side moves the logits by a step or so
    assert np.mean(np.abs(found - expected) <= 1.01 * step) >= 0.99
    structural = [layer.name for layer in model.layers if isinstance(layer, Conv)]
    assert len(structural) <= 22


def test_resnet20_has_the_accuracy_that_was_recorded_for_it(real_data: Path | None) -> None:
    if real_data is None:
        model = load_onnx(FILES / "brevitas_qcdq.onnx")
        assert model.is_quantized
        return
    model = load_onnx(real_data / "resnet20_cifar10_qdq_int8.onnx")
    images = load_images(real_data / "cifar10_test_2000.npz", shape=model.input_shape)
    assert images.labels is not None

    outputs = forward(model, normalized(images.images, CIFAR10))[:, :, 0, 0]

    assert abs((outputs.argmax(1) == images.labels).mean() - 0.9175) <= 0.003
