"""Run the float model in NumPy: the yardstick for importers, and the source of calibration data.

Convolution by im2col and one matrix product (Chellapilla et al. 2006).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from bacmac.host.arith.network import Padding
from bacmac.host.model.layers import INPUT, Conv, Layer, Model, Pool

FloatTensor = npt.NDArray[np.float32]

BLOCK_IMAGES = 64


def forward(model: Model, images: FloatTensor) -> FloatTensor:
    """Outputs (N, C, H, W) float32 of normalized images (N, C, H, W), in blocks of bounded memory.

    Raises:
        ValueError: the images are not of the model's input shape.
    """
    if images.shape[1:] != model.input_shape:
        raise ValueError(f"images are {images.shape[1:]}, the model takes {model.input_shape}")
    outputs = np.empty((len(images), *model.output_shape), np.float32)
    for start in range(0, len(images), BLOCK_IMAGES):
        block = images[start : start + BLOCK_IMAGES]
        tensors = dict(walk(model, block))
        outputs[start : start + BLOCK_IMAGES] = tensors[model.layers[-1].name]
    return outputs


def walk(model: Model, images: FloatTensor) -> Iterator[tuple[str, FloatTensor]]:
    """Yield (name, tensor (N, C, H, W)) for the input and then each layer's output, in order.

    Where the file puts a tensor on a grid, its values are those of the grid: the network as its
    file defines it, up to float32 sums.
    """
    if model.input_gain != 1.0 or model.input_shift != 0.0:
        images = images * np.float32(model.input_gain) + np.float32(model.input_shift)
    images = _on_grid(model, INPUT, images)
    tensors: dict[str, FloatTensor] = {INPUT: images}
    yield INPUT, images
    for layer in model.layers:
        residual = layer.residual if isinstance(layer, Conv) else None
        output = run_layer(
            layer, tensors[layer.input], tensors[residual] if residual is not None else None
        )
        output = _on_grid(model, layer.name, output)
        tensors[layer.name] = output
        yield layer.name, output


def _on_grid(model: Model, name: str, tensor: FloatTensor) -> FloatTensor:
    grid = model.grids.get(name)
    return tensor if grid is None else grid.snap(tensor)


def run_layer(layer: Layer, x: FloatTensor, residual: FloatTensor | None = None) -> FloatTensor:
    """One layer's output (N, C_out, H_out, W_out) for its input (N, C, H, W)."""
    if isinstance(layer, Pool):
        return _pool(layer, x)
    y = convolve(x, layer.weight, layer.stride, layer.padding, layer.groups)
    y += layer.bias[:, None, None]
    if layer.before_residual is not None:
        y = layer.before_residual.snap(y)
    if residual is not None:
        y += residual
    if layer.activation.low > -np.inf or layer.activation.high < np.inf:
        np.clip(y, layer.activation.low, layer.activation.high, out=y)
    return y


def columns(
    x: FloatTensor, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding
) -> FloatTensor:
    """im2col: (N, H_out, W_out, C, kh, kw) windows of x (N, C, H, W), a view where it can be."""
    top, left, bottom, right = padding
    if any(padding):
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = sliding_window_view(x, kernel, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    arranged: FloatTensor = windows.transpose(0, 2, 3, 1, 4, 5)
    return arranged


def convolve(
    x: FloatTensor,
    weight: FloatTensor,
    stride: tuple[int, int],
    padding: Padding,
    groups: int,
) -> FloatTensor:
    """Cross-correlation (N, C_out, H_out, W_out) of x (N, C, H, W), weight (C_out, C/g, kh, kw)."""
    c_out, c_in, kh, kw = weight.shape
    windows = columns(x, (kh, kw), stride, padding)
    n, h_out, w_out = windows.shape[:3]
    # one row a weight and one column a pixel: the copy runs along rows of the image, and the
    # product comes out in the order of the next layer's input
    cols = windows.transpose(0, 3, 4, 5, 1, 2).reshape(n, groups, c_in * kh * kw, h_out * w_out)
    out = np.empty((n, groups, c_out // groups, h_out * w_out), np.float32)
    np.matmul(weight.reshape(groups, c_out // groups, -1), cols, out=out)
    return out.reshape(n, c_out, h_out, w_out)


def _pool(layer: Pool, x: FloatTensor) -> FloatTensor:
    top, left, bottom, right = layer.padding
    fill = -np.inf if layer.kind == "max" else 0.0
    if any(layer.padding):
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    windows = sliding_window_view(x, layer.kernel, axis=(2, 3))
    windows = windows[:, :, :: layer.stride[0], :: layer.stride[1]]
    reduced = windows.max((4, 5)) if layer.kind == "max" else windows.mean((4, 5))
    return np.ascontiguousarray(reduced, np.float32)
