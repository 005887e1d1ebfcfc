"""What is checked about a comparison's data, recorded beside its result.

Nothing is deleted or repaired: a check that fails is told. A negative energy or an outlier stays,
because dropping on the outcome biases it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bacmac.power.analysis import RailResult
from bacmac.power.energy import FINE_ENOUGH, WindowPower
from bacmac.power.runs import ARMS, RunRecord

COMPLETE_SHARE = 0.98
MAX_GAP_PERIODS = 5
IDLE_CHANGE_SHARE = 0.02
SLOW_REFRESH_S = 0.5
LAG1_ERRORS = 2.0
ORDER_P = 0.01
MIN_BLOCKS = 10


@dataclass(frozen=True)
class Check:
    """One check over the whole comparison, or over one rail of it.

    Attributes:
        name: what is checked.
        rail: of which rail, or "".
        passed: whether it holds.
        text: what was found, with numbers.
    """

    name: str
    rail: str
    passed: bool
    text: str


def check_records(records: Sequence[RunRecord], rails: Sequence[RailResult]) -> tuple[Check, ...]:
    """Every check, failed or not."""
    checks = [*_outputs(records), *_verified(records), *_work(records)]
    period_s = records[0].trace.period_ns * 1e-9
    for rail in rails:
        checks += (*_sampling(rail, period_s), *_idle(rail), *_sensor(rail), *_statistics(rail))
    return tuple(checks)


def _outputs(records: Sequence[RunRecord]) -> Iterator[Check]:
    for arm in ARMS:
        hashes = {r.outputs_sha256 for r in records if r.arm == arm}
        n = sum(r.arm == arm for r in records)
        text = f"{arm}: {_distinct(len(hashes))} in {n} runs"
        yield Check("same outputs in every run", "", len(hashes) == 1, text)


def _verified(records: Sequence[RunRecord]) -> Iterator[Check]:
    """A difference ends a comparison, so what is told here is how much was looked at."""
    for arm in ARMS:
        counts = [r.n_verified for r in records if r.arm == arm]
        text = f"{arm}: {min(counts)} images or more in each of {len(counts)} runs, all equal"
        yield Check("outputs as the exact engine computes them", "", min(counts) > 0, text)


def _work(records: Sequence[RunRecord]) -> Iterator[Check]:
    for arm in ARMS:
        own = [r for r in records if r.arm == arm]
        counts = {r.counters for r in own}
        times = [r.run.duration_s for r in own]
        spread = (max(times) - min(times)) / max(times)
        good = len(counts) == 1 and spread <= 0.01
        text = f"{arm}: counters {_distinct(len(counts))}, run times within {spread:.2%}"
        yield Check("same work in every run", "", good, text)


def _distinct(n: int) -> str:
    return "all equal" if n == 1 else f"{n} different ones"


def _windows(rail: RailResult) -> list[WindowPower]:
    return [w for r in rail.runs for w in (r.power.before, r.power.run, r.power.after)]


def _sampling(rail: RailResult, period_s: float) -> Iterator[Check]:
    windows = _windows(rail)
    # a window's two edges cut a period, so one sample may be missing by right
    share = min(min((w.n_samples + 1) * period_s / w.duration_s, 1.0) for w in windows)
    name = rail.info.name
    text = f"at least {share:.1%} of the expected samples in every window"
    yield Check("samples complete", name, share >= COMPLETE_SHARE, text)
    gap_s = max(w.max_gap_s for w in windows)
    limit_s = MAX_GAP_PERIODS * period_s
    text = f"largest {gap_s * 1e3:.0f} ms, limit {limit_s * 1e3:.0f} ms"
    yield Check("no gap between samples", name, gap_s <= limit_s, text)


def _idle(rail: RailResult) -> Iterator[Check]:
    changes = [abs(r.power.after.mean_w - r.power.before.mean_w) for r in rail.runs]
    limits = [IDLE_CHANGE_SHARE * r.power.idle_w for r in rail.runs]
    over = sum(change > limit for change, limit in zip(changes, limits, strict=True))
    text = (
        f"{over} of {len(changes)} runs changed by more than {IDLE_CHANGE_SHARE:.0%}; "
        f"largest {max(changes) * 1e3:.0f} mW"
    )
    yield Check("idle steady around each run", rail.info.name, over == 0, text)


def _sensor(rail: RailResult) -> Iterator[Check]:
    info, step = rail.info, rail.quantisation
    text = (
        f"noise {step.noise_w * 1e3:.0f} mW is {step.noise_to_step:.2f} of the "
        f"{step.quantum_w * 1e3:.0f} mW step (wanted {FINE_ENOUGH:g})"
    )
    if step.u_window_w:
        text += f"; {step.u_window_w * 1e3:.0f} mW are added for every window's mean"
    yield Check("step fine enough", info.name, step.noise_to_step >= FINE_ENOUGH, text)
    if info.update_period_ns is None:
        return
    refresh_s = info.update_period_ns * 1e-9
    text = f"a new value every {refresh_s * 1e3:.0f} ms"
    yield Check("sensor fast enough", info.name, refresh_s < SLOW_REFRESH_S, text)


def _statistics(rail: RailResult) -> Iterator[Check]:
    ratio, name = rail.dynamic, rail.info.name
    if ratio is None:
        yield Check("dynamic energy above zero", name, False, rail.dynamic_reason)
        return
    n = len(ratio.log_ratios)
    yield Check("blocks enough", name, n >= MIN_BLOCKS, f"{n}, {MIN_BLOCKS} or more wanted")
    if ratio.lag1 is not None:
        limit = LAG1_ERRORS / n**0.5
        text = f"correlation of neighbours {ratio.lag1:+.2f}, limit {limit:.2f}"
        yield Check("blocks independent", name, abs(ratio.lag1) <= limit, text)
    if ratio.order_p is not None:
        text = f"p = {ratio.order_p:.3f}, limit {ORDER_P:g}"
        yield Check("no effect of order", name, ratio.order_p > ORDER_P, text)
    apart = abs(ratio.robust.centre / ratio.ratio - 1)
    text = f"mean and Hodges-Lehmann ratio differ by {apart:.2%}"
    yield Check("no outlying block", name, apart <= ratio.half_width / 2, text)
