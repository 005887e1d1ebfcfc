"""What a network loses: from shares and structures to a selection for each layer.

`magnitude` and `pot-aware` say at once which weights go (`masks`). `compensated` only says how
many: which ones is decided layer by layer, when it is known what the layer is fed and how the
others can take over (`model.sparse_fit`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.groups import GroupCut, cut_groups
from bacmac.host.errors import InputError
from bacmac.host.model.forward import FloatTensor
from bacmac.host.model.layers import Conv, Model
from bacmac.host.model.sparse_fit import Fixed, Selection
from bacmac.host.prune.allocate import Candidate, share_out
from bacmac.host.prune.masks import METHODS as MASK_METHODS
from bacmac.host.prune.masks import SCOPES, prune
from bacmac.host.prune.structures import (
    Both,
    Pattern,
    Units,
    group_numbers,
    parse_pattern,
    unit_numbers,
)

Progress = Callable[[str, int, int], None]

COMPENSATED = "compensated"
METHODS = (COMPENSATED, *MASK_METHODS)


@dataclass(frozen=True)
class Pruning:
    """What goes to zero.

    Attributes:
        sparsity: share of units made zero, 0 to below 1.
        sparsities: shares of single layers; these leave the global pool.
        structure: what a unit is: one of STRUCTURES, or a pattern "N:M", which is its own share.
        structures: of single layers.
        method: one of METHODS; all but "compensated" know single weights alone.
        scope: reach a share in each "layer", or "global" over all of them together; None: global
            where the method is "compensated".
        group_sparsity: share of the array's time that empty groups save ("global"), or of each
            layer's groups ("layer"). `sparsity` counts the weights of empty groups too.
        group_sparsities: shares of single layers.
        group: output channels and inputs of a group; needed where groups go.
        exclude: layers that neither `sparsity` nor `structure` applies to.

    Raises:
        InputError: a value is out of range, not one of its choices, or contradicts another.
    """

    sparsity: float = 0.0
    sparsities: Mapping[str, float] = field(default_factory=dict)
    structure: str = "weight"
    structures: Mapping[str, str] = field(default_factory=dict)
    method: str = COMPENSATED
    scope: str | None = None
    group_sparsity: float = 0.0
    group_sparsities: Mapping[str, float] = field(default_factory=dict)
    group: tuple[int, int] | None = None
    exclude: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            _refuse("pruning", repr(self.method), f"one of {', '.join(METHODS)}")
        if self.scope is not None and self.scope not in SCOPES:
            _refuse("scope", repr(self.scope), f"one of {', '.join(SCOPES)}")
        shares = {"sparsity": self.sparsity, "group_sparsity": self.group_sparsity}
        shares |= {f"sparsities[{name!r}]": share for name, share in self.sparsities.items()}
        for name, share in self.group_sparsities.items():
            shares[f"group_sparsities[{name!r}]"] = share
        for name, share in shares.items():
            if not 0.0 <= share < 1.0:
                _refuse(name, str(share), "0 to below 1")
        if self.prunes_groups and self.group is None:
            _refuse("group", "none", "the group shape of an overlay")
        if self.group is not None and min(self.group) < 1:
            _refuse("group", "x".join(map(str, self.group)), "sides above 0")
        named = {self.structure, *self.structures.values()}
        patterns = {name for name in named if parse_pattern(name) is not None}
        if self.method != COMPENSATED and (named != {"weight"} or self.prunes_groups):
            _refuse("pruning", self.method, f"{COMPENSATED}, for anything but single weights")
        if self.structure in patterns and self.sparsity:
            _refuse("sparsity", str(self.sparsity), f"0: {self.structure} says how many stay")
        for name in self.sparsities:
            if self.structures.get(name, self.structure) in patterns:
                _refuse(f"sparsities[{name!r}]", "a share", "none: its structure is a pattern")

    @property
    def prunes_groups(self) -> bool:
        """Whether any layer loses whole groups."""
        return self.group_sparsity > 0 or any(self.group_sparsities.values())

    @property
    def prunes_units(self) -> bool:
        """Whether any layer loses weights, channels, blocks or tiles, or has a pattern."""
        named = (self.structure, *self.structures.values())
        shares = (self.sparsity, *self.sparsities.values())
        return any(shares) or any(parse_pattern(name) is not None for name in named)


def selections(
    model: Model,
    images: FloatTensor,
    pruning: Pruning,
    scales: Callable[[], Mapping[str, npt.NDArray[np.float64]]],
    progress: Progress | None = None,
) -> dict[str, Selection]:
    """The selection of each layer that loses weights. Deterministic.

    Args:
        model: the float network.
        images: (N, C, H, W) normalized images like those it will see.
        pruning: what to do.
        scales: gives (C_out,) weight scales by layer; called for "pot-aware" alone.
        progress: called with a stage, how much is done and of how much.

    Raises:
        InputError: a table names a layer that cannot lose what it is to lose.
    """
    layers = {
        layer.name: layer
        for layer in model.layers
        if isinstance(layer, Conv) and not layer.structural
    }
    _check_names("sparsity", [*pruning.sparsities, *pruning.structures, *pruning.exclude], layers)
    if pruning.method != COMPENSATED:
        masks = prune(
            model,
            pruning.sparsity,
            method=pruning.method,
            scope=pruning.scope or "layer",
            sparsities=pruning.sparsities,
            exclude=set(pruning.exclude) - set(pruning.sparsities),
            scales=scales() if pruning.method == "pot-aware" and pruning.prunes_units else None,
        )
        return {name: Fixed(mask) for name, mask in masks.items()}
    groups = _groups(model, layers, images, pruning, progress)
    units = _units(model, layers, images, pruning, progress)
    together: dict[str, Selection] = {**groups, **units}
    for name in set(groups) & set(units):
        together[name] = Both(groups[name], units[name])
    return together


def layer_cut(model: Model, layer: Conv, group: tuple[int, int]) -> GroupCut:
    """The groups of a layer of `model`."""
    dense = (
        layer.weight.shape[2:] == model.shapes[layer.input][1:]
        and not any(layer.padding)
        and layer.groups == 1
    )
    outputs, inputs = group
    return cut_groups(layer.weight.shape, layer.groups, dense=dense, outputs=outputs, inputs=inputs)


def _units(
    model: Model,
    layers: Mapping[str, Conv],
    images: FloatTensor,
    pruning: Pruning,
    progress: Progress | None,
) -> dict[str, Units | Pattern]:
    """Of each layer that loses weights, channels, blocks or tiles, or has a pattern."""
    if not pruning.prunes_units:
        return {}
    chosen: dict[str, Units | Pattern] = {}
    pool: dict[str, Candidate] = {}
    for name, layer in layers.items():
        if name in pruning.exclude and name not in {**pruning.sparsities, **pruning.structures}:
            continue
        structure = pruning.structures.get(name, pruning.structure)
        shape = layer.weight.shape
        pattern = parse_pattern(structure)
        if pattern is not None:
            chosen[name] = Pattern(*pattern, shape)
            continue
        share = pruning.sparsities.get(name, pruning.sparsity)
        if structure == "channel" and name not in pruning.sparsities and layer is _last(layers):
            continue
        number = unit_numbers(structure, shape)
        candidate = Candidate(number, layer.weight.size / (int(number.max()) + 1))
        if pruning.scope != "layer" and name not in pruning.sparsities:
            pool[name] = candidate
        elif share:
            chosen[name] = Units(number, round(share * candidate.n_units))
    counts = share_out(model, images, pool, pruning.sparsity, progress)
    chosen.update({name: Units(pool[name].number, n) for name, n in counts.items() if n})
    return chosen


def _groups(
    model: Model,
    layers: Mapping[str, Conv],
    images: FloatTensor,
    pruning: Pruning,
    progress: Progress | None,
) -> dict[str, Units]:
    """Of each layer that loses groups.

    The first and the last layer are left whole unless `group_sparsities` names them, and so are
    grouped (depthwise) convolutions, whose groups are mostly empty slots.
    """
    if not pruning.prunes_groups or pruning.group is None:
        return {}
    possible = {name: layer for name, layer in layers.items() if layer.groups == 1}
    _check_names("group_sparsity", pruning.group_sparsities, possible)
    names = list(layers)
    chosen: dict[str, Units] = {}
    pool: dict[str, Candidate] = {}
    for name, layer in possible.items():
        if name in (names[0], names[-1]) and name not in pruning.group_sparsities:
            continue
        number = group_numbers(layer_cut(model, layer, pruning.group), layer.weight.shape)
        pixels = float(np.prod(model.shapes[name][1:]))
        candidate = Candidate(number, pixels)
        if pruning.scope != "layer" and name not in pruning.group_sparsities:
            pool[name] = candidate
            continue
        share = pruning.group_sparsities.get(name, pruning.group_sparsity)
        if share:
            chosen[name] = Units(number, round(share * candidate.n_units))
    if not pool and not chosen:
        raise InputError(
            model.source or model.name,
            "group_sparsity",
            found="no layer beside the first and the last, which are left whole",
            expected="one, or a share for one of these by its name",
        )
    counts = share_out(model, images, pool, pruning.group_sparsity, progress)
    chosen.update({name: Units(pool[name].number, n) for name, n in counts.items() if n})
    return chosen


def _last(layers: Mapping[str, Conv]) -> Conv:
    """The layer whose channels are the network's outputs, which none can spare."""
    return list(layers.values())[-1]


def _check_names(table: str, names: Collection[str], layers: Collection[str]) -> None:
    for name in names:
        if name not in layers:
            raise InputError(
                table,
                f"layer {name!r}",
                found="no layer of this name that it applies to",
                expected=f"one of {', '.join(layers)}",
            )


def _refuse(name: str, found: str, expected: str) -> None:
    raise InputError("options", name, found=found, expected=expected)
