"""Activation formats from calibration images: what each tensor holds, and its best scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bacmac.host.errors import InputError
from bacmac.host.model.forward import walk
from bacmac.host.model.inputs import Images, normalized
from bacmac.host.model.layers import (
    INPUT,
    LINEAR,
    Activation,
    Layer,
    Model,
    Normalization,
    Pool,
    moves_only,
)
from bacmac.host.model.quantized import ActivationFormat

BLOCK_IMAGES = 32
SAMPLE_VALUES = 1 << 16
"""Values kept of each tensor for the scale search: memory is bounded for any number of images."""
CLIP_FACTORS = np.geomspace(0.02, 1.0, 64)
GRID_VALUES = 256
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """What a tensor of the float network held over the calibration images.

    Attributes:
        low: smallest value.
        high: largest value.
        sample: float32 (n,) evenly spaced values, at most about SAMPLE_VALUES.
        mean: float64 (C, H, W), over the images.
    """

    low: float
    high: float
    sample: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float64]


def collect_statistics(
    model: Model,
    images: Images,
    normalization: Normalization,
    progress: Progress | None = None,
) -> dict[str, TensorStatistics]:
    """Run the float network over the images in blocks; statistics of every tensor by name.

    Raises:
        InputError: a value is not finite: the weights or the images are broken.
    """
    samples: dict[str, list[npt.NDArray[np.float32]]] = {}
    sums: dict[str, npt.NDArray[np.float64]] = {}
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    for start in range(0, len(images), BLOCK_IMAGES):
        block = normalized(images[start : start + BLOCK_IMAGES], normalization)
        for name, tensor in walk(model, block):
            low, high = float(tensor.min()), float(tensor.max())
            if not np.isfinite([low, high]).all():
                raise InputError(
                    model.source or model.name,
                    f"tensor {name!r}",
                    found="NaN or infinite values on the calibration images",
                    expected="finite values",
                    hint="check the weights and the normalization",
                )
            # odd, so that it walks through all columns of an image with an even side
            stride = (tensor[0].size * len(images) // SAMPLE_VALUES) | 1
            samples.setdefault(name, []).append(tensor.reshape(-1)[start % stride :: stride].copy())
            sums[name] = sums.get(name, 0.0) + tensor.sum(0, dtype=np.float64)
            lows[name] = min(lows.get(name, low), low)
            highs[name] = max(highs.get(name, high), high)
        if progress is not None:
            progress("calibrate", min(start + BLOCK_IMAGES, len(images)), len(images))
    return {
        name: TensorStatistics(
            lows[name], highs[name], np.concatenate(samples[name]), sums[name] / len(images)
        )
        for name in sums
    }


def choose_formats(
    model: Model, statistics: Mapping[str, TensorStatistics], bits: Mapping[str, int]
) -> dict[str, ActivationFormat]:
    """The stored format of every tensor by name.

    A tensor is unsigned where its producer clamps at 0 or above, where the input holds nothing
    negative, and after a pool of an unsigned tensor. What passes through keeps its input's format.

    Args:
        model: the float network.
        statistics: of its tensors.
        bits: of each tensor that has a format of its own.
    """
    formats: dict[str, ActivationFormat] = {}
    formats[INPUT] = tensor_format(None, statistics[INPUT], bits[INPUT], None)
    for layer in model.layers:
        if moves_only(layer):
            formats[layer.name] = formats[layer.input]
            continue
        source = formats[layer.input]
        formats[layer.name] = tensor_format(layer, statistics[layer.name], bits[layer.name], source)
    return formats


def tensor_format(
    layer: Layer | None, statistics: TensorStatistics, bits: int, source: ActivationFormat | None
) -> ActivationFormat:
    """The format of one tensor.

    Args:
        layer: what writes it; None for the network's input.
        statistics: of the tensor.
        bits: of its codes.
        source: format of what `layer` reads; a pool keeps its sign.
    """
    if layer is None or source is None:
        return _format(statistics, bits, signed=statistics.low < 0, activation=LINEAR)
    if isinstance(layer, Pool):
        signed = source.signed or source.zero != 0
        return _format(statistics, bits, signed=signed, activation=LINEAR)
    activation = layer.activation
    return _format(statistics, bits, signed=activation.low < 0, activation=activation)


def host_format(stored: ActivationFormat, model: Model) -> ActivationFormat:
    """The input's format in terms of what the host has, before the model's own gain and shift."""
    gain, shift = model.input_gain, model.input_shift
    if gain == 1.0 and shift == 0.0:
        return stored
    return replace(stored, scale=stored.scale / gain, zero=stored.zero + shift / stored.scale)


def search_scale(
    statistics: TensorStatistics, target: ActivationFormat, cap: float = np.inf
) -> float:
    """The scale of least squared error over the sample, for the bits and sign of `target`.

    Candidates: the one that clips nothing, 63 that clip more and more, then 17 around the best;
    and, where the values lie on a grid from 0 (pixels), the grid's own step, which loses nothing.

    Args:
        statistics: of the tensor.
        target: its bits and sign; the scale in it is not used.
        cap: largest scale allowed.
    """
    largest = statistics.high / target.high
    if target.signed:
        largest = max(largest, statistics.low / target.low)
    if largest <= 0:
        return min(1.0 / target.high, cap)
    sample = statistics.sample.astype(np.float64)
    sample = sample[sample != 0]  # zero is exact at any scale

    def error(scale: float) -> float:
        rest = np.clip(np.rint(sample / scale), target.low, target.high) * scale - sample
        return float(rest @ rest)

    candidates = list(largest * CLIP_FACTORS) + _grid_steps(sample)
    best = min((min(scale, cap) for scale in candidates), key=error)
    around = best * np.linspace(0.94, 1.06, 17)
    return float(min([best, *(min(scale, cap) for scale in around)], key=error))


def scale_error(statistics: TensorStatistics, stored: ActivationFormat) -> float:
    """Squared error of a tensor's sample in a format, relative to its sum of squares."""
    sample = statistics.sample.astype(np.float64)
    energy = float(sample @ sample)
    rest = np.clip(np.rint(sample / stored.scale), stored.low, stored.high) * stored.scale - sample
    return float(rest @ rest) / energy if energy > 0 else 0.0


def _format(
    statistics: TensorStatistics, bits: int, *, signed: bool, activation: Activation
) -> ActivationFormat:
    shape = ActivationFormat(1.0, bits, signed)
    # a scale above bound / largest integer would spend codes on values that the clamp removes
    cap = max(activation.high / shape.high, activation.low / shape.low if signed else 0.0)
    scale = search_scale(statistics, shape, cap if cap > 0 else np.inf)
    return ActivationFormat(scale, bits, signed)


def _grid_steps(sample: npt.NDArray[np.float64]) -> list[float]:
    """The step of the grid k * step that the values lie on; empty where there is none."""
    values = np.unique(np.abs(sample))
    if not 0 < values.size <= GRID_VALUES:
        return []
    step = float(np.diff(values, prepend=0.0).min())
    n_steps = round(float(values[-1]) / step)
    return [float(values[-1]) / n_steps]
