"""Run a whole image set and say how often the network is right, and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bacmac.host.device.board import Provenance
from bacmac.host.importers.images import ImageSet
from bacmac.host.model.forward import BLOCK_IMAGES, forward
from bacmac.host.model.inputs import normalized
from bacmac.host.model.layers import Model, Normalization
from bacmac.host.runtime.results import BatchResult, Counters
from bacmac.host.runtime.session import Session, output_values
from bacmac.host.runtime.throughput import StreamSummary, summarize_stream

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Work:
    """What an image set cost a device.

    Attributes:
        counters: summed over all batches.
        busy_s: their windows, summed.
        stream: how fast the batches went, and what the accelerator waited for.
    """

    counters: Counters
    busy_s: float
    stream: StreamSummary


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An image set run once.

    Attributes:
        n_images: how many were run.
        n_correct: how many were classified as their label says; None without labels.
        classes: int64 (n_images,), the class of the largest output value (of a network whose
            output is a map, the place of its largest value: never compared with labels).
        values: float64 (n_images, C * H * W), output values.
        provenance: where it ran; "float" for the float network on the host.
        work: None for the float network.
    """

    n_images: int
    n_correct: int | None
    classes: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    provenance: Provenance | Literal["float"]
    work: Work | None

    @property
    def accuracy(self) -> float | None:
        """Share of images classified right, or None without labels."""
        return None if self.n_correct is None else self.n_correct / self.n_images

    @property
    def accuracy_standard_error(self) -> float | None:
        """Binomial standard error sqrt(p (1 - p) / n) of `accuracy`."""
        p = self.accuracy
        return None if p is None else float(np.sqrt(p * (1.0 - p) / self.n_images))


def evaluate(session: Session, image_set: ImageSet, progress: Progress | None = None) -> Evaluation:
    """Stream every image through the session's device.

    Raises:
        DeviceError: the device failed; DeviceTimeoutError: it did not answer in time;
            VerificationError: it made something else of an image than the exact engine.
    """
    results: list[BatchResult] = []
    for result in session.stream(image_set.images):
        results.append(result)
        if progress is not None:
            done = result.first_index + len(result.outputs)
            progress(f"images on {session.board.word}", done, len(image_set.images))
    work = Work(
        sum((result.counters for result in results), Counters()),
        sum(result.window.duration_s for result in results),
        summarize_stream(results, session.board.clock_hz()),
    )
    outputs = np.concatenate([output_values(session.model, result.outputs) for result in results])
    return _evaluation(outputs, image_set, session.board.provenance, work)


def evaluate_float(
    model: Model,
    image_set: ImageSet,
    normalization: Normalization,
    progress: Progress | None = None,
) -> Evaluation:
    """Run the float network on the host: what a quantized one is measured by."""
    blocks: list[npt.NDArray[np.float64]] = []
    for start in range(0, len(image_set.images), BLOCK_IMAGES):
        images = image_set.images[start : start + BLOCK_IMAGES]
        blocks.append(forward(model, normalized(images, normalization)).astype(np.float64))
        if progress is not None:
            progress("images in float", start + len(images), len(image_set.images))
    return _evaluation(np.concatenate(blocks), image_set, "float", None)


def _evaluation(
    outputs: npt.NDArray[np.float64],
    image_set: ImageSet,
    provenance: Provenance | Literal["float"],
    work: Work | None,
) -> Evaluation:
    """Classes and their agreement with the labels, from outputs (N, C, H, W)."""
    values = outputs.reshape(len(outputs), -1)
    classes = values.argmax(axis=1)
    labels = image_set.labels if outputs.shape[2:] == (1, 1) else None
    n_correct = None if labels is None else int(np.count_nonzero(classes == labels))
    return Evaluation(len(values), n_correct, classes, values, provenance, work)
