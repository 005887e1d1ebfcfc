"""Published and well-known networks import, and give what onnxruntime gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import normalized
from bacmac.host.model.layers import Conv, Normalization

CIFAR10 = Normalization(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MODELS = {
    "resnet20_cifar10_float": ("cifar10_test_2000", CIFAR10),
    "lenet5_mnist_float": ("mnist_test_10000", Normalization()),
    "lenet300_mnist_float": ("mnist_test_10000", Normalization()),
    "digits_cnn_float": ("digits_8x8", Normalization(16.0)),
    "mnist8_cntk_float": ("mnist_test_10000", Normalization(1.0)),
}


def files(name: str, real_data: Path | None, example_dir: Path) -> tuple[Path, Path, Normalization]:
    """Model, images and normalization; the shipped example where there is no real data."""
    if real_data is None:
        example = example_dir / "digits_cnn.onnx", example_dir / "digits_test.npz"
        return *example, Normalization(16.0)
    images, normalization = MODELS[name]
    return real_data / f"{name}.onnx", real_data / f"{images}.npz", normalization


@pytest.mark.parametrize("name", MODELS)
def test_a_known_network_gives_what_onnxruntime_gives(
    name: str, real_data: Path | None, example_dir: Path
) -> None:
    path, images, normalization = files(name, real_data, example_dir)
    model = load_model(path)
    x = normalized(load_images(images, shape=model.input_shape).images[:32], normalization)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    expected = np.concatenate([session.run(None, {source: image[None]})[0] for image in x])

    found = forward(model, x)[:, :, 0, 0]

    # outputs of mnist8 are in the thousands; the others are of order ten
    scale = max(1.0, np.abs(expected).max() / 100)
    assert np.abs(found - expected).max() <= 1e-4 * scale
    assert (found.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize("name", ["mnist8_cntk_float", "residual_block_float"])
def test_a_test_vector_of_another_project_is_met(
    name: str, real_data: Path | None, example_dir: Path
) -> None:
    if real_data is None:
        model = load_model(example_dir / "digits_cnn.onnx")
        x = np.zeros((1, *model.input_shape), np.float32)
        session = onnxruntime.InferenceSession(str(example_dir / "digits_cnn.onnx"))
        expected = session.run(None, {"input": x})[0]
    else:
        model = load_model(real_data / f"{name}.onnx")
        vectors = np.load(real_data / f"{name}_vectors.npz", allow_pickle=False)
        x, expected = vectors["input"], vectors["output"]

    found = forward(model, x).reshape(expected.shape)

    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max() / 50)


def test_a_residual_network_has_readable_names_and_few_structural_layers(
    real_data: Path | None, example_dir: Path
) -> None:
    if real_data is None:
        model = load_model(example_dir / "digits_cnn.onnx")
        expected = ["conv1", "block.conv1", "block.conv2"]
        structural = []
    else:
        model = load_model(real_data / "resnet20_cifar10_float.onnx")
        expected = ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
        structural = ["layer2.0.pad", "layer3.0.pad"]

    names = [layer.name for layer in model.layers]
    moved = [layer.name for layer in model.layers if isinstance(layer, Conv) and layer.structural]
    assert names[:3] == expected
    assert moved == structural
