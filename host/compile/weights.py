"""The weight and constant images: bytes in the order in which the array takes them.

Weights. A layer is a matrix a tap: (C_out, C_in) for each kernel position, cut in groups of
`outputs` x `inputs` (16 x 16), padded with zeros at the edges. Groups are loaded by output block,
then tap (row by row), then input block; inside a group by output, then input. Codes have the
overlay's width and are packed low bits first, byte after byte. A group that holds only zeros is
not stored: its bit in the layer's bitmap is 0. A dense layer (the window is the whole input) is
one tap over in_h * in_w * in_c channels in HWC order, as its input lies in memory. Grouped
convolutions are written as the block-diagonal matrix they are.

Constants, for each output channel 12 bytes: bias i32, multiplier u16, shift u8, zero u8, residual
multiplier i32. After them, at the next beat, the bitmap: one bit a group in loading order, low
bit first. A max pool has neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import ConvOp, Requantize
from bacmac.host.arith.schemes import Scheme
from bacmac.host.manifest.overlay import Geometry
from bacmac.host.pack.packer import pack_levels, unpack_levels

Levels = npt.NDArray[np.int8]

CONSTANT = np.dtype(
    [
        ("bias", "<i4"),
        ("multiplier", "<u2"),
        ("shift", "u1"),
        ("zero", "u1"),
        ("residual_multiplier", "<i4"),
    ]
)
"""One output channel's constants, 12 bytes."""


@dataclass(frozen=True)
class Blocking:
    """How a layer's matrix is cut: blocks of outputs, taps, blocks of inputs."""

    output_blocks: int
    taps: int
    input_blocks: int

    @property
    def n_groups(self) -> int:
        """Groups of the layer, empty ones too."""
        return self.output_blocks * self.taps * self.input_blocks


def blocking(c_out: int, taps: int, c_in: int, geometry: Geometry) -> Blocking:
    """The cut of a layer with c_in inputs (of all convolution groups) a tap."""
    return Blocking(-(-c_out // geometry.outputs), taps, -(-c_in // geometry.inputs))


def is_dense(op: ConvOp, input_height: int, input_width: int) -> bool:
    """Whether the window is the whole unpadded input, so that HWC memory is one long pixel."""
    return (
        op.levels.shape[2:] == (input_height, input_width)
        and not any(op.padding)
        and op.groups == 1
    )


def matrix(op: ConvOp, *, dense: bool) -> Levels:
    """Levels int8 (C_out, taps, C_in) of a layer, grouped ones spread over all inputs."""
    levels = op.levels.transpose(0, 2, 3, 1)
    c_out, kh, kw, c_in = levels.shape
    if dense or op.groups == 1:
        sides = (1, kh * kw * c_in) if dense else (kh * kw, c_in)
        rows: Levels = levels.reshape(c_out, *sides)
        return rows
    spread = np.zeros((op.groups, c_out // op.groups, kh * kw, op.groups, c_in), np.int8)
    own = np.arange(op.groups)
    spread[own, :, :, own, :] = levels.reshape(op.groups, -1, kh * kw, c_in)
    diagonal: Levels = spread.reshape(c_out, kh * kw, op.groups * c_in)
    return diagonal


def cut(levels: Levels, geometry: Geometry) -> Levels:
    """Groups int8 (n_groups, outputs, inputs) in loading order of levels (C_out, taps, C_in)."""
    c_out, taps, c_in = levels.shape
    cut_to = blocking(c_out, taps, c_in, geometry)
    padded = np.zeros(
        (cut_to.output_blocks * geometry.outputs, taps, cut_to.input_blocks * geometry.inputs),
        np.int8,
    )
    padded[:c_out, :, :c_in] = levels
    blocks = padded.reshape(
        cut_to.output_blocks, geometry.outputs, taps, cut_to.input_blocks, geometry.inputs
    )
    groups: Levels = blocks.transpose(0, 2, 3, 1, 4).reshape(-1, geometry.outputs, geometry.inputs)
    return groups


def join(groups: Levels, c_out: int, taps: int, c_in: int, geometry: Geometry) -> Levels:
    """The inverse of `cut`: levels (C_out, taps, C_in)."""
    cut_to = blocking(c_out, taps, c_in, geometry)
    blocks = groups.reshape(
        cut_to.output_blocks, taps, cut_to.input_blocks, geometry.outputs, geometry.inputs
    )
    padded: Levels = blocks.transpose(0, 3, 1, 2, 4).reshape(
        cut_to.output_blocks * geometry.outputs, taps, cut_to.input_blocks * geometry.inputs
    )
    return padded[:c_out, :, :c_in]


def group_bytes(geometry: Geometry, code_bits: int) -> int:
    """Bytes of one stored group."""
    return -(-geometry.outputs * geometry.inputs * code_bits // 8)


def encode_groups(groups: Levels, scheme: Scheme) -> bytes:
    """Packed codes of groups (n, outputs, inputs).

    Raises:
        ValueError: a level that the scheme does not have.
    """
    return pack_levels(groups.reshape(-1), scheme).tobytes()


def decode_groups(data: bytes, geometry: Geometry, scheme: Scheme) -> Levels:
    """Groups (n, outputs, inputs) of packed codes.

    Raises:
        ValueError: part of a group, or a code that is not in the scheme.
    """
    size = group_bytes(geometry, scheme.bits)
    if len(data) % size:
        raise ValueError(f"{len(data)} bytes are no whole number of {size}-byte groups")
    n_codes = len(data) // size * geometry.outputs * geometry.inputs
    levels = unpack_levels(np.frombuffer(data, np.uint8), n_codes, scheme)
    return levels.reshape(-1, geometry.outputs, geometry.inputs)


def encode_constants(bias: npt.NDArray[np.int32], requantize: Requantize | None) -> bytes:
    """One CONSTANT record a channel."""
    records = np.zeros(len(bias), CONSTANT)
    records["bias"] = bias
    if requantize is not None:
        records["multiplier"] = requantize.multiplier
        records["shift"] = requantize.shift
        if requantize.residual_multiplier is not None:
            records["residual_multiplier"] = requantize.residual_multiplier
    return records.tobytes()


def padded_to(data: bytes, beat_bytes: int) -> bytes:
    """Data with zeros up to a whole number of beats."""
    return data + bytes(-len(data) % beat_bytes)
