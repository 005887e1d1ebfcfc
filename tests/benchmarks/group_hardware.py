"""What the hardware of each group shape would take, and what moves in it; see group_shapes.py.

Area: every list of groups needs a reader of the list, an issuer of addresses and a read port of its
own, so these are mapped by yosys and counted as often as there are lists; beside them, the memory
blocks of activations that so many independent reads in one cycle need, and the part has 312.
Everything else (256 products, trees, accumulators, write-back) is the same for shapes of 4 and 16
inputs and is not counted.

The dataflow of single weights (1x1) has another array. Its 256 slots, each a product term and an
accumulator, stand against 16 lanes and their accumulators; its reads against the one of 16 bytes.

Toggles: netlists of a lane and of a slot, on the same network. A stream of the slot is a pixel; its
weights are those that are not zero, one a cycle.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from accuracy import RESNET20

from bacmac.host.arith.array_codes import MAGNITUDES
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.inputs import input_codes
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.overlays.estimate.activity import COEFFICIENTS, simulate, words_of
from bacmac.overlays.estimate.capture import LayerTrace, capture_layers
from bacmac.overlays.estimate.configurations import find_configurations
from bacmac.overlays.estimate.lane_cost import count_lane
from bacmac.overlays.estimate.netlist import read_graph
from bacmac.overlays.estimate.sites import Resources, count_cells
from bacmac.overlays.estimate.synthesis import LANE, lane_netlist
from bacmac.overlays.estimate.yosys import find_yosys, rtl_sources, synthesize

CONFIGURATION = "bac-pot4e4"
SOURCES = rtl_sources() | rtl_sources(Path(__file__).with_name("groups"))
LISTS = {"16x16": (1, 16), "4x16": (4, 16), "1x16": (16, 16), "16x4": (4, 4), "4x4": (16, 4)}
LISTS |= {"16x1": (16, 1)}
"""Lists that are followed at once, and the bytes that each reads a cycle."""
ACTIVATION_BRAM36 = 128
"""Of 512 KiB with one read port for the array."""
BANKS = 256
"""Of the dataflow of single weights: a byte each, so that any square of pixels is read at once."""
CYCLES, WARM = 512, 8


def print_area() -> None:
    """LUT sites, flip-flops and memory blocks of what differs."""
    print(f"{find_yosys().version}, synth_xilinx -family xcup: an estimate, no Vivado build\n")
    follower = _module("bacmac_entries", {}) + _module("bacmac_issue", {})
    print("| group | lists | read bits a product | LUT sites of lists and reads | FF |", end="")
    print(" BRAM36 of 512 KiB of activations |\n|---|---|---|---|---|---|")
    for shape, (lists, width) in LISTS.items():
        # a single byte is picked from a word by the same multiplexer that a rotation has for it
        read = _module("group_read", {"BYTES": 16 if width == 16 else 4})
        each = follower + read.times(width / 4 if width < 4 else 1)
        whole = each.times(lists)
        bits = 8 * lists * width / 256
        copies = ACTIVATION_BRAM36 * lists
        print(
            f"| {shape} | {lists} | {bits:g} | {whole.lut_sites:,.0f} | {whole.ff:,.0f} "
            f"| {copies:,} |"
        )
    slot, rotate = _module("group_slot", {}), _module("group_rotate", {})
    whole = follower + rotate.times(2 * 16)
    print(
        f"| 1x1 | 1 | 8 | {whole.lut_sites:,.0f} | {whole.ff:,.0f} "
        f"| {ACTIVATION_BRAM36} ({BANKS} banks of a byte) |"
    )
    lane = count_cells(LANE, lane_netlist(_configuration())["modules"][LANE]["cells"])
    print(f"\n16 lanes {16 * lane.lut_sites:,.0f} LUT sites, {16 * lane.ff:,.0f} FF (adders into")
    print(f"the accumulators, 16 x 32 bits, not counted); {BANKS} slots with their accumulators")
    print(f"{BANKS * slot.lut_sites:,.0f} LUT sites, {BANKS * slot.ff:,.0f} FF")


def print_toggles() -> None:
    """The energy proxy of a product in a lane and in a slot, ResNet-20 dense and pruned."""
    case, configuration = RESNET20, _configuration()
    model = load_model(case.folder / case.model)
    calibration, test = (
        load_images(case.folder / name, shape=model.input_shape)
        for name in (case.calibration, case.test)
    )
    options = CompressOptions(
        scheme="pot-4e4", bias_correction=False, normalization=case.normalization
    )
    print("units of a LUT output's change a product slot: settled / with glitches\n")
    print("| ResNet-20, pot-4e4 | coefficients | lane, weights held | slot, weights change |")
    print("|---|---|---|---|")
    for title, chosen in {
        "dense": options,
        "50 % of 16x16 groups": replace(options, group=(16, 16), group_sparsity=0.5),
    }.items():
        found = compress(model, calibration, chosen)
        codes = input_codes(test.images[:2], found.normalization, found.input_format)
        lane = count_lane(configuration, found.network, codes)
        slot = _count_slot(capture_layers(found.network, codes[0]))
        for name, weights in COEFFICIENTS.items():
            held = " / ".join(f"{units:.1f}" for units in lane.units(weights))
            changed = " / ".join(f"{events.weighed(weights):.1f}" for events in slot)
            print(f"| {title} | {name} | {held} | {changed} |", flush=True)


def _count_slot(layers: list[LayerTrace]):
    """Events a product of a slot, settled and with glitches, from all layers in equal parts."""
    random = np.random.default_rng(0)
    activations, levels, firsts = [], [], []
    for layer in layers:
        block, lane = layer.block[random.integers(len(layer.block))], random.integers(16)
        pixels = random.integers(layer.windows.shape[1]) + np.arange(64)
        pixels %= layer.windows.shape[1]
        first = True
        for group in np.flatnonzero(layer.block == block):
            weights = layer.groups[group, lane]
            for position in np.flatnonzero(weights):
                activations.append(layer.windows[layer.chunk[group], pixels, position])
                levels.append(int(weights[position]))
                firsts.append(first)
                first = False
    n = len(levels)
    codes = {level: code for code, level in reversed(list(enumerate(MAGNITUDES["pot-4e4"])))}

    def everywhere(values: list[int]) -> np.ndarray:
        return np.repeat(np.array(values)[:, None], 64, 1)[:, :, None]

    stimulus = {
        "a": words_of(np.array(activations)[:, :, None], 8),
        "magnitude": words_of(everywhere([codes[abs(level)] for level in levels]), 3),
        "negate": words_of(everywhere([int(level < 0) for level in levels]), 1),
        "first": words_of(everywhere([int(first) for first in firsts]), 1),
    }
    graph = read_graph(synthesize("group_slot", {}, sources=SOURCES, dsp=False), "group_slot")
    shared = {"magnitude": 256.0, "negate": 256.0, "first": 256.0}
    counted = simulate(graph, stimulus, warm=min(WARM, n // 2), shared=shared)
    return counted.settled, counted.transitions


def _configuration():
    (found,) = find_configurations([CONFIGURATION])
    return found


def _module(name: str, parameters: Mapping[str, int]) -> Resources:
    netlist = synthesize(name, parameters, sources=SOURCES, dsp=False)
    return count_cells(name, netlist["modules"][name]["cells"])
