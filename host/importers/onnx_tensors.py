"""What is known of an ONNX graph's tensors while its nodes are read."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.importers.lowering import RefusedError
from bacmac.host.model.layers import Grid, KeptWeights

Array = npt.NDArray[Any]

MAX_LEVEL = 32767
_NARROW = {"int2": (-2, 1), "uint2": (0, 3), "int4": (-8, 7), "uint4": (0, 15)}


@dataclass(frozen=True, eq=False)
class Integers:
    """A constant that the file holds as integers: value = levels * scale.

    Attributes:
        levels: int32; zero points are subtracted.
        scale: float64 of the same shape, 0 or above; often a broadcast view.
    """

    levels: npt.NDArray[np.int32]
    scale: npt.NDArray[np.float64]

    def moved(self, move: Callable[[Array], Array]) -> Integers:
        """The same after a step that only moves elements."""
        return Integers(move(self.levels), move(self.scale))

    def scaled(self, factor: Array) -> Integers:
        """The same times a constant that NumPy broadcasting spreads over it."""
        wide = factor.astype(np.float64)
        signs = np.sign(wide).astype(np.int32)
        return Integers(self.levels * signs, self.scale * np.abs(wide))

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """float32 of the same shape."""
        with np.errstate(over="ignore"):
            return (self.levels * self.scale).astype(np.float32)

    def by_channel(self) -> KeptWeights:
        """Levels and one scale an output channel, which axis 0 counts.

        Raises:
            RefusedError: the integers cannot be written so; they still are floats.
        """
        if self.levels.size and max(-int(self.levels.min()), int(self.levels.max())) > MAX_LEVEL:
            raise RefusedError("integers of more than 16 bits", f"{MAX_LEVEL} at most")
        rows = self.scale.reshape(len(self.scale), -1)
        if rows.shape[1] == 0 or bool((rows != rows[:, :1]).any()):
            raise RefusedError("scales that differ within one output channel", "one a channel")
        return KeptWeights(self.levels.astype(np.int16), np.array(rows[:, 0], np.float64))


@dataclass
class Tensors:
    """The state that the readers of nodes share.

    Attributes:
        constants: by name, what does not depend on the image.
        integers: those constants that are integers times a scale.
        codes: tensors that hold integers (what QuantizeLinear writes), and what they stand for.
            The lowering knows them by the values they stand for.
        channels_last: tensors that the file sees as (N, H, W, C), or as (N, features) flattened
            from that. The lowering knows them channels first.
        three_sided: tensors (N, C, 1), on the way to (N, C) or from it.
    """

    constants: MutableMapping[str, Array]
    integers: dict[str, Integers] = field(default_factory=dict)
    codes: dict[str, Grid] = field(default_factory=dict)
    channels_last: set[str] = field(default_factory=set)
    three_sided: set[str] = field(default_factory=set)


def is_integer(dtype: np.dtype[Any]) -> bool:
    """Whether `code_range` knows the type."""
    return dtype.kind in "iu" or dtype.name in _NARROW


def code_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Smallest and largest code of an integer type, the 2- and 4-bit ones of ONNX included.

    Raises:
        RefusedError: not integers.
    """
    # before ml_dtypes, onnx marked its narrow types by a field of their name
    name = dtype.names[0] if dtype.names else dtype.name
    if name in _NARROW:
        return _NARROW[name]
    if dtype.kind not in "iu":
        raise RefusedError(f"codes of type {name}", "integers")
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)
