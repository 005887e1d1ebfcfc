"""Scales for an accelerator without one multiplier: every requantization is a shift.

A convolution requantizes by input scale * weight scale / output scale, channel by channel. It is a
shift alone where that is 2**-s, so weight scales are taken from an octave series, and the scale of
a tensor itself stays free as long as nothing else is asked of it. Two things are: a residual input
is added after a shift, so its scale is the output's times a power of two; and a mean over n values
divides by n, so its output's scale is its input's over n, times a power of two. Tensors linked in
this way share one free factor, which is searched.

Power-of-two scales in all places are the usual way to this (Jacob et al. 2018, arXiv 1712.05877,
section 2.2 has the multiplier; Jain et al. 2020, arXiv 1903.08066, trains scales 2**k); they are
more than a shifter needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import ceil, floor, log2

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import MAX_SHIFT, Requantize
from bacmac.host.arith.schemes import Scheme
from bacmac.host.errors import InputError
from bacmac.host.model.layers import Model, Pool, moves_only
from bacmac.host.model.quantized import ActivationFormat
from bacmac.host.quantize.activations import TensorStatistics, scale_error
from bacmac.host.quantize.weights import Float, search_scales, squared_error

FACTORS = 16
"""Common factors tried in the octave of each group of linked tensors."""
OCTAVES = 3
"""Octaves of a channel's scale tried above and below its best free one."""
MAX_RESIDUAL_SHIFT = 30
"""The residual's multiplier is a power of two in an int32."""


def shift_formats(
    model: Model,
    statistics: Mapping[str, TensorStatistics],
    formats: Mapping[str, ActivationFormat],
) -> dict[str, ActivationFormat]:
    """Formats whose scales let every layer requantize by a shift.

    Args:
        model: the float network.
        statistics: of its tensors.
        formats: the best ones, without that condition; a tensor linked to no other keeps its own.

    Raises:
        InputError: two conditions on one tensor contradict each other.
    """
    found = dict(formats)
    for group in _linked(model):
        if len(group) > 1:
            _share_factor(group, statistics, found)
    return _without_left_shifts(model, found)


def shift_scales(
    weights: Float,
    per_step: float,
    scheme: Scheme,
    *,
    least: Float,
    residual: float | None,
) -> Float:
    """Scale (C,) of least squared error among per_step * 2**-s.

    Args:
        weights: (C, K).
        per_step: output scale / input scale.
        scheme: the levels.
        least: (C,) smallest scale allowed, from biases.
        residual: residual scale / output scale where the layer has one: the residual's multiplier
            must be a whole power of two.
    """
    finest, coarsest = _shift_range(residual)
    free = np.maximum(search_scales(weights, scheme), least)
    free = np.where(free > 0, free, per_step * 2.0**-MAX_SHIFT)
    nearest = np.rint(-np.log2(free / per_step))
    allowed = np.clip(np.floor(-np.log2(np.maximum(least, 1e-300) / per_step)), coarsest, finest)
    best = per_step * 2.0 ** -np.clip(nearest, coarsest, allowed)
    error = squared_error(weights, best, scheme)
    for octave in range(-OCTAVES, OCTAVES + 1):
        tried = per_step * 2.0 ** -np.clip(nearest + octave, coarsest, allowed)
        found = squared_error(weights, tried, scheme)
        best, error = np.where(found < error, tried, best), np.minimum(found, error)
    return best


def next_octaves(
    scale: Float, per_step: float, *, least: Float, residual: float | None
) -> tuple[Float, Float]:
    """Scales (C,) an octave below and above each, where these are allowed, else the same.

    Arguments as for `shift_scales`.
    """
    finest, coarsest = _shift_range(residual)
    shift = np.rint(-np.log2(scale / per_step))
    below = np.where((shift < finest) & (scale / 2 >= least), scale / 2, scale)
    above = np.where(shift > coarsest, scale * 2, scale)
    return below, above


def shift_requantize(
    ratio: Float, *, low: int, high: int, residual_ratio: float | None = None
) -> Requantize:
    """Multiplier 1 and a shift for each channel.

    Args:
        ratio: (C,), each 2**-s with s in 0 .. 40.
        low: smallest output.
        high: largest output.
        residual_ratio: residual scale / output scale, a power of two, or None.

    Raises:
        ValueError: a ratio is not such a power of two.
    """
    shift = _exponents(-np.log2(ratio))
    if shift.min() < 0 or shift.max() > MAX_SHIFT:
        raise ValueError(f"shifts {shift.min()} to {shift.max()} are not within 0..{MAX_SHIFT}")
    residual = None
    if residual_ratio is not None:
        places = shift + _exponents(np.array([log2(residual_ratio)]))
        if places.min() < 0 or places.max() > MAX_RESIDUAL_SHIFT:
            raise ValueError(f"a residual multiplier of 2**{places.min()} or 2**{places.max()}")
        residual = (np.int64(1) << places).astype(np.int32)
    return Requantize(np.ones(len(shift), np.uint16), shift.astype(np.uint8), low, high, residual)


def _exponents(logarithms: Float) -> npt.NDArray[np.int64]:
    whole = np.rint(logarithms)
    if np.abs(logarithms - whole).max() > 1e-6:
        raise ValueError("a ratio of scales is not a power of two")
    exponents: npt.NDArray[np.int64] = whole.astype(np.int64)
    return exponents


def _shift_range(residual: float | None) -> tuple[int, int]:
    """Largest and smallest shift."""
    if residual is None:
        return MAX_SHIFT, 0
    places = round(log2(residual))
    return min(MAX_SHIFT, MAX_RESIDUAL_SHIFT - places), max(0, -places)


def _linked(model: Model) -> list[dict[str, float]]:
    """Groups of tensors whose scales are tied: name -> log2 of its scale beside the group's, mod 1.

    Raises:
        InputError: two paths between two tensors ask for different ratios.
    """
    links: dict[str, list[tuple[str, float]]] = {name: [] for name in model.shapes}
    for a, b, offset in _ties(model):
        links[a].append((b, offset))
        links[b].append((a, -offset))
    groups: list[dict[str, float]] = []
    placed: dict[str, float] = {}
    for start in links:
        if start in placed:
            continue
        group, waiting = {start: 0.0}, [start]
        while waiting:
            name = waiting.pop()
            for other, offset in links[name]:
                wanted = (group[name] + offset) % 1.0
                if other not in group:
                    group[other] = wanted
                    waiting.append(other)
                elif abs((wanted - group[other] + 0.5) % 1.0 - 0.5) > 1e-9:
                    raise InputError(
                        model.source or model.name,
                        f"tensor {other!r}",
                        found="a residual and a mean over a number that is no power of two, "
                        "between which no scales make every requantization a shift",
                        expected="a network without that, or multipliers (no shift-only)",
                    )
        placed.update(group)
        groups.append(group)
    return groups


def _ties(model: Model) -> Iterable[tuple[str, str, float]]:
    """(tensor, tensor, log2 of the second's scale over the first's, modulo 1)."""
    for layer in model.layers:
        if moves_only(layer):
            yield layer.input, layer.name, 0.0
        elif isinstance(layer, Pool):
            yield layer.input, layer.name, -log2(layer.kernel[0] * layer.kernel[1])
        else:
            if layer.structural:  # weights of one, which have no scale to choose
                yield layer.input, layer.name, 0.0
            if layer.residual is not None:
                yield layer.residual, layer.name, 0.0


def _without_left_shifts(
    model: Model, formats: Mapping[str, ActivationFormat]
) -> dict[str, ActivationFormat]:
    """Raise scales, by powers of two, until adds of unscaled tensors shift to the right only.

    Such an add sums in steps of its input: the residual and the output may be no finer than that.
    """
    found = dict(formats)

    def raise_to(name: str, scale: float) -> bool:
        stored = found[name]
        found[name] = replace(stored, scale=max(stored.scale, scale))
        return found[name] != stored

    changed = True
    while changed:  # no scale is raised beyond the largest there is
        changed = False
        for layer in model.layers:
            if not isinstance(layer, Pool) and layer.structural and not moves_only(layer):
                least = found[layer.input].scale
                changed |= raise_to(layer.name, least)
                changed |= layer.residual is not None and raise_to(layer.residual, least)
            elif moves_only(layer):
                changed |= raise_to(layer.name, found[layer.input].scale)
                changed |= raise_to(layer.input, found[layer.name].scale)
    return found


def _share_factor(
    group: Mapping[str, float],
    statistics: Mapping[str, TensorStatistics],
    formats: dict[str, ActivationFormat],
) -> None:
    """Give the tensors of a group the scales with the least noise in all of them together."""
    best, least = {}, np.inf
    for factor in np.arange(FACTORS) / FACTORS:
        chosen, noise = {}, 0.0
        for name, offset in group.items():
            stored = formats[name]
            exact = log2(stored.scale) - factor - offset
            errors = {}
            for octave in (floor(exact), ceil(exact)):
                scale = 2.0 ** (factor + offset + octave)
                errors[scale] = scale_error(statistics[name], replace(stored, scale=scale))
            chosen[name] = min(errors, key=lambda scale: errors[scale])
            noise += errors[chosen[name]]
        if noise < least:
            best, least = chosen, noise
    for name, scale in best.items():
        formats[name] = replace(formats[name], scale=scale)
