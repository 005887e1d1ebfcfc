"""Level sets and codes, and networks of levels that int8 does not hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.arith.bounds import (
    FLOAT32_EXACT,
    accumulator_bounds,
    largest_magnitude,
    prove_no_overflow,
)
from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import ConvOp, IntegerNetwork, Requantize
from bacmac.host.arith.reference import run_reference
from bacmac.host.arith.schemes import NOT_A_CODE, SCHEMES, Scheme
from bacmac.host.errors import CompileError

every_scheme = pytest.mark.parametrize(
    "scheme", SCHEMES.values(), ids=[scheme.name for scheme in SCHEMES.values()]
)


@every_scheme
def test_codes_and_levels_are_one_to_one(scheme: Scheme) -> None:
    legal = np.flatnonzero(scheme.decode != NOT_A_CODE)

    assert len(scheme.decode) == 1 << scheme.bits
    assert sorted(scheme.decode[legal].tolist()) == scheme.levels.tolist()
    half = len(scheme.encode) // 2
    assert scheme.encode[scheme.levels.astype(int) + half].tolist() == [
        int(np.flatnonzero(scheme.decode == level)[0]) for level in scheme.levels
    ]


@every_scheme
def test_levels_are_symmetric_and_in_the_dtype_that_holds_them(scheme: Scheme) -> None:
    levels = scheme.levels

    assert (levels == -levels[::-1]).all()
    assert levels.dtype == (np.int8 if scheme.max_level < 128 else np.int16)
    assert scheme.decode[scheme.fill_code] in levels


@pytest.mark.parametrize(
    ("name", "magnitudes"),
    [
        ("apot-4", [0, 1, 2, 3, 4, 6, 8, 10]),
        ("pot-5", [0, *(1 << k for k in range(15))]),
        ("pot-4", [0, 1, 2, 4, 8, 16, 32, 64]),
        ("binary", [1]),
        ("ternary", [0, 1]),
    ],
)
def test_the_magnitudes_are_those_of_the_definition(name: str, magnitudes: list[int]) -> None:
    assert sorted(set(np.abs(SCHEMES[name].levels).tolist())) == magnitudes


def test_a_code_of_apot_4_is_a_sign_and_two_shifts() -> None:
    scheme = SCHEMES["apot-4"]

    for code in range(8):
        magnitude = (0, 1, 4, 8)[code & 3] + 2 * (code >> 2)
        assert scheme.decode[code] == magnitude
        assert scheme.decode[8 | code] == (-magnitude if code else NOT_A_CODE)


def test_binary_has_no_zero_and_says_so() -> None:
    scheme = SCHEMES["binary"]

    assert not scheme.has_zero
    assert scheme.fill_code == 0
    with pytest.raises(ValueError, match="binary has no code for zero"):
        _ = scheme.zero_code


@given(name=st.sampled_from(sorted(SCHEMES)), levels=st.lists(st.integers(-40_000, 40_000)))
def test_holds_tells_levels_from_others(name: str, levels: list[int]) -> None:
    scheme = SCHEMES[name]

    found = scheme.holds(np.array(levels, np.int64))

    assert found.tolist() == [level in scheme.levels.tolist() for level in levels]


def wide_network(seed: int, inputs: int) -> tuple[IntegerNetwork, np.ndarray]:
    """A convolution, a depthwise one and a dense layer of pot-5 levels, with 9 images."""
    random = np.random.default_rng(seed)
    levels = SCHEMES["pot-5"].levels

    def conv(number: int, shape: tuple[int, ...], groups: int, *, last: bool = False) -> ConvOp:
        how = Requantize(
            np.full(shape[0], 20_001, np.uint16), np.full(shape[0], 30, np.uint8), 0, 255
        )
        return ConvOp(
            number,
            random.choice(levels, shape),
            random.integers(-(1 << 20), 1 << 20, shape[0]).astype(np.int32),
            None if last else how,
            padding=(0, 0, 0, 0) if last else (1, 1, 1, 1),
            groups=groups,
        )

    ops = (
        conv(0, (8, inputs, 3, 3), 1),
        conv(1, (8, 1, 3, 3), 8),
        conv(2, (5, 8, 6, 6), 1, last=True),
    )
    images = random.integers(0, 256, (9, inputs, 6, 6), dtype=np.uint8)
    return IntegerNetwork((inputs, 6, 6), 0, 255, ops), images


@pytest.mark.parametrize("seed", range(4))
def test_the_engine_is_exact_for_levels_beyond_int8(seed: int) -> None:
    network, images = wide_network(seed, 3)

    outputs = Engine(network).run(images)

    bounds = [accumulator_bounds(op, 0, 255) for op in network.ops]
    assert max(map(largest_magnitude, bounds)) > FLOAT32_EXACT  # float32 alone would not do
    assert len(np.unique(outputs)) > 40
    assert (outputs == run_reference(network, images)).all()


def test_an_accumulator_of_wide_levels_that_could_overflow_is_refused() -> None:
    network, _ = wide_network(0, 3)
    full = np.full((8, 100, 3, 3), 1 << 14, np.int16)
    how = network.ops[0].requantize
    op = ConvOp(0, full, np.zeros(8, np.int32), how, padding=(1, 1, 1, 1))

    with pytest.raises(CompileError, match="op 0: channel 0: the accumulator may reach 3760128000"):
        prove_no_overflow(IntegerNetwork((100, 6, 6), 0, 255, (op,)))
