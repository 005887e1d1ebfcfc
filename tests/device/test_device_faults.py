"""Every fault that can be emulated: the error names the cause, and then the device works again.

The faults are put in by the device word, as from the command line; sends 0, 1, 2 are program,
weights and constants, send 3 + k is batch k.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from bacmac.host.arith.reference import run_reference
from bacmac.host.device.registry import open_board
from bacmac.host.errors import DeviceError, DeviceTimeoutError, MismatchError, VerificationError
from bacmac.host.model.inputs import input_codes
from bacmac.host.runtime.session import Session
from bacmac.overlays.registry import load_overlay

OVERLAY = load_overlay("bac-pot4")

IN_A_BATCH = [
    ("stall-send=4", DeviceTimeoutError, "input starved: .* send DMA has not finished its"),
    ("drop-send=4", DeviceTimeoutError, r"input starved: .* all \d+ bytes are out: some were lost"),
    ("stall-receive=1", DeviceTimeoutError, "output blocked: .* receive DMA has not finished its"),
    ("stop-batch=1", DeviceTimeoutError, "accelerator has stopped: .*CYCLES stands still"),
    ("short-send=4", DeviceError, r"stopped: short input packet: it ended after \d+ bytes"),
    ("long-receive=1", DeviceError, r"over-long packet: more came out than the \d+ bytes expected"),
    ("slave-error=4", DeviceError, "send DMA was answered with an error by memory"),
    ("decode-error=4", DeviceError, "send DMA was given an address that nothing answers"),
    ("free-early=4", DeviceError, "nothing answers: its buffer was freed"),
]
IN_A_LOAD = [
    ("stall-send=0", DeviceTimeoutError, "waits for more of the program load; .* not finished its"),
    ("drop-send=1", DeviceTimeoutError, r"WEIGHTS image is not taken .*: some were lost"),
    ("short-send=2", DeviceError, "short input packet"),
    ("slave-error=1", DeviceError, "answered with an error by memory"),
    ("decode-error=0", DeviceError, "an address that nothing answers"),
    ("free-early=1", DeviceError, "an address that nothing answers"),
]


def open_faulty(word, fault):
    return open_board(f"{word},{fault}" if word.partition(":")[2] else f"{word}{fault}")


def run_all(session, images):
    return np.concatenate([result.outputs for result in session.stream(images)])


def expected_outputs(model, images):
    codes = input_codes(images, model.normalization, model.input_format)
    return run_reference(model.network, codes)


@pytest.mark.parametrize(("fault", "kind", "cause"), IN_A_BATCH)
def test_a_fault_in_a_batch_is_told_with_its_cause_and_the_next_batch_is_right(
    faulty_word, fault, kind, cause, models
):
    model, images = models.everything()
    board = open_faulty(faulty_word, fault)
    given = []

    with Session(board, OVERLAY, model, batch_size=4) as session:
        with pytest.raises(kind, match=cause) as caught:
            given.extend(session.stream(images))
        recovered = run_all(session, images)
        again = session.repeat(images[:3], 2)
    board.close()

    assert type(caught.value) is kind
    assert [result.first_index for result in given] == [0], "the batch before it was given"
    assert np.array_equal(recovered, expected_outputs(model, images))
    assert np.array_equal(again.outputs, recovered[:3])


@pytest.mark.parametrize(("fault", "kind", "cause"), IN_A_LOAD)
def test_a_fault_in_a_load_is_told_with_its_cause_and_frees_everything(
    faulty_word, fault, kind, cause, models
):
    model, _ = models.everything()
    board = open_faulty(faulty_word, fault)
    session = Session(board, OVERLAY, model)

    with pytest.raises(kind, match=cause), session:
        pass
    n_buffers = board.n_buffers
    board.close()

    assert n_buffers == 0


@pytest.mark.parametrize(("fault", "kind", "cause"), IN_A_BATCH)
def test_a_batch_that_fails_once_is_run_again_where_that_was_asked(
    faulty_word, fault, kind, cause, models
):
    model, images = models.everything()
    board = open_faulty(faulty_word, fault)

    with Session(board, OVERLAY, model, batch_size=2, buffers=4, retry=True) as session:
        results = list(session.stream(images))
    n_buffers = board.n_buffers
    board.close()

    outputs = np.concatenate([result.outputs for result in results])
    assert np.array_equal(outputs, expected_outputs(model, images))
    assert [bool(result.retried) for result in results] == [False, True, *[False] * 4]
    late, others = results[1], [*results[:1], *results[2:]]
    second_ns = late.received_ns - late.window.start_ns
    assert late.latency_ns > second_ns, "it counts from the first START"
    assert all(r.latency_ns == r.received_ns - r.window.start_ns for r in others)
    assert n_buffers == 0


def test_a_batch_that_fails_twice_is_an_error_even_where_it_may_be_run_again(faulty_word, models):
    model, images = models.everything()
    # the retry sends program, weights, constants (5, 6, 7) and then the batch a second time (8)
    board = open_faulty(faulty_word, "stall-send=4,drop-send=8")

    with Session(board, OVERLAY, model, batch_size=4, retry=True) as session:
        with pytest.raises(DeviceTimeoutError, match="some were lost"):
            list(session.stream(images))
        recovered = run_all(session, images)
    board.close()

    assert np.array_equal(recovered, expected_outputs(model, images))


def test_a_repeat_is_never_run_a_second_time(faulty_word, models):
    model, images = models.everything()
    board = open_faulty(faulty_word, "stall-send=3")

    with (
        Session(board, OVERLAY, model, retry=True) as session,
        pytest.raises(DeviceTimeoutError, match="does not end"),
    ):
        session.repeat(images, 5)
    board.close()


@pytest.mark.parametrize("fault", ["skip-flush=4", "skip-invalidate=1"])
def test_a_forgotten_flush_or_invalidate_is_found_by_the_golden_check(faulty_word, fault, models):
    model, images = models.everything()
    board = open_faulty(faulty_word, fault)

    with Session(board, OVERLAY, model, batch_size=4) as session:
        with pytest.raises(VerificationError, match=r"image [4-7], .* transient") as caught:
            list(session.stream(images))
        recovered = run_all(session, images)
    board.close()

    assert caught.value.state["layer"] == ""
    assert np.array_equal(recovered, expected_outputs(model, images))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("wrong-id=0x12345678", "register ID: found 0x12345678; expected 0x4241434d"),
        ("build-id=57005", r"register BUILD: found 0x0000dead; expected 0x\w+ of overlay bac-pot4"),
        ("clock-hz=250e6", r"clock: found (250.000|249.998) MHz; expected 187.500 MHz"),
    ],
)
def test_a_device_that_is_not_what_was_loaded_is_refused(faulty_word, fault, message, models):
    model, _ = models.everything()
    board = open_faulty(faulty_word, fault)

    with pytest.raises(MismatchError, match=message), Session(board, OVERLAY, model):
        pass
    n_buffers = board.n_buffers
    board.close()

    assert n_buffers == 0


@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_memory_that_runs_out_is_told_and_nothing_is_kept(faulty_word, number, models):
    model, images = models.everything()
    board = open_faulty(faulty_word, f"fail-allocation={number}")
    session = Session(board, OVERLAY, model)

    with pytest.raises(DeviceError, match="no contiguous memory"), session:
        pass
    n_buffers = board.n_buffers
    with session:
        recovered = run_all(session, images)
    board.close()

    assert n_buffers == 0
    assert np.array_equal(recovered, expected_outputs(model, images))


def test_the_state_says_which_side_stood_still_and_is_plain_json(faulty_word, models):
    model, images = models.everything()
    board = open_faulty(faulty_word, "stall-receive=1")

    with (
        Session(board, OVERLAY, model, batch_size=4) as session,
        pytest.raises(DeviceTimeoutError) as caught,
    ):
        list(session.stream(images))
    board.close()

    state = json.loads(json.dumps(caught.value.state))
    n_in, n_out = 4 * session.program.input.n_bytes, 4 * session.program.output.n_bytes
    assert (state["send"]["asked_bytes"], state["send"]["moved_bytes"]) == (n_in, n_in)
    assert (state["receive"]["asked_bytes"], state["receive"]["moved_bytes"]) == (n_out, None)
    assert not state["receive"]["idle"]
    assert state["status"]["BUSY"] == 1
    assert state["stream_select"] == "images"
    assert state["later"]["stall_out_cycles"] > state["counters"]["stall_out_cycles"]
    assert state["later"]["stall_in_cycles"] == state["counters"]["stall_in_cycles"]
    assert state["apart_s"] > 0
    assert state["unreadable"] == []


def test_what_cannot_be_read_is_told_in_the_state_and_does_not_hide_the_failure(
    models, monkeypatch
):
    model, images = models.everything()
    board = open_board("functional:stall-send=4")

    def unreadable():
        raise DeviceError("the bus is stuck")

    with Session(board, OVERLAY, model, batch_size=4) as session:
        stream = session.stream(images)
        next(stream)
        watch = session._driver._watch
        look = watch.state

        def state(what):
            with monkeypatch.context() as patch:
                patch.setattr(board, "receive_state", unreadable)
                return look(what)

        monkeypatch.setattr(watch, "state", state)
        with pytest.raises(DeviceTimeoutError, match="input starved") as caught:
            list(stream)
        monkeypatch.undo()
        recovered = run_all(session, images)

    assert caught.value.state["receive"] is None
    assert caught.value.state["unreadable"] == ("receive state cannot be read: the bus is stuck",)
    assert np.array_equal(recovered, expected_outputs(model, images))


def test_a_reset_that_fails_does_not_hide_why_it_was_needed(models, monkeypatch):
    model, images = models.everything()
    board = open_board("functional:stall-send=4")

    def stuck():
        raise DeviceTimeoutError("the DMA does not end its reset")

    with Session(board, OVERLAY, model, batch_size=4) as session:
        stream = session.stream(images)
        next(stream)
        monkeypatch.setattr(board, "reset_dma", stuck)
        with pytest.raises(DeviceTimeoutError, match=r"input starved.*reset failed: the DMA does"):
            list(stream)
        monkeypatch.undo()
