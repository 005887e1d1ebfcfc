"""An ONNX file that cannot be read is refused in one line that names the node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from bacmac.host.errors import MissingExtraError, ModelFileError
from bacmac.host.importers.registry import load_model

ONES = np.ones((4, 4, 3, 3), np.float32)


def graph(
    *nodes: Any,
    constants: dict[str, Any] | None = None,
    shape: tuple[Any, ...] = ("N", 4, 8, 8),
    opset: int = 13,
) -> Any:
    """A model from `x` to `y`; nodes named by their op; `w` is a 3x3 weight of ones."""
    held = {"w": ONES, "v": np.ones(4, np.float32), **(constants or {})}
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        list(nodes),
        "g",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(kind: str, *inputs: str, output: str = "y", **attributes: Any) -> Any:
    domain = attributes.pop("domain", "")
    return helper.make_node(kind, inputs, [output], kind.lower(), domain=domain, **attributes)


def conv(output: str = "y", **attributes: Any) -> Any:
    return node("Conv", "x", "w", output=output, **attributes)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}
CASES = {
    "unknown op": (graph(node("Sigmoid", "x")), "'sigmoid' .Sigmoid.*one of Add, AveragePool"),
    "foreign domain": (graph(node("Relu", "x", domain="acme")), "domain 'acme'"),
    "quantized by a stranger": (graph(node("Quant", "x", domain="qonnx")), "domain 'qonnx'"),
    "dilation": (graph(conv(dilations=[2, 2])), "'conv' .Conv.*dilation"),
    "kernel shape": (graph(conv(kernel_shape=[5, 5])), "kernel_shape"),
    "negative pads": (graph(conv(pads=[-1, 0, 0, 0])), "pads"),
    "zero stride": (graph(conv(strides=[0, 1])), "strides"),
    "unknown attribute": (graph(conv(secret=1)), "attribute 'secret'"),
    "attribute of another type": (graph(conv(group="two")), "attribute 'group' of type"),
    "unknown auto_pad": (graph(conv(auto_pad="SOMEHOW")), "auto_pad 'SOMEHOW'"),
    "groups": (graph(conv(group=3)), "weight .4, 4, 3, 3. in 3 groups"),
    "no groups": (graph(conv(group=0)), "0 groups"),
    "window too large": (graph(conv(), shape=("N", 4, 2, 2)), "window"),
    "1-D convolution": (
        graph(node("Conv", "x", "u"), constants={"u": np.ones((4, 4, 3), "f")}),
        "3 dimensions",
    ),
    "NaN weight": (graph(conv(), constants={"w": ONES * np.nan}), "weight 'w' with NaN"),
    "overflowing weight": (
        graph(conv(), constants={"w": ONES.astype("f8") * 1e300}),
        "weight 'w' with NaN",
    ),
    "integer weight": (graph(conv(), constants={"w": ONES.astype("i8")}), "type int64"),
    "bias too short": (
        graph(node("Conv", "x", "w", "b"), constants={"b": np.ones(3, "f")}),
        "bias",
    ),
    "weight from the image": (graph(node("Conv", "x", "x")), "computed from the image"),
    "weight missing": (graph(node("Conv", "x")), "no input 1"),
    "tensor missing": (graph(node("Relu", "nothing")), "'nothing', which nothing wrote"),
    "average without padding": (
        graph(node("AveragePool", "x", pads=[1, 1, 1, 1], **POOL)),
        "count_include_pad",
    ),
    "average over the edge": (
        graph(node("AveragePool", "x", ceil_mode=1, kernel_shape=[3, 3], strides=[2, 2])),
        "ceil_mode",
    ),
    "pool padding": (graph(node("MaxPool", "x", pads=[2, 0, 0, 0], **POOL)), "less than the"),
    "pool without a kernel": (graph(node("MaxPool", "x")), "kernel_shape None"),
    "mean over channels": (graph(node("ReduceMean", "x", axes=[1])), "axes"),
    "BatchNorm in training": (
        graph(node("BatchNormalization", "x", "v", "v", "v", "v", training_mode=1), opset=14),
        "training_mode",
    ),
    "negative variance": (
        graph(
            node("BatchNormalization", "x", "v", "v", "v", "u"), constants={"u": -np.ones(4, "f")}
        ),
        "variance",
    ),
    "BatchNorm of other lengths": (
        graph(
            node("BatchNormalization", "x", "v", "v", "v", "u"), constants={"u": np.ones(3, "f")}
        ),
        "four vectors",
    ),
    "clip without 0": (graph(node("Clip", "x", "a"), constants={"a": np.float32(1)}), "holds 0"),
    "clip by NaN": (graph(node("Clip", "x", "a"), constants={"a": np.float32("nan")}), "NaN"),
    "constant a pixel": (
        graph(node("Add", "x", "u"), constants={"u": np.ones((8, 8), "f")}),
        "one a channel",
    ),
    "constant of other length": (
        graph(node("Mul", "x", "u"), constants={"u": np.ones((3, 1, 1), "f")}),
        "constants",
    ),
    "product of tensors": (graph(node("Mul", "x", "x")), "computed from the image"),
    "division by 0": (graph(node("Div", "x", "u"), constants={"u": np.zeros(1, "f")}), "division"),
    "division by the image": (graph(node("Div", "v", "x")), "division|one a channel"),
    "sum of shapes": (graph(conv("t"), node("Add", "t", "x")), "a sum of"),
    "dense without flatten": (graph(node("Gemm", "x", "w")), "flatten"),
    "transposed images": (
        graph(node("Flatten", "x", output="t"), node("Gemm", "t", "w", transA=1)),
        "transA",
    ),
    "dense of other features": (
        graph(
            node("Flatten", "x", output="t"),
            node("MatMul", "t", "u"),
            constants={"u": np.ones((255, 3), "f")},
        ),
        "256 features",
    ),
    "endless alpha": (
        graph(
            node("Flatten", "x", output="t"),
            node("Gemm", "t", "u", alpha=1e38),
            constants={"u": np.full((256, 3), 9, "f")},
        ),
        "not finite",
    ),
    "input written": (graph(node("Relu", "x", output="x"), conv()), "'x' written twice"),
    "attribute of a constant": (
        graph(node("Neg", "v", output="e", secret=1), node("Mul", "x", "e")),
        "'secret'",
    ),
    "flatten of images": (graph(node("Flatten", "x", axis=2)), "axis 2"),
    "reshape": (graph(node("Reshape", "x", "s"), constants={"s": ints(0, 8, 4, 8)}), "a flatten"),
    "reshape over images": (graph(node("Reshape", "x", "s"), constants={"s": ints(2, 128)}), "N"),
    "reshape by floats": (graph(node("Reshape", "x", "v")), "a few integers"),
    "transpose": (graph(node("Transpose", "x", perm=[0, 1, 3, 2])), "NCHW"),
    "pad with ones": (
        graph(node("Pad", "x", "p", "o"), constants={"p": ints(*[0] * 8), "o": np.float32(1)}),
        "value 1",
    ),
    "reflecting pad": (
        graph(node("Pad", "x", "p", mode="reflect"), constants={"p": ints(*[0] * 8)}),
        "reflect",
    ),
    "padded images": (
        graph(node("Pad", "x", "p"), constants={"p": ints(1, 0, 0, 0, 0, 0, 0, 0)}),
        "no padding of images",
    ),
    "huge pad": (
        graph(node("Pad", "x", "p"), constants={"p": ints(0, 1 << 40, 0, 0, 0, 0, 0, 0)}),
        "65536",
    ),
    "crop": (
        graph(
            node("Slice", "x", "a", "b", "c"), constants={"a": ints(1), "b": ints(7), "c": ints(2)}
        ),
        "every n-th",
    ),
    "softmax inside": (graph(node("Softmax", "x", output="t"), node("Relu", "t")), "last node"),
    "softmax over columns": (graph(node("Softmax", "x", axis=3)), "axis 3"),
    "scale of features alone": (
        graph(
            node("Flatten", "x", output="t"),
            node("Mul", "t", "u"),
            constants={"u": np.arange(256, dtype="f")},
        ),
        "no dense layer",
    ),
    "op of constants": (
        graph(node("Exp", "v", output="e"), node("Mul", "x", "e")),
        "Exp of constants",
    ),
    "damaged constants": (
        graph(
            node("Reshape", "v", "s", output="e"), node("Mul", "x", "e"), constants={"s": ints(3)}
        ),
        "do not fit",
    ),
    "huge constant": (
        graph(
            node("ConstantOfShape", "s", output="e"),
            node("Mul", "x", "e"),
            constants={"s": ints(1 << 40)},
        ),
        "at most",
    ),
    "arithmetic on the batch": (
        graph(
            node("Shape", "x", output="s"),
            node("Mul", "s", "s", output="t"),
            node("Reshape", "x", "t"),
        ),
        "number of images",
    ),
    "written twice": (graph(conv(), node("Relu", "x")), "written twice"),
    "only the input": (graph(node("Identity", "x")), "passes its input on"),
    "batch of 8": (graph(conv(), shape=(8, 4, 8, 8)), "8 images at once"),
    "symbolic side": (graph(conv(), shape=("N", 4, "H", 8)), "input 'x'.*fixed channels"),
    "1-D input": (graph(conv(), shape=("N", 4, 8)), "shape .*N, C, H, W"),
    "huge input": (graph(conv(), shape=("N", 1 << 20, 1 << 20, 4)), "at most"),
    "old opset": (graph(conv(), opset=6), "opset: found 6"),
    "future opset": (graph(conv(), opset=999), "newer onnx"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_that_cannot_be_lowered_is_refused_by_name(name: str, tmp_path: Path) -> None:
    model, message = CASES[name]
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())

    with pytest.raises(ModelFileError, match=message) as caught:
        load_model(path)

    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "found" in text
    assert "expected" in text
    assert "\n" not in text


def damaged(kind: str) -> bytes:
    model = graph(conv())
    weight = model.graph.initializer[0]
    if kind == "external":
        weight.data_location = TensorProto.EXTERNAL
        entry = weight.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"
        weight.ClearField("raw_data")
    elif kind == "short data":
        weight.raw_data = weight.raw_data[:-4]
    elif kind == "huge dims":
        weight.dims[0] = 1 << 60
    elif kind == "negative dims":
        weight.dims[0] = -4
    elif kind == "unknown type":
        weight.data_type = 77
    elif kind == "text":
        weight.CopyFrom(helper.make_tensor("w", TensorProto.STRING, [1], [b"no"]))
    elif kind == "sparse":
        model.graph.sparse_initializer.add()
    elif kind == "subgraph":
        model.graph.node[0].attribute.append(helper.make_attribute("then", model.graph))
    elif kind == "no graph":
        model.ClearField("graph")
    elif kind == "two outputs":
        model.graph.output.append(model.graph.output[0])
    elif kind == "double input":
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    elif kind == "no opset":
        model.ClearField("opset_import")
    elif kind == "control characters":
        model.graph.node[0].op_type = "Evil\n\x1b[31m"
    data: bytes = model.SerializeToString()
    return {"truncated": data[: len(data) // 2], "pickle": b"\x80\x04.", "empty": b""}.get(
        kind, data
    )


@pytest.mark.parametrize(
    "kind",
    ["external", "short data", "huge dims", "negative dims", "unknown type", "text", "sparse",
     "subgraph", "no graph", "two outputs", "double input", "no opset", "control characters",
     "truncated", "pickle", "empty"],
)  # fmt: skip
def test_a_damaged_or_hostile_file_is_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(damaged(kind))

    with pytest.raises(ModelFileError) as caught:
        load_model(path)

    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_missing_file_a_folder_and_another_suffix_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()

    for name, message in (
        ("no.onnx", "no such file"),
        ("folder.onnx", "a folder"),
        ("net.pt", "no such file"),
    ):
        with pytest.raises(ModelFileError, match=message):
            load_model(tmp_path / name)


def test_without_the_extra_the_error_says_what_to_install(
    example_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)

    with pytest.raises(MissingExtraError, match=r"bacmac\[onnx\]"):
        load_model(example_dir / "digits_cnn.onnx")


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=6))
def test_no_edit_of_a_file_escapes_as_another_error(
    edits: list[tuple[int, int]], tmp_path: Path
) -> None:
    nodes = (conv("t"), node("Relu", "t", output="u"), node("Add", "u", "x"))
    data = bytearray(graph(*nodes, shape=("N", 4, 3, 3)).SerializeToString())
    for place, byte in edits:
        data[place % len(data)] = byte
    path = tmp_path / "net.onnx"
    path.write_bytes(bytes(data))

    try:
        load_model(path)
    except ModelFileError as error:
        assert str(path) in str(error)  # noqa: PT017
