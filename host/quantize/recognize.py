"""Which levels the weights of a model lie on, layer by layer, found from their values.

A published power-of-two model comes as int8 weights or as floats, and nothing in the file says
what they are. Integers were rounded from the levels: a channel whose largest weight was put on 127
holds round(127 * k / top) for levels k. +-127 then stands for a level of 128 (127 is as far as int8
goes) or for a top of 10, and only the channel as a whole tells which (`level_sets`).

Power-of-two *levels* are looked for. A power-of-two *scale*, which other tools also call PoT, says
nothing about levels: it is counted beside them and never mixed up with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from bacmac.host.arith.schemes import SCHEMES, Scheme
from bacmac.host.model.layers import Conv, KeptWeights, Model
from bacmac.host.quantize.level_sets import (
    INTEGER_STEP,
    POWERS,
    SUMS,
    ChannelLevels,
    keep_exactly,
    power_levels,
    smallest_pot,
    sum_levels,
    uniform_levels,
)
from bacmac.host.quantize.weights import Float, round_to_levels, search_scales

Family = Literal["PoT", "APoT", "uniform", "none"]

LEAST_SHARE = 0.9
"""Of the live channels that must lie on a family's levels for the layer to be of that family."""
DEAD = 1e-5
"""A channel whose weights are all below this part of the layer's largest does nothing."""
LEAST_VALUES = 4
"""Different magnitudes in a float channel for uniform levels to be more than chance."""
SHOWN_VALUES = 8


@dataclass(frozen=True)
class OffGrid:
    """A channel that does not lie on its layer's levels.

    Attributes:
        channel: its number.
        n_weights: how many of its weights lie beside the levels, at the unit that fits most.
        values: up to SHOWN_VALUES of their magnitudes, as stored (integers, or floats).
    """

    channel: int
    n_weights: int
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class LayerRecognition:
    """What the weights of one layer are.

    Attributes:
        layer: its name.
        family: of the levels; "none" where floats lie on no levels, or integers in no scheme.
        scheme: name of the scheme that `kept` is in, "" for "none".
        kinds: how many channels are what: "PoT of 7 exponents without zero",
            "APoT with top 10", "dead".
        off_grid: channels that are not of the family; in `kept` they are on the nearest levels.
        stands_for_128: channels in which +-127 stands for +-128.
        saturated: of those, the ones whose other integers are exact (and the scale is a power of
            two): 127 is what int8 had in place of 128. In the others every integer was rounded.
        dead: numbers of channels that do nothing; in `kept` they are zeros.
        lost_in_pot_4: weights on the smallest level of channels with more exponents than pot-4
            has: what storing the layer in pot-4 would lose.
        power_of_two_scales: channels whose stored scale is a power of two, whatever the levels.
        kept: levels in `scheme`, and the scale adjusted to them; None for "none".
        relative_squared_error: of `kept` against the weights as the file has them.
    """

    layer: str
    family: Family = "none"
    scheme: str = ""
    kinds: Mapping[str, int] = field(default_factory=dict)
    off_grid: tuple[OffGrid, ...] = ()
    stands_for_128: int = 0
    saturated: int = 0
    dead: tuple[int, ...] = ()
    lost_in_pot_4: int = 0
    power_of_two_scales: int = 0
    kept: KeptWeights | None = None
    relative_squared_error: float = 0.0

    def sentences(self) -> tuple[str, ...]:
        """What a person must know of the layer; nothing where nothing was recognized."""
        if self.family == "none":
            return ()
        kinds = "; ".join(f"{kind}: {count}" for kind, count in self.kinds.items())
        lines = [f"{self.scheme}, of its channels {kinds}"]
        if self.stands_for_128:
            how = "saturated" if self.saturated else "every integer was rounded"
            lines.append(f"127 stands for 128 in {self.stands_for_128} channels ({how})")
        lines += [
            f"channel {off.channel} is off grid: {off.n_weights} weights, such as "
            + ", ".join(f"{value:.6g}" for value in off.values)
            for off in self.off_grid
        ]
        if self.lost_in_pot_4:
            lines.append(f"pot-4 would lose the smallest level, {self.lost_in_pot_4} weights")
        return tuple(lines)


@dataclass(frozen=True, eq=False)
class _Weights:
    """Attributes: stored (C, K) as in the file; scale (C,), 1 for floats; dead (C,) bool."""

    stored: Float
    scale: Float
    integers: bool

    @property
    def values(self) -> Float:
        return self.stored * self.scale[:, None]

    @property
    def dead(self) -> list[int]:
        largest = np.abs(self.values).max(axis=1)
        return [int(c) for c in np.flatnonzero(largest <= DEAD * largest.max())]


def recognize_model(
    model: Model, schemes: Mapping[str, str] | None = None
) -> tuple[Model, tuple[LayerRecognition, ...]]:
    """The model with every recognized layer on its levels, and what was found in each layer.

    Layers of the families PoT and APoT, and floats on uniform levels, get `kept` weights in the
    recognized scheme with their scales adjusted. Integers on uniform levels stay as they are.

    Args:
        model: any model.
        schemes: schemes of single layers that a person asked for; a recognized layer is then put
            on the nearest levels of that one.
    """
    wanted = schemes or {}
    layers, found = [], []
    for layer in model.layers:
        if isinstance(layer, Conv) and not layer.structural:
            known = recognize_layer(layer, wanted.get(layer.name))
            found.append(known)
            if known.kept is not None:
                layer = replace(
                    layer, kept=known.kept
                )  # `weight` stays: errors are told against it
        layers.append(layer)
    return replace(model, layers=tuple(layers)), tuple(found)


def recognize_layer(layer: Conv, scheme: str | None = None) -> LayerRecognition:
    """The levels of one layer's weights; see `recognize_model`."""
    weights = _stored(layer)
    alive = sorted(set(range(len(weights.stored))) - set(weights.dead))
    # one channel may always be off grid, unless it is all there is
    may_miss = max(int(len(alive) > 1), int((1 - LEAST_SHARE) * len(alive)))
    integers = weights.integers
    for family in ("PoT", "APoT"):
        channels: dict[int, ChannelLevels] = {}
        for tried, c in enumerate(alive):
            if family == "PoT":
                scale = float(weights.scale[c])
                fit = power_levels(weights.stored[c], integers=integers, scale=scale)
            else:
                fit = sum_levels(weights.stored[c], integers=integers)
            if fit is not None:
                channels[c] = fit
            elif tried + 1 - len(channels) > may_miss:
                break
        else:
            if channels:
                return _recognized(layer, weights, family, channels, scheme)
    return _uniform(layer, weights, alive)


def _stored(layer: Conv) -> _Weights:
    rows = len(layer.weight)
    if layer.kept is not None:
        stored = layer.kept.levels.reshape(rows, -1).astype(np.float64)
        return _Weights(stored, layer.kept.scale, integers=True)
    return _Weights(layer.weight.reshape(rows, -1).astype(np.float64), np.ones(rows), False)


def _recognized(
    layer: Conv,
    weights: _Weights,
    family: Family,
    channels: Mapping[int, ChannelLevels],
    wanted: str | None,
) -> LayerRecognition:
    stored, dead = weights.stored, weights.dead
    off = sorted(set(range(len(stored))) - set(channels) - set(dead))
    zeros = bool(dead) or bool((stored == 0).any())
    smallest = SCHEMES["apot-4"]
    if family == "PoT":
        smallest = smallest_pot(max(fit.top for fit in channels.values()), zeros=zeros)
    scheme = SCHEMES[wanted] if wanted is not None else smallest
    by_top = sorted(channels, key=lambda c: -channels[c].top)
    kinds = Counter(_kind(family, channels[c], stored[c]) for c in by_top)
    kinds.update({"off grid": len(off), "dead": len(dead)})
    over = [fit for fit in channels.values() if fit.top > SCHEMES["pot-4"].max_level]
    for_128 = [
        fit
        for c, fit in channels.items()
        if weights.integers and family == "PoT" and fit.top > 1 and np.abs(stored[c]).max() == 127
    ]
    kept = _on_levels(layer, weights, channels, scheme)
    error = kept.levels.reshape(stored.shape) * kept.scale[:, None] - weights.values
    return LayerRecognition(
        layer.name,
        family,
        scheme.name,
        {kind: count for kind, count in kinds.items() if count},
        tuple(_off_grid(c, weights, family) for c in off),
        len(for_128),
        sum(fit.saturated for fit in for_128),
        tuple(dead),
        sum(int(np.count_nonzero(np.abs(fit.levels) == 1)) for fit in over),
        _power_of_two_scales(weights),
        kept,
        float(np.sum(error**2) / np.sum(weights.values**2)),
    )


def _on_levels(
    layer: Conv, weights: _Weights, channels: Mapping[int, ChannelLevels], scheme: Scheme
) -> KeptWeights:
    """The layer in a scheme: its own levels where the scheme has them, else the nearest ones."""
    levels = np.zeros(weights.stored.shape, np.int16)
    scale = np.zeros(len(levels))
    values = weights.values
    for c in sorted(set(range(len(levels))) - set(weights.dead)):
        fit = channels.get(c)
        if fit is not None and scheme.holds(fit.levels).all():
            levels[c], scale[c] = fit.levels, weights.scale[c] * fit.unit
        else:
            scale[c : c + 1] = search_scales(values[c : c + 1], scheme)
            levels[c] = round_to_levels(values[c] / scale[c], scheme)
    return KeptWeights(levels.reshape(layer.weight.shape), scale)


def _uniform(layer: Conv, weights: _Weights, alive: list[int]) -> LayerRecognition:
    dead = tuple(weights.dead)
    known = LayerRecognition(
        layer.name, dead=dead, power_of_two_scales=_power_of_two_scales(weights)
    )
    if layer.kept is not None:
        exact = keep_exactly(layer.kept)
        if exact is None:
            return known
        kinds = {exact[1].name: len(alive), "dead": len(dead)}
        return replace(
            known,
            family="uniform",
            scheme=exact[1].name,
            kinds={kind: count for kind, count in kinds.items() if count},
            kept=exact[0],
        )
    for name in ("uniform-3", "uniform-4", "uniform-8"):
        channels: dict[int, ChannelLevels] = {}
        for c in alive:
            fit = uniform_levels(weights.stored[c], SCHEMES[name].max_level)
            if fit is None:
                break
            channels[c] = fit
        telling = any(np.unique(np.abs(weights.stored[c])).size > LEAST_VALUES for c in channels)
        if telling and len(channels) == len(alive):
            kinds = {f"{name} in floats": len(alive), "dead": len(dead)}
            return replace(
                known,
                family="uniform",
                scheme=name,
                kinds={kind: count for kind, count in kinds.items() if count},
                kept=_on_levels(layer, weights, channels, SCHEMES[name]),
            )
    return known


def _kind(family: Family, fit: ChannelLevels, stored: Float) -> str:
    zero = "" if (stored == 0).any() else " without zero"
    if family == "APoT":
        return f"APoT with top {fit.top}"
    exponents = fit.top.bit_length()
    return f"PoT of {exponents} exponent{'s' if exponents > 1 else ''}{zero}"


def _off_grid(channel: int, weights: _Weights, family: Family) -> OffGrid:
    """Which weights of a channel lie beside the levels, at the unit that leaves fewest of them."""
    stored = np.abs(weights.stored[channel])
    magnitudes = np.append(0.0, POWERS if family == "PoT" else SUMS)
    step = INTEGER_STEP if weights.integers else 1e-5 * float(stored.max())
    fewest = np.ones(stored.shape, np.bool_)
    for unit in stored.max() / magnitudes[1:]:
        beside = np.abs(stored[:, None] - unit * magnitudes).min(axis=1) > step
        if beside.sum() < fewest.sum():
            fewest = beside
    values = np.unique(stored[fewest])[:SHOWN_VALUES].tolist()
    return OffGrid(channel, int(fewest.sum()), tuple(values))


def _power_of_two_scales(weights: _Weights) -> int:
    if not weights.integers:
        return 0
    mantissas, _ = np.frexp(weights.scale[weights.scale > 0])
    return int(np.count_nonzero(mantissas == 0.5))
