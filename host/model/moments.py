"""Moments of the windows that a layer sees: what least squares needs to know of its inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.model.forward import FloatTensor, columns
from bacmac.host.model.layers import Conv

Float = npt.NDArray[np.float64]

BLOCK_BYTES = 1 << 26
LEAST_VARIANCE = 2.0**-22
"""Of the mean square: what float32 sums of squares can tell from nothing."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the n windows x of each convolution group, K = C_in / groups * kh * kw.

    Attributes:
        n_windows: n, the same for every group.
        sums: (groups, K), of x.
        squares: (groups, K, K), of x x^T.
        target_sums: (C_out,), of the targets y; empty without targets.
        products: (C_out, K), of y x^T; empty without targets.
    """

    n_windows: int
    sums: Float
    squares: Float
    target_sums: Float
    products: Float

    @property
    def central_squares(self) -> Float:
        """(groups, K, K), sums about the mean window.

        An input that is all but constant has a row and a column of zeros: what is left of its
        square is the rounding error of float32 sums, which may be negative.
        """
        central = self.squares - self.sums[:, :, None] * self.sums[:, None, :] / self.n_windows
        varies = np.diagonal(central, axis1=1, axis2=2) > LEAST_VARIANCE * np.diagonal(
            self.squares, axis1=1, axis2=2
        )
        result: Float = central * (varies[:, :, None] & varies[:, None, :])
        return result


def window_moments(
    layer: Conv, inputs: npt.NDArray[np.generic], targets: FloatTensor | None = None
) -> Moments:
    """Moments of what `layer` sees in inputs (N, C, H, W), and of targets (N, C_out, H', W')."""
    c_out, c_in, kh, kw = layer.weight.shape
    k, per_group = c_in * kh * kw, c_out // layer.groups
    squares, sums = np.zeros((layer.groups, k, k)), np.zeros((layer.groups, k))
    n_targets = 0 if targets is None else c_out
    target_sums, products = np.zeros(n_targets), np.zeros((n_targets, k))
    n_windows = 0
    per_image = inputs[0].size * kh * kw * 4 // min(layer.stride)
    block = max(1, BLOCK_BYTES // per_image)
    for start in range(0, len(inputs), block):
        x: FloatTensor = inputs[start : start + block].astype(np.float32)
        windows = columns(x, (kh, kw), layer.stride, layer.padding)
        n_windows += int(np.prod(windows.shape[:3]))
        for group in range(layer.groups):
            part = windows[:, :, :, group * c_in : (group + 1) * c_in]
            # one row a weight: image rows are then copied whole, which halves the time
            rows = part.transpose(3, 4, 5, 0, 1, 2).reshape(k, -1)
            squares[group] += rows @ rows.T
            sums[group] += rows.sum(1, dtype=np.float64)
            if targets is not None:
                own = slice(group * per_group, (group + 1) * per_group)
                y = targets[start : start + block, own].transpose(1, 0, 2, 3).reshape(per_group, -1)
                products[own] += y @ rows.T
                target_sums[own] += y.sum(1, dtype=np.float64)
    return Moments(n_windows, sums, squares, target_sums, products)
