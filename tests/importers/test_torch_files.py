"""PyTorch files of both layouts give the tensors that PyTorch gives, and nothing else is read."""

from __future__ import annotations

import argparse
import collections
import hashlib
import io
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacmac.host.errors import BacmacError, ModelFileError
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.importers.torch_file import read_torch
from bacmac.host.importers.weight_file import ScaledIntegers, WeightFile
from bacmac.host.importers.weight_sources import open_weights
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import normalized
from bacmac.host.model.layers import Conv, Normalization

LAYOUTS: dict[str, dict[str, Any]] = {
    "archive": {},
    "archive, protocol 4": {"pickle_protocol": 4},
    "archive, protocol 5": {"pickle_protocol": 5},
    "legacy": {"_use_new_zipfile_serialization": False},
    "legacy, protocol 3": {"_use_new_zipfile_serialization": False, "pickle_protocol": 3},
}


def saved(value: object, layout: str = "archive") -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **LAYOUTS[layout])
    return buffer.getvalue()


def read(value: object, layout: str = "archive") -> WeightFile:
    return read_torch(Path("net.pt"), saved(value, layout), "")


def small() -> torch.nn.Module:
    torch.manual_seed(5)
    return torch.nn.Sequential(
        collections.OrderedDict(
            conv=torch.nn.Conv2d(1, 4, 3, padding=1),
            bn=torch.nn.BatchNorm2d(4),
            relu=torch.nn.ReLU(),
            flatten=torch.nn.Flatten(),
            fc=torch.nn.Linear(4 * 36, 3),
        )
    )


STRUCTURE = {
    "format": "bacmac-layers",
    "version": 1,
    "input_shape": [1, 6, 6],
    "weights": "net.pt",
    "layers": [
        {"name": "conv", "op": "conv", "weight": "conv.weight", "bias": "conv.bias", "padding": 1},
        {"name": "bn", "op": "batchnorm", "scale": "bn.weight", "shift": "bn.bias",
         "mean": "bn.running_mean", "variance": "bn.running_var"},
        {"name": "relu", "op": "relu"},
        {"name": "flatten", "op": "flatten"},
        {"name": "fc", "op": "dense", "weight": "fc.weight", "bias": "fc.bias"},
    ],
}  # fmt: skip


def structure(folder: Path, **changes: Any) -> Path:
    path = folder / "structure.json"
    path.write_text(json.dumps({**STRUCTURE, **changes}))
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_kind_of_tensor_comes_back(layout: str) -> None:
    base = torch.randn(4, 3, 5)
    state = {
        "plain": base,
        "transposed": base.transpose(0, 2),
        "view of the same storage": base[1:3, :, ::2],
        "repeated": torch.ones(1).expand(7),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base),
        "half": base.half(),
        "double": base.double(),
        "bool": torch.tensor([True, False]),
        **{
            str(kind): torch.arange(6).to(kind)
            for kind in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
        },
        "uint16": torch.tensor([1, 65535], dtype=torch.uint16),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }

    found = read(state, layout)

    assert list(found.readers) == list(state)
    for name, value in state.items():
        array = found.read(name)
        expected = value.detach().numpy()
        assert isinstance(array, np.ndarray)
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bfloat16_is_widened_without_loss(layout: str) -> None:
    value = torch.randn(20).bfloat16()

    np.testing.assert_array_equal(read({"b": value}, layout).read("b"), value.float().numpy())


def test_a_big_endian_file_is_read() -> None:
    values = np.arange(4, dtype=">f4")
    legacy = bytearray(saved({"a": torch.zeros(4)}, "legacy"))
    at = legacy.index(b"little_endian") + len("little_endian")
    at += 2 if legacy[at : at + 1] == b"q" else 0
    assert legacy[at : at + 1] == b"\x88"
    legacy[at : at + 1] = b"\x89"
    legacy[-24:] = (4).to_bytes(8, "big") + values.tobytes()

    found = read_torch(Path("net.pt"), bytes(legacy), "").read("a")

    np.testing.assert_array_equal(found, [0, 1, 2, 3])


@pytest.mark.parametrize("layout", ["archive", "legacy"])
def test_a_checkpoint_gives_its_state_dict_and_says_what_it_left(layout: str) -> None:
    net = small()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(2, 1, 6, 6)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "arguments": argparse.Namespace(rate=0.1),
        "best": np.float64(91.5),
        "shape": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "optimizer": optimizer.state_dict(),
        "state_dict": {f"module.{name}": value for name, value in net.state_dict().items()},
    }

    found = read(checkpoint, layout)

    assert list(found.readers) == list(net.state_dict())
    said = " ".join(found.notes)
    for word in ("'state_dict'", "'epoch'", "'optimizer'", "'arguments'", "'module.'"):
        assert word in said


@pytest.mark.parametrize("key", ["model", "net", "model_state_dict", "my_own_words"])
def test_a_state_dict_is_found_under_any_name(key: str) -> None:
    assert list(read({"epoch": 1, key: {"a": torch.ones(2)}}).readers) == ["a"]


def test_a_prefix_that_not_all_names_have_stays() -> None:
    found = read({"module.a": torch.ones(1), "a": torch.zeros(1)})

    assert list(found.readers) == ["module.a", "a"]


def test_the_names_of_a_compiled_network_are_those_of_the_network() -> None:
    found = read({"_orig_mod.conv.weight": torch.ones(1)})

    assert list(found.readers) == ["conv.weight"]
    assert "_orig_mod." in found.notes[0]


@pytest.mark.parametrize("layout", ["archive", "legacy"])
def test_a_whole_network_is_refused_by_its_class(layout: str) -> None:
    with pytest.raises(ModelFileError, match=r"torch\.nn\.modules.*save model\.state_dict"):
        read(small(), layout)


def test_torchscript_is_refused_by_name() -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is on its way out
        torch.jit.save(torch.jit.trace(small().eval(), torch.zeros(1, 1, 6, 6)), buffer)

    with pytest.raises(ModelFileError, match=r"TorchScript.*ONNX"):
        read_torch(Path("net.pt"), buffer.getvalue(), "")


@pytest.mark.parametrize("layout", ["archive", "legacy"])
def test_quantized_tensors_keep_integers_scales_and_zero_points(layout: str) -> None:
    values = torch.randn(4, 3)
    scales, zeros = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0, 0, 1, -2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch moves quantized tensors to another package
        one = torch.quantize_per_tensor(values, 0.05, 7, torch.quint8)
        each = torch.quantize_per_channel(values, scales, zeros, 0, torch.qint8)

    found = read({"one": one, "each": each}, layout)

    for name, tensor in (("one", one), ("each", each)):
        stored = found.read(name)
        assert isinstance(stored, ScaledIntegers)
        np.testing.assert_array_equal(stored.codes, tensor.int_repr().numpy())
        column = (stored.scale[:, None], stored.zero_point[:, None])
        np.testing.assert_allclose(
            (stored.codes - column[1]) * column[0], tensor.dequantize().numpy(), rtol=1e-6
        )


def test_a_quantized_network_keeps_its_integers_and_grids(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        net = torch.nn.Sequential(
            collections.OrderedDict(
                conv=torch.ao.nn.quantized.Conv2d(1, 4, 3, padding=1),
                fc=torch.ao.nn.quantized.Linear(4 * 36, 3),
            )
        )
        weight = torch.quantize_per_channel(
            torch.randn(4, 1, 3, 3), torch.full((4,), 0.02), torch.zeros(4, dtype=torch.long), 0,
            torch.qint8,
        )  # fmt: skip
        net.conv.set_weight_bias(weight, torch.randn(4))
        dense = torch.quantize_per_tensor(torch.randn(3, 144), 0.01, 0, torch.qint8)
        net.fc.set_weight_bias(dense, torch.zeros(3))
        net.conv.scale, net.conv.zero_point = 0.04, 3
        torch.save(net.state_dict(), tmp_path / "net.pt")
    grid = {"scale": "conv.scale", "zero": "conv.zero_point", "low": 0, "high": 255}
    listed = [
        {**STRUCTURE["layers"][0], "grid": grid},  # type: ignore[index]
        *STRUCTURE["layers"][3:],  # type: ignore[index]
    ]

    model = load_model(structure(tmp_path, layers=listed))

    conv, fc = model.layers
    assert isinstance(conv, Conv)
    assert isinstance(fc, Conv)
    assert conv.kept is not None
    assert fc.kept is not None
    np.testing.assert_array_equal(conv.kept.levels, weight.int_repr().numpy())
    np.testing.assert_array_equal(fc.kept.levels.reshape(3, -1), dense.int_repr().numpy())
    np.testing.assert_allclose(fc.kept.scale, 0.01)
    assert model.grids["conv"].zero == 3
    assert abs(model.grids["conv"].scale - 0.04) < 1e-8


@pytest.mark.parametrize("layout", ["archive", "legacy"])
def test_a_network_from_a_checkpoint_computes_what_pytorch_does(
    layout: str, tmp_path: Path
) -> None:
    net = small()
    net(torch.randn(8, 1, 6, 6))  # moves the running statistics
    (tmp_path / "net.pt").write_bytes(saved({"epoch": 1, "model": net.state_dict()}, layout))
    x = torch.randn(5, 1, 6, 6)

    model = load_model(structure(tmp_path))

    expected = net.eval()(x).detach().numpy()
    np.testing.assert_allclose(forward(model, x.numpy())[:, :, 0, 0], expected, atol=1e-5)
    assert any("'epoch'" in note for note in model.notes)


def test_weights_may_be_given_beside_the_list(tmp_path: Path) -> None:
    path = structure(tmp_path, weights="not there.npz")
    (tmp_path / "other").mkdir()
    file = tmp_path / "other" / "net.th"
    file.write_bytes(saved(small().state_dict()))

    model = load_model(file, path)

    digests = [hashlib.sha256(part.read_bytes()).hexdigest() for part in (path, file)]
    assert model.source_sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert model.name == "structure"


# --- as older versions wrote them ---------------------------------------------------------------


def _persistent(value: object) -> tuple[Any, ...] | None:
    return value.parts if isinstance(value, _Storage) else None


class _Storage:
    """A storage that pickles as a reference, with the view that PyTorch 0.3 tells of it."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts


class _Tensor:
    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __reduce__(self) -> Any:
        from torch._utils import _rebuild_tensor  # without hooks: PyTorch before 0.4

        return _rebuild_tensor, self._arguments


class _Pairs:
    def __init__(self, pairs: list[list[Any]]) -> None:
        self._pairs = pairs

    def __reduce__(self) -> Any:
        return collections.OrderedDict, (self._pairs,)  # as Python 2 does


def test_a_file_of_python_2_with_views_of_storages_is_read() -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> tuple[Any, ...] | None:
            return _persistent(value)

    def pickled(value: object) -> bytes:
        buffer = io.BytesIO()
        Pickler(buffer, 2).dump(value)
        return buffer.getvalue()

    values = np.arange(12, dtype="<f4")
    view = _Storage("storage", torch.FloatStorage, "5", "cuda:0", 12, ("9", 4, 8))
    whole = _Storage("storage", torch.FloatStorage, "5", "cuda:0", 12, None)
    state = _Pairs(
        [["view", _Tensor(view, 1, (2, 3), (3, 1))], ["whole", _Tensor(whole, 0, (12,), (1,))]]
    )
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    parts = [0x1950A86A20F9469CFC6C, 1001, facts, state, ["5"]]
    data = b"".join(map(pickled, parts)) + (12).to_bytes(8, "little") + values.tobytes()

    found = read_torch(Path("net.pth"), data, "")

    np.testing.assert_array_equal(found.read("whole"), values)
    np.testing.assert_array_equal(found.read("view"), values[5:11].reshape(2, 3))


# --- the known networks, through every file of weights ------------------------------------------


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _rewritten(arrays: dict[str, npt.NDArray[Any]], folder: Path, kind: str) -> Path:
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state, folder / "net.safetensors")
        return folder / "net.safetensors"
    path = folder / {"archive": "net.pth", "legacy": "net.th", "npz": "net.npz"}[kind]
    if kind == "npz":
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    else:
        path.write_bytes(saved({"state_dict": state}, kind))
    return path


@pytest.mark.parametrize("kind", ["archive", "legacy", "safetensors", "npz"])
def test_the_known_networks_are_as_accurate_as_from_onnx(
    kind: str, real_data: Path | None, example_dir: Path, tmp_path: Path
) -> None:
    if real_data is None:
        listed, weights = example_dir / "digits_cnn.json", example_dir / "digits_cnn.npz"
        exported, images = example_dir / "digits_cnn.onnx", example_dir / "digits_test.npz"
        normalization = Normalization(16.0)
    else:
        listed = Path(__file__).parent / "lists" / "resnet20_cifar10.json"
        weights = real_data / "resnet20_cifar10_float.npz"
        exported = real_data / "resnet20_cifar10_float.onnx"
        images = real_data / "cifar10_test_2000.npz"
        normalization = Normalization(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model = load_model(_rewritten(_arrays(weights), tmp_path, kind), listed)
    other = load_model(exported)
    known = load_images(images, shape=model.input_shape).first(100)
    x = normalized(known.images, normalization)

    found, expected = forward(model, x), forward(other, x)

    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (found.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize("name", ["lenet5_mnist", "lenet300_mnist", "digits_cnn"])
def test_the_lists_of_the_small_networks_fit_their_weights(
    name: str, real_data: Path | None, example_dir: Path
) -> None:
    if real_data is None:
        model = load_model(example_dir / "digits_cnn.npz", example_dir / "digits_cnn.json")
        other = load_model(example_dir / "digits_cnn.onnx")
    else:
        listed = Path(__file__).parent / "lists" / f"{name}.json"
        model = load_model(real_data / f"{name}_float.npz", listed)
        other = load_model(real_data / f"{name}_float.onnx")
    x = np.random.default_rng(1).normal(size=(4, *model.input_shape)).astype(np.float32)

    np.testing.assert_allclose(forward(model, x), forward(other, x), atol=1e-4)


def test_safetensors_of_every_type_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {
        str(kind): torch.arange(6).reshape(2, 3).to(kind)
        for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8,
                     torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool)
    }  # fmt: skip
    save_file({**state, "scalar": torch.tensor(2.5)}, tmp_path / "net.safetensors", {"a": "b"})

    found = open_weights(tmp_path / "net.safetensors")

    for name, value in state.items():
        np.testing.assert_array_equal(found.read(name), value.float().numpy())
    assert found.read("scalar") == np.float32(2.5)


@pytest.mark.parametrize("kind", ["archive", "legacy", "safetensors", "npz"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    edits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.booleans(), st.integers(0, 255)),
        min_size=1,
        max_size=6,
    )
)
def test_a_mutated_network_is_read_or_refused(
    kind: str,
    edits: list[tuple[float, bool, int]],
    example_dir: Path,
    tmp_path: Path,
) -> None:
    path = _rewritten(_arrays(example_dir / "digits_cnn.npz"), tmp_path, kind)
    data = bytearray(path.read_bytes())
    for place, tail, value in edits:  # what tells the structure is at either end
        at = int(place * min(len(data), 12_000))
        data[-1 - at if tail else at] = value
    path.write_bytes(bytes(data))

    try:
        told = load_model(path, example_dir / "digits_cnn.json").name
    except BacmacError as error:
        told = str(error)
    assert told.isprintable()
