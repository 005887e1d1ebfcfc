"""The shipped example is what its README says, and the script's split is honest."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import normalized
from bacmac.host.model.layers import Conv, Normalization


def logits(form: str, folder: Path) -> np.ndarray:
    images = load_images(folder / "digits_test.npz")
    assert images.normalization is not None
    model = load_model(folder / f"digits_cnn.{form}")
    return forward(model, normalized(images.images, images.normalization))[:, :, 0, 0]


def index_of(folder: Path, file: str) -> np.ndarray:
    index: np.ndarray = np.load(folder / file, allow_pickle=False)["index"]
    return index


def check_images(images: ImageSet, index: np.ndarray) -> None:
    digits = load_digits()
    np.testing.assert_array_equal(images.images[:, 0], digits.images[index])
    assert images.labels is not None
    np.testing.assert_array_equal(images.labels, digits.target[index])
    assert images.normalization == Normalization(pixel_max=16.0)


def test_the_images_are_those_of_scikit_learn_by_the_split_of_the_readme(example_dir: Path) -> None:
    order = np.random.default_rng(2024).permutation(1797)

    calibration = index_of(example_dir, "digits_calibration.npz")
    test = index_of(example_dir, "digits_test.npz")

    np.testing.assert_array_equal(test, order[-500:])
    np.testing.assert_array_equal(calibration, order[:256])
    assert not set(calibration) & set(test)
    check_images(load_images(example_dir / "digits_test.npz"), test)
    check_images(load_images(example_dir / "digits_calibration.npz"), calibration)


def test_both_forms_are_one_network(example_dir: Path) -> None:
    listed, exported = logits("json", example_dir), logits("onnx", example_dir)

    np.testing.assert_array_equal(listed, exported)
    names = [layer.name for layer in load_model(example_dir / "digits_cnn.onnx").layers]
    assert names == [layer.name for layer in load_model(example_dir / "digits_cnn.json").layers]


def test_the_accuracy_is_the_one_in_the_readme(example_dir: Path) -> None:
    readme = (example_dir / "README.md").read_text()
    told = re.search(r"\*\*([0-9.]+) %\*\* \((\d+) of 500\)", readme)
    labels = load_images(example_dir / "digits_test.npz").labels

    correct = int((logits("onnx", example_dir).argmax(1) == labels).sum())

    assert told is not None
    assert int(told[2]) == correct
    assert float(told[1]) == correct / 5
    assert correct >= 485


def test_the_example_is_small(example_dir: Path) -> None:
    files = [path for path in example_dir.iterdir() if path.is_file()]
    model = load_model(example_dir / "digits_cnn.onnx")
    weights = [layer.weight.size for layer in model.layers if isinstance(layer, Conv)]

    assert sum(path.stat().st_size for path in files) < 1_000_000
    assert sum(weights) < 30_000
