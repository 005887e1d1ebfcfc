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
    lanes = groups.reshape(-1, groups.shape[2])
    out = np.empty((len(lanes), group_bytes(1, groups.shape[2], scheme)), np.uint8)
    for start in range(0, len(lanes), BLOCK_LANES):
        # weights first, lanes last: every step is on one weight of all lanes at once
        block = np.ascontiguousarray(lanes[start : start + BLOCK_LANES].T)
        coded = codes[block.view(np.uint8)]
        if (coded == _NO_CODE).any():
            level = block[coded == _NO_CODE][0]
            raise ValueError(f"level {level} has no code in an array of {scheme}")
        bits = [weight >> place & np.uint8(1) for weight in coded for place in range(width)]
        bits.extend(_relative(_own(block)))
        columns = np.empty((out.shape[1], block.shape[1]), np.uint8)
        for byte, column in enumerate(columns):
            column[:] = bits[8 * byte]
            for place in range(1, 8):
                column |= bits[8 * byte + place] << np.uint8(place)
        out[start : start + BLOCK_LANES] = columns.T
    return out.tobytes()


def decode_groups(data: bytes, outputs: int, inputs: int, scheme: str) -> Levels:
    """Levels (n, outputs, inputs) of packed groups: what the array makes of any bits.

    Raises:
        ValueError: part of a group.
    """
    size = group_bytes(outputs, inputs, scheme)
    if len(data) % size:
        raise ValueError(f"{len(data)} bytes are no whole number of {size}-byte groups")
    width = magnitude_bits(scheme)
    table = np.array(MAGNITUDES[scheme], np.int8)
    packed = np.frombuffer(data, np.uint8).reshape(-1, group_bytes(1, inputs, scheme))
    out = np.empty((len(packed), inputs), np.int8)
    for start in range(0, len(packed), BLOCK_LANES):
        columns = np.ascontiguousarray(packed[start : start + BLOCK_LANES].T)
        bits = [byte >> np.uint8(place) & np.uint8(1) for byte in columns for place in range(8)]
        coded = np.empty((inputs, columns.shape[1]), np.uint8)
        for weight, code in enumerate(coded):
            code[:] = bits[weight * width]
            for place in range(1, width):
                code |= bits[weight * width + place] << np.uint8(place)
        signs = _absolute(np.stack(bits[inputs * width :])).view(np.int8)
        # two's complement: all bits over and one more
        out[start : start + BLOCK_LANES] = ((table[coded] ^ -signs) + signs).T
    return cast(Levels, out.reshape(-1, outputs, inputs))


def own_signs(levels: Levels) -> Bits:
    """Signs (..., inputs) of levels, 1 where negative; zeros take a neighbour's."""
    lanes = levels.reshape(-1, levels.shape[-1]).T
    return np.ascontiguousarray(_own(lanes).T).reshape(levels.shape)


def relative_signs(signs: Bits) -> Bits:
    """Sign bits (..., inputs) in the order of the adder tree, of signs (..., inputs)."""
    return np.moveaxis(_relative(np.moveaxis(signs, -1, 0)), 0, -1)


def absolute_signs(relative: Bits) -> Bits:
    """The inverse of `relative_signs`."""
    return np.moveaxis(_absolute(np.moveaxis(relative, -1, 0)), 0, -1)


BLOCK_LANES = 1 << 12
"""Lanes at a time: their bits stay in the cache."""


def _own(levels: Levels) -> Bits:
    """Signs (inputs, ...) of levels."""
    signs: Bits = (levels < 0).astype(np.uint8)
    here = levels != 0
    for weight in range(1, len(signs)):
        here[weight] |= here[weight - 1]
        # a zero after a weight takes its sign
        np.copyto(signs[weight], signs[weight - 1], where=levels[weight] == 0)
    for weight in range(len(signs) - 2, -1, -1):
        # before the first weight that is not zero there is only that one's
        np.copyto(signs[weight], signs[weight + 1], where=~here[weight])
    return signs


def _relative(signs: Bits) -> Bits:
    """Sign bits (inputs, ...) in the order of the adder tree."""
    parts, left = [], signs
    while len(left) > 1:
        parts.append(left[::2] ^ left[1::2])
        left = left[::2]
    return np.concatenate((*parts, left))


def _absolute(relative: Bits) -> Bits:
    """The inverse of `_relative`."""
    inputs = len(relative)
    signs, start, size = relative[-1:], inputs - 1, 1
    while size < inputs:
        start -= size
        differ = relative[start : start + size]
        size *= 2
        signs = np.stack((signs, signs ^ differ), axis=1).reshape(size, *relative.shape[1:])
    return signs


_NO_CODE = 255


def _codes(scheme: str) -> Bits:
    """Level, as the byte of an int8 -> the first code of its magnitude, or _NO_CODE."""
    table = np.full(256, _NO_CODE, np.uint8)
    for code, magnitude in reversed(list(enumerate(MAGNITUDES[scheme]))):
        table[magnitude] = table[-magnitude & 0xFF] = code
    return table
