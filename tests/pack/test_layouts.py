"""Foreign layouts: bytes by their projects' own rules, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.pack.layer_shape import LayerShape, to_matrix
from bacmac.host.pack.layout_deepshift import ShiftWords, pack_deepshift, unpack_deepshift
from bacmac.host.pack.layout_finn import finn_type, pack_finn, unpack_finn
from bacmac.host.pack.layout_potacc import APOT, QKERAS, pack_potacc, unpack_potacc
from bacmac.host.pack.layout_words import from_coe, from_mem, to_coe, to_mem
from bacmac.host.pack.layouts import LAYOUTS, LayerFiles, LayerWeights

RUNS = settings(max_examples=100, deadline=None, derandomize=True)


def little_endian_stream(codes: list[int], bits: int, n_bytes: int) -> bytes:
    return sum(code << (i * bits) for i, code in enumerate(codes)).to_bytes(n_bytes, "little")


# ---- FINN ----------------------------------------------------------------------------------


@given(st.integers(1, 16), st.data())
@RUNS
def test_finn_rows_are_little_endian_twos_complement(bits, data):
    half = 1 << (bits - 1)
    dtype = np.int8 if bits <= 8 else np.int16
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 20)))
    numbers = data.draw(arrays(dtype, shape, elements=st.integers(-half, half - 1)))
    packed = pack_finn(numbers, bits)
    n_bytes = -(-shape[1] * bits // 8)

    assert packed.shape == (shape[0], n_bytes)
    for row, got in zip(numbers.tolist(), packed, strict=True):
        codes = [number % (1 << bits) for number in row]
        assert got.tobytes() == little_endian_stream(codes, bits, n_bytes)
    assert np.array_equal(unpack_finn(packed, shape[1], bits), numbers)


def test_finn_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="-9 does not fit 4 signed bits"):
        pack_finn(np.array([[1, -9]], np.int8), 4)
    with pytest.raises(ValueError, match="of two dimensions"):
        pack_finn(np.zeros(4, np.int8), 4)
    with pytest.raises(ValueError, match=r"rows of .* bytes, not 2"):
        unpack_finn(np.zeros((2, 3), np.uint8), 4, 4)
    with pytest.raises(ValueError, match="not filled with zero bits"):
        unpack_finn(np.full((1, 2), 0x11, np.uint8), 3, 4)


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        ("uniform-8", "INT8"),
        ("uniform-3", "INT3"),
        ("pot-4", "INT8"),
        ("pot-4e4", "INT6"),
        ("pot-5", "INT16"),
        ("apot-4", "INT5"),
        ("ternary", "INT2"),
        ("binary", "BIPOLAR"),
    ],
)
def test_the_narrowest_of_finns_types_is_taken(scheme, name):
    assert finn_type(SCHEMES[scheme]) == name


# ---- PoTAcc --------------------------------------------------------------------------------


def potacc_qkeras_code(level: int) -> int:
    """`roundToNearestPowerOf2` of a power of two: its exponent, and 8 where it is negative."""
    exponent = abs(level).bit_length() - 1
    return exponent if level > 0 else exponent + 8


def potacc_product(code: int) -> int:
    """What its APoT shift units multiply by: `mul_lut` and the sign of the accumulation."""
    first = 0 if code >> 1 & 3 == 1 else 1 << (code >> 1 & 3)
    second = 0 if code & 1 == 0 else 1 << (code & 1)
    return -(first + second) if code & 8 else first + second


def test_potacc_codes_are_those_that_its_hardware_multiplies_by():
    assert {level: potacc_product(code) for level, code in APOT.items()} == {
        level: level for level in SCHEMES["apot-4"].levels.tolist()
    }
    assert {level: potacc_qkeras_code(level) for level in QKERAS} == dict(QKERAS)
    # its encoder gives a zero the sign bit, as x > 0 is false
    assert APOT[0] == 0b1010


def test_potacc_buffers_by_hand():
    matrix = np.array([[1, -2, 4], [8, 8, -8], [-1, -1, -1], [64, 32, 16], [2, 4, 8]], np.int8)
    buffers = [part.tobytes().hex() for part in pack_potacc(matrix, QKERAS)]

    # channels 0 and 4 | 1 | 2 | 3; three codes, then the filling of 16
    assert buffers == [
        "9002" + "00" * 6 + "2103" + "00" * 6,
        "330b" + "00" * 6 + "0000" + "00" * 6,
        "8808" + "00" * 6 + "0000" + "00" * 6,
        "5604" + "00" * 6 + "0000" + "00" * 6,
    ]


def test_potacc_channels_that_are_not_there_are_apot_zeros():
    buffers = pack_potacc(np.array([[10, 0]], np.int8), APOT)

    assert buffers[0].tobytes().hex() == "a7" + "00" * 7
    assert buffers[3].tobytes().hex() == "aa" + "00" * 7


@given(st.sampled_from([QKERAS, APOT]), st.integers(1, 9), st.integers(1, 40), st.integers(0, 99))
@RUNS
def test_potacc_survives(encoding, rows, columns, seed):
    matrix = np.random.default_rng(seed).choice(sorted(encoding), (rows, columns)).astype(np.int16)
    buffers = pack_potacc(matrix, encoding)

    assert [part.size for part in buffers] == [-(-rows // 4) * -(-columns // 16) * 8] * 4
    assert np.array_equal(unpack_potacc(buffers, matrix.shape, encoding), matrix)


def test_potacc_counts_what_it_lacks():
    with pytest.raises(ValueError, match="2 weights are zero, and its code has no zero"):
        pack_potacc(np.array([[0, 1, 0]], np.int8), QKERAS)
    with pytest.raises(ValueError, match=r"3 weights have levels .* 5 among them"):
        pack_potacc(np.array([[0, 5, 7, 5]], np.int8), APOT)
    good = pack_potacc(np.array([[1, 2]], np.int8), QKERAS)
    with pytest.raises(ValueError, match="the filling is not PoTAcc's"):
        unpack_potacc((good[0] | 0x80, *good[1:]), (1, 2), QKERAS)
    with pytest.raises(ValueError, match="3 buffers"):
        unpack_potacc(good[:3], (1, 2), QKERAS)


# ---- DeepShift -----------------------------------------------------------------------------


def deepshift_words(shifts: list[int], signs: list[int], base: int, bits: int) -> list[int]:
    """One row, as its kernel compresses it weight by weight."""
    many = 32 // (bits + 1)
    words = []
    for start in range(0, len(shifts), many):
        value, place = 0, 0
        for shift, sign in zip(shifts[start : start + many], signs[start : start + many]):  # noqa: B905
            value |= (shift - base) << place
            place += bits
            value |= (1 if sign > 0 else 0) << place
            place += 1
        words.append(value)
    return words


@given(st.integers(1, 4), st.integers(1, 40), st.integers(-9, 0), st.booleans(), st.integers(0, 99))
@RUNS
def test_deepshift_words_are_what_its_kernel_makes(rows, columns, exponent, zeros, seed):
    rng = np.random.default_rng(seed)
    scheme = SCHEMES["pot-4"]
    levels = rng.choice(
        scheme.levels if zeros else scheme.levels[scheme.levels != 0], (rows, columns)
    )
    exponents = np.full(rows, exponent)
    packed = pack_deepshift(levels, exponents)
    shifts = [
        [32 if v == 0 else -(abs(v).bit_length() - 1) - exponent for v in row]
        for row in levels.tolist()
    ]
    signs = [[1 if v >= 0 else -1 for v in row] for row in levels.tolist()]
    base = min(0, min(map(min, shifts)))

    assert packed.base == base
    assert packed.bits == max(1, (max(map(max, shifts)) - base).bit_length())
    for row, words in enumerate(packed.words.view(np.uint32).tolist()):
        assert words == deepshift_words(shifts[row], signs[row], base, packed.bits)
    assert np.array_equal(unpack_deepshift(packed, levels.shape, exponents), levels)


def test_deepshift_by_hand():
    packed = pack_deepshift(np.array([[64, -32, 1]], np.int8), np.array([-6]))

    # shifts 0, 1 and 6 of three bits with their signs: 1000, 0001, 1110
    assert (packed.bits, packed.base) == (3, 0)
    assert packed.words.tolist() == [[0b1110_0001_1000]]


def test_deepshift_counts_what_it_lacks():
    with pytest.raises(ValueError, match="2 weights are no powers of two, 3 among them"):
        pack_deepshift(np.array([[1, 3, 6]], np.int8), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="stands for zero"):
        pack_deepshift(np.array([[1]], np.int8), np.array([-32]))
    with pytest.raises(ValueError, match="need 7 bits; its kernels read 6"):
        pack_deepshift(np.array([[1], [1]], np.int8), np.array([-30, 40]))
    good = pack_deepshift(np.array([[64, 1]], np.int8), np.array([-6]))
    with pytest.raises(ValueError, match="last word is not 0"):
        unpack_deepshift(
            ShiftWords(good.words | 1 << 20, good.bits, good.base), (1, 2), np.array([-6])
        )
    with pytest.raises(ValueError, match="a shift is no level's"):
        unpack_deepshift(good, (1, 2), np.array([6]))


# ---- words ---------------------------------------------------------------------------------


def test_memory_images_by_hand():
    data = np.arange(1, 7, dtype=np.uint8)

    assert to_mem(data, 32, "größe\n1") == (
        b"// gr\\xf6\\xdfe\\n1\n@00000000\n04030201\n00000605\n"
    )
    assert to_coe(data, 16, "x") == (
        b"; x\nmemory_initialization_radix=16;\nmemory_initialization_vector=\n"
        b"0201,\n0403,\n0605;\n"
    )


@given(arrays(np.uint8, st.integers(1, 200)), st.sampled_from([8, 16, 32, 128, 1024]))
@RUNS
def test_memory_images_survive(data, word_bits):
    for write, read in ((to_mem, from_mem), (to_coe, from_coe)):
        assert np.array_equal(read(write(data, word_bits, "c"), word_bits, data.size), data)


def test_damaged_memory_images_are_refused():
    mem = to_mem(np.arange(1, 7, dtype=np.uint8), 32, "c")
    coe = to_coe(np.arange(1, 7, dtype=np.uint8), 32, "c")
    for text, match in (
        (mem.replace(b"@00000000", b"@00000004"), "not an address"),
        (mem + b"zz\n", "not an address"),
        (mem + b"00000000\n", "3 words, not 2"),
        (mem.replace(b"00000605", b"01000605"), "not filled with zero bits"),
        (mem.replace(b"04030201", b"0403020"), "of 32 bits"),
    ):
        with pytest.raises(ValueError, match=match):
            from_mem(text, 32, 6)
    with pytest.raises(ValueError, match="not a radix of 16"):
        from_coe(coe.replace(b"radix=16", b"radix=2"), 32, 6)


# ---- all of them ---------------------------------------------------------------------------

HOLDS = {
    "finn": set(SCHEMES),
    "potacc": {"binary"},
    "potacc-apot": {"apot-4", "uniform-3", "pot-3", "ternary", "binary"},
    "deepshift": {"pot-5", "pot-4", "pot-4e4", "pot-3", "ternary", "binary"},
    "bin": set(SCHEMES),
    "mem": set(SCHEMES),
    "coe": set(SCHEMES),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("powers", [False, True])
def test_a_layout_holds_a_scheme_exactly_or_refuses_it(layout, scheme, powers):
    shape = LayerShape((7, 5, 3, 2))
    levels = np.resize(SCHEMES[scheme].levels, shape.weights)
    scale = 2.0 ** -np.arange(2, 9) if powers else np.linspace(0.01, 0.02, 7)
    layer = LayerWeights("layer", levels, SCHEMES[scheme], scale, shape, 32)

    if scheme not in HOLDS[layout]:
        with pytest.raises(ValueError, match=r"weights (are|have)"):
            LAYOUTS[layout].write(layer)
        return
    written = LAYOUTS[layout].write(layer)
    blank = LayerWeights("layer", np.zeros_like(levels), SCHEMES[scheme], scale, shape, 32)

    assert tuple(written.files) == LAYOUTS[layout].suffixes
    assert np.array_equal(LAYOUTS[layout].read(blank, written), levels)


def test_deepshift_weights_are_shifts_times_the_scale_that_is_told():
    shape = LayerShape((2, 3, 1, 1))
    levels = np.array([[4, -1, 0], [2, 2, -4]], np.int8).reshape(shape.weights)
    for scale in (np.array([0.25, 2.0**-7]), np.array([0.3, 0.011])):
        layer = LayerWeights("layer", levels, SCHEMES["pot-3"], scale, shape, 32)
        written = LAYOUTS["deepshift"].write(layer)
        words = np.frombuffer(written.files[".bin"], "<u4").reshape(2, -1)
        bits, base = written.numbers["bits"], written.numbers["base"]
        many = 32 // (bits + 1)
        weights = np.zeros((2, 3))
        for row in range(2):
            for column in range(3):
                field = int(words[row, column // many]) >> (column % many) * (bits + 1)
                shift = (field & (1 << bits) - 1) + base
                sign = 1 if field >> bits & 1 else -1
                weights[row, column] = 0 if shift == 32 else sign * 2.0**-shift

        wanted = to_matrix(levels) * scale[:, None]
        assert np.allclose(weights * written.scale[:, None], wanted, rtol=1e-12)
        if scale[0] == 0.25:
            assert (written.scale == 1).all()


def test_files_of_another_size_are_refused():
    shape = LayerShape((7, 5, 3, 2))
    levels = np.resize(SCHEMES["ternary"].levels, shape.weights)
    layer = LayerWeights("layer", levels, SCHEMES["ternary"], np.ones(7), shape, 32)
    for name, layout in LAYOUTS.items():
        if name == "potacc":
            continue
        written = layout.write(layer)
        first = layout.suffixes[0]
        cut = LayerFiles(
            {**written.files, first: written.files[first][:-5]}, written.scale, written.numbers
        )
        with pytest.raises(ValueError, match=r"bytes|words|not a"):
            layout.read(layer, cut)
