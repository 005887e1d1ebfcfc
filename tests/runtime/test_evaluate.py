"""Accuracy, counters and time of a whole image set; image sets that do not fit are refused."""

from __future__ import annotations

import numpy as np
import pytest

from bacmac.host.arith.reference import run_reference
from bacmac.host.device.registry import open_board
from bacmac.host.errors import ImageFileError, MismatchError
from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import input_codes, normalized
from bacmac.host.runtime.evaluate import evaluate, evaluate_float
from bacmac.host.runtime.inputs import load_images_for
from bacmac.host.runtime.session import Session
from bacmac.overlays.registry import load_overlay


def _classifier(models, seed=3):
    builder = models.Builder(seed, input_shape=(1, 6, 6))
    builder.dense(builder.conv(0, 8), 5, logits=True)
    return builder.model(), builder.images(37)


def _evaluate(model, images, labels=None):
    board = open_board("functional:")
    try:
        with Session(board, load_overlay("bac-pot4"), model, batch_size=8) as session:
            return evaluate(session, ImageSet(images, labels, None, "here", ""))
    finally:
        board.close()


def test_classes_are_those_of_the_scaled_reference_outputs(models):
    model, images = _classifier(models)
    outputs = run_reference(
        model.network, input_codes(images, model.normalization, model.input_format)
    )
    expected = (outputs.reshape(37, -1) * model.logit_scale).argmax(1)

    found = _evaluate(model, images, labels=expected.astype(np.int64))

    assert found.classes.tolist() == expected.tolist()
    assert found.n_correct == 37
    assert found.accuracy == 1.0
    assert found.accuracy_standard_error == 0.0
    assert found.work.counters.images == 37


def test_half_right_is_half(models):
    model, images = _classifier(models)
    classes = _evaluate(model, images[:36]).classes
    labels = np.where(np.arange(36) % 2, classes, (classes + 1) % 5)

    found = _evaluate(model, images[:36], labels=labels)

    assert found.accuracy == 0.5
    assert found.accuracy_standard_error == pytest.approx(np.sqrt(0.25 / 36))


def test_without_labels_there_is_no_accuracy(models):
    found = _evaluate(*_classifier(models))

    assert found.n_correct is None
    assert found.accuracy is None


def test_a_network_that_gives_maps_has_no_accuracy(models):
    builder = models.Builder(3, input_shape=(1, 6, 6))
    builder.conv(0, 8)

    found = _evaluate(builder.model(), builder.images(4), labels=np.zeros(4, np.int64))

    assert found.accuracy is None
    assert found.values.shape == (4, 8 * 6 * 6)


def test_busy_time_is_the_cycles_over_the_clock(models):
    found = _evaluate(*_classifier(models))

    # stalls on the streams are waiting, not work: they come on top of the cycles
    assert (
        found.work.busy_s >= found.work.counters.cycles / load_overlay("bac-pot4").manifest.clock_hz
    )
    assert found.work.busy_s > 0


def test_images_of_another_normalization_are_refused(models, tmp_path):
    model, images = _classifier(models)
    np.savez(tmp_path / "x.npz", images=np.zeros(images.shape, np.uint8), pixel_max=7.0)

    with pytest.raises(MismatchError, match="pixel_max 7"):
        load_images_for(model, tmp_path / "x.npz")


def test_images_of_another_shape_are_refused(models, tmp_path):
    model, _ = _classifier(models)
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 3, 6, 6), np.uint8))

    with pytest.raises(ImageFileError, match=r"\(3, 6, 6\)"):
        load_images_for(model, tmp_path / "x.npz")


def test_a_limit_cuts_images_and_labels_alike(models, tmp_path):
    model, _ = _classifier(models)
    np.savez(tmp_path / "x.npz", images=np.zeros((9, 6, 6), np.uint8), labels=np.arange(9))

    found = load_images_for(model, tmp_path / "x.npz", limit=4)

    assert len(found.images) == 4
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2, 3]


def test_the_float_network_is_evaluated_in_blocks_like_in_one_piece(example_dir):
    model = load_model(example_dir / "digits_cnn.json")
    images = load_images(example_dir / "digits_test.npz").first(100)
    assert images.normalization is not None

    found = evaluate_float(model, images, images.normalization)

    whole = forward(model, normalized(images.images, images.normalization)).reshape(100, -1)
    assert np.allclose(found.values, whole, atol=1e-5)
    assert found.n_correct == np.count_nonzero(whole.argmax(1) == images.labels)
    assert found.provenance == "float"
    assert found.work is None
