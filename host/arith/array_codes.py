"""Weights as the array takes them: coded magnitudes and relative signs.

A group is `outputs` lanes of `inputs` weights. A lane is its magnitudes, weight 0 in the lowest
bits, then as many sign bits as weights; lanes follow each other without gaps, low bits first.

Magnitudes are codes of the overlay's product term, `MAGNITUDES`: a multiplier takes the number
itself, a shifter what steers its multiplexers. Code 0 is level 0 everywhere.

Signs are relative. The adder tree of a lane adds or subtracts, x + y or x - y, so nothing is ever
negated: the bit of a node says whether the signs of the first weights of its two halves differ,
and the last bit is the sign of weight 0, by which the sum goes into the accumulator. For 8:

    s0^s1  s2^s3  s4^s5  s6^s7    s0^s2  s4^s6    s0^s4    s0

A weight of zero has no sign of its own. It takes that of the weight before it in the lane, and
where there is none that of the first weight that is not zero, so that its node adds.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[np.int8]
Bits = npt.NDArray[np.uint8]

MAGNITUDES: dict[str, tuple[int, ...]] = {
    "uniform-8": tuple(range(128)),
    "uniform-4": tuple(range(8)),
    "uniform-3": tuple(range(8)),
    # two bits choose 0, 1, 2 or 4, the third shifts that by two more; codes 4 and 5 are not used
    "pot-4e4": (0, 1, 2, 4, 0, 4, 8, 16),
    # the exponent and one
    "pot-4": (0, 1, 2, 4, 8, 16, 32, 64),
}
"""For each scheme that an array executes, what every code of a magnitude stands for."""


def magnitude_bits(scheme: str) -> int:
    """Bits of one magnitude: 3 in an array of 4-bit codes, 7 in one of 8-bit codes."""
    return len(MAGNITUDES[scheme]).bit_length() - 1


def group_bytes(outputs: int, inputs: int, scheme: str) -> int:
    """Bytes of one group of outputs x inputs weights."""
    return outputs * inputs * (magnitude_bits(scheme) + 1) // 8


def encode_groups(groups: Levels, scheme: str) -> bytes:
    """Bytes of groups (n, outputs, inputs); inputs is a power of two, a lane whole bytes.

    Raises:
        ValueError: a level that the array has no code for.
    """
    width, codes = magnitude_bits(scheme), _codes(scheme)
    magnitudes = np.abs(groups.astype(np.int16))
    coded = codes[magnitudes]
    if (coded == _NO_CODE).any():
        level = groups[coded == _NO_CODE][0]
        raise ValueError(f"level {level} has no code in an array of {scheme}")
    places = np.arange(width, dtype=np.uint8)
    bits = coded[..., None] >> places & np.uint8(1)
    bits = bits.reshape(*groups.shape[:2], groups.shape[2] * width)
    lanes = np.concatenate((bits, relative_signs(own_signs(groups))), axis=-1)
    return np.packbits(lanes.reshape(-1), bitorder="little").tobytes()


def decode_groups(data: bytes, outputs: int, inputs: int, scheme: str) -> Levels:
    """Levels (n, outputs, inputs) of packed groups: what the array makes of any bits.

    Raises:
        ValueError: part of a group.
    """
    size = group_bytes(outputs, inputs, scheme)
    if len(data) % size:
        raise ValueError(f"{len(data)} bytes are no whole number of {size}-byte groups")
    width = magnitude_bits(scheme)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    lanes = bits.reshape(-1, outputs, inputs * (width + 1))
    coded = lanes[..., : inputs * width].reshape(-1, outputs, inputs, width)
    codes = (coded << np.arange(width, dtype=np.uint8)).sum(-1, dtype=np.uint8)
    magnitudes = np.array(MAGNITUDES[scheme], np.int8)[codes]
    negative = absolute_signs(lanes[..., inputs * width :]).astype(bool)
    return cast(Levels, np.where(negative, -magnitudes, magnitudes))


def own_signs(levels: Levels) -> Bits:
    """Signs (..., inputs) of levels, 1 where negative; zeros take a neighbour's."""
    inputs = levels.shape[-1]
    here = np.where(levels != 0, np.arange(inputs), -1)
    source = np.maximum.accumulate(here, axis=-1)
    first = (levels != 0).argmax(axis=-1)[..., None]
    source = np.where(source < 0, first, source)
    signs: Bits = np.take_along_axis((levels < 0).astype(np.uint8), source, axis=-1)
    return signs


def relative_signs(signs: Bits) -> Bits:
    """Sign bits (..., inputs) in the order of the adder tree, of signs (..., inputs)."""
    parts, left = [], signs
    while left.shape[-1] > 1:
        parts.append(left[..., ::2] ^ left[..., 1::2])
        left = left[..., ::2]
    return np.concatenate((*parts, left), axis=-1)


def absolute_signs(relative: Bits) -> Bits:
    """The inverse of `relative_signs`."""
    inputs = relative.shape[-1]
    signs, start, size = relative[..., -1:], inputs - 1, 1
    while size < inputs:
        start -= size
        differ = relative[..., start : start + size]
        size *= 2
        signs = np.stack((signs, signs ^ differ), axis=-1).reshape(*relative.shape[:-1], size)
    return signs


_NO_CODE = 255


def _codes(scheme: str) -> Bits:
    """Magnitude (0 .. 128) -> its first code, _NO_CODE where there is none."""
    table = np.full(129, _NO_CODE, np.uint8)
    for code, magnitude in reversed(list(enumerate(MAGNITUDES[scheme]))):
        table[magnitude] = code
    return table
