"""The steps of a TFLite network, free of the file's layouts: what the executor and lowering share.

Every tensor is seen as rows, columns and channels (NHWC without N), whatever axes the file gives
it: reshapes and transposes move letters, not data, and a fully connected layer is a convolution
whose kernel is its whole input. Integers, scales and zero points are the file's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import Padding

Sides = tuple[int, int, int]
"""Rows, columns, channels."""
Pair = tuple[int, int]


@dataclass(frozen=True)
class Quantization:
    """How an activation tensor is stored: value = (code - zero) * scale.

    Attributes:
        scale: a float32 number above 0.
        zero: the zero point.
        low: smallest code of the type.
        high: largest code of the type.
    """

    scale: float
    zero: int
    low: int
    high: int


@dataclass(frozen=True)
class Bounds:
    """What a fused activation leaves: values from low to high, both may be infinite."""

    low: float
    high: float


UNBOUNDED = Bounds(-np.inf, np.inf)


@dataclass(frozen=True, eq=False)
class Step:
    """One operator, from tensor `x` to tensor `y` (the file's numbers)."""

    name: str
    x: int
    y: int


@dataclass(frozen=True, eq=False)
class Convolve(Step):
    """CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED.

    Attributes:
        levels: int16 (C_out, kh, kw, C_in / groups), weight zero points subtracted; or the
            weights themselves, float32, which only a float x goes with.
        scale: float64 (C_out,): weight = level * scale.
        bias: int64 (C_out,), in units of x's scale times `scale`; float64 where x is float.
        multiplier: float64 (C_out,): from the accumulator to y's steps, computed in the precision
            that the runtime uses; empty where x is float.
        bounds: of the fused activation.
        fixed_point: the runtime's factor is an integer and a shift; else it is float64.
    """

    levels: npt.NDArray[np.int16] | npt.NDArray[np.float32]
    scale: npt.NDArray[np.float64]
    bias: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    multiplier: npt.NDArray[np.float64]
    stride: Pair
    padding: Padding
    groups: int
    bounds: Bounds
    fixed_point: bool = True


@dataclass(frozen=True, eq=False)
class Add(Step):
    """ADD of two activation tensors of one shape."""

    other: int
    bounds: Bounds


Combination = Literal["add", "subtract", "multiply"]


@dataclass(frozen=True, eq=False)
class Combine(Step):
    """ADD, SUB or MUL with a constant for all, or one a channel.

    Attributes:
        kind: "subtract" is the tensor less the constant.
        codes: int64 (C,) of the constant; its values, float64, where x is float.
        constant: how they are stored; None where x is float.
    """

    kind: Combination
    codes: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    constant: Quantization | None
    bounds: Bounds


@dataclass(frozen=True, eq=False)
class Window(Step):
    """AVERAGE_POOL_2D (padding is left out of the mean) or MAX_POOL_2D."""

    kind: Literal["average", "max"]
    kernel: Pair
    stride: Pair
    padding: Padding
    bounds: Bounds


@dataclass(frozen=True, eq=False)
class Mean(Step):
    """MEAN over all rows and columns, from x's scale to y's."""


@dataclass(frozen=True, eq=False)
class Pad(Step):
    """PAD: rows and columns of the zero point, and channels of it before and after."""

    padding: Padding
    channels: Pair


@dataclass(frozen=True, eq=False)
class Every(Step):
    """STRIDED_SLICE that takes every n-th row and column from the first."""

    stride: Pair


@dataclass(frozen=True, eq=False)
class Same(Step):
    """The same data under another name or shape."""


@dataclass(frozen=True, eq=False)
class Requantize(Step):
    """QUANTIZE from codes to codes, RELU and its kin: another scale, then bounds."""

    bounds: Bounds


@dataclass(frozen=True, eq=False)
class Quantize(Step):
    """QUANTIZE from float32 to codes."""


@dataclass(frozen=True, eq=False)
class Dequantize(Step):
    """DEQUANTIZE from codes to float32."""


@dataclass(frozen=True, eq=False)
class Network:
    """A whole file, resolved.

    Attributes:
        name: the file's stem.
        input: number of the input tensor.
        input_sides: rows, columns and channels of it.
        output: number of the tensor that is the result; its Softmax is left out.
        steps: in execution order, all needed.
        quantization: by tensor; float tensors (the input, the output) have none.
        notes: what was left out.
    """

    name: str
    input: int
    input_sides: Sides
    output: int
    steps: tuple[Step, ...]
    quantization: dict[int, Quantization]
    notes: tuple[str, ...]

    @property
    def in_integers(self) -> bool:
        """Whether all arithmetic is on codes: floats are only quantized, moved and given out."""
        only = (Quantize, Dequantize, Same, Every)
        return all(step.x in self.quantization or isinstance(step, only) for step in self.steps)


@dataclass(frozen=True)
class Axes:
    """The axes of a file's tensor, N left out, in terms of rows, columns and channels.

    Attributes:
        letters: for each axis the letters of "HWC" that it runs over, outermost first; "" for an
            axis of one entry. Sides of 1 have no letter anywhere.
        sides: rows, columns, channels.
    """

    letters: tuple[str, ...]
    sides: Sides

    @property
    def shape(self) -> tuple[int, ...]:
        """Entries along each axis."""
        return tuple(int(np.prod([self.side(each) for each in word])) for word in self.letters)

    @property
    def order(self) -> str:
        """All letters, outermost first; those of one entry come last."""
        there = "".join(self.letters)
        return there + "".join(each for each in "HWC" if each not in there)

    def side(self, letter: str) -> int:
        """Entries of a letter."""
        return self.sides["HWC".index(letter)]

    def spatial(self) -> bool:
        """Whether the axes are rows, columns and channels in this order."""
        named = zip(self.letters, "HWC", strict=False)
        return len(self.letters) == 3 and all(word in ("", letter) for word, letter in named)

    def letter(self, axis: int) -> str:
        """The letter of an axis; of an axis of one entry, the one that its place suggests."""
        if self.letters[axis]:
            return self.letters[axis]
        free = [each for each in "HWC" if each not in "".join(self.letters)]
        empty = [index for index, word in enumerate(self.letters) if not word]
        place = empty.index(axis)
        return free[place] if len(empty) == len(free) else ""

    def reshaped(self, shape: tuple[int, ...]) -> Axes | None:
        """The axes after a reshape to `shape`; None where an axis would hold part of a letter."""
        waiting = list("".join(self.letters))
        words = []
        for side in shape:
            word, count = "", 1
            while waiting and count < side:
                count *= self.side(waiting[0])
                word += waiting.pop(0)
            if count != side:
                return None
            words.append(word)
        return None if waiting else Axes(tuple(words), self.sides)

    def to_model(self, values: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
        """Values whose axis `axis` runs over all entries in this order, made to run in HWC order.

        The axis becomes three: rows, columns, channels.
        """
        order = self.order
        split = values.reshape(
            *values.shape[:axis], *(self.side(each) for each in order), *values.shape[axis + 1 :]
        )
        places = [axis + order.index(each) for each in "HWC"]
        rest = range(axis + 3, split.ndim)
        moved: npt.NDArray[Any] = split.transpose(*range(axis), *places, *rest)
        return moved


def spatial_axes(sides: Sides) -> Axes:
    """Rows, columns and channels, in this order."""
    pairs = zip("HWC", sides, strict=True)
    return Axes(tuple(letter if side > 1 else "" for letter, side in pairs), sides)
