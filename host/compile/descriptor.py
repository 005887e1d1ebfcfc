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
    14     u16  groups             convolution groups
    16     u16  in_h
    18     u16  in_w
    20     u16  in_c
    22     u16  out_c
    24     u32  input_address      bytes into the activation memory
    28     u32  output_address     bytes into the activation memory
    32     u32  residual_address   bytes into the activation memory; 0 without a residual
    36     u32  weight_address     bytes into the weight memory
    40     u32  weight_bytes       bytes of weights the layer loads: its groups that are not empty
    44     u32  constant_address   bytes into the constant memory: one record a channel
    48     u32  bitmap_address     bytes into the constant memory: one bit a weight group
    52     i16  input_low          smallest input value; negative: the input is int8
    54     i16  input_high         largest input value
    56..63 -    reserved           zero

Where a field has no meaning (weights of a pool, the clamp of a layer that leaves int32) it is 0.
Output height and width are not stored: they follow from the others.
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
    """Clamp to 8 bits; without it a convolution leaves int32."""
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
    constant_address: int
    bitmap_address: int
    input_low: int
    input_high: int

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
        """(C, H, W).

        Raises:
            ValueError: the window does not fit the input.
        """
        span_h = self.in_h + self.pad_top + self.pad_bottom - self.kernel_h
        span_w = self.in_w + self.pad_left + self.pad_right - self.kernel_w
        if span_h < 0 or span_w < 0:
            raise ValueError(f"a {self.kernel} window does not fit {self.input_shape}")
        return self.out_c, span_h // self.stride_h + 1, span_w // self.stride_w + 1


_FORMATS = dict(
    zip(
        Descriptor.__dataclass_fields__,
        (*"BBBBBBBBBB", *"hh", *"HHHHH", *"IIIIIII", *"hh"),
        strict=True,
    )
)
_RANGES = {"B": (0, 255), "h": (-(2**15), 2**15 - 1), "H": (0, 2**16 - 1), "I": (0, 2**32 - 1)}
_LAYOUT = struct.Struct("<" + "".join(_FORMATS.values()) + "8s")
_RESERVED = bytes(8)


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
    return _LAYOUT.pack(*astuple(descriptor), _RESERVED)


def decode(record: bytes) -> Descriptor:
    """The descriptor in 64 bytes.

    Raises:
        ValueError: another length, an unknown kind or flag, a zero where there must be none,
            or reserved bytes that are set.
    """
    if len(record) != DESCRIPTOR_BYTES:
        raise ValueError(f"a descriptor has {DESCRIPTOR_BYTES} bytes, not {len(record)}")
    *values, reserved = _LAYOUT.unpack(record)
    descriptor = Descriptor(*values)
    if reserved != _RESERVED:
        raise ValueError("reserved bytes are not zero")
    if descriptor.kind not in set(Kind):
        raise ValueError(f"kind {descriptor.kind} is unknown")
    if descriptor.flags & ~sum(Flag):
        raise ValueError(f"flags {descriptor.flags:#x} are unknown")
    for name in ("kernel_h", "kernel_w", "stride_h", "stride_w", "in_h", "in_w", "in_c", "out_c"):
        if getattr(descriptor, name) == 0:
            raise ValueError(f"{name} is 0")
    return descriptor
