"""Fields that several parts of a packed file share, checked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bacmac.host.errors import PackedFileError
from bacmac.host.model.layers import Normalization
from bacmac.host.model.quantized import ActivationFormat
from bacmac.host.pack.container import Tensors
from bacmac.host.pack.limits import MAX_SCALE, MAX_ZERO, MIN_SCALE
from bacmac.host.pack.metadata import Field


def activation_format(at: Field, version: int) -> ActivationFormat:
    """An activation format; a zero point is known since version 2, and left out where it is 0."""
    fields = at.record("scale", "bits", "signed", optional=("zero",) if version > 1 else ())
    return ActivationFormat(
        scale=fields["scale"].number(MIN_SCALE, MAX_SCALE),
        bits=fields["bits"].integer(2, 8),
        signed=fields["signed"].flag(),
        zero=fields["zero"].number(-MAX_ZERO, MAX_ZERO) if "zero" in fields else 0.0,
    )


def finite(tensors: Tensors, name: str, n: int) -> npt.NDArray[np.float64]:
    """A vector of finite numbers that float32 holds too."""
    return _within(tensors, name, n, -MAX_SCALE)


def scales(tensors: Tensors, name: str, n: int) -> npt.NDArray[np.float64]:
    """A vector of scales: normal positive numbers of float32."""
    return _within(tensors, name, n, MIN_SCALE)


def _within(tensors: Tensors, name: str, n: int, least: float) -> npt.NDArray[np.float64]:
    numbers: npt.NDArray[np.float64] = tensors.take(name, "F64", (n,))
    # written so that NaN is refused too
    bad = ~((numbers >= least) & (numbers <= MAX_SCALE))
    if bad.any():
        at = int(bad.argmax())
        raise PackedFileError(
            tensors.file,
            f"{name}[{at}]",
            found=str(float(numbers[at])),
            expected=f"a number from {least:.6g} to {MAX_SCALE:.6g}",
        )
    return numbers


def normalization(at: Field, channels: int) -> Normalization:
    """How pixels become the network's input."""
    fields = at.record("pixel_max", "mean", "std")

    def per_channel(key: str, low: float) -> tuple[float, ...]:
        items = fields[key].items(1, channels)
        if len(items) not in (1, channels):
            fields[key].refuse(f"one value, or one a channel ({channels})")
        return tuple(item.number(low, MAX_SCALE) for item in items)

    return Normalization(
        pixel_max=fields["pixel_max"].number(MIN_SCALE, MAX_SCALE),
        mean=per_channel("mean", -MAX_SCALE),
        std=per_channel("std", MIN_SCALE),
    )
