"""What goes to zero together: single weights, or units that a format or the hardware can skip.

| structure | a unit | who gains |
|---|---|---|
| `weight` | one weight | coordinates, bitmaps |
| `channel` | an output channel, whole | everyone: the network gets smaller |
| `block` | BLOCK_CHANNELS consecutive input channels, their whole kernel, of one output channel | |
| `tile` | 4 output channels by 4 inputs of a window | the bitmap format |
| `N:M` | at most N of M consecutive inputs of an output channel stay | the N:M format |
| `group` | what an overlay's array loads in one cycle | the array: an empty one takes no time |

Inputs of a window count row of the kernel, column, channel, as the packing formats lay them out, so
neighbours are channels of one tap. Structured: Anwar et al. 2015 (arXiv 1512.08571); N:M: Mishra et
al. 2021 (arXiv 2104.08378).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.groups import GroupCut
from bacmac.host.errors import InputError
from bacmac.host.model.moments import Float
from bacmac.host.model.sparse_fit import Kept

STRUCTURES = ("weight", "channel", "block", "tile")
"""Beside patterns N:M, and groups, whose shape is an overlay's."""
BLOCK_CHANNELS = 4
TILE = 4
MAX_PATTERN = 64

Integers = npt.NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Units:
    """A layer's weights in units, some of which become zero: a `Selection`.

    Attributes:
        number: (C_out, K) unit of each weight, 0 to n - 1.
        count: how many units become zero.
    """

    number: Integers
    count: int

    def kept(self, scores: Float, progress: float) -> Kept:
        """False in the cheapest units, `count` times `progress` of them."""
        n_zeros = round(self.count * progress)
        if n_zeros == 0:
            return np.ones(scores.shape, np.bool_)
        totals = np.bincount(self.number.reshape(-1), scores.reshape(-1))
        stays = np.ones(len(totals), np.bool_)
        stays[np.argpartition(totals, n_zeros - 1)[:n_zeros]] = False
        kept: Kept = stays[self.number]
        return kept


@dataclass(frozen=True)
class Pattern:
    """At most n of each m consecutive inputs stay: a `Selection`.

    Attributes:
        n: stay.
        m: of so many.
        shape: (C_out, C_in / groups, kh, kw).
    """

    n: int
    m: int
    shape: tuple[int, ...]

    def kept(self, scores: Float, progress: float) -> Kept:
        """False in the m - n cheapest of each m; of all these the cheapest `progress` first."""
        matrix = _window_order(scores.reshape(self.shape))
        rows, width = matrix.shape
        padded = np.full((rows, -(-width // self.m) * self.m), np.inf)
        padded[:, :width] = matrix
        parts = padded.reshape(-1, self.m)
        # what is beyond the row's end does not count as one that stays
        rank = np.argsort(np.argsort(-np.where(np.isinf(parts), -1.0, parts), kind="stable"))
        loses = ((rank >= self.n) & np.isfinite(parts)).reshape(padded.shape)[:, :width]
        n_zeros = round(progress * np.count_nonzero(loses))
        cheapest = np.argsort(matrix[loses], kind="stable")[:n_zeros]
        kept = np.ones(matrix.shape, np.bool_)
        kept.reshape(-1)[np.flatnonzero(loses)[cheapest]] = False
        return _model_order(kept, self.shape)


@dataclass(frozen=True, eq=False)
class Both:
    """Zeros of one selection, and those of another that knows them: a `Selection`."""

    first: Units
    second: Units | Pattern

    def kept(self, scores: Float, progress: float) -> Kept:
        """False where either says so; what the first takes counts among the second's zeros."""
        kept = self.first.kept(scores, progress)
        return kept & self.second.kept(np.where(kept, scores, -1.0), progress)


def parse_pattern(structure: str) -> tuple[int, int] | None:
    """N and M of "N:M"; None for the name of another structure.

    Raises:
        InputError: neither.
    """
    if structure in STRUCTURES:
        return None
    n, colon, m = structure.partition(":")
    if colon and n.isdecimal() and m.isdecimal() and 1 <= int(n) < int(m) <= MAX_PATTERN:
        return int(n), int(m)
    raise InputError(
        "options",
        "structure",
        found=repr(structure),
        expected=f"one of {', '.join(STRUCTURES)}, or N:M with 1 <= N < M <= {MAX_PATTERN}",
    )


def unit_numbers(structure: str, shape: tuple[int, ...]) -> Integers:
    """(C_out, K) unit of each weight of a layer (C_out, C_in / groups, kh, kw).

    Args:
        structure: one of STRUCTURES.
        shape: of the weights.
    """
    c_out, c_in, kh, kw = shape
    k = c_in * kh * kw
    rows, columns = np.arange(c_out)[:, None], np.arange(k)[None]
    if structure == "weight":
        return rows * k + columns
    if structure == "channel":
        return rows + np.zeros_like(columns)
    if structure == "block":
        return rows * -(-c_in // BLOCK_CHANNELS) + columns // (kh * kw) // BLOCK_CHANNELS
    if structure == "tile":
        numbers = rows // TILE * -(-k // TILE) + columns // TILE
        return _model_order(numbers, shape)
    raise ValueError(f"no structure {structure!r}")


def group_numbers(cut: GroupCut, shape: tuple[int, ...]) -> Integers:
    """(C_out, K) group of each weight, as an overlay's array cuts the layer."""
    numbers = np.zeros(cut.n_weights + 1, np.int64)
    numbers[cut.index] = np.arange(len(cut.index))[:, None, None]
    return numbers[:-1].reshape(shape[0], -1)


def _window_order(values: Float) -> Float:
    """(C_out, K) in the order of a window's inputs, of values of the weights' shape."""
    matrix: Float = values.transpose(0, 2, 3, 1).reshape(len(values), -1)
    return matrix


def _model_order(matrix: npt.NDArray[Number], shape: tuple[int, ...]) -> npt.NDArray[Number]:
    """(C_out, K) in the order of the weights, of a matrix in the order of `_window_order`."""
    c_out, c_in, kh, kw = shape
    moved = matrix.reshape(c_out, kh, kw, c_in).transpose(0, 3, 1, 2)
    ordered: npt.NDArray[Number] = moved.reshape(c_out, -1)
    return ordered
