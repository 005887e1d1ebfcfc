"""Damaged, foreign and hostile files: only PackedFileError leaves the reader, and it says what."""

# ruff: noqa: E501 (the table reads best with a case a line)
from __future__ import annotations

import copy
import io
import json
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import deserialize

from bacmac.host.arith.network import ConvOp
from bacmac.host.errors import PackedFileError
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.file import packed_bytes, read_packed

GOLDEN = Path(__file__).with_name("golden-v2.safetensors").read_bytes()
FIRST = Path(__file__).with_name("golden-v1.safetensors").read_bytes()
EVERY_FORMAT = Path(__file__).with_name("golden-v2-formats.safetensors").read_bytes()
FUZZ = settings(max_examples=250, deadline=None, derandomize=True, database=None)


@dataclass
class Parts:
    """A packed file taken apart, to be changed and put together by hand."""

    meta: dict[str, Any]
    tensors: dict[str, tuple[str, list[int], bytes]]
    extra_metadata: dict[str, Any] = field(default_factory=dict)
    meta_text: str | None = None

    @classmethod
    def of(cls, data: bytes) -> Parts:
        n = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + n])
        body = data[8 + n :]
        meta = json.loads(header.pop("__metadata__")["bacmac"])
        tensors = {
            name: (t["dtype"], t["shape"], body[slice(*t["data_offsets"])])
            for name, t in header.items()
        }
        return cls(meta, tensors)

    def header(self) -> tuple[dict[str, Any], bytes]:
        text = json.dumps(self.meta) if self.meta_text is None else self.meta_text
        header: dict[str, Any] = {"__metadata__": {"bacmac": text, **self.extra_metadata}}
        at, body = 0, b""
        for name, (dtype, shape, data) in self.tensors.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
            at, body = at + len(data), body + data
        return header, body

    def join(self) -> bytes:
        return joined(*self.header())


def joined(header: dict[str, Any] | str, body: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + body


def text_of(parts: Parts) -> tuple[str, bytes]:
    header, body = parts.header()
    return json.dumps(header), body


def meta(*path: str | int, to: Any) -> Callable[[Parts], bytes]:
    """Set one value of the metadata."""

    def change(parts: Parts) -> bytes:
        place: Any = parts.meta
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to
        return parts.join()

    return change


def without(*path: str | int) -> Callable[[Parts], bytes]:
    def change(parts: Parts) -> bytes:
        place: Any = parts.meta
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        return parts.join()

    return change


def tensor(name: str, at: int, to: Any) -> Callable[[Parts], bytes]:
    """Set one element of a tensor."""

    def change(parts: Parts) -> bytes:
        dtype, shape, data = parts.tensors[name]
        array = np.frombuffer(data, {"U8": "u1", "U16": "<u2", "I32": "<i4", "F64": "<f8"}[dtype])
        array = array.copy()
        array[at] = to
        parts.tensors[name] = (dtype, shape, array.tobytes())
        return parts.join()

    return change


def retyped(name: str, dtype: str, shape: list[int], data: bytes) -> Callable[[Parts], bytes]:
    def change(parts: Parts) -> bytes:
        parts.tensors[name] = (dtype, shape, data)
        return parts.join()

    return change


def dropped(name: str) -> Callable[[Parts], bytes]:
    def change(parts: Parts) -> bytes:
        del parts.tensors[name]
        return parts.join()

    return change


def header_entry(name: str, key: str, to: Any) -> Callable[[Parts], bytes]:
    """Set one key of a tensor's entry in the container's header."""

    def change(parts: Parts) -> bytes:
        header, body = parts.header()
        header[name][key] = to
        return joined(header, body)

    return change


def meta_text(edit: Callable[[str], str]) -> Callable[[Parts], bytes]:
    def change(parts: Parts) -> bytes:
        parts.meta_text = edit(json.dumps(parts.meta))
        return parts.join()

    return change


def header_text(edit: Callable[[str], str]) -> Callable[[Parts], bytes]:
    def change(parts: Parts) -> bytes:
        text, body = text_of(parts)
        return joined(edit(text), body)

    return change


def other_metadata(parts: Parts) -> bytes:
    parts.extra_metadata = {"also": "this"}
    return parts.join()


def foreign_metadata(parts: Parts) -> bytes:
    header, body = parts.header()
    header["__metadata__"] = {"format": "pt"}
    return joined(header, body)


def no_metadata(parts: Parts) -> bytes:
    header, body = parts.header()
    del header["__metadata__"]
    return joined(header, body)


def metadata_not_text(parts: Parts) -> bytes:
    header, body = parts.header()
    header["__metadata__"]["bacmac"] = [1]
    return joined(header, body)


def huge_layers(parts: Parts) -> bytes:
    """A network of max pools that would ask for 65536 x 65536 x 65536 bytes."""
    parts.meta["input_shape"] = [65536, 65536, 65536]
    return parts.join()


def accumulators_overflow(parts: Parts) -> bytes:
    return tensor("layers.0.bias", 0, 2**31 - 1)(parts)


def many_products(parts: Parts) -> bytes:
    """A 7x7 convolution of all channels by all, on the largest tensors that are let in."""
    layer = parts.meta["layers"][0]
    layer |= {"weight_shape": [256, 256, 7, 7], "padding": [3, 3, 3, 3], "groups": 1}
    layer |= {"scheme": "ternary"}
    parts.meta["input_shape"] = [256, 256, 256]
    n = 256 * 256 * 49
    parts.tensors["layers.0.codes"] = ("U8", [n // 4], b"\x55" * (n // 4))
    for name, width, dtype in (
        ("scale", 8, "F64"),
        ("bias", 4, "I32"),
        ("multiplier", 2, "U16"),
        ("shift", 1, "U8"),
    ):
        value = np.ones(256).tobytes() if dtype == "F64" else bytes(256 * width)
        parts.tensors[f"layers.0.{name}"] = (dtype, [256], value)
    parts.meta["layers"] = [layer]
    parts.tensors = {k: v for k, v in parts.tensors.items() if k.startswith("layers.0.")}
    parts.tensors["logit_scale"] = ("F64", [256], np.ones(256).tobytes())
    return parts.join()


def weights_out_of_nothing(parts: Parts) -> bytes:
    """No element in four bytes: 16 million zeros."""
    parts.tensors["layers.1.codes"] = ("U8", [4], bytes(4))
    return meta("layers", 1, "weight_shape", to=[4096, 4096, 1, 1])(parts)


def zip_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("weights", b"1234")
    return buffer.getvalue()


def npy_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(9))
    return buffer.getvalue()


def always(data: bytes) -> Callable[[Parts], bytes]:
    return lambda parts: data


L = "metadata.layers"
CASES: dict[str, tuple[Callable[[Parts], bytes], str, str, str]] = {
    # name: (damage, field, found, expected)
    "empty": (always(b""), "file", "an empty file", "a packed model"),
    "five bytes": (always(GOLDEN[:5]), "file", "5 bytes", "9 bytes at least"),
    "a pickle, protocol 4": (always(pickle.dumps([1] * 99, 4)), "file", "a pickle", "a packed model"),
    "a pickle, protocol 2": (always(pickle.dumps({"a": 1}, 2)), "file", "a pickle", "a packed model"),
    "a zip archive": (always(zip_archive()), "file", "a zip archive (.npz", "a packed model"),
    "a NumPy array": (always(npy_file()), "file", "a NumPy array file", "a packed model"),
    "an ONNX model": (
        always(b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\xab\x01"), "file", "an ONNX model", "packed"),
    "an HDF5 file": (always(b"\x89HDF\r\n\x1a\n" + bytes(99)), "file", "an HDF5 file", "a packed"),
    "a gzip archive": (always(b"\x1f\x8b\x08" + bytes(99)), "file", "a gzip archive", "a packed"),
    "a JSON text": (always(b'{"layers": [1, 2, 3]}'), "file", "a text", "a packed model"),
    "zeros": (always(bytes(64)), "header", "as its first byte", "'{'"),
    "cut in the data": (always(GOLDEN[:-1]), "data_offsets", "741", "an end within the 740 bytes of data"),
    "cut in the header": (always(GOLDEN[:900]), "header length", "in a file of 900", "at most 892"),
    "bytes at the end": (always(GOLDEN + b"x"), "data", "bytes after the header", "tensors take"),
    "header of 2^63": (
        always(b"\xff" * 7 + b"\x7f" + GOLDEN[8:]), "header length", "9223372036854775807 bytes",
        "at most"),
    "header of 17 MiB": (
        always(struct.pack("<Q", 17 << 20) + b"{" + b" " * (17 << 20)), "header length",
        f"{17 << 20} bytes", "at most 16777216"),
    "header not UTF-8": (
        always(joined("{}", b"").replace(b"{}", b"{\xff")), "header", "byte 1 that is not UTF-8",
        "UTF-8"),
    "header broken": (header_text(lambda t: t[:-1]), "header", "broken JSON", "JSON"),
    "header nested endlessly": (
        always(joined('{"a":' + "[" * 200_000, b"")), "header", "endless nesting", "levels"),
    "header of a million values": (
        always(joined('{"a":[' + "0," * 1_000_000 + "0]}", b"")), "header", "1000002", "at most 500000"),
    "a tensor twice": (
        header_text(lambda t: t[:-1] + ', "logit_scale": 1}'), "header", "'logit_scale' twice",
        "every key once"),
    "no metadata": (no_metadata, "header", "no metadata", "a packed model's"),
    "foreign metadata": (foreign_metadata, "metadata", "no key 'bacmac'", "a packed model's"),
    "more metadata": (other_metadata, "metadata", "the key 'also'", "only the key 'bacmac'"),
    "metadata not text": (metadata_not_text, "bacmac", "[1]", "text"),
    "metadata broken": (meta_text(lambda t: t[:-2]), "metadata", "broken JSON", "JSON"),
    "metadata a list": (meta_text(lambda t: "[]"), "metadata", "[]", "an object"),
    "metadata key twice": (
        meta_text(lambda t: t[:-1] + ', "name": "x"}'), "metadata", "'name' twice", "every key once"),
    "metadata with NaN": (
        meta_text(lambda t: t.replace("255.0", "NaN")), "metadata", "NaN", "finite numbers"),
    "metadata with 5000 digits": (
        meta_text(lambda t: t.replace("255.0", "1" * 5000)), "metadata", "one of 5000", "20 digits"),
    "number beyond float": (
        meta_text(lambda t: t.replace("255.0", "1e999")), "pixel_max", "Infinity", "a number from"),
    "another format": (meta("format", to="gguf"), "metadata.format", "'gguf'", "bacmac-packed"),
    "no format": (without("format"), "metadata", "none", "the key 'format'"),
    "newer version": (meta("version", to=3), "version", "version 3", "version 2, the newest"),
    "version a text": (meta("version", to="1"), "version", "'1'", "a whole number"),
    "version true": (meta("version", to=True), "version", "true", "a whole number"),
    "missing key": (without("provenance"), "metadata", "none", "the key 'provenance'"),
    "unknown key": (meta("speed", to=9), "metadata", "the key 'speed'", "only the keys format"),
    "control characters": (meta("name", to="a\x1b[2J"), "metadata.name", "\\x1b", "printable"),
    "bidirectional override": (
        meta("layers", 0, "name", to="a\u202eb"), f"{L}[0].name", "\\u202e", "printable"),
    "lone surrogate": (meta("name", to="\ud800"), "metadata.name", "\\ud800", "printable"),
    "long name": (meta("name", to="n" * 201), "metadata.name", "201 characters", "1 to 200"),
    "empty name": (meta("layers", 1, "name", to=""), f"{L}[1].name", "0 characters", "1 to 200"),
    "same name twice": (meta("layers", 1, "name", to="stem"), f"{L}[1].name", "'stem' again", "own"),
    "a layer called input": (
        meta("layers", 1, "name", to="input"), f"{L}[1].name", "'input' again", "of its own"),
    "no layers": (meta("layers", to=[]), L, "[]", "a list of 1 to 4096"),
    "input of no rows": (meta("input_shape", to=[3, 0, 8]), "input_shape[1]", "0", "from 1 to"),
    "input of two sides": (meta("input_shape", to=[3, 8]), "input_shape", "[3, 8]", "a list of 3"),
    "huge input": (huge_layers, "input_shape", "281474976710656 elements", "at most 16777216"),
    "huge weights": (
        meta("layers", 0, "weight_shape", to=[2**24, 2**24, 7, 7]), f"{L}[0].weight_shape", "weights so far",
        "at most 268435456"),
    "weights beyond int64": (
        meta("layers", 0, "weight_shape", to=[2**63, 3, 3, 3]), f"{L}[0].weight_shape[0]",
        "9223372036854775808", "from 1 to 16777216"),
    "too many products": (many_products, f"{L}[0].weight_shape", "products an image", "at most"),
    "unknown scheme": (meta("layers", 0, "scheme", to="pot-9"), f"{L}[0].scheme", "'pot-9'", "pot-4"),
    "unknown storage": (meta("layers", 0, "storage", to="zip"), f"{L}[0].storage", "'zip'", "dense"),
    "unknown kind": (meta("layers", 1, "kind", to="lstm"), f"{L}[1].kind", "'lstm'", "conv"),
    "layer not an object": (meta("layers", 2, to=7), f"{L}[2]", "7", "an object"),
    "reads forwards": (meta("layers", 2, "input", to=3), f"{L}[2].input", "3", "from 0 to 2"),
    "residual forwards": (meta("layers", 3, "residual", to=4), f"{L}[3].residual", "4", "0 to 3"),
    "residual of another shape": (
        meta("layers", 3, "residual", to=1), f"{L}[3].residual", "tensor 1 of [5, 8, 8]", "[5, 4, 4]"),
    "residual without multiplier": (
        meta("layers", 4, "residual", to=3), "layers.4.residual_multiplier", "no such tensor", "I32"),
    "multiplier without residual": (
        meta("layers", 3, "residual", to=None), "layers.3.residual_multiplier", "unknown tensor",
        "none"),
    "stride 0": (meta("layers", 0, "stride", to=[0, 1]), f"{L}[0].stride[0]", "0", "from 1 to 4"),
    "stride 5": (meta("layers", 0, "stride", to=[1, 5]), f"{L}[0].stride[1]", "5", "from 1 to 4"),
    "stride 1.5": (meta("layers", 0, "stride", to=[1.5, 1]), f"{L}[0].stride[0]", "1.5", "whole"),
    "padding -1": (
        meta("layers", 0, "padding", to=[-1, 0, 0, 0]), f"{L}[0].padding[0]", "-1", "from 0 to 16"),
    "kernel 9": (
        meta("layers", 0, "weight_shape", to=[5, 1, 9, 3]), f"{L}[0].weight_shape", "[5, 1, 9, 3]",
        "kernel sides of 1 to 7"),
    "pool in its padding": (
        meta("layers", 1, "padding", to=[0, 2, 0, 0]), f"{L}[1].padding", "[0, 2, 0, 0]", "2x2"),
    "pool beyond its input": (
        meta("layers", 1, "kernel", to=[9, 2]), f"{L}[1].kernel", "9x2 window", "fits its input"),
    "pool kernel 0": (meta("layers", 1, "kernel", to=[0, 2]), f"{L}[1].kernel[0]", "0", "from 1"),
    "groups 0": (meta("layers", 0, "groups", to=0), f"{L}[0].groups", "0", "from 1"),
    "groups that do not divide": (
        meta("layers", 2, "groups", to=3), f"{L}[2].weight_shape", "do not fit 5", "fits its input"),
    "activations of 9 bits": (
        meta("layers", 0, "output", "bits", to=9), f"{L}[0].output.bits", "9", "from 2 to 8"),
    "negative activation scale": (
        meta("input_format", "scale", to=-0.1), "input_format.scale", "-0.1", "a number from"),
    "signed is 1": (meta("input_format", "signed", to=1), "input_format.signed", "1", "true or"),
    "clamp above the format": (
        meta("layers", 2, "clamp", to=[0, 32]), f"{L}[2].clamp[1]", "32", "from 0 to 31"),
    "clamp below the format": (
        meta("layers", 0, "clamp", to=[-1, 9]), f"{L}[0].clamp[0]", "-1", "from 0 to 0"),
    "clamp missing": (meta("layers", 0, "clamp", to=None), f"{L}[0].clamp", "null", "a list"),
    "clamp on a maximum": (
        meta("layers", 1, "clamp", to=[0, 255]), f"{L}[1].clamp", "[0, 255]", "null"),
    "maximum of another format": (
        meta("layers", 1, "output", "scale", to=9.0), f"{L}[1].output", "an object", "its input's"),
    "logits in the middle": (
        meta("layers", 0, "output", to=None), f"{L}[0].output", "null", "at the end"),
    "std 0": (meta("normalization", "std", to=[0.0]), "normalization.std[0]", "0.0", "a number"),
    "two means for three channels": (
        meta("normalization", "mean", to=[0.1, 0.2]), "normalization.mean", "[0.1, 0.2]", "(3)"),
    "negative squared error": (
        meta("layers", 0, "relative_squared_error", to=-1), "relative_squared_error", "-1", "from 0"),
    "provenance a text": (meta("provenance", to="me"), "provenance", "'me'", "an object"),
    "provenance too deep": (
        meta("provenance", "x", to=[[[[[[[[[1]]]]]]]]]), "provenance.x", "more", "8 levels"),
    "provenance with an escape": (
        meta("provenance", "x", to="\x1b]0;"), "provenance.x", "\\x1b", "printable"),
    "a tensor missing": (dropped("layers.0.bias"), "layers.0.bias", "no such tensor", "I32 [5]"),
    "a tensor unknown": (
        retyped("layers.9.codes", "U8", [1], b"\0"), "layers.9.codes", "an unknown tensor", "none"),
    "logit scale missing": (dropped("logit_scale"), "logit_scale", "no such tensor", "F64 [3]"),
    "wrong dtype": (
        retyped("layers.0.bias", "U16", [5], bytes(10)), "layers.0.bias", "U16 [5]", "I32 [5]"),
    "foreign dtype": (
        header_entry("layers.0.bias", "dtype", "BF16"), "layers.0.bias.dtype", "'BF16'", "one of F64"),
    "wrong shape": (
        retyped("layers.0.bias", "I32", [4], bytes(16)), "layers.0.bias", "I32 [4]", "I32 [5]"),
    "codes of two dimensions": (
        header_entry("layers.0.codes", "shape", [2, 34]), "layers.0.codes", "U8 [2, 34]", "U8 [n]"),
    "too few codes": (
        retyped("layers.0.codes", "U8", [67], bytes(67)), "layers.0.codes", "67 bytes", "135 weights"),
    "negative shape": (
        header_entry("layers.0.bias", "shape", [-5]), "layers.0.bias.shape[0]", "-5", "from 1"),
    "shape that overflows": (
        header_entry("layers.0.bias", "shape", [4096] * 8), "layers.0.bias.data_offsets", "[", "bytes"),
    "offsets backwards": (
        header_entry("layers.0.bias", "data_offsets", [20, 0]), "layers.0.bias.data_offsets",
        "[20, 0]", "20 bytes for int32 [5]"),
    "tensors overlap": (
        header_entry("layers.0.bias", "data_offsets", [1, 21]), "data_offsets", "[", "neither overlap"),
    "entry with an unknown key": (
        header_entry("layers.0.bias", "order", "F"), "layers.0.bias", "the key 'order'", "only"),
    "scale NaN": (tensor("layers.0.scale", 2, math.nan), "layers.0.scale[2]", "nan", "a number from"),
    "scale infinite": (tensor("layers.0.scale", 0, math.inf), "layers.0.scale[0]", "inf", "a number"),
    "scale 0": (tensor("layers.3.scale", 4, 0.0), "layers.3.scale[4]", "0.0", "a number from"),
    "scale negative": (tensor("logit_scale", 1, -0.5), "logit_scale[1]", "-0.5", "a number from"),
    "scale subnormal": (tensor("logit_scale", 1, 1e-300), "logit_scale[1]", "1e-300", "a number"),
    "minus zero": (
        tensor("layers.0.codes", 1, 0xF0), "layers.0.codes", "code 15 of weight 3", "pot-4 codes"),
    "most negative code": (
        tensor("layers.7.codes", 0, 0x81), "layers.7.codes", "code 8 of weight 1", "uniform-4"),
    "most negative byte": (
        tensor("layers.6.codes", 9, 0x80), "layers.6.codes", "code 128 of weight 9", "uniform-8"),
    "filling not zero": (
        tensor("layers.0.codes", 67, 0x00), "layers.0.codes", "the filling is [0], not code 7",
        "135 weights"),
    "filling of ternary": (
        tensor("layers.4.codes", 1, 0x05), "layers.4.codes", "the filling is", "5 weights in ternary"),
    "shift 41": (tensor("layers.0.shift", 3, 41), "layers.0.shift[3]", "41", "at most 40"),
    "multiplier of 16 bits": (
        tensor("layers.5.multiplier", 0, 1 << 15), "layers.5.multiplier[0]", "32768", "at most 32767"),
    "accumulators overflow": (accumulators_overflow, f"{L}[0]", "accumulators up to", "2147483648"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_told_by_file_field_found_and_expected(name, tmp_path):
    damage, where, found, expected = CASES[name]
    path = tmp_path / "net.safetensors"
    path.write_bytes(damage(Parts.of(GOLDEN)))

    with pytest.raises(PackedFileError) as caught:
        read_packed(path)

    error = caught.value
    assert error.file == str(path)
    assert where in error.field
    assert found in error.found
    assert expected in error.expected
    message = str(error)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert message.count("\n") == 0
    assert all(part in message for part in (where, "found", "expected"))


N = "metadata.input_format"
VERSION_2: dict[str, tuple[Callable[[Parts], bytes], str, str, str]] = {
    "zero NaN": (meta_text(lambda t: t.replace("-3.5", "NaN", 1)), "metadata", "NaN", "finite"),
    "zero a text": (meta("input_format", "zero", to="0"), f"{N}.zero", "'0'", "a number from"),
    "zero beyond bounds": (meta("input_format", "zero", to=1e9), f"{N}.zero", "1000000000", "from -1.67772e+07"),
    "offset infinite": (tensor("logit_offset", 1, math.inf), "logit_offset[1]", "inf", "a number"),
    "offset of two": (retyped("logit_offset", "F64", [2], bytes(16)), "logit_offset", "F64 [2]", "F64 [3]"),
    "format a number": (meta("layers", 0, "storage", to=4), f"{L}[0].storage", "4", "text"),
    "format of no pattern": (meta("layers", 2, "storage", to="nm-8:8"), f"{L}[2].storage", "'nm-8:8'", "N < M"),
    "format of another array": (meta("layers", 3, "storage", to="stream-3x16"), f"{L}[3].storage", "'stream-3x16'", "stream-OxI"),
    "format of digits elsewhere": (meta("layers", 2, "storage", to="nm-٣:8"), f"{L}[2].storage", "nm-", "no format"),
    "a bitmap bit more": (tensor("layers.0.codes", 0, 0xFF), "layers.0.codes", "bytes, not the", "162 weights in apot-4 codes, bitmap"),
    "a bitmap of signs": (meta("layers", 4, "storage", to="bitmap"), "layers.4.codes", "binary has no zero", "80 weights"),
    "coordinates of too many": (tensor("layers.1.codes", 3, 0x80), "layers.1.codes", "elements of 36 weights", "coo"),
    "a coordinate beyond": (tensor("layers.1.codes", 4, 0xFF), "layers.1.codes", "coordinate 7 of 6", "coo"),
    "a pattern of another": (meta("layers", 2, "storage", to="nm-4:8"), "layers.2.codes", "bytes, not the", "nm-4:8"),
    "a pattern out of order": (tensor("layers.2.codes", -8, 0xFF), "layers.2.codes", "not in its one form", "nm-5:8"),
    "a stream of more entries": (tensor("layers.3.codes", 0, 0x7F), "layers.3.codes", "not a list of 127", "stream-16x16"),
    "a stream with another list": (tensor("layers.3.codes", 4, 0x55), "layers.3.codes", "the group list", "stream"),
    "weights out of nothing": (
        weights_out_of_nothing, "layers.1.codes", "4096 a byte is the most", "coo"),
    "accumulators of pot-5": (tensor("layers.1.bias", 0, 2**31 - 1), f"{L}[1]", "accumulators up to", "2147483648"),
}  # fmt: skip


@pytest.mark.parametrize("name", VERSION_2)
def test_damage_to_what_version_2_holds_is_told(name, tmp_path):
    damage, where, found, expected = VERSION_2[name]
    path = tmp_path / "net.safetensors"
    path.write_bytes(damage(Parts.of(EVERY_FORMAT)))

    with pytest.raises(PackedFileError) as caught:
        read_packed(path)

    error = caught.value
    assert where in error.field
    assert found in error.found + error.expected
    assert expected in error.expected
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (meta("input_format", "zero", to=0.5), "the key 'zero'"),
        (meta("layers", 0, "scheme", to="apot-4"), "'apot-4'"),
        (meta("layers", 0, "storage", to="bitmap"), "'bitmap'"),
        (retyped("logit_offset", "F64", [3], bytes(24)), "an unknown tensor"),
    ],
)
def test_version_1_holds_nothing_of_version_2(damage, found, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(damage(Parts.of(FIRST)))

    with pytest.raises(PackedFileError, match=found):
        read_packed(path)


def test_there_are_enough_cases():
    assert len(CASES) >= 100


def test_a_file_put_together_by_hand_reads_as_the_original(tmp_path):
    path = tmp_path / "same.safetensors"
    path.write_bytes(Parts.of(GOLDEN).join())

    assert packed_bytes(read_packed(path).model) == GOLDEN


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: os.mkfifo(path), "a device or a pipe"),
    ],
    ids=["missing", "folder", "pipe"],
)
def test_what_is_not_a_file_is_told(make, found, tmp_path):
    path = tmp_path / "net.safetensors"
    make(path)

    with pytest.raises(PackedFileError, match=f"{path}: file: found .*{found}"):
        read_packed(path)


def test_a_file_beyond_the_limit_is_not_read_whole(tmp_path):
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as handle:
        handle.truncate(1 << 40)

    with pytest.raises(
        PackedFileError, match="found 1099511627776 bytes; expected at most 268435456"
    ):
        read_packed(path)


# ---- fuzz ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def fuzz_path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "net.safetensors"


def read_or_refuse(path: Path, data: bytes) -> QuantizedModel | None:
    """The model where it reads; None where PackedFileError says why not; all else escapes."""
    path.write_bytes(data)
    try:
        packed = read_packed(path)
    except PackedFileError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert refusal.startswith(f"{path}: ")
        assert refusal.isprintable()
        return None
    # what is accepted is a valid model, and the library accepts the file too
    assert deserialize(data)
    network = packed.model.network
    assert len(network.shapes) == len(packed.model.layers) + 1
    for layer in packed.model.layers:
        if isinstance(layer.op, ConvOp):
            assert np.isfinite(layer.weight_scale).all()
            assert (layer.weight_scale > 0).all()
    formats = {name: form for name, form in packed.layer_formats.items() if form}
    path.write_bytes(packed_bytes(packed.model, formats))
    assert packed_bytes(read_packed(path).model, formats) == path.read_bytes()
    return packed.model


@given(st.binary(max_size=200))
@FUZZ
def test_arbitrary_bytes_are_refused(fuzz_path, data):
    assert read_or_refuse(fuzz_path, data) is None


@given(st.binary(max_size=100), st.binary(max_size=100))
@FUZZ
def test_arbitrary_headers_are_refused(fuzz_path, header, body):
    data = struct.pack("<Q", len(header) + 1) + b"{" + header + body

    assert read_or_refuse(fuzz_path, data) is None


@given(
    st.sampled_from([GOLDEN, EVERY_FORMAT]),
    st.lists(st.integers(0, len(EVERY_FORMAT) * 8 - 1), min_size=1, max_size=4),
)
@FUZZ
def test_flipped_bits(fuzz_path, golden, flips):
    data = bytearray(golden)
    for bit in flips:
        data[bit // 8 % len(data)] ^= 1 << bit % 8

    read_or_refuse(fuzz_path, bytes(data))


@given(st.integers(0, len(GOLDEN) - 1))
@FUZZ
def test_every_cut_is_refused(fuzz_path, length):
    assert read_or_refuse(fuzz_path, GOLDEN[:length]) is None


@given(*(st.integers(0, len(GOLDEN)) for _ in range(3)), st.binary(max_size=16))
@FUZZ
def test_splices(fuzz_path, start, stop, at, insert):
    piece = GOLDEN[min(start, stop) : max(start, stop)]

    read_or_refuse(fuzz_path, GOLDEN[:at] + insert + piece + GOLDEN[at + len(piece) :])


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-2, 260)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["conv", "max", "average", "pot-3", "dense", "bitmap", "coo", "nm-1:4", "stream-8x8", "U8", "stem"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of every value in a JSON tree, the root excepted."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    return [path for key in keys for path in [(*at, key), *places(value[key], (*at, key))]]


def mutate(draw: st.DrawFn, tree: Any) -> None:
    """Replace, remove, copy or add values in a JSON tree."""
    for _ in range(draw(st.integers(1, 3))):
        paths = places(tree)
        if not paths:
            return
        path = draw(st.sampled_from(paths))
        place = tree
        for key in path[:-1]:
            place = place[key]
        action = draw(st.sampled_from(["replace", "replace", "replace", "remove", "copy", "add"]))
        if action == "replace":
            place[path[-1]] = draw(JUNK)
        elif action == "remove":
            del place[path[-1]]
        elif action == "add" and isinstance(place, list):
            place.insert(path[-1], draw(JUNK))
        elif action == "add":
            place[draw(st.text(max_size=8))] = draw(JUNK)
        else:
            source: Any = tree
            for key in draw(st.sampled_from(paths)):
                source = source[key]
            place[path[-1]] = copy.deepcopy(source)


@given(st.data())
@settings(FUZZ, max_examples=500)
def test_edited_metadata(fuzz_path, data):
    parts = Parts.of(data.draw(st.sampled_from([GOLDEN, EVERY_FORMAT])))
    mutate(data.draw, parts.meta)

    read_or_refuse(fuzz_path, parts.join())


@given(st.data())
@settings(FUZZ, max_examples=300)
def test_edited_headers(fuzz_path, data):
    header, body = Parts.of(GOLDEN).header()
    mutate(data.draw, header)

    read_or_refuse(fuzz_path, joined(header, body))


@given(st.sampled_from([GOLDEN, EVERY_FORMAT]), st.data())
@settings(FUZZ, max_examples=400)
def test_edited_tensors(fuzz_path, golden, data):
    parts = Parts.of(golden)
    name = data.draw(st.sampled_from(sorted(parts.tensors)))
    dtype, shape, old = parts.tensors[name]
    new = data.draw(st.binary(min_size=len(old), max_size=len(old)))
    parts.tensors[name] = (dtype, shape, new)

    read_or_refuse(fuzz_path, parts.join())
