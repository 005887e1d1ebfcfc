"""Which points of a trade-off are worth having, and which of them only chance put there.

Cost is known exactly and accuracy is measured on a sample of images, the same ones for all points.
So two points are compared by the images on which they disagree, with the exact form of McNemar's
test (McNemar 1947, Psychometrika 12; Dietterich 1998, Neural Computation 10, for classifiers):
if neither is better, an image that only one of them has right is as likely the one's as the
other's. Tests are two-sided, at 5 % each and not corrected for their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

SIGNIFICANCE = 0.05

Correct = npt.NDArray[np.bool_]
"""(n_images,) whether each image was classified right."""


@dataclass(frozen=True)
class Standing:
    """Where a point stands in a trade-off of cost and accuracy.

    Attributes:
        place: "front": no other point measured is as good in both and better in one; "noise":
            there are such points, but none is more accurate beyond chance; "behind": there is one.
        certain: a point of the front that is more accurate than every cheaper one beyond chance.
    """

    place: Literal["front", "noise", "behind"]
    certain: bool = False


@dataclass(frozen=True)
class Difference:
    """Accuracy of one point less that of another, on the same images.

    Attributes:
        mean: difference of the two shares.
        standard_error: of it, paired over the images.
        p: probability of a split this uneven if neither were better, two-sided.
    """

    mean: float
    standard_error: float
    p: float

    @property
    def is_certain(self) -> bool:
        """Whether chance is ruled out at SIGNIFICANCE."""
        return self.p < SIGNIFICANCE


def difference(one: Correct, other: Correct) -> Difference:
    """Compare two points on the same images (n,)."""
    n = len(one)
    only_one = int(np.count_nonzero(one & ~other))
    only_other = int(np.count_nonzero(other & ~one))
    mean = (only_one - only_other) / n
    variance = (only_one + only_other) / n - mean**2
    return Difference(mean, (max(variance, 0.0) / n) ** 0.5, sign_test(only_one, only_other))


def sign_test(a: int, b: int) -> float:
    """Two-sided p of a against b of a + b fair coins.

    >>> sign_test(0, 0), sign_test(5, 0), round(sign_test(3, 9), 4)
    (1.0, 0.0625, 0.146)
    """
    n, term, tail = a + b, 1, 1
    for k in range(1, min(a, b) + 1):
        term = term * (n - k + 1) // k  # n over k, exact
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def standings(costs: Sequence[float], correct: Sequence[Correct]) -> tuple[Standing, ...]:
    """Where each point stands, less cost and more images right being better.

    Args:
        costs: of each point.
        correct: of each point, all on the same images.
    """
    counts = [int(np.count_nonzero(row)) for row in correct]
    points = range(len(costs))
    found = []
    for p in points:
        cheap = [q for q in points if q != p and costs[q] <= costs[p]]
        ahead = [
            q
            for q in cheap
            if counts[q] >= counts[p] and (costs[q] < costs[p] or counts[q] > counts[p])
        ]
        if any(difference(correct[q], correct[p]).is_certain for q in ahead):
            found.append(Standing("behind"))
        elif ahead:
            found.append(Standing("noise"))
        else:
            cheaper = [q for q in cheap if costs[q] < costs[p]]
            sure = all(difference(correct[p], correct[q]).is_certain for q in cheaper)
            found.append(Standing("front", certain=sure))
    return tuple(found)
