"""The same images on two devices, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bacmac.host.device.board import Board
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.model.inputs import Images
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.runtime.results import BatchResult, Counters
from bacmac.host.runtime.session import Session


@dataclass(frozen=True)
class Difference:
    """The first output that is not the same, in order of image, channel, row, column."""

    image: int
    channel: int
    y: int
    x: int
    first_value: int
    second_value: int


@dataclass(frozen=True)
class DeviceComparison:
    """What two devices made of the same images.

    Attributes:
        n_images: images that both ran.
        n_different: output values that differ.
        difference: the first of them, or None.
        first_counters, second_counters: sums over all batches.
    """

    n_images: int
    n_different: int
    difference: Difference | None
    first_counters: Counters
    second_counters: Counters

    @property
    def counters_agree(self) -> bool:
        """Whether both did the same work in the same number of cycles."""
        return self.first_counters == self.second_counters

    @property
    def agree(self) -> bool:
        """Whether outputs and counters are equal."""
        return self.difference is None and self.counters_agree


def first_difference(
    first: Board,
    second: Board,
    overlay: Overlay,
    model: QuantizedModel,
    images: Images,
    *,
    batch_size: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> DeviceComparison:
    """Run images (N, C, H, W) on two boards, batch by batch, and compare.

    Args:
        first: open; loaded with the overlay here.
        second: the same.
        overlay: for both.
        model: for both.
        images: as `Session.stream` takes them.
        batch_size: images of a batch.
        progress: called with ("images", done, all) after each batch.

    Raises:
        BacmacError: what a session raises.
    """
    counters = [Counters(), Counters()]
    found: Difference | None = None
    n_images = n_different = 0
    with (
        Session(first, overlay, model, batch_size=batch_size, verify="none") as one,
        Session(second, overlay, model, batch_size=batch_size, verify="none") as other,
    ):
        for a, b in zip(one.stream(images), other.stream(images), strict=True):
            counters = [counters[0] + a.counters, counters[1] + b.counters]
            n_different += int(np.count_nonzero(a.outputs != b.outputs))
            found = found or _first(a, b)
            n_images += len(a.outputs)
            if progress is not None:
                progress("images", n_images, len(images))
    return DeviceComparison(n_images, n_different, found, counters[0], counters[1])


def _first(a: BatchResult, b: BatchResult) -> Difference | None:
    places = np.argwhere(a.outputs != b.outputs)
    if not len(places):
        return None
    image, channel, y, x = (int(value) for value in places[0])
    values = (int(outputs[image, channel, y, x]) for outputs in (a.outputs, b.outputs))
    return Difference(a.first_index + image, channel, y, x, *values)
