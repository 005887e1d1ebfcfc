"""Weights as the array takes them: every level, every sign, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bacmac.host.arith.array_codes import (
    MAGNITUDES,
    absolute_signs,
    decode_groups,
    encode_groups,
    group_bytes,
    magnitude_bits,
    own_signs,
    relative_signs,
)
from bacmac.host.arith.schemes import SCHEMES

SIDES = st.sampled_from([(8, 8), (8, 16), (16, 16), (16, 64)])


@st.composite
def coded_groups(draw):
    scheme = draw(st.sampled_from(sorted(MAGNITUDES)))
    levels = SCHEMES[scheme].levels.tolist()
    shape = draw(st.integers(0, 3)), *draw(SIDES)
    elements = st.sampled_from([0, 0, 0, *levels])
    return scheme, draw(arrays(np.int8, shape, elements=elements))


@given(coded_groups())
def test_groups_survive_their_bytes(coded):
    scheme, groups = coded
    outputs, inputs = groups.shape[1:]

    data = encode_groups(groups, scheme)

    assert len(data) == len(groups) * group_bytes(outputs, inputs, scheme)
    assert np.array_equal(decode_groups(data, outputs, inputs, scheme), groups)


@given(coded_groups())
def test_a_lane_is_its_magnitudes_and_then_its_signs(coded):
    scheme, groups = coded
    inputs = groups.shape[2]
    width = magnitude_bits(scheme)

    stream = int.from_bytes(encode_groups(groups, scheme), "little")

    for lane, levels in enumerate(groups.reshape(-1, inputs)):
        own = stream >> lane * inputs * (width + 1)
        for i, level in enumerate(levels.tolist()):
            code = own >> i * width & (1 << width) - 1
            assert MAGNITUDES[scheme][code] == abs(level)
            assert (code == 0) == (level == 0)


@given(arrays(np.uint8, (5, 16), elements=st.integers(0, 1)))
def test_sixteen_signs_are_in_the_order_of_the_page(signs):
    for own, relative in zip(signs.tolist(), relative_signs(signs).tolist(), strict=True):
        expected = [own[i] ^ own[i + 1] for i in range(0, 16, 2)]
        expected += [own[i] ^ own[i + 2] for i in range(0, 16, 4)]
        expected += [own[i] ^ own[i + 4] for i in range(0, 16, 8)]
        expected += [own[0] ^ own[8], own[0]]
        assert relative == expected


@given(st.integers(0, 6).flatmap(lambda n: arrays(np.uint8, (3, 2**n), elements=st.integers(0, 1))))
def test_signs_survive_being_relative(signs):
    assert np.array_equal(absolute_signs(relative_signs(signs)), signs)


@pytest.mark.parametrize(
    ("levels", "signs"),
    [
        ([0, 0, -3, 0, 2, 0, 0, -1], [1, 1, 1, 1, 0, 0, 0, 1]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([5, 0, -1, 0], [0, 0, 1, 1]),
    ],
)
def test_a_zero_takes_the_sign_of_its_neighbour(levels, signs):
    assert own_signs(np.array(levels, np.int8)).tolist() == signs


@pytest.mark.parametrize("scheme", MAGNITUDES)
def test_every_level_of_a_scheme_has_a_code_and_code_0_is_level_0(scheme):
    levels = SCHEMES[scheme].levels.astype(np.int16)

    assert {abs(level) for level in levels.tolist()} <= set(MAGNITUDES[scheme])
    assert MAGNITUDES[scheme][0] == 0
    assert len(MAGNITUDES[scheme]) == 1 << magnitude_bits(scheme)


def test_a_level_without_a_code_is_named():
    groups = np.zeros((1, 8, 8), np.int8)
    groups[0, 2, 3] = -3

    with pytest.raises(ValueError, match="level -3 has no code in an array of pot-4"):
        encode_groups(groups, "pot-4")


def test_part_of_a_group_is_refused():
    with pytest.raises(ValueError, match="33 bytes are no whole number of 32-byte groups"):
        decode_groups(bytes(33), 8, 8, "pot-4")
