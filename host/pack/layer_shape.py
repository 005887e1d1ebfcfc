"""What a storage format may know of a layer before it sees its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bacmac.host.arith.network import ConvOp, Shape
from bacmac.host.arith.schemes import Levels

MAX_WEIGHTS_PER_BYTE = 4096
"""What leaves zeros out may stand for this many weights a byte at most, so that a small file stays
small in memory too."""


@dataclass(frozen=True)
class LayerShape:
    """The weights' shape, and what else decides where a weight lies.

    Attributes:
        weights: (C_out, C_in / groups, kh, kw).
        groups: of the convolution.
        dense: its window is the whole unpadded input, so that all its rows are one.
    """

    weights: tuple[int, int, int, int]
    groups: int = 1
    dense: bool = False

    @classmethod
    def of(cls, op: ConvOp, input_shape: Shape) -> LayerShape:
        """The shape of a layer whose input is (C, H, W)."""
        shape = op.levels.shape
        dense = shape[2:] == input_shape[1:] and not any(op.padding) and op.groups == 1
        return cls((shape[0], shape[1], shape[2], shape[3]), op.groups, dense)

    @property
    def n_weights(self) -> int:
        """How many weights there are."""
        return math.prod(self.weights)

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the weight matrix: output channels by inputs of a window."""
        return self.weights[0], self.n_weights // self.weights[0]


def to_matrix(levels: Levels) -> Levels:
    """Levels (C_out, C_in / groups, kh, kw) as a matrix of the window's order.

    Columns are inputs in the order in which a window's bytes lie in HWC memory: row of the kernel,
    then column, then channel. So neighbours are the channels of one tap.
    """
    matrix: Levels = np.ascontiguousarray(levels.transpose(0, 2, 3, 1)).reshape(len(levels), -1)
    return matrix


def from_matrix(matrix: Levels, shape: LayerShape) -> Levels:
    """The inverse of `to_matrix`."""
    c_out, c_in, kh, kw = shape.weights
    levels: Levels = np.ascontiguousarray(matrix.reshape(c_out, kh, kw, c_in).transpose(0, 3, 1, 2))
    return levels


def too_few_bytes(n_weights: int, n_bytes: int) -> str:
    """Why so few bytes may not stand for so many weights, or ""."""
    if n_weights <= MAX_WEIGHTS_PER_BYTE * n_bytes:
        return ""
    return f"{n_weights} weights in {n_bytes} bytes; {MAX_WEIGHTS_PER_BYTE} a byte is the most"
