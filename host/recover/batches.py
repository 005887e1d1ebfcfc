"""Batches of training images: shuffled, shifted, mirrored and mixed; seeded epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bacmac.host.model.inputs import Images
from bacmac.host.model.layers import Normalization

PRUNE, ROUND, SPLIT = range(3)
"""Streams of random numbers: the epochs of each stage, and the choice of held-out images."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Images and labels as tensors.

    Attributes:
        images: (N, C, H, W): uint8 pixels still to be normalized, or normalized float32.
        labels: int64 (N,), or None.
        mean: (1, C or 1, 1, 1): input = (image - mean) / std.
        std: likewise.
    """

    images: Tensor
    labels: Tensor | None
    mean: Tensor
    std: Tensor

    def normalized(self, images: Tensor) -> Tensor:
        """The float input of images (N, C, H, W)."""
        return (images - self.mean) / self.std

    def part(self, index: Tensor) -> TrainingSet:
        """The images of these numbers."""
        labels = None if self.labels is None else self.labels[index]
        return TrainingSet(self.images[index], labels, self.mean, self.std)

    def __len__(self) -> int:
        return len(self.images)


def training_set(
    images: Images,
    labels: npt.NDArray[np.int64] | None,
    normalization: Normalization,
) -> TrainingSet:
    """Tensors of images (N, C, H, W) and labels (N,)."""
    mean, std = np.zeros((1, 1, 1, 1)), np.ones((1, 1, 1, 1))
    if images.dtype == np.uint8:
        mean = np.reshape(normalization.mean, (1, -1, 1, 1)) * normalization.pixel_max
        std = np.reshape(normalization.std, (1, -1, 1, 1)) * normalization.pixel_max
    return TrainingSet(
        torch.from_numpy(np.array(images)),
        None if labels is None else torch.from_numpy(labels),
        torch.from_numpy(mean.astype(np.float32)),
        torch.from_numpy(std.astype(np.float32)),
    )


def split(
    images: TrainingSet, share: float, seed: int, n_calibrated: int
) -> tuple[TrainingSet, TrainingSet]:
    """What is trained on, and what is held out: a share chosen by the seed; never all of them.

    The first `n_calibrated` images are held out only where the others do not suffice: the network
    that training starts from was fitted to them, and would look better than it is.
    """
    n_held = min(round(share * len(images)), len(images) - 1)
    order = torch.randperm(len(images), generator=generator(seed, SPLIT, 0))
    fresh = order >= n_calibrated
    order = torch.cat([order[fresh], order[~fresh]])
    return images.part(order[n_held:]), images.part(order[:n_held])


def generator(seed: int, stream: int, epoch: int) -> torch.Generator:
    """Random numbers of an epoch: those of a resumed run are those of one that never stopped."""
    state = np.random.SeedSequence([seed, stream, epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def epoch_batches(
    images: TrainingSet, size: int, numbers: torch.Generator, *, augment: bool
) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None, float]]:
    """Every image once, in batches of nearly equal sizes.

    Yields:
        (input, labels, labels of what was mixed in, share of the first): input normalized.
    """
    order = torch.randperm(len(images), generator=numbers)
    for index in torch.tensor_split(order, max(1, round(len(order) / size))):
        batch = images.images[index]
        labels = None if images.labels is None else images.labels[index]
        if not augment:
            yield images.normalized(batch), labels, None, 1.0
            continue
        x = images.normalized(_moved(batch, numbers))
        share = float(torch.rand((), generator=numbers))
        partner = torch.randperm(len(x), generator=numbers)
        mixed = share * x + (1.0 - share) * x[partner]
        yield mixed, labels, None if labels is None else labels[partner], share


def _moved(images: Tensor, numbers: torch.Generator) -> Tensor:
    """Each image shifted by its own few pixels, and mirrored by chance where it has colours.

    By up to an eighth of a side for colour images (4 of 32: He et al. 2016, arXiv 1512.03385,
    section 4.2), a fourteenth for others (2 of 28); what comes in is 0 before normalization.
    """
    n, channels, height, width = images.shape
    part = 8 if channels == 3 else 14
    reach_h = min(max(1, height // part), height - 1)
    reach_w = min(max(1, width // part), width - 1)
    padded = torch.nn.functional.pad(images, (reach_w, reach_w, reach_h, reach_h))
    rows = torch.randint(0, 2 * reach_h + 1, (n, 1), generator=numbers) + torch.arange(height)
    columns = torch.randint(0, 2 * reach_w + 1, (n, 1), generator=numbers) + torch.arange(width)
    if channels == 3:
        mirrored = torch.rand((n, 1), generator=numbers) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(n)[:, None, None, None]
    channel = torch.arange(channels)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
