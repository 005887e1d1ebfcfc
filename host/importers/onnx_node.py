"""One node of an ONNX graph, with its attributes, constants and a name for people.

Protocol buffer objects come in as `Any`: the package `onnx` is optional and is only imported
where a file is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.importers.lowering import Floats, RefusedError

Array = npt.NDArray[Any]

# AttributeProto.AttributeType of onnx.proto
_FLOAT, _INT, _STRING, _TENSOR, _FLOATS, _INTS = 1, 2, 3, 4, 6, 7
_WEIGHTED = ("Conv", "Gemm", "MatMul", "BatchNormalization")
_WEIGHT_ENDINGS = (".weight", "_weight", "/weight", ".kernel", "/kernel")


class Node:
    """A node as its handler reads it.

    Attributes are taken out as they are read; `refuse_rest` then refuses what nobody read, so
    that no attribute is overlooked.
    """

    def __init__(self, proto: Any, opset: int, constants: Mapping[str, Array]) -> None:
        self.op = text_of(proto.op_type)
        self.domain = text_of(proto.domain)
        self.inputs = [text_of(tensor) for tensor in proto.input]
        self.outputs = [text_of(tensor) for tensor in proto.output]
        name = text_of(proto.name)
        self.opset = opset
        self.name = readable_name(self.op, name, self.inputs, self.outputs)
        self.label = f"node {name or next(iter(self.outputs), '')!r} ({self.op})"
        self._constants = constants
        self._protos = {text_of(attribute.name): attribute for attribute in proto.attribute}

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
        return self.has(index) and self.inputs[index] in self._constants

    def constant(self, index: int) -> Array | None:
        """A constant input, or None where it is left out."""
        if not self.has(index):
            return None
        if not self.is_constant(index):
            raise RefusedError(
                f"input {index} ({self.inputs[index]!r}) computed from the image", "a constant"
            )
        return self._constants[self.inputs[index]]

    def weight(self, index: int) -> Floats:
        """A constant input as finite float32."""
        values = self.constant(index)
        if values is None:
            raise RefusedError(f"no input {index}", "a constant")
        return finite_float32(values, f"weight {self.inputs[index]!r}")

    def integers(self, index: int) -> tuple[int, ...] | None:
        """A constant input of integers, flattened."""
        values = self.constant(index)
        if values is None:
            return None
        if values.dtype.kind not in "iu" or values.size > 64:
            raise RefusedError(f"input {index} of {values.dtype} {values.shape}", "a few integers")
        return tuple(int(value) for value in values.ravel())

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
            self._protos.pop(name, None)

    def refuse_rest(self) -> None:
        """Refuse attributes that were not read: nothing is dropped silently."""
        if self._protos:
            raise RefusedError(
                f"attribute {next(iter(self._protos))!r}", f"attributes of {self.op} that are read"
            )

    def _taken(self, name: str, kind: int) -> Any:
        proto = self._protos.pop(name, None)
        if proto is not None and proto.type != kind:
            raise RefusedError(f"attribute {name!r} of type {proto.type}", f"type {kind}")
        return proto


def text_of(value: str | bytes) -> str:
    """A text field of a protocol buffer, which comes as bytes where it is not UTF-8."""
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def array_of(tensor: Any) -> Array:
    """A TensorProto as an array.

    Raises:
        RefusedError: stored outside the file, or its parts do not agree.
    """
    from onnx import numpy_helper

    name = f"tensor {text_of(tensor.name)!r}"
    if tensor.data_location == 1 or tensor.external_data:
        raise RefusedError(f"{name} stored outside the file", "weights inside the file")
    if any(side < 0 for side in tensor.dims) or len(tensor.dims) > 16:
        raise RefusedError(f"{name} of dimensions {list(tensor.dims)[:16]}", "sizes from 0")
    try:
        values: Array = np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, NotImplementedError, OverflowError) as error:
        raise RefusedError(f"{name}, damaged ({error})", "data that fill its shape") from error
    return values


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
    weight = inputs[1] if op in _WEIGHTED and len(inputs) > 1 else ""
    for ending in _WEIGHT_ENDINGS:
        if weight.endswith(ending) and len(weight) > len(ending):
            return ".".join(_path(weight.removesuffix(ending)))
    parts = _path(name or next(iter(outputs), "") or op)
    if op not in _WEIGHTED:
        return ".".join([*parts[:-1], parts[-1].lower()])
    if len(parts) > 1 and re.fullmatch(rf"{re.escape(op)}(_\d+)?", parts[-1]):
        parts = parts[:-1]
    return ".".join(parts)


def _path(name: str) -> list[str]:
    """Parts of a path without the ones that the next part repeats: torch's layer1/layer1.0."""
    parts = [part for part in name.split("/") if part] or ["layer"]
    return [
        part
        for part, after in zip(parts, [*parts[1:], ""], strict=True)
        if not after.startswith(part + ".")
    ]
