"""FINN's layout of weights: rows of two's complement numbers.

Number j of a row occupies bits j b to j b + b - 1 of the row's little-endian integer; a row is
filled with zero bits to a whole byte. These are the bytes of FINN's
`finnpy_to_packed_bytearray(matrix, DataType["INT4"], reverse_inner=True, reverse_endian=True)`
(Umuroglu et al. 2017, arXiv 1612.07119; github.com/Xilinx/finn). FINN lowers a convolution to a
matrix of output channels by row, column and channel of the window, which is the order here too.
Signs alone are its BIPOLAR: bit 1 for +1, bit 0 for -1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.schemes import Levels, Scheme
from bacmac.host.pack.bits import Bytes, group_codes, pack_codes, unpack_codes

Numbers = npt.NDArray[np.int8] | npt.NDArray[np.int16]


def finn_bits(scheme: Scheme) -> int:
    """Bits of the narrowest of FINN's types with all levels: BIPOLAR's 1, or b of INTb."""
    if not scheme.has_zero:
        return 1
    return max(scheme.max_level, -1 - int(scheme.levels[0])).bit_length() + 1


def finn_type(scheme: Scheme) -> str:
    """The name of that type."""
    return "BIPOLAR" if finn_bits(scheme) == 1 else f"INT{finn_bits(scheme)}"


def pack_finn(numbers: Numbers, bits: int) -> Bytes:
    """The bytes FINN streams for signed integers, inner dimension and byte order reversed.

    Args:
        numbers: int8 or int16 (rows, columns), each -2**(bits-1) to 2**(bits-1) - 1.
        bits: 1 to 16.

    Returns:
        uint8 (rows, ceil(columns * bits / 8)).

    Raises:
        ValueError: a number does not fit, or the array is not such a matrix.
    """
    if numbers.ndim != 2 or numbers.dtype not in (np.int8, np.int16):
        raise ValueError(
            f"numbers are {numbers.dtype}{numbers.shape}, not int8 or int16 of two dimensions"
        )
    half = 1 << (bits - 1)
    if numbers.size:
        for number in (int(numbers.min()), int(numbers.max())):
            if not -half <= number < half:
                raise ValueError(f"{number} does not fit {bits} signed bits")
    unsigned = numbers.view(f"u{numbers.itemsize}")
    return _pack_rows(unsigned & unsigned.dtype.type((1 << bits) - 1), bits)


def unpack_finn(rows: Bytes, columns: int, bits: int) -> npt.NDArray[np.int16]:
    """Undo `pack_finn`: int16 (rows, columns).

    Raises:
        ValueError: rows of another length, or filled with something else than zero bits.
    """
    codes = _unpack_rows(rows, columns, bits).astype(np.int32)
    half = 1 << (bits - 1)
    return ((codes ^ half) - half).astype(np.int16)


def pack_finn_levels(matrix: Levels, scheme: Scheme) -> Bytes:
    """A weight matrix in `finn_type`."""
    if finn_bits(scheme) == 1:
        return _pack_rows((matrix > 0).view(np.uint8), 1)
    return pack_finn(matrix, finn_bits(scheme))


def unpack_finn_levels(rows: Bytes, columns: int, scheme: Scheme) -> npt.NDArray[np.int16]:
    """Undo `pack_finn_levels`; ValueError as `unpack_finn`."""
    if finn_bits(scheme) == 1:
        return _unpack_rows(rows, columns, 1).astype(np.int16) * 2 - 1
    return unpack_finn(rows, columns, finn_bits(scheme))


def _pack_rows(codes: npt.NDArray[np.unsignedinteger], bits: int) -> Bytes:
    rows, columns = codes.shape
    whole = -(-columns // group_codes(bits)) * group_codes(bits)
    if whole != columns:
        codes = np.pad(codes, ((0, 0), (0, whole - columns)))
    flat = codes.astype(np.uint16 if bits > 8 else np.uint8, copy=False).reshape(-1)
    packed = pack_codes(flat, bits).reshape(rows, whole * bits // 8)
    return packed[:, : -(-columns * bits // 8)]


def _unpack_rows(rows: Bytes, columns: int, bits: int) -> npt.NDArray[np.uint16]:
    whole = -(-columns // group_codes(bits)) * group_codes(bits)
    n_bytes = -(-columns * bits // 8)
    if rows.ndim != 2 or rows.shape[1] != n_bytes:
        raise ValueError(f"rows of {rows.shape[1:]} bytes, not {n_bytes}")
    padded = np.zeros((len(rows), whole * bits // 8), np.uint8)
    padded[:, :n_bytes] = rows
    codes = unpack_codes(padded.reshape(-1), len(rows) * whole, bits).reshape(len(rows), whole)
    if codes[:, columns:].any():
        raise ValueError("a row is not filled with zero bits")
    return codes[:, :columns].astype(np.uint16)
