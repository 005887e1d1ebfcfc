"""Runs are counted once, by arm and by reason."""

from __future__ import annotations

from pathlib import Path

from made_campaigns import made_journal

from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.plan import CampaignPlan, RunKey
from bacmac.power.campaign.stored import RunState
from bacmac.power.campaign.validity import SAME_BLOCK, reasons, validity_table


def state(block: int, attempt: int, arm: str, word: str, reason: str = "") -> RunState:
    key = RunKey(0, "main", block, attempt, 0 if arm == "bac" else 1, arm)
    return RunState(key, word, reason, None, None, None)  # type: ignore[arg-type]


def test_a_repeated_block_counts_once_as_planned_and_its_runs_as_invalid() -> None:
    rows = validity_table(
        [
            state(0, 0, "bac", "done"),
            state(0, 0, "mac8", "done"),
            state(1, 0, "bac", "invalid", "check 3"),
            state(1, 0, "mac8", "invalid", SAME_BLOCK),
            state(1, 1, "bac", "done"),
            state(1, 1, "mac8", "done"),
            state(2, 0, "bac", "planned"),
            state(2, 0, "mac8", "planned"),
        ]
    )

    bac, mac = rows
    assert (bac.planned, bac.valid, bac.repeated, bac.owed) == (3, 2, 1, 1)
    assert (bac.n_invalid, bac.own_invalid, dict(bac.invalid)) == (1, 1, {"check 3": 1})
    assert (mac.n_invalid, mac.own_invalid) == (1, 0)
    assert reasons(rows) == ("check 3", SAME_BLOCK)


def test_every_run_of_a_journal_is_in_the_table(small_plan: CampaignPlan, tmp_path: Path) -> None:
    made_journal(tmp_path / "j.journal", small_plan, faults=2)
    with Journal.open(tmp_path / "j.journal") as journal:
        states = journal.states()

    rows = validity_table(states)

    assert sum(row.valid + row.n_invalid + row.owed for row in rows) == len(states)
    assert sum(row.planned for row in rows) == 2 * 2 + 3 * 4
    assert sum(row.valid for row in rows) == 2 * 2 + 3 * 4
    assert sum(row.own_invalid for row in rows) == 2
    # two runs an A/A attempt, and all that was invalid was made again
    assert sum(row.repeated for row in rows) == sum(row.n_invalid for row in rows)
