"""Small quantized models, built by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bacmac.host.arith.network import ConvOp, Padding, PoolOp, Requantize
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.model.layers import Normalization
from bacmac.host.model.quantized import ActivationFormat, QuantizedLayer, QuantizedModel


class ModelBuilder:
    """Layers with random levels and plausible constants; the seed decides everything."""

    def __init__(self, seed: int = 1) -> None:
        # the legacy generator: its stream is frozen for ever, and golden bytes are made from it
        self.rng = np.random.RandomState(seed)

    def requantize(self, channels: int, low: int, high: int, *, residual: bool) -> Requantize:
        of_residual = None
        if residual:
            draws = self.rng.randint(-(2**31), 2**31, channels, np.int64)
            of_residual = draws.astype(np.int32)
        return Requantize(
            self.rng.randint(0, 1 << 15, channels).astype(np.uint16),
            self.rng.randint(0, 41, channels).astype(np.uint8),
            low,
            high,
            of_residual,
        )

    def conv(
        self,
        name: str,
        source: int,
        shape: tuple[int, int, int, int],
        *,
        scheme: str = "pot-4",
        output: ActivationFormat | None = None,
        stride: tuple[int, int] = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        groups: int = 1,
        residual: int | None = None,
        structural: bool = False,
    ) -> QuantizedLayer:
        levels = self.rng.choice(SCHEMES[scheme].levels, shape)
        requantize = None
        if output is not None:
            requantize = self.requantize(
                shape[0], output.low, output.high, residual=residual is not None
            )
        bias = self.rng.randint(-5000, 5000, shape[0]).astype(np.int32)
        op = ConvOp(source, levels, bias, requantize, stride, padding, groups, residual)
        scale = self.rng.uniform(0.001, 0.1, shape[0])
        error = float(self.rng.uniform(0, 0.05))
        return QuantizedLayer(name, op, output, scheme, scale, structural, error)

    def tiny(self) -> QuantizedModel:
        """Every kind of op once: conv, depthwise, residual, both pools, dense to logits."""
        signed = ActivationFormat(0.017, 8, signed=True)
        relu = ActivationFormat(0.031, 8)
        narrow = ActivationFormat(0.11, 5)
        pooled = ActivationFormat(0.05, 6)
        layers = (
            self.conv("stem", 0, (5, 3, 3, 3), output=relu, padding=(1, 1, 1, 1)),
            QuantizedLayer("max", PoolOp(1, "max", (2, 2), (2, 2)), relu),
            self.conv("deep wise", 2, (5, 1, 3, 3), scheme="pot-3", output=narrow,
                      padding=(1, 1, 1, 1), groups=5),
            self.conv("add", 3, (5, 5, 1, 1), scheme="uniform-3", output=signed, residual=2),
            self.conv("id", 4, (5, 1, 1, 1), scheme="ternary", output=relu, groups=5,
                      structural=True),
            QuantizedLayer(
                "mean",
                PoolOp(5, "average", (2, 3), (1, 1), (0, 1, 1, 0),
                       self.requantize(5, 0, pooled.high, residual=False)),
                pooled,
            ),
            self.conv("größe 8", 6, (4, 5, 3, 3), scheme="uniform-8", output=narrow,
                      stride=(2, 1)),
            self.conv("logits", 7, (3, 4, 1, 1), scheme="uniform-4"),
        )  # fmt: skip
        return QuantizedModel(
            name="tiny",
            input_shape=(3, 8, 8),
            input_format=signed,
            normalization=Normalization(255.0, (0.5, 0.25, 0.1), (0.2,)),
            layers=layers,
            logit_scale=self.rng.uniform(0.1, 0.2, 3),
            provenance={
                "source": "tiny.onnx",
                "sha256": "0" * 64,
                "options": {"sparsity": 0.5, "schemes": ["pot-4", "pot-3"], "search": 64},
            },
        )

    def sparse(self) -> tuple[QuantizedModel, dict[str, str]]:
        """Every storage format and what only version 2 holds, and the format of each layer."""
        image = ActivationFormat(0.02, 8, signed=True, zero=-3.5)
        signs = ActivationFormat(1.5, 2, zero=0.5)
        layers = (
            self.conv("bitmap", 0, (6, 3, 3, 3), scheme="apot-4", output=signs,
                      padding=(1, 1, 1, 1)),
            self.conv("coo", 1, (6, 6, 1, 1), scheme="pot-5", output=ActivationFormat(0.1, 4)),
            self.conv("nm", 2, (5, 6, 3, 3), scheme="pot-3", output=ActivationFormat(0.1)),
            self.conv("stream", 3, (20, 5, 2, 2), scheme="ternary", output=image),
            self.conv("signs", 4, (4, 20, 1, 1), scheme="binary", output=ActivationFormat(0.1)),
            self.conv("logits", 5, (3, 4, 1, 1), scheme="uniform-8"),
        )  # fmt: skip
        for layer in layers[:4]:
            levels = layer.op.levels
            levels[self.rng.uniform(size=levels.shape) < 0.75] = 0
        model = QuantizedModel(
            name="sparse",
            input_shape=(3, 5, 5),
            input_format=image,
            normalization=Normalization(),
            layers=layers,
            logit_scale=self.rng.uniform(0.1, 0.2, 3),
            logit_offset=self.rng.uniform(-1, 1, 3),
        )
        formats = {"bitmap": "bitmap", "coo": "coo", "nm": "nm-5:8", "stream": "stream-16x16"}
        return model, formats


@pytest.fixture
def builder() -> ModelBuilder:
    return ModelBuilder()


@pytest.fixture(scope="session")
def tiny_model() -> QuantizedModel:
    return ModelBuilder().tiny()


@pytest.fixture(scope="session")
def builder_class() -> type[ModelBuilder]:
    return ModelBuilder
