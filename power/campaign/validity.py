"""How many runs were planned, are valid, were repeated, and why others are invalid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bacmac.power.campaign.journal import RunState
from bacmac.power.campaign.plan import Stage

SAME_BLOCK = "block"
"""Reason of a run that is invalid because another run of its block is."""


@dataclass(frozen=True)
class ValidityRow:
    """Runs of one arm in one stage of one cell.

    Attributes:
        cell, stage, arm: which runs.
        planned: by the plan, each once.
        valid: done and used.
        repeated: made again because the block before was invalid.
        owed: not made yet.
        invalid: number by reason; `SAME_BLOCK` where another run of the block was at fault.
    """

    cell: int
    stage: Stage
    arm: str
    planned: int
    valid: int
    repeated: int
    owed: int
    invalid: Mapping[str, int]

    @property
    def n_invalid(self) -> int:
        """Runs that are invalid for whatever reason."""
        return sum(self.invalid.values())

    @property
    def own_invalid(self) -> int:
        """Runs at fault themselves; a check that fires in one arm only would bias a ratio."""
        return self.n_invalid - self.invalid.get(SAME_BLOCK, 0)


def validity_table(states: Iterable[RunState]) -> tuple[ValidityRow, ...]:
    """One row a cell, stage and arm, in the order in which they first come."""
    groups: dict[tuple[int, Stage, str], list[RunState]] = {}
    for state in states:
        key = state.key
        groups.setdefault((key.cell, key.stage, key.arm), []).append(state)
    return tuple(_row(*group, found) for group, found in groups.items())


def _row(cell: int, stage: Stage, arm: str, states: Sequence[RunState]) -> ValidityRow:
    by_state = Counter(state.state for state in states)
    reasons = Counter(state.reason for state in states if state.state == "invalid")
    # an attempt in which some runs were never begun has them again in the next
    planned = len({(state.key.block, state.key.position) for state in states})
    return ValidityRow(
        cell,
        stage,
        arm,
        planned,
        by_state["done"],
        sum(state.key.attempt > 0 for state in states),
        by_state["planned"] + by_state["running"],
        dict(sorted(reasons.items())),
    )


def reasons(rows: Iterable[ValidityRow]) -> tuple[str, ...]:
    """Every reason that occurs, those of runs themselves first."""
    found = sorted({reason for row in rows for reason in row.invalid})
    return tuple(sorted(found, key=lambda reason: reason == SAME_BLOCK))
