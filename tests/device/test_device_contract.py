"""What every device must do, whatever is below the board interface.

Which devices there are, tests/conftest.py says.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bacmac.host.arith.reference import run_reference
from bacmac.host.device.registry import open_board
from bacmac.host.errors import DeviceError
from bacmac.host.model.inputs import input_codes
from bacmac.host.runtime.results import Counters
from bacmac.host.runtime.session import Session
from bacmac.overlays.registry import list_overlays, load_overlay

OVERLAYS = [overlay.manifest.name for overlay in list_overlays()]


@pytest.fixture
def board(device_word):
    board = open_board(device_word)
    yield board
    board.close()


def expected_outputs(model, images):
    codes = input_codes(images, model.normalization, model.input_format)
    return run_reference(model.network, codes)


def as_counters(work, images):
    return Counters(
        work.cycles,
        work.busy_cycles,
        work.products_done,
        work.products_isolated,
        work.products_skipped,
        images,
    )


@pytest.mark.parametrize("overlay_name", OVERLAYS)
@pytest.mark.parametrize("signed", [False, True])
def test_outputs_equal_the_definition_on_every_overlay(board, models, overlay_name, signed):
    overlay = load_overlay(overlay_name)
    model, images = models.everything(7, overlay.manifest.scheme, signed_input=signed)

    with Session(board, overlay, model, batch_size=4) as session:
        results = list(session.stream(images))

    outputs = np.concatenate([result.outputs for result in results])
    expected = expected_outputs(model, images)
    assert outputs.dtype == expected.dtype
    assert np.array_equal(outputs, expected)
    assert {result.provenance for result in results} == {board.provenance}


@pytest.mark.parametrize("signed", [False, True])
def test_stored_outputs_and_a_residual_of_the_image_come_back_exactly(board, models, signed):
    model, images = models.stored_output(signed=signed)

    with Session(board, load_overlay("bac-pot4"), model) as session:
        (result,) = session.stream(images)

    assert result.outputs.dtype == (np.int8 if signed else np.uint8)
    assert np.array_equal(result.outputs, expected_outputs(model, images))


def test_counters_equal_the_prediction_to_the_last_cycle(board, models):
    model, images = models.everything()

    with Session(board, load_overlay("bac-pot4"), model, batch_size=4) as session:
        results = list(session.stream(images))
        program = session.program

    assert [result.counters for result in results] == [
        as_counters(program.batch_work(n), n) for n in (4, 4, 3)
    ]
    total = sum((result.counters for result in results), Counters())
    weights = [(layer.op.levels, shape) for layer, shape in _convolutions(model)]
    done = sum(np.count_nonzero(levels) * shape[1] * shape[2] for levels, shape in weights)
    assert total.images == len(images)
    assert total.products_done == done * len(images)
    assert total.products_isolated > 0
    assert total.products_skipped > 0


def test_every_layer_is_counted_by_itself(board, models):
    model, images = models.everything()

    with Session(board, load_overlay("bac-pot4"), model, batch_size=4) as session:
        with pytest.raises(DeviceError, match="no batch has ended"):
            session.layer_counters()
        results = list(session.stream(images))
        streamed = session.layer_counters()
        session.repeat(images[:2], 3)
        repeated = session.layer_counters()
        program = session.program

    for counters, n in ((streamed, len(results[-1].outputs)), (repeated, 6)):
        assert len(counters) == len(program.layers)
        for found, layer in zip(counters, program.layers, strict=True):
            work = layer.work.times(n)
            assert (found.name, found.images) == (layer.name, n)
            assert (found.cycles, found.busy_cycles) == (work.cycles, work.busy_cycles)
            assert found.products_done == work.products_done
            assert found.products_isolated == work.products_isolated
            assert found.products_skipped == work.products_skipped
            assert found.utilisation == work.products_done / (256 * work.cycles)


def _convolutions(model):
    shapes = model.network.shapes[1:]
    pairs = zip(model.layers, shapes, strict=True)
    return [(layer, shape) for layer, shape in pairs if hasattr(layer.op, "levels")]


@pytest.mark.parametrize("batch_size", [1, 3, 11, 50])
def test_any_batch_size_gives_the_same_results_in_order(board, models, batch_size):
    model, images = models.everything()

    with Session(board, load_overlay("bac-pot4"), model, batch_size=batch_size) as session:
        results = list(session.stream(images))

    assert [result.first_index for result in results] == list(range(0, 11, batch_size))
    outputs = np.concatenate([result.outputs for result in results])
    assert np.array_equal(outputs, expected_outputs(model, images))


def test_windows_are_disjoint_and_last_as_long_as_the_cycles(board, models):
    model, images = models.everything()
    overlay = load_overlay("bac-pot4")

    with Session(board, overlay, model, batch_size=4) as session:
        windows = [(result.window, _all_cycles(result)) for result in session.stream(images)]
        clock_hz = board.clock_hz()

    for (window, _), (following, _) in itertools.pairwise(windows):
        assert window.end_ns <= following.start_ns
    for window, cycles in windows:
        expected_ns = cycles * 1e9 / clock_hz
        assert window.end_ns - window.start_ns == pytest.approx(expected_ns, abs=20)


def test_repeats_run_on_the_device_and_are_all_counted(board, models):
    model, images = models.everything()
    passes = 20 if board.provenance == "rtl" else 1_000_000  # every cycle of the RTL is simulated

    with Session(board, load_overlay("bac-pot4"), model, batch_size=4) as session:
        result = session.repeat(images[:3], passes)
        program, clock_hz = session.program, board.clock_hz()

    assert np.array_equal(result.outputs, expected_outputs(model, images[:3]))
    assert result.counters == as_counters(program.batch_work(3, passes), 3 * passes)
    if board.provenance != "rtl":
        assert result.counters.cycles >= 1 << 32, "the high words of the counters are read"
    # PYNQ takes the crystal for 33.333 MHz, a hundred thousandth below what it is
    assert result.window.duration_s == pytest.approx(_all_cycles(result) / clock_hz, rel=2e-5)


def _all_cycles(result):
    """From START to DONE, waiting for the host too."""
    return result.counters.cycles + result.stall_in_cycles + result.stall_out_cycles


def test_a_batch_is_prepared_while_the_one_before_it_runs(board, models):
    model, images = models.everything()
    asked = []

    with Session(board, load_overlay("bac-pot4"), model, batch_size=2) as session:
        original = session._codes
        session._codes = lambda block: asked.append(len(asked)) or original(block)
        stream = session.stream(images)
        first = next(stream)
        asked_at_first_result = len(asked)
        rest = list(stream)

    assert first.first_index == 0
    assert asked_at_first_result == 2, "batch 1 is converted and started before batch 0 is given"
    assert len(rest) == 5


def test_float_images_are_taken_as_they_are(board, models):
    model, images = models.everything(3, signed_input=True)
    normalized = model.normalization.apply(images)

    with Session(board, load_overlay("bac-pot4"), model) as session:
        (result,) = session.stream(normalized)

    assert np.array_equal(result.outputs, expected_outputs(model, normalized))


def test_no_images_give_no_results(board, models):
    model, images = models.everything()

    with Session(board, load_overlay("bac-pot4"), model) as session:
        assert list(session.stream(images[:0])) == []


def test_two_models_can_take_turns_on_one_board(board, models):
    bac_model, images = models.everything(1, "pot-4")
    mac_model, _ = models.everything(2, "uniform-4")

    for _ in range(2):
        for model, name in ((bac_model, "bac-pot4"), (mac_model, "mac-uniform4")):
            with Session(board, load_overlay(name), model) as session:
                (result,) = session.stream(images)
            assert np.array_equal(result.outputs, expected_outputs(model, images))
