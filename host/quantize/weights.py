"""Weights to levels: rounding, and the scale of each output channel by least squared error."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.schemes import Levels, Scheme

Float = npt.NDArray[np.float64]

SCALE_FACTORS = np.concatenate([[1.0], np.geomspace(0.2, 1.6, 95)])
"""Candidates, times the scale that puts the largest weight on the largest level. Above 1 serves
power-of-two levels, whose largest may stand for weights beyond it."""
FINE_FACTORS = np.linspace(0.98, 1.02, 25)
"""Candidates around the best of those, which are 2.2 % apart."""
LLOYD_STEPS = 12
LEAST_WEIGHT = 1e-30
"""A channel of smaller weights is a dead one: its scale would leave what float64 can divide by."""


def round_to_levels(values: Float, scheme: Scheme) -> Levels:
    """The nearest level to each value (value = weight / scale); a tie goes to the smaller one."""
    magnitudes = scheme.levels[scheme.levels >= 0].astype(np.float64)
    borders = (magnitudes[1:] + magnitudes[:-1]) / 2
    nearest = magnitudes[np.searchsorted(borders, np.abs(values))]
    return cast(Levels, np.copysign(nearest, values).astype(scheme.levels.dtype))


def squared_error(weights: Float, scale: Float, scheme: Scheme) -> Float:
    """(C,) sum of squared rounding errors of weights (C, K) at scale (C,), each above 0."""
    column = scale[:, None]
    error = round_to_levels(weights / column, scheme) * column - weights
    result: Float = np.einsum("ck,ck->c", error, error)
    return result


def search_scales(weights: Float, scheme: Scheme) -> Float:
    """Scale (C,) of least squared error for weights (C, K); 0 for a dead channel.

    The best of 96 candidates, then of 25 around it, then Lloyd's alternation (1982, "Least squares
    quantization in PCM"): levels by rounding, scale by least squares, each step no worse than the
    one before. The scale that puts the largest weight on the largest level is among the
    candidates, so the result is never worse than that one.
    """
    alive = np.abs(weights).max(axis=1) >= LEAST_WEIGHT
    largest = np.abs(weights).max(axis=1) / scheme.max_level
    base = np.where(alive, largest, 1.0)
    best = base.copy()
    least = squared_error(weights, best, scheme)
    for factor in SCALE_FACTORS[1:]:
        best, least = _better(weights, base * factor, best, least, scheme)
    middle = best.copy()
    for factor in FINE_FACTORS:
        best, least = _better(weights, middle * factor, best, least, scheme)
    for _ in range(LLOYD_STEPS):
        levels = round_to_levels(weights / best[:, None], scheme).astype(np.float64)
        energy = np.einsum("ck,ck->c", levels, levels)
        fitted = np.einsum("ck,ck->c", levels, weights) / np.where(energy > 0, energy, 1.0)
        fitted = np.where(fitted > 0, fitted, best)
        if np.array_equal(fitted, best):
            break
        best, least = _better(weights, fitted, best, least, scheme)
    return np.where(alive, best, 0.0)


def snap_scales(weights: Float, scale: Float, step: Float, scheme: Scheme) -> Float:
    """The better of the two whole multiples (1 to 32767) of step (C,) around each scale (C,)."""
    steps = np.clip(np.floor(scale / step), 1, 32767)
    below, above = steps * step, np.minimum(steps + 1, 32767) * step
    result, _ = _better(weights, above, below, squared_error(weights, below, scheme), scheme)
    return result


def relative_squared_error(weights: Float, levels: Levels, scale: Float) -> float:
    """sum((w - level * scale)^2) / sum(w^2) over weights (C, K); 0 where every weight is 0."""
    total = float(np.sum(weights * weights))
    error = weights - levels * scale[:, None]
    return float(np.sum(error * error)) / total if total > 0 else 0.0


def _better(
    weights: Float, candidate: Float, best: Float, least: Float, scheme: Scheme
) -> tuple[Float, Float]:
    error = squared_error(weights, candidate, scheme)
    wins = error < least
    return np.where(wins, candidate, best), np.where(wins, error, least)
