"""From model to bytes and back, with every limit told by name."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.network import ConvOp
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.compile.compiler import compile_model
from bacmac.host.compile.loader import BadDescriptorError, Memories, load_network
from bacmac.host.compile.plan import plan_buffers, tensor_bytes
from bacmac.host.compile.work import network_work
from bacmac.host.errors import CompileError, MismatchError
from bacmac.overlays.registry import list_overlays, load_overlay

OVERLAY = load_overlay("bac-pot4")
OVERLAYS = {overlay.manifest.name: overlay for overlay in list_overlays()}


def with_buffers(**changes):
    manifest = OVERLAY.manifest
    return replace(
        OVERLAY, manifest=replace(manifest, buffers=replace(manifest.buffers, **changes))
    )


def memories_of(program):
    manifest = program.overlay.manifest
    return Memories(
        program.program_image,
        program.weight_image,
        program.constant_image,
        manifest.geometry,
        manifest.scheme,
        manifest.beat_bytes,
    )


def assert_same_network(found, expected):
    assert found.input_shape == expected.input_shape
    assert found.ranges == expected.ranges
    for op, other in zip(found.ops, expected.ops, strict=True):
        assert type(op) is type(other)
        for name in op.__dataclass_fields__:
            assert_same(getattr(op, name), getattr(other, name), name)


def assert_same(found, expected, name):
    if isinstance(expected, np.ndarray):
        assert np.array_equal(found, expected), name
        assert found.dtype == expected.dtype, name
    elif hasattr(expected, "__dataclass_fields__"):
        for part in expected.__dataclass_fields__:
            assert_same(getattr(found, part), getattr(expected, part), f"{name}.{part}")
    else:
        assert found == expected, name


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("signed", [False, True])
def test_the_bytes_hold_the_whole_network(models, name, signed):
    overlay = OVERLAYS[name]
    model, _ = models.everything(5, overlay.manifest.scheme, signed_input=signed)

    program = compile_model(model, overlay)

    assert_same_network(load_network(memories_of(program)), model.network)


@pytest.mark.parametrize("array", [(8, 8), (4, 2), (32, 16), (16, 64)])
@pytest.mark.parametrize("beat_bytes", [4, 16, 64])
def test_the_formats_follow_the_geometry(models, array, beat_bytes):
    geometry = replace(
        OVERLAY.manifest.geometry,
        outputs=array[0],
        inputs=array[1],
        group_outputs=array[0],
        group_inputs=array[1],
    )
    manifest = replace(OVERLAY.manifest, geometry=geometry, beat_bytes=beat_bytes)
    model, _ = models.everything()

    program = compile_model(model, replace(OVERLAY, manifest=manifest))

    assert_same_network(load_network(memories_of(program)), model.network)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_inputs": 32}, "geometry.group: found 16 x 32; expected 16 x 16"),
        (
            {"inputs": 1, "outputs": 4, "group_inputs": 1, "group_outputs": 4},
            "geometry: found 4 x 1; expected a multiple of 8",
        ),
    ],
)
def test_a_geometry_without_a_weight_format_is_refused(models, changes, message):
    model, _ = models.everything()
    geometry = replace(OVERLAY.manifest.geometry, **changes)
    other = replace(OVERLAY, manifest=replace(OVERLAY.manifest, geometry=geometry))

    with pytest.raises(MismatchError, match=message):
        compile_model(model, other)


def random_chain(models, seed, length):
    """A model of random layers with residuals wherever shapes allow one."""
    rng = np.random.default_rng(seed)
    b = models.Builder(seed, input_shape=(int(rng.integers(1, 20)), 6, 7))
    tensor = 0
    for _ in range(length):
        same = [t for t in range(len(b.shapes)) if b.shapes[t] == b.shapes[tensor]]
        kind = rng.integers(4)
        if kind == 0 and min(b.shapes[tensor][1:]) > 1:
            tensor = b.max_pool(tensor)
        elif kind == 1:
            tensor = b.identity(tensor, int(rng.choice(same)))
        elif kind == 2:
            tensor = b.conv(tensor, b.shapes[tensor][0], residual=int(rng.choice(same)))
        else:
            tensor = b.conv(int(rng.choice(same)), int(rng.integers(1, 40)))
    b.dense(tensor, 10, logits=True)
    return b.model()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 12))
def test_any_program_decodes_and_its_plan_never_overlaps_what_lives(models, seed, length):
    model = random_chain(models, seed, length)
    program = compile_model(model, OVERLAY)
    plan = program.plan

    assert_same_network(load_network(memories_of(program)), model.network)
    for index, op in enumerate(model.network.ops):
        reads = {op.input, getattr(op, "residual", None)} - {None, 0}
        assert all(plan.last_reads[tensor] >= index for tensor in reads)
        living = [t for t in range(1, index + 2) if plan.last_reads[t] >= index or t == index + 1]
        spans = sorted((plan.addresses[t], plan.addresses[t] + plan.sizes[t]) for t in living)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert spans[-1][1] <= plan.peak_bytes
        assert all(start % OVERLAY.manifest.beat_bytes == 0 for start, _ in spans)


def test_the_plan_reuses_memory_but_keeps_residuals(models):
    b = models.Builder(1, input_shape=(16, 8, 8))
    kept = b.conv(0, 16)
    a = b.conv(kept, 16)
    c = b.conv(a, 16)
    b.conv(c, 16, residual=kept)
    model = b.model()

    plan = plan_buffers(model.network, ("a", "b", "c", "d"), 1 << 16, 16)

    assert plan.addresses[1:] == (0, 1024, 2048, 1024), "d takes the place of b, which is dead"
    assert plan.peak_bytes == 3072
    assert plan.max_images == (65536 - 3072) // 1024


def test_tensors_are_counted_in_whole_beats(models):
    model, _ = models.everything()

    sizes = tensor_bytes(model.network, 16)

    assert sizes[0] == 192, "3 x 9 x 7 = 189 bytes"
    assert sizes[-1] == 48, "10 int32 logits"


def test_an_empty_group_is_not_stored_and_costs_one_cycle_a_tile(models):
    def one_layer(empty):
        b = models.Builder(3, input_shape=(16, 12, 12), zero_share=0.1)
        b.conv(0, 16, empty_groups=empty)
        return compile_model(b.model(), OVERLAY)

    full, pruned = one_layer(empty=False), one_layer(empty=True)

    assert (full.layers[0].n_groups, full.layers[0].empty_groups) == (9, 0)
    assert (pruned.layers[0].n_groups, pruned.layers[0].empty_groups) == (9, 3)
    assert len(full.weight_image) == 9 * 128
    assert len(pruned.weight_image) == 6 * 128
    # 144 pixels are 3 tiles; a full group costs 3 loads of 8 cycles and 144 pixels
    assert full.layers[0].work.cycles == 9 * (3 * 8 + 144) + 144 + 4 * 3 + 16
    assert pruned.layers[0].work.cycles == 6 * (3 * 8 + 144) + 3 * 3 + 144 + 4 * 3 + 16


def test_a_dense_layer_is_one_pixel_of_many_channels(models):
    b = models.Builder(3, input_shape=(1, 28, 28))
    b.dense(0, 20)

    program = compile_model(b.model(), OVERLAY)

    assert program.layers[0].n_groups == 2 * 49
    levels = b.layers[0].op.levels
    first = program.weight_image[:128]
    decode = SCHEMES["pot-4"].decode
    row = [decode[byte >> half & 15] for byte in first[:8] for half in (0, 4)]
    assert row == levels[0, 0].reshape(-1)[:16].tolist()


def test_products_are_weights_times_pixels(models):
    model, _ = models.everything()

    works = network_work(model.network, OVERLAY.manifest.geometry, 4, 16)

    for op, shape, work in zip(model.network.ops, model.network.shapes[1:], works, strict=True):
        pixels = shape[1] * shape[2]
        if not isinstance(op, ConvOp):
            assert work.products_done == work.products_skipped == work.weight_bytes == 0
            continue
        nonzero = int(np.count_nonzero(op.levels))
        assert work.products_done == nonzero * pixels
        assert work.products_skipped == (op.levels.size - nonzero) * pixels


@pytest.mark.parametrize(
    ("scheme", "overlay", "runs"),
    [
        ("pot-3", "bac-pot4", True),
        ("pot-4e4", "bac-pot4", True),
        ("ternary", "bac-pot4", True),
        ("uniform-3", "bac-pot4", False),
        ("uniform-4", "bac-pot4", False),
        ("pot-3", "mac-uniform4", True),
        ("pot-4", "mac-uniform4", False),
        ("pot-4", "mac-uniform8", True),
        ("uniform-8", "mac-uniform4", False),
    ],
)
def test_a_scheme_runs_where_its_levels_are_a_subset(models, scheme, overlay, runs):
    model, _ = models.everything(2, scheme)

    if runs:
        program = compile_model(model, OVERLAYS[overlay])
        assert_same_network(load_network(memories_of(program)), model.network)
        return
    executes = OVERLAYS[overlay].manifest.scheme
    with pytest.raises(MismatchError, match=f"'layer0': found {scheme}.*expected {executes}"):
        compile_model(model, OVERLAYS[overlay])


def test_wider_codes_are_refused_even_where_the_levels_fit(models):
    model, _ = models.everything(2, "ternary")
    first = replace(model.layers[0], scheme="uniform-8")
    wide = replace(model, layers=(first, *model.layers[1:]))

    with pytest.raises(MismatchError, match="'layer0': found uniform-8;"):
        compile_model(wide, OVERLAY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_bytes": 2000}, "layer 'layer1': its output.* 2528 bytes .* has 2000"),
        ({"activation_bytes": 3900}, "input image of layer 'layer0' needs 192 bytes.*has 3900"),
        ({"weight_bytes": 6000}, r"layer 'layer1': weights up to this layer need \d+ .*has 6000"),
        ({"constant_bytes": 300}, r"layer 'layer1': constants up to this layer need \d+.*has 300"),
        ({"max_descriptors": 4}, "layer 'layer4': the model has 11 layers; bac-pot4 holds 4"),
    ],
)
def test_a_memory_that_is_too_small_is_named_with_both_sizes(models, changes, message):
    model, _ = models.everything()

    with pytest.raises(CompileError, match=message):
        compile_model(model, with_buffers(**changes))


def test_an_accumulator_that_may_overflow_is_refused_and_others_have_headroom(models):
    model, _ = models.everything()
    program = compile_model(model, OVERLAY)
    bias = model.layers[1].op.bias.copy()
    bias[7] = 2**31 - 1000
    layer = replace(model.layers[1], op=replace(model.layers[1].op, bias=bias))
    spoiled = replace(model, layers=(model.layers[0], layer, *model.layers[2:]))

    with pytest.raises(CompileError, match="layer 'layer1': the accumulator of channel 7 may"):
        compile_model(spoiled, OVERLAY)
    assert all(0 < layer.headroom_bits <= 31 for layer in program.layers)
    assert all(layer.accumulator_bound < 2**31 for layer in program.layers)


def test_a_number_too_large_for_its_field_is_named(models):
    b = models.Builder(1, input_shape=(1, 1, 300))
    b.dense(0, 3)

    with pytest.raises(CompileError, match="layer 'layer0': kernel_w is 300"):
        compile_model(b.model(), OVERLAY)


def test_an_overlay_of_another_abi_or_too_wide_a_stream_is_refused(models):
    model, _ = models.everything()
    other = replace(OVERLAY, manifest=replace(OVERLAY.manifest, abi=2))
    wide = replace(OVERLAY, manifest=replace(OVERLAY.manifest, beat_bytes=128))

    with pytest.raises(MismatchError, match="bac-pot4: abi: found 2; expected 1"):
        compile_model(model, other)
    with pytest.raises(MismatchError, match="beat_bytes: found 128; expected a divisor of the 64"):
        compile_model(model, wide)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_spoiled_memories_decode_or_are_refused(models, data):
    program = compile_model(models.everything()[0], OVERLAY)
    memories = memories_of(program)
    name = data.draw(st.sampled_from(["program", "weights", "constants"]))
    spoiled = bytearray(getattr(memories, name))
    for at in data.draw(st.lists(st.integers(0, len(spoiled) - 1), min_size=1, max_size=4)):
        spoiled[at] ^= data.draw(st.integers(1, 255))

    try:
        n_ops = len(load_network(replace(memories, **{name: bytes(spoiled)})).ops)
    except BadDescriptorError as error:
        n_ops = len(program.descriptors) if error.index < len(program.descriptors) else -1

    assert n_ops == len(program.descriptors)
