"""One operator of a TFLite file at hand: its options, tensors and constants, checked on the way."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import numpy as np

from bacmac.host.arith.network import Padding
from bacmac.host.importers.lowering import MAX_ELEMENTS, RefusedError
from bacmac.host.importers.tflite_file import TfliteGraph, TfliteOperator, TfliteTensor
from bacmac.host.importers.tflite_shapes import Ints
from bacmac.host.importers.tflite_steps import Axes, Quantization, Step
from bacmac.host.importers.tflite_weights import multipliers, quantization_of

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_KERNEL_WORD = re.compile(r"(Conv2D|convolution|depthwise|MatMul|kernel)\d*")
_WHOLE_MODEL = re.compile(r"(model|functional|sequential)(_\d+)?")
MAX_SMALL = 1 << 22
MAX_NUMBERS = 64
"""In the constants that say what an operator does: axes, sides, paddings."""
_NAMELESS = ("arith.constant", "tfl.pseudo_qconst")
"""What newer converters call every constant."""


@dataclass(eq=False)
class Progress:
    """What has been read of a file so far, by the file's tensor numbers."""

    graph: TfliteGraph
    axes: dict[int, Axes] = field(default_factory=dict)
    folded: dict[int, Ints] = field(default_factory=dict)
    dequantized: dict[int, int] = field(default_factory=dict)  # constants, to where their data are
    quantization: dict[int, Quantization] = field(default_factory=dict)
    below: dict[int, tuple[int, Padding]] = field(default_factory=dict)  # padded for a maximum
    steps: list[Step] = field(default_factory=list)
    n_values: int = 0

    def put(self, tensor: int, axes: Axes) -> None:
        """A tensor is computed from here on."""
        if math.prod(axes.sides) > MAX_ELEMENTS or min(axes.sides) < 1:
            raise RefusedError(f"a tensor of sides {axes.sides}", f"1 to {MAX_ELEMENTS} values")
        self.count(axes.sides[2])
        self.axes[tensor] = axes
        quantization = quantization_of(self.graph.tensor(tensor))
        if quantization is not None:
            self.quantization[tensor] = quantization

    def count(self, n_values: int) -> None:
        """Account for what the model will hold.

        A small file may name one buffer, or a broad tensor, again and again, but not without end.
        """
        self.n_values += n_values
        limit = max(4 * self.graph.n_bytes, MAX_SMALL)
        if self.n_values > limit:
            raise RefusedError(
                f"{self.n_values} weights and channels up to here",
                f"at most {limit} in a file of {self.graph.n_bytes} bytes",
            )


@dataclass(frozen=True, eq=False)
class Reading:
    """An operator and what was read before it; every method raises RefusedError."""

    progress: Progress
    operator: TfliteOperator

    @property
    def y(self) -> int:
        """The output tensor."""
        return self.operator.outputs[0]

    @property
    def name(self) -> str:
        """The name of the weight, else of the output, without what converters put around it."""
        graph, operator = self.progress.graph, self.operator
        index = operator.inputs[1] if operator.code in _WEIGHTED and operator.inputs[1:] else -1
        try:
            name = graph.tensor(self.y if index < 0 else index).name
            if index >= 0 and name.startswith(_NAMELESS):
                name = graph.tensor(self.y).name
        except RefusedError:  # a name for a message about that very tensor
            name = ""
        words = [_attribute(word) for word in name.split(";")[0].split("/") if word]
        while len(words) > 1 and _KERNEL_WORD.fullmatch(words[-1]):
            words.pop()
        if len(words) > 1 and _WHOLE_MODEL.fullmatch(words[0]):
            del words[0]
        words = [word for word in words if word]
        return "/".join(words) or f"{operator.code.lower()}_{operator.index}"

    @property
    def label(self) -> str:
        """For messages."""
        return f"operator {self.operator.index} ({self.operator.code}) {self.name!r}"

    def emit(self, step: Step) -> None:
        """The operator is this step."""
        self.progress.steps.append(step)

    def source(self, place: int = 0) -> tuple[int, Axes]:
        """An activation tensor that the operator reads, computed before it."""
        inputs, axes = self.operator.inputs, self.progress.axes
        index = inputs[place] if place < len(inputs) else -1
        if index not in axes:
            told = self.tensor(index).label if index >= 0 else f"no input {place}"
            raise RefusedError(told, "a tensor that an operator before this one computes")
        if index in self.progress.below and self.operator.code != "MAX_POOL_2D":
            raise RefusedError(
                f"{self.tensor(index).label} padded by another value", "padding by the zero point"
            )
        return index, axes[index]

    def image(self) -> tuple[int, Axes]:
        """The same, with rows, columns and channels in this order."""
        x, axes = self.source()
        if not axes.spatial():
            raise RefusedError(f"an input of axes {axes.letters}", "rows, columns, channels")
        return x, axes

    def tensor(self, index: int) -> TfliteTensor:
        """What the file says of a tensor; of a constant that it dequantizes first, before that."""
        return self.progress.graph.tensor(self.progress.dequantized.get(index, index))

    def in_floats(self, x: int) -> bool:
        """Whether the operator computes on floats: its activations are both float or both codes."""
        floats = x not in self.progress.quantization
        if floats != (self.y not in self.progress.quantization):
            told = " and ".join(self.tensor(each).label for each in (x, self.y))
            raise RefusedError(f"{told}, float and quantized", "both the same")
        return floats

    def weight(self) -> TfliteTensor:
        """The second input."""
        if len(self.operator.inputs) < 2:
            raise RefusedError("no weight", "an input, a weight and perhaps a bias")
        weight = self.tensor(self.operator.inputs[1])
        self.progress.count(math.prod(weight.shape))
        return weight

    def bias(self) -> TfliteTensor | None:
        """The third input, if there is one."""
        index = self.operator.inputs[2] if len(self.operator.inputs) > 2 else -1
        return self.tensor(index) if index >= 0 else None

    def grid(self, tensor: int) -> Quantization:
        """How an activation tensor is stored, which must be as codes."""
        if tensor not in self.progress.quantization:
            found = self.tensor(tensor)
            raise RefusedError(
                f"{found.label} of type {found.type}",
                "INT8 or UINT8",
            )
        return self.progress.quantization[tensor]

    def same_grid(self, x: int) -> None:
        """The output must be stored as x is: the operator only moves or compares codes."""
        if self.progress.quantization.get(x) != self.progress.quantization.get(self.y):
            raise RefusedError(
                f"{self.tensor(self.y).label} of another scale or zero point than its input",
                "the same",
            )

    def rescaled(self, x: int) -> None:
        """The step from x's scale to the output's must be one that the runtime can make."""
        multipliers(self.grid(x).scale, np.ones(1), self.grid(self.y).scale, narrow=False)

    def constant(self, place: int) -> Ints:
        """A constant that the operator reads, from the file or folded."""
        if place >= len(self.operator.inputs):
            raise RefusedError(f"{len(self.operator.inputs)} inputs", f"{place + 1} or more")
        index = self.operator.inputs[place]
        if index in self.progress.folded:
            return self.progress.folded[index]
        values = self.tensor(index).constant
        if values.size > MAX_NUMBERS:
            raise RefusedError(f"{self.tensor(index).label} of {values.size} numbers", "a few")
        if not (np.abs(values.astype(np.float64)) < 2**53).all() or (values % 1).any():
            raise RefusedError(f"{self.tensor(index).label} of other numbers", "whole numbers")
        return values.astype(np.int64)

    def integer(self, field: int, kind: str = "i", *, default: int = 0) -> int:
        """An option, by its number in the schema."""
        options = self.operator.options
        return default if options is None else options.integer(field, kind, default)


def _attribute(word: str) -> str:
    """Of "torch.nn.modules.conv.Conv2d_conv1", as exporters from PyTorch write it, "conv1"."""
    module, _, last = word.rpartition(".")
    return last.partition("_")[2] if module and last[:1].isupper() else word
