"""What the hardware refuses in a descriptor and its group list, before it runs the layer.

The same conditions as `hw_src/rtl/bacmac_layer.sv` and `bacmac_entries.sv`; what else makes no
sense (tensors that overlap, an accumulator that may overflow) the hardware cannot see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bacmac.host.arith.array_codes import group_bytes
from bacmac.host.arith.group_list import EMPTY, ENTRY_BYTES, LAST, Entries
from bacmac.host.arith.network import window_positions
from bacmac.host.compile.descriptor import DESCRIPTOR_BYTES, Descriptor, Flag, Kind, decode
from bacmac.host.compile.weights import CONSTANT
from bacmac.host.manifest.overlay import Geometry

BYTE_LIMIT = 1 << 20
"""Addresses and sizes in the activation memory have 20 bits."""


@dataclass(frozen=True)
class Memories:
    """The accelerator's memories after a load, and how it reads them."""

    program: bytes
    weights: bytes
    constants: bytes
    n_descriptors: int
    activation_bytes: int
    geometry: Geometry
    scheme: str


def read_descriptor(memories: Memories, index: int) -> Descriptor:
    """The descriptor of a layer, checked.

    Raises:
        ValueError: it makes no sense, or points out of a memory.
    """
    start = index * DESCRIPTOR_BYTES
    descriptor = decode(memories.program[start : start + DESCRIPTOR_BYTES])
    _check_kind(descriptor, final=index == memories.n_descriptors - 1)
    _check_sizes(descriptor)
    _check_places(descriptor, memories)
    return descriptor


def read_entries(descriptor: Descriptor, memories: Memories) -> Entries:
    """The group list of a layer, uint32 (n_entries,), checked.

    Raises:
        ValueError: it makes no sense.
    """
    start, size = descriptor.list_address, ENTRY_BYTES * descriptor.n_entries
    entries = np.frombuffer(memories.program[start : start + size], "<u4").astype(np.uint32)
    geometry = memories.geometry
    last, empty = entries & LAST != 0, entries & EMPTY != 0
    pool = descriptor.kind != Kind.CONV
    if (entries >> 30).any():
        raise ValueError("reserved bits of a list entry are not zero")
    opens = np.append(True, last[:-1])
    if (empty & (~last | ~opens | pool)).any():
        raise ValueError("an empty block has other entries")
    if np.count_nonzero(last) != n_blocks(descriptor, geometry) or not last[-1]:
        raise ValueError("the list has not as many blocks as the output")
    groups = 0 if pool else int(np.count_nonzero(~empty))
    found = groups * group_bytes(geometry.outputs, geometry.inputs, memories.scheme)
    if found != descriptor.weight_bytes:
        raise ValueError(f"{descriptor.weight_bytes} bytes of weights for {groups} groups")
    return entries


def n_blocks(descriptor: Descriptor, geometry: Geometry) -> int:
    """Output blocks of a layer."""
    return -(-descriptor.out_c // geometry.outputs)


def _check_kind(descriptor: Descriptor, *, final: bool) -> None:
    flags = Flag(descriptor.flags)
    pool = descriptor.kind != Kind.CONV
    wide = not pool and Flag.REQUANTIZE not in flags
    if (Flag.LAST in flags) != final:
        raise ValueError("the last layer, and no other, is marked as the last")
    if wide and (not final or Flag.RESIDUAL in flags):
        raise ValueError("int32 leaves the last layer only, and takes no residual")
    if pool and (Flag.RESIDUAL in flags or descriptor.in_c != descriptor.out_c):
        raise ValueError("a pool keeps its channels and takes no residual")


def _check_sizes(descriptor: Descriptor) -> None:
    size = descriptor.in_h, descriptor.in_w
    places = window_positions(size, descriptor.kernel, descriptor.stride, descriptor.padding)
    if places != (descriptor.out_h, descriptor.out_w):
        raise ValueError(f"the window has {places} places, the output {descriptor.output_shape}")
    pixels = descriptor.out_h * descriptor.out_w
    largest = max(descriptor.input_bytes, descriptor.output_bytes, pixels)
    if largest >= BYTE_LIMIT:
        raise ValueError(f"a tensor of {largest} bytes")


def _check_places(descriptor: Descriptor, memories: Memories) -> None:
    d, geometry = descriptor, memories.geometry
    rows = d.constant_row + n_blocks(d, geometry)
    places = [
        ("input", d.input_address, d.input_bytes, memories.activation_bytes),
        ("output", d.output_address, d.output_bytes, memories.activation_bytes),
        ("weights", d.weight_address, d.weight_bytes, len(memories.weights)),
        ("group list", d.list_address, ENTRY_BYTES * d.n_entries, len(memories.program)),
    ]
    if d.flags & Flag.RESIDUAL:
        place = "residual", d.residual_address, d.output_bytes, memories.activation_bytes
        places.append(place)
    for name, address, n_bytes, capacity in places:
        if address + n_bytes > capacity:
            raise ValueError(f"{name} at {address} leaves the memory")
    addresses = d.residual_address, *(address for _, address, _, _ in places)
    if any(address % geometry.inputs for address in addresses):
        raise ValueError(f"an address of {addresses} is no whole word")
    if rows * geometry.outputs * CONSTANT.itemsize > len(memories.constants):
        raise ValueError(f"constant rows at {d.constant_row} leave the memory")
