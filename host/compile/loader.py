"""From the device's memories back to the network: what an accelerator makes of its bytes.

Tensors have no numbers here, only addresses. A tensor is known by the address at which a layer
wrote it, and is gone when a later layer writes over any byte of it: a program whose buffers
overlap does not decode.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import ConvOp, IntegerNetwork, Op, PoolOp, Requantize, Shape
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.compile.descriptor import DESCRIPTOR_BYTES, Descriptor, Flag, Kind, decode
from bacmac.host.compile.weights import (
    CONSTANT,
    Blocking,
    Levels,
    blocking,
    decode_groups,
    join,
)
from bacmac.host.manifest.overlay import Geometry

Constants = npt.NDArray[np.void]


class BadDescriptorError(ValueError):
    """A descriptor, or what it points at, makes no sense.

    Args:
        index: number of the descriptor.
        reason: what is wrong with it.
    """

    def __init__(self, index: int, reason: str) -> None:
        self.index = index
        super().__init__(f"descriptor {index}: {reason}")


@dataclass(frozen=True)
class Memories:
    """The accelerator's memories after a load, and how it reads them."""

    program: bytes
    weights: bytes
    constants: bytes
    geometry: Geometry
    scheme: str
    beat_bytes: int


def read_descriptors(program: bytes) -> tuple[Descriptor, ...]:
    """The descriptors of a program image.

    Raises:
        BadDescriptorError: naming the first that is not one.
    """
    descriptors = []
    for index in range(len(program) // DESCRIPTOR_BYTES):
        start = index * DESCRIPTOR_BYTES
        try:
            descriptor = decode(program[start : start + DESCRIPTOR_BYTES])
            _ = descriptor.output_shape
        except ValueError as error:
            raise BadDescriptorError(index, str(error)) from error
        descriptors.append(descriptor)
    return tuple(descriptors)


def weight_end(descriptors: tuple[Descriptor, ...], beat_bytes: int) -> int:
    """Bytes of weights that the descriptors speak of, whole beats."""
    end = max(d.weight_address + d.weight_bytes for d in descriptors)
    return -(-end // beat_bytes) * beat_bytes


def constant_end(descriptors: tuple[Descriptor, ...], geometry: Geometry, beat_bytes: int) -> int:
    """Bytes of constants that the descriptors speak of, whole beats."""
    end = 0
    for descriptor in descriptors:
        if descriptor.kind == Kind.MAX_POOL:
            continue
        records = descriptor.constant_address + CONSTANT.itemsize * descriptor.out_c
        bits = 0
        if descriptor.kind == Kind.CONV:
            bits = _blocking(descriptor, geometry).n_groups
            records = descriptor.bitmap_address
        end = max(end, records + -(-bits // 8))
    return -(-end // beat_bytes) * beat_bytes


def load_network(memories: Memories) -> IntegerNetwork:
    """The network that the memories hold.

    Raises:
        BadDescriptorError: naming the descriptor.
    """
    descriptors = read_descriptors(memories.program)
    if not descriptors:
        raise BadDescriptorError(0, "the program is empty")
    first = descriptors[0]
    tensors = _Tensors(first.input_shape, memories.beat_bytes)
    ops: list[Op] = []
    for index, descriptor in enumerate(descriptors):
        try:
            if bool(descriptor.flags & Flag.LAST) != (index == len(descriptors) - 1):
                raise ValueError("the last layer, and no other, is marked as the last")
            source, residual = tensors.sources(descriptor)
            ops.append(_op(descriptor, source, residual, memories))
            tensors.write(descriptor, index + 1)
        except ValueError as error:
            raise BadDescriptorError(index, str(error)) from error
    try:
        return IntegerNetwork(first.input_shape, first.input_low, first.input_high, tuple(ops))
    except ValueError as error:
        raise BadDescriptorError(0, str(error)) from error


@dataclass
class _Tensors:
    """Which tensor lies where in the activation memory: address -> (number, shape, end)."""

    image: Shape
    beat_bytes: int
    at: dict[int, tuple[int, Shape, int]] = field(default_factory=dict)

    def sources(self, descriptor: Descriptor) -> tuple[int, int | None]:
        """Numbers of the input and the residual."""
        source = self._read(
            descriptor.input_address,
            descriptor.input_shape,
            image=bool(descriptor.flags & Flag.INPUT_IS_IMAGE),
        )
        if not descriptor.flags & Flag.RESIDUAL:
            return source, None
        return source, self._read(
            descriptor.residual_address,
            descriptor.output_shape,
            image=bool(descriptor.flags & Flag.RESIDUAL_IS_IMAGE),
        )

    def write(self, descriptor: Descriptor, number: int) -> None:
        """Note the output, and forget what it overwrites."""
        channels, height, width = descriptor.output_shape
        wide = not descriptor.flags & Flag.REQUANTIZE and descriptor.kind == Kind.CONV
        size = channels * height * width * (4 if wide else 1)
        start = descriptor.output_address
        end = start + -(-size // self.beat_bytes) * self.beat_bytes
        self.at = {
            address: entry
            for address, entry in self.at.items()
            if entry[2] <= start or address >= end
        }
        self.at[start] = (number, descriptor.output_shape, end)

    def _read(self, address: int, shape: Shape, *, image: bool) -> int:
        number, found, _ = (0, self.image, 0) if image else self.at.get(address, (0, None, 0))
        if found is None:
            raise ValueError(f"no tensor lies at address {address}")
        if found != shape:
            raise ValueError(f"the tensor at address {address} is {found}, not {shape}")
        return number


def _op(descriptor: Descriptor, source: int, residual: int | None, memories: Memories) -> Op:
    if descriptor.kind == Kind.CONV:
        return _conv(descriptor, source, residual, memories)
    if descriptor.in_c != descriptor.out_c or residual is not None:
        raise ValueError("a pool keeps its channels and takes no residual")
    average = descriptor.kind == Kind.AVERAGE_POOL
    return PoolOp(
        source,
        "average" if average else "max",
        descriptor.kernel,
        descriptor.stride,
        descriptor.padding,
        _requantize(descriptor, _constants(descriptor, memories)) if average else None,
    )


def _conv(descriptor: Descriptor, source: int, residual: int | None, memories: Memories) -> ConvOp:
    constants = _constants(descriptor, memories)
    return ConvOp(
        source,
        _levels(descriptor, memories),
        constants["bias"].astype(np.int32),
        _requantize(descriptor, constants) if descriptor.flags & Flag.REQUANTIZE else None,
        descriptor.stride,
        descriptor.padding,
        descriptor.groups,
        residual,
    )


def _constants(descriptor: Descriptor, memories: Memories) -> Constants:
    start = descriptor.constant_address
    data = memories.constants[start : start + CONSTANT.itemsize * descriptor.out_c]
    if len(data) != CONSTANT.itemsize * descriptor.out_c:
        raise ValueError(f"constants at {start} lie outside the constant memory")
    return np.frombuffer(data, CONSTANT)


def _requantize(descriptor: Descriptor, constants: Constants) -> Requantize:
    residual = bool(descriptor.flags & Flag.RESIDUAL)
    return Requantize(
        constants["multiplier"].astype(np.uint16),
        constants["shift"].astype(np.uint8),
        descriptor.low,
        descriptor.high,
        constants["residual_multiplier"].astype(np.int32) if residual else None,
    )


def _blocking(descriptor: Descriptor, geometry: Geometry) -> Blocking:
    return blocking(descriptor.out_c, *_matrix_sides(descriptor), geometry)


def _matrix_sides(descriptor: Descriptor) -> tuple[int, int]:
    """Taps, and inputs a tap."""
    taps = descriptor.kernel_h * descriptor.kernel_w
    if descriptor.flags & Flag.DENSE:
        return 1, taps * descriptor.in_c
    return taps, descriptor.in_c


def _levels(descriptor: Descriptor, memories: Memories) -> Levels:
    """Levels (C_out, C_in / groups, kh, kw)."""
    geometry = memories.geometry
    (kh, kw), c_in, c_out = descriptor.kernel, descriptor.in_c, descriptor.out_c
    groups = descriptor.groups
    if groups < 1 or c_in % groups or c_out % groups:
        raise ValueError(f"{groups} groups do not divide {c_in} and {c_out} channels")
    n_groups = _blocking(descriptor, geometry).n_groups
    start, size = descriptor.bitmap_address, -(-n_groups // 8)
    bitmap = np.frombuffer(memories.constants[start : start + size], np.uint8)
    if len(bitmap) != size:
        raise ValueError(f"the bitmap at {start} lies outside the constant memory")
    full = np.unpackbits(bitmap, count=n_groups, bitorder="little").astype(bool)
    start, size = descriptor.weight_address, descriptor.weight_bytes
    stored = memories.weights[start : start + size]
    if len(stored) != size:
        raise ValueError(f"weights at {start} lie outside the weight memory")
    blocks = decode_groups(stored, geometry, SCHEMES[memories.scheme])
    if len(blocks) != full.sum():
        raise ValueError(f"{len(blocks)} weight groups for {full.sum()} bits of the bitmap")
    grid = np.zeros((n_groups, geometry.outputs, geometry.inputs), np.int8)
    grid[full] = blocks
    spread = join(grid, c_out, *_matrix_sides(descriptor), geometry)
    if groups > 1:
        own = np.arange(groups)
        parts = spread.reshape(groups, c_out // groups, kh * kw, groups, c_in // groups)
        spread = parts[own, :, :, own, :]
    levels = spread.reshape(c_out, kh, kw, c_in // groups).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(levels)
