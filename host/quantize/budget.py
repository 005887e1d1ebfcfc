"""Which layer gets which scheme, so that the output suffers least and a budget holds.

A multiple-choice knapsack (Kellerer, Pferschy and Pisinger 2004, chapter 11), solved by dynamic
programming over the budget: exact up to the rounding of costs to steps of the budget, upward, so
that what is chosen always fits. Bits of weights in this way: HAWQ-V3, Yao et al. 2021, arXiv
2011.10680, by integer programming.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError
from bacmac.host.model.layers import Conv, Model
from bacmac.host.quantize.options import QuantizeOptions, check_choice, weighted_layers
from bacmac.host.quantize.sensitivity import Sensitivity

STEPS = 1 << 14
"""Of the budget."""
REFERENCE = "uniform-8"
"""An energy budget is a share of what all layers in this scheme take."""

CANDIDATES = {
    "pot": ("ternary", "pot-3", "pot-4", "uniform-8"),
    "apot": ("pot-3", "pot-4", "apot-4", "uniform-8"),
    "uniform": ("ternary", "uniform-3", "uniform-4", "uniform-8"),
}
"""By the kind of the scheme that is asked for, unless a person or an overlay says otherwise."""

_BUDGET = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(bits?|energy)")


@dataclass(frozen=True)
class Budget:
    """What the weights of a network may cost.

    Attributes:
        kind: "bits": mean bits of a weight; "energy": share of the estimated energy of all
            products in `uniform-8`.
        limit: of that.
        product_costs: of kind "energy": relative cost of one product by scheme. An estimate, from
            whoever knows the hardware; schemes that are not in it are not chosen.

    Raises:
        InputError: a limit that no network can mean, or an energy budget without costs.
    """

    kind: Literal["bits", "energy"]
    limit: float
    product_costs: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        highest = 8.0 if self.kind == "bits" else 1.0
        if not 0.0 < self.limit <= highest:
            raise InputError(
                "options",
                "budget",
                found=f"{self.limit:g}",
                expected=f"above 0, at most {highest:g} ({self.kind})",
            )
        if self.kind == "energy" and self.product_costs.get(REFERENCE, 0.0) <= 0.0:
            raise InputError(
                "options",
                "budget",
                found=f"no cost of a {REFERENCE} product",
                expected="relative costs of products, by scheme",
            )


@dataclass(frozen=True)
class LayerChoice:
    """One layer's part in a budget.

    Attributes:
        layer: its name.
        scheme: chosen.
        bits: of one weight.
        n_weights: how many.
        n_products: products an image, pruned ones included.
        cost: its part of the budget, as a share of the limit.
        sensitivity: mean squared error that it is expected to add to the output, relative to the
            output's variance.
    """

    layer: str
    scheme: str
    bits: int
    n_weights: int
    n_products: int
    cost: float
    sensitivity: float


def parse_budget(text: str, product_costs: Mapping[str, float]) -> Budget:
    """Read "3.5bit" or "0.6energy".

    Raises:
        InputError: neither.
    """
    match = _BUDGET.fullmatch(text.strip())
    if match is None:
        raise InputError(
            "options", "budget", found=repr(text), expected='as "3.5bit" or "0.6energy"'
        )
    kind: Literal["bits", "energy"] = "energy" if match[2] == "energy" else "bits"
    return Budget(kind, float(match[1]), product_costs if kind == "energy" else {})


def candidate_schemes(
    model: Model, options: QuantizeOptions, among: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Between which schemes each layer with weights has a choice; one for those that are settled.

    Args:
        model: the network.
        options: its table and its first and last layer are settled.
        among: names of schemes; empty for CANDIDATES.

    Raises:
        InputError: a name is no scheme.
    """
    for name in among:
        check_choice("budget schemes", name, SCHEMES)
    names = weighted_layers(model)
    free = tuple(among) or CANDIDATES[SCHEMES[options.scheme].kind]
    settled = dict(options.schemes)
    if options.first_last is not None and names:
        settled = {names[0]: options.first_last, names[-1]: options.first_last, **settled}
    return {name: (settled[name],) if name in settled else free for name in names}


def choose_schemes(
    model: Model, sensitivity: Sensitivity, budget: Budget
) -> tuple[LayerChoice, ...]:
    """The scheme of each layer: least summed sensitivity within the budget. Deterministic.

    Args:
        model: the network.
        sensitivity: by layer and candidate scheme; a layer with one candidate is fixed.
        budget: what the layers in it may cost together.

    Raises:
        InputError: the cheapest candidates cost more, or a candidate has no cost.
    """
    weights = {layer.name: layer for layer in model.layers if isinstance(layer, Conv)}
    layers = list(sensitivity)
    n_weights = {name: int(weights[name].weight.size) for name in layers}
    n_products = {name: n_weights[name] * int(np.prod(model.shapes[name][1:])) for name in layers}
    candidates = {name: _affordable(name, list(sensitivity[name]), budget) for name in layers}

    def cost(name: str, scheme: str) -> float:
        """As a share of the limit."""
        if budget.kind == "bits":
            return n_weights[name] * SCHEMES[scheme].bits / (sum(n_weights.values()) * budget.limit)
        whole = sum(n_products.values()) * budget.product_costs[REFERENCE] * budget.limit
        return n_products[name] * budget.product_costs[scheme] / whole

    costs = [[cost(name, scheme) for scheme in candidates[name]] for name in layers]
    losses = [[sensitivity[name][scheme] for scheme in candidates[name]] for name in layers]
    least = sum(min(row) for row in costs)
    if least > 1.0 + 1e-9:
        raise InputError(
            model.source or model.name,
            "budget",
            found=f"{budget.limit:g} {budget.kind}",
            expected=f"at least {least * budget.limit:.3g}, which the cheapest of the candidate "
            "schemes take",
        )
    picks = _with_what_is_left(_knapsack(costs, losses), costs, losses)
    return tuple(
        LayerChoice(
            name,
            candidates[name][pick],
            SCHEMES[candidates[name][pick]].bits,
            n_weights[name],
            n_products[name],
            costs[number][pick],
            losses[number][pick],
        )
        for number, (name, pick) in enumerate(zip(layers, picks, strict=True))
    )


def _affordable(layer: str, candidates: list[str], budget: Budget) -> list[str]:
    if budget.kind == "bits":
        return candidates
    known = [scheme for scheme in candidates if scheme in budget.product_costs]
    if not known:
        raise InputError(
            "options",
            f"budget, layer {layer!r}",
            found=", ".join(candidates),
            expected=f"a scheme whose product has a known cost: {', '.join(budget.product_costs)}",
        )
    return known


def _knapsack(costs: Sequence[Sequence[float]], losses: Sequence[Sequence[float]]) -> list[int]:
    """Index chosen of each row: least sum of losses, sum of costs at most 1.

    Costs are rounded up to steps; but the cheapest choice of all rows may be allowed only by less
    than that, so each row counts what it costs beyond its cheapest.
    """
    cheapest = [min(row) for row in costs]
    spare = max(0.0, 1.0 - sum(cheapest))
    best = np.zeros(STEPS + 1)
    picked = []
    for row, loss, least in zip(costs, losses, cheapest, strict=True):
        tried = np.full((len(row), STEPS + 1), np.inf)
        for choice, value in enumerate(row):
            beyond = value - least
            steps = 0 if beyond <= 0 else STEPS + 1
            if beyond > 0 and spare > 0:
                steps = min(steps, int(np.ceil(beyond / spare * STEPS - 1e-9)))
            if steps <= STEPS:
                tried[choice, steps:] = best[: STEPS + 1 - steps] + loss[choice]
        picks = tried.argmin(axis=0)
        best = tried[picks, np.arange(STEPS + 1)]
        picked.append((picks, row, least))
    left, chosen = STEPS, []
    for picks, row, least in reversed(picked):
        choice = int(picks[left])
        chosen.append(choice)
        beyond = row[choice] - least
        if beyond > 0:
            left -= int(np.ceil(beyond / spare * STEPS - 1e-9))
    return chosen[::-1]


def _with_what_is_left(
    picks: list[int], costs: Sequence[Sequence[float]], losses: Sequence[Sequence[float]]
) -> list[int]:
    """Spend what the rounding of costs left over, the largest gain first."""
    picks = list(picks)
    while True:
        left = 1.0 + 1e-12 - sum(row[pick] for row, pick in zip(costs, picks, strict=True))
        gains = [
            (losses[row][picks[row]] - losses[row][choice], -row, -choice)
            for row in range(len(costs))
            for choice in range(len(costs[row]))
            if losses[row][choice] < losses[row][picks[row]]
            and costs[row][choice] - costs[row][picks[row]] <= left
        ]
        if not gains:
            return picks
        _, row, choice = max(gains)
        picks[-row] = -choice
