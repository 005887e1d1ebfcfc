"""The nodes of an ONNX graph that the output depends on, in an order that can be executed.

Functions of the model (FunctionProto, as the newer PyTorch exporter may leave them behind) are put
in place of their calls; nodes that do the same to the same tensors are one node, so that a tensor
that is quantized once for each of its readers is quantized once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bacmac.host.importers.lowering import RefusedError
from bacmac.host.importers.onnx_data import text_of
from bacmac.host.importers.onnx_node import ONNX_DOMAINS, Node
from bacmac.host.importers.onnx_tensors import Array, Tensors

MAX_NODES = 20_000
MAX_DEPTH = 16
_SAME_BYTES = 4096
"""Attributes and constants up to this size are compared: scales and shapes, not weights."""
_AFTER_SOFTMAX = (
    "DequantizeLinear",
    "Flatten",
    "Identity",
    "QuantizeLinear",
    "Quant",
    "Reshape",
    "Squeeze",
)
SOFTMAX = ("Softmax", "LogSoftmax", "QLinearSoftmax")

_Functions = Mapping[tuple[str, str, str], Any]


class GraphError(Exception):
    """A graph that cannot be put in order: the node's label, and what is wrong with it."""

    def __init__(self, label: str, reason: RefusedError) -> None:
        super().__init__(label, reason)
        self.label = label
        self.reason = reason


def ordered_nodes(model: Any, opset: int, source: str, output: str, tensors: Tensors) -> list[Node]:
    """The nodes that `output` depends on, each after those whose tensors it reads.

    Raises:
        GraphError: a tensor written twice, a cycle, too many nodes, or a function that calls
            itself.
    """
    functions = {
        (text_of(each.domain), text_of(each.name), text_of(getattr(each, "overload", ""))): each
        for each in model.functions
    }
    nodes: list[Node] = []
    steps = _inlined(model.graph.node, opset, tensors, functions, {}, None, ())
    for count, node in enumerate(steps):
        if count >= MAX_NODES:
            told = RefusedError(f"more than {MAX_NODES} nodes", f"at most {MAX_NODES}")
            raise GraphError("graph", told)
        if node is not None:
            nodes.append(node)
    writers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for tensor in filter(None, node.outputs):
            if tensor in writers or tensor in tensors.constants or tensor == source:
                raise GraphError(node.label, RefusedError(f"{tensor!r} written twice", "once"))
            writers[tensor] = index
    ordered = _sorted(nodes, writers, output)
    for node in ordered:
        weight, depth = node.weight_input, 0
        while weight in writers and nodes[writers[weight]].inputs and depth < MAX_DEPTH:
            weight, depth = nodes[writers[weight]].inputs[0], depth + 1
        if weight != node.weight_input and weight in tensors.constants:
            node.name_by(weight)
    return _without_twins(ordered, tensors.constants, output)


def without_softmax(nodes: Sequence[Node], output: str) -> tuple[list[Node], str]:
    """The nodes up to a Softmax, where nothing but rounding and reshaping follows it.

    Returns the nodes and the name of their output; the same ones where there is no Softmax.
    """
    writers = {tensor: node for node in nodes for tensor in node.outputs}
    dropped: set[int] = set()
    tensor = output
    while tensor in writers and writers[tensor].op in _AFTER_SOFTMAX:
        dropped.add(id(writers[tensor]))
        tensor = writers[tensor].inputs[0] if writers[tensor].inputs else ""
    if tensor not in writers or writers[tensor].op not in SOFTMAX:
        return list(nodes), output
    return [node for node in nodes if id(node) not in dropped], tensor


def _inlined(
    protos: Any,
    opset: int,
    tensors: Tensors,
    functions: _Functions,
    names: Mapping[str, str],
    given: Mapping[str, Any] | None,
    path: tuple[str, ...],
) -> Iterator[Node | None]:
    """Nodes with functions in place of their calls, and None for each call, so that it counts.

    `names` gives the names outside of a function for those inside it, `given` the attributes of the
    call (None outside of any function), `path` the calls that led here.
    """
    for number, proto in enumerate(protos):
        attributes = None if given is None else _resolved(proto, given)
        node = Node(proto, opset, tensors, names=names, attributes=attributes)
        key = (node.domain, node.op, text_of(getattr(proto, "overload", "")))
        function = functions.get(key)
        if function is None:
            yield node
            continue
        if len(path) >= MAX_DEPTH:
            reason = RefusedError(f"functions {MAX_DEPTH} deep, or without an end", "fewer")
            raise GraphError(node.label, reason)
        yield None
        inside = (*path, f"{node.op}.{number}")
        yield from _inlined(
            function.node,
            _opset_of(function, opset),
            tensors,
            functions,
            _bound(function, node, "/".join(inside)),
            {text_of(a.name): a for a in getattr(function, "attribute_proto", ())}
            | node.attributes,
            inside,
        )


def _bound(function: Any, call: Node, prefix: str) -> dict[str, str]:
    """Every name inside a function to the one it has outside."""
    names: dict[str, str] = {}
    for proto in function.node:
        for name in (*proto.input, *proto.output):
            if name:
                names[text_of(name)] = f"{prefix}/{text_of(name)}"
    formal = [text_of(name) for name in function.input]
    names |= dict.fromkeys(formal, "")
    names |= dict(zip(formal, call.inputs, strict=False))
    names |= dict(zip((text_of(name) for name in function.output), call.outputs, strict=False))
    return names


def _resolved(proto: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """A node's attributes, those that refer to an attribute of the call being the call's."""
    resolved = {}
    for attribute in proto.attribute:
        reference = text_of(attribute.ref_attr_name)
        if not reference:
            resolved[text_of(attribute.name)] = attribute
        elif reference in given:
            resolved[text_of(attribute.name)] = given[reference]
    return resolved


def _opset_of(function: Any, opset: int) -> int:
    own = [each.version for each in function.opset_import if each.domain in ONNX_DOMAINS]
    return int(own[0]) if own else opset


def _sorted(nodes: Sequence[Node], writers: Mapping[str, int], output: str) -> list[Node]:
    """The needed nodes, in the file's order wherever that can be executed."""
    needed: set[int] = set()
    pending = [output]
    while pending:
        writer = writers.get(pending.pop())
        if writer is not None and writer not in needed:
            needed.add(writer)
            pending.extend(nodes[writer].inputs)
    waits: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    for index in needed:
        before = {writers[tensor] for tensor in nodes[index].inputs if tensor in writers}
        waits[index] = len(before)
        for writer in before:
            readers.setdefault(writer, []).append(index)
    ready = [index for index, count in waits.items() if count == 0]
    heapq.heapify(ready)
    ordered = []
    while ready:
        index = heapq.heappop(ready)
        ordered.append(nodes[index])
        for reader in readers.get(index, ()):
            waits[reader] -= 1
            if waits[reader] == 0:
                heapq.heappush(ready, reader)
    if len(ordered) < len(needed):
        stuck = min(index for index, count in waits.items() if count)
        reason = RefusedError("a cycle: it waits for its own output", "a graph without cycles")
        raise GraphError(nodes[stuck].label, reason)
    return ordered


def _without_twins(
    nodes: Sequence[Node], constants: Mapping[str, Array], output: str
) -> list[Node]:
    """The nodes less those that do again what another one has done."""
    first_constant: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    same: dict[str, str] = {}
    for name, values in constants.items():
        if values.nbytes <= _SAME_BYTES:
            content = (str(values.dtype), values.shape, values.tobytes())
            same[name] = first_constant.setdefault(content, name)
    first_node: dict[tuple[Any, ...], Node] = {}
    kept = []
    for node in nodes:
        node.inputs = [same.get(name, name) for name in node.inputs]
        key = _doing(node)
        twin = first_node.setdefault(key, node) if key is not None else node
        if twin is node or output in node.outputs or len(twin.outputs) < len(node.outputs):
            kept.append(node)
        else:
            same |= dict(zip(node.outputs, twin.outputs, strict=False))
    return kept


def _doing(node: Node) -> tuple[Any, ...] | None:
    """What a node computes from what, or None where that is too long to compare."""
    attributes = sorted(node.attributes.items())
    if sum(proto.ByteSize() for _, proto in attributes) > _SAME_BYTES:
        return None
    told = tuple((name, proto.SerializeToString(deterministic=True)) for name, proto in attributes)
    return node.domain, node.op, node.opset, tuple(node.inputs), told
