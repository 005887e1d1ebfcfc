"""The same networks as ONNX graphs for other tools, and as an int32 einsum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper

from bacmac.host.arith.network import ConvOp, IntegerNetwork, PoolOp
from bacmac.host.arith.reference import requantize

Run = Callable[[npt.NDArray[np.uint8]], npt.NDArray[Any]]
MICROSOFT = "com.microsoft"
IR_VERSION = 8
"""onnxruntime may refuse the newest version, which the onnx package writes by default."""
BRANCH_SCALE = 4.0
"""Output steps a unit of the branch (zero point 128) before a residual add."""


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], domain=domain, **attributes))
        return name

    def model(
        self, network: IntegerNetwork, elem: int, output: str, out_elem: int, domains: list[str]
    ) -> onnx.ModelProto:
        # both executors take any batch; the dimension is left open
        x = helper.make_tensor_value_info("x", elem, ["n", *network.input_shape])
        y = helper.make_tensor_value_info(output, out_elem, ["n", *network.shapes[-1]])
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.constants)
        opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _window(op: ConvOp | PoolOp) -> dict[str, Any]:
    return {"strides": list(op.stride), "pads": list(op.padding)}


def _scale(op: ConvOp | PoolOp) -> npt.NDArray[np.float64]:
    assert op.requantize is not None
    return op.requantize.multiplier * 2.0 ** -op.requantize.shift.astype(float)


def qlinear_graph(network: IntegerNetwork) -> onnx.ModelProto:
    """All layers on 8-bit integers: QLinearConv, QLinearAdd, QLinearGlobalAveragePool.

    A residual add is its own node here, with a second rounding; without one, QLinearConv rounds
    as our certificate says and its logits are equal to ours.
    """
    g = _Graph()
    one, zero_u8, middle = g.constant(1, "f4"), g.constant(0, "u1"), g.constant(128, "u1")
    tensors = ["x"]
    for op, shape in zip(network.ops, network.shapes[1:], strict=True):
        x = tensors[op.input]
        if isinstance(op, PoolOp) and op.kind == "max":
            y = g.node("MaxPool", x, kernel_shape=list(op.kernel), **_window(op))
        elif isinstance(op, PoolOp):
            y = g.node("QLinearGlobalAveragePool", x, one, zero_u8, one, zero_u8, domain=MICROSOFT)
        elif op.requantize is None:
            flat = g.node("Flatten", x)
            weight = g.constant(op.levels.reshape(len(op.levels), -1).T, "i1")
            acc = g.node("MatMulInteger", flat, weight)
            acc = g.node("Add", acc, g.constant(op.bias, "i4"))
            y = g.node("Reshape", acc, g.constant([-1, *shape], "i8"))
        else:
            added = op.residual is not None
            scale = _scale(op) / (BRANCH_SCALE if added else 1.0)
            y = g.node(
                "QLinearConv",
                *(x, one, zero_u8, g.constant(op.levels, "i1"), g.constant(scale, "f4")),
                *(g.constant(np.zeros(len(op.levels)), "i1"), one),
                *(middle if added else zero_u8, g.constant(op.bias, "i4")),
                **_window(op),
                group=op.groups,
            )
            if op.residual is not None:
                assert op.requantize.residual_multiplier is not None
                ratio = op.requantize.residual_multiplier[0] * 2.0 ** -float(op.requantize.shift[0])
                y = g.node(
                    "QLinearAdd",
                    *(y, g.constant(BRANCH_SCALE, "f4"), middle),
                    *(tensors[op.residual], g.constant(ratio, "f4"), zero_u8, one, zero_u8),
                    domain=MICROSOFT,
                )
        tensors.append(y)
    return g.model(network, TensorProto.UINT8, tensors[-1], TensorProto.INT32, [MICROSOFT])


def qonnx_graph(network: IntegerNetwork) -> onnx.ModelProto:
    """Float nodes on integer values with a QONNX Quant after each, as QONNX exporters write."""
    domain = "qonnx.custom_op.general"
    g = _Graph()
    one, zero, bits = g.constant(1, "f4"), g.constant(0, "f4"), g.constant(8, "f4")
    tensors = ["x"]
    for op in network.ops:
        x = tensors[op.input]
        if isinstance(op, PoolOp) and op.kind == "max":
            y = g.node("MaxPool", x, kernel_shape=list(op.kernel), **_window(op))
        elif isinstance(op, PoolOp):
            y = g.node("GlobalAveragePool", x)
        else:
            weight = g.node(
                "Quant", g.constant(op.levels, "f4"), one, zero, bits,
                domain=domain, signed=1, narrow=0, rounding_mode="ROUND",
            )  # fmt: skip
            y = g.node("Conv", x, weight, g.constant(op.bias, "f4"), **_window(op), group=op.groups)
            if op.requantize is not None:
                y = g.node("Mul", y, g.constant(_scale(op).reshape(1, -1, 1, 1), "f4"))
            if op.residual is not None and op.requantize is not None:
                assert op.requantize.residual_multiplier is not None
                ratio = op.requantize.residual_multiplier[0] * 2.0 ** -float(op.requantize.shift[0])
                y = g.node("Add", y, g.node("Mul", tensors[op.residual], g.constant(ratio, "f4")))
        if op.requantize is not None:
            y = g.node(
                "Quant", y, one, zero, bits,
                domain=domain, signed=0, narrow=0, rounding_mode="ROUND",
            )  # fmt: skip
        tensors.append(y)
    return g.model(network, TensorProto.FLOAT, tensors[-1], TensorProto.FLOAT, [domain])


def _one_thread() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def onnxruntime_runner(network: IntegerNetwork) -> Run:
    """onnxruntime on the all-QLinear graph, one thread."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        qlinear_graph(network).SerializeToString(),
        _one_thread(),
        providers=["CPUExecutionProvider"],
    )
    return lambda images: np.asarray(session.run(None, {"x": images})[0])


def qonnx_runner(network: IntegerNetwork) -> Run:
    """qonnx's executor as released, image by image.

    It makes an onnxruntime session for every node of every call; the patch is there so that an
    older onnxruntime takes them.
    """
    import qonnx.core.onnx_exec
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

    graph = qonnx_graph(network)
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    model = ModelWrapper(graph).transform(InferShapes())
    (output,) = (value.name for value in model.graph.output)

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        with patch.object(onnx, "IR_VERSION", IR_VERSION):
            outputs = [
                qonnx.core.onnx_exec.execute_onnx(model, {"x": image[None].astype(np.float32)})
                for image in images
            ]
        return np.concatenate([found[output] for found in outputs])

    return run


def einsum_runner(network: IntegerNetwork) -> Run:
    """What one writes first: int32 windows, `np.einsum`, int64 requantization."""

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        tensors = [images.astype(np.int32)]
        for op in network.ops:
            x = tensors[op.input]
            kernel = op.levels.shape[2:] if isinstance(op, ConvOp) else op.kernel
            top, left, bottom, right = op.padding
            x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
            windows = sliding_window_view(x, kernel, axis=(2, 3))
            windows = windows[:, :, :: op.stride[0], :: op.stride[1]]
            if isinstance(op, ConvOp):
                n, _, h, w = windows.shape[:4]
                columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, -1)
                levels = op.levels.reshape(len(op.levels), -1).astype(np.int32)
                acc = np.einsum("pk,ok->po", columns, levels) + op.bias
                acc = acc.reshape(n, h, w, -1).transpose(0, 3, 1, 2)
                residual = None if op.residual is None else tensors[op.residual].astype(np.int64)
            else:
                acc = windows.max((4, 5)) if op.kind == "max" else windows.sum((4, 5))
                residual = None
            if op.requantize is not None:
                acc = requantize(acc.astype(np.int64), op.requantize, residual)
            tensors.append(acc.astype(np.int32))
        return tensors[-1]

    return run
