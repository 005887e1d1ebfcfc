"""A TFLite network as a model: its integers and grids are the file's, its values the executor's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.importers.tflite_file import read_tflite
from bacmac.host.importers.tflite_model import load_tflite, lower_network
from bacmac.host.importers.tflite_reading import Progress, Reading
from bacmac.host.importers.tflite_reference import run, tensors_of
from bacmac.host.importers.tflite_resolve import resolve
from bacmac.host.importers.tflite_steps import Add, Combine, Convolve, Mean, Network, Window
from bacmac.host.model.forward import forward, walk
from bacmac.host.model.inputs import normalized
from bacmac.host.model.layers import INPUT, Conv, Grid, Normalization, Pool
from bacmac.host.quantize.imported import quantize_imported
from bacmac.host.quantize.options import QuantizeOptions
from bacmac.host.runtime.vectors import device_outputs

NETS = Path(__file__).parent / "tflite"
FLOATS = {"constants_float16", "keras_float32", "wide_dynamic"}
LOWERED = sorted({path.stem for path in NETS.glob("*.tflite")} - FLOATS - {"edges"})
CIFAR10 = Normalization(255.0, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
RESNET = "potacc_apot_resnet20_4bit"
MOBILENET = "potacc_qkeras_mobilenetv2_4bit_icecs2024"


def random_images(shape: tuple[int, ...], count: int = 16) -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).normal(0, 1, (count, *shape)).astype("f4")


@pytest.mark.parametrize("name", LOWERED)
def test_the_model_gives_the_executor_s_values_to_a_few_steps(name: str) -> None:
    path = NETS / f"{name}.tflite"
    model = load_model(path)
    images = random_images(model.input_shape)

    found, expected = forward(model, images), run(path, images)

    step = list(resolve(read_tflite(path)).quantization.values())[-1].scale
    apart = np.abs(found - expected) / step
    assert found.shape == expected.shape
    # an average of 2 x 2 codes is often half a step, which the kernel takes another way; the
    # layers behind it add that up
    assert apart.max() <= 4.01
    assert apart.mean() <= 1.0


@pytest.mark.parametrize("name", LOWERED)
def test_each_step_alone_is_within_one_step_of_its_grid(name: str) -> None:
    graph = read_tflite(NETS / f"{name}.tflite")
    network = resolve(graph)
    rows, columns, channels = network.input_sides
    tensors = tensors_of(network, random_images((channels, rows, columns)))
    checked = 0
    for step in network.steps:
        if not isinstance(step, (Add, Combine, Convolve, Mean, Window)):
            continue
        if isinstance(step, Add):
            step = replace(step, other=step.x)  # a network of one step has one input
        grid, target = network.quantization[step.x], network.quantization[step.y]
        images = ((tensors[step.x] - grid.zero) * grid.scale).transpose(0, 3, 1, 2).astype("f4")
        alone = Network(
            "one",
            step.x,
            images.shape[2:] + images.shape[1:2],
            step.y,
            (step,),
            network.quantization,
            (),
        )
        model = lower_network(alone, graph.file, graph.sha256)

        expected = tensors_of(alone, images)[step.y].transpose(0, 3, 1, 2).astype("f8")

        apart = forward(model, images) / target.scale + target.zero - expected
        assert np.abs(apart).max() <= 1.001, step.name
        # averages have ties, and the kernels round a sum twice, most often where factors are large
        often = 0.3 if isinstance(step, (Mean, Window)) else 0.05
        assert (np.abs(apart) > 0.5).mean() <= often, step.name
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize("name", LOWERED)
def test_kept_weights_are_the_file_s_integers(name: str) -> None:
    graph = read_tflite(NETS / f"{name}.tflite")
    steps = [step for step in resolve(graph).steps if isinstance(step, Convolve)]
    layers = {
        layer.name: layer
        for layer in load_tflite(graph.file).layers
        if isinstance(layer, Conv) and layer.kept is not None
    }
    weighted = [
        each
        for each in graph.operators
        if each.code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    ]

    for operator, step in zip(weighted, steps, strict=True):
        codes = graph.tensor(operator.inputs[1])
        kept = layers[step.name].kept
        assert kept is not None
        zero = int(codes.zero_points[0]) if codes.type == "UINT8" else 0
        assert sorted(kept.levels.ravel()) == sorted(codes.constant.astype("i2").ravel() - zero)
        assert np.array_equal(kept.scale, np.broadcast_to(codes.scales, kept.scale.shape))
        assert np.array_equal(kept.weight, layers[step.name].weight)


@pytest.mark.parametrize("name", LOWERED)
def test_the_accelerator_s_integers_follow_the_file_s(name: str) -> None:
    path = NETS / f"{name}.tflite"
    model = load_tflite(path)
    images = random_images(model.input_shape, 32)

    quantized = quantize_imported(model, None, Normalization(), QuantizeOptions())

    step = list(resolve(read_tflite(path)).quantization.values())[-1].scale
    apart = np.abs(device_outputs(quantized, images) - run(path, images)) / step
    assert apart.max() <= 3.01
    assert apart.mean() <= 0.8


def test_a_mean_halfway_between_codes_goes_away_from_the_code_0() -> None:
    grid = load_tflite(NETS / "keras.tflite").grids["average_pooling2d_1/AvgPool"]

    codes = grid.codes(grid.scale * (np.array([-10.5, -0.5, 0.5, 10.5]) - grid.zero))

    assert grid.rounding == "half-away-code"
    assert grid.zero == -128
    assert codes.tolist() == [-11, -1, 1, 11]


def test_grids_are_the_file_s_scales_and_zero_points() -> None:
    model = load_tflite(NETS / "residual.tflite")
    quantization = resolve(read_tflite(NETS / "residual.tflite")).quantization
    there = {(each.scale, each.zero, each.low, each.high) for each in quantization.values()}

    grids = [
        *model.grids.values(),
        *(
            layer.before_residual
            for layer in model.layers
            if isinstance(layer, Conv) and layer.before_residual is not None
        ),
    ]

    assert INPUT in model.grids
    assert {(g.scale, int(g.zero), g.low, g.high) for g in grids} == there
    assert all(g.rounding == "half-away" for g in grids)  # this network has no average pool
    assert model.is_quantized


def test_a_grid_ends_where_an_activation_cuts_it() -> None:
    network = resolve(read_tflite(NETS / "moves.tflite"))
    step = next(each for each in network.steps if each.name == "Relu6")
    zero = network.quantization[step.y].zero

    grids = load_tflite(NETS / "moves.tflite").grids.values()

    # the kernels clamp codes to those of 0 and 6: a grid that goes on below has codes for nothing
    assert zero > -128
    assert any(grid.low == zero for grid in grids)


def test_a_network_that_takes_codes_has_them_as_the_grid_of_its_input() -> None:
    unsigned = load_tflite(NETS / "residual_uint8_io.tflite")
    signed = load_tflite(NETS / "residual_int8_io.tflite")

    # the first QUANTIZE only moves UINT8 to INT8: no layer, no second rounding
    assert unsigned.grids[INPUT].low == 0
    assert unsigned.grids[INPUT].high == 255
    assert signed.grids[INPUT].low == -128
    assert [layer.name for layer in unsigned.layers] == [layer.name for layer in signed.layers]


def test_weights_that_alone_are_integers_are_kept_and_told() -> None:
    model = load_tflite(NETS / "wide_dynamic.tflite")
    graph = read_tflite(NETS / "wide_dynamic.tflite")
    first = model.layers[0]

    assert isinstance(first, Conv)
    assert first.kept is not None
    weight = graph.tensor(graph.operators[0].inputs[1]).constant
    assert np.array_equal(first.kept.levels.transpose(0, 2, 3, 1), weight)
    assert model.grids == {}
    assert model.is_quantized
    assert model.notes == ("the file has integers for weights only: these are kept",)


@pytest.mark.parametrize("name", ["constants_float16", "keras_float32"])
def test_a_network_of_floats_has_no_integers(name: str) -> None:
    model = load_model(NETS / f"{name}.tflite")

    assert not model.is_quantized
    assert all(layer.kept is None for layer in model.layers if isinstance(layer, Conv))


def test_layers_are_named_by_their_weights_without_the_converter_s_words() -> None:
    model = load_tflite(NETS / "keras.tflite")

    assert [layer.name for layer in model.layers] == [
        "first_1",
        "deep_1",
        "average_pooling2d_1/AvgPool",
        "classes_1",
    ]
    assert model.notes == ("SOFTMAX at the end left out: the values before it are given",)
    assert model.name == "keras"
    assert model.input_shape == (3, 12, 12)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("model/conv2d_1/Conv2D", "conv2d_1"),
        ("functional_3/block/dense/MatMul2;more", "block/dense"),
        ("net.Net/torch.nn.Sequential_layer1/net.Block_0/torch.nn.Conv2d_conv2", "layer1/0/conv2"),
        ("layer1.0.conv1.weight", "layer1.0.conv1.weight"),
        ("net.Net", "conv_2d_1"),
        ("", "conv_2d_1"),
    ],
)
def test_a_weight_s_name_is_shown_without_what_exporters_add(stored: str, shown: str) -> None:
    graph = read_tflite(NETS / "residual_int8_io.tflite")
    operator = replace(graph.operators[0], index=1)
    weight = replace(graph.tensor(operator.inputs[1]), name=stored)
    named = replace(graph, _read={operator.inputs[1]: weight})

    assert Reading(Progress(named), operator).name == shown


def test_channels_first_and_last_flattens_are_told_apart() -> None:
    model = load_tflite(NETS / "channels_first.tflite")
    dense = model.layers[-1]
    graph = read_tflite(NETS / "channels_first.tflite")
    weight = graph.tensor(graph.operators[-2].inputs[1]).constant

    assert model.input_shape == (3, 12, 12)
    assert isinstance(dense, Conv)
    assert dense.kept is not None
    assert np.array_equal(dense.kept.levels.reshape(7, -1), weight)
    assert load_tflite(NETS / "no_channel.tflite").input_shape == (1, 11, 7)


def test_dense_weights_behind_rows_and_columns_are_put_channels_first() -> None:
    graph = read_tflite(NETS / "no_channel.tflite")
    dense = next(layer for layer in load_tflite(graph.file).layers if layer.name == "MatMul")
    weight = graph.tensor(graph.operators[-4].inputs[1]).constant

    assert isinstance(dense, Conv)
    assert dense.kept is not None
    assert dense.weight.shape == (16, 4, 5, 3)
    assert np.array_equal(dense.kept.levels.transpose(0, 2, 3, 1).reshape(16, 60), weight)


def test_padding_joins_the_convolution_behind_it_and_shortcuts_move_channels() -> None:
    layers = load_tflite(NETS / "paths.tflite").layers
    first = layers[0]

    assert isinstance(first, Conv)
    assert first.padding == (1, 1, 1, 1)
    assert [layer.structural for layer in layers if isinstance(layer, Conv)].count(True) <= 2
    assert any(layer.groups == 1 and layer.residual for layer in layers if isinstance(layer, Conv))
    assert any(isinstance(layer, Pool) for layer in layers)


def test_bias_values_are_integers_of_the_accumulator() -> None:
    model = load_tflite(NETS / "residual.tflite")
    first = model.layers[0]
    assert isinstance(first, Conv)
    assert first.kept is not None

    units = first.bias / (model.grids[INPUT].scale * first.kept.scale)

    assert np.abs(units - np.rint(units)).max() < 1e-2
    assert np.abs(units).max() > 10


def cifar(real_data: Path, count: int) -> tuple[Any, Any]:
    found = load_images(real_data / "cifar10_test_2000.npz", shape=(3, 32, 32))
    assert found.labels is not None
    every = len(found.images) // count
    return normalized(found.images[::every], CIFAR10), found.labels[::every]


@pytest.mark.parametrize(("name", "count", "least"), [(RESNET, 200, 0.90), (MOBILENET, 20, 0.85)])
def test_published_networks_classify_as_published(
    name: str, count: int, least: float, real_data: Path | None
) -> None:
    if real_data is None:
        path, model = NETS / "keras.tflite", load_tflite(NETS / "keras.tflite")
        images = random_images(model.input_shape)
        assert (forward(model, images).argmax(1) == run(path, images).argmax(1)).mean() >= 0.9
        return
    path = real_data / f"{name}.tflite"
    model = load_tflite(path)
    images, labels = cifar(real_data, count)

    found, expected = forward(model, images)[:, :, 0, 0], run(path, images)[:, :, 0, 0]

    assert (expected.argmax(1) == labels).mean() >= least
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.97
    assert np.abs(found - expected).max() <= 1.2  # LiteRT's own kernels differ by 0.9


def test_no_activation_of_a_published_network_leaves_its_grid(real_data: Path | None) -> None:
    path = NETS / "residual.tflite" if real_data is None else real_data / f"{RESNET}.tflite"
    model = load_tflite(path)
    images = random_images(model.input_shape, 2)

    for name, tensor in walk(model, images):
        grid: Grid | None = model.grids.get(name)
        if grid is not None:
            codes = tensor / grid.scale + grid.zero
            assert np.abs(codes - np.rint(codes)).max() < 1e-3
            assert grid.low - 0.01 <= codes.min() <= codes.max() <= grid.high + 0.01
