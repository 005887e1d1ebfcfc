"""The smallest difference between two arms that a rail's sensor can resolve, before any is made.

An estimate by the model that `power/statistics.py` uses on real blocks: the paired t interval of K
log ratios, with the sensor's noise averaged over the windows of a run (first-order autoregressive:
the variance of a mean over T is s^2 tau / T with tau = spacing (1 + r) / (1 - r), Zieba and Ramza,
Metrology and Measurement Systems 18, 2011), and the uncertainty by the sensor's step that no
averaging removes (Widrow and Kollar, Quantization Noise, 2008). Only the sensor is in it: drift,
self-heating and the spread between runs come on top, so a comparison cannot do better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bacmac.power.energy import step_uncertainty_w
from bacmac.power.probe import RailProbe
from bacmac.power.statistics import COVERAGE_FACTOR, MAX_HALF_WIDTH, student_quantile

MAX_LAG1 = 0.999
GUARD_S = 0.5
GUARD_REFRESHES = 1.1
"""As `bacmac compare`: what follows a change of load is left out until the sensor has followed."""
ASSUMED_WATTS = 0.5


@dataclass(frozen=True)
class Campaign:
    """A comparison that is planned.

    Attributes:
        watts: dynamic power of an arm on this rail.
        blocks: each with one run of either arm.
        run_s: length of a run.
        idle_s: of each of the two idle windows around it.
        assumed: `watts` is an assumption.
    """

    watts: float = ASSUMED_WATTS
    blocks: int = 12
    run_s: float = 10.0
    idle_s: float = 5.0
    assumed: bool = True

    @property
    def duration_s(self) -> float:
        """Time of all windows; loading overlays and warming up come on top."""
        return 2 * self.blocks * (self.run_s + 2 * self.idle_s)


@dataclass(frozen=True)
class Resolution:
    """What a rail can resolve in a campaign.

    Attributes:
        smallest_share: of an arm's dynamic energy; None where windows are too short for the
            sensor's refresh.
        smallest_w: the same in W.
        noise_share: half width by noise alone.
        step_share: half width by the step alone.
        sentence: all of it in words.
    """

    smallest_share: float | None
    smallest_w: float | None
    noise_share: float | None
    step_share: float | None
    sentence: str


def resolvable(probe: RailProbe, campaign: Campaign) -> Resolution:
    """Smallest difference between BAC and MAC that lies outside its own 95 % interval."""
    c, noise = campaign, probe.noise
    refresh_s = (probe.refresh.period_ns or probe.info.update_period_ns or 0.0) * 1e-9
    used_s = c.run_s - max(GUARD_S, GUARD_REFRESHES * refresh_s)
    name = probe.info.name
    if min(used_s, c.idle_s) < 2 * refresh_s or used_s <= 0:
        longer_s = 2 * refresh_s + max(GUARD_S, GUARD_REFRESHES * refresh_s)
        return Resolution(
            *(None,) * 4,
            f"{name} resolves nothing in runs of {c.run_s:g} s: a new value comes every "
            f"{refresh_s:.3g} s; runs need {longer_s:.2g} s or more",
        )
    lag1 = min(max(noise.lag1 or 0.0, 0.0), MAX_LAG1)
    tau_s = noise.spacing_s * (1 + lag1) / (1 - lag1)
    # a mean over a window is never surer than its independent values allow
    u_run_w = noise.noise_w * math.sqrt(min(tau_s / used_s, 1.0))
    u_idle_w = noise.noise_w * math.sqrt(min(tau_s / (2 * c.idle_s), 1.0))
    log_sd = math.sqrt(2) * math.hypot(u_run_w, u_idle_w) / c.watts
    noise_share = student_quantile(0.975, c.blocks - 1) * log_sd / math.sqrt(c.blocks)
    u_step_w = step_uncertainty_w(probe.step_w, noise.noise_w)
    step_share = COVERAGE_FACTOR * 2 * u_step_w / c.watts  # run and idle of either arm
    half_width = min(math.hypot(noise_share, step_share), MAX_HALF_WIDTH)
    smallest = math.expm1(half_width)
    return Resolution(
        smallest,
        smallest * c.watts,
        noise_share,
        step_share,
        _sentence(probe, c, smallest, noise_share, step_share),
    )


def _sentence(
    probe: RailProbe, c: Campaign, smallest: float, noise_share: float, step_share: float
) -> str:
    name, noise, step = probe.info.name, _milli(probe.noise.noise_w), _milli(probe.step_w)
    limit = f"noise of {noise}"
    if noise_share < step_share:
        limit = f"its step of {step}, not covered by noise of {noise}"
    power = f"{c.watts:g} W of dynamic power ({'assumed' if c.assumed else 'given'})"
    time = f"{c.duration_s / 60:.0f} min ({c.blocks} blocks of two runs of {c.run_s:g} s)"
    if probe.refresh.n_changes == 0:
        name += ", if it is not stuck,"
    if smallest >= 1:
        return f"{name} resolves no BAC/MAC difference at {power} in {time}, for {limit}"
    return (
        f"{name} resolves BAC/MAC differences of {smallest:.1%} or more at {power} in {time}, "
        f"limited by {limit}; estimated for the sensor alone, drift and spread of runs come on top"
    )


def _milli(watts: float) -> str:
    return f"{watts * 1e3:.0f} mW" if watts >= 0.01 else f"{watts * 1e3:.2g} mW"
