"""Each operator and each way to write it gives what onnxruntime gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bacmac.host.importers.registry import load_model
from bacmac.host.model.forward import forward
from bacmac.host.model.layers import INPUT, Conv, Model


class Net:
    """A graph written node by node; weights come from a seeded generator."""

    def __init__(self, *shape: int, opset: int = 13, batch: str | int = "N") -> None:
        self.shape, self.opset, self.batch = shape, opset, batch
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.random = np.random.default_rng(7)

    def const(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64)

    def w(self, *shape: int) -> str:
        return self.const(self.random.normal(0, 0.5, shape))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], f"n{output}", **attributes))
        return output

    def conv(self, x: str, c_in: int, c_out: int, k: int = 3, **attributes: Any) -> str:
        attributes.setdefault("pads", [k // 2] * 4)
        if "auto_pad" in attributes:
            del attributes["pads"]
        groups = attributes.get("group", 1)
        return self.op("Conv", x, self.w(c_out, c_in // groups, k, k), self.w(c_out), **attributes)

    def bn(self, x: str, c: int, **attributes: Any) -> str:
        spread = self.const(self.random.uniform(0.3, 2, c))
        return self.op(
            "BatchNormalization", x, self.w(c), self.w(c), self.w(c), spread, **attributes
        )

    def save(self, path: Path, output: str) -> Path:
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "g",
            [value("x", TensorProto.FLOAT, [self.batch, *self.shape])],
            [value(output, TensorProto.FLOAT, None)],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 8
        onnx.save(model, path)
        return path


def depthwise(net: Net) -> str:
    return net.conv("x", 4, 8, group=4, strides=[2, 1])


def grouped(net: Net) -> str:
    return net.op("Clip", net.conv("x", 4, 6, group=2), net.const(-0.5), net.const(0.75))


def asymmetric_padding(net: Net) -> str:
    return net.conv("x", 4, 3, pads=[0, 1, 2, 3])


def same_upper(net: Net) -> str:
    return net.conv("x", 4, 3, k=4, auto_pad="SAME_UPPER", strides=[2, 3])


def same_lower(net: Net) -> str:
    return net.conv("x", 4, 3, k=4, auto_pad="SAME_LOWER", strides=[1, 2])


def valid(net: Net) -> str:
    return net.conv("x", 4, 3, auto_pad="VALID")


def same_pools(net: Net) -> str:
    return net.op("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER")


def conv_bn_relu(net: Net) -> str:
    return net.op("Relu", net.bn(net.conv("x", 4, 5), 5, epsilon=1e-3))


def bn_of_a_conv_read_twice(net: Net) -> str:
    y = net.conv("x", 4, 5)
    return net.op("Add", net.bn(y, 5), net.op("Relu", y))


def bn_alone(net: Net) -> str:
    return net.bn(net.op("Relu", net.bn("x", 4)), 4)


def bn_after_a_sum(net: Net) -> str:
    return net.bn(net.op("Add", net.conv("x", 4, 5), net.conv("x", 4, 5)), 5)


def relu6_as_clip(net: Net) -> str:
    return net.op("Clip", net.conv("x", 4, 5), net.const(0), net.const(6))


def clip_without_a_minimum(net: Net) -> str:
    return net.op("Clip", net.conv("x", 4, 5), "", net.const(0.5))


def clips_in_a_row(net: Net) -> str:
    y = net.op("Clip", net.conv("x", 4, 5), net.const(-0.5), net.const(2.0))
    return net.op("Clip", net.op("Relu", y), net.const(-1), net.const(0.25))


def relu_of_the_input(net: Net) -> str:
    return net.op("Relu", "x")


def relu_after_a_max_pool(net: Net) -> str:
    y = net.op("MaxPool", net.conv("x", 4, 5), kernel_shape=[2, 2], strides=[2, 2])
    return net.op("Relu", y)


def relu_after_a_max_pool_of_a_conv_read_twice(net: Net) -> str:
    y = net.conv("x", 4, 5)
    pool = net.op("MaxPool", y, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return net.op("Add", net.op("Relu", pool), y)


def relu_after_an_average_pool(net: Net) -> str:
    return net.op("Relu", net.op("AveragePool", net.conv("x", 4, 5), kernel_shape=[2, 2]))


def max_pool_padded(net: Net) -> str:
    return net.op("MaxPool", net.conv("x", 4, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def max_pool_ceil(net: Net) -> str:
    return net.op("MaxPool", "x", kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1)


def max_pool_ceil_padded(net: Net) -> str:
    attributes = {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1]}
    return net.op("MaxPool", "x", ceil_mode=1, **attributes)


def average_pool(net: Net) -> str:
    return net.op("AveragePool", net.conv("x", 4, 3), kernel_shape=[3, 2], strides=[2, 2])


def average_pool_counts_padding(net: Net) -> str:
    attributes = {"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "count_include_pad": 1}
    return net.op("AveragePool", "x", **attributes)


def pad_before_an_average_pool(net: Net) -> str:
    y = net.op("Pad", "x", net.ints(0, 0, 1, 1, 0, 0, 0, 1))
    return net.op("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2])


def reduce_mean(net: Net) -> str:
    y = net.op("ReduceMean", net.conv("x", 4, 6), axes=[2, 3], keepdims=0)
    return net.op("Gemm", y, net.w(6, 3))


def reduce_mean_negative_axes(net: Net) -> str:
    return net.op("ReduceMean", net.conv("x", 4, 6), axes=[-1, -2])


def global_average_twice(net: Net) -> str:
    y = net.op("GlobalAveragePool", net.op("GlobalAveragePool", net.conv("x", 4, 6)))
    return net.op("Add", net.op("Relu", y), net.bn(y, 6))


def gemm_variants(net: Net) -> str:
    y = net.op("Gemm", net.op("Flatten", "x"), net.w(4 * 63, 6), net.w(1, 6), alpha=0.5, beta=2.0)
    y = net.op("Gemm", net.op("Relu", y), net.w(5, 6), net.w(1), transB=1)
    return net.op("Gemm", y, net.op("Transpose", net.w(3, 5), perm=[1, 0]))


def matmul_and_add(net: Net) -> str:
    y = net.op("MatMul", net.op("Flatten", "x"), net.w(4 * 63, 6))
    return net.op("Relu", net.op("Add", net.w(6), y))


def flatten_bn_dense(net: Net) -> str:
    return net.op("Gemm", net.bn(net.op("Flatten", net.conv("x", 4, 3)), 189), net.w(189, 5))


def flatten_scale_dense_bias(net: Net) -> str:
    y = net.op("Mul", net.op("Flatten", "x"), net.w(252))
    y = net.op("Gemm", net.op("Add", y, net.w(1, 252)), net.w(252, 5), net.w(5))
    return net.op("Relu", net.bn(y, 5))


def scale_of_flat_channels(net: Net) -> str:
    y = net.op("Flatten", net.conv("x", 4, 3))
    return net.op("Gemm", net.op("Relu", net.op("Mul", y, net.const(2))), net.w(189, 5))


def relu_of_a_flattened_conv_read_twice(net: Net) -> str:
    y = net.conv("x", 4, 4)
    a = net.op("Gemm", net.op("Relu", net.op("Flatten", y)), net.w(252, 3))
    return net.op("Add", a, net.op("Gemm", net.op("Flatten", net.conv(y, 4, 2)), net.w(126, 3)))


def normalization_in_the_graph(net: Net) -> str:
    y = net.op("Sub", "x", net.w(4, 1, 1))
    y = net.op("Div", y, net.const([[[0.3]], [[0.4]], [[2]], [[1]]]))
    return net.conv(net.op("Sub", net.const(0.5), net.op("Mul", y, net.const(1.5))), 4, 5)


def bias_as_add(net: Net) -> str:
    y = net.op("Conv", "x", net.w(5, 4, 3, 3), kernel_shape=[3, 3])
    return net.op("Relu", net.op("Add", y, net.w(1, 5, 1, 1)))


def residual(net: Net) -> str:
    y = net.op("Relu", net.conv("x", 4, 6))
    z = net.bn(net.conv(net.op("Relu", net.conv(y, 6, 6)), 6, 6), 6)
    return net.op("Relu", net.op("Add", y, z))


def residual_of_two_convs(net: Net) -> str:
    y = net.op("Relu", net.conv("x", 4, 6))
    return net.op("Relu", net.op("Add", net.conv(y, 6, 5), net.bn(net.conv("x", 4, 5, k=1), 5)))


def residual_whose_conv_comes_first(net: Net) -> str:
    y = net.conv("x", 4, 6)
    z = net.op("Relu", net.conv(net.op("Relu", net.conv("x", 4, 6)), 6, 6))
    return net.op("Relu", net.op("Add", y, z))


def residual_of_the_input(net: Net) -> str:
    return net.op("Add", "x", net.conv("x", 4, 4))


def sum_of_two_relus(net: Net) -> str:
    a, b = (net.op("Relu", net.conv("x", 4, 6)) for _ in range(2))
    return net.op("Clip", net.op("Add", a, b), net.const(0), net.const(6))


def sum_with_itself(net: Net) -> str:
    y = net.conv("x", 4, 6)
    return net.op("Relu", net.op("Add", y, y))


def sum_of_three(net: Net) -> str:
    a, b, c = (net.conv("x", 4, 6) for _ in range(3))
    return net.op("Relu", net.op("Add", net.op("Add", a, b), c))


def sum_of_pools(net: Net) -> str:
    kinds = ("MaxPool", "AveragePool")
    a, b = (net.op(kind, "x", kernel_shape=[2, 2], strides=[2, 2]) for kind in kinds)
    return net.op("Add", a, b)


def inverted_residual(net: Net) -> str:
    def relu6(y: str) -> str:
        return net.op("Clip", y, net.const(0), net.const(6))

    y = relu6(net.bn(net.conv("x", 4, 8), 8))
    z = relu6(net.bn(net.conv(y, 8, 24, k=1), 24))
    z = relu6(net.bn(net.conv(z, 24, 24, group=24), 24))
    z = net.op("Add", y, net.bn(net.conv(z, 24, 8, k=1), 8))
    z = relu6(net.bn(net.conv(z, 8, 16, group=8, strides=[2, 2]), 16))
    return net.op(
        "Gemm", net.op("Flatten", net.op("GlobalAveragePool", z)), net.w(10, 16), transB=1
    )


def option_a_shortcut(net: Net) -> str:
    y = net.op("Relu", net.conv("x", 4, 4))
    far = np.iinfo(np.int64).max
    cut = net.op("Slice", y, net.ints(0), net.ints(far), net.ints(2), net.ints(2))
    cut = net.op("Slice", cut, net.ints(0), net.ints(far), net.ints(-1), net.ints(2))
    cut = net.op("Pad", cut, net.ints(0, 2, 0, 0, 0, 2, 0, 0), "")
    return net.op("Relu", net.op("Add", net.conv(y, 4, 8, strides=[2, 2]), cut))


def slice_of_channels(net: Net) -> str:
    y = net.op("Slice", "x", net.ints(-1), net.ints(9), net.ints(1))
    a = net.op("Slice", "x", net.ints(1), net.ints(4), net.ints(1), net.ints(2))
    return net.op("Add", net.conv(y, 1, 2), net.op("Relu", a))


def pad_before_a_conv(net: Net) -> str:
    y = net.op("Pad", net.op("Relu", "x"), net.ints(0, 0, 0, 0, 0, 0, 1, 1))
    return net.conv(y, 4, 5, pads=[0, 0, 0, 0], strides=[2, 2])


def pad_before_a_max_pool_read_twice(net: Net) -> str:
    y = net.conv("x", 4, 5)
    p = net.op("Pad", y, net.ints(0, 0, 1, 1, 0, 0, 1, 1))
    pool = net.op("Relu", net.op("MaxPool", net.op("Identity", p), kernel_shape=[3, 3]))
    return net.op("Add", pool, net.conv(p, 5, 5, pads=[0, 0, 0, 0]))


def pad_after_a_step_then_flatten(net: Net) -> str:
    far = np.iinfo(np.int64).max
    y = net.op("Slice", "x", *(net.ints(i) for i in (0, far, 3, 3)))
    y = net.op("Pad", y, net.ints(0, 0, 1, 0, 0, 0, 0, 2))
    y = net.op("Slice", y, *(net.ints(i) for i in (0, far, 2, 2)))
    return net.op("Gemm", net.op("Flatten", y), net.w(4 * 4 * 5, 3))


def reshape_by_shape(net: Net) -> str:
    y = net.conv("x", 4, 3)
    n = net.op("Gather", net.op("Shape", y), net.const(0, np.int64), axis=0)
    n = net.op("Unsqueeze", n, net.ints(0))
    shape = net.op("Concat", n, net.ints(-1), axis=0)
    return net.op("Gemm", net.op("Reshape", net.op("Relu", y), shape), net.w(189, 4))


def reshape_by_product(net: Net) -> str:
    y = net.op("Relu", net.conv("x", 4, 3))
    sides = net.op("Shape", y)
    part = [net.op("Gather", sides, net.const([i], np.int64)) for i in range(4)]
    size = net.op("Mul", net.op("Mul", part[1], part[2]), part[3])
    y = net.op("Reshape", y, net.op("Concat", part[0], size, axis=0))
    return net.op("MatMul", y, net.w(189, 4))


def reshape_and_back(net: Net) -> str:
    y = net.op("Reshape", net.conv("x", 4, 3), net.ints(0, -1))
    y = net.op("Reshape", y, net.ints(-1, 3, 7, 9))
    y = net.op("GlobalAveragePool", net.op("Relu", y))
    y = net.op("Squeeze", y, net.ints(2, 3))
    y = net.op("Unsqueeze", net.op("Gemm", y, net.w(3, 6)), net.ints(2, 3))
    return net.op("Reshape", net.conv(y, 6, 4, k=1), net.ints(-1, 4))


def aliases(net: Net) -> str:
    y = net.op("Identity", net.conv("x", 4, 3))
    y = net.op("Dropout", net.op("Relu", net.op("Dropout", y)), net.const(0.3))
    return net.op("Transpose", net.op("Relu", y), perm=[0, 1, 2, 3])


def constants_in_the_graph(net: Net) -> str:
    weight = net.op("Constant", value=numpy_helper.from_array(np.ones((12, 3, 3), np.float32)))
    weight = net.op("Reshape", net.op("Mul", weight, net.w(12, 3, 3)), net.ints(3, -1, 3, 3))
    bias = net.op("ConstantOfShape", net.ints(3))
    return net.op("Conv", "x", weight, net.op("Sub", bias, net.op("Sqrt", net.const([2, 3, 4]))))


def half_and_double_weights(net: Net) -> str:
    half = net.op("Cast", net.const(net.random.normal(size=(3, 4, 3, 3)), np.float16), to=1)
    bias = net.op("Cast", net.const([1, 2, 3], np.float64), to=1)
    return net.op("Conv", "x", half, bias)


OPSET_13 = (
    depthwise, grouped, asymmetric_padding, same_upper, same_lower, valid, same_pools,
    conv_bn_relu, bn_of_a_conv_read_twice, bn_alone, bn_after_a_sum, relu6_as_clip,
    clip_without_a_minimum, clips_in_a_row, relu_of_the_input, relu_after_a_max_pool,
    relu_after_a_max_pool_of_a_conv_read_twice, relu_after_an_average_pool, max_pool_padded,
    max_pool_ceil, max_pool_ceil_padded, average_pool, average_pool_counts_padding,
    pad_before_an_average_pool, reduce_mean, reduce_mean_negative_axes, global_average_twice,
    gemm_variants, matmul_and_add, flatten_bn_dense, flatten_scale_dense_bias,
    scale_of_flat_channels, relu_of_a_flattened_conv_read_twice, normalization_in_the_graph,
    bias_as_add, residual, residual_of_two_convs, residual_whose_conv_comes_first,
    residual_of_the_input, sum_of_two_relus, sum_with_itself, sum_of_three, sum_of_pools,
    inverted_residual, option_a_shortcut, slice_of_channels, pad_before_a_conv,
    pad_before_a_max_pool_read_twice, pad_after_a_step_then_flatten, reshape_by_shape,
    reshape_by_product, reshape_and_back, aliases, constants_in_the_graph,
    half_and_double_weights,
)  # fmt: skip


def check(net: Net, output: str, path: Path) -> Model:
    """Import the graph and compare it with onnxruntime on random images."""
    net.save(path, output)
    x = net.random.normal(size=(3, *net.shape)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"x": image[None]})[0] for image in x])

    model = load_model(path)
    found = forward(model, x.reshape(3, *model.input_shape))

    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-4, rtol=0)
    assert INPUT not in [layer.name for layer in model.layers]
    return model


@pytest.mark.parametrize("build", OPSET_13, ids=lambda build: build.__name__)
def test_a_variant_gives_what_onnxruntime_gives(
    build: Callable[[Net], str], tmp_path: Path
) -> None:
    net = Net(4, 7, 9)

    check(net, build(net), tmp_path / "net.onnx")


@pytest.mark.parametrize("opset", [7, 8, 9, 10])
def test_old_opsets_keep_their_attributes(opset: int, tmp_path: Path) -> None:
    net = Net(4, 7, 9, opset=opset, batch=1)
    y = net.op("Pad", net.bn(net.conv("x", 4, 5), 5), pads=[0, 1, 1, 0, 0, 0, 0, 2])
    y = net.op("Clip", net.conv(y, 6, 4), min=-0.25, max=1.5)
    if opset < 10:
        y = net.op("Slice", y, starts=[1], ends=[3], axes=[1])
    y = net.op("Dropout", net.op("Squeeze", net.op("GlobalAveragePool", y), axes=[2, 3]), ratio=0.5)

    check(net, net.op("Clip", y, min=-1.0), tmp_path / "net.onnx")


@pytest.mark.parametrize("opset", [18, 21])
def test_new_opsets_take_axes_as_inputs(opset: int, tmp_path: Path) -> None:
    net = Net(4, 7, 9, opset=opset)
    y = net.op("Pad", "x", net.ints(1, 2, 0, 1), "", net.ints(2, -1))
    y = net.op("ReduceMean", net.conv(y, 4, 5), net.ints(2, 3), keepdims=0)

    check(net, net.op("Gemm", y, net.w(5, 3)), tmp_path / "net.onnx")


def test_features_alone_are_a_network_too(tmp_path: Path) -> None:
    net = Net(16)
    y = net.op("Relu", net.op("Gemm", net.bn("x", 16), net.w(16, 8), net.w(8)))

    model = check(net, net.op("MatMul", y, net.w(8, 3)), tmp_path / "mlp.onnx")

    assert model.input_shape == (16, 1, 1)
    assert model.name == "mlp"


def test_initializers_listed_as_inputs_are_weights(tmp_path: Path) -> None:
    net = Net(4, 7, 9, opset=8, batch=1)
    path = net.save(tmp_path / "net.onnx", net.conv("x", 4, 3))
    proto = onnx.load(path)
    proto.graph.input.append(helper.make_tensor_value_info("c0", TensorProto.FLOAT, [3, 4, 3, 3]))
    onnx.save(proto, path)

    assert load_model(path).output_shape == (3, 7, 9)


def test_a_softmax_at_the_end_is_left_out(tmp_path: Path) -> None:
    def logits(net: Net) -> str:
        return net.op("Gemm", net.op("Flatten", net.conv("x", 4, 2)), net.w(126, 5))

    plain, softmax = Net(4, 7, 9), Net(4, 7, 9)
    a = load_model(plain.save(tmp_path / "a.onnx", logits(plain)))
    b = load_model(softmax.save(tmp_path / "b.onnx", softmax.op("Softmax", logits(softmax))))
    x = plain.random.normal(size=(2, 4, 7, 9)).astype(np.float32)

    np.testing.assert_array_equal(forward(a, x), forward(b, x))


def test_nodes_that_the_output_does_not_need_are_not_run(tmp_path: Path) -> None:
    net = Net(4, 7, 9)
    y = net.conv("x", 4, 3)
    net.op("Sigmoid", y)

    assert len(load_model(net.save(tmp_path / "net.onnx", y)).layers) == 1


def structural(model: Model) -> list[str]:
    return [layer.name for layer in model.layers if isinstance(layer, Conv) and layer.structural]


@pytest.mark.parametrize(
    ("build", "n_layers", "n_structural"),
    [
        (conv_bn_relu, 1, 0),
        (relu_after_a_max_pool, 2, 0),
        (residual, 3, 0),
        (residual_of_two_convs, 3, 0),
        (sum_of_two_relus, 3, 1),
        (option_a_shortcut, 3, 1),
        (inverted_residual, 7, 0),
        (pad_before_a_conv, 2, 1),
        (flatten_bn_dense, 2, 0),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_can_be_folded_is_folded(
    build: Callable[[Net], str], n_layers: int, n_structural: int, tmp_path: Path
) -> None:
    net = Net(4, 7, 9)
    model = load_model(net.save(tmp_path / "net.onnx", build(net)))

    assert len(model.layers) == n_layers
    assert len(structural(model)) == n_structural
