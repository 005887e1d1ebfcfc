"""What the emulated array computes: the network that lies in the accelerator's memories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np

from bacmac.host.arith.bounds import prove_no_overflow
from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import IntegerNetwork
from bacmac.host.arith.reference import Codes, Outputs, run_reference
from bacmac.host.compile.checks import Memories
from bacmac.host.compile.loader import BadDescriptorError, load_program
from bacmac.host.compile.program import Tensor, stream_tensors
from bacmac.host.compile.work import Work, layer_work
from bacmac.host.device.protocol import Select
from bacmac.host.errors import CompileError
from bacmac.host.manifest.overlay import Manifest

Run = Callable[[Codes], Outputs]


def _fast(network: IntegerNetwork) -> Run:
    return Engine(network).run


def _definition(network: IntegerNetwork) -> Run:
    return lambda images: run_reference(network, images)


COMPUTE: dict[str, Callable[[IntegerNetwork], Run]] = {
    "functional:": _fast,
    "reference:": _definition,
}
"""How results are computed, by device word: the fast exact engine, or the definition itself."""


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """What was decoded from the memories.

    Attributes:
        run: outputs of input codes.
        input, output: the tensors on the stream.
        input_range: smallest and largest input value.
        image_address: where image 0 of a batch lies in the activation memory.
        layers: work of each layer for one image.
    """

    run: Run
    input: Tensor
    output: Tensor
    input_range: tuple[int, int]
    image_address: int
    layers: tuple[Work, ...]


def held_memories(
    manifest: Manifest, loads: Mapping[Select, bytes], n_descriptors: int
) -> Memories:
    """The memories of an overlay that was sent these loads."""
    return Memories(
        loads[Select.PROGRAM],
        loads[Select.WEIGHTS],
        loads[Select.CONSTANTS],
        n_descriptors,
        manifest.buffers.activation_bytes,
        manifest.geometry,
        manifest.scheme,
    )


@lru_cache(maxsize=8)  # by content: two models that take turns are decoded once each
def load_array(memories: Memories, word: str) -> LoadedNetwork:
    """Decode the memories and make ready to run.

    Raises:
        BadDescriptorError: they hold no network, or one whose accumulators may overflow.
    """
    loaded = load_program(memories)
    network = loaded.network
    try:
        prove_no_overflow(network)
    except CompileError as error:  # what no compiler of ours has written
        raise BadDescriptorError(0, str(error)) from error
    works = (
        layer_work(op, groups, shape, memories.geometry, memories.scheme)
        for op, groups, shape in zip(network.ops, loaded.groups, network.shapes[1:], strict=True)
    )
    return LoadedNetwork(
        COMPUTE[word](network),
        *stream_tensors(network, memories.geometry.inputs),
        network.ranges[0],
        loaded.image_address,
        tuple(works),
    )


def run_bytes(loaded: LoadedNetwork, data: bytes | bytearray, n_images: int) -> bytes:
    """Output bytes of the input bytes of a batch, both as they are on the stream."""
    stored = loaded.input.unpack(np.frombuffer(data, np.uint8).reshape(n_images, -1))
    codes = cast(Codes, stored)
    low, high = loaded.input_range
    if high - low < 255:  # stored in 8 bits, used in fewer: others cannot occur
        codes = codes.clip(low, high)
    rows = np.empty((n_images, loaded.output.n_bytes), np.uint8)
    loaded.output.pack(loaded.run(codes), rows)
    return rows.tobytes()
