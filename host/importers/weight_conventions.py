"""What published quantizers mean by the tensors they save: APoT and DeepShift.

Both keep float parameters from which every forward pass makes the quantized weight again; here
that is done once, and the integers it stands for are kept.

* APoT (Li, Dong, Wang 2020, "Additive Powers-of-Two Quantization", ICLR, arXiv 1909.13144;
  github.com/yhhhli/APoT_Quantization, models/quant_layer.py): weights are normalized to mean 0
  and deviation 1, divided by the learned clip (`weight_quant.wgt_alpha` or `weight_alpha`),
  clamped to +-1 and put on the nearest of the levels. The number of bits is nowhere in the file.
* DeepShift (Elhoushi et al. 2021, "DeepShift: Towards Multiplication-Less Neural Networks",
  CVPRW, arXiv 1905.13298; github.com/mostafaelhoushi/DeepShift, pytorch/deepshift): in mode PS
  the weight is sign(round(`sign`)) * 2^round(`shift`); in mode Q it is the power of two nearest
  to `weight` in its logarithm, under the same names as a float network's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bacmac.host.importers.lowering import RefusedError
from bacmac.host.importers.weight_file import ScaledIntegers, WeightFile
from bacmac.host.model.layers import Grid, KeptWeights

Floats = npt.NDArray[np.float64]

APOT_LEVELS = {
    2: (0, 1),
    3: (0, 1, 2, 4),
    4: (0, 1, 2, 3, 4, 6, 8, 10),
    5: (0, 1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 33, 36, 48),
}
"""Magnitudes by weight bits, sign included; the largest is the clip (arXiv 1909.13144, eq. 5)."""

MAX_LEVEL = 32767
MAX_EXPONENT = 126

_CLIPS = ("weight_quant.wgt_alpha", "weight_alpha")


@dataclass(frozen=True)
class Method:
    """How a layer's stored parameters become its weights.

    Attributes:
        name: `apot`, `deepshift`, or `none` for plain arrays.
        bits: of a weight; 8 for APoT's first and last layers; None where nothing says.
        activations: of APoT: clamp the input to the learned clip, put it on the uniform grid of
            as many bits, or take no notice of it.
    """

    name: Literal["apot", "deepshift", "none"]
    bits: int | None = None
    activations: Literal["clip", "uniform", "ignore"] = "clip"


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """A layer's weights, and what the file does to its input.

    Attributes:
        weight: float32.
        kept: the integers of weight, where the file defines them.
        clip: the input is clamped to 0 and this, or None.
        grid: the input is put on this, or None.
        note: what a person must know, or "".
    """

    weight: npt.NDArray[np.float32]
    kept: KeptWeights | None = None
    clip: float | None = None
    grid: Grid | None = None
    note: str = ""


def layer_weights(
    file: WeightFile, key: str, method: Method | None, *, of_all: bool = False
) -> LayerWeights:
    """The weights that a layer list calls `key`.

    Args:
        file: holds them.
        key: `conv1.weight`; of a DeepShift layer there are `conv1.shift` and `conv1.sign` instead.
        method: what the layer list says; None leaves it to the file's names.
        of_all: method is that of the whole list, and layers without its parameters are plain.

    Raises:
        RefusedError: the parameters are missing, not finite, or contradict the method.
        ModelFileError: the array is missing or damaged.
    """
    module = key.removesuffix(".weight")
    wanted = method.name if method is not None else ""
    clips = [f"{module}.{name}" for name in _CLIPS if f"{module}.{name}" in file]
    shifted = key not in file and f"{module}.shift" in file and f"{module}.sign" in file
    bits = method.bits if method is not None else None
    if shifted and wanted in ("", "deepshift"):
        return _shift_and_sign(file, module, bits)
    if wanted == "apot" and bits == 8 and not of_all:
        return _eight_bits(_floats(file, key))
    if clips and wanted in ("", "apot"):
        if method is None or bits not in APOT_LEVELS:
            raise RefusedError(
                f"APoT weights ({clips[0]}) of {bits or 'unsaid'} bits",
                '"quantized": {"method": "apot", "bits": 2, 3, 4 or 5}',
                "an APoT checkpoint does not say its bits",
            )
        return _apot(file, key, clips[0], bits, method.activations)
    if wanted == "apot" and not of_all:
        raise RefusedError(f"no {module}.weight_alpha", "APoT's clip beside the weight")
    if wanted == "deepshift" and not (of_all and _has_shifts(file)):
        return _power_of_two(_floats(file, key), bits)
    stored = file.read(key)
    if isinstance(stored, ScaledIntegers):
        kept = kept_weights(stored)
        return LayerWeights(kept.weight, kept)
    return LayerWeights(_finite(key, stored))


def kept_weights(stored: ScaledIntegers) -> KeptWeights:
    """The integers of a quantized tensor whose axis 0 is the output channels.

    Raises:
        RefusedError: another axis, levels beyond 16 bits, or a scale that is not above 0.
    """
    n = len(stored.codes) if stored.codes.ndim else 0
    if n == 0 or stored.scale.size not in (1, n) or stored.zero_point.size not in (1, n):
        raise RefusedError(f"{stored.scale.size} scales for {stored.codes.shape}", f"1 or {n}")
    if stored.scale.size > 1 and stored.axis != 0:
        raise RefusedError(f"scales along axis {stored.axis}", "one for each output, axis 0")
    if not (np.isfinite(stored.scale).all() and stored.scale.min() > 0):
        raise RefusedError("a scale that is 0, negative or not finite", "scales above 0")
    if int(np.abs(stored.codes.astype(np.float64)).max(initial=0)) > 1 << 30:
        raise RefusedError("codes of more than 30 bits", f"levels to {MAX_LEVEL}")
    column = (-1, *[1] * (stored.codes.ndim - 1))
    levels = stored.codes.astype(np.int64) - stored.zero_point.reshape(column)
    if np.abs(levels).max(initial=0) > MAX_LEVEL:
        raise RefusedError(f"a level of {np.abs(levels).max()}", f"at most {MAX_LEVEL}")
    return KeptWeights(levels.astype(np.int16), np.broadcast_to(stored.scale, n).copy())


def _apot(file: WeightFile, key: str, clip_key: str, bits: int, activations: str) -> LayerWeights:
    weight = _floats(file, key)
    alpha = _one(file, clip_key)
    deviation = float(weight.std(ddof=1)) if weight.size > 1 else 0.0
    if not (deviation > 0 and np.isfinite(deviation)):
        raise RefusedError("weights that are all alike", "weights with a deviation to divide by")
    ratio = np.clip((weight - weight.mean()) / deviation / alpha, -1.0, 1.0)
    magnitudes = np.asarray(APOT_LEVELS[bits], np.float64)
    top = magnitudes[-1]
    middles = (magnitudes[1:] + magnitudes[:-1]) / 2
    nearest = magnitudes[np.searchsorted(middles, np.abs(ratio) * top)]
    levels = (nearest * np.sign(ratio)).astype(np.int16)
    kept = KeptWeights(levels, np.full(len(levels), alpha / top))
    clip, grid, note = None, None, ""
    act_key = f"{clip_key.removesuffix('weight_quant.wgt_alpha').removesuffix('weight_alpha')}"
    act_key += "act_alpha"
    if activations != "ignore" and act_key in file:
        limit = _one(file, act_key)
        if activations == "uniform":
            high = (1 << bits) - 1
            grid = Grid(limit / high, 0.0, 0, high)
        else:
            clip = limit
            note = (
                "APoT activations are clamped to their learned clip (act_alpha); between 0 and it "
                "they are stored evenly, not on powers of two"
            )
    return LayerWeights(kept.weight, kept, clip, grid, note)


def _eight_bits(weight: Floats) -> LayerWeights:
    """APoT's first and last layer: round(weight / max * 127), max being the largest, signed."""
    top = float(weight.max(initial=0.0))
    if top <= 0:
        raise RefusedError("no weight above 0", "one: APoT divides by the largest")
    levels = np.rint(weight / top * 127)
    if np.abs(levels).max() > MAX_LEVEL:
        raise RefusedError(f"a level of {np.abs(levels).max():.0f}", f"at most {MAX_LEVEL}")
    kept = KeptWeights(levels.astype(np.int16), np.full(len(levels), top / 127))
    return LayerWeights(kept.weight, kept)


def _shift_and_sign(file: WeightFile, module: str, bits: int | None) -> LayerWeights:
    shift, sign = _floats(file, f"{module}.shift"), _floats(file, f"{module}.sign")
    if shift.shape != sign.shape:
        raise RefusedError(f"shift {shift.shape} and sign {sign.shape}", "one shape")
    if bits is not None:  # one code of the sign is zero: 2^(b-1) - 1 exponents are left
        shift = np.clip(shift, -((1 << (bits - 1)) - 2), 0)
    return _powers(np.rint(shift), np.sign(np.rint(sign)))


def _power_of_two(weight: Floats, bits: int | None) -> LayerWeights:
    magnitude = np.abs(weight)
    if bits is not None:
        low = 2.0 ** -((1 << (bits - 1)) - 1)
        magnitude = np.where(magnitude > 0, np.clip(magnitude, low, 1.0), 0.0)
    exponent = np.rint(np.log2(magnitude, where=magnitude > 0, out=np.zeros_like(magnitude)))
    return _powers(exponent, np.sign(weight))


def _powers(exponent: Floats, sign: Floats) -> LayerWeights:
    """Sign * 2^exponent, as shifts from each output channel's smallest weight."""
    used = np.where(sign != 0, exponent, 0.0)
    if used.ndim < 2 or used.size == 0:
        raise RefusedError(f"weights {used.shape}", "outputs and inputs")
    if np.abs(used).max() > MAX_EXPONENT:
        raise RefusedError("a weight beyond 2^126", f"exponents -{MAX_EXPONENT} to {MAX_EXPONENT}")
    rows = np.where(sign != 0, exponent, np.inf).reshape(len(used), -1)
    lowest = rows.min(1)
    lowest = np.where(np.isfinite(lowest), lowest, 0.0)
    column = lowest.reshape(-1, *[1] * (used.ndim - 1))
    weight = (sign * np.exp2(used)).astype(np.float32)
    steps = np.where(sign != 0, exponent - column, 0.0)
    if steps.max() > 14:
        return LayerWeights(
            weight,
            note="DeepShift weights span more than 15 powers of two in a channel: the "
            "integers are not kept",
        )
    levels = (sign * np.exp2(steps)).astype(np.int16)
    return LayerWeights(weight, KeptWeights(levels, np.exp2(lowest)))


def _has_shifts(file: WeightFile) -> bool:
    return any(name.endswith(".shift") for name in file.readers)


def _one(file: WeightFile, key: str) -> float:
    values = _floats(file, key)
    if values.size != 1 or values.ravel()[0] <= 0:
        raise RefusedError(f"{key!r} of {values.shape}, not above 0", "one number above 0")
    return float(values.ravel()[0])


def _floats(file: WeightFile, key: str) -> Floats:
    stored = file.read(key)
    if isinstance(stored, ScaledIntegers):
        raise RefusedError(f"{key!r} of integers with a scale", "floats")
    return _finite(key, stored).astype(np.float64)


def _finite(key: str, values: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    if values.dtype.kind != "f":
        raise RefusedError(f"{key!r} of {values.dtype}", "floats", "integers need a scale")
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise RefusedError(f"NaN or infinity in {key!r}", "finite float32 weights")
    return narrow
