"""What training tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EpochReport:
    """One epoch, or the network that training starts from.

    Attributes:
        stage: "prune" (in float, zeros rise) or "round" (weights and activations rounded).
        epoch: how many of the stage's are done; 0 for its start.
        epochs: of the stage.
        loss: mean over the steps; None for the start.
        held_out_loss: squared difference to the float network's outputs over their variance, on
            the images that are not trained on.
        held_out_accuracy: share of these that have their label's class; without labels, the float
            network's class.
        sparsity: share of zero weights over all layers with weights.
    """

    stage: str
    epoch: int
    epochs: int
    loss: float | None
    held_out_loss: float
    held_out_accuracy: float
    sparsity: float
