"""Whole journals of made runs, in no time: for what reads a campaign and not its physics."""

from __future__ import annotations

from pathlib import Path

from made_runs import BOARD, INT, made_run

from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.plan import CampaignPlan
from bacmac.power.campaign.run import Finding
from bacmac.power.rails import RailInfo

ACCURACY = {"n_images": 64, "n_correct": 60, "n_verified": 2}


def made_journal(
    path: Path,
    plan: CampaignPlan,
    *,
    blocks: int = 4,
    seed: int = 0,
    emulated: bool = True,
    faults: int = 0,
    rails: tuple[RailInfo, ...] = (INT, BOARD),
) -> Path:
    """A complete campaign.

    Args:
        path: of the journal.
        plan: of the campaign.
        blocks: main blocks of each cell.
        seed: of the samples.
        emulated: whether the runs are.
        rails: that every run has read.
        faults: so many first attempts have a run that check 3 finds invalid.
    """
    invalid = Finding(3, "invalidate", "INT", "a gap of 140 ms; 100 ms allowed")
    with Journal.create(path, plan) as journal:
        for cell in plan.cells:
            journal.fix_blocks(cell.index, blocks)
        while owed := journal.owed():
            key = owed[0]
            journal.begin(key, "boot-1")
            found = (invalid,) if faults and key.attempt == 0 and key.position == 1 else ()
            faults -= bool(found)
            journal.finish(made_run(key, seed=seed, emulated=emulated, rails=rails), found)
        journal.store_fact("accuracy", {arm.name: ACCURACY for arm in plan.arms})
        journal.store_fact("guard_s", 0.5)
        journal.note_findings((Finding(19, "warn", "cell 0", "3 blocks; 10 wanted"),))
        journal.event("campaign is done")
    return path
