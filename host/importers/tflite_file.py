"""Read a TFLite file (LiteRT's FlatBuffer, schema version 3) into plain tensors and operators.

Field numbers, type codes and operator codes are those of the published schema (`schema.fbs` of
LiteRT). The file is taken as hostile; what a tensor or operator says is checked when it is used.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.arrays import read_bounded
from bacmac.host.importers.lowering import RefusedError
from bacmac.host.importers.tflite_buffer import Table

IDENTIFIER = b"TFL3"
VERSION = 3
MAX_OPERATORS = 20_000
MAX_TENSORS = 60_000
MAX_AXES = 8

_INT, _LONG, _FLOAT = np.dtype("<i4"), np.dtype("<i8"), np.dtype("<f4")
_TYPE_NAMES = """
FLOAT32 FLOAT16 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT64 COMPLEX128 UINT64
RESOURCE VARIANT UINT32 UINT16 INT4 BFLOAT16 INT2 UINT4
"""
# in the schema's order; the rare ones from 158 on are told by their number
_OPERATOR_NAMES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1
RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM
CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM
CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE
SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW
ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR
LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS
WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG
REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL
BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN
"""
_TYPES = _TYPE_NAMES.split()
_OPERATORS = _OPERATOR_NAMES.split()
_NUMPY = {
    "INT32": "<i4",
    "INT64": "<i8",
    "INT8": "i1",
    "UINT8": "u1",
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
}


@dataclass(frozen=True, eq=False)
class TfliteTensor:
    """What the file says of a tensor; checked only where a reader says so.

    Attributes:
        index: in the file.
        name: for people.
        shape: as declared.
        type: the schema's word, "INT8".
        scales: float32 view, one or one a channel; empty where it is not quantized.
        zero_points: int64 view, likewise.
        axis: the axis of the channels.
        plain_quantization: no custom or blockwise parameters, and no sparse storage.
        data: the bytes of a constant, or None.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    type: str
    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.int64]
    axis: int
    plain_quantization: bool
    data: npt.NDArray[np.uint8] | None

    @property
    def label(self) -> str:
        """For messages."""
        return f"tensor {self.index} {self.name[:60]!r}"

    @cached_property
    def constant(self) -> npt.NDArray[Any]:
        """The numbers of a constant, in its shape; INT4 comes as int8, low nibble first.

        Raises:
            RefusedError: not a constant, not numbers, or bytes that are not its shape's.
        """
        if self.data is None:
            raise RefusedError(f"{self.label} computed by the network", "a constant")
        if not self.plain_quantization:
            raise RefusedError(
                f"{self.label} stored sparse or with blockwise scales",
                "dense integers, one scale or one a channel",
            )
        count = math.prod(self.shape)
        four_bit = self.type == "INT4"
        if not four_bit and self.type not in _NUMPY:
            raise RefusedError(f"{self.label} of type {self.type}", f"INT4 or {', '.join(_NUMPY)}")
        dtype = np.dtype("u1" if four_bit else _NUMPY[self.type])
        needed = (count + 1) // 2 if four_bit else count * dtype.itemsize
        if min(self.shape, default=1) < 0 or len(self.data) != needed:
            raise RefusedError(
                f"{self.label}: {len(self.data)} bytes",
                f"{needed} for {self.type} {self.shape}",
            )
        if not four_bit:
            return self.data.view(dtype).reshape(self.shape)
        nibbles = np.stack([self.data & 15, self.data >> 4], 1).reshape(-1)[:count]
        return ((nibbles ^ 8).astype(np.int8) - 8).reshape(self.shape)

    @property
    def integers(self) -> npt.NDArray[Any]:
        """The same of a constant that must be integers: a shape, a permutation."""
        if self.type in ("FLOAT32", "FLOAT16"):
            raise RefusedError(f"{self.label} of type {self.type}", "integers")
        return self.constant


@dataclass(frozen=True, eq=False)
class TfliteOperator:
    """One operator; -1 among its inputs stands for an optional one that is left out."""

    index: int
    code: str
    version: int
    options: Table | None
    options_type: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TfliteGraph:
    """The one subgraph of a file.

    Attributes:
        file: as given.
        sha256: hex digest of the file.
        n_bytes: of the file.
        operators: in execution order.
        input: index of the one input tensor.
        output: index of the one output tensor.
    """

    file: Path
    sha256: str
    n_bytes: int
    operators: tuple[TfliteOperator, ...]
    input: int
    output: int
    _tensors: tuple[Table, ...]
    _buffers: tuple[Table, ...]
    _read: dict[int, TfliteTensor] = field(default_factory=dict)

    def tensor(self, index: int) -> TfliteTensor:
        """What the file says of a tensor.

        Raises:
            RefusedError: no such tensor, or it leaves the file.
        """
        if not 0 <= index < len(self._tensors):
            raise RefusedError(f"tensor {index}", f"one of the {len(self._tensors)} tensors")
        if index not in self._read:
            self._read[index] = self._tensor(index)
        return self._read[index]

    def _tensor(self, index: int) -> TfliteTensor:
        table = self._tensors[index]
        shape = table.vector(0, _INT)
        if len(shape) > MAX_AXES:
            raise RefusedError(f"tensor {index} of {len(shape)} axes", f"at most {MAX_AXES}")
        code = table.integer(1, "b")
        kind = _TYPES[code] if 0 <= code < len(_TYPES) else f"number {code}"
        quantization = table.table(4)
        scales = np.zeros(0, np.float32)
        zero_points = np.zeros(0, np.int64)
        axis, plain = 0, table.table(6) is None
        if quantization is not None:
            scales = quantization.vector(2, _FLOAT)
            zero_points = quantization.vector(3, _LONG)
            axis = quantization.integer(6, "i")
            plain = plain and quantization.integer(4, "B") == 0
        return TfliteTensor(
            index,
            table.text(3),
            tuple(int(side) for side in shape),
            kind,
            scales,
            zero_points,
            axis,
            plain,
            self._data(table.integer(2, "I")),
        )

    def _data(self, index: int) -> npt.NDArray[np.uint8] | None:
        if index == 0:  # the schema: buffer 0 stands for none
            return None
        if index >= len(self._buffers):
            raise RefusedError(f"buffer {index}", f"one of the {len(self._buffers)} buffers")
        buffer = self._buffers[index]
        offset, size = buffer.integer(1, "Q"), buffer.integer(2, "Q")
        if offset > 1:  # data behind the FlatBuffer, as files of 2 GB and more have it
            if offset + size > self.n_bytes:
                raise RefusedError(
                    f"buffer {index} at bytes {offset} to {offset + size}",
                    f"one within the file of {self.n_bytes} bytes",
                )
            return np.frombuffer(buffer.data, np.uint8, size, offset)
        data = buffer.vector(0, np.dtype("u1"))
        return data if len(data) else None


def read_tflite(path: str | Path) -> TfliteGraph:
    """The graph of a `.tflite` file.

    Raises:
        ModelFileError: naming the file and what in it is at fault.
    """
    file = Path(path)
    data = read_bounded(file, ModelFileError, "a TFLite model")
    if data[4:8] != IDENTIFIER:
        raise ModelFileError(
            file, "header", found=f"identifier {data[4:8]!r}", expected=f"{IDENTIFIER!r} (TFLite)"
        )
    try:
        return _graph(data, file)
    except RefusedError as error:
        raise ModelFileError(
            file, "FlatBuffer", found=error.found, expected=error.expected, hint=error.hint
        ) from error


def _graph(data: bytes, file: Path) -> TfliteGraph:
    model = Table.root(data)
    version = model.integer(0, "I")
    if version != VERSION:
        raise RefusedError(f"schema version {version}", f"version {VERSION}")
    graphs = model.tables(2, MAX_OPERATORS)
    if len(graphs) != 1:
        raise RefusedError(f"{len(graphs)} subgraphs", "one", "control flow is not supported")
    graph = graphs[0]
    inputs, outputs = graph.vector(1, _INT), graph.vector(2, _INT)
    if len(inputs) != 1 or len(outputs) != 1:
        raise RefusedError(f"{len(inputs)} inputs and {len(outputs)} outputs", "one of each")
    codes = [_code(code) for code in model.tables(1, MAX_OPERATORS)]
    operators = [
        _operator(index, operator, codes)
        for index, operator in enumerate(graph.tables(3, MAX_OPERATORS))
    ]
    if not operators:
        raise RefusedError("no operator", "a network")
    return TfliteGraph(
        file,
        hashlib.sha256(data).hexdigest(),
        len(data),
        tuple(operators),
        int(inputs[0]),
        int(outputs[0]),
        tuple(graph.tables(0, MAX_TENSORS)),
        tuple(model.tables(4, MAX_TENSORS)),
    )


def _code(table: Table) -> tuple[str, int]:
    # old files have only the first field, a byte; new ones put 127 there for codes above it
    code = max(table.integer(0, "b"), table.integer(3, "i"))
    name = _OPERATORS[code] if 0 <= code < len(_OPERATORS) else f"operator code {code}"
    if name == "CUSTOM":
        name = f"CUSTOM {table.text(1)[:60]!r}"
    return name, table.integer(2, "i", 1)


def _operator(index: int, table: Table, codes: list[tuple[str, int]]) -> TfliteOperator:
    code = table.integer(0, "I")
    if code >= len(codes):
        raise RefusedError(
            f"operator {index} of code {code}", f"one of the file's {len(codes)} operator codes"
        )
    name, version = codes[code]
    inputs, outputs = table.vector(1, _INT), table.vector(2, _INT)
    if len(inputs) > MAX_AXES or len(outputs) != 1:
        raise RefusedError(
            f"operator {index} ({name}) with {len(inputs)} inputs and {len(outputs)} outputs",
            f"at most {MAX_AXES} inputs, and one output",
        )
    return TfliteOperator(
        index,
        name,
        version,
        table.table(4),
        table.integer(3, "B"),
        tuple(int(each) for each in inputs),
        tuple(int(each) for each in outputs),
    )


OPTIONS: Mapping[str, int] = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 2,
    "AVERAGE_POOL_2D": 5,
    "MAX_POOL_2D": 5,
    "FULLY_CONNECTED": 8,
    "ADD": 11,
    "SUB": 28,
    "RESHAPE": 17,
    "MUL": 21,
    "MEAN": 27,
    "SQUEEZE": 30,
    "STRIDED_SLICE": 32,
    "PACK": 59,
}
"""The kind of options (`BuiltinOptions` of the schema) that an operator has."""
