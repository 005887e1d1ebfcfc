"""What is packed is what is unpacked, for every scheme, shape and odd size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bacmac.host.arith.schemes import NOT_A_CODE, SCHEMES, Scheme
from bacmac.host.pack.bits import (
    BLOCK_CODES,
    pack_codes,
    pack_words,
    packed_size,
    unpack_codes,
    unpack_words,
    words_size,
)
from bacmac.host.pack.codes import pack_levels, unpack_levels

schemes = st.sampled_from(list(SCHEMES.values()))


def little_endian_stream(codes: list[int], bits: int, n_bytes: int) -> bytes:
    """The layout by its definition: code i at bits i*b of one long little-endian integer."""
    return sum(code << (i * bits) for i, code in enumerate(codes)).to_bytes(n_bytes, "little")


@st.composite
def scheme_and_levels(draw: st.DrawFn) -> tuple[Scheme, np.ndarray]:
    scheme = draw(schemes)
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    n = int(np.prod(shape))
    indices = draw(arrays(np.int64, n, elements=st.integers(0, len(scheme.levels) - 1)))
    return scheme, scheme.levels[indices].reshape(shape)


@given(scheme_and_levels())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_levels_survive_a_round_trip(case):
    scheme, levels = case
    flat = levels.reshape(-1)
    packed = pack_levels(flat, scheme)

    assert packed.size == packed_size(flat.size, scheme.bits)
    assert packed.dtype == np.uint8
    assert np.array_equal(unpack_levels(packed, flat.size, scheme).reshape(levels.shape), levels)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("n", [0, 1, BLOCK_CODES - 1, BLOCK_CODES, BLOCK_CODES + 1, 150_001])
def test_levels_survive_at_block_edges(scheme, n):
    levels = np.resize(scheme.levels, n)

    assert np.array_equal(unpack_levels(pack_levels(levels, scheme), n, scheme.name), levels)


@given(st.integers(1, 16), st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_codes_lie_in_a_little_endian_bit_stream(bits, data):
    dtype = np.uint8 if bits <= 8 else np.uint16
    codes = data.draw(arrays(dtype, st.integers(0, 70), elements=st.integers(0, 2**bits - 1)))
    fill = data.draw(st.integers(0, 2**bits - 1))
    packed = pack_codes(codes, bits, fill=fill)
    n_filled = packed.size * 8 // bits
    filled = codes.tolist() + [fill] * (n_filled - codes.size)

    assert packed.tobytes() == little_endian_stream(filled, bits, packed.size)
    assert unpack_codes(packed, codes.size, bits, fill=fill).tolist() == codes.tolist()


def test_bytes_of_the_page_on_the_format():
    assert pack_codes(np.array([1, 2, 3], np.uint8), 4).tobytes().hex() == "2103"
    assert pack_levels(np.array([1, -2, 64], np.int8), "pot-4").tobytes().hex() == "9076"
    assert pack_levels(np.array([1, -1, 0], np.int8), "uniform-4").tobytes().hex() == "f100"
    assert pack_levels(np.array([1, 0, -1], np.int8), "ternary").tobytes().hex() == "64"
    assert pack_levels(
        np.array([1, -1, 2, 4], np.int8), "pot-3"
    ).tobytes().hex() == "60b4 6d".replace(" ", "")
    assert pack_levels(np.array([-127, 5], np.int8), "uniform-8").tobytes().hex() == "8105"


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_every_level_outside_the_scheme_is_refused(scheme):
    for level in sorted(set(range(-128, 128)) - set(scheme.levels.tolist())):
        with pytest.raises(ValueError, match=rf"^level {level} is not in {scheme.name}$"):
            pack_levels(np.array([*[scheme.max_level] * 3, level], scheme.levels.dtype), scheme)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_every_illegal_code_is_refused(scheme):
    for code in np.flatnonzero(scheme.decode == NOT_A_CODE).tolist():
        codes = np.full(9, scheme.fill_code, np.uint8)
        codes[5] = code
        packed = pack_codes(codes, scheme.bits, fill=scheme.fill_code)
        with pytest.raises(ValueError, match=f"code {code} of weight 5 is illegal"):
            unpack_levels(packed, 9, scheme)


def test_every_packed_scheme_has_an_illegal_code_that_can_mark_a_bad_pair():
    assert all((s.decode == NOT_A_CODE).any() for s in SCHEMES.values() if s.bits == 4)


@pytest.mark.parametrize("name", ["pot-4", "uniform-3", "ternary"])
def test_wrong_filling_is_refused(name):
    scheme = SCHEMES[name]
    wrong = np.full(5, scheme.fill_code, np.uint8)
    packed = pack_codes(wrong, scheme.bits, fill=(scheme.fill_code + 1) % (1 << scheme.bits))

    with pytest.raises(ValueError, match="the filling is"):
        unpack_levels(packed, 5, scheme)


def test_wrong_sizes_and_types_are_refused():
    with pytest.raises(ValueError, match="3 bytes, not the 2 of 4 codes"):
        unpack_codes(np.zeros(3, np.uint8), 4, 4)
    with pytest.raises(ValueError, match="code 16 needs more than 4 bits"):
        pack_codes(np.array([0, 16], np.uint8), 4)
    with pytest.raises(ValueError, match="not uint8 of one dimension"):
        pack_codes(np.zeros(3, np.int64), 4)
    with pytest.raises(ValueError, match="not int8 of one dimension"):
        pack_levels(np.zeros((2, 2), np.int8), "pot-4")
    with pytest.raises(ValueError, match="codes of 17 bits"):
        packed_size(3, 17)


def test_a_strided_view_packs_as_its_copy_does():
    levels = np.resize(SCHEMES["pot-4"].levels, 2001)[::2]

    assert np.array_equal(pack_levels(levels, "pot-4"), pack_levels(levels.copy(), "pot-4"))


@given(st.integers(1, 32), st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_words_lie_in_the_same_stream_to_the_byte(bits, data):
    top = 2**bits - 1
    numbers = data.draw(arrays(np.uint32, st.integers(0, 150), elements=st.integers(0, top)))
    packed = pack_words(numbers, bits)

    assert packed.size == words_size(numbers.size, bits) == -(-numbers.size * bits // 8)
    assert packed.tobytes() == little_endian_stream(numbers.tolist(), bits, packed.size)
    assert unpack_words(packed, numbers.size, bits).tolist() == numbers.tolist()


@pytest.mark.parametrize("n", [BLOCK_CODES - 1, BLOCK_CODES, BLOCK_CODES + 1])
def test_words_survive_at_block_edges(n):
    numbers = np.arange(n, dtype=np.uint32) * 2654435761 % (1 << 13)

    assert np.array_equal(unpack_words(pack_words(numbers, 13), n, 13), numbers)


def test_words_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="8 needs more than 3 bits"):
        pack_words(np.array([7, 8], np.uint32), 3)
    with pytest.raises(ValueError, match="numbers of 33 bits"):
        pack_words(np.zeros(1, np.uint64), 33)
    with pytest.raises(ValueError, match="2 bytes, not the 1 of 2 numbers"):
        unpack_words(np.zeros(2, np.uint8), 2, 3)
    with pytest.raises(ValueError, match="the filling is not zero bits"):
        unpack_words(np.array([0x40], np.uint8), 2, 3)
