"""What quantization and pruning cost in accuracy, post-training, on whole test sets.

Every figure is the integer network's, run by the exact engine on quantized images, every layer in
one scheme. In brackets: the difference to the float network and its standard error, paired over the
same images (Dietterich 1998, "Approximate statistical tests for comparing supervised classification
learning algorithms", treats the pairing; two networks that err on the same images differ by far
less than their two separate errors suggest).

    python tests/benchmarks/accuracy.py [NETWORK ...]

Networks are resnet20, lenet5 and lenet300; without any, all are measured, and what one run of the
command takes in time and memory. The data folder is BACMAC_DATA; where there is none, the shipped
example is measured.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import multiprocessing
import subprocess
import sys
import time
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
Row = tuple[str, CompressOptions, float | None]
"""What it is called, how it is made, and how many points it may lose at most."""


def zeros(share: float, most: float | None = None, scheme: str = "pot-4") -> Row:
    """A row of single zeros, wherever they cost least."""
    return f"{scheme}, {share:.0%} zeros", CompressOptions(scheme, sparsity=share), most


def rounded(scheme: str, most: float | None = None) -> Row:
    """A row of a scheme alone."""
    return scheme, CompressOptions(scheme), most


def by_magnitude(share: float) -> Row:
    """What the others are to be compared with: smallest weights gone, nearest levels."""
    words = f"pot-4, {share:.0%} zeros, magnitude, nearest" if share else "pot-4, nearest"
    return (
        words,
        CompressOptions(sparsity=share, pruning="magnitude", rounding="nearest"),
        None,
    )


STRUCTURED: tuple[Row, ...] = (
    ("pot-4, 2:4", CompressOptions(structure="2:4"), None),
    ("pot-4, 50 % of 4x4 tiles", CompressOptions(structure="tile", sparsity=0.5), None),
    ("pot-4, 30 % of blocks", CompressOptions(structure="block", sparsity=0.3), None),
    ("pot-4, 10 % of channels", CompressOptions(structure="channel", sparsity=0.1), None),
    ("pot-4, groups 16x16, 50 %", CompressOptions(group=(16, 16), group_sparsity=0.5), None),
    ("pot-4, groups 16x16, 70 %", CompressOptions(group=(16, 16), group_sparsity=0.7), None),
)
RESNET20_ROWS: tuple[Row, ...] = (
    rounded("uniform-8", 0.3),
    rounded("uniform-4", 0.3),
    rounded("pot-4", 0.3),
    ("pot-4, shifts only", CompressOptions(shift_only=True), 0.3),
    rounded("pot-3", 0.8),
    rounded("apot-4"),
    rounded("ternary"),
    zeros(0.3, 0.3),
    zeros(0.5, 1.5),
    zeros(0.7),
    zeros(0.5, scheme="uniform-8"),
    by_magnitude(0.0),
    by_magnitude(0.5),
    *STRUCTURED,
)
LENET5_ROWS: tuple[Row, ...] = (
    *(rounded(name, 0.1) for name in ("uniform-4", "uniform-3", "pot-4", "pot-4e4", "pot-3")),
    rounded("apot-4", 0.1),
    zeros(0.5, 0.1),
    zeros(0.9),
    by_magnitude(0.5),
)
LENET300_ROWS: tuple[Row, ...] = (
    rounded("pot-4"),
    zeros(0.5),
    zeros(0.8),
    by_magnitude(0.0),
    by_magnitude(0.8),
)


@dataclass(frozen=True)
class Case:
    """A network, its images, and what is measured."""

    title: str
    folder: Path
    model: str
    calibration: str
    test: str
    normalization: Normalization | None
    rows: tuple[Row, ...]


RESNET20 = Case(
    "ResNet-20, CIFAR-10",
    DATA,
    "resnet20_cifar10_float.onnx",
    "cifar10_train_4000.npz",
    "cifar10_test_2000.npz",
    Normalization(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    RESNET20_ROWS,
)
LENET5 = Case(
    "LeNet-5, MNIST",
    DATA,
    "lenet5_mnist_float.onnx",
    "mnist_train_first10000.npz",
    "mnist_test_10000.npz",
    None,
    LENET5_ROWS,
)
LENET300 = Case(
    "LeNet-300-100, MNIST",
    DATA,
    "lenet300_mnist_float.onnx",
    "mnist_train_first10000.npz",
    "mnist_test_10000.npz",
    None,
    LENET300_ROWS,
)
DIGITS = Case(
    "digits (shipped example)",
    EXAMPLE,
    "digits_cnn.json",
    "digits_calibration.npz",
    "digits_test.npz",
    None,
    (rounded("pot-4", 0.5), rounded("pot-3"), zeros(0.5), by_magnitude(0.5)),
)
CASES = {"resnet20": RESNET20, "lenet5": LENET5, "lenet300": LENET300}


@cache
def _inputs(title: str) -> tuple[Model, ImageSet, ImageSet]:
    case = next(case for case in (*CASES.values(), DIGITS) if case.title == title)
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
    logits = quantized.values(outputs)
    correct: Correct = logits.reshape(len(logits), -1).argmax(1) == _labels(test)
    return correct


def _labels(images: ImageSet) -> npt.NDArray[np.int64]:
    if images.labels is None:
        raise SystemExit(f"{images.source} has no labels")
    return images.labels


def _print_case(case: Case) -> None:
    """Measure and print one network, the target beside each figure that has one."""
    start_s = time.monotonic()
    tasks = [
        (case.title, replace(options, normalization=case.normalization))
        for _, options, _ in case.rows
    ]
    right = _float_correct(case)
    share = float(right.mean())
    error = 100 * np.sqrt(share * (1 - share) / right.size)
    print(f"\n## {case.title}: {right.size} test images; float {100 * share:.2f} +- {error:.2f} %")
    print("\n| weights | accuracy, % | to float | may lose | |\n|---|---|---|---|---|", flush=True)
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        results = pool.imap(_integer_correct, tasks)
        for (words, _, most), correct in zip(case.rows, results, strict=True):
            differences = 100.0 * (correct.astype(float) - right)
            error = differences.std(ddof=1) / np.sqrt(right.size)
            lost = -float(differences.mean())
            verdict = "" if most is None else "reached" if lost <= most + 1e-9 else "MISSED"
            print(
                f"| {words} | {100 * correct.mean():.2f} | {-lost:+.2f} +- {error:.2f} "
                f"| {'' if most is None else most} | {verdict} |",
                flush=True,
            )
    print(f"\n({time.monotonic() - start_s:.0f} s)", flush=True)


def _print_cost(case: Case) -> None:
    """What one compression takes, in a process of its own on one thread, with 512 images."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import accuracy, resource, time\n"
        "case = accuracy.RESNET20; model, calibration, _ = accuracy._inputs(case.title)\n"
        "options = accuracy.replace(case.rows[int(sys.argv[2])][1], "
        "normalization=case.normalization)\n"
        "start = time.monotonic(); accuracy.compress(model, calibration, options)\n"
        "print(time.monotonic() - start, "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1048576)"
    )
    print("\n| ResNet-20, 512 images, one thread | seconds (below 60) | GiB (below 2) |")
    print("|---|---|---|")
    for number, (words, options, _) in enumerate(case.rows):
        if options.rounding == "nearest" or options.structure != "weight":
            continue
        done = subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent), str(number)],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, gib = map(float, done.stdout.split())
        print(f"| {words} | {seconds:.0f} | {gib:.2f} |", flush=True)


def main() -> None:
    """Print a table for each network, then the cost."""
    names = sys.argv[1:] or list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        raise SystemExit(f"no network {unknown[0]!r}: one of {', '.join(CASES)}")
    cases = [CASES[name] for name in names]
    if not all((case.folder / case.model).is_file() for case in cases):
        print(f"no models in {DATA}: the shipped example is measured instead")
        _print_case(DIGITS)
        return
    for case in cases:
        _print_case(case)
    if not sys.argv[1:]:
        _print_cost(RESNET20)


if __name__ == "__main__":
    main()
