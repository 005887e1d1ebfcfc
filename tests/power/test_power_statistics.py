"""Our own statistics against scipy's, and the coverage that the intervals promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from bacmac.power.runs import block_orders
from bacmac.power.simulation import Campaign, coverage, simulate
from bacmac.power.statistics import (
    estimate_ratio,
    hodges_lehmann,
    incomplete_beta,
    lag1_autocorrelation,
    mean_interval,
    order_effect_p,
    student_cdf,
    student_quantile,
)

values = st.lists(st.floats(-3, 3), min_size=3, max_size=14)


# nearer to 1 than this, 1 - x has too few digits to compare by (scipy's own is off by 3e-9 there)
@given(a=st.floats(0.05, 200), b=st.floats(0.05, 200), x=st.floats(0, 1 - 1e-9) | st.just(1.0))
def test_the_incomplete_beta_function_is_scipys(a: float, b: float, x: float) -> None:
    expected = scipy.special.betainc(a, b, x)

    assert incomplete_beta(a, b, x) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(p=st.floats(0.001, 0.999), dof=st.floats(1, 300))
def test_students_quantile_is_scipys(p: float, dof: float) -> None:
    assert student_quantile(p, dof) == pytest.approx(scipy.stats.t.ppf(p, dof), rel=1e-8, abs=1e-10)
    assert student_cdf(student_quantile(p, dof), dof) == pytest.approx(p, abs=1e-9)


@given(data=values)
def test_the_t_interval_is_scipys(data: list[float]) -> None:
    ours = mean_interval(data)
    error = scipy.stats.sem(data)
    half = scipy.stats.t.ppf(0.975, len(data) - 1) * error

    assert ours.centre == pytest.approx(np.mean(data), abs=1e-12)
    assert ours.high - ours.centre == pytest.approx(half, rel=1e-8, abs=1e-12)


def test_hodges_and_lehmanns_estimate_and_the_exact_level_by_enumeration() -> None:
    data = [0.31, -0.117, 0.723, 0.209, 0.2541, 0.9037, 0.0519, 0.4363]
    sums = [sum(signs) for signs in itertools.product(*((0, rank) for rank in range(1, 9)))]
    walsh = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(data, 2))

    ours = hodges_lehmann(data)

    k = walsh.index(ours.low)
    assert ours.centre == pytest.approx(np.median(walsh))
    assert ours.high == walsh[-1 - k]
    assert ours.level == pytest.approx(1 - 2 * sum(s <= k for s in sums) / 2**8)
    assert ours.level >= 0.95
    assert 2 * sum(s <= k + 1 for s in sums) / 2**8 > 0.05  # one further in would be too narrow


@given(data=st.lists(st.floats(-2, 2), min_size=6, max_size=12, unique=True))
def test_wilcoxons_interval_agrees_with_wilcoxons_test(data: list[float]) -> None:
    interval = hodges_lehmann(data)
    width = interval.high - interval.low

    for shift, inside in ((interval.low - 0.01 - 0.1 * width, False), (interval.centre, True)):
        moved = [v - shift for v in data]
        if len({abs(v) for v in moved} | {0.0}) == len(data) + 1:  # no ties: scipy's is exact
            p = scipy.stats.wilcoxon(moved, method="exact").pvalue
            assert (p > 1 - interval.level) == inside


def test_few_values_have_no_95_percent_wilcoxon_interval_and_say_so() -> None:
    interval = hodges_lehmann([1.0, 2.0, 3.0])

    assert (interval.low, interval.high) == (1.0, 3.0)
    assert interval.level == pytest.approx(0.75)


def test_autocorrelation_sees_alternation_and_drift() -> None:
    assert lag1_autocorrelation([1, -1] * 8) < -0.8  # type: ignore[operator]
    assert lag1_autocorrelation(list(range(16))) > 0.6  # type: ignore[operator]
    assert lag1_autocorrelation([1.0, 1.0, 1.0]) is None
    assert lag1_autocorrelation([1.0, 2.0]) is None


@given(
    first=st.lists(st.floats(-1, 1), min_size=2, max_size=8, unique=True),
    second=st.lists(st.floats(-1, 1), min_size=2, max_size=8, unique=True),
)
def test_the_order_effect_is_scipys_two_sample_t(first: list[float], second: list[float]) -> None:
    ours = order_effect_p(first + second, [True] * len(first) + [False] * len(second))
    pooled = np.var(first) + np.var(second)
    if pooled < 1e-12:
        return

    assert ours == pytest.approx(scipy.stats.ttest_ind(first, second).pvalue, rel=1e-6, abs=1e-9)


def test_one_order_alone_has_no_order_effect_to_tell() -> None:
    assert order_effect_p([1.0, 2.0, 3.0], [True, True, False]) is None


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(1.10, "lower"), (0.90, "higher"), (1.0, "not resolvable")]
)
def test_the_verdict_follows_the_interval(ratio: float, verdict: str) -> None:
    logs = [math.log(ratio) + e for e in (-0.02, 0.01, 0.015, -0.01, 0.005, 0.0)]

    estimate = estimate_ratio(logs, [True, False] * 3)

    assert estimate.verdict == verdict
    assert estimate.low < estimate.ratio < estimate.high
    assert estimate.ratio == pytest.approx(ratio)
    assert estimate.smallest_difference == pytest.approx(estimate.high / estimate.ratio - 1)


def test_the_sensors_step_widens_the_interval_and_can_take_the_verdict_away() -> None:
    logs = [0.1 + e for e in (-0.02, 0.01, 0.015, -0.01, 0.005, 0.0)]

    fine = estimate_ratio(logs, [True, False] * 3)
    coarse = estimate_ratio(logs, [True, False] * 3, u_quantisation=0.1)

    assert (fine.verdict, coarse.verdict) == ("lower", "not resolvable")
    assert coarse.resolution_limited
    assert not fine.resolution_limited
    assert coarse.half_width == pytest.approx(math.hypot(fine.half_width, 1.96 * 0.1), rel=1e-4)


def test_swapping_the_arms_inverts_the_ratio() -> None:
    logs = [0.1, 0.3, 0.2, 0.15]

    ours = estimate_ratio(logs, [True, False, True, False])
    swapped = estimate_ratio([-v for v in logs], [False, True, False, True])

    assert swapped.ratio == pytest.approx(1 / ours.ratio)
    assert swapped.low == pytest.approx(1 / ours.high)


def test_one_block_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two values or more"):
        estimate_ratio([0.1], [True])


@given(blocks=st.integers(2, 40), seed=st.integers(0, 1000))
def test_orders_are_balanced_and_seeded(blocks: int, seed: int) -> None:
    orders = block_orders(blocks, seed)

    first = sum(order[0] == "bac" for order in orders)
    assert all(sorted(order) == ["bac", "mac"] for order in orders)
    assert first == (blocks + 1) // 2
    assert orders == block_orders(blocks, seed)


@pytest.mark.parametrize("blocks", [6, 12, 20])
def test_intervals_of_simulated_campaigns_hold_the_truth_as_promised(blocks: int) -> None:
    campaign = Campaign(blocks=blocks)

    estimates = simulate(campaign, 500, seed=2)

    assert coverage(estimates, campaign.truth) == pytest.approx(0.95, abs=0.04)
    assert np.mean([e.ratio for e in estimates]) == pytest.approx(campaign.truth, rel=0.001)
    assert not any(e.resolution_limited for e in estimates)


def test_without_the_quantisation_term_a_coarse_sensor_on_a_settled_board_misleads() -> None:
    """The threat the term is for: a plain interval is far too sure of itself."""
    campaign = Campaign(step_w=0.106, warm_up_w=0.0, ambient_w=0.0)

    estimates = simulate(campaign, 300, seed=3)

    truth = math.log(campaign.truth)
    plain = [abs(math.log(e.ratio) - truth) <= e.t_half_width for e in estimates]
    assert np.mean(plain) < 0.7
    assert coverage(estimates, campaign.truth) >= 0.95
    assert np.mean([e.resolution_limited for e in estimates]) > 0.9


def test_identical_arms_are_told_apart_one_time_in_twenty() -> None:
    campaign = Campaign(bac_w=0.5, mac_w=0.5)

    estimates = simulate(campaign, 500, seed=4)

    assert np.mean([e.verdict != "not resolvable" for e in estimates]) == pytest.approx(
        0.05, abs=0.035
    )
