"""Functions of a model, nodes out of order, nodes that repeat another, and views of a tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.onnx_file import load_onnx
from bacmac.host.model.forward import forward
from bacmac.host.model.layers import Conv

_Array = npt.NDArray[Any]
WEIGHT = np.random.default_rng(2).normal(0, 0.3, (4, 4, 3, 3)).astype(np.float32)


def node(kind: str, *inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, [output], f"n_{output}", **attributes)


def save(
    path: Path,
    *nodes: Any,
    functions: tuple[Any, ...] = (),
    constants: dict[str, Any] | None = None,
    shape: tuple[Any, ...] = ("N", 4, 6, 6),
    opset: int = 18,
) -> Path:
    """A model from `x` to `y` with a weight `w`; functions are of the domain `local`."""
    value = helper.make_tensor_value_info
    held = {"w": WEIGHT, **(constants or {})}
    graph = helper.make_graph(
        list(nodes),
        "g",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10, functions=functions)
    onnx.save(model, str(path))
    return path


def function(name: str, inputs: list[str], nodes: list[Any], **given: Any) -> Any:
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, inputs, ["r"], nodes, imports, **given)


def check(path: Path, shape: tuple[int, ...] = (2, 4, 6, 6)) -> Any:
    x = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x})[0]
    model = load_onnx(path)
    assert np.abs(forward(model, x).reshape(expected.shape) - expected).max() <= 1e-5
    return model


def referring(name: str, kind: int, reference: str) -> Any:
    """An attribute that is the calling node's."""
    attribute = onnx.AttributeProto()
    attribute.name, attribute.type, attribute.ref_attr_name = name, kind, reference
    return attribute


def test_functions_inside_functions_are_put_in_place(tmp_path: Path) -> None:
    inner = function(
        "act",
        ["a", "w"],
        [node("Conv", "a", "w", output="t", pads=[1] * 4), node("Relu", "t", output="r")],
    )
    twice = [
        node("act", "a", "w", output="t", domain="local"),
        node("act", "t", "w", output="u", domain="local"),
        node("Add", "u", "a", output="r"),
    ]
    calls = [
        node("twice", "x", "w", output="m", domain="local"),
        node("twice", "m", "w", output="y", domain="local"),
    ]

    model = check(
        save(tmp_path / "net.onnx", *calls, functions=(inner, function("twice", ["a", "w"], twice)))
    )

    convs = [layer for layer in model.layers if isinstance(layer, Conv) and not layer.structural]
    assert len(convs) == 4


def test_attributes_of_a_call_reach_the_nodes_inside(tmp_path: Path) -> None:
    conv = node("Conv", "a", "w", output="t")
    conv.attribute.append(referring("pads", onnx.AttributeProto.INTS, "border"))
    conv.attribute.append(referring("strides", onnx.AttributeProto.INTS, "steps"))
    body = function(
        "net",
        ["a", "w"],
        [conv, node("Relu", "t", output="r")],
        attributes=["border"],
        attribute_protos=[helper.make_attribute("steps", [2, 1])],
    )
    call = node("net", "x", "w", output="y", domain="local", border=[1, 0, 0, 1])

    model = check(save(tmp_path / "net.onnx", call, functions=(body,)))

    assert model.layers[0].padding == (1, 0, 0, 1)
    assert model.layers[0].stride == (2, 1)


def test_nodes_may_be_in_any_order(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "b", output="y"),
        node("Add", "a", "x", output="b"),
        node("Conv", "x", "w", output="a", pads=[1] * 4),
    ]
    path = save(tmp_path / "net.onnx", *nodes)

    model = check(path)

    assert len(model.layers) == 1


def test_nodes_that_do_the_same_are_one(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "x", output="a"),
        node("Relu", "x", output="b"),
        node("Conv", "a", "w", output="c", pads=[1] * 4),
        node("Conv", "b", "w", output="d", pads=[1] * 4),
        node("Add", "c", "d", output="y"),
    ]

    model = check(save(tmp_path / "net.onnx", *nodes))

    convs = [layer for layer in model.layers if isinstance(layer, Conv) and not layer.structural]
    assert len(convs) == 1


def test_a_clamp_by_minimum_and_maximum_is_read(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x", "w", output="a"),
        node("Max", "zero", "a", output="b"),
        node("Min", "b", "six", output="y"),
    ]
    limits = {"zero": np.float32(0), "six": np.array([0.5], np.float32)}

    model = check(save(tmp_path / "net.onnx", *nodes, constants=limits))

    assert [(each.activation.low, each.activation.high) for each in model.layers] == [(0.0, 0.5)]


def test_softmax_is_left_out_before_what_only_rounds_and_reshapes(tmp_path: Path) -> None:
    nodes = [
        node("GlobalAveragePool", "x", output="a"),
        node("Flatten", "a", output="b"),
        node("Softmax", "b", output="c"),
        node("QuantizeLinear", "c", "s", "z", output="d"),
        node("DequantizeLinear", "d", "s", "z", output="y"),
    ]
    constants = {"s": np.float32(1 / 256), "z": np.uint8(0)}
    x = np.random.default_rng(3).normal(size=(2, 4, 6, 6)).astype(np.float32)

    model = load_onnx(save(tmp_path / "net.onnx", *nodes, constants=constants))

    assert np.allclose(forward(model, x)[:, :, 0, 0], x.mean((2, 3)), atol=1e-6)
    assert model.notes == ("Softmax at the end is left out: the outputs are what it reads",)


def test_an_image_whose_channels_come_last_is_taken_channels_first(tmp_path: Path) -> None:
    nodes = [
        node("Mul", "x", "half", output="a"),
        node("Transpose", "a", output="b", perm=[0, 3, 1, 2]),
        node("Conv", "b", "w", output="c"),
        node("Transpose", "c", output="d", perm=[0, 2, 3, 1]),
        node("ReduceMean", "d", "axes", output="y", keepdims=0),
    ]
    constants = {"half": np.float32([0.5, 1, 1.5, 2]), "axes": np.array([1, 2], np.int64)}
    path = save(tmp_path / "net.onnx", *nodes, constants=constants, shape=("N", 6, 5, 4))
    x = np.random.default_rng(3).normal(size=(2, 6, 5, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    model = load_onnx(path)

    assert model.input_shape == (4, 6, 5)
    found = forward(model, np.ascontiguousarray(x.transpose(0, 3, 1, 2)))[:, :, 0, 0]
    assert np.abs(found - session.run(None, {"x": x})[0]).max() <= 1e-5
    assert any("channels last" in note for note in model.notes)


@pytest.mark.parametrize("kind", ["Conv", "GlobalAveragePool", "MaxPool", "BatchNormalization"])
def test_windows_over_channels_that_come_last_are_refused(kind: str, tmp_path: Path) -> None:
    attributes = {"kernel_shape": [2, 2]} if kind == "MaxPool" else {}
    inputs = {"Conv": ("t", "w"), "BatchNormalization": ("t", *["v"] * 4)}.get(kind, ("t",))
    nodes = [
        node("Relu", "x", output="a"),
        node("Transpose", "a", output="t", perm=[0, 2, 3, 1]),
        node(kind, *inputs, output="y", **attributes),
    ]
    constants = {"v": np.ones(4, np.float32)}

    with pytest.raises(ModelFileError, match="channels that come last"):
        load_onnx(save(tmp_path / "net.onnx", *nodes, constants=constants))
