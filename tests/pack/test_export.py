"""A folder of weights in another layout: whole or not at all, and back into the model."""

from __future__ import annotations

import dataclasses
import json
import os
from contextlib import suppress

import numpy as np
import pytest

from bacmac.host.arith.network import ConvOp
from bacmac.host.errors import BacmacError, InputError, MismatchError, OutputError, PackedFileError
from bacmac.host.pack.export import MANIFEST, export_model, read_exported, with_levels
from bacmac.host.pack.layouts import LAYOUTS

EXACT = ("finn", "bin", "mem", "coe")
"""Layouts that hold every layer of the small model."""


@pytest.mark.parametrize("layout", EXACT)
def test_weights_come_back_as_they_went(tiny_model, tmp_path, layout):
    exported = export_model(tiny_model, layout, tmp_path / "out", word_bits=64)
    levels = read_exported(tiny_model, tmp_path / "out")

    convs = [layer for layer in tiny_model.layers if isinstance(layer.op, ConvOp)]
    assert [row.name for row in exported] == list(levels) == [layer.name for layer in convs]
    for row, layer in zip(exported, convs, strict=True):
        assert np.array_equal(levels[layer.name], layer.op.levels)
        assert row.n_bytes == sum((tmp_path / "out" / name).stat().st_size for name in row.files)
    again = with_levels(tiny_model, levels)
    for before, after in zip(convs, again.layers[:1], strict=False):
        assert np.array_equal(before.op.levels, after.op.levels)
        assert before.op.levels.dtype == after.op.levels.dtype


def test_other_weights_take_their_place(tiny_model, tmp_path):
    export_model(tiny_model, "bin", tmp_path / "out")
    (tmp_path / "out" / "layer005.bin").write_bytes(bytes([0x21, 0xF3, 0, 0, 0x77, 0x10]))
    changed = with_levels(tiny_model, read_exported(tiny_model, tmp_path / "out"))

    assert changed.layers[-1].op.levels.reshape(-1).tolist() == [
        1,
        2,
        3,
        -1,
        0,
        0,
        0,
        0,
        7,
        7,
        0,
        1,
    ]
    assert np.array_equal(changed.layers[0].op.levels, tiny_model.layers[0].op.levels)


@pytest.mark.parametrize(
    ("layout", "found"),
    [
        ("potacc", r"layer 'stem': found \d+ weights are zero"),
        ("potacc-apot", r"layer 'stem': found \d+ weights have levels"),
        ("deepshift", r"layer 'add': found \d+ weights are no powers of two, -?3 among them"),
    ],
)
def test_what_a_layout_lacks_is_told_by_layer_and_count(tiny_model, tmp_path, layout, found):
    with pytest.raises(InputError, match=found):
        export_model(tiny_model, layout, tmp_path / "out")

    assert list(tmp_path.iterdir()) == []


def test_options_are_checked(tiny_model, tmp_path):
    with pytest.raises(InputError, match="layout: found 'tar'"):
        export_model(tiny_model, "tar", tmp_path / "out")
    with pytest.raises(InputError, match="word bits: found 12"):
        export_model(tiny_model, "mem", tmp_path / "out", word_bits=12)


def test_a_folder_with_something_in_it_is_left_alone(tiny_model, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="not an empty folder"):
        export_model(tiny_model, "bin", tmp_path)
    with pytest.raises(OutputError, match="not an empty folder"):
        export_model(tiny_model, "bin", tmp_path / "mine.txt")
    with pytest.raises(OutputError, match="No such file"):
        export_model(tiny_model, "bin", tmp_path / "no" / "where")
    (tmp_path / "empty").mkdir()
    export_model(tiny_model, "bin", tmp_path / "empty")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "precious"


def edited(change):
    def damage(folder):
        manifest = json.loads((folder / MANIFEST).read_text())
        change(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return damage


def row(index, **fields):
    return edited(lambda manifest: manifest["layers"][index].update(fields))


CASES = {
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "No such file"),
    "a folder as manifest": (
        lambda f: ((f / MANIFEST).unlink(), (f / MANIFEST).mkdir()), "no plain file"),
    "a pipe as manifest": (
        lambda f: ((f / MANIFEST).unlink(), os.mkfifo(f / MANIFEST)), "no plain file"),
    "broken JSON": (lambda f: (f / MANIFEST).write_text("{"), "broken JSON"),
    "a list": (lambda f: (f / MANIFEST).write_text("[]"), "an object"),
    "newer": (edited(lambda m: m.update(version=2)), "from 1 to 1"),
    "another format": (edited(lambda m: m.update(format="x")), "bacmac-weights"),
    "unknown layout": (edited(lambda m: m.update(layout="tar")), "one of finn"),
    "unknown key": (edited(lambda m: m.update(extra=1)), "the key 'extra'"),
    "fewer layers": (edited(lambda m: m["layers"].pop()), "expected those of 'tiny'"),
    "another layer": (row(0, name="other"), "expected those of 'tiny'"),
    "another scheme": (row(0, scheme="pot-3"), "one of pot-4"),
    "another shape": (row(0, weight_shape=[5, 3, 9, 1]), r"\[5, 3, 3, 3\]"),
    "a path": (row(0, files={".bin": "../../etc/passwd"}), "without a folder"),
    "an absolute path": (row(0, files={".bin": "/etc/passwd"}), "without a folder"),
    "a parent": (row(0, files={".bin": ".."}), "without a folder"),
    "no file named": (row(0, files={}), "the key '.bin'"),
    "a file missing": (lambda f: (f / "layer000.bin").unlink(), "No such file"),
    "a file cut": (lambda f: (f / "layer000.bin").write_bytes(b"12"), "layer 'stem'.*2 bytes"),
    "an illegal code": (
        lambda f: (f / "layer000.bin").write_bytes(b"\xff" * 67 + b"\x7f"),
        "layer 'stem'.*illegal"),
    "a NaN scale": (row(0, scale=[float("nan")] * 5), "NaN"),
    "a negative scale": (row(0, scale=[-1.0] * 5), "a number from"),
    "too many scales": (row(0, scale=[1.0] * 6), "a list of 5"),
    "an unknown number": (row(0, numbers={"depth": 3}), "the key 'depth'"),
    "a word of 12 bits": (row(0, numbers={"word_bits": 12}), "8, 16, 32"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_folder_is_told(tiny_model, tmp_path, name):
    damage, match = CASES[name]
    export_model(tiny_model, "bin", tmp_path / "out")
    damage(tmp_path / "out")

    with pytest.raises((PackedFileError, MismatchError), match=match) as caught:
        read_exported(tiny_model, tmp_path / "out")

    assert str(caught.value).isprintable()


def test_numbers_that_a_layout_needs_are_missed(tiny_model, tmp_path):
    export_model(tiny_model, "mem", tmp_path / "out")
    row(0, numbers={})(tmp_path / "out")

    with pytest.raises(PackedFileError, match="found no 'word_bits'"):
        read_exported(tiny_model, tmp_path / "out")


def test_levels_of_another_set_or_shape_do_not_fit(tiny_model):
    with pytest.raises(MismatchError, match="layer 'stem': found level 3"):
        with_levels(tiny_model, {"stem": np.full((5, 3, 3, 3), 3, np.int16)})
    with pytest.raises(MismatchError, match=r"found shape \(1,\)"):
        with_levels(tiny_model, {"stem": np.ones(1, np.int16)})


def test_any_bytes_in_a_folder_are_read_or_refused(tiny_model, tmp_path):
    rng = np.random.default_rng(7)
    pot = dataclasses.replace(tiny_model, layers=tiny_model.layers[:1])
    ones = with_levels(pot, {"stem": np.ones((5, 3, 3, 3), np.int8)})
    for layout in LAYOUTS:
        export_model(ones, layout, tmp_path / layout)
        files = sorted((tmp_path / layout).iterdir())
        for _ in range(40):
            path = files[rng.integers(len(files))]
            good = path.read_bytes()
            bad = bytearray(good)
            for _ in range(rng.integers(1, 4)):
                bad[rng.integers(len(bad))] = rng.integers(256)
            path.write_bytes(bytes(bad[: rng.integers(1, len(bad) + 1)]))
            with suppress(BacmacError):
                with_levels(ones, read_exported(ones, tmp_path / layout))
            path.write_bytes(good)
