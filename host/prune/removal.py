"""Remove chunks of columns from a matrix of weights and let the columns that stay take over.

Optimal brain surgeon (Hassibi and Stork 1993) by blocks, as Frantar and Alistarh 2022 (Optimal
Brain Compression, arXiv 2208.11580) use it. With P the inverse of the Hessian H = X X^T, weights W
and S the columns of a chunk,

    loss(S)  = trace(W_S (P_SS)^-1 W_S^T)          what the outputs W X lose, squared
    W'       = W - W_S (P_SS)^-1 P_S:              the least squares choice of what stays

All rows of W lose the same columns: that is what a group of several output channels is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bacmac.host.model.moments import Float

Integers = npt.NDArray[np.int64]

DAMPING = 0.03
"""Of the mean diagonal, added to the Hessian: inputs that calibration hardly saw stay put. Best of
0.001, 0.01 and 0.03 on ResNet-20 with 512 images."""


def damped_inverse(squares: Float) -> Float:
    """(K, K) inverse of a Hessian (K, K) with DAMPING of its mean diagonal added."""
    mean = float(np.trace(squares)) / len(squares)
    damped = squares + np.eye(len(squares)) * (DAMPING * mean if mean > 0 else 1.0)
    inverse = np.linalg.inv(damped).astype(np.float64)
    symmetric: Float = (inverse + inverse.T) / 2
    return symmetric


def removal_order(weights: Float, inverse: Float, chunks: Integers) -> tuple[Integers, Float]:
    """Which chunk goes first, second, ... when each time the cheapest goes, and what each costs.

    Args:
        weights: (rows, K).
        inverse: (K, K) of the Hessian.
        chunks: (n, size) columns of each chunk, -1 where it has fewer.

    Returns:
        (n,) chunk numbers in order, and (n,) what the outputs lose with each, beyond what they
        had lost with those before it.
    """
    n, size = chunks.shape
    missing = chunks < 0
    columns = np.where(missing, 0, chunks)
    unused = missing[:, :, None] | missing[:, None, :]
    identity = np.eye(size) * missing[:, None, :]
    weights, inverse = weights.copy(), inverse.copy()
    left = np.arange(n)
    order, losses = np.zeros(n, np.int64), np.zeros(n)
    for step in range(n):
        now = columns[left]
        squares = np.where(unused[left], 0.0, inverse[now[:, :, None], now[:, None, :]])
        parts = np.where(missing[left][:, None], 0.0, weights[:, now].transpose(1, 0, 2))
        solved = np.linalg.solve(squares + identity[left], parts.transpose(0, 2, 1))
        loss = np.einsum("nrs,nsr->n", parts, solved)
        cheapest = int(np.argmin(loss))
        order[step], losses[step] = left[cheapest], max(float(loss[cheapest]), 0.0)
        gone = columns[left[cheapest]][~missing[left[cheapest]]]
        left = np.delete(left, cheapest)
        taken = np.linalg.solve(inverse[np.ix_(gone, gone)], inverse[gone])
        weights -= weights[:, gone] @ taken
        inverse -= inverse[:, gone] @ taken
    return order, losses


def without_columns(weights: Float, inverse: Float, gone: npt.NDArray[np.bool_]) -> Float:
    """(rows, K) weights with the columns `gone` (K,) zero and the others at their best."""
    if not gone.any():
        return weights
    taken = np.linalg.solve(inverse[np.ix_(gone, gone)], inverse[gone])
    result: Float = np.where(gone, 0.0, weights - weights[:, gone] @ taken)
    return result
