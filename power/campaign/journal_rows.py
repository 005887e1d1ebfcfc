"""Changes of a journal's rows, each within a transaction of the caller's."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from bacmac.power.campaign.plan import CampaignPlan, Stage, block_order
from bacmac.power.campaign.run import Finding

BlockAt = tuple[int, Stage, int, int]
"""Cell, stage, block, attempt."""
BLOCK = "cell = ? AND stage = ? AND block = ? AND attempt = ?"


def plan_all(db: sqlite3.Connection, plan: CampaignPlan) -> None:
    """Fix the order of every block that may be made, and plan A/A and pilot.

    The order is stored and never computed again: a later NumPy may shuffle otherwise.
    """
    design = plan.design
    for cell in plan.cells:
        db.execute("INSERT INTO cell (cell) VALUES (?)", (cell.index,))
        stages: tuple[tuple[Stage, int, int], ...] = (
            ("aa", design.aa_blocks, design.aa_blocks),
            ("main", design.max_blocks, design.pilot_blocks),
        )
        for stage, possible, planned in stages:
            for block in range(possible):
                order = block_order(plan, cell.index, stage, block)
                db.executemany(
                    "INSERT INTO planned_order (cell, stage, block, position, arm)"
                    " VALUES (?, ?, ?, ?, ?)",
                    [(cell.index, stage, block, *place) for place in enumerate(order)],
                )
            for block in range(planned):
                plan_attempt(db, (cell.index, stage, block, 0))


def plan_attempt(db: sqlite3.Connection, block: BlockAt) -> None:
    """Plan every run of an attempt, in the stored order."""
    db.execute(
        "INSERT INTO run (cell, stage, block, attempt, position, arm, state)"
        " SELECT cell, stage, block, ?, position, arm, 'planned' FROM planned_order"
        " WHERE cell = ? AND stage = ? AND block = ?",
        (block[3], *block[:3]),
    )


def invalidate_block(
    db: sqlite3.Connection, block: BlockAt, reason: str, *, running: str = ""
) -> None:
    """Make an attempt invalid and plan the next; runs of it that were never begun go.

    Where no reason is given it is the findings': a run's own, else those of the whole block, else
    that another run of the block was invalid.

    Args:
        db: in a transaction.
        block: the attempt.
        reason: of every run, or "".
        running: reason of a run that was still running, or "".

    Raises:
        ValueError: none of its runs is running or done.
    """
    made = db.execute(
        f"SELECT position, state FROM run WHERE {BLOCK} AND state IN ('running', 'done')", block
    ).fetchall()
    if not made:
        raise ValueError(f"no run of {block} is running or done")
    found = db.execute(
        "SELECT DISTINCT position, check_number FROM finding"
        f" WHERE level <> 'warn' AND {BLOCK} ORDER BY check_number",
        block,
    ).fetchall()
    whole = [number for place, number in found if place is None]
    for position, state in made:
        own = [number for place, number in found if place == position] or whole
        checks = f"check {', '.join(map(str, own))}" if own else "block"
        why = (running if state == "running" else "") or reason or checks
        db.execute(
            "UPDATE run SET state = 'invalid', reason = ?,"
            f" ended_wall_ns = coalesce(ended_wall_ns, ?) WHERE {BLOCK} AND position = ?",
            (why, time.time_ns(), *block, position),
        )
    db.execute(f"DELETE FROM run WHERE {BLOCK} AND state = 'planned'", block)
    plan_attempt(db, (*block[:3], block[3] + 1))


def insert_findings(
    db: sqlite3.Connection, findings: Sequence[Finding], about: tuple[object, ...]
) -> None:
    """Keep findings with the place that they speak of, six columns from cell to arm."""
    db.executemany(
        "INSERT INTO finding (check_number, level, subject, text, cell, stage, block, attempt,"
        " position, arm) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(f.check, f.level, f.subject, f.text, *about) for f in findings],
    )


def insert_event(db: sqlite3.Connection, text: str) -> None:
    """Keep a sentence with the time."""
    db.execute("INSERT INTO event (wall_ns, text) VALUES (?, ?)", (time.time_ns(), text))
