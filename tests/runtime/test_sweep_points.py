"""Points of a sweep: functions of their specification, plain data, made once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.compile.array_work import array_of, array_work, choose_array
from bacmac.host.compile.choose import choose_overlay
from bacmac.host.compile.compiler import compile_model
from bacmac.host.device.registry import open_board
from bacmac.host.errors import BacmacError, ImageFileError, InputError, MismatchError
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.pack.file import read_packed
from bacmac.host.runtime import sweep as sweep_module
from bacmac.host.runtime.evaluate import evaluate
from bacmac.host.runtime.score import Score, exact_score
from bacmac.host.runtime.session import Session
from bacmac.host.runtime.sweep import PointStore, grid, option_kinds, parse_option, run_sweep
from bacmac.host.runtime.sweep_point import ImagePart, PointSpec, SweepPoint, run_point
from bacmac.overlays.registry import list_overlays

LIMIT = 120


@pytest.fixture(scope="module")
def spec(example_dir: Path) -> PointSpec:
    """The example in pot-4, measured on a few images."""
    model = load_model(example_dir / "digits_cnn.json")
    parts = []
    for name, stop in (("digits_calibration.npz", 64), ("digits_test.npz", LIMIT)):
        path = example_dir / name
        parts.append(ImagePart(str(path), load_images(path).sha256, 0, stop))
    normalization = load_images(example_dir / "digits_test.npz").normalization
    assert normalization is not None
    return PointSpec(
        str(example_dir / "digits_cnn.json"),
        None,
        model.source_sha256,
        *parts,
        normalization,
        {"scheme": "pot-4", "bias_correction": False},
        tuple(array_of(overlay) for overlay in list_overlays()),
    )


@pytest.fixture(scope="module")
def point(spec) -> SweepPoint:
    return run_point(spec)


def test_a_specification_and_a_point_survive_json(spec, point):
    assert PointSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert PointSpec.from_json(replace(spec, options=None).to_json()).options is None
    assert SweepPoint.from_json(json.loads(json.dumps(point.to_json()))) == point


def test_a_point_is_a_function_of_its_specification(spec, point):
    assert run_point(spec) == point


def test_the_key_knows_everything_but_the_paths(spec):
    moved = replace(
        spec, model="/elsewhere/net.json", test=replace(spec.test, path="/elsewhere/x.npz")
    )
    others = [
        replace(spec, options={"scheme": "pot-3"}),
        replace(spec, options=None),
        replace(spec, model_sha256="0" * 64),
        replace(spec, test=replace(spec.test, stop=LIMIT - 1)),
        replace(spec, calibration=replace(spec.calibration, sha256="0" * 64)),
        replace(spec, normalization=replace(spec.normalization, pixel_max=255.0)),
        replace(spec, arrays=spec.arrays[:1]),
        replace(spec, release="0.0"),
    ]

    assert moved.key == spec.key
    assert len({spec.key, *(other.key for other in others)}) == len(others) + 1


def test_the_score_is_that_of_a_device(spec, point, tmp_path):
    kept = tmp_path / "kept.safetensors"
    assert run_point(spec, keep=kept) == point
    model = read_packed(kept).model
    images = load_images(spec.test.path).first(LIMIT)
    overlay = choose_overlay(model, list_overlays())
    board = open_board("functional:")

    with Session(board, overlay, model) as session:
        found = evaluate(session, images)
    board.close()

    assert point.score is not None
    assert point.score.n_correct == found.n_correct
    assert point.score.accuracy == found.accuracy
    assert point.score.standard_error == pytest.approx(found.accuracy_standard_error)
    assert images.labels is not None
    assert point.score.flags.tolist() == (found.classes == images.labels).tolist()
    assert exact_score(model, images) == point.score


def test_the_model_as_it_is_has_the_float_networks_accuracy(spec):
    found = run_point(replace(spec, options=None, test=replace(spec.test, stop=500)))

    assert found.score is not None
    assert found.score.n_correct == 496  # what host/example/README.md says
    assert (found.size, found.array) == (None, None)


def test_sizes_and_products_are_counted_from_the_levels(spec, tmp_path):
    pruned = replace(spec, options={**(spec.options or {}), "sparsity": 0.5})
    kept = tmp_path / "kept.safetensors"

    size = run_point(pruned, keep=kept).size

    packed = read_packed(kept)
    layers = [layer for layer in packed.model.layers if layer.has_weights]
    shapes = dict(
        zip(
            (layer.name for layer in packed.model.layers),
            packed.model.network.shapes[1:],
            strict=True,
        )
    )
    assert size is not None
    assert size.n_weights == sum(layer.op.levels.size for layer in layers)
    assert size.n_zeros == sum(int((layer.op.levels == 0).sum()) for layer in layers)
    assert size.n_products == sum(
        int((layer.op.levels != 0).sum()) * shapes[layer.name][1] * shapes[layer.name][2]
        for layer in layers
    )
    assert size.n_products < 0.7 * size.n_macs
    assert size.weight_bytes == sum(packed.layer_bytes.values())
    assert sum(size.bytes_by_format.values()) == size.weight_bytes
    assert size.file_bytes == kept.stat().st_size
    assert size.stored_bits == 8 * size.weight_bytes / size.n_weights


@pytest.mark.parametrize("scheme", ["pot-4", "pot-4e4", "uniform-4", "uniform-8", "apot-4"])
def test_work_without_compiling_is_the_compiled_programs(scheme, example_dir):
    model = compress(
        load_model(example_dir / "digits_cnn.json"),
        load_images(example_dir / "digits_calibration.npz", shape=(1, 8, 8)).first(16),
        CompressOptions(scheme=scheme, rounding="nearest", bias_correction=False),
    )
    overlays = list_overlays()
    arrays = [array_of(overlay) for overlay in overlays]

    array = choose_array(model, arrays)

    overlay = choose_overlay(model, overlays)
    assert array == array_of(overlay)
    assert array_work(model, array) == compile_model(model, overlay).image_work


def test_a_combination_that_cannot_be_is_a_refused_point(spec):
    found = run_point(replace(spec, options={"scheme": "binary", "sparsity": 0.3}))

    assert found.score is None
    assert "binary" in found.refused


def test_files_that_changed_are_refused(spec, tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, images=np.zeros((130, 8, 8), np.uint8), labels=np.zeros(130, np.int64))

    with pytest.raises(MismatchError, match="as when the sweep was planned"):
        run_point(replace(spec, test=replace(spec.test, path=str(path))))
    with pytest.raises(MismatchError, match="as when the sweep was planned"):
        run_point(replace(spec, model_sha256="0" * 64))


def test_images_without_labels_are_refused(spec, tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, images=np.zeros((130, 8, 8), np.uint8))
    part = ImagePart(str(path), load_images(path).sha256, 0, 10)

    with pytest.raises(ImageFileError, match="labels"):
        run_point(replace(spec, test=part))


@given(flags=st.lists(st.booleans(), min_size=1, max_size=40))
def test_a_score_keeps_every_answer(flags):
    score = Score.of(np.array(flags))

    assert score.flags.tolist() == flags
    assert score.n_correct == sum(flags)


def test_the_grid_is_every_combination_once():
    found = grid(
        {
            "scheme": ("pot-4", "pot-3"),
            "sparsity": (0.0, 0.5),
            "pruning": ("magnitude", "pot-aware"),
        }
    )

    assert len(found) == 2 * (1 + 2)  # what prunes makes no difference where nothing is pruned
    assert {"scheme": "pot-4", "sparsity": 0.0} in found
    assert {"scheme": "pot-3", "sparsity": 0.5, "pruning": "pot-aware"} in found
    assert grid({"sparsity": (0.0, 0.5), "structure": ("tile", "2:4")}) == (
        {"sparsity": 0.0},
        {"structure": "2:4"},
        {"sparsity": 0.5, "structure": "tile"},
    )
    assert grid({"scheme": ("pot-4", "pot-3", "uniform-4"), "budget": ("3bit",)}) == (
        {"scheme": "pot-4", "budget": "3bit"},
        {"scheme": "uniform-4", "budget": "3bit"},
    )
    with pytest.raises(InputError, match="at most"):
        grid({"scheme": ("pot-4",), "sparsity": tuple(i / 20_000 for i in range(20_000))})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("scheme", "pot-4", "pot-4"),
        ("sparsity", "0.3", 0.3),
        ("activation-bits", "6", 6),
        ("activation_bits", "6", 6),
        ("first-last", "none", None),
        ("first-last", "uniform-8", "uniform-8"),
        ("bias-correction", "on", True),
        ("bias-correction", "off", False),
        ("bias-correction", "none", None),
    ],
)
def test_options_are_read_by_their_type(name, text, value):
    found = parse_option(name, text)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "fragment"),
    [
        ("sparsity", "half", "a number"),
        ("activation-bits", "6.5", "a whole number"),
        ("bias-correction", "maybe", "on or off or none"),
        ("schemes", "pot-4", "no such option"),
        ("frobnicate", "1", "no such option"),
    ],
)
def test_options_that_are_none_are_refused(name, text, fragment):
    with pytest.raises(InputError, match=fragment):
        parse_option(name, text)


def test_every_plain_option_of_compression_can_be_varied():
    assert {"scheme", "sparsity", "pruning", "rounding", "activation_bits"} <= set(option_kinds())
    assert not {"schemes", "normalization", "group"} & set(option_kinds())


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[" * 100_000,
        lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
        lambda text: text.replace('"key": "', '"key": "0'),
        lambda text: text.replace('"n_correct"', '"n_right"'),
        lambda text: json.dumps([1, 2]),
    ],
)
def test_a_damaged_point_is_made_again(damage, spec, point, tmp_path):
    store = PointStore(tmp_path)
    store.write(spec, point)
    (path,) = (tmp_path / "points").iterdir()
    assert store.read(spec) == point
    path.write_text(damage(path.read_text()))

    assert store.read(spec) is None
    assert run_sweep([spec], store) == (point,)
    assert store.read(spec) == point


def test_a_point_whose_packed_model_is_gone_is_made_again(spec, point, tmp_path):
    PointStore(tmp_path).write(spec, point)

    store = PointStore(tmp_path, keep=True)

    assert store.read(spec) is None
    run_sweep([spec], store)
    path = store.packed_path(spec)
    assert path is not None
    assert read_packed(path).n_bytes == path.stat().st_size
    assert store.read(spec) == point


def test_a_sweep_makes_each_point_once(spec, tmp_path, monkeypatch):
    made: list[str] = []

    def counted(asked: PointSpec, **_: object) -> SweepPoint:
        made.append(asked.key)
        return SweepPoint(asked.key, asked.options, refused="not now")

    monkeypatch.setattr(sweep_module, "run_point", counted)
    specs = [replace(spec, options={"sparsity": share}) for share in (0.0, 0.1, 0.0)]
    told: list[tuple[int, int]] = []

    first = run_sweep(specs[:1], PointStore(tmp_path))
    found = run_sweep(
        specs, PointStore(tmp_path), done=lambda _, count, total: told.append((count, total))
    )

    assert made == [specs[0].key, specs[1].key]
    assert [p.key for p in found] == [s.key for s in specs]
    assert found[0] == first[0]
    assert told == [(1, 2), (2, 2)]


def test_what_goes_wrong_in_a_process_is_told(spec, tmp_path):
    missing = [
        replace(spec, options={"sparsity": share}, model=str(tmp_path / "gone.json"))
        for share in (0.0, 0.1)
    ]

    with pytest.raises(BacmacError, match=r"gone\.json"):
        run_sweep(missing, PointStore(tmp_path), jobs=2)
