"""n-fold buffering: in which order a stream does things, seen from the board."""

from __future__ import annotations

import numpy as np
import pytest

from bacmac.host.compile.compiler import compile_model
from bacmac.host.device.driver import Driver
from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.device.memory import EmulatedBuffer
from bacmac.host.model.inputs import input_codes
from bacmac.overlays.registry import load_overlay

OVERLAY = load_overlay("bac-pot4")


@pytest.fixture
def stream(models, monkeypatch):
    """A stream of 6 batches of one image, and the list of what it did: (what, batch)."""
    model, images = models.everything()
    codes = input_codes(images[:6], model.normalization, model.input_format)
    program, board, events = compile_model(model, OVERLAY), EmulatedBoard(), []
    outputs = {}

    def filled(slots, take_ns=0):
        for number in range(len(codes)):
            events.append(("fill", number))
            board.clock.sleep_ns(take_ns)
            yield codes[number : number + 1]

    def run(slots, take_ns=0):
        driver = Driver(board, program, 1, slots)
        driver.open()
        driver.repeat(codes[:1], 1)
        sends, invalidates = [], []
        start_send, invalidate = board.start_send, EmulatedBuffer.invalidate
        monkeypatch.setattr(
            board,
            "start_send",
            lambda *a: (events.append(("start", len(sends))), sends.append(a), start_send(*a)),
        )
        monkeypatch.setattr(
            EmulatedBuffer,
            "invalidate",
            lambda self: (
                events.append(("unpack", len(invalidates))),
                invalidates.append(self),
                invalidate(self),
            ),
        )
        for number, batch in enumerate(driver.run(filled(slots, take_ns))):
            events.append(("give", number))
            outputs[number] = batch.outputs
        monkeypatch.undo()
        driver.close()
        assert board.n_buffers == 0
        again = Driver(board, program, 6)
        again.open()
        expected = again.repeat(codes, 1).outputs
        again.close()
        assert np.array_equal(np.concatenate(list(outputs.values())), expected)
        return events

    return run


@pytest.mark.parametrize("slots", [2, 3, 5, 16])
def test_the_next_batch_is_started_before_the_outputs_of_the_last_are_unpacked(stream, slots):
    at = {event: place for place, event in enumerate(stream(slots))}

    for batch in range(5):
        assert at["fill", batch + 1] < at["start", batch + 1]
        assert at["start", batch + 1] < at["unpack", batch] < at["give", batch]


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 6, 16])
def test_as_many_batches_are_filled_ahead_as_there_are_slots(stream, slots):
    events = stream(slots)

    first_wait = events.index(("unpack", 0))
    filled = [number for what, number in events[:first_wait] if what == "fill"]
    assert filled == list(range(min(slots, 6)))


def test_one_slot_does_one_thing_at_a_time(stream):
    assert stream(1) == [
        (what, batch) for batch in range(6) for what in ("fill", "start", "unpack", "give")
    ]


def test_a_slow_source_does_not_hold_back_a_batch_that_has_ended(stream):
    """Filling takes longer than the device: of four slots only two are in use."""
    events = stream(4, take_ns=5_000_000)

    ahead = [
        max((n for what, n in events[:place] if what == "fill"), default=-1) - number
        for place, (what, number) in enumerate(events)
        if what == "give"
    ]
    assert ahead == [1, 1, 1, 1, 1, 0]
