"""Print how often 95 % intervals hold the truth, over thousands of simulated campaigns.

    python -P tests/benchmarks/coverage_of_intervals.py [campaigns]

Run by run (`bacmac.power.simulation`). A coverage of 95 % has a standard error of 0.5 points at
2000 campaigns. Steps are those of V x I: 12 mW for the 12V INA226, 106 mW for the ZCU104's INT.

Three tables: campaigns with Stein's second stage on every emulated board (wanted: 95 +- 1 points
and a bias under 0.1 % where the step is fine, limited by the step in 99 % and more where it is
coarse); what neighbouring blocks that are alike do to them; comparisons of a given length.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from bacmac.power.simulation import (
    PERSONALITIES,
    Campaign,
    TwoStage,
    coverage,
    simulate,
    simulate_two_stage,
)
from bacmac.power.statistics import lag1_autocorrelation, second_stage_blocks, two_stage_mean


def main(n: int = 2000) -> None:
    print(f"{n} campaigns a row; true ratio {Campaign().truth:.3f}; nominal coverage 95 %\n")
    personalities(n)
    alike_blocks(n)
    comparisons(n)


def personalities(n: int) -> None:
    stages = TwoStage()
    print(
        f"Stein's two stages, pilot {stages.pilot_blocks} blocks, target half-width "
        f"{stages.target_half_width:.2%}, at most {stages.max_blocks} blocks"
    )
    print("  board                   blocks   coverage   bias      half-width  limited by step")
    for name, campaign in PERSONALITIES.items():
        estimates = simulate_two_stage(campaign, stages, n, seed=1)
        bias = np.mean([e.ratio for e in estimates]) / campaign.truth - 1
        print(
            f"  {name:23s} {np.mean([e.log_mean.n_blocks for e in estimates]):6.1f} "
            f"{coverage(estimates, campaign.truth):10.1%} {bias:+9.3%} "
            f"{np.median([math.expm1(e.half_width) for e in estimates]):11.2%} "
            f"{np.mean([e.resolution_limited for e in estimates]):12.1%}",
            flush=True,
        )


def alike_blocks(n: int) -> None:
    """First-order autoregressive blocks: three intervals, and the one that is used."""
    print("\nneighbouring blocks with lag-1 correlation r, s.d. of a block 1.45 %; coverage")
    print("     r   target  blocks   Stein   neighbours merged above 2/sqrt(K)   widened (used)")
    rng, sd, most = np.random.default_rng(7), 0.0145, 100
    for r in (0.0, 0.3, 0.5):
        for target in (0.01, 0.005):
            held, blocks = np.zeros(3), 0
            for _ in range(n):
                values = autoregressive(rng, r, most) * sd
                k = second_stage_blocks([values[:10].tolist()], target, 10, most)
                used = two_stage_mean(values[:k].tolist(), 10)
                merged = merged_half_width(values[:k], used.stein_half_width)
                held += abs(used.centre) <= np.array(
                    [used.stein_half_width, merged, used.half_width]
                )
                blocks += k
            stein, merged_share, widened = held / n
            print(
                f"  {r:4.1f} {target:8.1%} {blocks / n:7.1f} {stein:7.1%} {merged_share:21.1%} "
                f"{widened:30.1%}",
                flush=True,
            )


def autoregressive(rng: np.random.Generator, r: float, n: int) -> np.ndarray:
    values = rng.standard_normal(n)
    for i in range(1, n):
        values[i] = r * values[i - 1] + math.sqrt(1 - r * r) * values[i]
    return values


def merged_half_width(values: np.ndarray, stein: float) -> float:
    """Neighbours averaged two by two (three at the end) where they are alike; never narrower."""
    n = len(values)
    if (lag1_autocorrelation(values.tolist()) or 0.0) <= 2 / math.sqrt(n):
        return stein
    starts = np.arange(0, n - 1, 2)
    means = np.add.reduceat(values, starts) / np.diff(np.append(starts, n))
    return max(stein, two_stage_mean(means.tolist(), len(means)).stein_half_width)


def comparisons(n: int) -> None:
    print("\ncomparisons of a given length (`bacmac compare`), the noise known")
    print("  step   noise  drift  blocks   coverage   bias      half-width  limited by step")
    for step_mw, noise_mw, drift, blocks in (
        (12, 20, True, 6),
        (12, 20, True, 10),
        (12, 20, True, 12),
        (12, 20, True, 20),
        (12, 20, True, 30),
        (53, 20, True, 12),
        (106, 20, True, 12),
        (106, 20, False, 12),
        (106, 40, True, 12),
    ):
        quiet = {} if drift else {"warm_up_w": 0.0, "ambient_w": 0.0}
        campaign = Campaign(blocks=blocks, step_w=step_mw * 1e-3, noise_w=noise_mw * 1e-3, **quiet)
        estimates = simulate(campaign, n, seed=1)
        bias = np.mean([e.ratio for e in estimates]) / campaign.truth - 1
        half = np.median([e.smallest_difference for e in estimates])
        limited = np.mean([e.resolution_limited for e in estimates])
        print(
            f"{step_mw:4d} mW {noise_mw:4d} mW  {'yes' if drift else 'no ':3s} {blocks:6d} "
            f"{coverage(estimates, campaign.truth):10.1%} {bias:+9.3%} {half:11.2%} {limited:12.0%}"
        )


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:2]))
