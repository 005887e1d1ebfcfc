"""What quantization and pruning cost in accuracy, post-training, on whole test sets.

Every figure is the integer network's, run by the exact engine on quantized images. In brackets:
the difference to the float network and its standard error, paired over the same images
(Dietterich 1998, "Approximate statistical tests for comparing supervised classification
learning algorithms", treats the pairing; two networks that err on the same images differ by far
less than their two separate errors suggest).

    python tests/benchmarks/accuracy.py [COLUMN ...]

Columns are those of COLUMNS; without any, the first three are measured. The data folder is
BACMAC_DATA; where there is none, the shipped example is measured.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.engine import Engine
from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import input_codes, normalized
from bacmac.host.model.layers import Model, Normalization
from bacmac.host.pack.compress import CompressOptions, compress

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("BACMAC_DATA", ROOT.parent / "shared" / "data"))
EXAMPLE = ROOT / "host" / "example"

Correct = npt.NDArray[np.bool_]
ROWS = (
    ("uniform-8", 0.0),
    ("uniform-4", 0.0),
    ("pot-4", 0.0),
    ("pot-3", 0.0),
    ("pot-4", 0.3),
    ("pot-4", 0.5),
)
COLUMNS = {
    "nearest": CompressOptions(rounding="nearest", bias_correction=False),
    "nearest + bias": CompressOptions(rounding="nearest", bias_correction=True),
    "compensated": CompressOptions(rounding="compensated", bias_correction=False),
    "compensated + bias": CompressOptions(rounding="compensated", bias_correction=True),
}
ENDS = {"first and last layer uniform-8": "uniform-8", "all layers alike": None}


@dataclass(frozen=True)
class Case:
    """A network, its images, and the least accuracy in % of some cells: (row, column, ends)."""

    title: str
    folder: Path
    model: str
    calibration: str
    test: str
    normalization: Normalization | None
    targets: dict[tuple[str, float, str, str | None], float]


RESNET20 = Case(
    "ResNet-20, CIFAR-10",
    DATA,
    "resnet20_cifar10_float.onnx",
    "cifar10_train_4000.npz",
    "cifar10_test_2000.npz",
    Normalization(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    {
        ("uniform-8", 0.0, "nearest", "uniform-8"): 91.3,
        ("pot-4", 0.0, "nearest", "uniform-8"): 87.0,
        ("pot-4", 0.0, "nearest + bias", "uniform-8"): 90.0,
        ("pot-4", 0.0, "compensated", "uniform-8"): 91.0,
        ("pot-4", 0.0, "compensated", None): 90.8,
        ("pot-4", 0.3, "compensated", "uniform-8"): 90.8,
        ("pot-4", 0.5, "compensated", "uniform-8"): 88.7,
        ("pot-3", 0.0, "compensated", "uniform-8"): 90.3,
    },
)
LENET5 = Case(
    "LeNet-5, MNIST",
    DATA,
    "lenet5_mnist_float.onnx",
    "mnist_train_first10000.npz",
    "mnist_test_10000.npz",
    None,
    {("pot-4", 0.0, "compensated", None): 99.2},
)
DIGITS = Case(
    "digits (shipped example)",
    EXAMPLE,
    "digits_cnn.json",
    "digits_calibration.npz",
    "digits_test.npz",
    None,
    {("pot-4", 0.0, "compensated", None): 98.0},
)


@cache
def _inputs(title: str) -> tuple[Model, ImageSet, ImageSet]:
    case = next(case for case in (RESNET20, LENET5, DIGITS) if case.title == title)
    model = load_model(case.folder / case.model)
    calibration, test = (
        load_images(case.folder / name, shape=model.input_shape)
        for name in (case.calibration, case.test)
    )
    return model, calibration, test


def _float_correct(case: Case) -> Correct:
    model, _, test = _inputs(case.title)
    normalization = case.normalization or test.normalization or Normalization()
    correct = []
    for start in range(0, len(test.images), 500):
        part = slice(start, start + 500)
        logits = forward(model, normalized(test.images[part], normalization))
        correct.append(logits.reshape(len(logits), -1).argmax(1) == _labels(test)[part])
    return np.concatenate(correct)


def _integer_correct(task: tuple[str, CompressOptions]) -> Correct:
    """Which test images the compressed network gets right: quantized, run, compared."""
    title, options = task
    model, calibration, test = _inputs(title)
    quantized = compress(model, calibration, options)
    codes = input_codes(test.images, quantized.normalization, quantized.input_format)
    outputs = Engine(quantized.network).run(codes)
    logits = outputs * quantized.logit_scale[:, None, None]
    correct: Correct = logits.reshape(len(logits), -1).argmax(1) == _labels(test)
    return correct


def _labels(images: ImageSet) -> npt.NDArray[np.int64]:
    if images.labels is None:
        raise SystemExit(f"{images.source} has no labels")
    return images.labels


def _print_case(case: Case, columns: Sequence[str]) -> list[str]:
    """Measure and print one network; what became of its targets."""
    start_s = time.monotonic()
    options = {
        (scheme, sparsity, column, ends): replace(
            COLUMNS[column],
            scheme=scheme,
            sparsity=sparsity,
            first_last=ends,
            normalization=case.normalization,
        )
        for ends in ENDS.values()
        for scheme, sparsity in ROWS
        for column in columns
    }
    # uniform-8 with uniform-8 ends is the same network as without: made once
    cells = [cell for cell in options if cell[0] != cell[3]]
    tasks = [(case.title, options[cell]) for cell in cells]
    right = _float_correct(case)
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        results = dict(zip(cells, pool.map(_integer_correct, tasks, chunksize=1), strict=True))
    for scheme, sparsity, column, ends in options:
        if scheme == ends:
            results[scheme, sparsity, column, ends] = results[scheme, sparsity, column, None]
    share = float(right.mean())
    error = 100 * np.sqrt(share * (1 - share) / right.size)
    print(f"\n## {case.title}: {right.size} test images; float {100 * share:.2f} +- {error:.2f} %")
    verdicts = []
    for heading, ends in ENDS.items():
        print(f"\n{heading}\n\n| weights | " + " | ".join(columns) + " |")
        print("|---|" + "---|" * len(columns))
        for scheme, sparsity in ROWS:
            words = [scheme + (f", {sparsity:.0%} zeros" if sparsity else "")]
            for column in columns:
                correct = results[scheme, sparsity, column, ends]
                accuracy = 100 * float(correct.mean())
                differences = 100.0 * (correct.astype(float) - right)
                error = differences.std(ddof=1) / np.sqrt(right.size)
                words.append(f"{accuracy:.2f} ({differences.mean():+.2f} +- {error:.2f})")
                target = case.targets.get((scheme, sparsity, column, ends))
                if target is not None:
                    verdict = "reached" if accuracy >= target else "MISSED"
                    line = f"{words[0]}, {column}, {heading}: {accuracy:.2f}, target {target}"
                    verdicts.append(f"{verdict}: {line}")
            print("| " + " | ".join(words) + " |")
    print(f"\n({time.monotonic() - start_s:.0f} s)")
    return verdicts


def main() -> None:
    """Print a table for each network, and what became of the targets."""
    columns = sys.argv[1:] or list(COLUMNS)[:3]
    if unknown := [column for column in columns if column not in COLUMNS]:
        raise SystemExit(f"no column {unknown[0]!r}: one of {', '.join(COLUMNS)}")
    cases = (RESNET20, LENET5)
    if not all((case.folder / case.model).is_file() for case in cases):
        print(f"no models in {DATA}: the shipped example is measured instead")
        cases = (DIGITS,)
    for case in cases:
        print("\n" + "\n".join(_print_case(case, columns)), flush=True)


if __name__ == "__main__":
    main()
