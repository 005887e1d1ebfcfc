"""Checks of a campaign as a whole: what its ratios and its invalid runs show (7, 16 and 19).

All are told and none repeats anything: a campaign that is judged by its own result would be made
until it pleases.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from bacmac.power.campaign.checks_state import check_unread
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.result import CampaignResult, PairRatio, RatioEstimate
from bacmac.power.campaign.run import CampaignRun, Finding
from bacmac.power.campaign.validity import SAME_BLOCK, ValidityRow
from bacmac.power.energy import Quantisation

NO_FAULT = (SAME_BLOCK, "crash", "interrupted")
"""Reasons that say nothing against a run."""
MAD_SCALE = 1.4826
"""Median absolute deviation of a normal distribution, to its standard deviation (Hampel 1974)."""


def check_steps(result: CampaignResult, limits: Limits) -> Iterator[Finding]:
    """Check 7 of every rail: its noise, and the worst of its ratios of either energy."""
    for rail in result.rails:
        where = f"cell {rail.cell}, {rail.info.name}"
        yield from check_quantisation(where, rail.quantisation, limits)
        for quantity in ("dynamic", "total"):
            estimates = [
                ratio.estimate
                for ratio in result.ratios
                if (ratio.cell, ratio.rail, ratio.quantity) == (rail.cell, rail.info.name, quantity)
                and ratio.estimate is not None
            ]
            worst = max(estimates, key=_step_to_t, default=None)
            if worst is not None:
                yield from check_resolution(f"{where}, {quantity}", worst, limits)


def _step_to_t(estimate: RatioEstimate) -> float:
    if estimate.u_step == 0:
        return 0.0
    half_width = estimate.log_mean.half_width
    return estimate.u_step / half_width if half_width > 0 else math.inf


def check_quantisation(subject: str, step: Quantisation, limits: Limits) -> Iterator[Finding]:
    """Whether noise covers the sensor's step."""
    if step.noise_to_step < limits.min_noise_to_step:
        text = f"noise of {step.noise_w * 1e3:.1f} mW is {step.noise_to_step:.2f} of the "
        text += f"{step.quantum_w * 1e3:.1f} mW step; {limits.min_noise_to_step:g} wanted, so "
        text += f"{step.u_window_w * 1e3:.1f} mW are added to every window's mean"
        yield Finding(7, "warn", subject, text)


def check_resolution(subject: str, estimate: RatioEstimate, limits: Limits) -> Iterator[Finding]:
    """Whether the step, not the spread of blocks, sets an interval."""
    share = limits.max_step_to_t * estimate.log_mean.half_width
    if estimate.u_step > share:
        text = "resolution-limited: the sensor's step leaves a ratio uncertain by "
        text += f"{estimate.u_step:.2%}, the blocks by {estimate.log_mean.half_width:.2%}"
        yield Finding(7, "warn", subject, f"{text}; {limits.max_step_to_t:g} of that allowed")


def check_ratios(result: CampaignResult, limits: Limits) -> Iterator[Finding]:
    """Check 19 of every ratio of dynamic energies."""
    for ratio in result.ratios:
        if ratio.quantity == "dynamic" and ratio.estimate is not None:
            yield from check_ratio(_subject(ratio), ratio.log_ratios, ratio.estimate, limits)
    if not result.aa:
        yield Finding(19, "warn", "", "no A/A check: the same arm was not compared with itself")
    for ratio in result.aa:
        if ratio.estimate is None or ratio.quantity != "dynamic":
            continue
        if not ratio.estimate.low <= 1 <= ratio.estimate.high:
            text = f"A/A: the same arm's ratio to itself is {ratio.estimate.ratio:.4f} "
            text += f"({ratio.estimate.low:.4f} to {ratio.estimate.high:.4f}); it must hold 1"
            yield Finding(19, "warn", _subject(ratio), text)


def check_ratio(
    subject: str, log_ratios: tuple[float, ...], estimate: RatioEstimate, limits: Limits
) -> Iterator[Finding]:
    """Number, independence, order and outliers of one ratio's blocks."""
    n = len(log_ratios)
    if n < limits.min_blocks:
        text = f"{n} blocks; {limits.min_blocks:g} or more wanted"
        yield Finding(19, "warn", subject, text)
    lag1, limit = estimate.log_mean.lag1, limits.max_lag1_errors / math.sqrt(n)
    if lag1 is not None and abs(lag1) > limit:
        text = f"neighbouring blocks are correlated by {lag1:+.2f}; {limit:.2f} allowed"
        yield Finding(19, "warn", subject, text)
    p = estimate.position_p
    if p is not None and p <= limits.min_order_p:
        text = f"an effect of the order has p = {p:.4f}; above {limits.min_order_p:g} wanted"
        yield Finding(19, "warn", subject, text)
    apart = abs(math.log(estimate.robust.centre / estimate.ratio))
    if apart > limits.max_centres_apart * estimate.log_mean.half_width:
        text = f"mean and Hodges-Lehmann centres are {apart:.2%} apart; half-width is "
        text += f"{estimate.log_mean.half_width:.2%}, {limits.max_centres_apart:g} of it allowed"
        yield Finding(19, "warn", subject, text)
    scores = mad_scores(log_ratios)
    for index in np.flatnonzero(scores > limits.max_mad_score):
        text = f"block {int(index)} in order lies {scores[index]:.1f} scaled deviations from the "
        text += f"median; {limits.max_mad_score:g} allowed. It is kept"
        yield Finding(19, "warn", subject, text)


def mad_scores(values: tuple[float, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Distances from the median in scaled median absolute deviations; 0 where nothing varies."""
    distances = np.abs(np.asarray(values, np.float64) - np.median(values))
    scale = MAD_SCALE * float(np.median(distances))
    return distances / scale if scale > 0 else np.zeros_like(distances)


def check_invalid_rates(result: CampaignResult, limits: Limits) -> Iterator[Finding]:
    """Check 19 of runs found invalid: how many, and whether in one arm more than in another.

    Runs whose block became invalid by another run of it, or that were cut off by a crash or by a
    person, are not at fault and do not count.
    """
    made = sum(row.valid + row.n_invalid for row in result.validity)
    invalid = sum(_at_fault(row) for row in result.validity)
    if made and invalid / made > limits.max_invalid_share:
        text = f"{invalid} of {made} runs were invalid; {limits.max_invalid_share:.0%} allowed"
        yield Finding(19, "warn", "", text)
    counts: dict[str, tuple[int, int]] = {}
    for row in result.validity:
        if row.stage == "main":
            n, of = counts.get(row.arm, (0, 0))
            counts[row.arm] = n + _at_fault(row), of + row.valid + row.n_invalid
    shares = {arm: n / of for arm, (n, of) in counts.items() if of}
    if len(shares) > 1:
        most, least = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
        if shares[most] - shares[least] > limits.max_invalid_apart:
            text = f"{shares[most]:.1%} of its runs were invalid and {shares[least]:.1%} of "
            text += f"{least}'s; {limits.max_invalid_apart * 100:g} points apart allowed: what is "
            yield Finding(19, "warn", most, f"{text}left may be chosen by the arm")


def _at_fault(row: ValidityRow) -> int:
    return sum(n for reason, n in row.invalid.items() if reason not in NO_FAULT)


def check_sameness(runs: Iterable[CampaignRun], limits: Limits) -> Iterator[Finding]:
    """Checks 4 and 16 over the campaign: equal work and outputs, times, rate of the clocks.

    And what the machine did not tell, by its first run.
    """
    times: dict[tuple[int, str], list[float]] = defaultdict(list)
    outputs: dict[tuple[int, str], set[str]] = defaultdict(set)
    work: dict[tuple[int, str], set[object]] = defaultdict(set)
    clocks: dict[str | None, list[tuple[int, int]]] = defaultdict(list)
    for number, run in enumerate(runs):
        if number == 0:
            yield from check_unread(run.before)
        which = run.key.cell, run.key.arm
        times[which].append(run.record.run.duration_s)
        outputs[which].add(run.record.outputs_sha256)
        work[which].add(run.record.counters)
        clocks[run.before.boot_id].append((run.before.monotonic_ns, run.before.wall_ns))
    for (cell, arm), seconds in times.items():
        subject = f"cell {cell}, {arm}"
        cv = float(np.std(seconds, ddof=1) / np.mean(seconds)) if len(seconds) > 1 else 0.0
        if cv > limits.max_time_cv:
            text = f"run times vary by {cv:.2%} (standard deviation over mean)"
            yield Finding(16, "warn", subject, f"{text}; {limits.max_time_cv:.0%} allowed")
        for what, found in (("outputs", outputs[cell, arm]), ("work counters", work[cell, arm])):
            if len(found) > 1:
                text = f"{len(found)} different {what} in {len(seconds)} runs; one wanted"
                yield Finding(16, "warn", subject, text)
    for points in clocks.values():
        (mono_a, wall_a), (mono_b, wall_b) = min(points), max(points)
        if mono_b <= mono_a:
            continue
        rate = (wall_b - wall_a) / (mono_b - mono_a) - 1
        if abs(rate) > limits.max_wall_rate:
            text = f"wall and monotonic clock run apart by {rate * 1e6:+.0f} ppm"
            yield Finding(4, "warn", "", f"{text}; {limits.max_wall_rate * 1e6:.0f} ppm allowed")


def _subject(ratio: PairRatio) -> str:
    pair = f"{ratio.pair.numerator} / {ratio.pair.denominator}"
    return f"cell {ratio.cell}, {pair}, {ratio.rail}, {ratio.quantity}"
