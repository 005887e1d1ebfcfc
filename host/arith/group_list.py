"""The list of a layer's groups, as the array reads it.

Groups that hold only zeros are not stored. The list names those that are, block by block, 32 bits
each:

    bits    field
    19..0   row_offset   bytes from the window's first column to the chunk
    27..20  ky           row of the window
    28      last         last entry of its output block
    29      empty        no group: the whole block is zero (`last` is set too)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.groups import GroupCut

Entries = npt.NDArray[np.uint32]

ENTRY_BYTES = 4
OFFSET_BITS = 20
LAST, EMPTY = 1 << 28, 1 << 29
"""Flags of an entry."""


def group_entries(cut: GroupCut, full: npt.NDArray[np.bool_]) -> Entries:
    """The list of a cut of which the groups `full` (n,) are stored.

    Raises:
        ValueError: a chunk lies further from its window than an entry can say.
    """
    blocks, n_blocks = cut.blocks[full], int(cut.blocks[-1]) + 1
    entries = pack_entries(cut.rows[full], cut.offsets[full], np.diff(blocks, append=-1) != 0)
    empty = np.setdiff1d(np.arange(n_blocks), blocks)
    result: Entries = np.insert(entries, np.searchsorted(blocks, empty), np.uint32(LAST | EMPTY))
    return result


def pack_entries(
    rows: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], last: npt.NDArray[np.bool_]
) -> Entries:
    """Entries of chunks at these rows and offsets (n,); `last` of their block or not.

    Raises:
        ValueError: as `group_entries`.
    """
    if offsets.size and (furthest := int(offsets.max())) >> OFFSET_BITS:
        raise ValueError(
            f"a chunk begins {furthest} bytes from its window; an entry of the group list holds "
            f"less than {1 << OFFSET_BITS}"
        )
    return (offsets | rows << OFFSET_BITS | last * LAST).astype(np.uint32)


def stored_groups(entries: Entries, cut: GroupCut) -> npt.NDArray[np.int64]:
    """Which groups of a cut a list names, in its order.

    Raises:
        ValueError: it names something else than this layer's chunks in order.
    """
    blocks = np.searchsorted(np.flatnonzero(entries & LAST), np.arange(len(entries)))
    full = entries & EMPTY == 0
    place = OFFSET_BITS + 8
    keys = (blocks << place | (entries & (1 << place) - 1).astype(np.int64))[full]
    every = cut.blocks << place | cut.rows << OFFSET_BITS | cut.offsets
    found: npt.NDArray[np.int64] = np.searchsorted(every, keys).clip(max=len(every) - 1)
    if not np.array_equal(every[found], keys) or (np.diff(keys) <= 0).any():
        raise ValueError("the group list names other chunks than the layer has")
    return found
