"""Two devices, the same images: the first difference, or none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.device.faults import Faults
from bacmac.host.runtime.compare_devices import Difference, first_difference
from bacmac.host.runtime.session import Session
from bacmac.overlays.registry import load_overlay

OVERLAY = load_overlay("bac-pot4")


def test_two_good_devices_agree(models):
    model, images = models.everything()
    seen = []

    comparison = first_difference(
        EmulatedBoard("functional:"),
        EmulatedBoard("reference:"),
        OVERLAY,
        model,
        images,
        batch_size=4,
        progress=lambda *step: seen.append(step),
    )

    assert comparison.agree
    assert comparison.n_images == 11
    assert comparison.n_different == 0
    assert comparison.first_counters.images == 11
    assert seen == [("images", 4, 11), ("images", 8, 11), ("images", 11, 11)]


@pytest.mark.parametrize("bit", [0, 13, 777])
def test_one_wrong_bit_is_found_at_its_place(models, bit):
    model, images = models.stored_output(signed=False)
    channels, height, width = model.network.shapes[-1]
    image_bytes = 224  # 7 x 6 x 5 = 210, whole beats
    image, place = divmod(bit // 8, image_bytes)
    y, x, channel = np.unravel_index(place, (height, width, channels))
    with Session(EmulatedBoard(), OVERLAY, model) as session:
        (good,) = session.stream(images)
    expected = int(good.outputs[image, channel, y, x])

    comparison = first_difference(
        EmulatedBoard(), EmulatedBoard(faults=Faults(flip_output_bit=bit)), OVERLAY, model, images
    )

    assert comparison.difference == Difference(
        image, int(channel), int(y), int(x), expected, expected ^ 1 << bit % 8
    )
    assert comparison.n_different == 1
    assert comparison.counters_agree
    assert not comparison.agree


def test_devices_that_count_differently_do_not_agree(models):
    model, images = models.everything()
    comparison = first_difference(EmulatedBoard(), EmulatedBoard(), OVERLAY, model, images)

    off = replace(
        comparison,
        second_counters=replace(comparison.second_counters, cycles=1),
    )

    assert comparison.agree
    assert not off.counters_agree
    assert not off.agree
