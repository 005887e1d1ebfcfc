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


def test_a_batch_larger_than_the_chip_holds_is_split_as_equally_as_can_be(models):
    model, images = models.everything()
    narrow = replace(OVERLAY.manifest, max_transfer_bytes=32767)  # 170 images of 192 bytes
    overlay = replace(OVERLAY, manifest=narrow)
    many = np.concatenate([images] * 60)

    with Session(EmulatedBoard(), overlay, model, batch_size=400) as session:
        results = list(session.stream(many))
        with pytest.raises(MismatchError, match="expected 1 to 134, the images of one batch"):
            session.repeat(many[:135], 1)
        largest = session.program.max_batch
    with Session(EmulatedBoard(), OVERLAY, model) as session:
        (eleven,) = session.stream(images)

    assert largest == 170
    assert [len(result.outputs) for result in results] == [134, 133, 133, 134, 126]
    outputs = np.concatenate([result.outputs for result in results])
    assert np.array_equal(outputs, np.concatenate([eleven.outputs] * 60))


def test_a_generator_of_images_of_unknown_length_is_streamed(models):
    model, images = models.everything()

    with Session(EmulatedBoard(), OVERLAY, model, batch_size=4) as session:
        one_by_one = list(session.stream(image for image in images))
        in_blocks = list(session.stream([images[:3], images[3], images[4:]]))
        expected = list(session.stream(images))

    for results in (one_by_one, in_blocks):
        assert [result.first_index for result in results] == [0, 4, 8]
        for result, same in zip(results, expected, strict=True):
            assert np.array_equal(result.outputs, same.outputs)


def test_a_source_that_fails_leaves_its_own_error_and_a_device_that_works(models):
    model, images = models.everything()

    class CameraError(Exception):
        pass

    def camera():
        yield images[:7]
        raise CameraError("unplugged")

    board = EmulatedBoard()
    with Session(board, OVERLAY, model, batch_size=2, buffers=3) as session:
        given = []
        with pytest.raises(CameraError, match="unplugged"):
            given.extend(session.stream(camera()))
        results = list(session.stream(images))

    assert len(given) < 4
    assert sum(len(result.outputs) for result in results) == 11
    assert board.n_buffers == 0


def test_what_a_batch_moved_and_how_long_it_took_is_told(models):
    model, images = models.everything()

    with Session(EmulatedBoard(), OVERLAY, model, batch_size=4) as session:
        results = list(session.stream(images))
        program = session.program

    for result, n in zip(results, (4, 4, 3), strict=True):
        assert result.bytes_in == n * program.input.n_bytes
        assert result.bytes_out == n * program.output.n_bytes
        assert result.latency_ns >= result.window.end_ns - result.window.start_ns > 0
        assert result.retried == ""


@pytest.mark.parametrize("buffers", [0, 17])
def test_buffers_are_one_to_sixteen(models, buffers):
    model, _ = models.everything()

    with pytest.raises(ValueError, match=f"{buffers} buffers; 1 to 16"):
        Session(EmulatedBoard(), OVERLAY, model, buffers=buffers)


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
