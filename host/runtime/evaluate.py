"""Run a whole image set and say how often the network is right, and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.device.board import Provenance
from bacmac.host.importers.images import ImageSet
from bacmac.host.runtime.results import Counters
from bacmac.host.runtime.session import Session, output_values


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An image set run once.

    Attributes:
        n_images: how many were run.
        n_correct: how many were classified as their label says; None without labels.
        classes: int64 (n_images,), the class of the largest output value (of a network whose
            output is a map, the place of its largest value: never compared with labels).
        values: float64 (n_images, C * H * W), integer outputs times their scale.
        counters: sums over all batches.
        busy_s: sum of the batches' windows on the device's clock.
        provenance: where it ran.
    """

    n_images: int
    n_correct: int | None
    classes: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    counters: Counters
    busy_s: float
    provenance: Provenance

    @property
    def accuracy(self) -> float | None:
        """Share of images classified right, or None without labels."""
        return None if self.n_correct is None else self.n_correct / self.n_images

    @property
    def accuracy_standard_error(self) -> float | None:
        """Binomial standard error sqrt(p (1 - p) / n) of `accuracy`."""
        p = self.accuracy
        return None if p is None else float(np.sqrt(p * (1.0 - p) / self.n_images))


def evaluate(
    session: Session,
    image_set: ImageSet,
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Stream every image through the session's device.

    Raises:
        DeviceError: the device failed; DeviceTimeoutError: it did not answer in time.
    """
    total = len(image_set.images)
    done = 0
    busy_ns = 0
    counters = Counters(0, 0, 0, 0)
    values: list[npt.NDArray[np.float64]] = []
    provenance: Provenance = "functional"
    for result in session.stream(image_set.images):
        values.append(output_values(session.model, result.outputs).reshape(len(result.outputs), -1))
        counters += result.counters
        busy_ns += result.window.end_ns - result.window.start_ns
        provenance = result.provenance
        done += len(result.outputs)
        if progress is not None:
            progress(f"images on {session.board.word}", done, total)
    stacked = np.concatenate(values)
    classes = stacked.argmax(axis=1)
    is_classifier = session.model.network.shapes[-1][1:] == (1, 1)
    labels = image_set.labels if is_classifier else None
    return Evaluation(
        n_images=total,
        n_correct=None if labels is None else int(np.count_nonzero(classes == labels)),
        classes=classes,
        values=stacked,
        counters=counters,
        busy_s=busy_ns * 1e-9,
        provenance=provenance,
    )
