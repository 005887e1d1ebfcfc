"""`make bench`: every benchmark in turn; each prints ratios measured in its own run."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import runpy
import sys
from pathlib import Path

BENCHMARKS = (
    "packing_speed",
    "engine_speed",
    "stream_overhead",
    "rtl_speed",
    "accuracy",
    "imported_models",
    "recovery",
    "coverage_of_intervals",
    "coverage_on_the_emulated_board",
    "sampler_cost",
    "journal_durability",
    "journal_speed",
)


def main() -> None:
    """Run the named benchmarks, or all."""
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"\n== {name} ==", flush=True)
        sys.argv = [name]
        runpy.run_path(str(Path(__file__).with_name(f"{name}.py")), run_name="__main__")


if __name__ == "__main__":
    main()
