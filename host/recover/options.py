"""How a compressed network is trained."""

from __future__ import annotations

from dataclasses import dataclass

from bacmac.host.errors import InputError

MAX_EPOCHS = 10_000
MAX_THREADS = 256


@dataclass(frozen=True)
class RecoverOptions:
    """What `recover` does; the defaults are the shipped command's.

    Attributes:
        epochs: over the images with weights rounded in every forward pass.
        prune_epochs: over the images before that, in float, while zeros rise to the share asked
            for. 0: the zeros are those that `compress` chooses.
        learning_rate: of Adam at its peak, in units of the rms weight of each output channel.
        prune_learning_rate: the same, of the epochs in float.
        batch: images of a step.
        seed: of everything random. Same inputs, seed and thread count give the same bits with one
            release of torch on one machine.
        augment: shift the images (and mirror them, where they have three channels) and mix pairs.
        label_share: 0 to 1, the part of the loss that is on labels; the rest is distillation.
        held_out: share of the images that is not trained on: they choose the epoch to keep.
        threads: of torch.

    Raises:
        InputError: a value is out of range.
    """

    epochs: int = 2
    prune_epochs: int = 0
    learning_rate: float = 5e-3
    prune_learning_rate: float = 2e-2
    batch: int = 32
    seed: int = 1
    augment: bool = True
    label_share: float = 0.0
    held_out: float = 0.1
    threads: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 0, MAX_EPOCHS),
            ("prune_epochs", 0, MAX_EPOCHS),
            ("learning_rate", 1e-9, 1.0),
            ("prune_learning_rate", 1e-9, 1.0),
            ("batch", 1, 1 << 16),
            ("seed", 0, (1 << 63) - 1),
            ("label_share", 0.0, 1.0),
            ("held_out", 0.0, 0.9),
            ("threads", 1, MAX_THREADS),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError("options", name, found=str(value), expected=f"{low:,} to {high:,}")
