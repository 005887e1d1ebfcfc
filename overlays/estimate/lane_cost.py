"""What a lane and its accumulators do in a cycle when a network runs: counted in the netlist.

The lane is simulated as it was synthesized, on activations and weights of the network in the
array's own order, and must give NumPy's dot products or there is no result. The accumulator and the
shadow weights lie outside that netlist (they are memories and registers with enables); their
changes are counted from the same values, one for one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.array_codes import MAGNITUDES, own_signs, relative_signs
from bacmac.host.arith.network import IntegerNetwork
from bacmac.overlays.estimate.activity import (
    Activity,
    Events,
    Integers,
    Words,
    integers_of,
    simulate,
    words_of,
)
from bacmac.overlays.estimate.capture import STREAMS, Trace, capture_layers, sample_trace
from bacmac.overlays.estimate.configurations import Configuration
from bacmac.overlays.estimate.netlist import read_graph
from bacmac.overlays.estimate.synthesis import LANE, lane_netlist

LATENCY = 3
WARM = 4
"""Cycles at the beginning that are not counted: the lane's pipeline fills."""
ACCUMULATOR_BITS = 32
TRIPLES = (0, 4)
"""Product terms that take three times the activation."""


@dataclass(frozen=True)
class LaneCost:
    """Events of one lane in one busy cycle, the mean over a sample of a network's run.

    Attributes:
        settled, transitions: of product terms, tree, accumulator, weight registers and the lane's
            share of the activation registers; without glitches, and with them.
        n_products: products of a lane in a cycle.
        zero_share: of the weight slots in the sample.
        n_cycles: lane cycles in the sample.
    """

    settled: Events
    transitions: Events
    n_products: int
    zero_share: float
    n_cycles: int

    def units(self, weights: Events) -> tuple[float, float]:
        """Toggle units of one product slot: func (settled values) and glitch."""
        settled, transitions = self.settled.weighed(weights), self.transitions.weighed(weights)
        return settled / self.n_products, transitions / self.n_products


def count_lane(
    configuration: Configuration,
    network: IntegerNetwork,
    codes: npt.NDArray[np.integer],
    *,
    cycles: int = 1024,
    seed: int = 0,
) -> LaneCost:
    """Simulate a lane of a configuration on a network.

    Args:
        configuration: whose lane.
        network: its levels must be the configuration's scheme's.
        codes: (n, C, H, W) input codes of the images that are sampled from.
        cycles: of each of the 64 stretches.
        seed: of where the stretches begin.

    Raises:
        MissingExtraError, OverlayError: no yosys, or it refuses the sources.
        DeviceError: there is no C compiler.
    """
    geometry = configuration.geometry
    layers = [
        layer
        for image in codes
        for layer in capture_layers(
            network, image, inputs=geometry.inputs, outputs=geometry.outputs
        )
    ]
    return count_trace(configuration, sample_trace(layers, cycles, seed))


def count_trace(configuration: Configuration, trace: Trace) -> LaneCost:
    """The cost of a lane on given activations and weights, see `count_lane`."""
    geometry, scheme = configuration.geometry, configuration.manifest.scheme
    graph = read_graph(lane_netlist(configuration), LANE)
    stimulus = _stimulus(trace, scheme, configuration.lane_parameters["MAG"], geometry.inputs)
    shared = {"a": float(geometry.outputs), "a3": float(geometry.outputs)}
    if configuration.product not in TRIPLES:
        stimulus["a3"][:] = 0  # the array has no such registers
        shared["a3"] = np.inf
    counted = simulate(graph, stimulus, warm=WARM, shared=shared)
    _check(counted, trace)
    outside = _accumulator(trace) + _shadow(stimulus)
    glitches = _ratio(counted.transitions.carry, counted.settled.carry)
    return LaneCost(
        counted.settled + outside,
        # the accumulator's adder glitches as the adders before it do
        counted.transitions + outside + Events(carry=outside.carry * (glitches - 1)),
        geometry.inputs,
        float((trace.levels[WARM:] == 0).mean()),
        (len(trace.levels) - WARM) * STREAMS,
    )


def _stimulus(trace: Trace, scheme: str, bits: int, inputs: int) -> dict[str, Words]:
    table = np.array(MAGNITUDES[scheme])
    code_of = np.zeros(129, np.int64)
    for code in reversed(range(len(table))):
        code_of[table[code]] = code
    magnitudes = np.abs(trace.levels.astype(np.int16))
    if not np.isin(magnitudes, table).all():
        raise ValueError(f"the trace has levels that {scheme} has not")
    activations = trace.activations.astype(np.int64)
    signs = relative_signs(own_signs(trace.levels.reshape(-1, inputs))).reshape(magnitudes.shape)
    return {
        "a": words_of(activations, 8),
        "a3": words_of(3 * activations, 10),
        "magnitude": words_of(code_of[magnitudes], bits),
        "sign": words_of(signs, 1),
    }


def _check(counted: Activity, trace: Trace) -> None:
    """The netlist's sums are NumPy's, or it is a bug of ours."""
    sums = integers_of(counted.outputs["sum"], signed=True)
    negative = integers_of(counted.outputs["negate"], signed=False)
    dots = _dots(trace)
    if not np.array_equal(np.where(negative == 1, -sums, sums)[LATENCY:], dots[:-LATENCY]):
        raise AssertionError("the netlist of the lane does not compute the dot product")


def _accumulator(trace: Trace) -> Events:
    """Of the memory that holds the sums, the adder behind it and what it writes back."""
    dots, before = _dots(trace)[WARM:], trace.base[WARM:]
    after = before + dots
    read, added, written = _changes(before), _changes(before ^ dots), _changes(after)
    stored = _ones(_unsigned(before ^ after)) / before.size
    return Events(
        lut=read + added,
        carry=written,
        register=stored,
        net=read + written + _changes(dots),
        clock=ACCUMULATOR_BITS,
    )


def _shadow(stimulus: dict[str, Words]) -> Events:
    """Of the registers that the next group is loaded into: they change as the active ones do."""
    changes, bits = 0.0, 0
    for name in ("magnitude", "sign"):
        words = stimulus[name][WARM:]
        changes += _ones(words[1:] ^ words[:-1]) / ((len(words) - 1) * STREAMS)
        bits += words.shape[1]
    return Events(register=changes, net=changes, clock=bits)


def _dots(trace: Trace) -> Integers:
    dots: Integers = np.einsum(
        "csi,csi->cs", trace.activations.astype(np.int64), trace.levels.astype(np.int64)
    )
    return dots


def _changes(values: Integers) -> float:
    """Bits that change from cycle to cycle, a stream's mean."""
    words = _unsigned(values)
    return _ones(words[1:] ^ words[:-1]) / words[1:].size


def _ones(words: npt.NDArray[np.unsignedinteger]) -> int:
    """Bits that are set."""
    return int(np.unpackbits(np.ascontiguousarray(words).view(np.uint8)).sum())


def _unsigned(values: Integers) -> npt.NDArray[np.uint32]:
    return values.astype(np.uint32)  # modulo 2**32, as the accumulator


def _ratio(one: float, other: float) -> float:
    return one / other if other else 1.0
