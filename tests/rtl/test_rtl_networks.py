"""Trained networks on the RTL: the shipped digits network, LeNet-5 and ResNet-20 where they are."""

from __future__ import annotations

import numpy as np
import pytest

from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.layers import Normalization
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.overlays.registry import list_overlays, load_overlay

OVERLAYS = [overlay.manifest.name for overlay in list_overlays()]
CIFAR10 = Normalization(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
REAL = {
    "lenet5_mnist_float": ("mnist_test_10000", Normalization()),
    "resnet20_cifar10_float": ("cifar10_test_2000", CIFAR10),
}


def compressed(path, images, overlay, normalization=None, **options):
    scheme = overlay.manifest.scheme
    options = CompressOptions(
        scheme,
        rounding="nearest",
        bias_correction=False,
        calibration_images=32,
        normalization=normalization,
        **options,
    )
    return compress(load_model(path), images, options)


def assert_equal(rtl, overlay, model, images, streams=""):
    codes = input_codes(images, model.normalization, model.input_format)
    found = rtl.drive(f"rtl:{streams}", overlay, model, [codes])
    expected = rtl.drive("functional:", overlay, model, [codes])

    assert np.array_equal(found.batches[0].outputs, expected.batches[0].outputs)
    assert found.numbers() == expected.numbers()
    assert found.layers == expected.layers


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_digits_network_on_every_overlay(rtl, example_dir, name):
    overlay, images = load_overlay(name), load_images(example_dir / "digits_test.npz")
    model = compressed(example_dir / "digits_cnn.json", images, overlay)

    assert_equal(rtl, overlay, model, images.images[:6], "idle=0.1,stall=0.1")


@pytest.mark.parametrize("network", REAL)
@pytest.mark.parametrize("sparsity", [0.0, 0.7])
def test_a_known_network_dense_and_pruned(rtl, real_data, example_dir, network, sparsity):
    overlay, (images, normalization) = load_overlay("bac-pot4e4"), REAL[network]
    path, images = f"{network}.onnx", f"{images}.npz"
    if real_data is None:
        path, images, normalization = "digits_cnn.onnx", "digits_test.npz", Normalization(16.0)
    folder = real_data or example_dir
    image_set = load_images(folder / images, shape=load_model(folder / path).input_shape)
    geometry = overlay.manifest.geometry
    model = compressed(
        folder / path,
        image_set,
        overlay,
        normalization,
        group_sparsity=sparsity,
        group=(geometry.group_outputs, geometry.group_inputs),
    )

    assert_equal(rtl, overlay, model, image_set.images[:2])


def test_a_network_as_large_as_the_accelerator_holds(rtl, models):
    overlay = load_overlay("bac-pot4e4")
    model = models.mobilenet_v2(overlay.manifest.scheme)
    images = np.random.default_rng(1).integers(0, 256, (1, *model.input_shape), dtype=np.uint8)

    assert_equal(rtl, overlay, model, images, "idle=0.1,stall=0.1")
