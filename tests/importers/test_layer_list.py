"""Layer lists: the networks they describe, and how a wrong one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.registry import load_model
from bacmac.host.model.forward import forward
from bacmac.host.model.layers import Conv, Pool

RANDOM = np.random.default_rng(3)
ARRAYS = {
    "conv.weight": RANDOM.normal(size=(6, 2, 3, 3)).astype(np.float32),
    "depth.weight": RANDOM.normal(size=(6, 1, 3, 3)).astype(np.float32),
    "vector": RANDOM.uniform(0.5, 1, 6).astype(np.float32),
    "fc.weight": RANDOM.normal(size=(3, 6)).astype(np.float32),
    "fc.bias": RANDOM.normal(size=3),
    "nan": np.full((6, 2, 3, 3), np.nan, np.float32),
    "integers": np.ones((6, 2, 3, 3), np.int64),
    "negative": np.full(6, -1, np.float32),
}
BATCHNORM = {"scale": "vector", "shift": "vector", "mean": "vector", "variance": "vector"}
LAYERS: list[dict[str, Any]] = [
    {"name": "conv", "op": "conv", "weight": "conv.weight", "stride": [1, 2], "padding": [1, 2]},
    {"name": "bn", "op": "batchnorm", **BATCHNORM, "epsilon": 0.001},
    {"name": "relu", "op": "relu"},
    {"name": "depth", "op": "conv", "weight": "depth.weight", "groups": 6, "padding": [1, 1, 1, 1]},
    {"name": "clip", "op": "clip", "low": -1, "high": 2.5},
    {"name": "sum", "op": "add", "with": "relu"},
    {"name": "relu6", "op": "relu6"},
    {"name": "max", "op": "maxpool", "kernel": [2, 3]},
    {"name": "avg", "op": "avgpool", "kernel": 2, "stride": 1, "padding": 1},
    {"name": "wide", "op": "subsample", "input": "max", "stride": 2, "pad_channels": [1, 2]},
    {"name": "mean", "op": "globalavgpool", "input": "avg"},
    {"name": "flat", "op": "flatten"},
    {"name": "fc", "op": "dense", "weight": "fc.weight", "bias": "fc.bias"},
]
USED = [layer for layer in LAYERS if layer["name"] != "wide"]


def write(folder: Path, layers: Any = USED, **header: Any) -> Path:
    np.savez(folder / "net.npz", **ARRAYS)
    content = {
        "format": "bacmac-layers",
        "version": 1,
        "input_shape": [2, 9, 12],
        "weights": "net.npz",
        "layers": layers,
        **header,
    }
    path = folder / "net.json"
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return path


def test_every_op_becomes_a_convolution_or_a_pool(tmp_path: Path) -> None:
    model = load_model(write(tmp_path))

    assert [layer.name for layer in model.layers] == [
        "conv", "depth", "sum", "max", "avg", "mean", "fc"
    ]  # fmt: skip
    assert model.name == "net"
    assert model.shapes["conv"] == (6, 9, 7)
    assert model.shapes["avg"] == (6, 5, 3)
    assert model.output_shape == (3, 1, 1)


def test_the_values_are_those_of_the_definition(tmp_path: Path) -> None:
    layers = [*LAYERS[:3], {"name": "mean", "op": "globalavgpool"}, *USED[-2:]]
    x = RANDOM.normal(size=(2, 2, 9, 12)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2))).astype(np.float64)
    y = np.zeros((2, 6, 9, 7))
    for i, j in np.ndindex(9, 7):
        window = padded[:, :, i : i + 3, 2 * j : 2 * j + 3]
        y[:, :, i, j] = np.einsum("nchw,ochw->no", window, ARRAYS["conv.weight"])
    v = ARRAYS["vector"].astype(np.float64)[:, None, None]
    y = np.maximum((y - v) / np.sqrt(v + 0.001) * v + v, 0).mean((2, 3))
    expected = y @ ARRAYS["fc.weight"].T.astype(np.float64) + ARRAYS["fc.bias"]

    found = forward(load_model(write(tmp_path, layers)), x)

    np.testing.assert_allclose(found[:, :, 0, 0], expected, atol=1e-4)


def test_a_subsample_is_a_selection_of_zeros_and_ones(tmp_path: Path) -> None:
    layers = [{"name": "a", "op": "subsample", "stride": [2, 3], "pad_channels": [1, 2]}]
    model = load_model(write(tmp_path, layers))
    x = RANDOM.normal(size=(1, 2, 9, 12)).astype(np.float32)

    found = forward(model, x)

    assert isinstance(model.layers[0], Conv)
    assert model.layers[0].structural
    np.testing.assert_array_equal(found[:, 1:3], x[:, :, ::2, ::3])
    assert not found[:, [0, 3, 4]].any()


def test_both_files_are_in_the_digest(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = load_model(path).source_sha256
    np.savez(tmp_path / "net.npz", **{**ARRAYS, "fc.bias": np.zeros(3)})

    assert load_model(path).source_sha256 != before


def edited(index: int, **fields: Any) -> list[Any]:
    layers: list[dict[str, Any]] = [dict(layer) for layer in USED]
    layers[index].update(fields)
    return layers


WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "format": (lambda f: write(f, format="other"), "format: found 'other'"),
    "version": (lambda f: write(f, version=2), "version: found 2; expected 1"),
    "version of another type": (lambda f: write(f, version=True), "version"),
    "unknown header field": (lambda f: write(f, author="me"), "'author'"),
    "name": (lambda f: write(f, name=7), "name: found 7"),
    "two sides": (lambda f: write(f, input_shape=[2, 9]), "input_shape"),
    "zero side": (lambda f: write(f, input_shape=[2, 0, 9]), "input_shape"),
    "huge side": (lambda f: write(f, input_shape=[2, 1 << 40, 9]), "input_shape"),
    "huge input": (lambda f: write(f, input_shape=[1 << 15] * 3), "at most"),
    "no weights": (lambda f: write(f, weights=None), "weights: found nothing"),
    "weights elsewhere": (lambda f: write(f, weights="../net.npz"), "same folder"),
    "weights at the root": (lambda f: write(f, weights="/etc/passwd"), "same folder"),
    "weights with a backslash": (lambda f: write(f, weights="..\\net.npz"), "same folder"),
    "weights missing": (lambda f: write(f, weights="other.npz"), "other.npz: file: found no such"),
    "no layers": (lambda f: write(f, []), "layers"),
    "layers of another type": (lambda f: write(f, "conv"), "layers"),
    "entry of another type": (lambda f: write(f, ["conv"]), "layer '0', entry"),
    "no name": (lambda f: write(f, [{"op": "relu"}]), "name: found nothing"),
    "name twice": (lambda f: write(f, edited(1, name="conv")), "name: found 'conv'"),
    "reserved name": (lambda f: write(f, edited(0, name="input")), "name: found 'input'"),
    "unprintable name": (lambda f: write(f, edited(0, name="a\x1b[31m")), "printable"),
    "unknown op": (lambda f: write(f, edited(2, op="gelu")), "'relu', op: found 'gelu'"),
    "unknown field": (lambda f: write(f, edited(0, dilation=2)), "'conv', fields.*'dilation'"),
    "unknown input": (lambda f: write(f, edited(2, input="later")), "input: found 'later'"),
    "input of a later layer": (lambda f: write(f, edited(0, input="fc")), "'fc'"),
    "add of one": (lambda f: write(f, [{"name": "a", "op": "add"}]), "with: found nothing"),
    "unknown array": (lambda f: write(f, edited(0, weight="gone")), "no array 'gone'"),
    "array of another type": (lambda f: write(f, edited(0, weight=5)), "weight: found 5"),
    "NaN": (lambda f: write(f, edited(0, weight="nan")), "NaN or infinity in 'nan'"),
    "integers": (lambda f: write(f, edited(0, weight="integers")), "int64"),
    "weight of a vector": (lambda f: write(f, edited(0, weight="vector")), "weight .6,."),
    "bias too long": (lambda f: write(f, edited(0, bias="fc.bias")), "bias .3,."),
    "stride 0": (lambda f: write(f, edited(0, stride=0)), "stride"),
    "stride of text": (lambda f: write(f, edited(0, stride="2")), "stride: found '2'"),
    "stride of three": (lambda f: write(f, edited(0, stride=[1, 1, 1])), "stride"),
    "negative padding": (lambda f: write(f, edited(0, padding=-1)), "padding: found -1"),
    "groups": (lambda f: write(f, edited(0, groups=2)), "2 groups"),
    "no groups": (lambda f: write(f, edited(0, groups=0)), "0 groups"),
    "epsilon of text": (lambda f: write(f, edited(1, epsilon="small")), "epsilon"),
    "negative variance": (lambda f: write(f, edited(1, variance="negative")), "variance"),
    "clip without 0": (lambda f: write(f, edited(4, low=1)), "holds 0"),
    "clip without an end": (lambda f: write(f, [{"name": "c", "op": "clip", "low": 0}]), "high"),
    "no kernel": (lambda f: write(f, [{"name": "p", "op": "maxpool"}]), "kernel: found nothing"),
    "kernel 0": (
        lambda f: write(f, [{"name": "p", "op": "maxpool", "kernel": 0}]),
        "window|paddin",
    ),
    "kernel too large": (
        lambda f: write(f, [{"name": "p", "op": "avgpool", "kernel": 99}]),
        "99x99",
    ),
    "dense on an image": (lambda f: write(f, [USED[-1]]), "flatten before it"),
    "dense of other features": (lambda f: write(f, [USED[-2], USED[-1]]), "216 features"),
    "sum of shapes": (lambda f: write(f, edited(5, **{"with": "input"})), "sum of"),
    "unread layer": (lambda f: write(f, edited(5, input="relu")), "nothing reads"),
    "only a flatten": (lambda f: write(f, [USED[-2]]), "passes its input on"),
    "no step": (lambda f: write(f, [{"name": "s", "op": "subsample", "stride": 0}]), "stride"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_list_is_refused_by_name(case: str, tmp_path: Path) -> None:
    make, message = WRONG[case]
    path = make(tmp_path)

    with pytest.raises(ModelFileError, match=message) as caught:
        load_model(path)

    assert str(tmp_path) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "nul",
        '"text"',
        '{"format": 1, "format": 2}',
        "[" * 100_000,
        "\xff",
        "1" * 5000,
    ],
    ids=["empty", "cut", "list", "word", "text", "key twice", "deep", "not UTF-8", "long number"],
)
def test_what_is_not_a_json_object_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(ModelFileError, match=r"net\.json: "):
        load_model(path)


RESNET_BLOCKS = [(stage, block) for stage in (1, 2, 3) for block in (0, 1, 2)]


def batchnorm(name: str) -> dict[str, str]:
    parts = {"scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}
    arrays = {field: f"{name}.{part}" for field, part in parts.items()}
    return {"name": name, "op": "batchnorm", **arrays}


def resnet20_layers() -> list[dict[str, Any]]:
    def conv(name: str, stride: int = 1) -> dict[str, Any]:
        weight = f"{name}.weight"
        return {"name": name, "op": "conv", "weight": weight, "stride": stride, "padding": 1}

    layers: list[dict[str, Any]] = [conv("conv1"), batchnorm("bn1"), {"name": "relu", "op": "relu"}]
    for stage, block in RESNET_BLOCKS:
        prefix, before = f"layer{stage}.{block}", layers[-1]["name"]
        shortcut = before
        stride = 2 if stage > 1 and block == 0 else 1
        if stride == 2:
            shortcut, pad = f"{prefix}.shortcut", 8 if stage == 2 else 16
            layers.append(
                {"name": shortcut, "op": "subsample", "stride": 2, "pad_channels": [pad, pad]}
            )
        layers += [
            {**conv(f"{prefix}.conv1", stride), "input": before},
            batchnorm(f"{prefix}.bn1"),
            {"name": f"{prefix}.relu1", "op": "relu"},
            conv(f"{prefix}.conv2"),
            batchnorm(f"{prefix}.bn2"),
            {"name": f"{prefix}.add", "op": "add", "with": shortcut},
            {"name": f"{prefix}.relu2", "op": "relu"},
        ]
    dense = {"name": "linear", "op": "dense", "weight": "linear.weight", "bias": "linear.bias"}
    return [*layers, {"name": "gap", "op": "globalavgpool"}, {"name": "f", "op": "flatten"}, dense]


def mnist_layers(*convs: str, dense: tuple[str, ...]) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = []
    for name in convs:
        parts = {"weight": f"{name}.weight", "bias": f"{name}.bias"}
        layers.append({"name": name, "op": "conv", **parts})
        layers.append({"name": f"{name}.relu", "op": "relu"})
        layers.append({"name": f"{name}.pool", "op": "maxpool", "kernel": 2})
    layers.append({"name": "flatten", "op": "flatten"})
    for name in dense:
        parts = {"weight": f"{name}.weight", "bias": f"{name}.bias"}
        layers += [{"name": name, "op": "dense", **parts}, {"name": f"{name}.relu", "op": "relu"}]
    return layers[:-1]


REAL = {
    "resnet20_cifar10_float": ([3, 32, 32], resnet20_layers()),
    "lenet5_mnist_float": ([1, 28, 28], mnist_layers("conv1", "conv2", dense=("fc1", "fc2"))),
    "lenet300_mnist_float": ([1, 28, 28], mnist_layers(dense=("fc1", "fc2", "fc3"))),
}


@pytest.mark.parametrize("name", REAL)
def test_a_list_of_known_weights_equals_the_onnx_file(
    name: str, real_data: Path | None, example_dir: Path, tmp_path: Path
) -> None:
    if real_data is None:  # the shipped network in both forms
        listed, exported = example_dir / "digits_cnn.json", example_dir / "digits_cnn.onnx"
    else:
        shape, layers = REAL[name]
        (tmp_path / f"{name}.npz").write_bytes((real_data / f"{name}.npz").read_bytes())
        listed = write(tmp_path, layers, input_shape=shape, weights=f"{name}.npz")
        exported = real_data / f"{name}.onnx"
    a, b = load_model(listed), load_model(exported)
    x = RANDOM.normal(size=(3, *a.input_shape)).astype(np.float32)

    np.testing.assert_allclose(forward(a, x), forward(b, x), atol=1e-4)
    assert len(a.layers) == len(b.layers)
    kinds = [type(layer) for layer in a.layers]
    assert kinds == [type(layer) for layer in b.layers]
    assert Conv in kinds
    assert Pool in kinds or name == "lenet300_mnist_float"
