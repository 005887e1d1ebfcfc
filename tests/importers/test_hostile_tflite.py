"""TFLite files that are damaged, hostile or beyond the tool are refused in one line."""

from __future__ import annotations

import copy
import itertools
import math
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacmac.host.errors import BacmacError, ModelFileError
from bacmac.host.importers.tflite_model import load_tflite
from bacmac.host.importers.tflite_reference import run
from bacmac.host.model.forward import forward
from bacmac.host.model.layers import Pool

NETS = Path(__file__).parent / "tflite"
SMALL = [path.read_bytes() for path in sorted(NETS.glob("*.tflite"))]
MEMORY_BYTES = 300 << 20

FLOAT32, INT32, UINT8, INT64, INT16, INT8 = 0, 2, 3, 4, 7, 9
ADD, AVERAGE, CONCATENATION, CONV, DEPTHWISE, DEQUANTIZE, DENSE = 0, 1, 2, 3, 4, 6, 9
RELU, RESHAPE, SOFTMAX, CUSTOM, PAD, TRANSPOSE, MEAN, SLICE = 19, 22, 25, 32, 34, 39, 40, 45
MUL, MAX_POOL, QUANTIZE, HARD_SWISH, SHAPE, PACK, PADV2 = 18, 17, 114, 117, 77, 83, 60
OPTIONS = {CONV: 1, DEPTHWISE: 2, AVERAGE: 5, MAX_POOL: 5, DENSE: 8, ADD: 11, MUL: 21, MEAN: 27}


# --- a writer of FlatBuffers, enough for this schema -------------------------------------------


@dataclass(frozen=True)
class Number:
    """A scalar field: its `struct` letter and value."""

    kind: str
    value: int | float


def encode(fields: dict[int, Any], identifier: bytes = b"TFL3") -> bytes:
    """A FlatBuffer with this root table; values are Number, str, arrays, dicts, lists of dicts."""
    buffer = bytearray(struct.pack("<I", 0) + identifier)
    struct.pack_into("<I", buffer, 0, _table(buffer, fields))
    return bytes(buffer)


def _table(buffer: bytearray, fields: dict[int, Any]) -> int:
    present = {number: value for number, value in fields.items() if value is not None}
    places, size = {}, 4
    for number, value in sorted(present.items()):
        places[number] = size
        size += struct.calcsize(value.kind) if isinstance(value, Number) else 4
    count = max(present, default=-1) + 1
    vtable = len(buffer)
    buffer += struct.pack("<HH", 4 + 2 * count, size)
    buffer += struct.pack(f"<{count}H", *(places.get(number, 0) for number in range(count)))
    table = len(buffer)
    buffer += struct.pack("<i", table - vtable) + bytes(size - 4)
    for number, value in present.items():
        place = table + places[number]
        if isinstance(value, Number):
            struct.pack_into("<" + value.kind, buffer, place, value.value)
        else:
            struct.pack_into("<I", buffer, place, _child(buffer, value) - place)
    return table


def _child(buffer: bytearray, value: Any) -> int:
    if isinstance(value, dict):
        return _table(buffer, value)
    start = len(buffer)
    if isinstance(value, list):
        buffer += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for index, each in enumerate(value):
            place = start + 4 + 4 * index
            struct.pack_into("<I", buffer, place, _table(buffer, each) - place)
        return start
    raw = value.encode() if isinstance(value, str) else value.tobytes()
    length = len(raw) if isinstance(value, str) else len(value)
    buffer += struct.pack("<I", length) + raw
    return start


# --- a small network that is good, to be changed in one place ----------------------------------


@dataclass
class Tensor:
    shape: tuple[int, ...]
    type: int = INT8
    scale: tuple[float, ...] = (0.1,)
    zero: tuple[int, ...] = (0,)
    axis: int = 0
    data: bytes | None = None
    buffer: int | None = None
    more: dict[int, Any] = field(default_factory=dict)
    quantization: dict[int, Any] = field(default_factory=dict)


@dataclass
class Op:
    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[int, Any] | None = None
    options_type: int | None = None


@dataclass
class Net:
    tensors: list[Tensor]
    ops: list[Op]
    inputs: tuple[int, ...] = (0,)
    outputs: tuple[int, ...] = (7,)
    version: int = 3
    n_graphs: int = 1
    codes: list[dict[int, Any]] | None = None
    buffers: list[dict[int, Any]] = field(default_factory=list)
    identifier: bytes = b"TFL3"

    def encoded(self) -> bytes:
        buffers: list[dict[int, Any]] = [{}]
        tensors = []
        for index, tensor in enumerate(self.tensors):
            number = tensor.buffer or 0
            if tensor.data is not None and tensor.buffer is None:
                buffers.append({0: np.frombuffer(tensor.data, "u1")})
                number = len(buffers) - 1
            quantized = {
                2: np.array(tensor.scale, "<f4"),
                3: np.array(tensor.zero, "<i8"),
                6: Number("i", tensor.axis),
                **tensor.quantization,
            }
            tensors.append(
                {
                    0: np.array(tensor.shape, "<i4"),
                    1: Number("b", tensor.type),
                    2: Number("I", number),
                    3: f"t{index}",
                    4: quantized if tensor.scale or tensor.quantization else None,
                    **tensor.more,
                }
            )
        used = sorted({op.code for op in self.ops})
        codes = [{0: Number("b", min(code, 127)), 3: Number("i", code)} for code in used]
        operators = [
            {
                0: Number("I", used.index(op.code)),
                1: np.array(op.inputs, "<i4"),
                2: np.array(op.outputs, "<i4"),
                3: Number(
                    "B", OPTIONS.get(op.code, 0) if op.options_type is None else op.options_type
                ),
                4: op.options,
            }
            for op in self.ops
        ]
        graph = {
            0: tensors,
            1: np.array(self.inputs, "<i4"),
            2: np.array(self.outputs, "<i4"),
            3: operators,
        }
        model = {
            0: Number("I", self.version),
            1: codes if self.codes is None else self.codes,
            2: [graph] * self.n_graphs,
            4: buffers + self.buffers,
        }
        return encode(model, self.identifier)


def ints(*values: int) -> bytes:
    return np.array(values, "<i4").tobytes()


def good() -> Net:
    """Image (1, 6, 6, 2), a 3x3 convolution, an average, a dense layer."""
    return Net(
        [
            Tensor((1, 6, 6, 2), FLOAT32, scale=()),
            Tensor((1, 6, 6, 2), zero=(3,)),
            Tensor((3, 3, 3, 2), scale=(0.1, 0.2, 0.3), zero=(0, 0, 0), data=bytes(range(54))),
            Tensor((3,), INT32, scale=(), data=ints(1, 2, 3)),
            Tensor((1, 6, 6, 3), zero=(-128,)),
            Tensor((1, 2, 2, 3), zero=(-128,)),
            Tensor((4, 12), data=bytes(48)),
            Tensor((1, 4)),
        ],
        [
            Op(QUANTIZE, (0,), (1,)),
            Op(CONV, (1, 2, 3), (4,), {1: Number("i", 1), 2: Number("i", 1), 3: Number("b", 1)}),
            Op(
                AVERAGE,
                (4,),
                (5,),
                {0: Number("b", 1), **{each: Number("i", 3) for each in (1, 2, 3, 4)}},
            ),
            Op(DENSE, (5, 6, -1), (7,), {0: Number("b", 0)}),
        ],
    )


def changed(change: Callable[[Net], object]) -> bytes:
    net = good()
    change(net)
    return net.encoded()


def tensor(index: int, **values: Any) -> bytes:
    """The good network with fields of one tensor changed."""
    return changed(lambda net: [setattr(net.tensors[index], k, v) for k, v in values.items()])


def op(index: int, **values: Any) -> bytes:
    """The good network with fields of one operator changed."""
    return changed(lambda net: [setattr(net.ops[index], k, v) for k, v in values.items()])


def option(index: int, number: int, value: Number) -> bytes:
    return changed(lambda net: net.ops[index].options.update({number: value}))  # type: ignore[union-attr]


def then(
    code: int,
    *constants: Tensor,
    options: dict[int, Any] | None = None,
    shape: tuple[int, ...] = (1, 6, 6, 3),
) -> bytes:
    """The good network with an operator between the convolution and the average."""

    def change(net: Net) -> None:
        first = len(net.tensors)
        net.tensors.extend(constants)
        net.tensors.append(Tensor(shape, zero=(-128,)))
        inputs = (4, *range(first, first + len(constants)))
        net.ops.insert(2, Op(code, inputs, (len(net.tensors) - 1,), options))
        net.ops[3].inputs = (len(net.tensors) - 1,)

    return changed(change)


def constant(shape: tuple[int, ...], *values: int) -> Tensor:
    return Tensor(shape, INT32, scale=(), data=ints(*values))


def patched(position: int, kind: str, value: int) -> bytes:
    """The good network with a number written over; negative positions are the root table's."""
    data = bytearray(good().encoded())
    struct.pack_into("<" + kind, data, position, value)
    return bytes(data)


def vector_length(field_number: int, length: int) -> bytes:
    """The good network with the length of a vector of the root table written over."""
    data = bytearray(good().encoded())
    (root,) = struct.unpack_from("<I", data, 0)
    (back,) = struct.unpack_from("<i", data, root)
    (offset,) = struct.unpack_from("<H", data, root - back + 4 + 2 * field_number)
    (distance,) = struct.unpack_from("<I", data, root + offset)
    struct.pack_into("<I", data, root + offset + distance, length)
    return bytes(data)


def chain(code: int, count: int, **values: Any) -> bytes:
    """A long row of one operator."""

    def change(net: Net) -> None:
        last = net.tensors[7]
        net.tensors.extend(copy.deepcopy(last) for _ in range(count))
        numbers = [7, *range(8, 8 + count)]
        for x, y in itertools.pairwise(numbers):
            net.ops.append(Op(code, (x,), (y,), **values))
        net.outputs = (numbers[-1],)

    return changed(change)


def shared_weights() -> bytes:
    """Many operators on one buffer: much more weights than bytes in the file."""

    def change(net: Net) -> None:
        net.tensors[6] = Tensor((4, 12), data=bytes(48))
        big = len(net.tensors)
        net.tensors.append(Tensor((4, 250_000), data=bytes(1_000_000)))
        net.tensors[0].shape = net.tensors[1].shape = (1, 1, 1, 250_000)
        net.ops = [Op(QUANTIZE, (0,), (1,))]
        for index in range(40):
            net.tensors.append(Tensor((1, 4)))
            net.ops.append(Op(DENSE, (1, big, -1), (big + 1 + index,), {0: Number("b", 0)}))
            if index:
                net.tensors.append(Tensor((1, 4)))
        sums = [big + 1]
        for index in range(1, 40):
            net.tensors.append(Tensor((1, 4)))
            net.ops.append(Op(ADD, (sums[-1], big + 1 + index), (len(net.tensors) - 1,), {}))
            sums.append(len(net.tensors) - 1)
        net.outputs = (sums[-1],)

    return changed(change)


def of_a_shape(begin: int) -> bytes:
    """The good network with a number picked out of its shape, and reshaped by that."""

    def change(net: Net) -> None:
        vector = Tensor((4,), INT32, scale=())
        numbers = [constant((1,), begin), constant((1,), begin + 1), constant((1,), 1)]
        picked = Tensor((), INT32, scale=())
        net.tensors += [vector, *numbers, picked, constant((), -1), vector, Tensor((1, 4))]
        net.ops += [
            Op(SHAPE, (7,), (8,)),
            Op(SLICE, (8, 9, 10, 11), (12,), {4: Number("i", 1)}, 32),
            Op(PACK, (12, 13), (14,)),
            Op(RESHAPE, (7, 14), (15,)),
        ]
        net.outputs = (15,)

    return changed(change)


NAN, INF = math.nan, math.inf
CASES: dict[str, tuple[bytes, str]] = {
    # the file
    "empty": (b"", "empty file"),
    "a few bytes": (b"TFL3", "identifier"),
    "wrong identifier": (
        changed(lambda n: setattr(n, "identifier", b"TFL2")),
        "identifier b'TFL2'",
    ),
    "another version": (changed(lambda n: setattr(n, "version", 2)), "schema version 2"),
    "root beyond the file": (patched(0, "I", 1 << 30), "offset to byte"),
    "root at the end": (patched(0, "I", len(good().encoded()) - 1), "offset to byte|leaves the"),
    "root in the header": (patched(0, "I", 4), "offset to byte|leaves the file"),
    "vtable before the file": (
        patched(struct.unpack_from("<I", good().encoded())[0], "i", 1 << 20),
        "offset to byte -",
    ),
    "vtable of odd length": (patched(8, "H", 7), "leaves the file"),
    "vtable beyond the file": (patched(8, "H", 65534), "leaves the file"),
    "field outside its table": (patched(12, "H", 999), "field 0 outside the table"),
    "2^31 operator codes": (vector_length(1, 1 << 31), "a vector of 2147483648"),
    "2^32 subgraphs": (vector_length(2, (1 << 32) - 1), "a vector of 4294967295"),
    "many buffers": (vector_length(4, 100), "a vector of 100 entries|leaves the file"),
    "no subgraph": (vector_length(2, 0), "0 subgraphs"),
    "two subgraphs": (changed(lambda n: setattr(n, "n_graphs", 2)), "2 subgraphs"),
    "two inputs": (changed(lambda n: setattr(n, "inputs", (0, 1))), "2 inputs and 1 outputs"),
    "no output": (changed(lambda n: setattr(n, "outputs", ())), "1 inputs and 0 outputs"),
    "no operator": (changed(lambda n: n.ops.clear()), "no operator"),
    "no operator codes": (vector_length(1, 0), "one of the file's 0 operator codes"),
    # operators and their tensors
    "input out of range": (op(0, inputs=(99,)), "tensor 99|t1"),
    "weight out of range": (op(1, inputs=(1, 99)), "tensor 99.*one of the 8"),
    "output out of range": (op(3, outputs=(1 << 30,)), "tensor 1073741824"),
    "negative output": (op(3, outputs=(-5,)), "tensor -5"),
    "output of the graph out of range": (
        changed(lambda n: setattr(n, "outputs", (99,))),
        "nothing computed of the image",
    ),
    "two outputs": (op(3, outputs=(7, 4)), "3 inputs and 2 outputs"),
    "many inputs": (op(3, inputs=(5, 6) + (-1,) * 40), "42 inputs"),
    "no inputs": (op(3, inputs=()), "0 inputs"),
    "no weight": (op(3, inputs=(5,)), "no weight"),
    "a tensor computed later": (op(1, inputs=(5, 2, 3)), "before this one computes"),
    "its own output": (op(2, inputs=(5,)), "before this one computes"),
    "written twice": (op(2, outputs=(4,)), "written twice"),
    "the input written": (op(2, outputs=(0,)), "written twice"),
    "a constant written": (op(2, outputs=(3,)), "written twice"),
    "reads a constant as an image": (op(1, inputs=(2, 2, 3)), "before this one computes"),
    "unsupported": (then(HARD_SWISH), r"\(HARD_SWISH\) 't8'.*operator HARD_SWISH.*read are ADD"),
    "refused by its name": (then(CONCATENATION), "operator CONCATENATION"),
    "a custom operator": (then(CUSTOM), "operator CUSTOM"),
    "an unknown code": (then(500), "operator code 500"),
    "dilation": (option(1, 4, Number("i", 2)), "dilation .2, 1."),
    "stride 0": (option(1, 1, Number("i", 0)), "at steps .1, 0."),
    "negative stride": (option(1, 2, Number("i", -1)), "at steps .-1, 1."),
    "padding of another kind": (option(1, 0, Number("b", 9)), "padding kind 9"),
    "fused tanh": (option(1, 3, Number("b", 4)), "fused activation 4"),
    "options of another kind": (op(1, options_type=5), "options of kind 5"),
    "no options": (op(1, options=None), "at steps .0, 0."),
    "a window of nothing": (option(2, 3, Number("i", 0)), "window of"),
    "a window of 2^31": (option(2, 4, Number("i", (1 << 31) - 1)), "window of"),
    "shuffled weights": (option(3, 1, Number("b", 1)), "shuffled"),
    "a softmax inside": (then(SOFTMAX), "SOFTMAX.*inside the network"),
    "an average over the edge": (
        changed(
            lambda n: n.ops[2].options.update(  # type: ignore[union-attr]
                {0: Number("b", 0), 1: Number("i", 4), 2: Number("i", 4)}
            )
        ),
        "pass the edge",
    ),
    # what tensors say of themselves
    "nine axes": (tensor(1, shape=(1,) * 9), "9 axes"),
    "buffer out of range": (tensor(2, buffer=77), "buffer 77"),
    "a weight without data": (tensor(2, data=b""), "computed by the network"),
    "too few weights": (tensor(2, data=bytes(53)), "53 bytes.*54"),
    "too many weights": (tensor(2, data=bytes(55)), "55 bytes.*54"),
    "weights of another rank": (tensor(2, shape=(27, 2)), "4 axes"),
    "an empty weight": (tensor(2, shape=(0, 3, 3, 2)), "54 bytes; expected 0|none empty"),
    "a negative side": (tensor(2, shape=(-3, 3, -3, 6)), "54 bytes|none empty"),
    "sides of 2^30": (
        tensor(2, shape=(1 << 30, 1 << 30, 1 << 30, 1 << 30)),
        "weights and channels up to here",
    ),
    "float weights": (tensor(2, type=FLOAT32), "FLOAT32.*full integer quantization"),
    "16-bit weights": (tensor(2, type=INT16), "INT16"),
    "weights of an unknown type": (tensor(2, type=99), "number 99"),
    "weights for other channels": (tensor(2, shape=(3, 2, 3, 3)), "one for 2 channels"),
    "scale 0": (tensor(2, scale=(0.1, 0.0, 0.3)), "a scale of 0"),
    "scale NaN": (tensor(2, scale=(0.1, NAN, 0.3)), "a scale of nan"),
    "scale infinite": (tensor(2, scale=(0.1, INF, 0.3)), "a scale of inf"),
    "scale negative": (tensor(2, scale=(0.1, -0.2, 0.3)), "a scale of -0.2"),
    "two scales of three": (tensor(2, scale=(0.1, 0.2)), "2 scales along axis 0"),
    "scales on another axis": (tensor(2, axis=3), "3 scales along axis 3"),
    "no scale": (tensor(2, scale=()), "0 scales"),
    "zero points of weights": (tensor(2, zero=(0, 1, 0)), "zero points 0 to 1"),
    "two zero points of three": (tensor(2, zero=(0, 0)), "2 zero points"),
    "sparse weights": (tensor(2, more={6: {}}), "sparse"),
    "blockwise scales": (tensor(2, quantization={4: Number("B", 2)}), "blockwise"),
    "an activation of scale 0": (tensor(4, scale=(0.0,)), "scale 0"),
    "an activation of scale NaN": (tensor(4, scale=(NAN,)), "scale nan"),
    "an activation of two scales": (tensor(4, scale=(0.1, 0.2)), "2 scales"),
    "an activation without scale": (tensor(4, scale=()), "0 scales"),
    "zero point 300": (tensor(4, zero=(300,)), "zero point 300"),
    "zero point -2^60": (tensor(4, zero=(-(1 << 60),)), "zero point -1152921504606846976"),
    "16-bit activations": (tensor(4, type=INT16), "INT16.*16-bit activations"),
    "float activations": (tensor(4, type=FLOAT32, scale=()), "float and quantized"),
    "scales too far apart": (tensor(4, scale=(1e-30,)), "factor below 2.30"),
    "weights beyond float32": (
        changed(
            lambda n: [
                setattr(n.tensors[i], "scale", (3e38,) * (3 if i == 2 else 1))
                for i in (1, 2, 4, 5, 7)
            ]
        ),
        "not finite|factor below",
    ),
    "64-bit bias": (tensor(3, type=INT64, data=bytes(24)), "bias.*INT64"),
    "bias too short": (tensor(3, shape=(2,), data=ints(1, 2)), r"bias.*\(2,\).*\(3,\)"),
    "bias without data": (tensor(3, data=b""), "computed by the network"),
    "another grid behind a pool": (tensor(5, zero=(0,)), "another scale or zero point"),
    # data outside the buffers
    "a buffer behind the file": (
        changed(
            lambda n: (
                setattr(n.tensors[2], "buffer", 3),
                n.buffers.append({1: Number("Q", 1 << 40), 2: Number("Q", 54)}),
            )
        ),
        "buffer 3 at bytes 1099511627776",
    ),
    "a buffer past the end": (
        changed(
            lambda n: (
                setattr(n.tensors[2], "buffer", 3),
                n.buffers.append({1: Number("Q", 100), 2: Number("Q", 1 << 62)}),
            )
        ),
        "buffer 3 at bytes 100",
    ),
    # shapes
    "an open input": (tensor(0, shape=(1, -1, -1, 2)), "one image of fixed size"),
    "eight images": (tensor(0, shape=(8, 6, 6, 2)), "one image"),
    "an input of one axis": (tensor(0, shape=(72,)), "one image"),
    "an input of five axes": (
        changed(lambda n: [setattr(n.tensors[i], "shape", (1, 2, 3, 6, 2)) for i in (0, 1)]),
        "an input of shape",
    ),
    "an image of 2^40 values": (
        changed(
            lambda n: [setattr(n.tensors[i], "shape", (1, 1 << 20, 1 << 20, 2)) for i in (0, 1)]
        ),
        "268435456 values",
    ),
    "an input of text": (tensor(0, type=5), "STRING"),
    "a window larger than the image": (option(2, 4, Number("i", 7)), "a smaller one"),
    "a dense layer of other features": (tensor(6, shape=(12, 4)), r"\(outputs, 12\)"),
    "a reshape that splits": (then(RESHAPE, constant((3,), 1, 5, -1)), "same number of values"),
    "a reshape across sides": (then(RESHAPE, constant((3,), 1, 4, 27)), "whole axes"),
    "a reshape by a computed shape": (
        then(RESHAPE, Tensor((4,), INT32, scale=())),
        "computed by the network",
    ),
    "a reshape by floats": (
        then(RESHAPE, Tensor((2,), FLOAT32, scale=(), data=np.array([1, NAN], "f4").tobytes())),
        "FLOAT32; expected integers",
    ),
    "a transpose by floats": (
        then(TRANSPOSE, Tensor((4,), FLOAT32, scale=(), data=bytes(16))),
        "whole numbers|leaves N first",
    ),
    "a padding table of fractions": (
        then(PAD, Tensor((4, 2), FLOAT32, scale=(), data=np.full(8, 0.5, "f4").tobytes())),
        "whole numbers",
    ),
    "a reshape to no side": (then(RESHAPE, constant((1,), -1)), "N, and at most"),
    "a number behind the end of a shape": (of_a_shape(2), "STRIDED_SLICE of a shape"),
    "a number before a shape": (of_a_shape(-1), "STRIDED_SLICE of a shape"),
    "a transpose of N": (then(TRANSPOSE, constant((4,), 3, 1, 2, 0)), "leaves N first"),
    "a transpose twice of one": (then(TRANSPOSE, constant((4,), 0, 1, 1, 2)), "leaves N first"),
    "a long transpose": (then(TRANSPOSE, constant((5,), 0, 1, 2, 3, 4)), "5 axes"),
    "a mean over channels": (then(MEAN, constant((1,), 3)), "rows and columns"),
    "a mean over rows": (then(MEAN, constant((1,), 1)), "rows and columns"),
    "a mean over axis 99": (then(MEAN, constant((1,), 99)), "rows and columns"),
    "padding of N": (then(PAD, constant((4, 2), 1, 0, 0, 0, 0, 0, 0, 0)), "none for N"),
    "negative padding": (then(PAD, constant((4, 2), 0, 0, -1, 0, 0, 0, 0, 0)), "0 or more"),
    "padding of 2^31": (
        then(PAD, constant((4, 2), 0, 0, (1 << 31) - 1, 0, 0, 0, 0, 0)),
        "0 or more",
    ),
    "padding beyond memory": (
        then(PAD, constant((4, 2), 0, 0, 1 << 20, 0, 1 << 20, 0, 0, 0)),
        "268435456 values",
    ),
    "a million channels of zeros": (
        then(PAD, constant((4, 2), 0, 0, 0, 0, 0, 0, 1 << 20, 1 << 20)),
        "weights and channels",
    ),
    "a padding table of another shape": (then(PAD, constant((3, 2), 0, 0, 0, 0, 0, 0)), "table"),
    "a slice from the second": (
        then(
            SLICE,
            constant((4,), 0, 1, 0, 0),
            constant((4,), 1, 6, 6, 3),
            constant((4,), 1, 1, 1, 1),
        ),
        "from the first",
    ),
    "a slice backwards": (
        then(
            SLICE,
            constant((4,), 0, 0, 0, 0),
            constant((4,), 1, 6, 6, 3),
            constant((4,), 1, -1, 1, 1),
        ),
        "from the first",
    ),
    "a slice of channels": (
        then(
            SLICE,
            constant((4,), 0, 0, 0, 0),
            constant((4,), 1, 6, 6, 3),
            constant((4,), 1, 1, 1, 2),
        ),
        "from the first",
    ),
    "a slice without steps": (then(SLICE, constant((4,), 0, 0, 0, 0)), "2 inputs"),
    "a sum of one": (then(ADD), "1 inputs"),
    "a constant of another shape": (
        then(ADD, Tensor((6, 3), data=bytes(18))),
        "one value, or one a channel",
    ),
    "a float constant": (
        then(MUL, Tensor((3,), FLOAT32, scale=(), data=bytes(12))),
        "INT8 or UINT8",
    ),
    "a square": (
        changed(
            lambda n: (
                n.tensors.append(Tensor((1, 4))),
                n.ops.append(Op(MUL, (7, 7), (8,))),
                setattr(n, "outputs", (8,)),
            )
        ),
        "a sum of two",
    ),
    "a network of a softmax": (
        changed(lambda n: (n.ops.clear(), n.ops.append(Op(SOFTMAX, (0,), (7,))))),
        "alone",
    ),
    "shared weights": (shared_weights(), "weights and channels up to here"),
}


def write(folder: Path, data: bytes) -> Path:
    path = folder / "net.tflite"
    path.write_bytes(data)
    return path


def test_the_network_that_the_cases_change_is_read(tmp_path: Path) -> None:
    model = load_tflite(write(tmp_path, good().encoded()))

    assert model.input_shape == (2, 6, 6)
    assert [type(layer).__name__ for layer in model.layers] == ["Conv", "Pool", "Conv"]
    with_shape = load_tflite(write(tmp_path, of_a_shape(0)))
    assert [layer.name for layer in with_shape.layers] == [layer.name for layer in model.layers]


def test_padding_by_the_lowest_code_is_padding_of_the_maximum_behind_it(tmp_path: Path) -> None:
    net = good()
    net.tensors[4].zero = net.tensors[5].zero = (-3,)
    padding = constant((4, 2), 0, 0, 1, 1, 1, 1, 0, 0)
    lowest = Tensor((1,), zero=(-3,), data=b"\x80")
    net.tensors += [padding, lowest, Tensor((1, 8, 8, 3), zero=(-3,))]
    net.ops[2].code, net.ops[2].inputs = MAX_POOL, (10,)
    net.ops.insert(2, Op(PADV2, (4, 8, 9), (10,)))
    images = np.random.default_rng(1).normal(0, 1, (3, 2, 6, 6)).astype("f4")

    path = write(tmp_path, net.encoded())
    model = load_tflite(path)

    pool = model.layers[1]
    assert isinstance(pool, Pool)
    assert pool.padding == (1, 1, 1, 1)
    assert np.abs(forward(model, images) - run(path, images)).max() < 0.11  # a step of the output
    net.ops[3].code = AVERAGE
    with pytest.raises(ModelFileError, match="padded by another value"):
        load_tflite(write(tmp_path, net.encoded()))
    net.tensors[9].data = b"\x81"
    with pytest.raises(ModelFileError, match=r"padding by .-127.; expected -3, or -128"):
        load_tflite(write(tmp_path, net.encoded()))


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    data, match = CASES[case]
    path = write(tmp_path, data)
    tracemalloc.start()

    with pytest.raises(ModelFileError, match=match) as caught:
        load_tflite(path)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert peak < MEMORY_BYTES


@pytest.mark.parametrize("share", [index / 24 for index in range(24)])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    whole = (NETS / "residual.tflite").read_bytes()

    with pytest.raises(ModelFileError):
        load_tflite(write(tmp_path, whole[: int(len(whole) * share)]))


def test_a_row_of_thousands_of_operators_is_read(tmp_path: Path) -> None:
    model = load_tflite(write(tmp_path, chain(RELU, 3000)))

    assert model.layers[-1].name


def test_a_row_of_thousands_of_pools_is_read(tmp_path: Path) -> None:
    net = good()
    net.tensors.extend(Tensor((1, 6, 6, 3), zero=(-128,)) for _ in range(3000))
    one = {0: Number("b", 1), **{each: Number("i", 1) for each in (1, 2, 3, 4)}}
    x = 4
    for y in range(8, 3008):
        net.ops.insert(len(net.ops) - 2, Op(MAX_POOL, (x,), (y,), one))
        x = y
    net.ops[-2].inputs = (x,)

    model = load_tflite(write(tmp_path, net.encoded()))

    assert len(model.layers) == 3003


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(0, len(SMALL) - 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.sampled_from([0, 1, 2, 4, 255, 65535, 1 << 20, 1 << 31, (1 << 32) - 1]),
        ),
        max_size=3,
    ),
)
def test_only_the_project_s_errors_escape_from_edited_networks(
    tmp_path_factory: pytest.TempPathFactory,
    which: int,
    edits: list[tuple[float, int]],
    numbers: list[tuple[float, int]],
) -> None:
    data = bytearray(SMALL[which])
    for place, byte in edits:
        data[int(place * len(data))] = byte
    for place, number in numbers:
        struct.pack_into("<I", data, int(place * (len(data) - 4)) & ~3, number)
    path = write(tmp_path_factory.getbasetemp(), bytes(data))
    tracemalloc.start()
    try:
        load_tflite(path)
    except BacmacError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MEMORY_BYTES


def test_an_edited_published_network_only_raises_the_project_s_errors(
    tmp_path: Path, real_data: Path | None
) -> None:
    name = "potacc_apot_resnet20_4bit.tflite"
    source = NETS / "keras.tflite" if real_data is None else real_data / name
    whole = source.read_bytes()
    rng = np.random.default_rng(11)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data) - 4, 40):
            struct.pack_into("<I", data, int(place), int(rng.integers(0, 1 << 32)))
        try:
            load_tflite(write(tmp_path, bytes(data)))
        except BacmacError:
            refused += 1

    assert refused > 0
