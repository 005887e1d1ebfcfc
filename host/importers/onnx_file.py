"""Read an ONNX file, float or quantized (extra `onnx`), into the float model.

What is read, and what is refused, is in docs/models.md. The file is taken as hostile: it is
bounded, weights are read from its own folder only, and every complaint of the protocol buffer
reader becomes an error that names the file.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from bacmac.host.arith.network import Shape
from bacmac.host.errors import MissingExtraError, ModelFileError
from bacmac.host.importers.arrays import MAX_FILE_BYTES, read_bounded
from bacmac.host.importers.lowering import Lowering, RefusedError
from bacmac.host.importers.onnx_constants import Budget, compute, is_constant
from bacmac.host.importers.onnx_data import StoredOutside, array_of, text_of
from bacmac.host.importers.onnx_graph import (
    MAX_NODES,
    SOFTMAX,
    GraphError,
    ordered_nodes,
    without_softmax,
)
from bacmac.host.importers.onnx_node import ONNX_DOMAINS, Node
from bacmac.host.importers.onnx_ops import lower_node
from bacmac.host.importers.onnx_shapes import reads_channels_last
from bacmac.host.importers.onnx_tensors import Tensors
from bacmac.host.model.layers import Model

OLDEST_OPSET = 7


def load_onnx(path: str | Path) -> Model:
    """The model of an ONNX file; integers that the file holds are kept, a Softmax is left out.

    Raises:
        ModelFileError: naming the file and the node, tensor or field at fault.
        MissingExtraError: the extra `onnx` is not installed.
    """
    file = Path(path)
    data = read_bounded(file, ModelFileError, "an ONNX model")
    model, opset = _parse(data, file)
    inputs, outputs = list(model.graph.input), list(model.graph.output)
    stored = StoredOutside(file.parent, MAX_FILE_BYTES)
    tensors = Tensors({})
    for proto in model.graph.initializer:
        name = text_of(proto.name)
        try:
            tensors.constants[name] = array_of(proto, stored)
        except RefusedError as error:
            raise _told(file, "initializer", error) from error
    inputs = [each for each in inputs if text_of(each.name) not in tensors.constants]
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelFileError(
            file,
            "graph",
            found=f"{len(inputs)} inputs and {len(outputs)} outputs",
            expected="one of each",
        )
    sides = _input_sides(inputs[0], file)
    source, output = text_of(inputs[0].name), text_of(outputs[0].name)
    try:
        nodes = ordered_nodes(model, opset, source, output, tensors)
    except GraphError as error:
        raise _told(file, error.label, error.reason) from error
    nodes, output = without_softmax(nodes, output)
    uses = Counter(tensor for node in nodes for tensor in node.read)
    uses[output] += 1

    try:
        lowering = _begun(source, sides, uses, nodes, tensors)
    except RefusedError as error:
        raise _told(file, f"input {source!r}", error) from error
    budget = Budget(len(data))
    for node in nodes:
        try:
            _read_node(node, lowering, budget, output)
        except RefusedError as error:
            raise _told(file, node.label, error) from error
    if output in tensors.channels_last and not lowering.is_flat(output):
        lowering.note("the file gives its output with channels last; here they come first")
    try:
        digest = hashlib.sha256(data).hexdigest()
        return lowering.finish(output, name=file.stem, source=str(path), sha256=digest)
    except RefusedError as error:
        raise _told(file, f"output {output!r}", error) from error


def _begun(
    source: str, sides: tuple[int, ...], uses: Counter[str], nodes: list[Node], tensors: Tensors
) -> Lowering:
    """The lowering with its input: features, or an image whose channels may come last."""
    if len(sides) == 1:
        return Lowering(source, (sides[0], 1, 1), uses, flat=True)
    shape: Shape = (sides[0], sides[1], sides[2])
    last = reads_channels_last(source, nodes)
    if last:
        shape = (sides[2], sides[0], sides[1])
        tensors.channels_last.add(source)
    lowering = Lowering(source, shape, uses)
    if last:
        lowering.note("the file takes images with channels last; here they come first, as ever")
    return lowering


def _read_node(node: Node, lowering: Lowering, budget: Budget, output: str) -> None:
    node.check_domain()
    if is_constant(node):
        node.tensors.constants[node.output] = compute(node, lowering, budget)
        node.refuse_rest()
        return
    if node.op in SOFTMAX and node.output != output:
        raise RefusedError(f"{node.op} inside the network", f"{node.op} as the last node only")
    lower_node(node, lowering)


def _parse(data: bytes, file: Path) -> tuple[Any, int]:
    """The model and its opset."""
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
    opset = next((each.version for each in model.opset_import if each.domain in ONNX_DOMAINS), 0)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise ModelFileError(
            file,
            "opset",
            found=f"{opset}",
            expected=f"{OLDEST_OPSET} to {newest}",
            hint="a newer onnx package reads newer opsets" if opset > newest else "",
        )
    return model, int(opset)


def _input_sides(value: Any, file: Path) -> tuple[int, ...]:
    """The sides of one image as the file has them: three, or the number of features."""
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
    return tuple(fixed)


def _told(file: Path, field: str, error: RefusedError) -> ModelFileError:
    return ModelFileError(file, field, found=error.found, expected=error.expected, hint=error.hint)
