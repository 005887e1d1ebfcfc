"""A device that stops, lies or loses bytes is an error that is told, and then it works again."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bacmac.host.arith.reference import run_reference
from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.device.faults import Faults
from bacmac.host.device.memory import EmulatedBuffer
from bacmac.host.errors import DeviceError, DeviceTimeoutError, MismatchError
from bacmac.host.model.inputs import input_codes
from bacmac.host.runtime.session import Session
from bacmac.overlays.registry import load_overlay

OVERLAY = load_overlay("bac-pot4")


def run_all(session, images):
    return np.concatenate([result.outputs for result in session.stream(images)])


def expected_outputs(model, images):
    codes = input_codes(images, model.normalization, model.input_format)
    return run_reference(model.network, codes)


@pytest.mark.parametrize("fault", ["stall_send", "drop_send"])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_a_stuck_batch_is_a_timeout_that_tells_registers_and_the_next_works(models, fault, batch):
    model, images = models.everything()
    board = EmulatedBoard(faults=Faults(**{fault: 3 + batch}))  # after program, weights, constants

    with Session(board, OVERLAY, model, batch_size=4) as session:
        stream = session.stream(images)
        with pytest.raises(DeviceTimeoutError, match=r"STATUS 0x\w+ BUSY=1 .*reset"):
            list(stream)
        waited_ns = board.clock.now_ns()
        recovered = run_all(session, images)

    assert np.array_equal(recovered, expected_outputs(model, images))
    assert waited_ns < 300_000_000, "the deadline follows from the cycles, 0.25 s at least"
    assert board.n_buffers == 0


def test_a_load_that_is_lost_is_a_timeout_and_frees_everything(models):
    model, _ = models.everything()
    board = EmulatedBoard(faults=Faults(drop_send=1))

    with (
        pytest.raises(DeviceTimeoutError, match="WEIGHTS image is not taken"),
        Session(board, OVERLAY, model),
    ):
        pass

    assert board.n_buffers == 0


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (Faults(build_id=0xDEAD), r"BUILD: found 0x0000dead; expected 0x\w+ of overlay bac-pot4"),
        (Faults(clock_hz=200e6), r"clock: found 200.000 MHz; expected 187.500 MHz"),
    ],
)
def test_another_overlay_or_clock_is_refused(models, faults, message):
    model, _ = models.everything()
    board = EmulatedBoard(faults=faults)

    with pytest.raises(MismatchError, match=message), Session(board, OVERLAY, model):
        pass

    assert board.n_buffers == 0


def test_a_clock_within_a_tenth_of_a_percent_is_taken(models):
    model, images = models.everything()
    board = EmulatedBoard(faults=Faults(clock_hz=OVERLAY.manifest.clock_hz * 1.0009))

    with Session(board, OVERLAY, model) as session:
        assert np.array_equal(run_all(session, images), expected_outputs(model, images))


def test_too_little_memory_is_told_and_nothing_leaks(models):
    model, _ = models.everything()
    board = EmulatedBoard(memory_bytes=3 * 4096)

    with pytest.raises(DeviceError, match="no contiguous memory"), Session(board, OVERLAY, model):
        pass

    assert board.n_buffers == 0


def test_a_forgotten_flush_gives_wrong_outputs(models, monkeypatch):
    model, images = models.everything()
    board = EmulatedBoard()

    with Session(board, OVERLAY, model, verify="none") as session:
        monkeypatch.setattr(EmulatedBuffer, "flush", lambda self: None)
        outputs = run_all(session, images)

    assert not np.array_equal(outputs, expected_outputs(model, images))


def test_a_forgotten_invalidate_gives_wrong_outputs(models, monkeypatch):
    model, images = models.everything()
    board = EmulatedBoard()

    with Session(board, OVERLAY, model, verify="none") as session:
        monkeypatch.setattr(EmulatedBuffer, "invalidate", lambda self: None)
        outputs = run_all(session, images)

    assert not outputs.any(), "the host sees what was there before"


def test_a_forgotten_flush_of_the_program_is_a_bad_descriptor(models, monkeypatch):
    model, images = models.everything()
    monkeypatch.setattr(EmulatedBuffer, "flush", lambda self: None)

    with (
        pytest.raises(DeviceError, match=r"ERROR=1 .*ERROR_CODE=1 \(bad descriptor\)"),
        Session(EmulatedBoard(), OVERLAY, model) as session,
    ):
        run_all(session, images)


def test_a_stream_that_is_left_early_leaves_the_device_ready(models):
    model, images = models.everything()
    board = EmulatedBoard()

    with Session(board, OVERLAY, model, batch_size=2) as session:
        for _ in session.stream(images):
            break
        outputs = run_all(session, images)

    assert np.array_equal(outputs, expected_outputs(model, images))
    assert board.n_buffers == 0


def test_ctrl_c_while_a_batch_runs_frees_every_buffer(models, monkeypatch):
    model, images = models.everything()
    board = EmulatedBoard()

    def interrupted(duration_ns):
        raise KeyboardInterrupt

    with Session(board, OVERLAY, model) as session:
        monkeypatch.setattr(board.clock, "sleep_ns", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(session.stream(images))
        monkeypatch.undo()
        again = run_all(session, images)

    assert np.array_equal(again, expected_outputs(model, images))
    assert board.n_buffers == 0


def test_two_streams_at_a_time_are_refused(models):
    model, images = models.everything()

    with Session(EmulatedBoard(), OVERLAY, model, batch_size=2) as session:
        stream = session.stream(images)
        next(stream)
        with pytest.raises(DeviceError, match="another stream"):
            next(session.stream(images))
        rest = list(stream)

    assert len(rest) == 5


def test_a_stream_that_waits_at_its_last_batch_never_takes_one_of_another(models):
    model, images = models.everything()

    with Session(EmulatedBoard(), OVERLAY, model, batch_size=2) as session:
        first = session.stream(images[:2])
        next(first)
        with pytest.raises(DeviceError, match="another stream has not been read to its end"):
            next(session.stream(images[2:]))
        with pytest.raises(DeviceError, match="another stream"):
            session.repeat(images[:2], 1)
        assert list(first) == []
        assert len(list(session.stream(images[2:]))) == 5


def test_a_stream_that_outlives_its_session_says_so(models):
    model, images = models.everything()
    board = EmulatedBoard()

    with Session(board, OVERLAY, model, batch_size=2) as session:
        stream = session.stream(images)
        next(stream)
    with Session(board, OVERLAY, model, batch_size=2) as session:
        with pytest.raises(DeviceError, match="stream was ended"):
            list(stream)
        outputs = run_all(session, images)

    assert np.array_equal(outputs, expected_outputs(model, images))
    assert board.n_buffers == 0


def test_a_board_has_one_open_session_at_a_time(models):
    model, images = models.everything()
    board = EmulatedBoard()
    first, second = Session(board, OVERLAY, model), Session(board, OVERLAY, model)

    with first:
        for late in (first, second):
            with pytest.raises(DeviceError, match="in use by another session"):
                late.__enter__()
        (result,) = first.stream(images)
    with second:
        (again,) = second.stream(images)

    assert np.array_equal(result.outputs, again.outputs)
    assert board.n_buffers == 0


def test_a_session_that_is_not_open_says_so(models):
    model, images = models.everything()

    with pytest.raises(DeviceError, match="not open"):
        Session(EmulatedBoard(), OVERLAY, model).stream(images)


def test_a_batch_goes_in_and_comes_out_in_one_transfer_each(models):
    model, images = models.everything()
    narrow = replace(OVERLAY, manifest=replace(OVERLAY.manifest, max_transfer_bytes=32767))
    board = EmulatedBoard()

    with Session(board, narrow, model) as session:
        outputs = run_all(session, np.concatenate([images] * 20))
        most = session.program.input.n_bytes

    assert session.batch_size == 32767 // most
    assert max(activity.dma_bytes for activity in board.activity.work) <= 32767
    assert np.array_equal(outputs, np.concatenate([expected_outputs(model, images)] * 20))


def test_activity_is_ordered_and_holds_all_work_even_over_a_reset(models):
    model, images = models.everything()
    board = EmulatedBoard(faults=Faults(stall_send=4))

    with Session(board, OVERLAY, model, batch_size=4) as session:
        with pytest.raises(DeviceTimeoutError):
            list(session.stream(images))
        for _ in session.stream(images):
            board.clock.sleep_ns(50_000)
            break  # leaves a batch half done: a reset cuts what has not happened
        cut = board.activity.work[-1]
        assert cut.end_ns == board.clock.now_ns()
        assert 0 < cut.cycles < session.program.batch_work(4).cycles
        before = len(board.activity.work)
        result = session.repeat(images[:2], 7)

    work = board.activity.work
    for earlier, later in itertools.pairwise(work):
        assert earlier.end_ns <= later.start_ns
        assert earlier.start_ns < earlier.end_ns
    last = [entry for entry in work if entry.start_ns >= result.window.start_ns]
    assert len(work) > before
    assert sum(entry.cycles for entry in last) == result.counters.cycles
    assert sum(entry.products_done for entry in last) == result.counters.products_done
    assert [manifest.name for _, manifest in board.activity.overlays] == ["bac-pot4"]
