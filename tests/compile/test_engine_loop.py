"""Programs run by the slow loop of docs/accelerator.md give what the definition gives."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.network import ConvOp, PoolOp
from bacmac.host.arith.reference import run_reference
from bacmac.host.compile.compiler import compile_model
from bacmac.host.model.inputs import input_codes
from bacmac.overlays.registry import list_overlays, load_overlay

OVERLAYS = [overlay.manifest.name for overlay in list_overlays()]


@pytest.fixture(scope="session")
def engine_loop():
    """The module beside this one: tests have no package of their own."""
    name = "engine_loop"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def with_array(overlay, outputs, inputs, tile):
    geometry = replace(
        overlay.manifest.geometry,
        outputs=outputs,
        inputs=inputs,
        group_outputs=outputs,
        group_inputs=inputs,
        pixel_tile=tile,
    )
    return replace(
        overlay, manifest=replace(overlay.manifest, geometry=geometry, beat_bytes=inputs)
    )


def run_slowly(engine_loop, program, images, model):
    manifest, codes = (
        program.overlay.manifest,
        input_codes(images, model.normalization, model.input_format),
    )
    rows = np.empty((len(codes), program.input.n_bytes), np.uint8)
    program.input.pack(codes, rows)
    loop = engine_loop.EngineLoop(
        program.program_image,
        program.weight_image,
        program.constant_image,
        scheme=manifest.scheme,
        inputs=manifest.geometry.inputs,
        outputs=manifest.geometry.outputs,
        tile=manifest.geometry.pixel_tile,
    )
    data, counts = loop.run_batch(rows, len(program.descriptors))
    outputs = program.output.unpack(np.frombuffer(data, np.uint8).reshape(len(codes), -1))
    return outputs, run_reference(model.network, codes), counts


def assert_equal(engine_loop, program, images, model):
    outputs, expected, counts = run_slowly(engine_loop, program, images, model)

    assert outputs.dtype == expected.dtype
    assert np.array_equal(outputs, expected)
    geometry, scheme = program.overlay.manifest.geometry, program.overlay.manifest.scheme
    bits = 8 if scheme == "uniform-8" else 4
    for layer, found, op in zip(program.layers, counts, model.network.ops, strict=True):
        work = layer.work
        assert work.busy_cycles == found.busy
        assert work.products_done == found.products
        assert work.products_isolated == found.isolated
        assert work.products_skipped == found.skipped
        residual = isinstance(op, ConvOp) and op.residual is not None
        wide = isinstance(op, ConvOp) and op.requantize is None
        words = 0 if isinstance(op, PoolOp) else geometry.outputs * bits // 8
        step = 4 * geometry.outputs // geometry.inputs if wide else 2 if residual else 1
        cycles = engine_loop.slow_cycles(found.tiles, words, step, residual, geometry.inputs)
        assert work.cycles == cycles


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("signed", [False, True])
def test_every_kind_of_layer_on_every_overlay(engine_loop, models, name, signed):
    overlay = load_overlay(name)
    model, images = models.everything(11, overlay.manifest.scheme, signed_input=signed)

    assert_equal(engine_loop, compile_model(model, overlay), images[:2], model)


@pytest.mark.parametrize("array", [(8, 8, 4), (8, 16, 16), (16, 64, 8), (32, 32, 64)])
@pytest.mark.parametrize("signed", [False, True])
def test_other_arrays_and_stored_outputs(engine_loop, models, array, signed):
    overlay = with_array(load_overlay("bac-pot4"), *array)
    for model, images in (
        models.everything(12, signed_input=signed),
        models.stored_output(13, signed=signed),
    ):
        assert_equal(engine_loop, compile_model(model, overlay), images[:1], model)


@st.composite
def layers(draw):
    """Arguments of `Builder.conv`, a pool, an identity or a dense layer."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return {
        "kind": draw(st.sampled_from(["conv", "conv", "depthwise", "grouped", "pool", "average"])),
        "c_out": draw(st.integers(1, 40)),
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "signed": draw(st.booleans()),
        "residual": draw(st.booleans()),
        "zero_share": draw(st.sampled_from([0.0, 0.5, 0.95, 1.0])),
    }


def build(models, seed, scheme, shape, signed, parts, logits):
    b = models.Builder(seed, scheme, input_shape=shape, signed_input=signed)
    tensor = 0
    for part in parts:
        channels, height, width = b.shapes[tensor]
        kernel = min(part["kernel"][0], height), min(part["kernel"][1], width)
        b.zero_share = part["zero_share"]
        if part["kind"] == "pool" and min(height, width) > 1:
            tensor = b.max_pool(tensor)
        elif part["kind"] == "average":
            tensor = b.average_pool(tensor, kernel)
        else:
            groups = {"conv": 1, "depthwise": channels}.get(part["kind"])
            if groups is None:
                groups = next(g for g in (3, 2, 1) if channels % g == 0)
            c_out = -(-part["c_out"] // groups) * groups
            arguments = {
                "stride": part["stride"],
                "padding": part["padding"],
                "groups": groups,
                "signed": part["signed"],
            }
            if part["residual"]:
                c_out, kernel = channels, (1, 1)
                arguments.update(stride=(1, 1), padding=(0, 0, 0, 0), residual=tensor)
            tensor = b.conv(tensor, c_out, kernel, **arguments)
    b.zero_share = 0.3
    b.dense(tensor, 11, logits=logits)
    return b.model(), b.images(2)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(OVERLAYS),
    array=st.sampled_from([(8, 8, 4), (8, 16, 16), (16, 16, 64), (16, 32, 8)]),
    shape=st.tuples(st.integers(1, 35), st.integers(1, 9), st.integers(1, 9)),
    signed=st.booleans(),
    parts=st.lists(layers(), min_size=1, max_size=3),
    logits=st.booleans(),
)
def test_random_networks(engine_loop, models, seed, name, array, shape, signed, parts, logits):
    overlay = with_array(load_overlay(name), *array)
    scheme = overlay.manifest.scheme
    model, images = build(models, seed, scheme, shape, signed, parts, logits)

    assert_equal(engine_loop, compile_model(model, overlay), images, model)
