"""`bacmac pack`: budgets, shifts alone, levels recognized, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.pack.file import read_packed


@pytest.fixture
def words(example_dir: Path, tmp_path: Path) -> list[object]:
    """`pack` of the shipped example on few images, to tmp_path / "net"."""
    return [
        "pack", example_dir / "digits_cnn.json", "--calibration",
        example_dir / "digits_calibration.npz", "--calibration-images", "64",
        "-o", tmp_path / "net",
    ]  # fmt: skip


def test_a_budget_in_bits_is_kept_and_told_layer_by_layer(run, words, tmp_path):
    outcome = run(*words, "--budget", "3.3bit", "--json")

    told = json.loads(outcome.out)["budget"]
    packed = read_packed(tmp_path / "net").model
    schemes = {layer.name: layer.scheme for layer in packed.layers if layer.has_weights}
    assert {row["layer"]: row["scheme"] for row in told} == schemes
    n_weights = sum(row["n_weights"] for row in told)
    bits = sum(row["n_weights"] * row["bits"] for row in told) / n_weights
    assert 2.8 < bits <= 3.3
    assert len(set(schemes.values())) > 1


def test_a_budget_chooses_among_what_the_overlay_executes(run, words, example_dir, tmp_path):
    outcome = run(*words, "--budget", "3.3bit", "--overlay", "bac-pot4")

    assert outcome.status == 0
    assert "sensitivity: error expected at the output" in outcome.out
    packed = read_packed(tmp_path / "net").model
    assert {SCHEMES[layer.scheme].kind for layer in packed.layers if layer.scheme} == {"pot"}
    ran = run(
        "run", tmp_path / "net", "--images", example_dir / "digits_test.npz",
        "--limit", "32", "--overlay", "bac-pot4", "--json",
    )  # fmt: skip
    assert ran.status == 0


def test_an_energy_budget_says_that_it_is_an_estimate(run, words):
    outcome = run(*words, "--budget", "0.6energy")

    assert outcome.status == 0
    assert "estimate" in outcome.err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--budget", "3.5"], "3.5bit"),
        (["--budget", "1bit", "--budget-scheme", "pot-3"], "at least 3"),
        (["--budget", "0.1energy"], "cheapest of the candidate schemes"),
        (["--layer-table", "missing.json"], "missing.json"),
        (["--scheme", "binary", "--sparsity", "0.5"], "binary"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_and_leaves_no_file(run, words, tmp_path, more, says):
    outcome = run(*words, *more)

    assert outcome.status == 2
    assert says in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "net").exists()


def test_shift_only_gives_a_file_without_a_multiplier(run, words, example_dir, tmp_path):
    assert run(*words, "--shift-only").status == 0

    packed = read_packed(tmp_path / "net").model
    hows = [layer.op.requantize for layer in packed.layers if layer.op.requantize is not None]
    assert len(hows) >= 3
    assert all((how.multiplier == 1).all() for how in hows)
    ran = run(
        "run", tmp_path / "net", "--images", example_dir / "digits_test.npz",
        "--overlay", "bac-pot4", "--json",
    )  # fmt: skip
    assert json.loads(ran.out)["accuracy"] > 0.95


def test_a_float_network_without_images_asks_for_them(run, example_dir, tmp_path):
    outcome = run("pack", example_dir / "digits_cnn.json", "-o", tmp_path / "net")

    assert outcome.status == 2
    assert "calibration" in outcome.err


def on_powers(example_dir: Path, folder: Path) -> Path:
    """The shipped example with every weight on a power of two, as floats."""
    layers = json.loads((example_dir / "digits_cnn.json").read_text())
    arrays = dict(np.load(example_dir / layers["weights"]))
    for name, array in arrays.items():
        if array.ndim > 1:
            largest = np.abs(array).max(axis=tuple(range(1, array.ndim)), keepdims=True)
            ratio = np.maximum(np.abs(array) / largest, 2.0**-6)
            powers = np.copysign(2.0 ** np.rint(np.log2(ratio)), array)
            arrays[name] = (powers * largest).astype(np.float32)
    np.savez(folder / layers["weights"], **arrays)
    (folder / "powers.json").write_text(json.dumps(layers))
    return folder / "powers.json"


def test_levels_are_recognized_in_floats_and_the_notes_say_so(run, example_dir, tmp_path):
    model = on_powers(example_dir, tmp_path)

    outcome = run(
        "pack", model, "--calibration", example_dir / "digits_calibration.npz",
        "--calibration-images", "64", "--imported", "recognize", "-o", tmp_path / "net",
    )  # fmt: skip

    assert outcome.status == 0
    assert "PoT of 7 exponents" in outcome.err
    packed = read_packed(tmp_path / "net").model
    weighted = [layer for layer in packed.layers if layer.has_weights]
    assert {layer.scheme for layer in weighted} <= {"pot-4", "pot-4e4"}
    assert all(layer.relative_squared_error < 1e-10 for layer in weighted)
