"""From model to bytes and back, with every limit told by name."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.array_codes import decode_groups
from bacmac.host.arith.network import ConvOp
from bacmac.host.compile.checks import Memories
from bacmac.host.compile.compiler import compile_model
from bacmac.host.compile.loader import BadDescriptorError, load_program
from bacmac.host.compile.plan import plan_buffers, tensor_bytes
from bacmac.host.compile.weights import CONSTANT, encode_constants
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
        len(program.descriptors),
        manifest.buffers.activation_bytes,
        manifest.geometry,
        manifest.scheme,
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

    assert_same_network(load_program(memories_of(program)).network, model.network)


@pytest.mark.parametrize("array", [(8, 8), (8, 32), (16, 64), (64, 64)])
def test_the_formats_follow_the_geometry(models, array):
    model, _ = models.everything()

    program = compile_model(model, with_array(*array))

    assert_same_network(load_program(memories_of(program)).network, model.network)


def with_array(outputs, inputs, **changes):
    sides = {"outputs": outputs, "inputs": inputs, "group_outputs": outputs, "group_inputs": inputs}
    manifest = OVERLAY.manifest
    geometry = replace(manifest.geometry, **{**sides, **changes})
    return replace(OVERLAY, manifest=replace(manifest, geometry=geometry, beat_bytes=inputs))


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        (with_array(16, 16, group_inputs=32), "geometry.group: found 16 x 32; expected 16 x 16"),
        (with_array(4, 16), "geometry: found 4 x 16; expected powers of two, 8 <= outputs"),
        (with_array(32, 16), "geometry: found 32 x 16"),
        (with_array(8, 64), "geometry: found 8 x 64"),
        (with_array(16, 24), "geometry: found 16 x 24"),
        (
            replace(OVERLAY, manifest=replace(OVERLAY.manifest, beat_bytes=8)),
            "beat_bytes: found 8; expected 16, the inputs of the array",
        ),
        (
            replace(OVERLAY, manifest=replace(OVERLAY.manifest, scheme="ternary")),
            "scheme: found ternary; expected one of uniform-8",
        ),
        (
            replace(OVERLAY, manifest=replace(OVERLAY.manifest, abi=1)),
            "abi: found 1; expected 2",
        ),
        (with_buffers(activation_bytes=1 << 21), "buffers.activation_bytes: found 2097152"),
        (with_buffers(max_descriptors=257), "buffers.max_descriptors: found 257; expected 256"),
    ],
)
def test_an_overlay_that_the_formats_do_not_fit_is_refused(models, overlay, message):
    model, _ = models.everything()

    with pytest.raises(MismatchError, match=f"bac-pot4: {message}"):
        compile_model(model, overlay)


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

    assert_same_network(load_program(memories_of(program)).network, model.network)
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


def test_an_empty_group_is_not_stored_and_costs_no_cycle(models):
    def one_layer(empty):
        b = models.Builder(3, input_shape=(16, 12, 12), zero_share=0.1)
        b.conv(0, 16)
        levels = b.layers[0].op.levels
        levels[:, :, 1, :empty] = 0  # the first chunks of the second row: 16 channels are a chunk
        return compile_model(b.model(), OVERLAY)

    programs = [one_layer(empty) for empty in range(4)]

    for empty, program in enumerate(programs):
        layer, descriptor = program.layers[0], program.descriptors[0]
        assert (layer.n_groups, layer.empty_groups) == (9, empty)
        assert (descriptor.n_entries, descriptor.n_skipped) == (9 - empty, empty)
        assert len(program.weight_image) == (9 - empty) * 128
        # 144 pixels in tiles of 64, one a cycle for each group; 8 cycles of a load are hidden
        assert layer.work.busy_cycles == (9 - empty) * 144
        assert programs[0].layers[0].work.cycles - layer.work.cycles == empty * 144
    assert programs[0].layers[0].work.cycles == 38 + 8 + 9 * 144 + 11 + 16 + 15


def test_a_block_without_weights_has_one_entry_and_no_work(models):
    b = models.Builder(3, input_shape=(16, 4, 4), zero_share=0.0)
    b.conv(0, 40)
    b.layers[0].op.levels[16:32] = 0

    program = compile_model(b.model(), OVERLAY)

    entries = np.frombuffer(program.group_lists, "<u4")[: program.descriptors[0].n_entries]
    assert len(entries) == 9 + 1 + 9
    assert entries[9] == 3 << 28, "empty and last"
    assert np.flatnonzero(entries >> 28 & 1).tolist() == [8, 9, 18]
    assert program.layers[0].empty_groups == 9
    assert program.layers[0].work.busy_cycles == 18 * 16


def test_a_chunk_spans_taps_so_that_three_channels_make_three_groups(models):
    b = models.Builder(3, input_shape=(3, 12, 12), zero_share=0.0)
    b.conv(0, 16)

    program = compile_model(b.model(), OVERLAY)

    entries = np.frombuffer(program.group_lists, "<u4")[:3]
    assert program.layers[0].n_groups == 3
    assert entries.tolist() == [0, 1 << 20, 2 << 20 | 1 << 28]


def test_a_dense_layer_is_one_row_in_memory_order(models):
    b = models.Builder(3, input_shape=(5, 7, 4))
    b.dense(0, 20)

    program = compile_model(b.model(), OVERLAY)

    levels = decode_groups(program.weight_image, 16, 16, "pot-4")
    assert program.layers[0].n_groups == 2 * 9, "140 bytes are nine chunks"
    row = b.layers[0].op.levels[3].transpose(1, 2, 0).reshape(-1)
    assert levels[:9, 3].reshape(-1)[:140].tolist() == row.tolist()
    assert not levels[8, :, 12:].any()


def test_slots_are_those_of_whole_groups(models):
    model, _ = models.everything()

    program = compile_model(model, OVERLAY)

    for op, shape, layer in zip(
        model.network.ops, model.network.shapes[1:], program.layers, strict=True
    ):
        pixels, work = shape[1] * shape[2], layer.work
        if not isinstance(op, ConvOp):
            assert work.products_done == work.products_isolated == work.products_skipped == 0
            assert work.weight_bytes == 0
            assert work.busy_cycles == pixels * -(-shape[0] // 16) * np.prod(op.kernel)
            continue
        assert work.products_done == int(np.count_nonzero(op.levels)) * pixels
        assert work.products_done + work.products_isolated == 256 * work.busy_cycles
        assert work.products_skipped == 256 * layer.empty_groups * pixels
        assert work.weight_bytes == layer.weight_bytes * -(-pixels // 64)


def test_the_offset_of_signed_inputs_is_taken_off_the_stored_bias_only(models):
    model, _ = models.everything(4, signed_input=True)
    op = model.layers[0].op

    program = compile_model(model, OVERLAY)

    stored = np.frombuffer(program.constant_image, CONSTANT)["bias"][:20]
    assert (op.bias - stored == 128 * op.levels.sum((1, 2, 3), dtype=np.int64)).all()
    bias = np.full(20, 2**31 - 1, np.int32)
    levels = np.full((20, 3, 1, 1), -64, np.int8)
    wrapped = ConvOp(0, levels, bias, op.requantize)
    record = encode_constants(wrapped, (-128, 127), 20, OVERLAY.manifest.geometry)
    assert np.frombuffer(record, CONSTANT)["bias"][0] == -(2**31) - 1 + 128 * 192


def test_constants_are_rows_of_whole_blocks(models):
    model, _ = models.everything()

    program = compile_model(model, OVERLAY)

    rows = [descriptor.constant_row for descriptor in program.descriptors]
    blocks = [-(-descriptor.out_c // 16) for descriptor in program.descriptors]
    assert rows == [sum(blocks[:index]) for index in range(len(blocks))]
    assert len(program.constant_image) == sum(blocks) * 192
    unused = np.frombuffer(program.constant_image, np.uint8)[20 * 12 : 2 * 192]
    assert not unused.any(), "channels 20 to 31 of the first layer"


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
        assert_same_network(load_program(memories_of(program)).network, model.network)
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
        ({"weight_bytes": 6000}, r"layer 'layer4': weights up to this layer need \d+ .*has 6000"),
        ({"constant_bytes": 500}, r"layer 'layer1': constants up to this layer need 768.*has 500"),
        (
            {"program_bytes": 1024},
            r"layer 'layer\d+': program up to this layer need \d+ .*has 1024",
        ),
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


def test_more_groups_than_a_list_can_count_are_refused(models):
    roomy = with_buffers(weight_bytes=1 << 30, constant_bytes=1 << 30, program_bytes=1 << 30)
    b = models.Builder(1, input_shape=(1030, 1, 1), zero_share=0.0)
    b.conv(0, 16 * 1010, (1, 1), padding=(0, 0, 0, 0))

    with pytest.raises(CompileError, match=r"layer 'layer0': n_entries is 65650.*0\.\.65535"):
        compile_model(b.model(), roomy)


def test_a_chunk_too_far_from_its_window_is_refused(models):
    b = models.Builder(1, input_shape=(6000, 1, 10), zero_share=1.0)
    b.conv(0, 1, (1, 200), padding=(0, 100, 0, 100))
    b.layers[0].op.levels[0, 5999, 0, 199] = 1

    with pytest.raises(CompileError, match="layer 'layer0': a chunk begins 1199984 bytes from its"):
        compile_model(b.model(), OVERLAY)


def test_a_load_or_an_image_longer_than_a_transfer_is_refused(models):
    model, _ = models.everything()

    def with_transfer(most):
        return replace(OVERLAY, manifest=replace(OVERLAY.manifest, max_transfer_bytes=most))

    with pytest.raises(
        CompileError, match=r"weights up to this layer are one packet of .* bac-pot4 moves 4095"
    ):
        compile_model(model, with_transfer(4095))
    b = models.Builder(1, input_shape=(3, 40, 40))
    b.dense(0, 1)
    b.layers[0].op.levels[:] = 0
    with pytest.raises(CompileError, match="one has 4800 bytes; a DMA transfer of bac-pot4 moves"):
        compile_model(b.model(), with_transfer(4095))


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
        n_ops = len(load_program(replace(memories, **{name: bytes(spoiled)})).groups)
    except BadDescriptorError as error:
        n_ops = len(program.descriptors) if error.index < len(program.descriptors) else -1

    assert n_ops == len(program.descriptors)
