"""Weights by least squares under a pattern of zeros that is found on the way.

    minimize  sum over rows of (w - w0) H (w - w0)^T     with zeros where a selection wants them

H is the Hessian X X^T of a layer's inputs, so the sum is what the layer's sums W0 X lose, squared.
Alternating directions (Boyd et al. 2011, "Distributed optimization and statistical learning via
the alternating direction method of multipliers", section 9.1) with one matrix inverse for all rows
and steps, the zeros rising to their share along a cubic curve (Boza 2024, "Fast and effective
weight update for pruned large language models", arXiv 2401.02938; the curve is that of Zhu and
Gupta 2017, arXiv 1710.01878). Columns are scaled to a unit diagonal, so that a weight is judged by
what it adds to the sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bacmac.host.model.moments import Float

Kept = npt.NDArray[np.bool_]

STEPS = 56
ROUGH_STEPS = 14
"""Enough to tell what a share of zeros costs."""
RISING = 0.7
"""Share of the steps in which the zeros rise; in the others they stay."""
PENALTY = 1.0
"""Of the alternating directions, beside a unit diagonal. On ResNet-20 0.5 to 3 are alike, 0.1 is
much worse."""


class Selection(Protocol):
    """Which weights of a layer stay."""

    def kept(self, scores: Float, progress: float) -> Kept:
        """(C, K) False where a weight must be zero.

        Args:
            scores: (C, K), 0 or above: what the sums lose without each weight.
            progress: 0 (nothing is zero) to 1 (as many as are wanted).
        """


@dataclass(frozen=True, eq=False)
class Fixed:
    """A selection made before: the same whatever the scores."""

    mask: Kept

    def kept(self, scores: Float, progress: float) -> Kept:
        """The mask (C, K)."""
        return self.mask.reshape(scores.shape)


def damped(squares: Float, share: float) -> Float:
    """(..., K, K) matrices with `share` of their mean diagonal added; 1 where that is zero."""
    mean = np.trace(squares, axis1=-2, axis2=-1) / squares.shape[-1]
    added = np.where(mean > 0, share * mean, 1.0)
    result: Float = squares + np.eye(squares.shape[-1]) * added[..., None, None]
    return result


def sparse_fit(
    weights: Float, hessians: Float, selection: Selection, steps: int = STEPS
) -> tuple[Float, Kept]:
    """Weights (C, K) near `weights` in what the sums lose, zero where the selection wants it.

    Args:
        weights: (C, K), the rows of one convolution group together.
        hessians: (groups, K, K), positive definite.
        selection: is asked again and again while the zeros rise.
        steps: of the alternation.

    Returns:
        The weights, zero where not kept, and what is kept.
    """
    groups, k, _ = hessians.shape
    diagonal = np.sqrt(np.diagonal(hessians, axis1=1, axis2=2))[:, None, :]
    scaled = hessians / diagonal / diagonal.transpose(0, 2, 1)
    inverse = np.linalg.inv(scaled + PENALTY * np.eye(k))
    start = weights.reshape(groups, -1, k) * diagonal
    wanted = start @ scaled
    free, dual = start, np.zeros_like(start)
    kept = np.ones(weights.shape, np.bool_)
    bound = start
    rising = max(1, round(RISING * steps))
    for step in range(1, steps + 1):
        if step <= rising:
            progress = 1.0 - (1.0 - step / rising) ** 3
            kept = selection.kept(((free + dual) ** 2).reshape(weights.shape), progress)
        bound = (free + dual) * kept.reshape(start.shape)
        dual = dual + free - bound
        free = (wanted + PENALTY * (bound - dual)) @ inverse
    return (bound / diagonal).reshape(weights.shape), kept
