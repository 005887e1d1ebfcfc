"""What a short training makes good: accuracy after pruning and rounding, on whole test sets.

    python tests/benchmarks/recovery.py [ROW ...]

Every accuracy is the integer network's, run by the exact engine, unless it says float; beside it
the difference to the float network with its standard error, paired over the images, the target,
and how long it took. Training sees the training images of the data folder (BACMAC_DATA) alone:
4,000 of CIFAR-10, the first 10,000 of MNIST; labels are not used. Without that folder the shipped
example is trained.

The rows "Han" are those of Table 1 of Han et al. 2015 (arXiv 1506.02626), which prunes with all
60,000 training images and does not quantize: LeNet-300-100 1.64 -> 1.59 % and LeNet-5 0.80 ->
0.77 % of errors with 12 times fewer parameters. Here zeros rise in float, then
weights are rounded to powers of two and trained on.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import multiprocessing
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.engine import Engine
from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import input_codes, normalized
from bacmac.host.model.layers import Model, Normalization
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.recover.options import RecoverOptions
from bacmac.host.recover.recovery import recover
from bacmac.host.recover.report import EpochReport

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("BACMAC_DATA", ROOT.parent / "shared" / "data"))
EXAMPLE = ROOT / "host" / "example"
CIFAR10 = Normalization(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TWELVE_TIMES = 1.0 - 1.0 / 12.0

Correct = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """One network to recover, and the most that it may lose, in points; None: it is only told."""

    title: str
    files: tuple[str, str, str]
    sparsity: float
    prune_epochs: int
    epochs: int
    target: float | None
    normalization: Normalization | None = None
    remark: str = ""
    folder: Path = DATA


RESNET20 = ("resnet20_cifar10_float.onnx", "cifar10_train_4000.npz", "cifar10_test_2000.npz")
LENET5 = ("lenet5_mnist_float.onnx", "mnist_train_first10000.npz", "mnist_test_10000.npz")
LENET300 = ("lenet300_mnist_float.onnx", *LENET5[1:])
DIGITS = ("digits_cnn.json", "digits_calibration.npz", "digits_test.npz")

ROWS = {
    "resnet20-50": Row("ResNet-20, CIFAR-10", RESNET20, 0.5, 0, 2, 0.6, CIFAR10),
    "resnet20-70": Row("ResNet-20, CIFAR-10", RESNET20, 0.7, 0, 3, 3.0, CIFAR10),
    "lenet5-90": Row("LeNet-5, MNIST", LENET5, 0.9, 0, 2, 0.6),
    "lenet5-han": Row(
        "LeNet-5, MNIST, 12x", LENET5, TWELVE_TIMES, 8, 3, None, remark="Han 0.80 -> 0.77 %"
    ),
    "lenet300-han": Row(
        "LeNet-300-100, 12x", LENET300, TWELVE_TIMES, 12, 4, None, remark="Han 1.64 -> 1.59 %"
    ),
}
EXAMPLE_ROWS = {
    "digits-50": Row("digits (shipped example)", DIGITS, 0.5, 0, 5, None, folder=EXAMPLE)
}


def _float_correct(model: Model, test: ImageSet, normalization: Normalization) -> Correct:
    blocks = []
    for start in range(0, len(test.images), 500):
        part = slice(start, start + 500)
        logits = forward(model, normalized(test.images[part], normalization))
        blocks.append(logits.reshape(len(logits), -1).argmax(1) == _labels(test)[part])
    return np.concatenate(blocks)


def _integer_correct(model: QuantizedModel, test: ImageSet) -> Correct:
    codes = input_codes(test.images, model.normalization, model.input_format)
    values = model.values(Engine(model.network).run(codes))
    correct: Correct = values.reshape(len(values), -1).argmax(1) == _labels(test)
    return correct


def _labels(images: ImageSet) -> npt.NDArray[np.int64]:
    if images.labels is None:
        raise SystemExit(f"{images.source} has no labels")
    return images.labels


def _told(title: str, report: EpochReport) -> None:
    print(
        f"  {title}: {report.stage} {report.epoch}/{report.epochs}: {report.sparsity:.1%} zeros, "
        f"held out {report.held_out_loss:.4f}, {report.held_out_accuracy:.2%}",
        file=sys.stderr,
        flush=True,
    )


def _measured(row: Row) -> str:
    """Train one network; what is to be printed of it."""
    start_s = time.monotonic()
    model = load_model(row.folder / row.files[0])
    training, test = (
        load_images(row.folder / name, shape=model.input_shape) for name in row.files[1:]
    )
    normalization = row.normalization or test.normalization or Normalization()
    compressing = CompressOptions(
        scheme="pot-4", sparsity=row.sparsity, normalization=normalization
    )
    recovered = recover(
        model,
        training,
        compressing,
        RecoverOptions(epochs=row.epochs, prune_epochs=row.prune_epochs),
        told=lambda report: _told(row.title, report),
    )
    took_s = time.monotonic() - start_s
    right = _float_correct(model, test, normalization)
    correct = _integer_correct(recovered.model, test)
    differences = 100.0 * (correct.astype(float) - right)
    error = differences.std(ddof=1) / np.sqrt(right.size)
    weights = [layer.op for layer in recovered.model.layers if layer.has_weights]
    n_zeros = sum(op.levels.size - int(np.count_nonzero(op.levels)) for op in weights)  # type: ignore[union-attr]
    size = sum(op.levels.size for op in weights)  # type: ignore[union-attr]
    start = compress(model, training, compressing)
    untrained = 100 * float(_integer_correct(start, test).mean())
    text = (
        f"{row.title}: pot-4 in all layers, {n_zeros / size:.1%} zeros; {len(test.images):,} test "
        f"images: float {100 * right.mean():.2f}, before training {untrained:.2f}, after "
        f"{100 * correct.mean():.2f} ({differences.mean():+.2f} +- {error:.2f})\n"
        f"{row.prune_epochs} epochs in float and {row.epochs} with rounded weights, on "
        f"{len(training.images):,} images, {took_s:.0f} s on one thread\n"
    )
    if row.target is not None:
        verdict = "reached" if differences.mean() >= -row.target else "MISSED"
        text += f"{verdict}: at most {row.target} points below float\n"
    if row.remark:
        errors = 100 - 100 * np.array([right.mean(), correct.mean()])
        text += (
            f"errors {errors[0]:.2f} -> {errors[1]:.2f} % on {len(training.images):,} training "
            f"images; {row.remark} on 60,000, in float\n"
        )
    return text


def main() -> None:
    """Print the named rows, or all."""
    rows = ROWS
    if not all((DATA / name).is_file() for name in (*RESNET20, *LENET5, *LENET300)):
        print(f"no models in {DATA}: the shipped example is trained instead")
        rows = EXAMPLE_ROWS
    names = sys.argv[1:] or list(rows)
    if unknown := [name for name in names if name not in rows]:
        raise SystemExit(f"no row {unknown[0]!r}: one of {', '.join(rows)}")
    chosen = [rows[name] for name in names]
    with multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        for text in pool.imap(_measured, chosen, chunksize=1):
            print(text, flush=True)


if __name__ == "__main__":
    main()
