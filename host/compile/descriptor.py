"""The layer descriptor: 64 bytes that tell the accelerator one layer.

Little-endian, no alignment gaps, one record a layer in order of execution:

    offset type field              meaning
    0      u8   kind               0 convolution, 1 max pool, 2 average pool
    1      u8   flags              see Flag
    2      u8   kernel_h           rows of the window
    3      u8   kernel_w           columns of the window
    4      u8   stride_h
    5      u8   stride_w
    6..9   u8   pad_top, pad_left, pad_bottom, pad_right
    10     i16  low                smallest stored output; negative: the output is int8
    12     i16  high               largest stored output
    14     u16  groups             convolution groups; the hardware does not read it
    16     u16  in_h
    18     u16  in_w
    20     u16  in_c
    22     u16  out_c
    24     u32  input_address      bytes into the activation memory, whole words
    28     u32  output_address     bytes into the activation memory, whole words
    32     u32  residual_address   bytes into the activation memory, whole words; 0 without one
    36     u32  weight_address     bytes into the weight memory, whole words
    40     u32  weight_bytes       bytes of weights the layer loads: its groups that are not empty
    44     u32  constant_row       first row of the constant memory, one an output block
    48     u32  list_address       bytes into the program memory, whole words: the group list
    52     i16  input_low          smallest input value; negative: the input is int8
    54     i16  input_high         largest input value; the hardware does not read it
    56     u16  out_h
    58     u16  out_w
    60     u16  n_entries          of the group list
    62     u16  n_skipped          groups that are not in it

Where a field has no meaning (weights of a pool, the clamp of a layer that leaves int32) it is 0.
Pools requantize too: a maximum by a multiplier of 1, a shift of 0 and the range of its input.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import astuple, dataclass

from bacmac.host.arith.network import Padding, Shape

DESCRIPTOR_BYTES = 64


class Kind(enum.IntEnum):
    """What the layer is."""

    CONV = 0
    MAX_POOL = 1
    AVERAGE_POOL = 2


class Flag(enum.IntFlag):
    """Bits of `flags`."""

    REQUANTIZE = 1
    """Store 8 bits; without it a convolution leaves int32. Pools always have it."""
    RESIDUAL = 2
    """Add a second input before the rounding."""
    DENSE = 4
    """The window is the whole input: one pixel of in_h * in_w * in_c channels, HWC order."""
    INPUT_IS_IMAGE = 8
    """input_address is that of image 0 of the batch; image i lies i input lengths further."""
    RESIDUAL_IS_IMAGE = 16
    """The same for residual_address."""
    LAST = 32
    """The output leaves the accelerator."""
    RESIDUAL_SIGNED = 64
    """The residual is int8, else uint8."""
    INPUT_SIGNED = 128
    """The input is int8, else uint8."""


@dataclass(frozen=True)
class Descriptor:
    """One record; fields as in the module's table, in its order."""

    kind: int
    flags: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int
    pad_bottom: int
    pad_right: int
    low: int
    high: int
    groups: int
    in_h: int
    in_w: int
    in_c: int
    out_c: int
    input_address: int
    output_address: int
    residual_address: int
    weight_address: int
    weight_bytes: int
    constant_row: int
    list_address: int
    input_low: int
    input_high: int
    out_h: int
    out_w: int
    n_entries: int
    n_skipped: int

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.kernel_h, self.kernel_w

    @property
    def stride(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.stride_h, self.stride_w

    @property
    def padding(self) -> Padding:
        """Top, left, bottom, right."""
        return self.pad_top, self.pad_left, self.pad_bottom, self.pad_right

    @property
    def input_shape(self) -> Shape:
        """(C, H, W)."""
        return self.in_c, self.in_h, self.in_w

    @property
    def output_shape(self) -> Shape:
        """(C, H, W), as stored."""
        return self.out_c, self.out_h, self.out_w

    @property
    def input_bytes(self) -> int:
        """Bytes of the input, without filling."""
        return self.in_c * self.in_h * self.in_w

    @property
    def output_bytes(self) -> int:
        """Bytes of the output, without filling."""
        wide = self.kind == Kind.CONV and not self.flags & Flag.REQUANTIZE
        return self.out_c * self.out_h * self.out_w * (4 if wide else 1)


_FORMATS = dict(
    zip(
        Descriptor.__dataclass_fields__,
        (*"BBBBBBBBBB", *"hh", *"HHHHH", *"IIIIIII", *"hh", *"HHHH"),
        strict=True,
    )
)
_RANGES = {"B": (0, 255), "h": (-(2**15), 2**15 - 1), "H": (0, 2**16 - 1), "I": (0, 2**32 - 1)}
_LAYOUT = struct.Struct("<" + "".join(_FORMATS.values()))
_POSITIVE = (
    *("kernel_h", "kernel_w", "stride_h", "stride_w"),
    *("in_h", "in_w", "in_c", "out_c", "out_h", "out_w", "n_entries"),
)


def encode(descriptor: Descriptor) -> bytes:
    """The 64 bytes of a descriptor.

    Raises:
        ValueError: a value does not fit its field, named.
    """
    for name, letter in _FORMATS.items():
        low, high = _RANGES[letter]
        value = getattr(descriptor, name)
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; the descriptor holds {low}..{high}")
    return _LAYOUT.pack(*astuple(descriptor))


def decode(record: bytes) -> Descriptor:
    """The descriptor in 64 bytes.

    Raises:
        ValueError: another length, an unknown kind, or a zero where there must be none.
    """
    if len(record) != DESCRIPTOR_BYTES:
        raise ValueError(f"a descriptor has {DESCRIPTOR_BYTES} bytes, not {len(record)}")
    descriptor = Descriptor(*_LAYOUT.unpack(record))
    if descriptor.kind not in set(Kind):
        raise ValueError(f"kind {descriptor.kind} is unknown")
    for name in _POSITIVE:
        if getattr(descriptor, name) == 0:
            raise ValueError(f"{name} is 0")
    return descriptor
