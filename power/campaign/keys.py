"""Runs and blocks in words."""

from __future__ import annotations

from bacmac.power.campaign.plan import RunKey


def same_block(key: RunKey, other: RunKey) -> bool:
    """Whether two runs are of one attempt at one block."""
    return (key.cell, key.stage, key.block, key.attempt) == (
        other.cell,
        other.stage,
        other.block,
        other.attempt,
    )


def block_text(key: RunKey) -> str:
    """Cell and block, counted from 1 as people count.

    >>> block_text(RunKey(0, "main", 2, 0, 1, "bac"))
    'cell 0 block 3'
    """
    what = "A/A block" if key.stage == "aa" else "block"
    return f"cell {key.cell} {what} {key.block + 1}"


def run_text(key: RunKey) -> str:
    """Block, attempt, run and arm."""
    return f"{block_text(key)} attempt {key.attempt + 1} run {key.position + 1} ({key.arm})"
