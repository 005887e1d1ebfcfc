"""The quantized model: an integer network with names, schemes and scales beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import ConvOp, IntegerNetwork, Op, Shape
from bacmac.host.model.layers import Normalization


@dataclass(frozen=True)
class ActivationFormat:
    """How a tensor is stored: value = (integer - zero) * scale, 1 to 8 bits.

    The accelerator knows nothing of `zero`: what reads the tensor has it in its bias. It is 0
    except where a file brought its own zero points, and need not be whole.
    """

    scale: float
    bits: int = 8
    signed: bool = False
    zero: float = 0.0

    @property
    def low(self) -> int:
        """Smallest integer it holds."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest integer it holds."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """One op with what a person or a report wants to know of it.

    Attributes:
        name: the float layer's name.
        op: what the accelerator does.
        output: the stored output; None where the op leaves int32 logits.
        scheme: name of the weight scheme, "" for a pool.
        weight_scale: float64 (C_out,): weight = level * scale; empty for a pool.
        structural: weights only move data; not counted as weights.
        relative_squared_error: sum((w - level*scale)^2) / sum(w^2) against the float weights,
            before pruning; 0 for a pool.
    """

    name: str
    op: Op
    output: ActivationFormat | None
    scheme: str = ""
    weight_scale: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    structural: bool = False
    relative_squared_error: float = 0.0

    @property
    def has_weights(self) -> bool:
        """Whether this layer's weights are counted (not a pool, not structural)."""
        return isinstance(self.op, ConvOp) and not self.structural

    @property
    def sparsity(self) -> float:
        """Share of zero weights, 0 for a layer without weights."""
        if not isinstance(self.op, ConvOp):
            return 0.0
        return 1.0 - np.count_nonzero(self.op.levels) / self.op.levels.size


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """A network ready to be packed.

    Attributes:
        name: for people.
        input_shape: (C, H, W).
        input_format: how the input is stored on the device.
        normalization: how stored pixels become the float input.
        layers: in execution order; `layers[i].op` is op i of the integer network.
        logit_scale: float64 (C,): output value = integer * logit_scale + logit_offset. The
            stored output's scale repeated, where the last layer requantizes.
        provenance: what made it: source file and sha256, options, tool version. Strings,
            numbers, and lists or dicts of them.
        logit_offset: float64 (C,), or () for zeros.
    """

    name: str
    input_shape: Shape
    input_format: ActivationFormat
    normalization: Normalization
    layers: tuple[QuantizedLayer, ...]
    logit_scale: npt.NDArray[np.float64]
    provenance: Mapping[str, object] = field(default_factory=dict)
    logit_offset: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))

    def values(self, outputs: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Output values (N, C, H, W) of the integers (N, C, H, W) that the device gives."""
        offset = self.logit_offset.reshape(-1, 1, 1)
        result: npt.NDArray[np.float64] = outputs * self.logit_scale[:, None, None] + offset
        return result

    @cached_property
    def network(self) -> IntegerNetwork:
        """The integer network; raises ValueError when the parts do not fit together."""
        return IntegerNetwork(
            self.input_shape,
            self.input_format.low,
            self.input_format.high,
            tuple(layer.op for layer in self.layers),
        )
