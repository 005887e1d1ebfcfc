"""Any faults at any moment: what is given is right, what is wrong is told, and then it works."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.reference import run_reference
from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.device.faults import Faults
from bacmac.host.errors import DeviceError
from bacmac.host.model.inputs import input_codes
from bacmac.host.runtime.session import Session
from bacmac.overlays.registry import load_overlay

OVERLAY = load_overlay("bac-pot4")
SENDS = ("stall_send", "drop_send", "short_send", "slave_error", "decode_error", "free_early")
OTHERS = (
    "stall_receive",
    "long_receive",
    "stop_batch",
    "fail_allocation",
    "skip_flush",
    "skip_invalidate",
)
"""Each happens once, so that a later attempt must succeed; the first 3 sends are the load's."""
FAULTS = st.dictionaries(st.sampled_from(SENDS), st.integers(3, 20), max_size=2).flatmap(
    lambda sends: st.dictionaries(st.sampled_from(OTHERS), st.integers(0, 20), max_size=2).map(
        lambda others: Faults(**sends, **others)
    )
)
ATTEMPTS = 6
"""Four faults, and one may use up the attempt to recover from another."""


@settings(max_examples=80, deadline=None)
@given(FAULTS, st.integers(1, 6), st.integers(1, 5), st.booleans())
def test_results_are_right_or_there_is_an_error_and_then_the_device_works(
    models, faults, batch_size, buffers, retry
):
    model, images = models.everything()
    expected = run_reference(
        model.network, input_codes(images, model.normalization, model.input_format)
    )
    board = EmulatedBoard(faults=faults)
    session = Session(
        board,
        OVERLAY,
        model,
        batch_size=batch_size,
        buffers=buffers,
        retry=retry,
        verify="all",
    )

    complete = False
    for _ in range(ATTEMPTS):
        with suppress(DeviceError), session:  # memory that runs out, a load that was not flushed
            complete = stream_whole(session, images, expected)
        assert board.n_buffers == 0
        if complete:
            break

    assert complete


def stream_whole(session, images, expected):
    """Stream until it succeeds, at most `ATTEMPTS` times; every result on the way is right."""
    for _ in range(ATTEMPTS):
        n_given = 0
        try:
            for result in session.stream(images):
                following = expected[result.first_index : result.first_index + len(result.outputs)]
                assert result.first_index == n_given
                assert np.array_equal(result.outputs, following)
                n_given += len(result.outputs)
        except DeviceError:
            continue
        assert n_given == len(images)
        return True
    return False
