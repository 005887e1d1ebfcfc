"""Whatever the network: eight bits follow the float one, and every scheme packs."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bacmac.host.arith.network import Shape
from bacmac.host.arith.reference import run_reference
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.importers.images import ImageSet
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import input_codes, normalized
from bacmac.host.model.layers import (
    INPUT,
    LINEAR,
    RELU,
    Activation,
    Conv,
    Layer,
    Model,
    Normalization,
    Pool,
    layer_output_shape,
)
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.pack.file import packed_bytes
from bacmac.host.pack.limits import MAX_KERNEL
from bacmac.host.prune.plan import COMPENSATED, METHODS

ACTIVATIONS = [LINEAR, RELU, Activation(0, 6.0), Activation(-1.0, 1.0), Activation(-0.3, 2.0)]


def _layer(rng: np.random.Generator, name: str, source: str, shapes: dict[str, Shape]) -> Layer:
    channels, height, width = shapes[source]
    kernel = (
        int(rng.integers(1, min(4, height) + 1)),
        int(rng.integers(1, min(4, width) + 1)),
    )
    assert max(kernel) <= MAX_KERNEL
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    padding = (0, 0, 0, 0)
    if rng.random() < 0.5:
        top, left, bottom, right = (int(n) for n in rng.integers(0, min(kernel), 4))
        padding = (top, left, bottom, right)
    if rng.random() < 0.2:
        kind = "max" if rng.random() < 0.5 else "average"
        return Pool(name, source, kind, kernel, stride, padding)
    groups = channels if rng.random() < 0.25 else 1
    c_out = channels * int(rng.integers(1, 3)) if groups > 1 else int(rng.integers(1, 20))
    weight = rng.standard_normal((c_out, channels // groups, *kernel)) * 10.0 ** rng.integers(-3, 2)
    weight[rng.random(c_out) < 0.05] = 0
    bias = rng.standard_normal(c_out) * 10.0 ** rng.integers(-3, 2) * (rng.random() < 0.7)
    conv = Conv(
        name,
        source,
        weight.astype(np.float32),
        bias.astype(np.float32),
        stride,
        padding,
        groups,
        ACTIVATIONS[rng.integers(len(ACTIVATIONS))],
    )
    fitting = [
        n for n, shape in shapes.items() if shape == layer_output_shape(conv, shapes[source])
    ]
    if not fitting or rng.random() < 0.4:
        return conv
    residual = fitting[rng.integers(len(fitting))]
    return Conv(
        name, source, conv.weight, conv.bias, stride, padding, groups, conv.activation, residual
    )


def _model(rng: np.random.Generator) -> Model:
    shape = (int(rng.integers(1, 5)), int(rng.integers(1, 9)), int(rng.integers(1, 9)))
    shapes: dict[str, Shape] = {INPUT: shape}
    layers: list[Layer] = []
    for number in range(int(rng.integers(1, 6))):
        names = list(shapes)
        source = names[-1] if rng.random() < 0.7 else names[rng.integers(len(names))]
        layer = _layer(rng, f"l{number}", source, shapes)
        shapes[layer.name] = layer_output_shape(layer, shapes[source])
        layers.append(layer)
    return Model("random", shape, tuple(layers))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_eight_bits_follow_the_float_network(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = _model(rng)
    images = rng.integers(0, 256, (int(rng.integers(1, 20)), *model.input_shape)).astype(np.uint8)
    options = CompressOptions(
        "uniform-8",
        rounding=["nearest", "compensated"][rng.integers(2)],
        bias_correction=[None, True, False][rng.integers(3)],
    )

    quantized = compress(model, ImageSet(images, None, None, "images", ""), options)

    floats = forward(model, normalized(images, Normalization()))
    codes = input_codes(images, quantized.normalization, quantized.input_format)
    found = run_reference(quantized.network, codes) * quantized.logit_scale[:, None, None]
    size = np.sqrt(np.mean(floats**2))
    # networks that amplify into a clip amplify their rounding too; most stay within 2 %
    assert np.sqrt(np.mean((found - floats) ** 2)) <= 0.3 * size + 1e-6


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
@example(seed=379994124)  # the share was reached by half a unit too much, then by less than none
@example(seed=4213817061)  # a silent channel of a depthwise layer
@example(seed=2066)  # an input that does not vary
def test_any_options_give_a_model_that_packs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = _model(rng)
    images = (rng.standard_normal((5, *model.input_shape)) * 10.0 ** rng.integers(-3, 3)).astype(
        np.float32
    )
    schemes = [name for name, scheme in SCHEMES.items() if scheme.has_zero]
    pruning = METHODS[rng.integers(len(METHODS))]
    structures = ["weight", "channel", "block", "tile", "2:4"] if pruning == COMPENSATED else []
    structure = str(rng.choice([*structures, "weight"]))
    sparsity = float(rng.choice([0, 0.3, 0.7]))
    options = CompressOptions(
        schemes[rng.integers(len(schemes))],
        first_last=[None, "uniform-8"][rng.integers(2)],
        sparsity=0.0 if structure == "2:4" else sparsity,
        structure=structure,
        pruning=pruning,
        scope=["layer", "global"][rng.integers(2)],
        rounding=["nearest", "compensated"][rng.integers(2)],
        bias_correction=False,
        activation_bits=int(rng.choice([8, 4, 2])),
    )

    quantized = compress(model, ImageSet(images, None, None, "images", ""), options)

    assert packed_bytes(quantized) == packed_bytes(quantized)
    assert len(quantized.network.ops) == len(model.layers)
