"""From the device's memories back to the network: what an accelerator makes of its bytes.

Tensors have no numbers here, only addresses. A tensor is known by the address at which a layer
wrote it, and is gone when a later layer writes over any byte of it: a program whose buffers
overlap does not decode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bacmac.host.arith.array_codes import decode_groups
from bacmac.host.arith.group_list import Entries, stored_groups
from bacmac.host.arith.groups import cut_groups, scatter_groups
from bacmac.host.arith.network import ConvOp, IntegerNetwork, Op, PoolOp, Requantize, Shape
from bacmac.host.compile.checks import Memories, n_blocks, read_descriptor, read_entries
from bacmac.host.compile.descriptor import Descriptor, Flag, Kind
from bacmac.host.compile.weights import (
    CONSTANT,
    INPUT_OFFSET,
    Constants,
    LayerGroups,
    encode_constants,
    no_levels,
    pool_entries,
    terms,
    wrapped,
)


class BadDescriptorError(ValueError):
    """A descriptor, or what it points at, makes no sense.

    Args:
        index: number of the descriptor.
        reason: what is wrong with it.
    """

    def __init__(self, index: int, reason: str) -> None:
        self.index = index
        super().__init__(f"descriptor {index}: {reason}")


@dataclass(frozen=True, eq=False)
class LoadedProgram:
    """What the memories hold.

    Attributes:
        network: as `bacmac.host.arith` runs it.
        groups: of each layer, as they are stored.
        image_address: where image 0 of a batch lies in the activation memory.
    """

    network: IntegerNetwork
    groups: tuple[LayerGroups, ...]
    image_address: int


def load_program(memories: Memories) -> LoadedProgram:
    """Decode the memories.

    Raises:
        BadDescriptorError: naming the descriptor.
    """
    first = probe(memories)
    tensors = _Tensors(first, memories.geometry.inputs)
    ops: list[Op] = []
    groups: list[LayerGroups] = []
    for index in range(memories.n_descriptors):
        try:
            descriptor = read_descriptor(memories, index)
            entries = read_entries(descriptor, memories)
            source, residual = tensors.sources(descriptor)
            op, stored = _layer(descriptor, source, residual, memories, entries)
            tensors.write(descriptor, index + 1)
        except ValueError as error:
            raise BadDescriptorError(index, str(error)) from error
        ops.append(op)
        groups.append(stored)
    try:
        network = IntegerNetwork(first.input_shape, first.input_low, first.input_high, tuple(ops))
    except ValueError as error:
        raise BadDescriptorError(0, str(error)) from error
    return LoadedProgram(network, tuple(groups), first.input_address)


def probe(memories: Memories) -> Descriptor:
    """The first descriptor: it says where the images of a batch lie, and how large they are.

    Raises:
        BadDescriptorError: it makes no sense.
    """
    try:
        return read_descriptor(memories, 0)
    except ValueError as error:
        raise BadDescriptorError(0, str(error)) from error


@dataclass(frozen=True)
class _Tensor:
    number: int
    shape: Shape
    range: tuple[int, int]
    end: int


class _Tensors:
    """Which tensor lies where in the activation memory, as layer after layer writes it."""

    def __init__(self, first: Descriptor, word_bytes: int) -> None:
        self._word_bytes = word_bytes
        self._image_address = first.input_address
        self._image = _Tensor(0, first.input_shape, (first.input_low, first.input_high), 0)
        self._at: dict[int, _Tensor] = {}

    def sources(self, descriptor: Descriptor) -> tuple[int, int | None]:
        """Numbers of the input and the residual."""
        flags = descriptor.flags
        source = self._read(
            descriptor.input_address, descriptor.input_shape, bool(flags & Flag.INPUT_IS_IMAGE)
        )
        if source.range != (descriptor.input_low, descriptor.input_high):
            raise ValueError(f"the input has {source.range}, not what the descriptor says")
        _check_sign(source, bool(flags & Flag.INPUT_SIGNED))
        if not flags & Flag.RESIDUAL:
            return source.number, None
        residual = self._read(
            descriptor.residual_address,
            descriptor.output_shape,
            bool(flags & Flag.RESIDUAL_IS_IMAGE),
        )
        _check_sign(residual, bool(flags & Flag.RESIDUAL_SIGNED))
        return source.number, residual.number

    def write(self, descriptor: Descriptor, number: int) -> None:
        """Note the output, and forget what it overwrites."""
        start = descriptor.output_address
        end = start + -(-descriptor.output_bytes // self._word_bytes) * self._word_bytes
        if end > self._image_address:
            raise ValueError(f"the output at {start} runs into the images")
        self._at = {
            address: tensor
            for address, tensor in self._at.items()
            if tensor.end <= start or address >= end
        }
        held = descriptor.low, descriptor.high
        self._at[start] = _Tensor(number, descriptor.output_shape, held, end)

    def _read(self, address: int, shape: Shape, image: bool) -> _Tensor:
        if image and address != self._image_address:
            raise ValueError(f"the image lies at {self._image_address}, not at {address}")
        tensor = self._image if image else self._at.get(address)
        if tensor is None:
            raise ValueError(f"no tensor lies at address {address}")
        if tensor.shape != shape:
            raise ValueError(f"the tensor at address {address} is {tensor.shape}, not {shape}")
        return tensor


def _check_sign(tensor: _Tensor, signed: bool) -> None:
    if signed != (tensor.range[0] < 0):
        raise ValueError(f"a tensor of {tensor.range} is read with the other sign")


def _layer(
    descriptor: Descriptor,
    source: int,
    residual: int | None,
    memories: Memories,
    entries: Entries,
) -> tuple[Op, LayerGroups]:
    constants = _constants(descriptor, memories)
    if descriptor.kind == Kind.CONV:
        return _conv(descriptor, source, residual, memories, constants, entries)
    geometry = memories.geometry
    if not np.array_equal(entries, pool_entries(descriptor.kernel, descriptor.in_c, geometry)):
        raise ValueError("the list of a pool names other places than its window has")
    average = descriptor.kind == Kind.AVERAGE_POOL
    op = PoolOp(
        source,
        "average" if average else "max",
        descriptor.kernel,
        descriptor.stride,
        descriptor.padding,
        _requantize(descriptor, constants) if average else None,
    )
    held = descriptor.input_low, descriptor.input_high
    expected = encode_constants(op, held, descriptor.out_c, geometry)
    if constants.tobytes() != expected[: constants.nbytes]:
        raise ValueError("the constants of a pool are not a pool's")
    if not average and held != (descriptor.low, descriptor.high):
        raise ValueError("a maximum has the range of its input")
    return op, LayerGroups(entries, no_levels(geometry), descriptor.n_skipped)


def _conv(
    descriptor: Descriptor,
    source: int,
    residual: int | None,
    memories: Memories,
    constants: Constants,
    entries: Entries,
) -> tuple[ConvOp, LayerGroups]:
    geometry, (kh, kw) = memories.geometry, descriptor.kernel
    c_in, c_out, groups = descriptor.in_c, descriptor.out_c, descriptor.groups
    if groups < 1 or c_in % groups or c_out % groups:
        raise ValueError(f"{groups} groups do not divide {c_in} and {c_out} channels")
    dense = bool(descriptor.flags & Flag.DENSE)
    if dense and ((kh, kw) != descriptor.input_shape[1:] or any(descriptor.padding) or groups > 1):
        raise ValueError("a dense layer's window is its whole input")
    start, size = descriptor.weight_address, descriptor.weight_bytes
    data = memories.weights[start : start + size]
    stored = decode_groups(data, geometry.outputs, geometry.inputs, memories.scheme)
    shape = (c_out, c_in // groups, kh, kw)
    cut = cut_groups(shape, groups, dense=dense, outputs=geometry.outputs, inputs=geometry.inputs)
    every = np.zeros((len(cut.blocks), geometry.outputs, geometry.inputs), np.int8)
    every[stored_groups(entries, cut)] = stored
    if every[cut.index < 0].any():
        raise ValueError("a weight lies where the layer has none")
    levels = scatter_groups(every, cut).reshape(shape)
    op = ConvOp(
        source,
        levels,
        constants["bias"].astype(np.int32),
        _requantize(descriptor, constants) if descriptor.flags & Flag.REQUANTIZE else None,
        descriptor.stride,
        descriptor.padding,
        groups,
        residual,
    )
    alone = constants["multiplier"] == 1, constants["shift"] == 0
    if op.requantize is None and not np.all(alone):
        raise ValueError("int32 outputs leave as they are: multiplier 1, shift 0")
    if descriptor.input_low < 0:
        op = replace(op, bias=wrapped(op.bias.astype(np.int64) + INPUT_OFFSET * terms(op)))
    return op, LayerGroups(entries, stored, descriptor.n_skipped)


def _constants(descriptor: Descriptor, memories: Memories) -> Constants:
    geometry = memories.geometry
    row_bytes = geometry.outputs * CONSTANT.itemsize
    start = descriptor.constant_row * row_bytes
    end = start + n_blocks(descriptor, geometry) * row_bytes
    return np.frombuffer(memories.constants[start:end], CONSTANT)[: descriptor.out_c]


def _requantize(descriptor: Descriptor, constants: Constants) -> Requantize:
    residual = bool(descriptor.flags & Flag.RESIDUAL)
    return Requantize(
        constants["multiplier"].astype(np.uint16),
        constants["shift"].astype(np.uint8),
        descriptor.low,
        descriptor.high,
        constants["residual_multiplier"].astype(np.int32) if residual else None,
    )
