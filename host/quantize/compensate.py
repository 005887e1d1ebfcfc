"""Error-compensated rounding: each column's error is fed to the columns not yet rounded.

Frantar et al. 2022 (GPTQ, arXiv 2210.17323) after optimal brain surgeon; weights pruned to zero
are errors like any other and are compensated too (Frantar and Alistarh 2023, arXiv 2301.00774).
That is one pass over the columns; `descended` then goes round them until no level alone can be
bettered (coordinate descent: Behdin et al. 2023, QuantEase, arXiv 2309.01885), and `exchanged` lets
zeros and levels change places, now that it is known what rounding made of each weight.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.schemes import Levels, Scheme
from bacmac.host.model.layers import Conv
from bacmac.host.model.moments import window_moments
from bacmac.host.model.sparse_fit import Kept, Selection
from bacmac.host.quantize.weights import Float, round_to_levels

DAMPING = 0.01
"""Of the mean diagonal, added to the Hessian: columns that calibration hardly saw stay put."""
BLOCK_COLUMNS = 64
"""Columns whose corrections are gathered before the rest of the matrix is touched (as GPTQ)."""
DESCENT_PASSES = 10
"""Over all columns; most layers are still before that."""
EXCHANGES = 10
MIN_ROWS = 4
"""Rows that share a pattern of zeros, on average, for a factor of their own to be worth it."""
MAX_HESSIAN_ROWS = 1 << 13
"""Inputs of an output that compensation takes: a Hessian of 0.5 GB, and four of that at work."""


def hessian(layer: Conv, inputs: npt.NDArray[np.generic], *, centred: bool = False) -> Float:
    """X X^T of the windows that each group of `layer` sees: (groups, K, K), K = C_in/groups*kh*kw.

    Args:
        layer: its kernel, stride, padding and groups.
        inputs: (N, C, H, W) stored integers; their scale only multiplies the result.
        centred: about the mean window. That is the Hessian where the bias is free to take up
            whatever the mean of the outputs loses, as bias correction lets it.
    """
    moments = window_moments(layer, inputs)
    return moments.central_squares if centred else moments.squares


def compensated_levels(
    weights: Float,
    kept: npt.NDArray[np.bool_],
    scale: Float,
    hessians: Float,
    scheme: Scheme,
) -> Levels:
    """Round weights column by column, in order of falling Hessian diagonal.

    Args:
        weights: (C, K) float weights before pruning, channels of one group together.
        kept: (C, K) False where the level must be zero.
        scale: (C,), above 0.
        hessians: (groups, K, K).
        scheme: the levels.

    Returns:
        (C, K) levels.
    """
    levels: Levels = np.zeros(weights.shape, scheme.levels.dtype)
    channels = np.split(np.arange(len(weights)), len(hessians))
    for part, hessian_matrix in zip(channels, hessians, strict=True):
        falling = np.argsort(-np.diagonal(hessian_matrix), kind="stable")
        for rows in _alike(kept[part]):
            # columns that are zero in all these rows come first: whatever they lose is then made
            # good by columns that can, and none of them takes up an error in vain
            gone = np.count_nonzero(kept[part][rows], axis=0) == 0
            order = np.concatenate([falling[gone[falling]], falling[~gone[falling]]])
            factor = _inverse_factor(hessian_matrix[np.ix_(order, order)])
            chosen = part[rows]
            rounded = _round_columns(
                weights[chosen][:, order], kept[chosen][:, order], scale[chosen], factor, scheme
            )
            levels[np.ix_(chosen, order)] = rounded
    return levels


def descended(
    levels: Levels, weights: Float, kept: Kept, scale: Float, hessians: Float, scheme: Scheme
) -> Levels:
    """Levels (C, K) of which none alone, changed, would bring the sums nearer those of `weights`.

    Each column in turn takes the best level for what the others are; the loss only falls.

    Args:
        levels: (C, K) to begin with, zero where not kept.
        weights: (C, K) what the sums should be like.
        kept: (C, K).
        scale: (C,), above 0.
        hessians: (groups, K, K), their diagonals above 0.
        scheme: the levels.
    """
    group = np.repeat(np.arange(len(hessians)), len(weights) // len(hessians))
    diagonals = np.diagonal(hessians, axis1=1, axis2=2)[group]
    values = levels * scale[:, None]
    gradient = _times(weights - values, hessians)
    for _ in range(DESCENT_PASSES):
        moved = False
        for j in np.argsort(-diagonals.mean(0), kind="stable"):
            best = values[:, j] + gradient[:, j] / diagonals[:, j]
            new = round_to_levels(best / scale, scheme) * scale * kept[:, j]
            rows = np.flatnonzero(new != values[:, j])
            if len(rows):
                moved = True
                change = new[rows] - values[rows, j]
                values[rows, j] = new[rows]
                gradient[rows] -= change[:, None] * hessians[group[rows], j]
        if not moved:
            break
    return round_to_levels(values / scale[:, None], scheme)


def exchanged(
    levels: Levels,
    weights: Float,
    kept: Kept,
    scale: Float,
    hessians: Float,
    scheme: Scheme,
    selection: Selection,
) -> tuple[Levels, Kept]:
    """Levels and pattern of zeros after weights that are worth more took the places of others.

    What a weight is worth: by how much the sums are nearer with its best level than with zero,
    the others being what they are. Arguments as for `descended`; the result is never worse.
    """
    column = scale[:, None]
    group = np.repeat(np.arange(len(hessians)), len(weights) // len(hessians))
    diagonals = np.diagonal(hessians, axis1=1, axis2=2)[group]
    least = _loss(weights - levels * column, hessians)
    for _ in range(EXCHANGES):
        values = levels * column
        best = values + _times(weights - values, hessians) / diagonals
        missed = best - round_to_levels(best / column, scheme) * column
        worth = diagonals * np.maximum(best * best - missed * missed, 0.0)
        tried = selection.kept(worth, 1.0)
        if np.array_equal(tried, kept):
            break
        left: Levels = levels * tried
        changed = descended(left, weights, tried, scale, hessians, scheme)
        loss = _loss(weights - changed * column, hessians)
        if loss >= least:
            break
        levels, kept, least = changed, tried, loss
    return levels, kept


def _times(errors: Float, hessians: Float) -> Float:
    """(C, K) rows of each group times its Hessian."""
    groups, k, _ = hessians.shape
    result: Float = (errors.reshape(groups, -1, k) @ hessians).reshape(errors.shape)
    return result


def _loss(errors: Float, hessians: Float) -> float:
    return float(np.sum(_times(errors, hessians) * errors))


def _alike(kept: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Rows that are rounded together: those of one pattern of zeros, where few patterns exist.

    That is so after groups of weights were emptied; single zeros give each row its own pattern,
    and a factor for each row would take too long.
    """
    patterns, pattern = np.unique(kept, axis=0, return_inverse=True)
    if len(patterns) * MIN_ROWS > len(kept):
        return [np.arange(len(kept))]
    return [np.flatnonzero(pattern.reshape(-1) == number) for number in range(len(patterns))]


def _inverse_factor(hessian_matrix: Float) -> Float:
    """Upper triangular U with U^T U = (H + damping)^-1.

    The Cholesky factor of H with rows and columns reversed gives H = R R^T with R upper
    triangular, so H^-1 = R^-T R^-1 and U = R^-1: no inverse of H is ever formed.
    """
    mean = float(np.trace(hessian_matrix)) / len(hessian_matrix)
    damping = DAMPING * mean if mean > 0 else 1.0
    while True:
        damped = hessian_matrix + np.eye(len(hessian_matrix)) * damping
        try:
            upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
            break
        except np.linalg.LinAlgError:
            # What is left of a few nearly equal windows about their mean is rounding error, and
            # that has negative directions; damping beyond its size ends them.
            damping *= 10.0
    return np.triu(np.linalg.inv(upper))


def _round_columns(
    weights: Float, kept: npt.NDArray[np.bool_], scale: Float, factor: Float, scheme: Scheme
) -> Levels:
    work = weights.copy()
    levels: Levels = np.zeros(work.shape, scheme.levels.dtype)
    n_columns = work.shape[1]
    for start in range(0, n_columns, BLOCK_COLUMNS):
        stop = min(start + BLOCK_COLUMNS, n_columns)
        errors = np.empty((len(work), stop - start))
        for j in range(start, stop):
            levels[:, j] = round_to_levels(work[:, j] / scale, scheme) * kept[:, j]
            error = (work[:, j] - levels[:, j] * scale) / factor[j, j]
            work[:, j + 1 : stop] -= np.outer(error, factor[j, j + 1 : stop])
            errors[:, j - start] = error
        work[:, stop:] -= errors @ factor[start:stop, stop:]
    return levels
