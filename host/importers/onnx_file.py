"""Read a float ONNX file (extra `onnx`) into the float model.

What is read, and what is refused, is in docs/models.md. The file is taken as hostile: it is
bounded, weights outside it are refused, and every complaint of the protocol buffer reader becomes
an error that names the file.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from bacmac.host.arith.network import Shape
from bacmac.host.errors import MissingExtraError, ModelFileError
from bacmac.host.importers.arrays import read_bounded
from bacmac.host.importers.lowering import Lowering, RefusedError
from bacmac.host.importers.onnx_constants import compute, is_constant
from bacmac.host.importers.onnx_node import Array, Node, array_of, text_of
from bacmac.host.importers.onnx_ops import lower_node
from bacmac.host.model.layers import Model

OLDEST_OPSET = 7
MAX_NODES = 20_000
_DOMAINS = ("", "ai.onnx")
_QUANTIZED = (
    "BipolarQuant",
    "ConvInteger",
    "DequantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "Quant",
    "QuantizeLinear",
)


def load_onnx(path: str | Path) -> Model:
    """The float model of an ONNX file; a Softmax at its end is left out.

    Raises:
        ModelFileError: naming the file and the node, tensor or field at fault.
        MissingExtraError: the extra `onnx` is not installed.
    """
    file = Path(path)
    data = read_bounded(file, ModelFileError, "an ONNX model")
    graph, opset = _parse(data, file)
    inputs, outputs = list(graph.input), list(graph.output)
    try:
        constants = {text_of(tensor.name): array_of(tensor) for tensor in graph.initializer}
    except RefusedError as error:
        raise _told(file, "initializer", error) from error
    inputs = [each for each in inputs if text_of(each.name) not in constants]
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelFileError(
            file,
            "graph",
            found=f"{len(inputs)} inputs and {len(outputs)} outputs",
            expected="one of each",
        )
    shape, flat = _input_shape(inputs[0], file)
    source, output = text_of(inputs[0].name), text_of(outputs[0].name)
    nodes = _needed(graph, source, output, file, opset, constants)
    # reading a tensor's shape does not read the tensor
    uses = Counter(tensor for node in nodes if node.op != "Shape" for tensor in node.inputs)
    uses[output] += 1

    try:
        lowering = Lowering(source, shape, uses, flat=flat)
    except RefusedError as error:
        raise _told(file, f"input {source!r}", error) from error
    for node in nodes:
        try:
            _read_node(node, lowering, constants, output)
        except RefusedError as error:
            raise _told(file, node.label, error) from error
    try:
        digest = hashlib.sha256(data).hexdigest()
        return lowering.finish(output, name=file.stem, source=str(path), sha256=digest)
    except RefusedError as error:
        raise _told(file, f"output {output!r}", error) from error


def _read_node(node: Node, lowering: Lowering, constants: dict[str, Array], output: str) -> None:
    if node.op in _QUANTIZED:
        hint = "import the float network that it was made from"
        raise RefusedError(f"a quantized network ({node.op})", "a float one", hint)
    if node.domain not in _DOMAINS:
        raise RefusedError(f"an op of domain {node.domain!r}", "ops of ONNX itself")
    if is_constant(node):
        constants[node.output] = compute(node, lowering)
        node.refuse_rest()
        return
    if node.op in ("Softmax", "LogSoftmax") and node.output != output:
        raise RefusedError(f"{node.op} inside the network", f"{node.op} as the last node only")
    lower_node(node, lowering)


def _parse(data: bytes, file: Path) -> tuple[Any, int]:
    """The graph and its opset."""
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("reading an ONNX file", "onnx") from error
    model: Any = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelFileError(
            file, "file", found=f"damaged data ({error})", expected="an ONNX model"
        ) from error
    graph = model.graph
    if not graph.node or len(graph.node) > MAX_NODES:
        raise ModelFileError(
            file, "graph", found=f"{len(graph.node)} nodes", expected=f"1 to {MAX_NODES}"
        )
    if graph.sparse_initializer:
        raise ModelFileError(
            file, "graph", found="sparse weights", expected="weights as ordinary tensors"
        )
    opset = next((each.version for each in model.opset_import if each.domain in _DOMAINS), 0)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise ModelFileError(
            file,
            "opset",
            found=f"{opset}",
            expected=f"{OLDEST_OPSET} to {newest}",
            hint="a newer onnx package reads newer opsets" if opset > newest else "",
        )
    return graph, int(opset)


def _input_shape(value: Any, file: Path) -> tuple[Shape, bool]:
    """(C, H, W), and whether the file knows features only."""
    field = f"input {text_of(value.name)!r}"
    tensor = value.type.tensor_type
    sides = [side.dim_value if side.HasField("dim_value") else None for side in tensor.shape.dim]
    told = "(" + ", ".join("?" if side is None else str(side) for side in sides) + ")"
    if tensor.elem_type != 1:
        raise ModelFileError(
            file, field, found=f"element type {tensor.elem_type}", expected="float32 (1)"
        )
    if len(sides) not in (2, 4):
        raise ModelFileError(
            file, field, found=f"shape {told}", expected="(N, C, H, W) or (N, features)"
        )
    if sides[0] not in (None, 1):
        raise ModelFileError(
            file, field, found=f"{sides[0]} images at once", expected="a symbolic batch, or 1"
        )
    fixed = [side for side in sides[1:] if side is not None and side > 0]
    if len(fixed) != len(sides) - 1:
        raise ModelFileError(
            file,
            field,
            found=f"shape {told}",
            expected="fixed channels, rows and columns",
            hint="export with a fixed image size",
        )
    if len(fixed) == 1:
        return (fixed[0], 1, 1), True
    return (fixed[0], fixed[1], fixed[2]), False


def _needed(
    graph: Any, source: str, output: str, file: Path, opset: int, constants: dict[str, Array]
) -> list[Node]:
    """The nodes that the output depends on, in the file's order."""
    nodes = [Node(proto, opset, constants) for proto in graph.node]
    writers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for tensor in filter(None, node.outputs):
            if tensor in writers or tensor in constants or tensor == source:
                raise ModelFileError(
                    file, node.label, found=f"{tensor!r} written twice", expected="once"
                )
            writers[tensor] = index
    needed: set[int] = set()
    pending = [output]
    while pending:
        writer = writers.get(pending.pop())
        if writer is not None and writer not in needed:
            needed.add(writer)
            pending.extend(nodes[writer].inputs)
    return [nodes[index] for index in sorted(needed)]


def _told(file: Path, field: str, error: RefusedError) -> ModelFileError:
    return ModelFileError(file, field, found=error.found, expected=error.expected, hint=error.hint)
