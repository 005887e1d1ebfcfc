"""The accelerator's own order as a storage format: what its memories take, byte for byte.

The layer's group list (`arith.group_list`) after its length in 4 bytes, then the groups that are
not empty in the array's code (`arith.array_codes`), as the compiler lays them out for an array of
this many outputs and inputs. Whoever loads such a file copies; nothing is reordered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.array_codes import decode_groups, encode_groups, group_bytes
from bacmac.host.arith.group_list import ENTRY_BYTES, OFFSET_BITS, group_entries, stored_groups
from bacmac.host.arith.groups import GroupCut, cut_groups, gather_groups, scatter_groups
from bacmac.host.arith.schemes import Levels, Scheme
from bacmac.host.pack.bits import Bytes
from bacmac.host.pack.layer_shape import LayerShape, too_few_bytes

COUNT_BYTES = 4
MAX_SLOTS = 1 << 22
"""Weights of a layer and the holes between them: more than any of these arrays' memories hold, and
little enough for a reader to lay out."""

ARRAYS = {
    "uniform-8": "uniform-8",
    "uniform-4": "uniform-4",
    "uniform-3": "uniform-3",
    "pot-4": "pot-4",
    "pot-4e4": "pot-4e4",
    "pot-3": "pot-4e4",
    "ternary": "pot-4e4",
    "binary": "pot-4e4",
    "apot-4": "uniform-8",
}
"""The narrowest array code that has all of a scheme's levels; pot-5 has none."""


@dataclass(frozen=True)
class Stream:
    """Groups of an array of `outputs` x `inputs`, powers of two.

    Attributes:
        outputs: output channels of a group, 8 to 64.
        inputs: inputs of a group, 8 to 64.
    """

    outputs: int
    inputs: int

    @property
    def name(self) -> str:
        """As files have it: stream-16x16."""
        return f"stream-{self.outputs}x{self.inputs}"

    def refusal(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> str:
        """Why these levels cannot be stored so, or ""."""
        if why := self._misfit(scheme, shape):
            return why
        if int(self._cut(shape).offsets.max()) >> OFFSET_BITS:
            return "a chunk begins further from its window than an entry can say"
        return too_few_bytes(self._slots(shape), self.size(levels, scheme, shape))

    def size(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> int:
        """Bytes: 4 + 4 entries + stored groups * bytes of a group."""
        cut = self._cut(shape)
        full = gather_groups(levels, cut).any(axis=(1, 2))
        n_empty_blocks = int(cut.blocks[-1]) + 1 - len(np.unique(cut.blocks[full]))
        n_stored = int(np.count_nonzero(full))
        entries = ENTRY_BYTES * (n_stored + n_empty_blocks)
        return COUNT_BYTES + entries + n_stored * self._group_bytes(scheme)

    def pack(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> Bytes:
        """Levels of the layer's shape to bytes; ValueError where the list cannot say a place."""
        if why := self._misfit(scheme, shape):
            raise ValueError(why)
        if not scheme.holds(levels).all():
            raise ValueError(f"a level is not in {scheme.name}")
        cut = self._cut(shape)
        groups = gather_groups(levels.astype(np.int8), cut)
        full: npt.NDArray[np.bool_] = groups.any(axis=(1, 2)).reshape(-1)
        entries = group_entries(cut, full).astype("<u4")
        count = len(entries).to_bytes(COUNT_BYTES, "little")
        data = count + entries.tobytes() + encode_groups(groups[full], ARRAYS[scheme.name])
        return np.frombuffer(data, np.uint8)

    def unpack(self, data: Bytes, scheme: Scheme, shape: LayerShape) -> Levels:
        """Undo `pack`; ValueError for bytes that it cannot have made."""
        if why := self._misfit(scheme, shape):
            raise ValueError(why)
        if data.size < COUNT_BYTES:
            raise ValueError(f"{data.size} bytes, not even a count")
        n = int.from_bytes(data[:COUNT_BYTES].tobytes(), "little")
        first = COUNT_BYTES + ENTRY_BYTES * n
        if data.size < first or (data.size - first) % self._group_bytes(scheme):
            raise ValueError(f"{data.size} bytes, not a list of {n} entries and whole groups")
        entries = np.ascontiguousarray(data[COUNT_BYTES:first]).view("<u4").astype(np.uint32)
        if why := too_few_bytes(self._slots(shape), data.size):
            raise ValueError(why)
        cut = self._cut(shape)
        stored = stored_groups(entries, cut)
        full = np.zeros(len(cut.blocks), np.bool_)
        full[stored] = True
        if not np.array_equal(group_entries(cut, full), entries):
            raise ValueError("the group list is not in its one form")
        packed = data[first:].tobytes()
        array = ARRAYS[scheme.name]
        groups = decode_groups(packed, self.outputs, self.inputs, array)
        if len(groups) != len(stored):
            raise ValueError(f"{len(groups)} groups for a list of {len(stored)}")
        empty = ~groups.any(axis=(1, 2))
        if empty.any():
            raise ValueError(f"group {int(empty.argmax())} is empty, and empty ones are left out")
        if encode_groups(groups, array) != packed:
            raise ValueError("a code or a sign is not in its one form")
        if (groups[cut.index[stored] < 0] != 0).any():
            raise ValueError("a group has a weight where the layer has none")
        every = np.zeros((len(full), self.outputs, self.inputs), scheme.levels.dtype)
        every[stored] = groups
        levels = cast(Levels, scatter_groups(every, cut).reshape(shape.weights))
        wrong = ~scheme.holds(levels)
        if wrong.any():
            raise ValueError(f"level {int(levels[wrong][0])} is not in {scheme.name}")
        return levels

    def _cut(self, shape: LayerShape) -> GroupCut:
        return cut_groups(
            shape.weights,
            shape.groups,
            dense=shape.dense,
            outputs=self.outputs,
            inputs=self.inputs,
        )

    def _group_bytes(self, scheme: Scheme) -> int:
        return group_bytes(self.outputs, self.inputs, ARRAYS[scheme.name])

    def _misfit(self, scheme: Scheme, shape: LayerShape) -> str:
        """Why no layer of this scheme and shape can be stored so, or ""."""
        if scheme.name not in ARRAYS:
            return f"no array has a code for {scheme.name}"
        slots = self._slots(shape)
        return f"{slots} slots, more than {MAX_SLOTS}" if slots > MAX_SLOTS else ""

    def _slots(self, shape: LayerShape) -> int:
        """At most so many places have the groups of a layer, filled or not."""
        c_out, c_in, kh, kw = shape.weights
        chunks = kh * (-(-kw * c_in * shape.groups // self.inputs) + kw)
        return -(-c_out // self.outputs) * self.outputs * chunks * self.inputs
