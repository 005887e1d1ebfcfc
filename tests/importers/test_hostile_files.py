"""Files of weights that are damaged, hostile or beyond the tool: refused in one line, and not run.

Pickles, archives, safetensors, arrays and layer lists; the graphs have tables of their own
(test_hostile_onnx.py, test_hostile_tflite.py).
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacmac.host.errors import BacmacError, ModelFileError
from bacmac.host.importers import lowering, torch_file
from bacmac.host.importers.registry import load_model
from bacmac.host.model.layers import Conv

MEMORY_BYTES = 300 << 20
WEIGHT = np.arange(18, dtype="<f4") / 18
PROTOCOL = b"\x80\x02"
MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def put(value: object) -> bytes:
    """Instructions that leave a value on the stack."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return b"X" + struct.pack("<I", len(data)) + data
    if isinstance(value, bytes):  # instructions themselves
        return value
    assert isinstance(value, tuple)
    return b"(" + b"".join(map(put, value)) + b"t"


def name(module: str, attribute: str) -> bytes:
    """GLOBAL: the instruction that names a Python object."""
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *arguments: object) -> bytes:
    """Instructions that name a function and call it."""
    return name(module, attribute) + put(arguments) + b"R"


def storage(
    kind: str = "FloatStorage", key: object = "0", elements: object = 18, *more: object
) -> bytes:
    """A reference to a storage; the files before the archive say of what it is a view."""
    return put(("storage", name("torch", kind), key, "cpu", elements, *more)) + b"Q"


def tensor(
    *,
    of: bytes | None = None,
    offset: object = 0,
    shape: object = (2, 1, 3, 3),
    stride: object = (9, 9, 3, 1),
) -> bytes:
    """Instructions that rebuild a tensor."""
    ordered = call("collections", "OrderedDict")
    parts = (storage() if of is None else of, offset, shape, stride, False, ordered)
    return call("torch._utils", "_rebuild_tensor_v2", *parts)


def state_dict(value: bytes, key: str = "conv.weight") -> bytes:
    """A pickle of a dict with one entry."""
    return PROTOCOL + b"}" + put(key) + value + b"s."


def archive(pickle: bytes, *, root: str = "net", **members: bytes) -> bytes:
    """A file as PyTorch writes it since 1.6; `members` by name, `__` for `/`."""
    parts = {
        "data.pkl": pickle,
        "byteorder": b"little",
        "data/0": WEIGHT.tobytes(),
        "version": b"3",
    }
    parts.update({key.replace("__", "/"): data for key, data in members.items()})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as writer:
        for key, data in parts.items():
            writer.writestr(f"{root}/{key}", data)
    return buffer.getvalue()


def legacy(
    pickle: bytes,
    *,
    keys: bytes = b"\x80\x02]X\x01\x00\x00\x000a.",
    storages: bytes = struct.pack("<q", 18) + WEIGHT.tobytes(),
    version: int = 1001,
    facts: bytes = b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.",
) -> bytes:
    """A file as PyTorch wrote it before 1.6."""
    said = PROTOCOL + b"M" + struct.pack("<H", version) + b"."
    return MAGIC + said + facts + pickle + keys + storages


LEGACY_STORAGE = storage("FloatStorage", "0", 18, None)
LIST: dict[str, Any] = {
    "format": "bacmac-layers",
    "version": 1,
    "input_shape": [1, 5, 5],
    "weights": "net.pt",
    "layers": [{"name": "conv", "op": "conv", "weight": "conv.weight"}],
}


def layers(folder: Path, **changes: Any) -> Path:
    """A layer list with one convolution, changed."""
    path = folder / "net.json"
    path.write_text(json.dumps({**LIST, **changes}))
    return path


# --- pickles: every one would do more than hold tensors -----------------------------------------


class Malice:
    """Pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def canary(folder: Path) -> str:
    return f"touch {folder / 'canary'}"


def touching(folder: Path) -> str:
    return f"open({str(folder / 'canary')!r}, 'w')"


def dumped(value: object, protocol: int = 2) -> bytes:
    return pickle.dumps({"conv.weight": value}, protocol)


def nested_reduce() -> bytes:
    return name("builtins", "getattr") + put((name("builtins", "__import__"), "os")) + b"R"


PICKLES: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "os.system": (lambda f: dumped(Malice(os.system, canary(f))), "'posix.system'"),
    "os.system, protocol 4": (lambda f: dumped(Malice(os.system, canary(f)), 4), "'posix.system'"),
    "os.system, protocol 0": (lambda f: dumped(Malice(os.system, canary(f)), 0), "instruction"),
    "builtins.eval": (lambda f: dumped(Malice(eval, touching(f))), "'builtins.eval'"),
    "builtins.exec": (lambda f: dumped(Malice(exec, touching(f)), 5), "'builtins.exec'"),
    "subprocess": (
        lambda f: dumped(Malice(subprocess.Popen, ["touch", str(f / "canary")])),
        "Popen'",
    ),
    "before the weights": (
        lambda f: PROTOCOL + name("os", "system") + put((canary(f),)) + b"R0}.",
        "'os.system'",
    ),
    "getattr chain": (lambda f: state_dict(nested_reduce()), "'builtins.getattr'"),
    "dotted name": (
        lambda f: state_dict(put("collections") + put("OrderedDict.__init__") + b"\x93"),
        "'collections.OrderedDict.__init__'",
    ),
    "name of one's own": (
        lambda f: state_dict(call("bacmac.host.files", "write_text", str(f / "canary"), "x")),
        "'bacmac.host.files.write_text'",
    ),
    "torch.load in a checkpoint": (
        lambda f: state_dict(call("torch.serialization", "load", "other.pt")),
        "'torch.serialization.load'",
    ),
    "torch.hub": (lambda f: state_dict(call("torch.hub", "load", "a", "b")), "'torch.hub.load'"),
    "torch's own rebuilder of numpy": (
        lambda f: state_dict(call("torch._utils", "_rebuild_device_tensor_from_numpy", 1, 2, 3)),
        "_rebuild_device_tensor_from_numpy'",
    ),
    "type of another tensor": (
        lambda f: state_dict(
            call("torch._tensor", "_rebuild_from_type_v2", name("os", "system"), 1, (canary(f),), 1)
        ),
        "'os.system'",
    ),
    "rebuilder in the rebuilder": (
        lambda f: state_dict(
            call(
                "torch._tensor",
                "_rebuild_from_type_v2",
                name("torch._tensor", "_rebuild_from_type_v2"),
                1,
                (),
                1,
            )
        ),
        "type in a tensor type",
    ),
    "a whole network": (
        lambda f: PROTOCOL + name("torch.nn.modules.conv", "Conv2d") + b")\x81}b.",
        "save model.state_dict",
    ),
    "attributes of a list": (lambda f: state_dict(b"]}b"), "attributes of a list"),
    "attributes of a name": (
        lambda f: state_dict(name("torch", "Tensor") + b"}b"),
        "attributes of 'torch.Tensor'",
    ),
    "call of a text": (lambda f: state_dict(put("os.system") + b")R"), "a call of a str"),
    "call of a type": (
        lambda f: state_dict(call("torch", "FloatStorage", 1 << 60)),
        "call of torch.FloatStorage",
    ),
    "new object of a type": (
        lambda f: state_dict(name("torch.nn.parameter", "Parameter") + b")\x81"),
        "a new object",
    ),
    "INST": (lambda f: PROTOCOL + b"(" + put("x") + b"ios\nsystem\n.", "instruction INST"),
    "OBJ": (lambda f: PROTOCOL + b"(o.", "instruction OBJ"),
    "EXT1": (lambda f: PROTOCOL + b"\x82\x01.", "instruction EXT1"),
    "PERSID": (lambda f: PROTOCOL + b"Pnet\n.", "instruction PERSID"),
    "DUP": (lambda f: PROTOCOL + b"]2.", "instruction DUP"),
    "buffer out of band": (lambda f: PROTOCOL + b"\x97.", "NEXT_BUFFER"),
    "unknown instruction": (lambda f: PROTOCOL + b"\xff.", "byte ff"),
    "protocol 9": (lambda f: b"\x80\x09}.", "protocol 9"),
    "LONG4 of 2 GB": (lambda f: PROTOCOL + b"\x8b\xff\xff\xff\x7f.", "integer of 2147483647"),
    "text of 2 GB": (lambda f: PROTOCOL + b"X\xff\xff\xff\x7fabc.", "end of the data"),
    "text of 2^60 bytes": (
        lambda f: PROTOCOL + b"\x8d" + struct.pack("<Q", 1 << 60) + b"abc.",
        "end of the data",
    ),
    "frame of 2^60 bytes": (
        lambda f: b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"}.",
        "a frame of",
    ),
    "name without an end": (lambda f: PROTOCOL + b"c" + b"a" * 5000 + b".", "without an end"),
    "cut": (lambda f: state_dict(tensor())[:-2], "end of the data"),
    "empty": (lambda f: b"", "end of the data"),
    "no stop": (lambda f: PROTOCOL + b"}", "end of the data"),
    "empty stack": (lambda f: PROTOCOL + b"R.", "an empty stack"),
    "below the mark": (lambda f: PROTOCOL + b"}(R.", "an empty stack"),
    "no mark": (lambda f: PROTOCOL + b"}u.", "no mark"),
    "values left": (lambda f: PROTOCOL + b"}}.", "leaves values"),
    "unknown memo": (lambda f: PROTOCOL + b"h\x07.", "memo 7"),
    "odd items": (lambda f: PROTOCOL + b"}(" + put("a") + b"u.", "key without a value"),
    "items of a list": (lambda f: PROTOCOL + b"]" + put("a") + b"Ns.", "items for a list"),
    "key that is a list": (lambda f: PROTOCOL + b"}]Ns.", "a key that is a list"),
    "key of tuples of tuples": (
        lambda f: PROTOCOL + b"}" + b")" + b"\x94h\x00\x86" * 1 + b"\x94h\x01\x86" + b"Ns.",
        "a key that is a tuple",
    ),
    "key of a huge integer": (lambda f: PROTOCOL + b"}" + put(1 << 100) + b"Ns.", "a key that is"),
    "100,000 lists in lists": (
        lambda f: PROTOCOL + b"]" * 100_000 + b"a" * 99_999 + b".",
        "found a list",
    ),
    "100,000 tuples in tuples": (lambda f: PROTOCOL + b")" + b"\x85" * 100_000 + b".", "a tuple"),
    "100,000 marks": (lambda f: PROTOCOL + b"(" * 100_000 + b".", "an empty stack"),
    "a list in itself": (lambda f: PROTOCOL + b"]\x94h\x00a.", "found a list"),
    "a dict in itself": (
        lambda f: PROTOCOL + b"}\x94" + put("model") + b"h\x00s.",
        "no tensors in 'model'",
    ),
    "endless memo": (lambda f: PROTOCOL + b"N" + b"\x94" * 2_100_000 + b".", "2000000 instruct"),
    "endless pushing": (lambda f: PROTOCOL + b"}" * 2_100_000 + b".", "2000000 instruct"),
    "one list, built a million times": (
        lambda f: PROTOCOL
        + b"](" + b"N" * 100_000 + b"e\x94"
        + (name("collections", "OrderedDict") + b"h\x00\x85R0") * 30 + b".",
        "lists without an end|other arguments",
    ),
    "reference to a text": (lambda f: state_dict(put("storage") + b"Q"), "a reference to a str"),
    "reference to a module": (
        lambda f: state_dict(put(("module", "a", "b", "c", 1)) + b"Q"),
        "a reference to a tuple",
    ),
    "storage of another kind": (
        lambda f: state_dict(put(("storage", name("torch", "Tensor"), "0", "cpu", 18)) + b"Q"),
        "another kind of storage",
    ),
    "two sizes of a storage": (
        lambda f: PROTOCOL + b"}(" + put("a") + tensor() + put("b")
        + tensor(of=storage(elements=9)) + b"u.",
        "of two types or sizes",
    ),
    "only a tensor": (lambda f: PROTOCOL + tensor() + b".", "found a TensorNote"),
    "no tensor": (lambda f: PROTOCOL + b"}" + put("epoch") + put(3) + b"s.", "no tensors in 'epo"),
}  # fmt: skip


# --- tensors: the pickle lies about what is there -----------------------------------------------

TENSORS: dict[str, tuple[bytes, str]] = {
    "beyond the storage": (tensor(shape=(2, 1, 3, 4), stride=(12, 12, 4, 1)), "elements 0 to 23"),
    "offset beyond": (tensor(offset=1), "elements 1 to 18"),
    "offset of 2^47": (tensor(offset=1 << 47), "within the 18"),
    "negative offset": (tensor(offset=-1), "whole numbers of 0"),
    "negative stride": (tensor(stride=(-9, 9, 3, 1)), "whole numbers of 0"),
    "negative side": (tensor(shape=(2, 1, -3, 3)), "whole numbers of 0"),
    "sides whose product wraps": (
        tensor(shape=(1 << 32, 1 << 32, 3, 3), stride=(0, 0, 3, 1)),
        "no tensor that repeats",
    ),
    "repeated to 16 GB": (tensor(shape=(1 << 31, 1, 1, 1), stride=(0, 1, 1, 1)), "repeats"),
    "strides fewer than sides": (tensor(stride=(9, 9, 3)), "a stride for each side"),
    "shape of a text": (tensor(shape="2133"), "whole numbers of 0"),
    "shape of floats": (tensor(shape=(2.0, 1, 3, 3)), "whole numbers of 0"),
    "shape of truths": (tensor(shape=(True, 1, 3, 3)), "whole numbers of 0"),
    "40 sides": (tensor(shape=(1,) * 40, stride=(1,) * 40), "whole numbers of 0"),
    "offset of none": (tensor(offset=None), "whole numbers of 0"),
    "storage that is not there": (tensor(of=storage(key="7")), "no storage '7'"),
    "storage outside": (tensor(of=storage(key="../data.pkl")), "no storage"),
    "storage larger than its bytes": (tensor(of=storage(elements=1 << 40)), "at most 18"),
    "storage of doubles": (tensor(of=storage("DoubleStorage")), "at most 9"),
    "storage of a negative size": (tensor(of=storage(elements=-1)), "another kind of storage"),
    "no storage": (tensor(of=put("0")), "no storage"),
    "complex": (tensor(of=storage("ComplexFloatStorage")), "dtype ComplexFloatStorage"),
    "integers": (tensor(of=storage("IntStorage")), "int32.*integers need a scale"),
    "float8": (
        call(
            "torch._utils", "_rebuild_tensor_v3", storage("UntypedStorage", elements=72), 0,
            (2, 1, 3, 3), (9, 9, 3, 1), False, None, name("torch", "float8_e4m3fn"), None,
        ),
        "dtype float8_e4m3fn",
    ),
    "a sparse tensor": (call("torch._utils", "_rebuild_sparse_tensor", 1, 2), "no tensors"),
    "arguments too few": (call("torch._utils", "_rebuild_tensor_v2", 1), "other arguments"),
    "quantizer without a scheme": (
        call("torch._utils", "_rebuild_qtensor", storage("QInt8Storage", elements=72), 0,
             (2, 1, 3, 3), (9, 9, 3, 1), (1, 2), False),
        "no scheme",
    ),
    "quantizer of scale 0": (
        call("torch._utils", "_rebuild_qtensor", storage("QInt8Storage", elements=72), 0,
             (2, 1, 3, 3), (9, 9, 3, 1), (name("torch", "per_tensor_affine"), 0.0, 0), False),
        "scale of 0",
    ),
    "quantizer along axis 9": (
        call("torch._utils", "_rebuild_qtensor", storage("QInt8Storage", elements=72), 0,
             (2, 1, 3, 3), (9, 9, 3, 1),
             (name("torch", "per_channel_affine"), *[tensor(of=storage(key="1"))] * 2, 9), False),
        "an axis that is none",
    ),
}  # fmt: skip


# --- archives -----------------------------------------------------------------------------------


def deflated(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as writer:
        for key, data in members.items():
            writer.writestr(key, data)
    return buffer.getvalue()


def doubled(members: list[tuple[str, bytes]]) -> bytes:
    """An archive whose directory has names twice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as writer:
        for key, data in members:
            info = zipfile.ZipInfo(f"{len(writer.filelist):03}{key[3:]}")
            writer.writestr(info, data)
        raw_names = [key for key, _ in members]
    data = buffer.getvalue()
    for index, key in enumerate(raw_names):
        data = data.replace(f"{index:03}{key[3:]}".encode(), key.encode())
    return data


def patched(data: bytes, field: int, layout: str, value: int) -> bytes:
    """An archive whose last entry of the directory says something else (APPNOTE 4.3.12)."""
    at = data.rindex(b"PK\x01\x02") + field
    size = struct.calcsize(layout)
    return data[:at] + struct.pack(layout, value) + data[at + size :]


def overlapping(count: int = 50) -> bytes:
    """A bomb of Fifield's kind: every entry of the directory is one and the same member."""
    payload = zlib.compress(bytes(1 << 20), 9)[2:-4]
    check = zlib.crc32(bytes(1 << 20))
    names = [f"net/data/{index:03}" for index in range(count)]
    first = names[0].encode()
    head = (20, 0, 8, 0, 33, check, len(payload), 1 << 20, len(first), 0)
    body = b"PK\x03\x04" + struct.pack("<5H3I2H", *head) + first + payload
    entries = b"".join(
        b"PK\x01\x02"
        + struct.pack("<6H3I5H2I", 20, *head[:5], *head[5:9], 0, 0, 0, 0, 0, 0)
        + key.encode()
        for key in names
    )
    end = struct.pack("<4H2IH", 0, 0, count, count, len(entries), len(body), 0)
    return body + entries + b"PK\x05\x06" + end


GOOD = archive(state_dict(tensor()))
PAIR = deflated({"net/data.pkl": state_dict(tensor()), "net/data/0": WEIGHT.tobytes()})
ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "weights deflated a thousandfold": (
        lambda: deflated({"net/data.pkl": state_dict(tensor()), "net/data/0": bytes(200 << 20)}),
        "at most",
    ),
    "pickle of 80 MB": (
        lambda: archive(bytes(80 << 20)),
        "data.pkl: found 83886080 bytes",
    ),
    "members that overlap": (overlapping, "overlap|Overlap|name twice|differ"),
    "a size that is a lie": (lambda: patched(GOOD, 24, "<I", (1 << 31) - 1), "2147483647 bytes in"),
    "a place beyond the file": (lambda: patched(PAIR, 42, "<I", 1 << 30), "damaged"),
    "a wrong checksum": (
        lambda: GOOD.replace(WEIGHT.tobytes(), WEIGHT[::-1].tobytes()),
        "damaged data",
    ),
    "an encrypted member": (lambda: patched(GOOD, 8, "<H", 1), "encrypted"),
    "an absolute name": (lambda: deflated({"/net/data.pkl": b"x"}), "leads out"),
    "a name that climbs": (lambda: deflated({"net/../data.pkl": b"x"}), "leads out"),
    "a member outside": (lambda: GOOD and archive(b"", root="a/b"), "0 members named data.pkl"),
    "two roots": (
        lambda: deflated({"a/data.pkl": state_dict(tensor()), "b/data.pkl": b"x"}),
        "2 members named data.pkl",
    ),
    "a name twice": (
        lambda: doubled([("net/data.pkl", state_dict(tensor())), ("net/data.pkl", b"x")]),
        "the name twice",
    ),
    "no pickle": (lambda: deflated({"net/data/0": b"x"}), "0 members named data.pkl"),
    "no end": (lambda: GOOD[:-30], "damaged archive"),
    "another byte order": (
        lambda: deflated({"net/data.pkl": state_dict(tensor()), "net/byteorder": b"middle"}),
        "byteorder",
    ),
    "TorchScript": (
        lambda: archive(state_dict(tensor()), constants__x=b"", code__constants=b"").replace(
            b"code/constants", b"/constants.pkl"
        ),
        "TorchScript|damaged|leads out",
    ),
    "torch.export": (
        lambda: deflated({"net/archive_format": b"pt2", "net/models/model.json": b"{}"}),
        "torch.export",
    ),
    "a directory of 70,000 members": (
        lambda: GOOD + b"PK\x01\x02" * 70_000,
        "more than 65536 members",
    ),
    "version 1 of another world": (
        lambda: legacy(state_dict(tensor(of=LEGACY_STORAGE)), version=7),
        "another one",
    ),
    "no byte order": (
        lambda: legacy(state_dict(tensor(of=LEGACY_STORAGE)), facts=b"\x80\x02}."),
        "no byte order",
    ),
    "storages cut": (
        lambda: legacy(state_dict(tensor(of=LEGACY_STORAGE)))[:-10],
        "within the file",
    ),
    "storage of 2^62 elements": (
        lambda: legacy(state_dict(tensor(of=LEGACY_STORAGE)), storages=struct.pack("<q", 1 << 62)),
        "4611686018427387904 elements",
    ),
    "storage of a negative size": (
        lambda: legacy(state_dict(tensor(of=LEGACY_STORAGE)), storages=struct.pack("<q", -18)),
        "elements; expected 18",
    ),
    "storages of no tensor": (
        lambda: legacy(
            state_dict(tensor(of=LEGACY_STORAGE)), keys=b"\x80\x02]X\1\0\0\0zaX\1\0\0\0za."
        ),
        "storage 'z'",
    ),
    "names that are a dict": (
        lambda: legacy(state_dict(tensor(of=LEGACY_STORAGE)), keys=b"\x80\x02}."),
        "no list",
    ),
    "a view beyond": (
        lambda: legacy(state_dict(tensor(of=storage("FloatStorage", "0", 18, ("1", 9, 9))))),
        "elements 9 to 26",
    ),
    "tar": (lambda: b"sys_info" + bytes(249) + b"ustar" + bytes(600), "before 0.2"),
    "a bare pickle": (lambda: pickle.dumps({"a": 1}), "pickle"),
    "gzip": (lambda: b"\x1f\x8b" + bytes(40), "gzip"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(40), "Keras or HDF5.*tf2onnx"),
    "a page": (lambda: b"<!DOCTYPE html><html>", "HTML"),
    "a pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "noise": (lambda: bytes(range(200, 256)), "unknown"),
}


# --- safetensors --------------------------------------------------------------------------------


def safe(header: object, body: bytes = WEIGHT.tobytes(), *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(**changes: object) -> dict[str, object]:
    usual = {"dtype": "F32", "shape": [2, 1, 3, 3], "data_offsets": [0, 72]}
    return {"conv.weight": {**usual, **changes}}


SAFETENSORS: dict[str, tuple[Callable[[], bytes], str]] = {
    "header of 2 GB": (lambda: safe(entry(), length=(1 << 31) - 1), "2147483647 bytes"),
    "header of 2^63": (lambda: safe(entry(), length=1 << 63), "unknown|bytes"),
    "not JSON": (lambda: safe(b"{nonsense"), "header"),
    "a list": (lambda: safe(b"{}"[:1] + b"]"), "header"),
    "100,000 objects deep": (lambda: safe(b'{"a":' * 100_000), "header"),
    "a name twice": (lambda: safe(b'{"a": {}, "a": {}}'), "a name is there twice"),
    "dtype that is none": (lambda: safe(entry(dtype="F8_E4M3")), "dtype 'F8_E4M3'"),
    "dtype of a number": (lambda: safe(entry(dtype=3)), "dtype 3"),
    "other keys": (lambda: safe({"conv.weight": {"dtype": "F32"}}), "other keys"),
    "negative side": (lambda: safe(entry(shape=[2, 1, -3, 3])), "whole numbers"),
    "sides whose product wraps": (lambda: safe(entry(shape=[1 << 33, 1 << 33])), "72 bytes"),
    "offsets beyond": (lambda: safe(entry(data_offsets=[0, 1 << 40])), "within the 72"),
    "offsets backwards": (lambda: safe(entry(data_offsets=[72, 0])), "within the 72"),
    "three offsets": (lambda: safe(entry(data_offsets=[0, 1, 72])), "whole numbers"),
    "shape too small": (lambda: safe(entry(shape=[2, 3])), "72 bytes; expected 24"),
    "overlap": (
        lambda: safe({**entry(), "b": {"dtype": "F32", "shape": [9], "data_offsets": [36, 72]}}),
        "no holes, no overlaps",
    ),
    "hole": (lambda: safe(entry(), WEIGHT.tobytes() + bytes(4)), "76 bytes"),
    "NaN": (lambda: safe(entry(), b"\xff" * 72), "NaN or infinity"),
    "integers": (lambda: safe(entry(dtype="I32")), "int32"),
    "cut": (lambda: safe(entry())[:-1], "within the 71"),
}


# --- .npz ---------------------------------------------------------------------------------------


def npy(header: bytes, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def npz(member: bytes) -> bytes:
    return deflated({"conv.weight.npy": member})


def pickled_array() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"conv.weight": np.array([{"a": 1}], object)})
    return buffer.getvalue()


NPZ: dict[str, tuple[Callable[[], bytes], str]] = {
    "an array of objects": (pickled_array, "a pickle"),
    "a header that is code": (
        lambda: npz(npy(b"__import__('os').system('touch canary')")),
        "an unreadable header",
    ),
    "a header of 1 GB of nesting": (lambda: npz(npy(b"(" * 60_000)), "an unreadable header"),
    "2^60 elements": (
        lambda: npz(npy(b"{'descr':'<f4','fortran_order':False,'shape':(1152921504606846976,)}")),
        "shape",
    ),
    "more data than it says": (
        lambda: npz(npy(b"{'descr':'<f4','fortran_order':False,'shape':(1,)}", bytes(8))),
        "8 bytes of data",
    ),
    "type with fields": (
        lambda: npz(npy(b"{'descr':[('a','<f4')],'fortran_order':False,'shape':(1,)}", bytes(4))),
        "type",
    ),
    "200 MB of zeros": (lambda: npz(bytes(200 << 20)), "at most"),
    "infinity": (
        lambda: npz(
            npy(b"{'descr':'<f4','fortran_order':False,'shape':(1,1,1,1)}", b"\0\0\x80\x7f")
        ),
        "NaN or infinity",
    ),
    "a member that is no array": (
        lambda: deflated({"a.npy": b"", "conv.weight": b"x"}),
        "another kind of member",
    ),
    "no arrays": (lambda: deflated({}), "unknown|ZIP"),
}


# --- layer lists --------------------------------------------------------------------------------

CONV = LIST["layers"][0]
GRID = {"scale": 0.1, "low": 0, "high": 255}
LISTS: dict[str, tuple[dict[str, Any], str]] = {
    "a layer that reads itself": ({"layers": [{**CONV, "input": "conv"}]}, "input: found 'conv'"),
    "a cycle": (
        {"layers": [{**CONV, "input": "b"}, {"name": "b", "op": "relu", "input": "conv"}]},
        "input: found 'b'",
    ),
    "5,000 layers": (
        {"layers": [{"name": f"r{i}", "op": "relu"} for i in range(5000)]},
        "5000 of them",
    ),
    "one array 2^20 times": (
        {"layers": [{"name": f"c{i}", "op": "conv", "weight": "conv.weight"} for i in range(4000)]},
        "does not fit|window",
    ),
    "an input of 2^48 values": ({"input_shape": [1 << 16] * 3}, "input_shape"),
    "an array that is not there": ({"layers": [{**CONV, "weight": "gone"}]}, "no array 'gone'"),
    "weights elsewhere": ({"weights": "../net.pt"}, "weights"),
    "weights by an absolute name": ({"weights": "/etc/passwd"}, "weights"),
    "scale of 0": ({"layers": [{**CONV, "grid": {**GRID, "scale": 0}}]}, "scale 0"),
    "scale that is not finite": (
        {"layers": [{**CONV, "grid": {**GRID, "scale": float("nan")}}]},
        "scale: found nan",
    ),
    "grid without a range": ({"layers": [{**CONV, "grid": {"scale": 1}}]}, "scale, low and high"),
    "grid backwards": ({"layers": [{**CONV, "grid": {**GRID, "low": 300}}]}, "codes 300"),
    "grid of 2^40 codes": ({"layers": [{**CONV, "grid": {**GRID, "high": 1 << 40}}]}, "whole num"),
    "grid with a stray field": ({"input_grid": {**GRID, "step": 1}}, "'step'"),
    "grid of another rounding": ({"input_grid": {**GRID, "rounding": "up"}}, "rounding 'up'"),
    "scale of an array that is not there": ({"input_grid": {**GRID, "scale": "s"}}, "no array 's'"),
    "scale beside floats": ({"layers": [{**CONV, "scale": 0.5}]}, "an array of integers"),
    "a terabyte of zeros and ones": (
        {
            "layers": [
                {"name": f"s{i}", "op": "relu"}
                if i % 2
                else {"name": f"s{i}", "op": "subsample", "pad_channels": [2500, 2500]}
                for i in range(20)
            ]
        },
        "weights that only move data",
    ),
    "70,000 channels": (
        {"layers": [{"name": "s", "op": "subsample", "pad_channels": [60000, 10000]}]},
        "65536 channels at most",
    ),
    "unknown method": ({"quantized": {"method": "inq"}}, "'inq'"),
    "bits of none": ({"quantized": {"method": "apot", "bits": 99}}, "bits 99"),
    "APoT without its clip": (
        {"layers": [{**CONV, "quantized": {"method": "apot", "bits": 4}}]},
        "no conv.weight_alpha",
    ),
}

FILES: dict[str, tuple[Callable[[Path], tuple[str, bytes]], str]] = {}
for _case, (_make, _words) in PICKLES.items():
    FILES[f"pickle: {_case}"] = (lambda f, m=_make: ("net.pt", archive(m(f))), _words)
for _case, (_bytes, _words) in TENSORS.items():
    FILES[f"tensor: {_case}"] = (
        lambda f, b=_bytes: ("net.pt", archive(state_dict(b))),
        _words,
    )
for _suffix, _table in ((".pt", ARCHIVES), (".safetensors", SAFETENSORS), (".npz", NPZ)):
    for _case, (_plain, _words) in _table.items():
        FILES[f"{_suffix}: {_case}"] = (
            lambda f, m=_plain, s=_suffix: (f"net{s}", m()),
            _words,
        )


def load(folder: Path, file: str, data: bytes) -> object:
    (folder / file).write_bytes(data)
    return load_model(folder / file, layers(folder))


@pytest.mark.parametrize("suffix", ["pt", "legacy", "safetensors", "npz"])
def test_what_the_cases_change_is_read(suffix: str, tmp_path: Path) -> None:
    weight = WEIGHT.reshape(2, 1, 3, 3)
    buffer = io.BytesIO()
    np.savez(buffer, **{"conv.weight": weight})
    data = {
        "pt": GOOD,
        "legacy": legacy(state_dict(tensor(of=LEGACY_STORAGE))),
        "safetensors": safe(entry()),
        "npz": buffer.getvalue(),
    }[suffix]

    model = load(tmp_path, f"net.{suffix.replace('legacy', 'pth')}", data)

    conv = model.layers[0]  # type: ignore[attr-defined]
    assert isinstance(conv, Conv)
    np.testing.assert_array_equal(conv.weight, weight)


@pytest.mark.parametrize("case", FILES)
def test_a_hostile_file_is_refused_in_one_line_and_nothing_of_it_is_run(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, words = FILES[case]
    monkeypatch.chdir(tmp_path)
    file, data = make(tmp_path)

    with pytest.raises(ModelFileError, match=words) as caught:
        load(tmp_path, file, data)

    assert str(tmp_path) in str(caught.value)
    assert str(caught.value).isprintable()
    assert {path.name for path in tmp_path.iterdir()} <= {file, "net.json"}


@pytest.mark.parametrize("case", LISTS)
def test_a_hostile_layer_list_is_refused_by_field(case: str, tmp_path: Path) -> None:
    changes, words = LISTS[case]
    (tmp_path / "net.pt").write_bytes(GOOD)

    with pytest.raises(ModelFileError, match=words) as caught:
        load_model(layers(tmp_path, **changes))

    assert str(caught.value).isprintable()


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(FILES) + len(LISTS) >= 150


BOMBS = [
    "pickle: LONG4 of 2 GB",
    "pickle: text of 2^60 bytes",
    "pickle: 100,000 lists in lists",
    "pickle: 100,000 tuples in tuples",
    "tensor: repeated to 16 GB",
    "tensor: sides whose product wraps",
    ".pt: members that overlap",
    ".pt: a size that is a lie",
    ".pt: storage of 2^62 elements",
    ".safetensors: header of 2 GB",
    ".safetensors: 100,000 objects deep",
    ".npz: a header of 1 GB of nesting",
    ".npz: 2^60 elements",
]


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_takes_little_memory(case: str, tmp_path: Path) -> None:
    make, words = FILES[case]
    file, data = make(tmp_path)
    (tmp_path / file).write_bytes(data)
    structure = layers(tmp_path)

    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=words):
            load_model(tmp_path / file, structure)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < MEMORY_BYTES


UNDER_LIMITS = [*BOMBS, "pickle: endless memo", "pickle: endless pushing"]
SCRIPT = """
import sys
from pathlib import Path
from bacmac.host.errors import ModelFileError
from bacmac.host.importers.registry import load_model
for file in sys.argv[2:]:
    try:
        load_model(file, sys.argv[1])
    except ModelFileError as error:
        print("refused", Path(file).parent.name)
"""


def test_all_bombs_are_refused_under_a_limit_of_time_and_memory(tmp_path: Path) -> None:
    files = []
    for index, case in enumerate(UNDER_LIMITS):
        folder = tmp_path / f"{index}"
        folder.mkdir()
        file, data = FILES[case][0](folder)
        (folder / file).write_bytes(data)
        files.append(str(folder / file))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    words = [sys.executable, "-c", SCRIPT, str(layers(tmp_path)), *files]
    ended = subprocess.run(words, preexec_fn=limit, capture_output=True, text=True, check=False)

    assert ended.stdout.split() == [w for i in range(len(files)) for w in ("refused", str(i))]
    assert ended.returncode == 0, ended.stderr


def test_a_chain_of_gains_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "MAX_FOLDED", 1000)
    np.savez(tmp_path / "net.npz", w=np.ones((2, 1, 3, 3), np.float32), v=np.ones(2, np.float32))
    parts = dict.fromkeys(("scale", "shift", "mean", "variance"), "v")
    gains = [{"name": f"b{index}", "op": "batchnorm", **parts} for index in range(100)]
    conv = {"name": "conv", "op": "conv", "weight": "w"}

    with pytest.raises(ModelFileError, match="again and again"):
        load_model(layers(tmp_path, weights="net.npz", layers=[conv, *gains]))


def test_one_storage_is_not_inflated_for_every_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_file, "READ_AGAIN", 0)
    monkeypatch.setattr(torch_file, "FREE_BYTES", 200)
    other = tensor(of=storage(key="1"))
    pickled = PROTOCOL + b"}(" + put("a") + tensor() + put("b") + other + b"u."
    (tmp_path / "net.pt").write_bytes(archive(pickled, data__1=WEIGHT.tobytes()))
    convs = [
        {"name": f"c{i}", "op": "conv", "weight": "ab"[i % 2], "input": "input"} for i in range(4)
    ]

    with pytest.raises(ModelFileError, match="again and again"):
        load_model(layers(tmp_path, layers=[*convs, *sums(4)]))


def sums(count: int) -> list[dict[str, Any]]:
    """Layers that read so many convolutions' outputs, so that the list has one output."""
    names = ["c0", *(f"s{index}" for index in range(1, count))]
    return [
        {"name": names[i], "op": "add", "input": names[i - 1], "with": f"c{i}"}
        for i in range(1, count)
    ]


# --- mutated files ------------------------------------------------------------------------------


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"conv.weight": WEIGHT.reshape(2, 1, 3, 3), "b": np.ones(2, np.float32)})
    return buffer.getvalue()


MUTATED = {
    "archive": ("net.pt", GOOD),
    "legacy": ("net.pth", legacy(state_dict(tensor(of=LEGACY_STORAGE)))),
    "safetensors": ("net.safetensors", safe(entry())),
    "npz": ("net.npz", _npz()),
}
EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8
)
SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("kind", MUTATED)
@SETTINGS
@given(edits=EDITS, cut=st.integers(0, 40))
def test_only_the_project_s_errors_escape_from_mutated_weights(
    kind: str, edits: list[tuple[float, int]], cut: int, tmp_path: Path
) -> None:
    file, good = MUTATED[kind]
    data = bytearray(good)
    for place, value in edits:
        data[int(place * len(data))] = value

    try:
        load(tmp_path, file, bytes(data[: len(data) - max(0, cut - 30)]))
    except BacmacError as error:
        told = str(error)
    else:
        told = "a model"
    assert told.isprintable()


INSTRUCTIONS = [
    *(b"} ] ) ( t e u s a R b \x81 \x85 \x86 \x94 h\x00 h\x01 q\x00 0 1 N \x88 Q \x93".split(b" ")),
    *(b"\x8f \x90 \x91 d l K\x01".split(b" ")),
    *map(put, ("conv.weight", "os", "system", -1, 1 << 70, 0.5)),
    name("collections", "OrderedDict"),
    name("numpy", "dtype"),
    name("torch", "FloatStorage"),
    name("torch._tensor", "_rebuild_from_type_v2"),
    name("torch._utils", "_rebuild_parameter"),
    name("torch._utils", "_rebuild_tensor_v2"),
    tensor(),
    storage(),
]


@SETTINGS
@given(program=st.lists(st.sampled_from(INSTRUCTIONS), max_size=40))
def test_no_program_of_known_instructions_escapes(program: list[bytes], tmp_path: Path) -> None:
    for data in (state_dict(b"".join(program)), PROTOCOL + b"".join(program) + b"."):
        try:
            load(tmp_path, "net.pt", archive(data))
        except BacmacError as error:
            told = str(error)
        else:
            told = "a model"
        assert told.isprintable()


@SETTINGS
@given(edits=EDITS)
def test_only_the_project_s_errors_escape_from_mutated_layer_lists(
    edits: list[tuple[float, int]], tmp_path: Path
) -> None:
    quantized = {**CONV, "grid": GRID, "quantized": {"method": "none"}, "padding": [1, 1]}
    data = bytearray(json.dumps({**LIST, "layers": [quantized], "input_grid": GRID}).encode())
    for place, value in edits:
        data[int(place * len(data))] = value
    (tmp_path / "net.pt").write_bytes(GOOD)
    (tmp_path / "net.json").write_bytes(bytes(data))

    try:
        load_model(tmp_path / "net.json")
    except BacmacError as error:
        told = str(error)
    else:
        told = "a model"
    assert told.isprintable()
