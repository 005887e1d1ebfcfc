"""Which importer reads a file: its first bytes say, and its name must not say otherwise."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.registry import IMPORTERS, load_model
from bacmac.host.model.forward import forward

ONNX = "digits_cnn.onnx"
LIST = "digits_cnn.json"
NPZ = "digits_cnn.npz"


def copied(example_dir: Path, folder: Path, source: str, name: str) -> Path:
    return Path(shutil.copy(example_dir / source, folder / name))


@pytest.mark.parametrize("name", ["net", "net.model", "net.ONNX", "net.onnx"])
def test_a_name_that_says_nothing_is_no_obstacle(
    name: str, example_dir: Path, tmp_path: Path
) -> None:
    model = load_model(copied(example_dir, tmp_path, ONNX, name))

    assert len(model.layers) == len(load_model(example_dir / LIST).layers)


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        (ONNX, "net.tflite", "suffix '.tflite' and content ONNX"),
        (ONNX, "net.json", "suffix '.json' and content ONNX"),
        (NPZ, "net.onnx", r"suffix '.onnx' and content NumPy"),
        (NPZ, "net.pth", r"suffix '.pth' and content NumPy"),
        (NPZ, "net.safetensors", r"suffix '.safetensors' and content NumPy"),
        (LIST, "net.npz", r"suffix '.npz' and content layer list"),
    ],
)
def test_a_name_and_a_content_that_disagree_are_both_told(
    source: str, name: str, words: str, example_dir: Path, tmp_path: Path
) -> None:
    path = copied(example_dir, tmp_path, source, name)

    with pytest.raises(ModelFileError, match=words):
        load_model(path, example_dir / LIST)


def test_weights_alone_ask_for_a_layer_list(example_dir: Path) -> None:
    with pytest.raises(ModelFileError, match=r"without a structure.*--layer-list NET\.json"):
        load_model(example_dir / NPZ)


def test_weights_with_a_layer_list_are_the_network(example_dir: Path) -> None:
    model = load_model(example_dir / NPZ, example_dir / LIST)
    x = np.random.default_rng(1).normal(size=(2, *model.input_shape)).astype(np.float32)

    np.testing.assert_array_equal(forward(model, x), forward(load_model(example_dir / LIST), x))


@pytest.mark.parametrize("name", [ONNX, LIST])
def test_a_layer_list_beside_a_file_that_has_its_own_is_refused(
    name: str, example_dir: Path
) -> None:
    with pytest.raises(ModelFileError, match=r"--layer-list.*has its layers in it"):
        load_model(example_dir / name, example_dir / LIST)


def test_a_list_given_as_weights_is_refused(example_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_text(json.dumps({**json.loads((example_dir / LIST).read_text()), "weights": LIST}))
    copied(example_dir, tmp_path, LIST, LIST)

    with pytest.raises(ModelFileError, match=r"a layer list \(JSON\) file; expected weights"):
        load_model(path)


def test_keras_archives_are_refused_with_what_to_do(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("metadata.json", "{}")
    path = tmp_path / "net.keras"
    path.write_bytes(buffer.getvalue())

    with pytest.raises(ModelFileError, match=r"Keras archive.*tf2onnx"):
        load_model(path)


def test_every_suffix_belongs_to_one_importer() -> None:
    suffixes = [suffix for importer in IMPORTERS.values() for suffix in importer.suffixes]

    assert len(set(suffixes)) == len(suffixes)
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)
