"""The golden check finds what a device makes wrong, and where it went wrong first."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bacmac.host.arith.engine import Engine
from bacmac.host.compile import compiler
from bacmac.host.compile.weights import encode_constants
from bacmac.host.device.registry import open_board
from bacmac.host.errors import DeviceTimeoutError, VerificationError
from bacmac.host.model.inputs import input_codes
from bacmac.host.runtime.golden import GoldenCheck, first_layers
from bacmac.host.runtime.session import Session
from bacmac.overlays.registry import load_overlay

OVERLAY = load_overlay("bac-pot4")


def test_a_sample_is_two_of_each_batch_and_all_is_all(models):
    model, images = models.everything()
    counts = {}

    for verify in ("sample", "all", "none"):
        with Session(
            open_board("functional:"), OVERLAY, model, batch_size=5, verify=verify
        ) as session:
            counts[verify] = [result.n_verified for result in session.stream(images)]

    assert counts == {"sample": [2, 2, 1], "all": [5, 5, 1], "none": [0, 0, 0]}


def test_a_sample_takes_the_ends_by_turns_and_reaches_every_image(models):
    model, _ = models.everything()
    golden = GoldenCheck(model, "sample", seed=3)
    seen = Counter()

    for batch in range(400):
        golden._n_batches = batch
        first, second = golden._choose(10).tolist()
        assert 0 <= first < second <= 9
        assert second == 9 if batch % 2 else first == 0
        seen.update((first, second))

    assert set(seen) == set(range(10))


@pytest.mark.parametrize("wrong", [0, 1, 2, 3, 4, 6, 7, 9, 10])  # 5 and 8 are pools: no bias
def test_the_first_layer_that_differs_is_named(models, monkeypatch, wrong):
    """A compiler that spoils one layer's constants: each layer in turn."""
    model, images = models.everything()
    op = model.layers[wrong].op

    def spoiled(this, *arguments):
        data = encode_constants(this, *arguments)
        if this is not op:
            return data
        values = np.frombuffer(data, np.uint8).copy()
        values[0] ^= 0xFF  # the bias of channel 0, its low byte
        values[1] ^= 0x70
        return values.tobytes()

    monkeypatch.setattr(compiler, "encode_constants", spoiled)

    with (
        Session(open_board("functional:"), OVERLAY, model, batch_size=4, verify="all") as session,
        pytest.raises(VerificationError, match=f"layer 'layer{wrong}' is the first") as caught,
    ):
        list(session.stream(images))

    assert caught.value.exit_code == 1
    assert caught.value.state["layer"] == f"layer{wrong}"


def test_place_values_and_numbers_of_the_first_difference_are_told(models):
    model, images = models.stored_output(signed=False)
    bit = 8 * (2 * 224 + 37) + 3  # third image of 224 bytes, output 37 in the order HWC

    with Session(open_board("functional:"), OVERLAY, model, verify="none") as session:
        (good,) = session.stream(images)
    board = open_board(f"functional:flip-output-bit={bit}")
    with (
        Session(board, OVERLAY, model, verify="all") as session,
        pytest.raises(VerificationError) as caught,
    ):
        list(session.stream(images))

    y, x, channel = (int(i) for i in np.unravel_index(37, (6, 5, 7)))
    expected = int(good.outputs[2, channel, y, x])
    state = caught.value.state
    assert (state["image"], state["channel"], state["y"], state["x"]) == (2, channel, y, x)
    assert (state["found"], state["expected"]) == (expected ^ 8, expected)
    assert (state["n_different"], state["n_checked"]) == (1, good.outputs.size)
    assert f"image 2, channel {channel}, row {y}, column {x}: found" in str(caught.value)


def test_a_difference_that_only_its_batch_has_is_no_layers(models):
    model, images = models.everything()
    codes = input_codes(images, model.normalization, model.input_format)
    right = Engine(model.network).run(codes)
    wrong = right.copy()
    wrong[5, 7] += 1
    ran = []

    def run(program, codes):
        ran.append(len(codes))
        return wrong if len(codes) == len(images) else right[5:6]

    with pytest.raises(VerificationError, match="no layer is at fault") as caught:
        GoldenCheck(model, "all").check(codes, wrong, 100, OVERLAY, run)

    assert (caught.value.state["image"], caught.value.state["channel"]) == (105, 7)
    assert ran == [1, 11], "the image by itself, then its batch"


def test_the_session_goes_on_after_a_difference_and_counts_from_there(models):
    model, images = models.everything()
    board = open_board("functional:skip-flush=5")

    with Session(board, OVERLAY, model, batch_size=4, buffers=3) as session:
        with pytest.raises(VerificationError, match=r"image (8|9|10), ") as caught:
            list(session.stream(images))
        results = list(session.stream(images))

    assert "transient" in str(caught.value)
    assert [result.first_index for result in results] == [0, 4, 8]
    assert board.n_buffers == 0


def test_a_device_that_fails_while_the_layer_is_looked_for_does_not_hide_the_difference(models):
    model, images = models.everything()
    # send 3 is the batch, 4 to 6 load the program again, 7 is the image by itself
    board = open_board("functional:flip-output-bit=0,stall-send=7")

    with Session(board, OVERLAY, model) as session:
        with pytest.raises(VerificationError, match=r"it could not be: .*input starved") as caught:
            list(session.stream(images))
        assert not isinstance(caught.value, DeviceTimeoutError)


def test_a_repeat_is_checked_too(models):
    model, images = models.everything()

    with Session(open_board("functional:"), OVERLAY, model) as session:
        good = session.repeat(images[:4], 3)
    with (
        Session(open_board("functional:flip-output-bit=0"), OVERLAY, model) as session,
        pytest.raises(VerificationError, match="image 0, channel 0, row 0, column 0"),
    ):
        session.repeat(images[:4], 3)

    assert good.n_verified == 2


def test_the_first_layers_of_a_network_are_a_network(models):
    model, images = models.everything()

    for depth in range(1, len(model.layers) + 1):
        part = first_layers(model, depth)
        with Session(open_board("functional:"), OVERLAY, part, verify="all") as session:
            (result,) = session.stream(images[:3])
        assert result.outputs.shape[1:] == model.network.shapes[depth]
        assert result.n_verified == 3
