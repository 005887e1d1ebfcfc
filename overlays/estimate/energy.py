"""An energy estimate of one inference, part by part, in toggle units. Never a measurement.

What each part rests on is said with it:

    array         netlist activity: toggles counted in the synthesized lane on the network's own
                  activations and weights (`lane_cost`), times lanes and busy cycles
    memories      bytes the layers move, at an energy a byte
    other logic   LUTs of the synthesized modules at an assumed rate of change, in the cycles in
                  which they work; 12.5 % is what AMD's tools assume where nothing is known
                  (UG907, "default toggle rate")
    clock         flip-flops of all modules outside the array, every cycle

Not in it: the streams and the DMA, reads of constants, descriptors and group lists, leakage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bacmac.host.compile.descriptor import Flag
from bacmac.host.compile.program import Program
from bacmac.host.errors import MismatchError
from bacmac.overlays.estimate.activity import COEFFICIENTS, Events
from bacmac.overlays.estimate.configurations import Configuration
from bacmac.overlays.estimate.lane_cost import LaneCost
from bacmac.overlays.estimate.sites import Resources
from bacmac.overlays.estimate.synthesis import ARRAY, Utilisation

ARRAY_PART = "array"
TOGGLE_RATE = 0.125
"""Changes of a LUT's output a cycle, assumed (UG907)."""
PINS = 3.0
"""Pins that a LUT's output reaches, assumed: a net and two more."""
DSP_UNITS = 50.0
"""Toggle units of one product of a DSP48E2, assumed: a hard block takes about a tenth of what the
same multiplier takes in LUTs (Kuon and Rose, IEEE TCAD 26-2, 2007); 17 x 15 bits are 4 to 5 times
the 8 x 7 bits of a mac-uniform8 product."""
DSP_PRODUCTS = 2
"""Hard products a stored value needs, and as many again where a residual is added."""
FETCH = ("bacmac_activations", "bacmac_engine", "bacmac_weights")
"""Modules that work in busy cycles."""
SCALES = (0.5, 1.0, 2.0)
"""Factors on all that is assumed outside the array, for the sensitivity."""


@dataclass(frozen=True)
class ByteCosts:
    """Energy of a byte of a memory, in toggle units: read from weights, moved in activations."""

    weight: float
    activation: float


@dataclass(frozen=True)
class Part:
    """Energy of one part of the accelerator for one inference.

    Attributes:
        name: "array", "activation memory", ...
        func, glitch: toggle units, by settled values and with glitches; equal where the part was
            not simulated.
        basis: what the number rests on.
    """

    name: str
    func: float
    glitch: float
    basis: str


@dataclass(frozen=True)
class Estimate:
    """One network on one configuration.

    Attributes:
        configuration, network: names.
        sparsity: share of zero weights that pruning was asked for.
        coefficients: name of the set.
        cycles: of one inference, streams apart.
        parts: the array first.
    """

    configuration: str
    network: str
    sparsity: float
    coefficients: str
    cycles: int
    parts: tuple[Part, ...]

    @property
    def array(self) -> tuple[float, float]:
        """Toggle units of the array: func, glitch."""
        return self.parts[0].func, self.parts[0].glitch

    @property
    def total(self) -> tuple[float, float]:
        """Toggle units of the accelerator: func, glitch."""
        return sum(p.func for p in self.parts), sum(p.glitch for p in self.parts)


@dataclass(frozen=True)
class Ratio:
    """Energy of a MAC over that of a BAC: above 1 the BAC takes less.

    Attributes:
        baseline: name of the MAC configuration.
        bac: name of the BAC configuration.
        sparsity: of both networks.
        scope: "array" or "accelerator".
        base: func and glitch with the base coefficients.
        lowest, highest: over all coefficient sets, both counts, and for the accelerator over all
            SCALES too.
    """

    baseline: str
    bac: str
    sparsity: float
    scope: str
    base: tuple[float, float]
    lowest: float
    highest: float


def estimate_energy(
    configuration: Configuration,
    utilisation: Utilisation,
    lane: LaneCost,
    program: Program,
    costs: ByteCosts,
    *,
    network: str,
    sparsity: float,
    coefficients: str = "base",
) -> Estimate:
    """Energy of one inference, streams apart.

    Args:
        configuration: that the network runs on.
        utilisation: of the whole accelerator.
        lane: what its lane does on this network.
        program: the network compiled for it: cycles, bytes and outputs are exact.
        costs: of the memories.
        network: a name.
        sparsity: that pruning was asked for.
        coefficients: name of a set of `activity.COEFFICIENTS`.
    """
    weights, work = COEFFICIENTS[coefficients], program.image_work
    lanes = configuration.geometry.outputs
    convolutions = [layer for layer in program.layers if layer.work.products_done]
    array_cycles = sum(layer.work.busy_cycles for layer in convolutions)
    settled, transitions = lane.settled.weighed(weights), lane.transitions.weighed(weights)
    stored = sum(_values(program))
    requantize = utilisation.module("bacmac_requantize")
    fetch = sum((utilisation.module(name) for name in FETCH), Resources())
    seen = (*ARRAY, "bacmac_requantize", *FETCH)
    others = [u.resources for u in utilisation.modules if u.module.split()[0] not in seen]
    control = sum(others, Resources())
    outside = utilisation.total.ff - utilisation.array.ff
    idle = utilisation.array.ff * (work.cycles - array_cycles)
    rate = _logic(weights)
    clock = weights.clock * (outside * work.cycles + idle)
    assumed = f"assumed: {TOGGLE_RATE:.1%} of the LUTs change in a cycle"
    parts = (
        Part(
            ARRAY_PART,
            settled * lanes * array_cycles,
            transitions * lanes * array_cycles,
            "netlist activity",
        ),
        _same("weight memory", costs.weight * work.weight_bytes, "bytes, energy a byte assumed"),
        _same(
            "activation memory",
            costs.activation * work.activation_bytes,
            "bytes, energy a byte assumed",
        ),
        _same("fetch logic", rate * fetch.lut_sites * work.busy_cycles, assumed),
        _same(
            "requantize",
            # each of its LUTs sees one new value for each value that is stored
            2 * rate * requantize.lut_sites / lanes * stored + DSP_UNITS * _hard_products(program),
            "assumed: a quarter of the LUTs change for each value; "
            f"{DSP_UNITS:g} units a product of a DSP48E2",
        ),
        _same("control", rate * control.lut_sites * work.cycles, assumed),
        _same("clock outside the array", clock, "flip-flops, every cycle"),
    )
    return Estimate(configuration.name, network, sparsity, coefficients, work.cycles, parts)


def ratios(estimates: Iterable[Estimate], macs: Sequence[str], bacs: Sequence[str]) -> list[Ratio]:
    """Every MAC over every BAC of the same sparsity, with the range over all coefficients.

    Args:
        estimates: of each configuration and sparsity, one for every set of coefficients.
        macs: names of the baselines.
        bacs: names of the others.

    Raises:
        MismatchError: an estimate with the base coefficients is missing.
    """
    by_key: dict[tuple[str, float], dict[str, Estimate]] = {}
    for estimate in estimates:
        key = (estimate.configuration, estimate.sparsity)
        by_key.setdefault(key, {})[estimate.coefficients] = estimate
    if any("base" not in sets for sets in by_key.values()):
        raise MismatchError("estimates", "coefficients", found="no base set", expected="base")
    found = []
    for mac, sparsity in by_key:
        for bac in bacs:
            if mac not in macs or (bac, sparsity) not in by_key:
                continue
            ours, theirs = by_key[bac, sparsity], by_key[mac, sparsity]
            for scope, scales in (("array", (1.0,)), ("accelerator", SCALES)):
                spread = [
                    value
                    for name in ours.keys() & theirs.keys()
                    for scale in scales
                    for value in _quotients(theirs[name], ours[name], scope, scale)
                ]
                base = _quotients(theirs["base"], ours["base"], scope, 1.0)
                found.append(Ratio(mac, bac, sparsity, scope, base, min(spread), max(spread)))
    return found


def _quotients(mac: Estimate, bac: Estimate, scope: str, scale: float) -> tuple[float, float]:
    one, other = (_scaled(e, scale) if scope == "accelerator" else e.array for e in (mac, bac))
    return one[0] / other[0], one[1] / other[1]


def _scaled(estimate: Estimate, scale: float) -> tuple[float, float]:
    """The total with all outside the array times a factor."""
    parts = (estimate.parts[0], *(_times(p, scale) for p in estimate.parts[1:]))
    return replace(estimate, parts=parts).total


def _times(part: Part, scale: float) -> Part:
    return replace(part, func=part.func * scale, glitch=part.glitch * scale)


def _same(name: str, units: float, basis: str) -> Part:
    return Part(name, units, units, basis)


def _logic(weights: Events) -> float:
    """Toggle units of a LUT in a cycle at the assumed rate."""
    return TOGGLE_RATE * (weights.lut + weights.net + (PINS - 1) * weights.sink)


def _values(program: Program) -> list[int]:
    """Values that each layer stores for one image."""
    return [d.out_h * d.out_w * d.out_c for d in program.descriptors]


def _hard_products(program: Program) -> int:
    """Products of the requantizer's DSP blocks for one image."""
    values = zip(_values(program), program.descriptors, strict=True)
    return sum(n * DSP_PRODUCTS * (2 if d.flags & Flag.RESIDUAL else 1) for n, d in values)
