"""The operators of QONNX: Quant (IntQuant), BipolarQuant and Trunc.

By their pages of the QONNX project (Pappalardo et al. 2022, arXiv 2206.07527; docs/qonnx-custom-ops
of github.com/fastmachinelearning/qonnx), both versions of Trunc. All three read floats and write
floats that lie on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bacmac.host.importers.lowering import Lowering, RefusedError
from bacmac.host.importers.onnx_node import Node, finite_float32
from bacmac.host.importers.onnx_qdq import scale_of
from bacmac.host.importers.onnx_tensors import Array, Integers
from bacmac.host.model.layers import Grid, Rounding

MAX_BITS = 32
_BIPOLAR_ZERO = 0.5
_Floats = npt.NDArray[np.float32]
_ROUNDINGS: dict[str, Callable[[_Floats], _Floats]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda v: np.copysign(np.ceil(np.abs(v)), v),
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "HALF_UP": lambda v: np.copysign(np.floor(np.abs(v) + np.float32(0.5)), v),
    "HALF_DOWN": lambda v: np.copysign(np.ceil(np.abs(v) - np.float32(0.5)), v),
}
# what the ones that look at the sign are where no code is below 0
_OF_POSITIVES: dict[str, Rounding] = {
    "UP": "ceil",
    "DOWN": "floor",
    "ROUND_TO_ZERO": "floor",
    "HALF_UP": "half-up",
}
_OF_ANY: dict[str, Rounding] = {
    "ROUND": "half-even",
    "HALF_EVEN": "half-even",
    "CEIL": "ceil",
    "FLOOR": "floor",
}


def quant(node: Node, lowering: Lowering) -> None:
    """Quant of a tensor that depends on the image: one scale for all of it."""
    given = _quant_parameters(node)
    scale = _one(given.scale, "scale")
    if given.bipolar:
        grid = _bipolar(scale)
    else:
        zero = _one(given.zero, "zero point")
        grid = _grid(scale, zero, given.low, given.high, given.rounding)
    lowering.quantize(node.name, node.x, node.output, grid)


def quant_constant(node: Node) -> Array:
    """Quant of a constant: its float32 values; the integers are kept beside them."""
    values = node.weight(0)
    given = _quant_parameters(node)
    with np.errstate(over="ignore"):
        codes = _fitting(values, values / given.scale + given.zero)
    if given.bipolar:
        codes = np.where(codes >= 0, np.float32(1), np.float32(-1))
    else:
        inside = np.clip(codes, np.float32(given.low), np.float32(given.high))
        codes = _ROUNDINGS[given.rounding](inside)
    return _keep(node, codes - given.zero, given.scale)


def bipolar(node: Node, lowering: Lowering) -> None:
    """BipolarQuant of a tensor that depends on the image."""
    lowering.quantize(node.name, node.x, node.output, _bipolar(_one(_scale(node, 1), "scale")))


def bipolar_constant(node: Node) -> Array:
    """BipolarQuant of a constant: +-scale, and the signs kept beside it."""
    values, scale = node.weight(0), _scale(node, 1)
    _fitting(values, scale)
    signs = np.where(values >= 0, np.float32(1), np.float32(-1))
    return _keep(node, signs, scale)


def trunc(node: Node, lowering: Lowering) -> None:
    """Trunc: drop low bits of values that lie on a grid.

    Version 1 (five inputs) gives rounded(code / 2^dropped) * scale, version 2 (six) gives
    rounded(code / 2^dropped) * output scale, clamped. Values that lie on the input's grid are
    multiples of the output's step / 2^dropped, so half such a multiple keeps the noise of float
    sums away from where floor and ceil jump.
    """
    rounding = node.text("rounding_mode", "FLOOR").upper()
    signed, narrow = bool(node.integer("signed", 1)), bool(node.integer("narrow", 0))
    scale = _one(_scale(node, 1), "scale")
    if _number(node, 2) != 0:
        raise RefusedError(f"a zero point of {_number(node, 2):g}", "0")
    if node.has(5):
        step = _one(_scale(node, 4), "output scale")
        dropped = round(math.log2(step / scale))
        gain, bits = 1.0, _bits(node, 5)
    else:
        step, bits = scale, _bits(node, 4)
        dropped = _bits(node, 3) - bits
        gain = 0.5**dropped
        signed = not lowering.is_positive(node.x)
    if not 0 <= dropped <= MAX_BITS:
        raise RefusedError(f"{dropped} bits dropped", f"0 to {MAX_BITS}")
    low, high = _limits(bits, signed, narrow)
    if high > np.iinfo(np.int32).max:
        raise RefusedError(f"{bits} bits", f"fewer than {MAX_BITS}")
    grid = _grid(step, 0.0, low, high, rounding)
    half = {"floor": 0.5, "ceil": -0.5}.get(grid.rounding, 0.0)
    shift = half * step * 0.5**dropped
    if (gain, shift) == (1.0, 0.0):
        lowering.quantize(node.name, node.x, node.output, grid)
        return
    lowering.scale(node.name, node.x, node.output, np.array([gain]), np.array([shift]))
    lowering.quantize(node.name, node.output, node.output, grid)


@dataclass(frozen=True, eq=False)
class _Quant:
    """What the inputs and attributes of a Quant say."""

    scale: _Floats
    zero: _Floats
    low: int
    high: int
    rounding: str
    bipolar: bool  # one signed bit: -1 and 1


def _quant_parameters(node: Node) -> _Quant:
    scale, bits = _scale(node, 1), _bits(node, 3)
    given = node.constant(2)
    if given is None:
        raise RefusedError("no zero point", "a constant")
    zero = finite_float32(given if given.dtype.kind == "f" else given.astype("f4"), "zero point")
    signed, narrow = bool(node.integer("signed", 1)), bool(node.integer("narrow", 0))
    rounding = node.text("rounding_mode", "ROUND").upper()
    if rounding not in _ROUNDINGS:
        raise RefusedError(f"rounding_mode {rounding!r}", f"one of {', '.join(_ROUNDINGS)}")
    if bool((zero != np.rint(zero)).any()):
        raise RefusedError("a zero point that is not whole", "a whole number")
    if bits == 1 and signed:
        if zero.any():
            raise RefusedError("a zero point of one signed bit", "0")
        return _Quant(scale, zero, -1, 1, rounding, bipolar=True)
    low, high = _limits(bits, signed, narrow)
    if low >= high:
        raise RefusedError(f"codes {low} to {high}", "two or more")
    return _Quant(scale, zero, low, high, rounding, bipolar=False)


def _limits(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    if signed:
        return -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - narrow


def _grid(scale: float, zero: float, low: int, high: int, rounding: str) -> Grid:
    if rounding in _OF_ANY:
        return Grid(scale, zero, low, high, _OF_ANY[rounding])
    if rounding == "HALF_UP" and zero == 0:
        return Grid(scale, zero, low, high, "half-away")
    if low >= 0 and rounding in _OF_POSITIVES:
        return Grid(scale, zero, low, high, _OF_POSITIVES[rounding])
    known = ", ".join([*_OF_ANY, *_OF_POSITIVES])
    raise RefusedError(
        f"rounding_mode {rounding!r} of an activation with codes {low} to {high}",
        f"one of {known} (the last four where no code is below 0)",
    )


def _bipolar(scale: float) -> Grid:
    return Grid(2 * scale, _BIPOLAR_ZERO, 0, 1, "half-up")


def _keep(node: Node, levels: _Floats, scale: _Floats) -> Array:
    """Values of levels (float32, whole) and the scale; kept as integers where 32 bits hold them."""
    values = finite_float32(levels * scale, "a quantized constant")
    if not levels.size or np.abs(levels).max() < 2**31:
        wide = np.broadcast_to(scale.astype(np.float64), levels.shape)
        node.tensors.integers[node.output] = Integers(levels.astype(np.int32), wide)
    return values


def _fitting(values: Array, other: Array) -> Array:
    """`other`, whose broadcasting must not have made more of the values."""
    shape = np.broadcast_shapes(values.shape, other.shape)
    if shape != values.shape:
        raise RefusedError(f"scales {other.shape} for {values.shape}", "scales that fit")
    return other


def _one(values: Array, what: str) -> float:
    if not values.size or bool((values != values.ravel()[0]).any()):
        raise RefusedError(f"a {what} a channel of an activation", "one for all")
    return float(values.ravel()[0])


def _scale(node: Node, index: int) -> _Floats:
    """A scale; converters from Keras write the scale 1 as an integer."""
    given = node.constant(index)
    if given is None or given.dtype.kind not in "iu":
        return scale_of(node, index)
    if not given.size or int(given.min()) < 1:
        raise RefusedError(f"scale {node.inputs[index]!r} that is not above 0", "above 0")
    return given.astype(np.float32)


def _number(node: Node, index: int) -> float:
    values = node.constant(index)
    if values is None or values.size != 1 or values.dtype.kind not in "fiu":
        raise RefusedError(f"input {index} that is not one number", "a number")
    return float(values.ravel()[0])


def _bits(node: Node, index: int) -> int:
    bits = _number(node, index)
    if not 1 <= bits <= MAX_BITS or bits != round(bits):
        raise RefusedError(f"a bit width of {bits:g}", f"a whole number from 1 to {MAX_BITS}")
    return int(bits)
