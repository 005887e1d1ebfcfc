"""Print how often 95 % intervals hold the truth, over thousands of simulated comparisons.

    python -P tests/benchmarks/coverage_of_intervals.py [campaigns]

Run by run (`bacmac.power.simulation`). A coverage of 95 % has a standard error of 0.5 points at
2000 campaigns. Steps are those of V x I: 12 mW for the 12V INA226, 106 mW for the ZCU104's INT.
"""

from __future__ import annotations

import sys

import numpy as np

from bacmac.power.simulation import Campaign, coverage, simulate


def main(n: int = 2000) -> None:
    print(f"{n} campaigns a row; true ratio {Campaign().truth:.3f}; nominal coverage 95 %")
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
