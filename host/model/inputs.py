"""Stored images to the integers that the device takes, and its integers back to values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bacmac.host.model.layers import Normalization
from bacmac.host.model.quantized import ActivationFormat

Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
"""(N, C, H, W): uint8 pixels still to be normalized, or float32 already normalized."""
Codes = npt.NDArray[np.uint8] | npt.NDArray[np.int8]
"""(N, C, H, W), as the device stores them."""


def normalized(images: Images, normalization: Normalization) -> npt.NDArray[np.float32]:
    """The float input (N, C, H, W): pixels are normalized, float images are taken as they are."""
    if images.dtype == np.uint8:
        return normalization.apply(images.astype(np.uint8, copy=False))
    return images.astype(np.float32, copy=False)


def input_codes(images: Images, normalization: Normalization, target: ActivationFormat) -> Codes:
    """Integers (N, C, H, W) of images: value / scale + zero, rounded and clamped.

    Ties go to even about a whole zero point, up about any other (what was +-1 is not symmetric).

    Pixels go through one table of 256 entries a channel, so no float image is ever made.
    """
    if images.dtype != np.uint8:
        return _quantize(images.astype(np.float64), target)
    channels = images.shape[1]
    pixels = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, channels))
    values = normalization.apply(pixels[:, :, None, None])[:, :, 0, 0]
    table = _quantize(values.astype(np.float64), target)
    codes: Codes = np.empty(images.shape, np.int8 if target.signed else np.uint8)
    for channel in range(channels):
        codes[:, channel] = table[:, channel][images[:, channel].astype(np.uint8, copy=False)]
    return codes


def _quantize(values: npt.NDArray[np.float64], target: ActivationFormat) -> Codes:
    ratio = values / target.scale
    # a whole zero point comes after rounding, as the tools do it that write such files
    if float(target.zero).is_integer():
        rounded = np.rint(ratio) + target.zero
    else:
        rounded = np.floor(ratio + target.zero + 0.5)
    rounded = np.clip(rounded, target.low, target.high)
    return rounded.astype(np.int8) if target.signed else rounded.astype(np.uint8)
