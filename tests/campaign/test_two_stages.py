"""Stein's two stages, effects of place, quotients, and the coverage they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from bacmac.power.simulation import (
    PERSONALITIES,
    Campaign,
    TwoStage,
    coverage,
    simulate_two_stage,
)
from bacmac.power.statistics import (
    mean_interval,
    order_effect_p,
    position_effect_p,
    quotient_interval,
    second_stage_blocks,
    two_stage_mean,
)

CAMPAIGNS = 300
FINE = ("zcu104-new-kernel", "zcu104-1s-cache", "zcu102-ina226")
COARSE = ("coarse-106mw", "coarse-106mw, settled")


def log_values(n: int, seed: int, sd: float = 0.015) -> list[float]:
    values: list[float] = np.random.default_rng(seed).normal(0.3, sd, n).tolist()
    return values


@given(seed=st.integers(0, 10_000), target=st.floats(0.002, 0.05))
def test_the_second_stage_is_the_smallest_that_reaches_the_target(seed: int, target: float) -> None:
    pilot = log_values(10, seed)

    k = second_stage_blocks([pilot], target, 10, 100_000)

    wanted = math.log1p(target)
    half_at = scipy.stats.t.ppf(0.975, 9) * np.std(pilot, ddof=1) / np.sqrt([k, max(k - 1, 1)])
    assert half_at[0] <= wanted * (1 + 1e-6)
    assert k == 10 or half_at[1] > wanted * (1 - 1e-6)


def test_the_widest_pair_decides_and_the_plan_limits() -> None:
    narrow, wide = log_values(10, 1, 0.005), log_values(10, 2, 0.03)

    alone = second_stage_blocks([wide], 0.01, 10, 1000)

    assert second_stage_blocks([narrow, wide], 0.01, 10, 1000) == alone > 10
    assert second_stage_blocks([narrow, wide], 0.01, 10, 20) == 20
    assert second_stage_blocks([narrow], 0.05, 10, 20) == 10
    assert second_stage_blocks([], 0.01, 10, 20) == 10


def test_a_pilot_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="9 values of a pilot of 10"):
        second_stage_blocks([log_values(9, 1)], 0.01, 10, 60)
    with pytest.raises(ValueError, match="pilot of two values or more, not 1"):
        second_stage_blocks([[0.1]], 0.01, 1, 60)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 40))
def test_without_a_second_stage_it_is_the_t_interval(seed: int, n: int) -> None:
    values = log_values(n, seed)

    ours, plain = two_stage_mean(values, n), mean_interval(values)

    assert ours.centre == plain.centre
    assert ours.stein_half_width == pytest.approx(plain.high - plain.centre)
    assert ours.half_width >= ours.stein_half_width


def test_spread_and_degrees_of_freedom_are_the_pilots() -> None:
    pilot, rest = log_values(10, 3), log_values(15, 4, sd=0.5)

    result = two_stage_mean(pilot + rest, 10)

    assert result.sd == pytest.approx(np.std(pilot, ddof=1))
    assert (result.dof, result.n_blocks) == (9, 25)
    assert result.centre == pytest.approx(np.mean(pilot + rest))
    assert result.stein_half_width == pytest.approx(
        scipy.stats.t.ppf(0.975, 9) * np.std(pilot, ddof=1) / 5
    )


def test_blocks_that_are_alike_widen_and_blocks_that_alternate_never_narrow() -> None:
    slow = [0.01 * math.sin(2 * math.pi * i / 20) for i in range(20)]
    swinging = [0.01 * (-1) ** i for i in range(20)]

    alike, apart = two_stage_mean(slow, 10), two_stage_mean(swinging, 10)

    assert alike.widening > 2
    assert alike.half_width >= alike.widening * alike.stein_half_width
    assert apart.widening == 1
    assert apart.half_width == apart.stein_half_width


def test_widening_holds_the_truth_where_neighbours_are_alike() -> None:
    """Stein's interval alone holds it in 87 % of such campaigns."""
    rng = np.random.default_rng(8)
    plain = widened = 0
    for _ in range(600):
        values = rng.standard_normal(40)
        for i in range(1, 40):
            values[i] = 0.3 * values[i - 1] + math.sqrt(0.91) * values[i]
        mean = two_stage_mean(values.tolist(), 10)
        plain += abs(mean.centre) <= mean.stein_half_width
        widened += abs(mean.centre) <= mean.half_width

    assert plain / 600 < 0.89
    assert widened / 600 > plain / 600 + 0.03


@given(seed=st.integers(0, 10_000), n=st.integers(2, 12))
def test_with_two_places_the_effect_is_that_of_order(seed: int, n: int) -> None:
    values, first = log_values(2 * n, seed), [True, False] * n
    places = [0 if is_first else 1 for is_first in first]

    ours = position_effect_p(values, [1 - p for p in places], places)

    assert ours == pytest.approx(order_effect_p(values, first), rel=1e-6, abs=1e-12)


@given(seed=st.integers(0, 10_000))
def test_with_three_places_the_effect_is_an_f_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = np.array([rng.permutation(3)[:2] for _ in range(15)])
    values = rng.normal(0, 1, 15)

    ours = position_effect_p(values.tolist(), places[:, 0].tolist(), places[:, 1].tolist())

    full = np.zeros((15, 4))
    full[:, 0] = 1
    full[np.arange(15), 1 + places[:, 0]] += 1
    full[np.arange(15), 1 + places[:, 1]] -= 1
    if np.linalg.matrix_rank(full) < 3:
        assert ours is None
        return
    residual = np.sum((values - full @ np.linalg.lstsq(full, values, rcond=None)[0]) ** 2)
    f = (np.sum((values - values.mean()) ** 2) - residual) / 2 / (residual / 12)
    assert ours == pytest.approx(scipy.stats.f.sf(f, 2, 12), rel=1e-6)


def test_drift_that_follows_the_order_is_seen() -> None:
    rng = np.random.default_rng(5)
    numerator = np.array([0, 1, 2] * 5)
    denominator = np.roll(np.array([0, 1, 2]), 1).tolist() * 5
    logs = 0.3 + 0.01 * (numerator - np.array(denominator)) + rng.normal(0, 0.003, 15)

    assert (position_effect_p(logs.tolist(), numerator.tolist(), denominator) or 1) < 1e-4


def test_nothing_is_told_of_places_that_never_change() -> None:
    assert position_effect_p(log_values(6, 1), [0] * 6, [1] * 6) is None
    assert position_effect_p([0.1, 0.1], [0, 1], [1, 0]) is None
    assert position_effect_p([0.1] * 6, [0, 1] * 3, [1, 0] * 3) is None


def test_quotients_hold_the_truth_as_promised() -> None:
    """The two are correlated, as two ratios that share an arm are."""
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(600):
        shift = rng.normal(0.2, 0.02, 12)
        saving = shift + rng.normal(0.3, 0.02, 12)
        interval = quotient_interval(shift.tolist(), saving.tolist(), 12)
        assert interval is not None
        held += interval.low <= 0.4 <= interval.high

    assert held / 600 == pytest.approx(0.95, abs=0.03)


def test_a_quotient_over_what_may_be_zero_has_no_interval() -> None:
    values = log_values(12, 7)

    assert quotient_interval(values, [v - 0.3 for v in values], 12) is None


@pytest.mark.parametrize("board", FINE)
def test_campaigns_on_fine_sensors_hold_the_truth(board: str) -> None:
    """4 points are 3 standard errors at 300 campaigns."""
    campaign = PERSONALITIES[board]

    estimates = simulate_two_stage(campaign, TwoStage(), CAMPAIGNS, seed=2)

    assert coverage(estimates, campaign.truth) == pytest.approx(0.95, abs=0.04)
    assert np.mean([e.ratio for e in estimates]) == pytest.approx(campaign.truth, rel=0.001)
    assert not any(e.resolution_limited for e in estimates)


@pytest.mark.parametrize("board", COARSE)
def test_campaigns_on_a_coarse_sensor_say_so_instead_of_being_precise(board: str) -> None:
    campaign = PERSONALITIES[board]

    estimates = simulate_two_stage(campaign, TwoStage(), CAMPAIGNS, seed=2)

    assert np.mean([e.resolution_limited for e in estimates]) >= 0.99
    assert coverage(estimates, campaign.truth) >= 0.95


def test_equal_arms_are_told_apart_one_time_in_twenty() -> None:
    campaign = Campaign(bac_w=0.5, mac_w=0.5)

    estimates = simulate_two_stage(campaign, TwoStage(), CAMPAIGNS, seed=3)

    apart = np.mean([e.verdict != "not resolvable" for e in estimates])
    assert apart == pytest.approx(0.05, abs=0.04)
