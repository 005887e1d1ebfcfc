"""`bacmac check`: test vectors, the file's own definition, the accelerator's integers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import normalized
from bacmac.host.model.layers import Normalization


@pytest.fixture
def vectors(example_dir, tmp_path):
    """The shipped float network's own outputs."""
    model = load_model(example_dir / "digits_cnn.json")
    images = load_images(example_dir / "digits_test.npz", shape=model.input_shape)
    inputs = normalized(images.images[:20], images.normalization or Normalization())
    path = tmp_path / "vectors.npz"
    np.savez(path, input=inputs, output=forward(model, inputs).reshape(20, -1))
    return path


def test_a_float_file_is_checked_by_its_definition_alone(run, example_dir, vectors):
    outcome = run("check", example_dir / "digits_cnn.onnx", "--vectors", vectors, "--json")

    found = json.loads(outcome.out)
    assert outcome.status == 0
    assert list(found) == ["as the file defines it"]
    assert found["as the file defines it"]["exact"]
    assert found["as the file defines it"]["n_values"] == 200


def test_with_calibration_the_accelerators_integers_are_compared_too(run, example_dir, vectors):
    outcome = run(
        "check",
        example_dir / "digits_cnn.onnx",
        "--vectors",
        vectors,
        "--calibration",
        example_dir / "digits_calibration.npz",
    )

    assert outcome.status == 0
    assert "as the accelerator computes it" in outcome.out
    assert "20 of 20" in outcome.out


def test_outputs_that_are_others_are_told_by_status_1(run, example_dir, vectors, tmp_path):
    arrays = dict(np.load(vectors))
    arrays["output"] = arrays["output"] + np.eye(20, 10)
    other = tmp_path / "other.npz"
    np.savez(other, **arrays)

    outcome = run("check", example_dir / "digits_cnn.onnx", "--vectors", other)

    assert outcome.status == 1
    assert "10 of 200" in outcome.out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input": np.zeros((20, 3, 8, 8), np.float32)}, "input: found (20, 3, 8, 8)"),
        ({"output": np.zeros((19, 10))}, "output: found 19 rows; expected 20"),
        ({"output": np.zeros((20, 9))}, "found 10 values an image; expected 9"),
    ],
)
def test_vectors_of_another_model_are_refused(run, example_dir, vectors, tmp_path, change, said):
    other = tmp_path / "other.npz"
    np.savez(other, **{**np.load(vectors), **change})

    outcome = run("check", example_dir / "digits_cnn.onnx", "--vectors", other)

    assert outcome.status == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


REAL = {
    "qonnx_tfc_2w2a.onnx": 16,
    "qonnx_tfc_1w1a.onnx": 16,
    "qonnx_jettagging_6bit.onnx": 15,
    "potacc_apot_resnet20_4bit.tflite": 16,
    "residual_block_float.onnx": 1,
    "mnist8_cntk_float.onnx": 1,
}


def test_published_files_reproduce_their_vectors(run, real_data: Path | None, example_dir, vectors):
    """By the file's own definition nothing differs; the accelerator's classes are the same ones."""
    files = {} if real_data is None else REAL
    found = {}
    for name in files:
        assert real_data is not None
        path = real_data / name
        stem = path.stem + "_vectors.npz"
        found[name] = run("check", path, "--vectors", real_data / stem, "--json")
    if not files:
        found["shipped"] = run(
            "check", example_dir / "digits_cnn.json", "--vectors", vectors, "--json"
        )

    for name, outcome in found.items():
        rows = json.loads(outcome.out)
        assert rows["as the file defines it"]["exact"], name
        assert outcome.status == 0
        accelerator = rows.get("as the accelerator computes it")
        if accelerator is not None:
            assert accelerator["n_classes_equal"] >= REAL[name]
