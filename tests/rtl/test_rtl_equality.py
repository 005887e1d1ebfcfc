"""The RTL and the emulator agree in every bit of the outputs and every count, to the last cycle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bacmac.host.errors import CompileError
from bacmac.host.model.inputs import input_codes
from bacmac.overlays.registry import list_overlays, load_overlay

OVERLAYS = [overlay.manifest.name for overlay in list_overlays()]
ARRAYS = {
    "pot-4, 8 x 8": ("bac-pot4", 8, 8, 16),
    "pot-4e4, 8 x 16": ("bac-pot4e4", 8, 16, 8),
    "uniform-4, 8 x 8": ("mac-uniform4", 8, 8, 32),
}
"""Overlay, outputs, inputs, tile."""
STREAMS = st.tuples(st.sampled_from([0.0, 0.3, 0.9]), st.sampled_from([0.0, 0.3, 0.9]))


def assert_equal(rtl, overlay, model, batches, streams=(0.0, 0.0), passes=1, seed=0):
    word = f"rtl:idle={streams[0]},stall={streams[1]},seed={seed}"
    found = rtl.drive(word, overlay, model, batches, passes)
    expected = rtl.drive("functional:", overlay, model, batches, passes)

    for one, other in zip(found.batches, expected.batches, strict=True):
        assert one.outputs.dtype == other.outputs.dtype
        assert np.array_equal(one.outputs, other.outputs)
    assert found.numbers() == expected.numbers()
    assert found.layers == expected.layers
    assert sum(layer.cycles for layer in found.layers[0]) <= found.batches[0].cycles


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    streams=STREAMS,
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    passes=st.integers(1, 2),
)
@example(seed=599, streams=(0.0, 0.0), sizes=[2], passes=1)  # only one image stays on chip
@example(seed=5059, streams=(0.0, 0.0), sizes=[3], passes=1)
def test_random_networks_on_small_arrays(rtl, wild, array, seed, streams, sizes, passes):
    overlay = rtl.small_overlay(*array)
    rng = np.random.default_rng(seed)
    model = wild.wild_model(rng, overlay.manifest.scheme)
    batches = [wild.wild_codes(rng, model, n) for n in sizes]

    try:
        assert_equal(rtl, overlay, model, batches, streams, passes, seed)
    except CompileError:  # an accumulator that may overflow, or a memory too small
        assume(False)


@pytest.mark.parametrize("name", OVERLAYS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), streams=STREAMS)
def test_random_networks_on_every_overlay(rtl, wild, name, seed, streams):
    overlay = load_overlay(name)
    rng = np.random.default_rng(seed)
    model = wild.wild_model(rng, overlay.manifest.scheme)

    try:
        assert_equal(rtl, overlay, model, [wild.wild_codes(rng, model, 2)], streams, seed=seed)
    except CompileError:
        assume(False)


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("signed", [False, True])
def test_every_kind_of_layer_on_every_overlay(rtl, models, name, signed):
    overlay = load_overlay(name)
    model, images = models.everything(5, overlay.manifest.scheme, signed_input=signed)
    codes = input_codes(images, model.normalization, model.input_format)

    assert_equal(rtl, overlay, model, [codes[:2], codes[2:3]], (0.2, 0.2), passes=2)
