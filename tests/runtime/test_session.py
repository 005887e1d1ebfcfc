"""What a session takes and refuses, and how outputs become classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.errors import CompileError, MismatchError
from bacmac.host.runtime.session import (
    DEFAULT_BATCH,
    Session,
    output_values,
    predicted_classes,
)
from bacmac.overlays.registry import load_overlay

OVERLAY = load_overlay("bac-pot4")


def test_the_batch_is_as_large_as_the_chip_holds_up_to_the_default(models):
    model, _ = models.everything()
    small = replace(OVERLAY.manifest.buffers, activation_bytes=8192)
    tight = replace(OVERLAY, manifest=replace(OVERLAY.manifest, buffers=small))

    roomy_session = Session(EmulatedBoard(), OVERLAY, model)
    tight_session = Session(EmulatedBoard(), tight, model)

    plan = tight_session.program.plan
    assert roomy_session.batch_size == DEFAULT_BATCH
    assert tight_session.batch_size == (8192 - plan.peak_bytes) // 192 == plan.max_images


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_no_images_is_refused(models, batch_size):
    model, _ = models.everything()

    with pytest.raises(CompileError, match=rf"a batch of {batch_size} images .*: 1 or more"):
        Session(EmulatedBoard(), OVERLAY, model, batch_size=batch_size)


def test_images_of_another_shape_or_type_are_refused_at_once(models):
    model, images = models.everything()

    with Session(EmulatedBoard(), OVERLAY, model) as session:
        with pytest.raises(MismatchError, match=r"images: shape: found \(11, 3, 9, 6\)"):
            session.stream(images[:, :, :, :6])
        with pytest.raises(MismatchError, match="images: shape"):
            session.repeat(images[0], 1)
        with pytest.raises(MismatchError, match="images: dtype: found float64"):
            session.stream(images.astype(np.float64))


@pytest.mark.parametrize(("n_images", "n_passes"), [(0, 1), (5, 1), (2, 0), (2, 1 << 32)])
def test_a_repeat_takes_one_batch_and_one_pass_at_least(models, n_images, n_passes):
    model, images = models.everything()

    with (
        Session(EmulatedBoard(), OVERLAY, model, batch_size=4) as session,
        pytest.raises(MismatchError, match="expected 1 to"),
    ):
        session.repeat(images[:n_images], n_passes)


def test_a_model_for_another_overlay_never_touches_the_board(models):
    model, _ = models.everything(2, "uniform-8")
    board = EmulatedBoard()

    with pytest.raises(MismatchError, match="bac-pot4 executes"):
        Session(board, OVERLAY, model)
    assert board.activity.overlays == []


def test_classes_are_told_by_scaled_values_not_by_integers(models):
    model, _ = models.everything()
    scaled = replace(model, logit_scale=np.array([1.0] * 9 + [100.0]))
    outputs = np.zeros((2, 10, 1, 1), np.int32)
    outputs[:, 3], outputs[0, 9], outputs[1, 9] = 50, 1, -1

    classes = predicted_classes(scaled, outputs)

    assert classes.tolist() == [9, 3]
    assert output_values(scaled, outputs)[0, 9, 0, 0] == 100.0


def test_maps_have_no_class(models):
    model, _ = models.stored_output()

    with pytest.raises(MismatchError, match="one value a class"):
        predicted_classes(model, np.zeros((1, 7, 6, 5), np.int8))
