"""Published models, imported with the integers they have: vectors and accuracy on all images.

Prints for each file whether its own definition gives its recorded outputs, and the accuracy of the
accelerator's integers (the exact engine) beside the recorded one; the aim is 0.3 points.
Needs the real data (BACMAC_DATA); without it the shipped example is checked instead.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bacmac.host.arith.engine import Engine
from bacmac.host.importers.definition import outputs_as_defined
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.layers import Normalization
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.runtime.vectors import load_vectors, reproduction

AIM_POINTS = 0.3
IMAGENET = Normalization(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10 = Normalization(255.0, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


@dataclass(frozen=True)
class Published:
    """A file of the data folder, and what is recorded of it.

    Attributes:
        file: its name.
        images: the set to measure on.
        normalization: of its pixels.
        recorded: accuracy in % on this very set.
        by: the framework that gave it.
        elsewhere: what is published of other images.
    """

    file: str
    images: str
    normalization: Normalization
    recorded: float
    by: str
    elsewhere: str = ""


FILES = (
    Published(
        "resnet20_cifar10_qdq_int8.onnx", "cifar10_test_2000.npz", IMAGENET, 91.75,
        "onnxruntime",
    ),
    Published(
        "potacc_apot_resnet20_4bit.tflite", "cifar10_test_2000.npz", CIFAR10, 92.95,
        "LiteRT 2.3.0", "92.43 on 9,980 images",
    ),
    Published(
        "potacc_qkeras_mobilenetv2_4bit_icecs2024.tflite", "cifar10_test_2000.npz", CIFAR10, 93.75,
        "LiteRT 2.3.0", "93.60 on 9,980 images",
    ),
    Published("qonnx_tfc_2w2a.onnx", "mnist_test_10000.npz", Normalization(), 96.60, "qonnx"),
    Published("qonnx_tfc_1w1a.onnx", "mnist_test_10000.npz", Normalization(), 92.96, "qonnx"),
)  # fmt: skip


def main() -> None:
    """Print the table."""
    data = Path(os.environ.get("BACMAC_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (data / "README.md").is_file():
        print("no real data: nothing published to import (tests cover the shipped example)")
        return
    for name in sorted(path.name for path in data.glob("*_vectors.npz")):
        _vectors(data, name)
    print()
    for published in FILES:
        _accuracy(data, published)


def _vectors(data: Path, name: str) -> None:
    stem = name.removesuffix("_vectors.npz")
    path = next(path for path in data.glob(f"{stem}.*") if path.suffix in (".onnx", ".tflite"))
    model = load_model(path)
    vectors = load_vectors(data / name, model.input_shape)
    found = reproduction(model, outputs_as_defined(path, model, vectors.inputs), vectors)
    print(
        f"{path.name:48} {found.n_differing} of {found.n_values} outputs differ, "
        f"largest difference {found.largest_difference:.2g}"
    )


def _accuracy(data: Path, published: Published) -> None:
    path = data / published.file
    model = load_model(path)
    images = load_images(data / published.images, shape=model.input_shape)
    start = time.perf_counter()
    options = CompressOptions(normalization=published.normalization)
    quantized = compress(model, None, options)
    kept_s = time.perf_counter() - start
    codes = input_codes(images.images, published.normalization, quantized.input_format)
    engine = Engine(quantized.network)
    outputs = np.concatenate(
        [
            quantized.values(engine.run(codes[first : first + 250])).reshape(-1, 10)
            for first in range(0, len(codes), 250)
        ]
    )
    accuracy = 100 * float(np.mean(outputs.argmax(1) == images.labels))
    error = (accuracy * (100 - accuracy) / len(codes)) ** 0.5
    verdict = "reached" if abs(accuracy - published.recorded) <= AIM_POINTS else "MISSED"
    print(
        f"{published.file:48} {accuracy:.2f} +- {error:.2f} %, recorded {published.recorded:.2f} "
        f"({published.by}): {accuracy - published.recorded:+.2f}, aim {AIM_POINTS} {verdict}; "
        f"kept in {kept_s:.1f} s"
        + (f" (published: {published.elsewhere})" if published.elsewhere else "")
    )


if __name__ == "__main__":
    main()
