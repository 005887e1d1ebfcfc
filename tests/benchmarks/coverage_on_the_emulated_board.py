"""Print how often intervals hold the truth from samples of the emulated board to the ratio.

    python -P tests/benchmarks/coverage_on_the_emulated_board.py [campaigns]

The whole chain, sample by sample: driver, accelerator, emulated rails, windows, analysis. The truth
is the coefficient table's energy of the counted work, times the time of an inference. Slower than
`coverage_of_intervals`, which draws window means: about 0.3 s a campaign of 10 blocks.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from journal_durability import small_plan

from bacmac.host.device.registry import open_board
from bacmac.power.campaign.analysis import analyse_runs, summarize_run
from bacmac.power.campaign.measure import Measurer
from bacmac.power.campaign.plan import CampaignPlan, Design, block_keys
from bacmac.power.campaign.planned_power import emulated_powers, planned_rails
from bacmac.power.campaign.result import CampaignResult
from bacmac.power.campaign.surroundings import open_surroundings
from bacmac.power.coefficients import load_coefficients
from bacmac.power.sources import open_rails

BLOCKS = 10
RAIL = "12V"


def main(n: int = 200) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plan = small_plan(Path(folder))
    design = Design(run_s=4.0, idle_s=2.0, aa_blocks=0, pilot_blocks=BLOCKS, max_blocks=BLOCKS)
    plan = replace(plan, cells=plan.cells[:1], design=design, rail_names=(RAIL,))
    rails, _ = planned_rails(plan)
    (power,) = emulated_powers(plan, plan.cells[0], rails, load_coefficients())
    pair = plan.pairs[0]
    held, errors, halves = 0, [], []
    for seed in range(n):
        result = campaign(replace(plan, design=replace(design, seed=seed)))
        (ratio,) = result.headline()
        assert ratio.estimate is not None, ratio.reason
        time_s = {time.arm: time.time_s.centre for time in result.times}
        truth = power.watts[pair.numerator] * time_s[pair.numerator]
        truth /= power.watts[pair.denominator] * time_s[pair.denominator]
        held += ratio.estimate.low <= truth <= ratio.estimate.high
        errors.append(ratio.estimate.ratio / truth - 1)
        halves.append(ratio.estimate.half_width)
    print(
        f"{n} campaigns of {BLOCKS} blocks, runs of {design.run_s:g} s, "
        f"{power.watts[pair.numerator]:.2f} W over {power.watts[pair.denominator]:.2f} W on {RAIL} "
        f"(EMULATED)\n"
        f"coverage {held / n:.1%} (standard error {np.sqrt(0.0475 / n):.1%}), "
        f"half-width {np.median(halves):.2%}, "
        f"bias {np.mean(errors):+.2%} +- {np.std(errors, ddof=1) / np.sqrt(n):.2%}"
    )


def campaign(plan: CampaignPlan) -> CampaignResult:
    """One campaign on a board of its own."""
    board = open_board(plan.device)
    try:
        rails = open_rails(plan.rails, board, seed=plan.design.seed)
        measurer = Measurer(plan, board, rails, open_surroundings(board, rails))
        runs = [
            summarize_run(measurer.run(key, lambda _: None))
            for block in range(BLOCKS)
            for key in block_keys(plan, 0, "main", block)
        ]
    finally:
        board.close()
    return analyse_runs(plan, runs, {0: BLOCKS})


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:2]))
