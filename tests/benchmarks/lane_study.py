"""What a lane costs for each product term and weight format: LUT sites, toggles, ratios.

An estimate and no measurement: yosys netlists (synth_xilinx -family xcup), settled values and
glitches of a transport-delay model, events weighed by COEFFICIENTS (overlays/estimate). Every
netlist's sums are checked against NumPy. Ratios are energy proxy of the baseline, the best 4-bit
multiplier found (`mac uniform-4 shared 3a`), to that of the row: above 1 the row is cheaper. The
range is over the sets of coefficients.

    python tests/benchmarks/lane_study.py formats      # every candidate, Gaussian weights
    python tests/benchmarks/lane_study.py digits       # the shipped example, dense and pruned
    python tests/benchmarks/lane_study.py resnet20     # the same of ResNet-20 (data: BACMAC_DATA)
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from accuracy import DIGITS, RESNET20, Case, _inputs, _labels
from lane_candidates import (
    BASELINE,
    LATENCY,
    OTHERS,
    SCHEMES,
    SHIPPED,
    THREE_BITS,
    Array,
    Candidate,
)
from scipy.spatial import cKDTree

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import IntegerNetwork
from bacmac.host.model.inputs import Codes, input_codes
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.overlays.estimate.activity import (
    COEFFICIENTS,
    STREAMS,
    Events,
    integers_of,
    simulate,
    words_of,
)
from bacmac.overlays.estimate.capture import Trace, capture_layers, sample_trace
from bacmac.overlays.estimate.netlist import read_graph
from bacmac.overlays.estimate.sites import count_cells
from bacmac.overlays.estimate.yosys import synthesize

INPUTS, LANES = 16, 16
WARM = 8
HOLD = 32
CORRELATION = 0.5
SPARSITIES = (0.0, 0.3, 0.5, 0.7)
PRUNED = ("uniform-4", "pot-4e4", "pot-3", "uniform-3")
"""Schemes that are measured pruned too."""


@dataclass(frozen=True)
class Cost:
    """One product of one lane.

    Attributes:
        sites, flip_flops: with a product's share of the tree, the accumulator's adder and of what
            lanes share; without the registers of activations and weights.
        depth: LUTs and carry chains on the longest path.
        settled, transitions: events a cycle, registers of activations and weights included.
    """

    sites: float
    flip_flops: float
    depth: tuple[int, int]
    settled: Events
    transitions: Events

    def proxies(self) -> list[tuple[float, float]]:
        """(func, glitch) by set of coefficients, the base set first."""
        return [
            (self.settled.weighed(w), self.transitions.weighed(w)) for w in COEFFICIENTS.values()
        ]


def measure(candidate: Candidate, trace: Trace) -> Cost:
    """Synthesize, simulate, check against NumPy, count."""
    dsp = "*" not in candidate.name  # the straightforward multiplier is one of LUTs
    netlist = synthesize("study", candidate.parameters, sources=candidate.sources, dsp=dsp)
    graph = read_graph(netlist, "study")
    a, levels = trace.activations.astype(np.int64), trace.levels.astype(np.int64)
    counted = simulate(
        graph,
        candidate.stimulus(a, levels, trace.base),
        warm=WARM,
        shared={"a": LANES, "a3": LANES, "t": LANES},
    )
    expected = trace.base + (a * levels).sum(-1)
    found = integers_of(counted.outputs["total"], signed=True)
    if not np.array_equal(found[LATENCY + 1 :], expected[: -LATENCY - 1]):
        raise AssertionError(f"{candidate.name}: the netlist is not the dot product")
    cells = count_cells("study", netlist["modules"]["study"]["cells"])
    settled, transitions, sites = counted.settled, counted.transitions, cells.lut_sites
    if candidate.front:
        shared = synthesize("front", {}, sources={"front.sv": candidate.front}, dsp=False)
        made = simulate(read_graph(shared, "front"), {"a": words_of(a, 8)}, warm=WARM)
        # its registers, and their wires into the lanes, are the lane's inputs and counted there
        settled += _logic(made.settled).times(1 / LANES)
        transitions += _logic(made.transitions).times(1 / LANES)
        sites += count_cells("front", shared["modules"]["front"]["cells"]).lut_sites / LANES
    share = 1 / INPUTS
    return Cost(
        sites * share, cells.ff * share, graph.depth, settled.times(share), transitions.times(share)
    )


def _logic(events: Events) -> Events:
    return Events(lut=events.lut, carry=events.carry)


def random_trace(candidate: Candidate, *, laplace: bool = False, cycles: int = 328) -> Trace:
    """ReLU of correlated Gaussian activations (half are zero); weights held for HOLD cycles."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(cycles, STREAMS, INPUTS))
    for t in range(1, cycles):
        noise[t] = CORRELATION * noise[t - 1] + np.sqrt(1 - CORRELATION**2) * noise[t]
    a = np.clip(np.rint(56 * noise), 0, 255).astype(np.uint8)
    held = -(-cycles // HOLD)
    levels, _ = quantized(candidate, _weights(laplace, (held, STREAMS, INPUTS)))
    levels = levels.repeat(HOLD, axis=0)[:cycles]
    dots = (a * levels).sum(-1)
    before = rng.integers(0, 36, (held, STREAMS)).repeat(HOLD, axis=0)[:cycles]  # groups
    base = np.rint(rng.normal(size=dots.shape) * dots.std() * np.sqrt(before)).astype(np.int64)
    return Trace(a, levels.astype(np.int8), base)


def quantized(candidate: Candidate, weights: np.ndarray) -> tuple[Array, float]:
    """Nearest levels at the scale of the least squared error, and the SNR in dB."""
    size = candidate.levels.shape[1]
    tree = cKDTree(candidate.levels.astype(float))
    vectors = weights.reshape(-1, size)
    top, best, best_error = candidate.levels.max(), 1.0, np.inf
    for clip in np.geomspace(0.8, 8, 60):
        distance, _ = tree.query(vectors[:20000] * (top / clip))
        error = float((distance**2).mean()) * (clip / top) ** 2
        if error < best_error:
            best, best_error = clip, error
    _, nearest = tree.query(vectors * (top / best))
    levels: Array = candidate.levels[nearest].reshape(weights.shape)
    return levels, -10 * np.log10(best_error / float((vectors[:20000] ** 2).sum(1).mean()))


def _weights(laplace: bool, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.laplace(size=shape) if laplace else rng.normal(size=shape)


def ratios(baseline: Cost, cost: Cost) -> str:
    """Func and glitch with the base set, and the range of each over all sets."""
    columns = np.array(baseline.proxies()) / np.array(cost.proxies())
    return " | ".join(
        f"{ratio[0]:.2f} ({ratio.min():.2f} .. {ratio.max():.2f})" for ratio in columns.T
    )


def print_formats() -> None:
    """Every candidate, on Gaussian weights."""
    print("| lane | bits | SNR dB, Gaussian / Laplace | LUT sites | FF | LUTs + chains", end="")
    print(" | func / glitch | ratio func | ratio glitch |\n|" + "---|" * 9)
    baseline = None
    for candidate in (*SHIPPED, *THREE_BITS, *OTHERS):
        cost = measure(candidate, random_trace(candidate))
        baseline = baseline or cost
        snr = [quantized(candidate, _weights(laplace, (20000, 4)))[1] for laplace in (False, True)]
        (func, glitch), *_ = cost.proxies()
        print(
            f"| {candidate.name} | {candidate.bits:.2f} | {snr[0]:.1f} / {snr[1]:.1f} "
            f"| {cost.sites:.1f} | {cost.flip_flops:.1f} | {cost.depth[0]} + {cost.depth[1]} "
            f"| {func:.1f} / {glitch:.1f} | {ratios(baseline, cost)} |",
            flush=True,
        )


def print_network(case: Case, images: int, cycles: int) -> None:
    """The lanes on a real network, by sparsity; accuracy over the whole test set."""
    print(f"{case.title}; ratios against {BASELINE} at the same sparsity; then against it dense")
    print("| zeros asked | lane | accuracy % | zero weights / activations | func / glitch", end="")
    print(" | ratio func | ratio glitch | func / glitch, it dense |\n|" + "---|" * 8)
    dense = None
    for sparsity in SPARSITIES:
        baseline = None
        for scheme in SCHEMES if not sparsity else PRUNED:
            network, codes, accuracy = _compressed(case, scheme, sparsity)
            layers = [layer for image in codes[:images] for layer in capture_layers(network, image)]
            trace = sample_trace(layers, cycles, seed=1)
            zeros = [float((x == 0).mean()) for x in (trace.levels, trace.activations)]
            for candidate in SCHEMES[scheme]:
                cost = measure(candidate, trace)
                baseline, dense = baseline or cost, dense or cost
                (func, glitch), *_ = cost.proxies()
                (func0, glitch0), *_ = dense.proxies()
                print(
                    f"| {sparsity:.0%} | {candidate.name} | {accuracy:.1f} | {zeros[0]:.2f} / "
                    f"{zeros[1]:.2f} | {func:.1f} / {glitch:.1f} | {ratios(baseline, cost)} "
                    f"| {func0 / func:.2f} / {glitch0 / glitch:.2f} |",
                    flush=True,
                )


def _compressed(case: Case, scheme: str, sparsity: float) -> tuple[IntegerNetwork, Codes, float]:
    model, calibration, test = _inputs(case.title)
    options = CompressOptions(
        scheme=scheme,
        sparsity=sparsity,
        pruning="pot-aware",
        bias_correction=False,
        calibration_images=256,
        normalization=case.normalization,
    )
    quantized_model = compress(model, calibration, options)
    codes = input_codes(test.images, quantized_model.normalization, quantized_model.input_format)
    outputs = Engine(quantized_model.network).run(codes)
    logits = outputs * quantized_model.logit_scale[:, None, None]
    right = logits.reshape(len(logits), -1).argmax(1) == _labels(test)
    return quantized_model.network, codes, 100 * float(right.mean())


def main(words: Sequence[str]) -> None:
    """Print what is asked for."""
    for word in words or ["formats"]:
        if word == "formats":
            print_formats()
        elif word == "digits":
            print_network(DIGITS, images=8, cycles=512)
        elif word == "resnet20":
            print_network(RESNET20, images=2, cycles=512)
        else:
            raise SystemExit(f"no part {word!r}: formats, digits, resnet20")


if __name__ == "__main__":
    main(sys.argv[1:])
