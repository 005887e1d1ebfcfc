"""`bacmac pack --format` and `bacmac export`, as a user types them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bacmac.host.arith.network import ConvOp
from bacmac.host.pack.file import read_packed
from bacmac.host.pack.layouts import LAYOUTS


@pytest.fixture
def pack(run, example_dir, tmp_path):
    """Pack the example with 70 % zeros and these options."""

    def call(*options, name="net"):
        path = tmp_path / f"{name}.safetensors"
        outcome = run(
            "pack", example_dir / "digits_cnn.json", "--calibration",
            example_dir / "digits_calibration.npz", "-o", path, "--sparsity", 0.7,
            "--rounding", "nearest", "--bias-correction", "off", *options,
        )  # fmt: skip
        return outcome, path

    return call


def test_auto_stores_each_layer_in_the_smallest_format_and_says_why(pack, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    dense, plain = pack(name="plain")
    auto, path = pack("--format", "auto", "--overlay", "bac-pot4")

    assert (dense.status, auto.status) == (0, 0), auto.err
    assert "storage format" not in dense.out
    assert "bytes of each layer's weights by storage format" in auto.out
    assert "bitmap" in auto.out
    assert "stream" in auto.out
    assert "less than dense, the next" in auto.out
    assert set(read_packed(path).layer_formats.values()) >= {"bitmap"}
    for one, other in zip(
        read_packed(path).model.layers, read_packed(plain).model.layers, strict=True
    ):
        if isinstance(one.op, ConvOp):
            assert np.array_equal(one.op.levels, other.op.levels)
    assert path.stat().st_size < plain.stat().st_size


def test_the_table_is_there_for_machines(pack):
    outcome, path = pack("--format", "auto", "--json")
    rows = json.loads(outcome.out)["formats"]

    assert {row["layer"]: row["format"] for row in rows} == {
        name: form for name, form in read_packed(path).layer_formats.items() if form
    }
    assert all(min(row["bytes"].values()) == row["bytes"][row["format"]] for row in rows)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--format", "zip"), "no format 'zip'"),
        (("--format", "stream"), "stream without an overlay"),
        (("--format", "nm-1:4"), "weights that are not zero, more than 1"),
        (("--format", "bitmap", "--scheme", "binary", "--sparsity", "0"), "binary"),
    ],
)
def test_a_format_that_cannot_be_is_told(pack, options, found):
    outcome, path = pack(*options)

    assert outcome.status == 2
    assert found in outcome.err
    assert outcome.err.count("\n") == 1
    assert not path.exists()


@pytest.mark.parametrize("layout", ["finn", "deepshift", "bin", "mem", "coe"])
def test_weights_go_out_and_come_back(run, bac_file, tmp_path, layout):
    out = run("export", bac_file, "--layout", layout, "-o", tmp_path / "out", "--word-bits", 64)
    back = run("export", bac_file, "--read", tmp_path / "out", "-o", tmp_path / "new.safetensors")

    assert (out.status, back.status) == (0, 0), out.err + back.err
    assert "layer000." in out.out
    before, after = read_packed(bac_file).model, read_packed(tmp_path / "new.safetensors").model
    for one, other in zip(before.layers, after.layers, strict=True):
        if isinstance(one.op, ConvOp):
            assert np.array_equal(one.op.levels, other.op.levels)
    assert after.provenance["weights"] == str(tmp_path / "out")


def test_what_a_layout_lacks_names_layer_and_count_and_leaves_nothing(run, bac_file, tmp_path):
    outcome = run("export", bac_file, "--layout", "potacc", "-o", tmp_path / "out")

    assert outcome.status == 2
    assert "layer 'block.conv1': found" in outcome.err
    assert "weights are zero, and its code has no zero" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_export_lists_its_files_for_machines(run, bac_file, tmp_path):
    outcome = run("export", bac_file, "--layout", "mem", "-o", tmp_path / "out", "--json")
    rows = json.loads(outcome.out)["layers"]

    for row in rows:
        assert (
            sum((tmp_path / "out" / name).stat().st_size for name in row["files"])
            == (row["n_bytes"])
        )


def test_export_needs_one_direction(run, bac_file, tmp_path):
    outcome = run("export", bac_file, "-o", tmp_path / "out")

    assert outcome.status == 2
    assert "--layout" in outcome.err
    assert set(LAYOUTS) == {"finn", "potacc", "potacc-apot", "deepshift", "bin", "mem", "coe"}
