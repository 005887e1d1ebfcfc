"""`kill -9` and power cuts, a few of each; tests/benchmarks/journal_durability.py does hundreds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "journal_durability.py"
MUST_BE_NONE = (
    *("lost", "changed", "faults", "blocks made twice", "blocks not made"),
    "partial or out of order",
)


def test_nothing_acknowledged_is_lost_by_kills_and_damaged_logs() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "20", "32", "7"], capture_output=True, text=True, check=True
    )

    counts = [line.strip().split(": ") for line in done.stdout.splitlines() if line[:2] == "  "]
    assert [name for name, n in counts if n != "0"] == []
    assert {name for name, _ in counts} == set(MUST_BE_NONE)
    assert done.stdout.startswith("20 kill -9 in ")
    assert "32 damaged logs (8 cut short, 8 zeroed, 8 garbage, 8 hole): 32 opened" in done.stdout
