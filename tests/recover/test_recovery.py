"""A run from end to end on the shipped digits: better, repeatable, resumable, told in words."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError, MismatchError, MissingExtraError
from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import input_codes, normalized
from bacmac.host.model.layers import Model
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.pack.file import read_packed, write_packed
from bacmac.host.recover import training
from bacmac.host.recover.options import RecoverOptions
from bacmac.host.recover.recovery import recover
from bacmac.host.recover.report import EpochReport

COMPRESS = CompressOptions(scheme="pot-4", sparsity=0.6, calibration_images=64)
CARELESS = replace(COMPRESS, rounding="nearest", pruning="magnitude", bias_correction=False)
"""Weights cut and rounded without a thought for each other leave most to be made good."""
SHORT = RecoverOptions(epochs=2, prune_epochs=2, batch=32)


@pytest.fixture(scope="module")
def model(example_dir: Path) -> Model:
    return load_model(example_dir / "digits_cnn.json")


@pytest.fixture(scope="module")
def images(example_dir: Path) -> ImageSet:
    return load_images(example_dir / "digits_calibration.npz")


def _error(quantized: QuantizedModel, model: Model, images: ImageSet) -> float:
    """Mean squared difference of the integer network's outputs to the float network's."""
    assert images.normalization is not None
    codes = input_codes(images.images, quantized.normalization, quantized.input_format)
    values = quantized.values(Engine(quantized.network).run(codes))
    floats = forward(model, normalized(images.images, images.normalization))
    return float(np.mean((values - floats) ** 2))


def _same(left: QuantizedModel, right: QuantizedModel) -> bool:
    pairs = [(a.op, b.op) for a, b in zip(left.layers, right.layers, strict=True) if a.has_weights]
    return all(
        np.array_equal(a.levels, b.levels) and np.array_equal(a.bias, b.bias) for a, b in pairs
    )


def test_training_brings_images_never_seen_nearer_the_float_network(
    model: Model, images: ImageSet, example_dir: Path
) -> None:
    recovered = recover(model, images, CARELESS, RecoverOptions(epochs=6, batch=16))

    fresh = load_images(example_dir / "digits_test.npz")
    before = _error(compress(model, images, CARELESS), model, fresh)
    assert _error(recovered.model, model, fresh) < 0.7 * before
    starts = [report for report in recovered.reports if report.epoch == 0]
    assert [report.stage for report in starts] == ["round"]
    last = min(report.held_out_loss for report in recovered.reports if report.stage == "round")
    assert last <= starts[0].held_out_loss


def test_the_share_of_zeros_is_reached_and_kept(model: Model, images: ImageSet) -> None:
    recovered = recover(model, images, COMPRESS, SHORT)

    levels = [layer.op.levels for layer in recovered.model.layers if layer.has_weights]
    size = sum(array.size for array in levels)
    zeros = size - sum(int(np.count_nonzero(array)) for array in levels)
    assert zeros >= round(0.6 * size)
    allowed = set(SCHEMES["pot-4"].levels.tolist())
    assert all(set(np.unique(array)) <= allowed for array in levels)


def test_layers_can_have_shares_of_their_own(model: Model, images: ImageSet) -> None:
    options = replace(COMPRESS, sparsities={"conv2": 0.25}, scope="layer", first_last="uniform-8")

    recovered = recover(model, images, options, SHORT)

    zeros = {layer.name: layer.sparsity for layer in recovered.model.layers if layer.has_weights}
    assert 0.25 <= zeros["conv2"] < 0.4
    assert zeros["block.conv1"] >= round(0.6 * 2304) / 2304
    assert zeros["conv1"] < 0.2


def test_whole_units_that_went_stay_empty(model: Model, images: ImageSet) -> None:
    options = replace(COMPRESS, structure="tile", sparsity=0.3)
    before = compress(model, images, options)

    recovered = recover(model, images, options, replace(SHORT, prune_epochs=0))

    for layer, start in zip(recovered.model.layers, before.layers, strict=True):
        if start.has_weights:
            assert not layer.op.levels[start.op.levels == 0].any()


def test_the_result_is_packed_as_any_other(model: Model, images: ImageSet, tmp_path: Path) -> None:
    recovered = recover(model, images, COMPRESS, replace(SHORT, prune_epochs=0, epochs=1))

    file = tmp_path / "packed.safetensors"
    write_packed(file, recovered.model)

    assert _same(read_packed(file).model, recovered.model)
    recovery = recovered.model.provenance["recovery"]
    assert isinstance(recovery, dict)
    assert recovery["options"]["seed"] == 1
    assert recovery["images"]["images"] == len(images.images)


def test_one_seed_gives_the_same_bits_and_another_other_ones(
    model: Model, images: ImageSet
) -> None:
    first, again = (recover(model, images, COMPRESS, SHORT) for _ in range(2))
    other = recover(model, images, COMPRESS, replace(SHORT, seed=2))

    assert _same(first.model, again.model)
    assert first.reports == again.reports
    assert not _same(first.model, other.model)


@pytest.mark.parametrize("stop", [("prune", 1), ("prune", 2), ("round", 0), ("round", 1)])
def test_a_run_that_was_stopped_gives_what_it_would_have_given(
    model: Model, images: ImageSet, tmp_path: Path, stop: tuple[str, int]
) -> None:
    whole = recover(model, images, COMPRESS, SHORT)
    file = tmp_path / "run.checkpoint"

    def stopped(report: EpochReport) -> None:
        if (report.stage, report.epoch) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recover(model, images, COMPRESS, SHORT, checkpoint=file, told=stopped)
    told: list[EpochReport] = []
    resumed = recover(model, images, COMPRESS, SHORT, checkpoint=file, told=told.append)
    finished = recover(model, images, COMPRESS, SHORT, checkpoint=file, told=told.append)

    assert _same(resumed.model, whole.model)
    assert resumed.reports == whole.reports
    assert 0 < len(told) <= len(whole.reports)
    assert _same(finished.model, whole.model)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_checkpoint_of_another_run_is_refused(
    model: Model, images: ImageSet, tmp_path: Path
) -> None:
    file = tmp_path / "run.checkpoint"
    quick = replace(SHORT, prune_epochs=0, epochs=1)
    recover(model, images, COMPRESS, quick, checkpoint=file)

    for other in (replace(quick, seed=9), replace(quick, epochs=2)):
        with pytest.raises(MismatchError, match="another model, image set, option or release"):
            recover(model, images, COMPRESS, other, checkpoint=file)
    with pytest.raises(MismatchError):
        recover(model, images.first(200), COMPRESS, quick, checkpoint=file)


def test_a_damaged_checkpoint_is_refused_by_name(
    model: Model, images: ImageSet, tmp_path: Path
) -> None:
    file = tmp_path / "run.checkpoint"
    quick = replace(SHORT, prune_epochs=0, epochs=1)
    recover(model, images, COMPRESS, quick, checkpoint=file)
    good = file.read_bytes()

    for bad in (b"", good[: len(good) // 2], b"\xff" * 64, good.replace(b"round", b"wound")):
        file.write_bytes(bad)
        with pytest.raises(InputError, match=r"run\.checkpoint: checkpoint"):
            recover(model, images, COMPRESS, quick, checkpoint=file)
        assert file.read_bytes() == bad


def test_without_torch_the_extra_is_named(
    model: Model, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("bacmac.host.recover.")]:
        if name.rsplit(".", 1)[1] in ("training", "network", "batches"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(MissingExtraError, match=r"bacmac\[train\]"):
        recover(model, images, COMPRESS, SHORT)


def test_what_cannot_be_trained_is_refused_before_the_work(model: Model, images: ImageSet) -> None:
    unlabelled = replace(images, labels=None)

    with pytest.raises(MismatchError, match="labels: found none"):
        recover(model, unlabelled, COMPRESS, replace(SHORT, label_share=0.5))
    with pytest.raises(MismatchError, match="2 or more"):
        recover(model, images.first(1), COMPRESS, SHORT)
    with pytest.raises(MismatchError, match="images: found"):
        recover(model, replace(images, images=images.images[:, :, :7]), COMPRESS, SHORT)
    with pytest.raises(InputError, match="prune_epochs"):
        recover(model, images, replace(COMPRESS, sparsity=0.0), SHORT)
    with pytest.raises(InputError, match="prune_epochs: found 2, and channels to prune"):
        recover(model, images, replace(COMPRESS, structure="channel"), SHORT)
    wrong = np.full(len(images.images), 10, np.int64)
    with pytest.raises(MismatchError, match="labels: found class 10"):
        recover(model, replace(images, labels=wrong), COMPRESS, replace(SHORT, label_share=0.5))
    with pytest.raises(InputError, match="structure: found channel: such layers get smaller"):
        recover(model, images, CompressOptions(sparsity=0.2, structure="channel"), RecoverOptions())


@pytest.mark.parametrize(
    "options",
    [{"epochs": -1}, {"batch": 0}, {"learning_rate": float("nan")}, {"held_out": 1.0},
     {"threads": 0}, {"label_share": 1.5}, {"seed": -1}],
)  # fmt: skip
def test_options_out_of_range_are_refused_by_name(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"options: {next(iter(options))}: found"):
        RecoverOptions(**options)  # type: ignore[arg-type]


def test_labels_and_images_without_a_held_out_part_will_do(model: Model, images: ImageSet) -> None:
    options = RecoverOptions(
        epochs=3, learning_rate=5e-3, held_out=0.0, label_share=1.0, augment=False
    )

    reports = recover(model, images, CARELESS, options).reports

    assert reports[-1].held_out_accuracy > reports[0].held_out_accuracy


def test_an_image_set_without_labels_is_enough(model: Model, images: ImageSet) -> None:
    options = replace(SHORT, prune_epochs=0, epochs=1)

    with_labels = recover(model, images, COMPRESS, options)
    without = recover(model, replace(images, labels=None), COMPRESS, options)

    assert _same(with_labels.model, without.model)


def test_training_that_diverges_says_so(
    model: Model, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        training, "_distance", lambda found, wanted: (found - wanted).sum() * np.inf
    )

    with pytest.raises(InputError, match=r"learning_rate: found 0\.005, at which the loss"):
        recover(model, images, COMPRESS, replace(SHORT, prune_epochs=0))
