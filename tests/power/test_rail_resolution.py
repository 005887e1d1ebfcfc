"""What a rail can resolve, before a comparison: checked against simulated comparisons."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bacmac.power.probe import Noise, RailProbe, RegisterCheck, Step
from bacmac.power.rails import RailInfo
from bacmac.power.refresh import Refresh
from bacmac.power.resolution import Campaign, resolvable
from bacmac.power.simulation import Campaign as Simulated
from bacmac.power.simulation import simulate
from bacmac.power.statistics import COVERAGE_FACTOR, student_quantile


def probe(
    noise_w: float = 0.02,
    lag1: float | None = 0.0,
    step_w: float = 0.012,
    period_s: float | None = 0.0352,
) -> RailProbe:
    info = RailInfo("12V", 12.0, "fake", None, 0.001, 0.025)
    period_ns = None if period_s is None else period_s * 1e9
    spacing_s = period_s or 0.001
    return RailProbe(
        info,
        10_000,
        10.0,
        13.8,
        Refresh("measured" if period_s else "not seen", period_ns, 200, 35e6, 1e6, 1e6),
        Step(0.001, 5),
        Step(0.001, 5),
        Step(0.025, 5),
        step_w,
        True,
        Noise(math.hypot(noise_w, step_w / math.sqrt(12)), noise_w, lag1, spacing_s),
        RegisterCheck(1.0, 0.0, True, "agrees"),
        None,
        (),
    )


def test_white_noise_gives_the_closed_form() -> None:
    c = Campaign(watts=0.5, blocks=10, run_s=10.0, idle_s=5.0)
    variance = 0.02**2 * 0.0352 * (1 / 9.5 + 1 / 10)
    log_sd = math.sqrt(2 * variance) / 0.5
    half_width = student_quantile(0.975, 9) * log_sd / math.sqrt(10)

    found = resolvable(probe(), c)

    assert found.step_share == 0  # noise covers the step
    assert found.smallest_share == pytest.approx(math.expm1(half_width))
    assert found.smallest_w == pytest.approx(math.expm1(half_width) * 0.5)


def test_a_step_without_noise_is_bounded_by_the_step() -> None:
    found = resolvable(probe(noise_w=0.0, step_w=0.1064), Campaign(watts=0.5))

    u_log = 2 * 0.1064 / math.sqrt(12) / 0.5
    assert found.noise_share == 0
    assert found.smallest_share == pytest.approx(math.expm1(COVERAGE_FACTOR * u_log))
    assert "its step of 106 mW" in found.sentence


@pytest.mark.parametrize("tau_s", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("step_w", [0.012, 0.106])
def test_simulated_comparisons_reach_what_was_estimated(tau_s: float, step_w: float) -> None:
    """Only noise and step: then the estimate is the half width that blocks will show."""
    noise_w, spacing_s = 0.03, 0.002
    simulated = Simulated(
        blocks=12,
        step_w=step_w,
        noise_w=noise_w,
        noise_tau_s=tau_s,
        bac_w=0.5,
        mac_w=0.5,
        slow_noise_w=0.0,
        warm_up_w=0.0,
        ambient_w=0.0,
        heating=0.0,
        block_effect=0.0,
        run_effect=0.0,
    )
    widths = np.array([e.half_width for e in simulate(simulated, 400, seed=2)])
    lag1 = math.exp(-spacing_s / tau_s)

    found = resolvable(
        probe(noise_w, lag1, step_w, period_s=spacing_s), Campaign(watts=0.5, blocks=12)
    )

    assert found.smallest_share is not None
    expected = math.sqrt(np.mean(widths**2))
    assert math.log1p(found.smallest_share) == pytest.approx(expected, rel=0.05)


def test_more_power_more_blocks_and_longer_runs_resolve_more() -> None:
    base = Campaign(watts=0.5, blocks=12, run_s=10.0)
    changes = ({}, {"watts": 1.0}, {"blocks": 24}, {"run_s": 40.0, "idle_s": 20.0})

    shares = [resolvable(probe(), replace(base, **change)).smallest_share for change in changes]

    assert all(share is not None for share in shares)
    assert max(s for s in shares[1:] if s) < (shares[0] or 0)


def test_a_refresh_as_slow_as_the_runs_resolves_nothing() -> None:
    found = resolvable(probe(period_s=4.0), Campaign(run_s=10.0))

    assert found.smallest_share is None
    assert found.sentence.startswith("12V resolves nothing in runs of 10 s: a new value comes")


def test_what_is_hidden_by_the_step_is_said() -> None:
    found = resolvable(probe(noise_w=0.0, step_w=0.5), Campaign(watts=0.2))

    assert found.smallest_share is not None
    assert found.smallest_share > 1
    assert found.sentence.startswith("12V resolves no BAC/MAC difference at 0.2 W")


def test_the_sentence_tells_time_power_and_that_it_is_an_estimate() -> None:
    assumed = resolvable(probe(), Campaign()).sentence
    given = resolvable(probe(), Campaign(watts=1.5, blocks=20, assumed=False)).sentence

    assert "of 0.5 W of dynamic power (assumed)" in assumed.replace("at 0.5", "of 0.5")
    assert "1.5 W of dynamic power (given) in 13 min (20 blocks of two runs of 10 s)" in given
    assert "estimated for the sensor alone" in given


def test_a_rail_that_never_changed_may_be_stuck_and_says_so() -> None:
    still = replace(probe(noise_w=0.0), refresh=Refresh("not seen", None, 0, None, None, 1e6))

    assert resolvable(still, Campaign()).sentence.startswith("12V, if it is not stuck, resolves")


def test_a_rail_whose_refresh_is_not_known_is_still_estimated() -> None:
    found = resolvable(probe(period_s=None), Campaign())

    assert found.smallest_share is not None
    assert found.smallest_share > 0
