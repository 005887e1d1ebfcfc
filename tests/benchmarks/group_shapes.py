"""Which group of weights should be skipped when empty: accuracy, time, area and wires of each.

    python tests/benchmarks/group_shapes.py pruning [NETWORK] [SHAPE] [SCHEME] [SHARE]
    python tests/benchmarks/group_shapes.py area
    python tests/benchmarks/group_shapes.py toggles

`pruning` prunes real networks (resnet20, lenet5, digits) to each shape, without training, and
prints the integer network's accuracy beside the cycles of a dataflow that could skip such groups.
Every dataflow has 256 product terms and the latencies, tiles and write-back of the 16 x 16 array
(`compile.work.layer_cycles`); what differs is how many entries an output block has:

    shape (outputs x inputs)  entries of a block of 16 outputs
    16x16    the array as it is: its groups that are not empty
    4x16     four quarters of the array, each with a list of its own: the longest of the four
    1x16     sixteen lanes, each with its own: the longest
    4x4      a quarter takes four chunks of 4 bytes at once: ceil(its groups / 4), the longest
    16x4     four chunks of 4 bytes for all lanes: ceil(groups / 4)
    16x1     sixteen single bytes for all lanes: ceil(groups / 16)

and for single weights (1x1) the dataflow that turns the array around: planes of channels (CHW),
one weight a cycle for 256 pixels, 16 x 16 of them, no adder tree; its cycles are the weights that
are not zero times the squares of 16 x 16 that the output takes.

`area` and `toggles` are in group_hardware.py.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from accuracy import DIGITS, LENET5, RESNET20, Case
from group_hardware import print_area, print_toggles

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.groups import cut_groups, gather_groups
from bacmac.host.arith.network import ConvOp, IntegerNetwork, Shape
from bacmac.host.compile.descriptor import DESCRIPTOR_BYTES
from bacmac.host.compile.weights import is_dense
from bacmac.host.compile.work import HEAD_CYCLES, layer_cycles
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.pack.summary import skipped_cycles, summarize

CASES = {"resnet20": RESNET20, "lenet5": LENET5, "digits": DIGITS}
SHAPES = {"16x16": (16, 16), "4x16": (4, 16), "1x16": (1, 16), "4x4": (4, 4), "16x4": (16, 4)}
SHAPES |= {"16x1": (16, 1), "1x1": (1, 1)}
SCHEMES = ("pot-4", "pot-4e4", "uniform-4")
SHARES = (0.0, 0.5, 0.7)
LANES, SLOTS, TILE, WEIGHT_CYCLES = 16, 16, 64, 8
"""Of the array; the last is how long a group of 4-bit codes takes to load."""


def block_entries(op: ConvOp, input_shape: Shape, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """(blocks, parts) entries of the lists of each block of 16 outputs, one a part of the array."""
    outputs, inputs = shape
    dense = is_dense(op, *input_shape[1:])
    cut = cut_groups(op.levels.shape, op.groups, dense=dense, outputs=outputs, inputs=inputs)
    full = np.count_nonzero(gather_groups(op.levels, cut), axis=(1, 2)) > 0
    parts = LANES // outputs
    n_blocks = -(-op.levels.shape[0] // LANES)
    counts = np.bincount(cut.blocks[full], minlength=n_blocks * parts).reshape(n_blocks, parts)
    at_once = SLOTS // inputs
    entries: npt.NDArray[np.int64] = -(-counts // at_once)
    return entries


def convolution_cycles(
    network: IntegerNetwork, shape: tuple[int, int], *, balanced: bool = False
) -> int:
    """Cycles of all the convolutions and dense layers of an image in the dataflow of a shape.

    Args:
        network: whose levels are pruned.
        shape: output channels and inputs of a group.
        balanced: as if every part of the array had equally much to do in each block.
    """
    total = 0
    head = HEAD_CYCLES + DESCRIPTOR_BYTES // SLOTS
    for op, output in zip(network.ops, network.shapes[1:], strict=True):
        if not isinstance(op, ConvOp):
            continue
        _, height, width = output
        if shape == (1, 1):
            squares = -(-height // 16) * -(-width // 16)
            total += head + int(np.count_nonzero(op.levels)) * squares
            continue
        entries = block_entries(op, network.shapes[op.input], shape)
        longest = -(-entries.sum(1) // entries.shape[1]) if balanced else entries.max(1)
        wide = op.requantize is None
        residual = op.residual is not None
        total += layer_cycles(
            tuple(int(n) for n in longest),
            height * width,
            TILE,
            head=head,
            load_cycles=WEIGHT_CYCLES,
            step=4 if wide else 2 if residual else 1,
            residual=residual,
        )
    return total


def without_zeros(network: IntegerNetwork) -> IntegerNetwork:
    """The same layers with no weight that is zero."""
    return replace(
        network,
        ops=tuple(
            replace(op, levels=np.ones_like(op.levels)) if isinstance(op, ConvOp) else op
            for op in network.ops
        ),
    )


def accuracy(model: QuantizedModel, case: Case) -> float:
    """Share of test images that the integer network gets right, in %."""
    test = load_images(case.folder / case.test, shape=model.input_shape)
    if test.labels is None:
        raise SystemExit(f"{case.test} has no labels")
    codes = input_codes(test.images, model.normalization, model.input_format)
    logits = Engine(model.network).run(codes) * model.logit_scale[:, None, None]
    return 100 * float((logits.reshape(len(logits), -1).argmax(1) == test.labels).mean())


def print_pruning(
    networks: list[str], shapes: list[str], schemes: list[str], shares: list[float]
) -> None:
    """One row a network, shape, scheme and share, as soon as it is there."""
    print(
        "| network | scheme | group | share | zeros | cycles saved | accuracy | cycles | of dense |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for network in networks:
        case = CASES[network]
        model = load_model(case.folder / case.model)
        calibration = load_images(case.folder / case.calibration, shape=model.input_shape)
        for scheme in schemes:
            for name in shapes:
                for share in shares:
                    options = CompressOptions(
                        scheme=scheme, bias_correction=False, normalization=case.normalization
                    )
                    if share:
                        options = replace(options, group=SHAPES[name], group_sparsity=share)
                    found = compress(model, calibration, options)
                    layers = summarize(found, SHAPES[name])
                    cycles = convolution_cycles(found.network, SHAPES[name])
                    balanced = convolution_cycles(found.network, SHAPES[name], balanced=True)
                    dense = convolution_cycles(without_zeros(found.network), SHAPES[name])
                    words = (
                        *(network, scheme, name, f"{share:.0%}", f"{layers[-1].sparsity:.1%}"),
                        f"{skipped_cycles(layers):.1%}",
                        f"{accuracy(found, case):.2f}",
                        f"{cycles:,} ({balanced:,} balanced)",
                        f"{cycles / dense:.3f}",
                    )
                    print("| " + " | ".join(words) + " |", flush=True)


def main() -> None:
    """Print what is asked for."""
    what, *words = [*sys.argv[1:], "pruning"] if len(sys.argv) == 1 else sys.argv[1:]
    if what == "area":
        print_area()
    elif what == "toggles":
        print_toggles()
    else:
        chosen = [[word for word in words if word in table] for table in (CASES, SHAPES, SCHEMES)]
        shares = [share for share in SHARES if f"{share}" in words]
        networks, shapes, schemes = (
            found or list(table)
            for found, table in zip(chosen, (CASES, SHAPES, SCHEMES), strict=True)
        )
        print_pruning(networks, shapes, schemes, shares or list(SHARES))


if __name__ == "__main__":
    main()
