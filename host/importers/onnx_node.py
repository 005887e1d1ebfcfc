"""One node of an ONNX graph, with its attributes, constants and a name for people.

Protocol buffer objects come in as `Any`: the package `onnx` is optional and is only imported
where a file is read.
"""

from __future__ import annotations

import math
import re
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bacmac.host.importers.lowering import Floats, Lowering, RefusedError
from bacmac.host.importers.onnx_data import array_of, text_of
from bacmac.host.importers.onnx_tensors import Array, Tensors, is_integer
from bacmac.host.model.layers import KeptWeights

ONNX_DOMAINS = ("", "ai.onnx")
_QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
_ONNXRUNTIME = "com.microsoft"
_DOMAINS = {
    **dict.fromkeys(("BipolarQuant", "IntQuant", "Quant", "Trunc"), _QONNX_DOMAINS),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), (*ONNX_DOMAINS, _ONNXRUNTIME)),
    **dict.fromkeys(
        (
            "QGemm",
            "QLinearAdd",
            "QLinearAveragePool",
            "QLinearGlobalAveragePool",
            "QLinearSoftmax",
        ),
        (_ONNXRUNTIME,),
    ),
}
"""Of the operators that are not in ONNX's own domain, or not only there."""

# AttributeProto.AttributeType of onnx.proto
_FLOAT, _INT, _STRING, _TENSOR, _FLOATS, _INTS = 1, 2, 3, 4, 6, 7
_WEIGHTED = ("Conv", "Gemm", "MatMul", "BatchNormalization")
_QUANTIZED_WEIGHT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}  # the weight's input
_QUANTIZED_NAME = re.compile(r"_(DequantizeLinear_Output|quantized)$|^ConvBnFusion_W_")
"""What onnxruntime puts around a weight's name."""
_WEIGHT_ENDINGS = (".weight", "_weight", "/weight", ".kernel", "/kernel")


class Node:
    """A node as its handler reads it.

    Attributes are taken out as they are read; `refuse_rest` then refuses what nobody read, so
    that no attribute is overlooked.
    """

    def __init__(
        self,
        proto: Any,
        opset: int,
        tensors: Tensors,
        *,
        names: Mapping[str, str] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Args: `names` and `attributes` replace the node's own (of a node inside a function)."""
        renamed = names or {}
        self.op = text_of(proto.op_type)
        self.domain = text_of(proto.domain)
        self.inputs = [renamed.get(text_of(name), text_of(name)) for name in proto.input]
        self.outputs = [renamed.get(text_of(name), text_of(name)) for name in proto.output]
        name = text_of(proto.name)
        self.opset = opset
        self._title = name
        self.name = readable_name(self.op, name, self.inputs, self.outputs)
        self.label = f"node {name or next(iter(self.outputs), '')!r} ({self.op})"
        self.tensors = tensors
        if attributes is None:
            attributes = {text_of(attribute.name): attribute for attribute in proto.attribute}
        self.attributes = dict(attributes)
        self._left = dict(attributes)

    def reading(self, values: Array) -> Node:
        """The same node with another constant as its first input, its attributes unread."""
        copy = object.__new__(Node)
        copy.__dict__.update(self.__dict__)
        constants = ChainMap({self.x: values}, self.tensors.constants)
        copy.tensors = replace(self.tensors, constants=constants)
        copy._left = dict(self.attributes)
        return copy

    @property
    def read(self) -> list[str]:
        """The inputs whose values are read, and not only their shape or type."""
        if self.op == "Shape":
            return []
        return self.inputs[:1] if self.op == "CastLike" else self.inputs

    @property
    def weight_input(self) -> str:
        """The tensor that holds the weight, "" for an operator without one."""
        place = _weight_place(self.op)
        return self.inputs[place] if 0 < place < len(self.inputs) else ""

    def name_by(self, weight: str) -> None:
        """Take the name for people from a weight that steps of the graph change on its way."""
        inputs = list(self.inputs)
        inputs[_weight_place(self.op)] = weight
        self.name = readable_name(self.op, self._title, inputs, self.outputs)

    def check_domain(self) -> None:
        """Refuse an operator of another project that only has the name of a known one."""
        known = _DOMAINS.get(self.op, ONNX_DOMAINS)
        if self.domain not in known:
            told = ", ".join(repr(domain) for domain in known if domain)
            hint = "" if self.op in _DOMAINS else "export with operators of ONNX itself"
            raise RefusedError(f"an op of domain {self.domain!r}", told, hint)

    @property
    def x(self) -> str:
        """The tensor that the first input names."""
        return self.inputs[0] if self.inputs else ""

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0] if self.outputs else ""

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.inputs) and self.inputs[index] != ""

    def is_constant(self, index: int) -> bool:
        """Whether an input is there and does not depend on the image."""
        return self.has(index) and self.inputs[index] in self.tensors.constants

    def constant(self, index: int) -> Array | None:
        """A constant input, or None where it is left out."""
        if not self.has(index):
            return None
        if not self.is_constant(index):
            raise RefusedError(
                f"input {index} ({self.inputs[index]!r}) computed from the image", "a constant"
            )
        return self.tensors.constants[self.inputs[index]]

    def weight(self, index: int) -> Floats:
        """A constant input as finite float32."""
        values = self.constant(index)
        if values is None:
            raise RefusedError(f"no input {index}", "a constant")
        return finite_float32(values, f"weight {self.inputs[index]!r}")

    def arranged_weight(
        self, index: int, lowering: Lowering, arrange: Callable[[Array], Array]
    ) -> tuple[Floats, KeptWeights | None]:
        """A constant input as finite float32, and its integers where the file has them.

        `arrange` puts the output channels first.
        """
        held = self.tensors.integers.get(self.inputs[index]) if self.has(index) else None
        if held is not None and held.levels.ndim:
            try:
                kept = held.moved(arrange).by_channel()
            except RefusedError as error:
                lowering.note(f"{self.name}: {error.found}: its weights are read as floats")
            else:
                return kept.weight, kept
        return arrange(self.weight(index)), None

    def integers(self, index: int) -> tuple[int, ...] | None:
        """A constant input of integers, flattened."""
        values = self.constant(index)
        if values is None:
            return None
        if values.dtype.kind not in "iu" or values.size > 64:
            raise RefusedError(f"input {index} of {values.dtype} {values.shape}", "a few integers")
        return tuple(int(value) for value in values.ravel())

    def scalar(self, index: int, usual: float) -> float:
        """A constant input of one number."""
        value = self.constant(index)
        if value is None:
            return usual
        if value.size != 1 or not (value.dtype.kind == "f" or is_integer(value.dtype)):
            raise RefusedError(f"input {index} of {value.dtype} {value.shape}", "one number")
        number = float(value.ravel()[0])
        if math.isnan(number):
            raise RefusedError(f"input {index}, NaN", "a number")
        return number

    def ints(self, name: str, usual: tuple[int, ...] | None = None) -> tuple[int, ...] | None:
        """An attribute of integers."""
        proto = self._taken(name, _INTS)
        return usual if proto is None else tuple(int(value) for value in proto.ints)

    def integer(self, name: str, usual: int) -> int:
        """An integer attribute."""
        proto = self._taken(name, _INT)
        return usual if proto is None else int(proto.i)

    def number(self, name: str, usual: float) -> float:
        """A float attribute."""
        proto = self._taken(name, _FLOAT)
        return usual if proto is None else float(proto.f)

    def floats(self, name: str) -> tuple[float, ...] | None:
        """An attribute of floats."""
        proto = self._taken(name, _FLOATS)
        return None if proto is None else tuple(float(value) for value in proto.floats)

    def text(self, name: str, usual: str) -> str:
        """A text attribute."""
        proto = self._taken(name, _STRING)
        return usual if proto is None else bytes(proto.s).decode("utf-8", "replace")

    def tensor(self, name: str) -> Array | None:
        """A tensor attribute."""
        proto = self._taken(name, _TENSOR)
        return None if proto is None else array_of(proto.t)

    def ignore(self, *names: str) -> None:
        """Attributes that mean nothing at inference."""
        for name in names:
            self._left.pop(name, None)

    def refuse_rest(self) -> None:
        """Refuse attributes that were not read: nothing is dropped silently."""
        if self._left:
            raise RefusedError(
                f"attribute {next(iter(self._left))!r}", f"attributes of {self.op} that are read"
            )

    def _taken(self, name: str, kind: int) -> Any:
        proto = self._left.pop(name, None)
        if proto is not None and proto.type != kind:
            raise RefusedError(f"attribute {name!r} of type {proto.type}", f"type {kind}")
        return proto


def finite_float32(values: Array, what: str) -> Floats:
    """Floats of any width as float32.

    Raises:
        RefusedError: other types, NaN, infinity, or values beyond float32.
    """
    if values.dtype.kind != "f":
        raise RefusedError(f"{what} of type {values.dtype}", "float32, float16 or double")
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise RefusedError(f"{what} with NaN or infinity", "finite values")
    return narrow


def readable_name(op: str, name: str, inputs: list[str], outputs: list[str]) -> str:
    """A short name for tables: `layer1.0.conv1` for a node or a weight of that module.

    >>> readable_name("Conv", "/layer1/layer1.0/conv1/Conv", ["x", "onnx::Conv_7"], ["y"])
    'layer1.0.conv1'
    """
    place = _weight_place(op)
    weight = inputs[place] if 0 < place < len(inputs) else ""
    weight = _QUANTIZED_NAME.sub("", weight)
    for ending in _WEIGHT_ENDINGS:
        if weight.endswith(ending) and len(weight) > len(ending):
            return ".".join(_path(weight.removesuffix(ending)))
    parts = _path(name or next(iter(outputs), "") or op)
    if op not in _WEIGHTED:
        return ".".join([*parts[:-1], parts[-1].lower()])
    if len(parts) > 1 and re.fullmatch(rf"{re.escape(op)}(_\d+)?", parts[-1]):
        parts = parts[:-1]
    return ".".join(parts)


def _weight_place(op: str) -> int:
    """Which input of an operator is its weight, 0 where it has none."""
    return _QUANTIZED_WEIGHT.get(op, int(op in _WEIGHTED))


def _path(name: str) -> list[str]:
    """Parts of a path without the ones that the next part repeats: torch's layer1/layer1.0."""
    parts = [part for part in name.split("/") if part] or ["layer"]
    return [
        part
        for part, after in zip(parts, [*parts[1:], ""], strict=True)
        if not after.startswith(part + ".")
    ]
