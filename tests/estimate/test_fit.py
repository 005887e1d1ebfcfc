"""Whole networks on chip: what fits the shipped overlays, and how a network is refused."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest

from bacmac.host.arith.network import ConvOp
from bacmac.host.compile.compiler import compile_model
from bacmac.host.errors import CompileError
from bacmac.overlays.estimate.configurations import find_configurations


@pytest.mark.parametrize("name", ["bac-pot4", "bac-pot4e4", "mac-uniform4"])
@pytest.mark.parametrize("build", ["resnet20", "mobilenet_v2"])
def test_every_overlay_of_four_bits_holds_both_networks_whole(
    name: str, build: str, models: ModuleType
) -> None:
    (configuration,) = find_configurations([name])
    model = getattr(models, build)(configuration.manifest.scheme)
    buffers = configuration.manifest.buffers

    program = compile_model(model, configuration.overlay)
    assert len(program.weight_image) <= buffers.weight_bytes
    assert len(program.constant_image) <= buffers.constant_bytes
    assert len(program.program_image) <= buffers.program_bytes
    assert program.max_batch >= 32


@pytest.mark.parametrize("name", ["bac-pot4", "mac-uniform8"])
def test_the_array_is_at_work_in_95_of_100_slots_of_resnet20(name: str, models: ModuleType) -> None:
    (configuration,) = find_configurations([name])
    geometry = configuration.manifest.geometry
    model = models.resnet20(configuration.manifest.scheme)

    program = compile_model(model, configuration.overlay)
    products = cycles = 0
    for layer, known, shape in zip(
        model.layers, program.layers, model.network.shapes[1:], strict=True
    ):
        if isinstance(layer.op, ConvOp) and layer.op.requantize is not None:
            products += layer.op.levels.size * shape[1] * shape[2]
            cycles += known.work.cycles
    assert products >= 0.95 * geometry.inputs * geometry.outputs * cycles


def test_the_mobilenet_has_the_weights_of_mobilenet(models: ModuleType) -> None:
    model = models.mobilenet_v2()

    n_weights = sum(layer.op.levels.size for layer in model.layers if layer.scheme)
    assert 2.15e6 < n_weights < 2.25e6


def test_a_network_that_does_not_fit_is_refused_with_need_and_capacity(models: ModuleType) -> None:
    (configuration,) = find_configurations(["mac-uniform8"])

    with pytest.raises(CompileError, match=r"weights up to this layer need \d+ bytes; .* 2097152"):
        compile_model(models.mobilenet_v2("uniform-8"), configuration.overlay)


def test_a_larger_array_holds_the_same_network_in_memories_of_its_own(models: ModuleType) -> None:
    (configuration,) = find_configurations(["bac-pot4"])
    buffers = replace(configuration.manifest.buffers, weight_bytes=0x240000)
    model = models.mobilenet_v2()

    small = compile_model(model, configuration.overlay)
    large = compile_model(model, configuration.resized(32, 32, buffers).overlay)
    assert large.image_work.cycles < small.image_work.cycles / 2
