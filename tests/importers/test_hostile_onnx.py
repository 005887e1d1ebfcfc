"""Hostile and broken ONNX files: one line that names what is wrong, in bounded time and memory."""

from __future__ import annotations

import itertools
import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bacmac.host.errors import BacmacError, ModelFileError
from bacmac.host.importers.onnx_file import load_onnx

FUZZ_RUNS = 400
MAX_GROWTH_BYTES = 512 << 20
"""Of the process over a refused file: a file claims far more than this."""


def node(kind: str, *inputs: str, output: str = "y", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, [output], kind.lower(), **attributes)


def model(
    *nodes: Any,
    constants: dict[str, Any] | None = None,
    shape: tuple[Any, ...] = ("N", 4, 8, 8),
    opset: int = 21,
    functions: tuple[Any, ...] = (),
    domains: tuple[str, ...] = (),
) -> Any:
    """A model from `x` to `y` with a 3x3 weight `w`, its integers `wq`, a scale `s`, zero `z`."""
    random_integers = np.random.default_rng(3).integers(-127, 128, (4, 4, 3, 3), np.int8)
    held: dict[str, Any] = {
        "w": np.ones((4, 4, 3, 3), np.float32),
        "wq": random_integers,
        "s": np.float32(0.1),
        "z": np.uint8(0),
        "z8": np.int8(0),
        "v": np.ones(4, np.float32),
        **(constants or {}),
    }
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "g",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, functions=functions)


def conv(weight: str = "w", x: str = "x", output: str = "y") -> Any:
    return node("Conv", x, weight, output=output)


def weight_by(scale: Any, zero: Any = None, **attributes: Any) -> Any:
    """A convolution whose weight is wq by this scale and zero point."""
    constants = {"sc": np.asarray(scale, np.float32)}
    inputs = ["wq", "sc"]
    if zero is not None:
        constants["ze"] = np.asarray(zero)
        inputs.append("ze")
    return model(
        node("DequantizeLinear", *inputs, output="d", **attributes), conv("d"), constants=constants
    )


def activation_by(scale: Any, zero: Any, read_scale: Any = None, **attributes: Any) -> Any:
    constants = {
        "sc": np.asarray(scale, np.float32),
        "ze": np.asarray(zero),
        "rs": np.asarray(scale if read_scale is None else read_scale, np.float32),
    }
    return model(
        node("QuantizeLinear", "x", "sc", "ze", output="q", **attributes),
        node("DequantizeLinear", "q", "rs", "ze", output="d"),
        conv("w", "d"),
        constants=constants,
    )


def quant(scale: Any = 0.5, zero: Any = 0.0, bits: Any = 4.0, of: str = "x", **given: Any) -> Any:
    """A QONNX Quant of the image or of the weight `w`."""
    constants = {
        "qs": np.asarray(scale, np.float32),
        "qz": np.asarray(zero, np.float32),
        "qb": np.asarray(bits, np.float32),
    }
    given.setdefault("signed", 1)
    given.setdefault("narrow", 0)
    given.setdefault("rounding_mode", "ROUND")
    given.setdefault("domain", "qonnx.custom_op.general")
    step = node("Quant", of, "qs", "qz", "qb", output="q", **given)
    return model(step, conv("w", "q") if of == "x" else conv("q"), constants=constants)


def qlinear(**changed: Any) -> Any:
    """QLinearConv of the quantized image, constants changed by name."""
    held = {"xs": np.float32(0.1), "xz": np.uint8(3), "ws": np.float32(0.01), "wz": np.int8(0)}
    held |= {"ys": np.float32(0.2), "yz": np.uint8(9), "b": np.ones(4, np.int32)} | changed
    return model(
        node("QuantizeLinear", "x", "s1", "z1", output="q"),
        node("QLinearConv", "q", "xs", "xz", "wq", "ws", "wz", "ys", "yz", "b", output="c"),
        node("DequantizeLinear", "c", "ys", "yz"),
        constants={**held, "s1": np.float32(0.1), "z1": np.uint8(3)},
    )


def function(name: str, *nodes: Any, inputs: tuple[str, ...] = ("a",)) -> Any:
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, inputs, ["r"], list(nodes), imports)


def call(name: str, x: str, output: str) -> Any:
    return node(name, x, output=output, domain="local")


def endless_function() -> Any:
    return model(
        call("f", "x", "y"), functions=(function("f", call("f", "a", "r")),), domains=("local",)
    )


def function_bomb() -> Any:
    """Twelve functions, each of which calls the next one ten times."""
    made = []
    for depth in range(12):
        calls = [call(f"f{depth + 1}", "a" if i == 0 else f"t{i - 1}", f"t{i}") for i in range(9)]
        made.append(function(f"f{depth}", *calls, call(f"f{depth + 1}", "t8", "r")))
    made.append(function("f12", node("Identity", "a", output="r")))
    return model(call("f0", "x", "y"), functions=tuple(made), domains=("local",))


def chained_constants() -> Any:
    """Each Expand makes four times as much of the one before it."""
    nodes = []
    for step in range(14):
        source = "v" if step == 0 else f"e{step - 1}"
        nodes.append(node("Expand", source, f"shape{step}", output=f"e{step}"))
    shapes = {f"shape{s}": np.array([4] * (s + 1) + [4], np.int64) for s in range(14)}
    return model(*nodes, node("Mul", "x", "e13"), constants=shapes)


def external(location: str, offset: int = 0, length: int = 576) -> Callable[[Path], bytes]:
    def write(folder: Path) -> bytes:
        (folder / "beside.bin").write_bytes(bytes(576))
        (folder / "sub").mkdir()
        (folder / "sub" / "inner.bin").write_bytes(bytes(576))
        (folder / "link.bin").symlink_to(folder / "beside.bin")
        made = model(conv())
        weight = made.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            entry = weight.external_data.add()
            entry.key, entry.value = key, str(value)
        return bytes(made.SerializeToString())

    return write


def changed(change: Callable[[Any], None], *nodes: Any) -> Callable[[Path], bytes]:
    def write(_: Path) -> bytes:
        made = model(*(nodes or (conv(),)))
        change(made)
        return bytes(made.SerializeToString())

    return write


def raw(change: Callable[[bytes], bytes]) -> Callable[[Path], bytes]:
    return lambda _: change(bytes(model(conv()).SerializeToString()))


def set_dims(*dims: int) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        made.graph.initializer[0].ClearField("dims")
        made.graph.initializer[0].dims.extend(dims)

    return change


def _field(number: int, data: bytes) -> bytes:
    size = len(data)
    length = bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes(length) + bytes([size]) + data


def deep(_: Path) -> bytes:
    data = b""
    for _depth in range(5000):
        data = _field(1, _field(5, _field(6, data)))
    return _field(7, data)


def many_nodes(_: Path) -> bytes:
    nodes = [node("Relu", f"t{i}", output=f"t{i + 1}") for i in range(20_001)]
    nodes[0].input[0] = "x"
    nodes[-1].output[0] = "y"
    return bytes(model(*nodes).SerializeToString())


def long_chain(_: Path) -> bytes:
    """Pools that change nothing, and then a ReLU that has to find the layer before them."""
    window = {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [0, 0, 1, 1]}
    names = ["c", *(f"t{i}" for i in range(3000))]
    pools = [node("MaxPool", a, output=b, **window) for a, b in itertools.pairwise(names)]
    last = node("Sigmoid", "r")
    return bytes(
        model(conv(output="c"), *pools, node("Relu", names[-1], output="r"), last)
        .SerializeToString()
    )  # fmt: skip


def renamed(made: Any) -> bytes:
    return bytes(made.SerializeToString()).replace(b"conv", b"\xff\xfe\x80n")


CASES: dict[str, tuple[Any, str]] = {
    "cycle of two": (
        model(node("Add", "x", "b", output="a"), node("Relu", "a", output="b"), conv(x="b")),
        "a cycle",
    ),
    "node that reads itself": (model(node("Add", "x", "y")), "a cycle"),
    "missing initializer": (model(conv("gone")), "'gone'"),
    "weight of three sides": (model(conv("u"), constants={"u": np.ones((4, 4, 3), "f")}), "4: a"),
    "weight of other channels": (
        model(conv("u"), constants={"u": np.ones((4, 5, 3, 3), "f")}),
        "weight",
    ),
    "empty weight": (model(conv("u"), constants={"u": np.ones((0, 4, 3, 3), "f")}), "weight"),
    "unknown op": (model(node("Hardmax", "x")), "op 'Hardmax'"),
    "unknown domain": (model(node("Relu", "x", domain="evil\n")), "domain"),
    "aten": (model(node("relu", "x", domain="org.pytorch.aten")), "domain 'org.pytorch.aten'"),
    "loop": (model(node("Loop", "x")), "op 'Loop'"),
    "NaN scale": (weight_by(np.nan), "NaN"),
    "infinite scale": (weight_by(np.inf), "infinity"),
    "zero scale": (weight_by(0.0), "scale 'sc' of 0"),
    "negative scale": (weight_by(-1.0), "above 0"),
    "one scale of four is zero": (weight_by([1, 1, 0, 1], axis=0), "above 0"),
    "scales of another length": (weight_by([1, 2, 3], axis=0), "3 scales"),
    "axis out of range": (weight_by([1, 1, 1, 1], axis=4), "axis 4"),
    "axis far below": (weight_by([1, 1, 1, 1], axis=-(1 << 62)), "axis"),
    "blocked scales": (weight_by(np.ones((4, 2, 3, 3)), axis=1, block_size=2), "blocked"),
    "scale of two sides": (weight_by(np.ones((2, 2)), axis=0), "blocked"),
    "zero point of another type": (weight_by(1.0, np.uint8(3)), "one type"),
    "float zero point": (weight_by(1.0, np.float32(0)), "integers"),
    "zero points of another count": (weight_by(1.0, np.zeros(4, np.int8)), "one of each"),
    "scale from the image": (
        model(node("QuantizeLinear", "x", "x", output="q"), conv(x="q")),
        "computed from the image",
    ),
    "scale a channel of an image": (activation_by([1, 2, 3, 4], np.zeros(4, np.uint8)), "one for"),
    "zero scale of an image": (activation_by(0.0, np.uint8(0)), "above 0"),
    "read by another scale": (activation_by(0.1, np.uint8(0), read_scale=0.2), "the same"),
    "float8 codes": (activation_by(0.1, np.float16(0)), "integers"),
    "output_dtype of text": (activation_by(0.1, np.uint8(0), output_dtype=8), "output_dtype|int"),
    "output_dtype unknown": (activation_by(0.1, np.uint8(0), output_dtype=99), "output_dtype 99"),
    "image never quantized": (
        model(node("DequantizeLinear", "x", "s", "z", output="d"), conv(x="d")),
        "QuantizeLinear wrote",
    ),
    "integers into a convolution": (
        model(node("QuantizeLinear", "x", "s", "z", output="q"), conv(x="q")),
        "Conv of integers",
    ),
    "scales of each image": (
        model(node("DynamicQuantizeLinear", "x", output="q"), conv(x="q")),
        "computed from each image",
    ),
    "QLinearConv of other scales": (qlinear(xs=np.float32(0.3)), "the same"),
    "QLinearConv with a float bias": (qlinear(b=np.ones(4, "f")), "bias"),
    "QLinearConv with a short bias": (qlinear(b=np.ones(3, np.int32)), "bias"),
    "QLinearConv with a zero scale": (qlinear(ws=np.float32(0)), "above 0"),
    "bit width 0": (quant(bits=0), "bit width of 0"),
    "bit width 33": (quant(bits=33), "bit width of 33"),
    "bit width NaN": (quant(bits=np.nan), "bit width of nan"),
    "bit width 2.5": (quant(bits=2.5), "bit width of 2.5"),
    "bit widths for each channel": (quant(bits=[4, 4, 4, 4]), "one number"),
    "QONNX scale zero": (quant(scale=0.0, of="w"), "above 0"),
    "QONNX scale NaN": (quant(scale=np.nan, of="w"), "NaN"),
    "QONNX scale that makes more": (quant(scale=np.ones((9, 4, 4, 3, 3)), of="w"), "fit"),
    "QONNX zero point infinite": (quant(zero=np.inf), "infinity"),
    "QONNX zero point outside": (quant(zero=1e9), "zero"),
    "QONNX rounding unknown": (quant(rounding_mode="LUCKY"), "rounding_mode 'LUCKY'"),
    "QONNX rounding by sign": (quant(rounding_mode="DOWN"), "rounding_mode 'DOWN'"),
    "QONNX of another domain": (quant(domain="evil.general"), "domain 'evil.general'"),
    "one bit, narrow": (quant(bits=1, signed=0, narrow=1), "codes 0 to 0"),
    "function without an end": (endless_function(), "without an end"),
    "function bomb": (function_bomb(), "more than 20000 nodes"),
    "constants that grow": (chained_constants(), "a constant of"),
    "a gather that makes much of little": (
        model(
            node("Gather", "thin", "many", output="e", axis=1),
            node("Mul", "x", "e"),
            constants={
                "thin": np.ones((200_000, 1), np.float32),
                "many": np.zeros(200_000, np.int64),
            },
        ),
        "a constant of",
    ),
    "huge constant": (
        model(
            node("ConstantOfShape", "n", output="e"),
            node("Mul", "x", "e"),
            constants={"n": np.array([1 << 40], np.int64)},
        ),
        "a constant of",
    ),
    "negative expansion": (
        model(
            node("Expand", "v", "n", output="e"),
            node("Mul", "x", "e"),
            constants={"n": np.array([-4], np.int64)},
        ),
        "sizes from 0",
    ),
    "huge input": (model(conv(), shape=("N", 4, 1 << 30, 1 << 30)), "at most"),
    "negative input side": (model(conv(), shape=("N", 4, -8, 8)), "fixed channels"),
    "huge dims": (changed(set_dims(1 << 60, 4, 3, 3)), "tensor 'w'"),
    "dims whose product overflows": (changed(set_dims(1 << 32, 1 << 32, 1, 1)), "tensor 'w'"),
    "negative dims": (changed(set_dims(-4, 4, 3, 3)), "sizes from 0"),
    "a hundred dims": (changed(set_dims(*[1] * 100)), "dimensions"),
    "short data": (
        changed(lambda m: setattr(m.graph.initializer[0], "raw_data", b"123")),
        "damaged",
    ),
    "unknown element type": (
        changed(lambda m: setattr(m.graph.initializer[0], "data_type", 12345)),
        "tensor 'w'",
    ),
    "name written twice": (changed(lambda m: m.graph.node.append(m.graph.node[0])), "twice"),
    "no graph": (changed(lambda m: m.ClearField("graph")), "0 nodes"),
    "no opset": (changed(lambda m: m.ClearField("opset_import")), "opset"),
    "opset of the far future": (
        changed(lambda m: setattr(m.opset_import[0], "version", 1 << 62)),
        "newer onnx",
    ),
    "no input": (changed(lambda m: m.graph.ClearField("input")), "0 inputs"),
    "input without a type": (changed(lambda m: m.graph.input[0].ClearField("type")), "type 0"),
    "external file missing": (external("gone.bin"), "ordinary file"),
    "external by absolute path": (external("/etc/passwd"), "'/etc/passwd'"),
    "external by the folder above": (external("../net.bin"), "model's folder"),
    "external in a folder below": (external("sub/inner.bin"), "model's folder"),
    "external by a link": (external("link.bin"), "ordinary file"),
    "external on another drive": (external("C:net.bin"), "model's folder"),
    "external folder": (external("sub"), "ordinary file"),
    "external bytes beyond its end": (external("beside.bin", 0, 1 << 40), "within its 576"),
    "external negative offset": (external("beside.bin", -8), "within its 576"),
    "external of another size": (external("beside.bin", 0, 8), "damaged"),
    "truncated": (raw(lambda data: data[: len(data) // 2]), "damaged|nodes|graph"),
    "length prefix of 2 GB": (
        raw(lambda _: b"\x3a\xff\xff\xff\xff\x07" + bytes(64)),
        "damaged data",
    ),
    "length prefix of 16 EB": (
        raw(lambda _: b"\x3a" + b"\xff" * 9 + b"\x01" + bytes(64)),
        "damaged data",
    ),
    "five thousand graphs deep": (deep, "damaged data|nodes"),
    "too many nodes": (many_nodes, "20000"),
    "three thousand pools": (long_chain, "op 'Sigmoid'"),
    "names that are not UTF-8": (
        lambda _: renamed(model(node("Nop", "x"), conv())),
        "damaged|Nop|written",
    ),
    "text": (raw(lambda _: b"not a model at all\n" * 40), "damaged data|nodes"),
    "zeros": (raw(lambda _: bytes(4096)), "damaged data|nodes"),
}  # fmt: skip


def write(case: Any, folder: Path) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(case(folder) if callable(case) else case.SerializeToString())
    return path


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_refused_in_one_line_and_little_memory(name: str, tmp_path: Path) -> None:
    case, message = CASES[name]
    path = write(case, tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(ModelFileError, match=message) as caught:
        load_onnx(path)

    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()
    assert grown < MAX_GROWTH_BYTES


def test_weights_in_a_file_of_the_same_folder_are_read(tmp_path: Path) -> None:
    weight = np.random.default_rng(1).normal(size=(4, 4, 3, 3)).astype(np.float32)
    made = model(conv("big"), constants={"big": weight})
    onnx.save(made, tmp_path / "net.onnx", save_as_external_data=True, location="net.data",
              size_threshold=16)  # fmt: skip

    loaded = load_onnx(tmp_path / "net.onnx")

    assert np.array_equal(loaded.layers[0].weight, weight)  # type: ignore[union-attr]


FUZZED = (
    "qonnx_tfc_1w1a",
    "qonnx_jettagging_6bit",
    "resnet20_cifar10_qdq_int8",
    "mnist8_cntk_float",
)


def damage(data: bytes, generator: random.Random) -> bytes:
    """Bits turned, the end cut off, blocks exchanged or repeated, or bytes set to extremes."""
    edited = bytearray(data)
    kind = generator.randrange(5)
    if kind == 0:
        for _ in range(generator.randint(1, 12)):
            edited[generator.randrange(len(edited))] ^= 1 << generator.randrange(8)
    elif kind == 1:
        del edited[generator.randrange(len(edited)) :]
    elif kind == 2:
        size = generator.randint(1, 200)
        a, b = (generator.randrange(max(1, len(edited) - size)) for _ in range(2))
        edited[a : a + size], edited[b : b + size] = edited[b : b + size], edited[a : a + size]
    elif kind == 3:
        place = generator.randrange(len(edited))
        edited[place:place] = edited[place : place + generator.randint(1, 64)]
    else:
        # names and structure lie at the ends; weights in the middle are the least interesting
        for _ in range(generator.randint(1, 6)):
            place = generator.randrange(min(len(edited), 4000))
            place = place if generator.random() < 0.5 else len(edited) - 1 - place
            edited[place] = generator.choice((0, 1, 127, 128, 255))
    return bytes(edited)


@pytest.mark.parametrize("name", FUZZED)
def test_damaged_real_files_give_a_model_or_the_projects_own_error(
    name: str, real_data: Path | None, tmp_path: Path
) -> None:
    if real_data is None:
        data = bytes(qlinear().SerializeToString())
    else:
        data = (real_data / f"{name}.onnx").read_bytes()
    path = tmp_path / "net.onnx"
    generator = random.Random(len(data))
    runs = max(30, FUZZ_RUNS * 20_000 // len(data))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for _ in range(min(FUZZ_RUNS, runs)):
        path.write_bytes(damage(data, generator))
        try:
            load_onnx(path)
        except BacmacError as error:
            assert str(error).isprintable()  # noqa: PT017

    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MAX_GROWTH_BYTES
