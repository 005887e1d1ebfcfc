"""Every storage format: what is packed is unpacked, sizes are closed forms, one form only."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.groups import cut_groups, gather_groups
from bacmac.host.arith.network import PoolOp
from bacmac.host.arith.schemes import SCHEMES, Scheme
from bacmac.host.errors import InputError
from bacmac.host.manifest.overlay import Geometry
from bacmac.host.model.layers import Normalization
from bacmac.host.model.quantized import ActivationFormat, QuantizedModel
from bacmac.host.pack.file import packed_bytes
from bacmac.host.pack.formats import FORMATS, choose_formats, layer_formats, packer
from bacmac.host.pack.layer_shape import LayerShape, to_matrix
from bacmac.host.pack.sparse import Bitmap, Coordinates, SomeOfMany, most_of
from bacmac.host.pack.stream import ARRAYS, Stream

POT4 = SCHEMES["pot-4"]
GROUP = (16, 16)


def levels_of(scheme: Scheme, shape: tuple[int, ...], zeros: float, seed: int) -> np.ndarray:
    """Random levels, of which about this share is zero where the scheme has one."""
    rng = np.random.default_rng(seed)
    levels = rng.choice(scheme.levels, shape)
    if scheme.has_zero:
        levels[rng.random(shape) < zeros] = 0
    return levels


@st.composite
def layers(draw: st.DrawFn) -> tuple[Scheme, LayerShape, np.ndarray]:
    scheme = SCHEMES[draw(st.sampled_from(sorted(SCHEMES)))]
    c_out, c_in = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    kh, kw = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    groups = draw(st.sampled_from([1, 1, 1, c_out]))
    dense = groups == 1 and draw(st.booleans())
    shape = LayerShape((c_out, c_in, kh, kw), groups, dense)
    zeros = draw(st.sampled_from([0.0, 0.3, 0.6, 0.9, 1.0]))
    return scheme, shape, levels_of(scheme, shape.weights, zeros, draw(st.integers(0, 999)))


@given(layers())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_every_format_gives_back_what_it_took_in_as_many_bytes_as_it_said(layer):
    scheme, shape, levels = layer
    n_bytes, refused = layer_formats(levels, scheme, shape, GROUP, "nm-3:4")

    assert "dense" in n_bytes
    assert set(n_bytes).isdisjoint(refused)
    for name, size in n_bytes.items():
        packed = packer(name).pack(levels, scheme, shape)
        again = packer(name).unpack(packed, scheme, shape)

        assert packer(name).name == name
        assert (packed.dtype, packed.ndim, packed.size) == (np.uint8, 1, size)
        assert again.dtype == scheme.levels.dtype
        assert np.array_equal(again, levels)


def dense_bytes(n: int, bits: int) -> int:
    """The closed form of docs/packed-file.md."""
    group = 8 // math.gcd(8, bits)
    return -(-n // group) * group * bits // 8


@given(layers())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_sizes_are_the_closed_forms_of_the_page(layer):
    scheme, shape, levels = layer
    bits, n_elements = scheme.bits, int((levels != 0).sum())
    c_out, c_in, kh, kw = shape.weights
    columns = c_in * kh * kw
    tiles = -(-c_out // 4) * -(-columns // 4)
    index_bits = -(-tiles // 16) * n_elements.bit_length()
    places = n_elements * (c_out - 1).bit_length(), n_elements * (columns - 1).bit_length()
    elements = dense_bytes(n_elements, bits)

    assert packer("dense").size(levels, scheme, shape) == dense_bytes(levels.size, bits)
    if scheme.has_zero:
        assert Bitmap().size(levels, scheme, shape) == 2 * tiles + -(-index_bits // 8) + elements
        assert Coordinates().size(levels, scheme, shape) == (
            4 + -(-places[0] // 8) + -(-places[1] // 8) + elements
        )
        slots = c_out * -(-columns // 8) * 5
        assert SomeOfMany(5, 8).size(levels, scheme, shape) == (
            dense_bytes(slots, bits) + -(-slots * 3 // 8)
        )


def test_bitmap_bytes_by_hand():
    levels = np.zeros((5, 4, 1, 1), np.int8)
    levels[0, 0], levels[0, 3], levels[3, 1], levels[4, 2] = 1, -2, 64, 4
    packed = Bitmap().pack(levels, POT4, LayerShape((5, 4, 1, 1)))

    # tile 0: bits 0, 3 and 13; tile 1 (one row of four): bit 2; index 0 in 3 bits; four codes
    assert packed.tobytes().hex() == "0920" + "0400" + "00" + "9026"


def test_coordinates_by_hand():
    levels = np.zeros((3, 5, 1, 1), np.int8)
    levels[0, 4], levels[2, 1] = 1, -2
    packed = Coordinates().pack(levels, POT4, LayerShape((3, 5, 1, 1)))

    # two elements; rows 0 and 2 in two bits each, columns 4 and 1 in three, codes 0 and 9
    assert packed.tobytes().hex() == "02000000" + "08" + "0c" + "90"


def test_two_of_four_by_hand():
    levels = np.array([0, 4, 0, -1, 8, 0, 0, 0, 2], np.int8).reshape(1, 9, 1, 1)
    packed = SomeOfMany(2, 4).pack(levels, POT4, LayerShape((1, 9, 1, 1)))

    # codes 2 8 | 3 7 | 1 7, positions 1 3 | 0 0 | 0 0 of two bits
    assert packed.tobytes().hex() == "827371" + "0d00"


def test_columns_count_row_column_channel_of_the_window():
    levels = np.arange(2 * 3 * 2 * 2, dtype=np.int8).reshape(2, 3, 2, 2)
    matrix = to_matrix(levels)

    assert matrix[1].tolist() == [
        levels[1, c, y, x] for y in range(2) for x in range(2) for c in range(3)
    ]


def test_any_tile_is_found_by_its_index_and_the_bit_counts_before_it():
    shape = LayerShape((24, 10, 3, 3))
    levels = levels_of(POT4, shape.weights, 0.6, 1)
    packed = Bitmap().pack(levels, POT4, shape)
    rows, columns = shape.matrix
    across = -(-columns // 4)
    n_tiles = rows // 4 * across
    n_elements = int((levels != 0).sum())
    stream = int.from_bytes(packed.tobytes(), "little")
    bits = n_elements.bit_length()
    codes_at = 16 * n_tiles + -(-bits * -(-n_tiles // 16) // 8) * 8
    matrix = to_matrix(levels)

    for tile in (0, 1, 15, 16, 17, n_tiles - 1):
        maps = [stream >> 16 * i & 0xFFFF for i in range(tile // 16 * 16, tile + 1)]
        at = stream >> 16 * n_tiles + bits * (tile // 16) & (1 << bits) - 1
        at += sum(bin(bitmap).count("1") for bitmap in maps[:-1])
        top, left = tile // across * 4, tile % across * 4
        for place in range(16):
            row, column = top + place // 4, left + place % 4
            if maps[-1] >> place & 1:
                code = stream >> codes_at + 4 * at & 15
                assert POT4.decode[code] == matrix[row, column]
                at += 1
            elif column < columns:
                assert matrix[row, column] == 0


def test_the_stream_is_what_the_compiler_gives_the_array(builder):
    from bacmac.host.arith.array_codes import encode_groups
    from bacmac.host.compile.weights import layer_groups

    levels = levels_of(POT4, (40, 8, 3, 3), 0.5, 3)
    levels[:16] = 0
    levels[16:32, :, 1] = 0
    layer = builder.conv("c", 0, (40, 8, 3, 3), padding=(1, 1, 1, 1))
    layer.op.levels[:] = levels
    shape = LayerShape.of(layer.op, (8, 9, 9))
    groups = layer_groups(layer.op, (8, 9, 9), Geometry(16, 16, 1, 16, 16))
    packed = Stream(16, 16).pack(levels, POT4, shape).tobytes()

    assert int.from_bytes(packed[:4], "little") == len(groups.entries)
    assert packed[4:] == groups.entries.astype("<u4").tobytes() + encode_groups(
        groups.levels, "pot-4"
    )
    cut = cut_groups(levels.shape, 1, dense=False, outputs=16, inputs=16)
    assert len(groups.levels) == int(gather_groups(levels, cut).any((1, 2)).sum()) < len(cut.rows)


@pytest.mark.parametrize("scheme", ARRAYS)
def test_the_array_of_a_scheme_has_all_its_levels(scheme):
    assert SCHEMES[ARRAYS[scheme]].holds(SCHEMES[scheme].levels).all()


@pytest.mark.parametrize(
    ("shape", "zeros", "expected"),
    [
        ((16, 16, 3, 3), 0.0, "dense"),
        ((16, 16, 3, 3), 0.7, "bitmap"),
        ((64, 64, 3, 3), 0.985, "coo"),
    ],
)
def test_auto_takes_the_smallest_and_says_how_far_the_next_is(builder, shape, zeros, expected):
    layer = builder.conv("only", 0, shape)
    layer.op.levels[:] = levels_of(POT4, shape, zeros, 1)
    if not zeros:
        layer.op.levels[layer.op.levels == 0] = 1
    model = QuantizedModel(
        "m", (shape[1], 3, 3), ActivationFormat(1.0), Normalization(), (layer,), np.ones(shape[0])
    )
    choice = choose_formats(model)["only"]

    assert choice.name == expected
    assert choice.n_bytes[expected] == min(choice.n_bytes.values())
    assert choice.why.startswith(f"{expected}, {choice.n_bytes[expected]:,} bytes with ")
    assert " less than " in choice.why


def test_a_layer_with_a_pattern_takes_it(builder):
    shape = (16, 16, 3, 3)
    layer = builder.conv("only", 0, shape)
    levels = np.full((16, 3, 3, 16), 8, np.int8)
    levels.reshape(-1, 16)[:, 1:] = 0
    layer.op.levels[:] = levels.transpose(0, 3, 1, 2)
    model = QuantizedModel(
        "m", (16, 3, 3), ActivationFormat(1.0), Normalization(), (layer,), np.ones(16)
    )

    assert choose_formats(model)["only"].name == "nm-1:16"
    assert choose_formats(model, "nm-1:4")["only"].name == "nm-1:4"
    assert most_of(layer.op.levels, 16) == 1


@pytest.mark.parametrize("wanted", ["bitmap", "coo", "nm", "nm-2:4"])
def test_a_binary_layer_has_no_zero_to_leave_out(builder, wanted):
    layer = builder.conv("signs", 0, (4, 4, 3, 3), scheme="binary")
    model = QuantizedModel(
        "m", (4, 3, 3), ActivationFormat(1.0), Normalization(), (layer,), np.ones(4)
    )

    with pytest.raises(InputError, match=r"layer 'signs'.*binary has no zero to leave out"):
        choose_formats(model, wanted)
    with pytest.raises(ValueError, match="no zero"):
        packed_bytes(model, {"signs": wanted if wanted != "nm" else "nm-1:4"})
    assert choose_formats(model)["signs"].name == "dense"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("zip", "no format 'zip'"),
        ("nm-4:4", "no format 'nm-4:4'"),
        ("nm-2:5", "no format 'nm-2:5'"),
        ("stream-7x16", "no format 'stream-7x16'"),
        ("stream", "stream without an overlay"),
        ("nm-1:4", r"a group of 4 has [234] weights that are not zero, more than 1"),
    ],
)
def test_what_cannot_be_is_told(tiny_model, wanted, found):
    with pytest.raises(InputError, match=found):
        choose_formats(tiny_model, wanted)


def test_every_name_is_known(tiny_model):
    for name in FORMATS:
        chosen = choose_formats(tiny_model, name, GROUP) if name != "nm" else {}
        for layer, choice in chosen.items():
            assert name in ("auto", choice.name, choice.name.partition("-")[0])
            assert not isinstance(next(x for x in tiny_model.layers if x.name == layer).op, PoolOp)


def test_few_bytes_do_not_stand_for_endless_weights():
    shape = LayerShape((4096, 4096, 7, 7))
    empty = np.zeros(4, np.uint8)

    with pytest.raises(ValueError, match="4096 a byte is the most"):
        Coordinates().unpack(empty, POT4, shape)
    with pytest.raises(ValueError, match=r"less than .* bitmaps"):
        Bitmap().unpack(empty, POT4, shape)
    with pytest.raises(ValueError, match="4 bytes, not the"):
        SomeOfMany(1, 16).unpack(empty, POT4, shape)
    with pytest.raises(ValueError, match="slots, more than"):
        Stream(16, 16).unpack(empty, POT4, shape)


DAMAGE_SHAPE = LayerShape((6, 7, 3, 3))


def changed(data: np.ndarray, at: int, to: int) -> np.ndarray:
    data = data.copy()
    data[at] = to
    return data


def damaged(name: str, at: int, to: int, match: str) -> None:
    levels = levels_of(POT4, DAMAGE_SHAPE.weights, 0.7, 2)
    packed = packer(name).pack(levels, POT4, DAMAGE_SHAPE)
    with pytest.raises(ValueError, match=match):
        packer(name).unpack(changed(packed, at, to), POT4, DAMAGE_SHAPE)


def test_damage_to_a_bitmap_is_told():
    levels = levels_of(POT4, DAMAGE_SHAPE.weights, 0.7, 2)
    packed = Bitmap().pack(levels, POT4, DAMAGE_SHAPE)
    n_tiles = 2 * 16

    damaged("bitmap", 0, packed[0] ^ 1, "bytes, not the|bits")
    damaged("bitmap", 2 * n_tiles, packed[2 * n_tiles] ^ 0x80, "index 1 is")
    damaged("bitmap", -1, (packed[-1] & 0xF0) | 7, "is zero, and zeros are left out|the filling")
    swapped = packed.copy()
    swapped[-2] = 0xF7 if swapped[-2] != 0xF7 else 0x7F
    with pytest.raises(ValueError, match=r"illegal|left out"):
        Bitmap().unpack(swapped, POT4, DAMAGE_SHAPE)
    # a bit of the last tile column moves beyond the matrix: 63 columns are 16 tiles less one
    bitmap = packed[30:32].view("<u2")[0]
    inside = next(bit for bit in range(16) if bitmap >> bit & 1)
    beyond = int(bitmap) & ~(1 << inside) | 1 << 3 + 4 * (inside // 4)
    moved = packed.copy()
    moved[30:32] = np.frombuffer(beyond.to_bytes(2, "little"), np.uint8)
    with pytest.raises(ValueError, match="beyond the 6 x 63 weights"):
        Bitmap().unpack(moved, POT4, DAMAGE_SHAPE)


def test_damage_to_coordinates_is_told():
    levels = np.zeros((6, 7, 1, 1), np.int8)
    levels[1, 2], levels[4, 5] = 1, 2
    shape = LayerShape(levels.shape)
    good = Coordinates().pack(levels, POT4, shape)
    cases = [
        (4, 0b111001, "coordinate 7 of 6"),
        (5, 0b111010, "coordinate 7 of 7"),
        (4, 0b001100, "element 1 does not follow"),
        (0, 43, "43 elements of 42 weights"),
        (0, 3, "bytes, not the"),
        (6, 0x17, "element 0 is zero"),
        (4, 0b11_001_001, "filling is not zero bits"),
    ]

    assert good.tobytes().hex() == "02000000" + "21" + "2a" + "10"
    for at, to, match in cases:
        with pytest.raises(ValueError, match=match):
            Coordinates().unpack(changed(good, at, to), POT4, shape)
    twice = changed(changed(good, 4, 0b001001), 5, 0b010010)
    with pytest.raises(ValueError, match="element 1 does not follow"):
        Coordinates().unpack(twice, POT4, shape)


def test_damage_to_a_pattern_is_told():
    levels = np.array([0, 4, 0, -1, 8, 0, 0, 0, 2], np.int8).reshape(1, 9, 1, 1)
    shape, pattern = LayerShape((1, 9, 1, 1)), SomeOfMany(2, 4)
    good = pattern.pack(levels, POT4, shape)
    cases = [
        (3, 0x07, "group 0 is not in its one form"),  # positions out of order
        (3, 0x05, "group 0 is not in its one form"),  # the same one twice
        (1, 0x37, "group 1 is not in its one form"),  # a zero before an element
        (3, 0x4D, "group 1 is not in its one form"),  # a zero with a position
        (4, 0x01, "beyond the 9 columns"),
        (4, 0x10, "filling"),
        (0, 0xF2, "illegal"),
    ]

    for at, to, match in cases:
        with pytest.raises(ValueError, match=match):
            pattern.unpack(changed(good, at, to), POT4, shape)


def test_damage_to_a_stream_is_told():
    levels = levels_of(SCHEMES["pot-4e4"], (20, 8, 3, 3), 0.5, 2)
    shape, stream, scheme = LayerShape((20, 8, 3, 3)), Stream(16, 16), SCHEMES["pot-4e4"]
    good = stream.pack(levels, scheme, shape)
    cases = [
        (0, good[0] + 1, "not a list"),
        (4, 16, "in its one form|other chunks"),
        (7, 0x10, "one form|other chunks"),
        (-1, 0xFF, "one form"),
        (-8, 0x01, "where the layer has none"),
    ]

    for at, to, match in cases:
        with pytest.raises(ValueError, match=match):
            stream.unpack(changed(good, at, to), scheme, shape)
    with pytest.raises(ValueError, match=r"groups for a list|not a list"):
        stream.unpack(good[:-128], scheme, shape)


@given(layers(), st.data())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_whatever_a_reader_takes_is_what_the_writer_makes(layer, data):
    scheme, shape, levels = layer
    n_bytes, _ = layer_formats(levels, scheme, shape, GROUP)
    packing = packer(data.draw(st.sampled_from(sorted(n_bytes))))
    packed = packing.pack(levels, scheme, shape).copy()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, packed.size - 1))
        packed[at] = data.draw(st.integers(0, 255))
    try:
        found = packing.unpack(packed, scheme, shape)
    except ValueError:
        return

    assert np.array_equal(packing.pack(found, scheme, shape), packed)
