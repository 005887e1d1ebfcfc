"""Networks to time: shapes of ResNet-20 and LeNet-5, seeded random power-of-two levels.

The multipliers are calibrated on random images so that every tensor fills its 8 bits, as a
trained network's would: speed and exactness depend on the ranges, not on the training.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.bounds import accumulator_bounds
from bacmac.host.arith.network import ConvOp, IntegerNetwork, Op, PoolOp, Requantize
from bacmac.host.arith.reference import run_reference
from bacmac.host.arith.requantize import fit_requantize, residual_shift

Images = npt.NDArray[np.uint8]


class Builder:
    """Appends calibrated ops to a network; `add_*` return the number of the new tensor."""

    def __init__(self, input_shape: tuple[int, int, int], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.input_shape = input_shape
        self.images = self.random_images(4)
        self.ops: list[Op] = []

    def random_images(self, n: int) -> Images:
        """n images (n, C, H, W) of random pixels."""
        return self.rng.integers(0, 256, (n, *self.input_shape), dtype=np.uint8)

    def network(self, *more: Op) -> IntegerNetwork:
        """The network so far, with `more` at its end."""
        return IntegerNetwork(self.input_shape, 0, 255, (*self.ops, *more))

    def add_conv(
        self,
        x: int,
        c_out: int,
        kernel: int,
        *,
        stride: int = 1,
        pad: int = 0,
        residual: int | None = None,
        logits: bool = False,
    ) -> int:
        """A convolution with ReLU, its ratio chosen so that the accumulators fill 0..255."""
        c_in = self.network_channels(x)
        exponents = self.rng.integers(0, 7, (c_out, c_in, kernel, kernel))
        signs = self.rng.integers(-1, 2, exponents.shape)
        levels = (signs << exponents).astype(np.int8)
        bias = self.rng.integers(-2000, 2000, c_out).astype(np.int32)
        window = ((stride, stride), (pad, pad, pad, pad))
        bare = ConvOp(x, levels, bias, None, *window)
        if logits:
            return self._add(bare)
        acc = run_reference(self.network(bare), self.images)
        ratio = 255 / (3 * acc.std((0, 2, 3)) + 1)
        low, high = accumulator_bounds(bare, 0, 255)
        residual_ratio = None if residual is None else 0.6
        if residual_ratio is not None:
            unit = 2.0 ** -residual_shift(residual_ratio)
            ratio = np.maximum(np.rint(ratio / unit), 1) * unit
        how = fit_requantize(
            ratio,
            low=0,
            high=255,
            acc_low=low,
            acc_high=high,
            residual_ratio=residual_ratio,
        )
        return self._add(ConvOp(x, levels, bias, how, *window, residual=residual))

    def add_selection(self, x: int, c_out: int, stride: int) -> int:
        """The parameter-free shortcut of He et al. 2015 (option A): subsample, pad channels."""
        c_in = self.network_channels(x)
        levels = np.zeros((c_out, c_in, 1, 1), np.int8)
        levels[(c_out - c_in) // 2 + np.arange(c_in), np.arange(c_in)] = 1
        how = Requantize(np.full(c_out, 1 << 14, np.uint16), np.full(c_out, 14, np.uint8), 0, 255)
        return self._add(ConvOp(x, levels, np.zeros(c_out, np.int32), how, (stride, stride)))

    def add_pool(self, x: int, kind: Literal["max", "average"], kernel: int, stride: int) -> int:
        """A pool; an average keeps the input's scale."""
        how = None
        if kind == "average":
            area = np.full(self.network_channels(x), kernel * kernel, np.int64)
            how = fit_requantize(1 / area, low=0, high=255, acc_low=0 * area, acc_high=255 * area)
        return self._add(PoolOp(x, kind, (kernel, kernel), (stride, stride), requantize=how))

    def network_channels(self, x: int) -> int:
        """Channels of tensor x."""
        return self.input_shape[0] if x == 0 else self.network().shapes[x][0]

    def _add(self, op: Op) -> int:
        self.ops.append(op)
        return len(self.ops)


def resnet20(seed: int = 1) -> IntegerNetwork:
    """ResNet-20 for 3x32x32 (He et al. 2015): 40.6 million products an image."""
    build = Builder((3, 32, 32), seed)
    x = build.add_conv(0, 16, 3, pad=1)
    for channels in (16, 32, 64):
        for block in range(3):
            stride = 2 if block == 0 and channels > 16 else 1
            branch = build.add_conv(x, channels, 3, stride=stride, pad=1)
            shortcut = x if stride == 1 else build.add_selection(x, channels, stride)
            x = build.add_conv(branch, channels, 3, pad=1, residual=shortcut)
    x = build.add_pool(x, "average", 8, 8)
    build.add_conv(x, 10, 1, logits=True)
    return build.network()


def lenet5(seed: int = 2) -> IntegerNetwork:
    """LeNet-5 as in Caffe, for 1x28x28: 20 and 50 channels of 5x5, dense 500 and 10."""
    build = Builder((1, 28, 28), seed)
    x = build.add_pool(build.add_conv(0, 20, 5), "max", 2, 2)
    x = build.add_pool(build.add_conv(x, 50, 5), "max", 2, 2)
    build.add_conv(build.add_conv(x, 500, 4), 10, 1, logits=True)
    return build.network()
