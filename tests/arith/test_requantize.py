"""Certificates against brute force over every accumulator that can occur."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.network import Requantize
from bacmac.host.arith.reference import requantize
from bacmac.host.arith.requantize import fit_requantize, float32_exact, residual_shift

CLAMPS = [(0, 255), (-128, 127), (0, 15), (-8, 7), (0, 1)]


def one_channel(multiplier: int, shift: int, low: int, high: int, residual=None) -> Requantize:
    return Requantize(
        np.array([multiplier], np.uint16),
        np.array([shift], np.uint8),
        low,
        high,
        None if residual is None else np.array([residual], np.int32),
    )


def defined(acc: np.ndarray, how: Requantize, residual=None) -> np.ndarray:
    added = None if residual is None else residual.astype(np.int64).reshape(-1, 1, 1, 1)
    return requantize(acc.astype(np.int64).reshape(-1, 1, 1, 1), how, added).ravel()


def float32_path(acc: np.ndarray, how: Requantize, residual=None) -> np.ndarray:
    unit = 2.0 ** -float(how.shift[0])
    total = acc.astype(np.float32) * np.float32(how.multiplier[0] * unit)
    if residual is None:
        return np.clip(np.rint(total), how.low, how.high)
    assert how.residual_multiplier is not None
    total = total + residual.astype(np.float32) * np.float32(how.residual_multiplier[0] * unit)
    return np.clip(np.floor(total + np.float32(0.5)), how.low, how.high)


@settings(max_examples=150, deadline=None)
@given(
    multiplier=st.integers(0, (1 << 15) - 1),
    shift=st.integers(0, 40),
    clamp=st.sampled_from(CLAMPS),
    low=st.integers(-60000, 0),
    high=st.integers(0, 60000),
)
def test_the_certificate_says_exactly_whether_float32_is_right(multiplier, shift, clamp, low, high):
    how = one_channel(multiplier, shift, *clamp)
    acc = np.arange(low, high + 1)

    equal = np.array_equal(float32_path(acc, how), defined(acc, how))

    assert float32_exact(how, np.array([low]), np.array([high]))[0] == equal


@settings(max_examples=60, deadline=None)
@given(
    multiplier=st.integers(1 << 14, (1 << 15) - 1),
    shift=st.integers(20, 30),
    clamp=st.sampled_from(CLAMPS),
)
def test_the_certificate_holds_over_large_accumulators(multiplier, shift, clamp):
    how = one_channel(multiplier, shift, *clamp)
    # every accumulator beside a step, where alone the two can differ, and the ends
    level = np.arange(clamp[0] - 1, clamp[1] + 2)
    step = ((level << shift) - (1 << (shift - 1))) // multiplier
    acc = np.unique((step[:, None] + np.arange(-3, 4)).ravel())
    acc = acc[np.abs(acc) <= 1 << 24]

    equal = np.array_equal(float32_path(acc, how), defined(acc, how))

    assert float32_exact(how, np.array([-(1 << 24)]), np.array([1 << 24]))[0] == equal


@settings(max_examples=150, deadline=None)
@given(
    multiplier=st.integers(0, (1 << 15) - 1),
    shift=st.integers(0, 18),
    residual=st.integers(-(1 << 16), 1 << 16),
    clamp=st.sampled_from(CLAMPS),
    seed=st.integers(0, 1000),
)
def test_a_certified_residual_is_right_everywhere(multiplier, shift, residual, clamp, seed):
    how = one_channel(multiplier, shift, *clamp, residual=residual)
    reach = 1 << 24
    if not float32_exact(how, np.array([-reach]), np.array([reach]), (-128, 255))[0]:
        return
    rng = np.random.default_rng(seed)
    r = rng.integers(-128, 256, 4000)
    # near the steps, where rounding decides, and anywhere, where float32 is not exact itself
    target = rng.integers(clamp[0] - 2, clamp[1] + 3, 4000) << shift
    near = (target - (1 << shift >> 1) - r * residual) // max(multiplier, 1)
    near = np.clip(near + rng.integers(-2, 3, 4000), -reach, reach)
    anywhere = rng.integers(-reach, reach + 1, 4000)

    for acc in (near, anywhere):
        np.testing.assert_array_equal(float32_path(acc, how, r), defined(acc, how, r))


def test_accumulators_beyond_24_bits_are_never_certified():
    for residual in (None, 100):
        how = one_channel(5, 10, 0, 255, residual=residual)

        assert not float32_exact(how, np.array([0]), np.array([(1 << 24) + 1]), (0, 255))[0]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), clamp=st.sampled_from(CLAMPS))
def test_fitted_multipliers_are_close_and_certified(seed, clamp):
    rng = np.random.default_rng(seed)
    ratio = 2.0 ** rng.uniform(-10.5, 2, 64)
    reach = rng.integers(1000, 1 << 24, 64)

    how = fit_requantize(ratio, low=clamp[0], high=clamp[1], acc_low=-reach, acc_high=reach)

    assert float32_exact(how, -reach, reach).all()
    fitted = how.multiplier * 2.0 ** -how.shift.astype(float)
    assert np.abs(fitted / ratio - 1).max() < 0.0021
    assert (how.multiplier >= 1 << 14).all()


def test_dead_tiny_and_huge_ratios():
    ratio = np.array([0.0, 1e-30, 2.0**-27, 1.0, 32767.6, 1e9])
    reach = np.full(6, 1000)

    how = fit_requantize(ratio, low=0, high=255, acc_low=-reach, acc_high=reach)

    assert how.multiplier.tolist() == [0, 0, 8192, 16384, 32767, 32767]
    assert how.shift.tolist() == [40, 40, 40, 14, 0, 0]
    acc = np.array([[-1], [0], [1], [1000]]) * np.ones((1, 6), np.int64)
    expected = np.clip(np.rint(acc * ratio), 0, 255)
    np.testing.assert_array_equal(requantize(acc[:, :, None, None], how)[:, :, 0, 0], expected)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0, 1.5, 3.0, 200.0])
def test_the_residual_shift_is_the_largest_that_is_certified(ratio):
    def certified(shift: int) -> bool:
        residual = int(np.rint(ratio * 2**shift))
        # the widest clamp that the bound allows for, 256 steps, is signed
        how = one_channel(100, shift, 0, 255, residual=residual)
        return bool(float32_exact(how, np.array([-9]), np.array([9]), (-128, 255))[0])

    shift = residual_shift(ratio)

    assert certified(shift)
    assert not certified(shift + 1)


def test_snapped_ratios_stay_exact_beside_a_residual():
    unit = 2.0 ** -residual_shift(0.7)
    ratio = np.array([1, 3, 16, 37, 1000, 20000]) * unit
    reach = np.full(6, 1 << 22)

    how = fit_requantize(
        ratio,
        low=0,
        high=255,
        acc_low=-reach,
        acc_high=reach,
        residual_ratio=0.7,
        residual_range=(0, 255),
    )

    assert how.multiplier.tolist() == [1, 3, 16, 37, 1000, 20000]
    assert float32_exact(how, -reach, reach, (0, 255)).all()


def test_a_ratio_too_fine_for_the_residual_shift_gets_its_own():
    ratio = np.array([2.3 * 2.0**-15, 100.4 * 2.0**-15, 0.0])
    reach = np.array([1 << 20, 1 << 20, 0])

    how = fit_requantize(ratio, low=0, high=255, acc_low=-reach, acc_high=reach, residual_ratio=0.5)

    assert how.shift.tolist() == [28, 15, 15]
    assert how.residual_multiplier is not None
    scale = 2.0 ** -how.shift.astype(float)
    np.testing.assert_allclose(how.residual_multiplier * scale, 0.5)
    np.testing.assert_allclose(how.multiplier * scale, ratio, rtol=0.005)
    assert float32_exact(how, -reach, reach, (0, 255)).tolist() == [False, True, True]


@pytest.mark.parametrize("ratio", [-1.0, np.nan, np.inf])
def test_ratios_that_are_no_scale_are_refused(ratio):
    one = np.array([1])

    with pytest.raises(ValueError, match="negative or not finite"):
        fit_requantize(np.array([ratio]), low=0, high=255, acc_low=-one, acc_high=one)
    with pytest.raises(ValueError, match="negative or not finite"):
        residual_shift(ratio)


def test_a_residual_wider_than_8_bits_is_refused():
    one = np.array([1])

    with pytest.raises(ValueError, match="wider than 8 bits"):
        fit_requantize(
            np.ones(1),
            low=0,
            high=255,
            acc_low=-one,
            acc_high=one,
            residual_ratio=1.0,
            residual_range=(0, 256),
        )
