"""Quantized models with random levels: every kind of op, no quantizer needed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bacmac.host.arith.network import ConvOp, Op, PoolOp, Requantize, output_shape
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.model.layers import Normalization
from bacmac.host.model.quantized import ActivationFormat, QuantizedLayer, QuantizedModel


@dataclass
class Builder:
    """Collects layers; each method gives the number of the tensor it made."""

    seed: int
    scheme: str = "pot-4"
    input_shape: tuple[int, int, int] = (3, 9, 7)
    signed_input: bool = False
    zero_share: float = 0.4
    layers: list[QuantizedLayer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.shapes = [self.input_shape]

    def conv(
        self,
        source: int,
        c_out: int,
        kernel: tuple[int, int] = (3, 3),
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (1, 1, 1, 1),
        groups: int = 1,
        residual: int | None = None,
        signed: bool = False,
        logits: bool = False,
        empty_groups: bool = False,
    ) -> int:
        c_in = self.shapes[source][0] // groups
        levels = self.rng.choice(SCHEMES[self.scheme].levels, (c_out, c_in, *kernel))
        levels[self.rng.random(levels.shape) < self.zero_share] = 0
        if empty_groups:
            levels[:16, :16, 0] = 0
        bias = self.rng.integers(-500, 500, c_out).astype(np.int32)
        requantize = None
        if not logits:
            requantize = self._requantize(c_out, c_in * kernel[0] * kernel[1], signed, residual)
        op = ConvOp(source, levels, bias, requantize, stride, padding, groups, residual)
        return self._add(op, self.scheme, signed=signed)

    def dense(self, source: int, c_out: int, *, logits: bool = False) -> int:
        kernel = self.shapes[source][1:]
        return self.conv(source, c_out, kernel, padding=(0, 0, 0, 0), logits=logits)

    def identity(self, source: int, residual: int) -> int:
        """A standalone residual add: a depthwise 1x1 convolution of ones."""
        channels = self.shapes[source][0]
        op = ConvOp(
            source,
            np.ones((channels, 1, 1, 1), np.int8),
            np.zeros(channels, np.int32),
            self._requantize(channels, 1, signed=False, residual=residual),
            groups=channels,
            residual=residual,
        )
        return self._add(op, self.scheme, structural=True)

    def max_pool(self, source: int) -> int:
        return self._add(PoolOp(source, "max", (2, 2), (2, 2), (1, 0, 0, 1)), "")

    def average_pool(self, source: int, kernel: tuple[int, int] | None = None) -> int:
        kernel = kernel or self.shapes[source][1:]
        channels = self.shapes[source][0]
        requantize = Requantize(
            np.full(channels, 20000, np.uint16), np.full(channels, 19, np.uint8), 0, 255
        )
        return self._add(
            PoolOp(source, "average", kernel, (1, 1), requantize=requantize), "", signed=False
        )

    def model(self, name: str = "random") -> QuantizedModel:
        c_out = self.shapes[-1][0]
        return QuantizedModel(
            name,
            self.input_shape,
            ActivationFormat(1 / 128, signed=self.signed_input),
            Normalization(255.0, (0.5,), (0.5,)) if self.signed_input else Normalization(),
            tuple(self.layers),
            self.rng.uniform(0.5, 2.0, c_out),
        )

    def images(self, n: int) -> np.ndarray:
        return self.rng.integers(0, 256, (n, *self.input_shape), dtype=np.uint8)

    def _requantize(
        self, channels: int, terms: int, signed: bool, residual: int | None
    ) -> Requantize:
        spread = 40 * SCHEMES[self.scheme].max_level * terms**0.5
        multiplier = self.rng.integers(1 << 13, 1 << 15, channels).astype(np.uint16)
        shift = np.full(channels, max(int(np.log2(spread * 2**14 / 100)), 1), np.uint8)
        ratio = self.rng.integers(1 << 4, 1 << 5, channels).astype(np.int32) << shift[0] >> 5
        low, high = (-128, 127) if signed else (0, 255)
        return Requantize(multiplier, shift, low, high, ratio if residual is not None else None)

    def _add(
        self, op: Op, scheme: str, *, signed: bool | None = None, structural: bool = False
    ) -> int:
        wide = isinstance(op, ConvOp) and op.requantize is None
        output = None if wide else ActivationFormat(0.1, signed=bool(signed))
        self.shapes.append(output_shape(op, self.shapes[op.input]))
        name = f"layer{len(self.layers)}"
        scale = np.ones(self.shapes[-1][0]) if isinstance(op, ConvOp) else np.zeros(0)
        self.layers.append(QuantizedLayer(name, op, output, scheme, scale, structural=structural))
        return len(self.layers)


def everything(
    seed: int = 1, scheme: str = "pot-4", *, signed_input: bool = False
) -> tuple[QuantizedModel, np.ndarray]:
    """A model with every kind of op, and 11 images."""
    b = Builder(seed, scheme, signed_input=signed_input)
    stem = b.conv(0, 20, empty_groups=True)
    branch = b.conv(stem, 20, signed=True)
    joined = b.conv(branch, 20, (1, 1), padding=(0, 0, 0, 0), residual=stem)
    deep = b.conv(joined, 20, (3, 2), stride=(2, 1), padding=(1, 0, 1, 1), groups=20)
    halves = b.conv(deep, 34, (1, 1), padding=(0, 0, 0, 0), groups=2, signed=True)
    pooled = b.max_pool(halves)
    again = b.conv(pooled, 34)
    added = b.identity(again, pooled)
    smooth = b.average_pool(added, (2, 2))
    hidden = b.dense(smooth, 19)
    b.dense(hidden, 10, logits=True)
    return b.model(), b.images(11)


def stored_output(seed: int = 2, *, signed: bool = True) -> tuple[QuantizedModel, np.ndarray]:
    """A model that ends in stored activations, a map of odd sides, and a residual of the image."""
    b = Builder(seed, input_shape=(5, 6, 5))
    first = b.conv(0, 5, (1, 3), padding=(0, 1, 0, 1), residual=0)
    b.conv(first, 7, signed=signed)
    return b.model(), b.images(5)


MOBILENET_V2 = (
    *((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
"""Blocks of MobileNetV2 (Sandler et al. 2018, table 2): expansion, channels, repeats, stride; the
first two strides are 1 instead of 2, as is usual for images of 32 x 32."""


def mobilenet_v2(scheme: str = "pot-4", *, seed: int = 3, n_classes: int = 10) -> QuantizedModel:
    """MobileNetV2's shapes for CIFAR: 2.2 million weights, residual adds in the convolutions."""
    b = Builder(seed, scheme, input_shape=(3, 32, 32), zero_share=0.0)
    last = b.conv(0, 32)
    for expansion, channels, repeats, stride in MOBILENET_V2:
        for repeat in range(repeats):
            source, step = last, stride if repeat == 0 else 1
            wide = b.shapes[source][0] * expansion
            if expansion > 1:
                last = b.conv(last, wide, (1, 1), padding=(0, 0, 0, 0))
            last = b.conv(last, wide, stride=(step, step), groups=wide)
            same = step == 1 and b.shapes[source][0] == channels
            last = b.conv(
                last,
                channels,
                (1, 1),
                padding=(0, 0, 0, 0),
                signed=True,
                residual=source if same else None,
            )
    last = b.conv(last, 1280, (1, 1), padding=(0, 0, 0, 0))
    b.dense(b.average_pool(last), n_classes, logits=True)
    return b.model("mobilenet-v2-cifar")


def resnet20(scheme: str = "pot-4", *, seed: int = 4, n_classes: int = 10) -> QuantizedModel:
    """ResNet-20's shapes (He et al. 2016, section 4.2), 1x1 convolutions at its steps."""
    b = Builder(seed, scheme, input_shape=(3, 32, 32), zero_share=0.0)
    last = b.conv(0, 16)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        for repeat in range(3):
            source, step = last, stride if repeat == 0 else 1
            first = b.conv(source, channels, stride=(step, step))
            if step > 1:
                source = b.conv(
                    source, channels, (1, 1), stride=(2, 2), padding=(0, 0, 0, 0), signed=True
                )
            last = b.conv(first, channels, residual=source)
    b.dense(b.average_pool(last), n_classes, logits=True)
    return b.model("resnet20-cifar")
