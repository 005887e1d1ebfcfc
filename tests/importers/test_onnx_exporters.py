"""What PyTorch's two exporters write, and onnxruntime's quantizer makes of it, is read."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn
from torch.nn import functional

from bacmac.host.importers.onnx_file import load_onnx
from bacmac.host.model.forward import forward
from bacmac.host.model.layers import Conv

SHAPE = (3, 16, 16)
_Array = npt.NDArray[Any]


def block(c_in: int, c_out: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, 3, stride, 1, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


class Plain(nn.Module):
    """Depthwise, ReLU6, both pools, dropout, two dense layers with BatchNorm between."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            block(3, 8), nn.MaxPool2d(2), block(8, 8, groups=8), nn.ReLU6(), nn.AvgPool2d(2)
        )
        self.classes = nn.Sequential(
            nn.Dropout(), nn.Flatten(), nn.Linear(128, 16), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Linear(16, 5),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.classes(self.features(x))


class OptionA(nn.Module):
    """A shortcut of every second pixel with channels of zeros, and a view by computed sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = block(3, 8), block(8, 16, 2)
        self.third = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16))
        self.classes = nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        shortcut = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = functional.relu(self.third(self.second(x)) + shortcut)
        x = functional.avg_pool2d(x, x.size()[3])
        return self.classes(x.view(x.size(0), -1))


class OptionB(nn.Module):
    """A shortcut of a 1x1 convolution, and an adaptive pool."""

    def __init__(self) -> None:
        super().__init__()
        self.first = block(3, 8)
        self.long = nn.Sequential(block(8, 16, 2), nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16))
        self.short = nn.Sequential(nn.Conv2d(8, 16, 1, 2), nn.BatchNorm2d(16))
        self.pool, self.classes = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        x = self.pool(functional.relu(self.long(x) + self.short(x)))
        return self.classes(torch.flatten(x, 1))


class CeilAndMean(nn.Module):
    """Hardtanh, a pool of ceil_mode, `same` padding, a mean, no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.Hardtanh(-1, 2), nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(6, 8, 3, padding="same"), nn.BatchNorm2d(8),
        )  # fmt: skip
        self.classes = nn.Linear(8, 4, bias=False)

    def forward(self, x: Any) -> Any:
        return self.classes(self.features(x).mean((2, 3)))


class Squeezes(nn.Module):
    """A sum that cannot be fused twice, and axes dropped one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.classes = block(3, 8, 2), block(8, 8), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        x = x + self.second(x)
        x = functional.adaptive_avg_pool2d(x, (1, 1)).squeeze(-1).squeeze(-1)
        return self.classes(x)


NETS = [Plain, OptionA, OptionB, CeilAndMean, Squeezes]


def made(kind: type[nn.Module]) -> nn.Module:
    """With a BatchNorm that does something."""
    torch.manual_seed(3)
    net = kind()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_(0, 0.3)
    return net.eval()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The exporters warn of themselves: deprecated, slow, without a version of torchvision."""
    logging.disable(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def export_by_tracing(net: nn.Module, path: Path, opset: int, *, folded: bool = True) -> None:
    torch.onnx.export(
        net, (torch.zeros(1, *SHAPE),), str(path), dynamo=False, opset_version=opset,
        input_names=["input"], dynamic_axes={"input": {0: "N"}}, do_constant_folding=folded,
    )  # fmt: skip


def export_by_dynamo(
    net: nn.Module, path: Path, opset: int, *, optimized: bool, batch: bool, outside: bool
) -> None:
    torch.onnx.export(
        net, (torch.zeros(2 if batch else 1, *SHAPE),), str(path), dynamo=True,
        opset_version=opset, optimize=optimized, external_data=outside, verbose=False,
        dynamic_shapes=({0: "batch"},) if batch else None,
    )  # fmt: skip


def check(path: Path, net: nn.Module) -> None:
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = net(x).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_onnx(path)
        found = forward(model, x.numpy())[:, :, 0, 0]
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    assert not any(layer.structural for layer in model.layers if isinstance(layer, Conv)) or (
        isinstance(net, OptionA | Squeezes)
    )


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 20])
@pytest.mark.parametrize("kind", NETS)
def test_what_the_tracing_exporter_writes_is_read(
    kind: type[nn.Module], opset: int, tmp_path: Path
) -> None:
    net, path = made(kind), tmp_path / "net.onnx"
    # before opset 10 a slice cannot step
    export_by_tracing(net, path, max(opset, 10 if kind is OptionA else 9), folded=opset % 2 == 1)

    check(path, net)


@pytest.mark.parametrize(
    ("kind", "opset", "optimized", "batch", "outside"),
    [
        (Plain, 18, True, True, True),
        (Plain, 20, False, False, False),
        (OptionA, 21, True, True, False),
        (OptionA, 18, False, True, True),
        (OptionB, 18, True, False, False),
        (CeilAndMean, 20, False, True, False),
        (Squeezes, 23, True, True, False),
    ],
)
def test_what_the_dynamo_exporter_writes_is_read(
    kind: type[nn.Module], opset: int, optimized: bool, batch: bool, outside: bool, tmp_path: Path
) -> None:
    net, path = made(kind), tmp_path / "net.onnx"
    export_by_dynamo(net, path, opset, optimized=optimized, batch=batch, outside=outside)

    check(path, net)


class Images(CalibrationDataReader):
    """A few random images, one at a time."""

    def __init__(self) -> None:
        generator = np.random.default_rng(4)
        self._images = iter(generator.normal(size=(8, 1, *SHAPE)).astype(np.float32))

    def get_next(self) -> Any:
        image = next(self._images, None)
        return None if image is None else {"input": image}


def run_each_node(path: Path, x: _Array) -> _Array:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    result: _Array = session.run(None, {"input": x})[0]
    return result


OPTIONS = [
    {"per_channel": channel, "activation_type": kind, "weight_type": weight, "reduce_range": less}
    for channel, kind, weight, less in (
        (False, QuantType.QUInt8, QuantType.QUInt8, False),
        (True, QuantType.QUInt8, QuantType.QInt8, False),
        (True, QuantType.QUInt8, QuantType.QInt8, True),
        (True, QuantType.QInt8, QuantType.QInt8, False),
        (False, QuantType.QInt8, QuantType.QInt8, False),
    )
]


@pytest.mark.parametrize("style", [QuantFormat.QDQ, QuantFormat.QOperator], ids=lambda f: f.name)
@pytest.mark.parametrize("kind", NETS)
def test_what_onnxruntimes_quantizer_writes_is_read(
    kind: type[nn.Module], style: QuantFormat, tmp_path: Path
) -> None:
    path, prepared, result = (tmp_path / name for name in ("a.onnx", "b.onnx", "c.onnx"))
    export_by_tracing(made(kind), path, 13)
    quant_pre_process(str(path), str(prepared))
    x = np.random.default_rng(6).normal(size=(48, *SHAPE)).astype(np.float32)
    for source, options in itertools.product((path, prepared), OPTIONS):
        quantize_static(str(source), str(result), Images(), quant_format=style, **options)

        model = load_onnx(result)
        found = forward(model, x)[:, :, 0, 0]

        expected = run_each_node(result, x)
        step = model.grids[model.layers[-1].name].scale
        # float sums in another order move a code to its neighbour now and then
        assert np.mean(np.abs(found - expected) <= 0.01 * step) >= 0.5
        assert np.mean(np.abs(found - expected) <= 1.01 * step) >= 0.97
        weighted = [layer for layer in model.layers if isinstance(layer, Conv)]
        kept = [layer for layer in weighted if layer.kept is not None]
        # a BatchNorm behind a dense layer is not quantized, and is a layer of its own there
        plain = [layer for layer in weighted if layer.kept is None and not layer.structural]
        assert len(kept) >= 3
        assert len(plain) == (kind is Plain)
