"""Make tests/importers/onnx/brevitas_*: small networks as Brevitas exports them, with vectors.

Run where Brevitas 0.13 is installed (`pip install brevitas onnxoptimizer onnxscript`), in this
folder: `python make_brevitas_nets.py`. Weights are random: only the files' form matters. The
vectors are what the network itself computes in PyTorch, one image at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.export import export_onnx_qcdq, export_qonnx
from brevitas.quant import (
    Int8WeightPerTensorFloat,
    Int32Bias,
    ShiftedUint8WeightPerTensorFloat,
    SignedTernaryWeightPerTensorConst,
)
from torch import nn

FOLDER = Path(__file__).parent / "onnx"
IMAGES = 12


class Residual(nn.Module):
    """A convolution, a depthwise and a pointwise one around which a sum goes, a pool, a dense."""

    def __init__(self, bits: int, weights: Any, pool: nn.Module, **given: Any) -> None:
        super().__init__()
        given |= {"weight_quant": weights}
        self.input = qnn.QuantIdentity(bit_width=8, return_quant_tensor=True)
        self.conv = qnn.QuantConv2d(3, 8, 3, padding=1, bias=True, bias_quant=Int32Bias, **given)
        self.relu = qnn.QuantReLU(bit_width=bits, return_quant_tensor=True)
        self.depthwise = qnn.QuantConv2d(8, 8, 3, padding=1, groups=8, bias=False, **given)
        self.norm1 = nn.BatchNorm2d(8)
        self.relu1 = qnn.QuantReLU(bit_width=bits, return_quant_tensor=True)
        self.pointwise = qnn.QuantConv2d(8, 8, 1, bias=False, **given)
        self.norm2 = nn.BatchNorm2d(8)
        self.shared = qnn.QuantIdentity(bit_width=bits + 1, return_quant_tensor=True)
        self.relu2 = qnn.QuantReLU(bit_width=bits, return_quant_tensor=True)
        self.pool = pool
        self.dense = qnn.QuantLinear(8 * 4, 5, bias=True, bias_quant=None, **given)

    def forward(self, x: Any) -> Any:
        x = self.relu(self.conv(self.input(x)))
        y = self.relu1(self.norm1(self.depthwise(x)))
        y = self.relu2(
            self.shared(self.norm2(self.pointwise(y))) + self.shared(getattr(x, "value", x))
        )
        y = self.pool(y)
        return self.dense(torch.flatten(getattr(y, "value", y), 1))


def trained(net: nn.Module) -> nn.Module:
    """With BatchNorm that does something, and scales from a few random images."""
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(-1.5, 1.5)
            part.bias.data.normal_(0, 0.3)
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(8, 3, 8, 8))
    return net.eval()


def floor_pool() -> nn.Module:
    return qnn.TruncAvgPool2d(4, 4, bit_width=3, float_to_int_impl_type="floor")


def main() -> None:
    torch.manual_seed(2)
    FOLDER.mkdir(exist_ok=True)
    narrow = {"weight_bit_width": 4, "weight_scaling_per_output_channel": True}
    images = torch.randn(IMAGES, 3, 8, 8)
    nets = {
        "brevitas_qcdq": trained(Residual(4, Int8WeightPerTensorFloat, nn.AvgPool2d(4), **narrow)),
        "brevitas_qonnx": trained(Residual(3, SignedTernaryWeightPerTensorConst, floor_pool())),
        "brevitas_qonnx_dynamo": trained(
            Residual(4, ShiftedUint8WeightPerTensorFloat, nn.AvgPool2d(4))
        ),
    }
    vectors = {"input": images.numpy()}
    for name, net in nets.items():
        path = str(FOLDER / f"{name}.onnx")
        if name == "brevitas_qcdq":
            export_onnx_qcdq(net, args=images[:1], export_path=path, opset_version=13, dynamo=False)
        elif name == "brevitas_qonnx":
            export_qonnx(net, args=images[:1], export_path=path, opset_version=13, dynamo=False)
        else:
            export_qonnx(net, args=images[:1], export_path=path, dynamo=True)
        with torch.no_grad():
            vectors[name] = torch.cat([net(image[None]) for image in images]).numpy()
    np.savez_compressed(FOLDER / "brevitas_vectors.npz", **vectors)


if __name__ == "__main__":
    main()
