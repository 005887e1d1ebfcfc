"""Images and cycles a second of the simulated RTL, after the build, beside `functional:`.

    python -P tests/benchmarks/rtl_speed.py

ResNet-20 where the folder of real data is (BACMAC_DATA), and the shipped digits network. One
process, one thread; the machine's other work is in it. Printed, never asserted.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import time
from pathlib import Path

from bacmac.host.device.registry import open_board
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.model.inputs import Images
from bacmac.host.model.layers import Normalization
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.runtime.session import Session
from bacmac.overlays.registry import list_overlays

ROOT = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get("BACMAC_DATA", ROOT.parent / "shared" / "data"))
CIFAR10 = Normalization(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ROUNDS = 3


def measure(
    name: str, model_file: Path, image_file: Path, n_images: int, norm: Normalization
) -> None:
    """Print one line an overlay."""
    images = load_images(image_file, shape=load_model(model_file).input_shape)
    for overlay in list_overlays():
        options = CompressOptions(
            overlay.manifest.scheme,
            rounding="nearest",
            bias_correction=False,
            calibration_images=64,
            normalization=norm,
        )
        model = compress(load_model(model_file), images, options)
        batch = images.images[:n_images]
        cycles, best = run("rtl:", overlay, model, batch)
        _, functional = run("functional:", overlay, model, batch)
        print(
            f"{name:10} {overlay.manifest.name:14} {n_images / best:8.2f} images/s  "
            f"{best / n_images:7.3f} s/image  {cycles / best / 1e3:6.0f} k cycles/s  "
            f"{cycles / n_images:9,.0f} cycles/image  1/{best / functional:.0f} of functional:"
        )


def run(word: str, overlay: Overlay, model: QuantizedModel, batch: Images) -> tuple[int, float]:
    """Cycles of a batch, and the best wall time of some rounds: others use the machine too."""
    board = open_board(word, tell=print)
    with Session(board, overlay, model, batch_size=len(batch)) as session:
        rounds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            (result,) = session.stream(batch)
            rounds.append(time.perf_counter() - started)
    board.close()
    return result.counters.cycles, min(rounds)


def main() -> None:
    """Both networks on every overlay."""
    example = ROOT / "host" / "example"
    digits = example / "digits_cnn.json", example / "digits_test.npz"
    measure("digits", *digits, 64, Normalization(16.0))
    if (REAL / "README.md").is_file():
        resnet = REAL / "resnet20_cifar10_float.onnx", REAL / "cifar10_test_2000.npz"
        measure("ResNet-20", *resnet, 2, CIFAR10)


if __name__ == "__main__":
    main()
