"""Print how long a night in a journal takes to write, read, verify, analyse and export.

    python -P tests/benchmarks/journal_speed.py [hours] [rails] [samples a second]

By default 8 hours of ten rails at 50 samples a second each, in runs of 26 s (5 s idle, 1 s warm-up,
15 s, 5 s idle), made up of noise. Reading, verifying and analysing each have a process of their own
that starts with the journal closed; its memory is the most that it had resident (getrusage(2)),
with Python, NumPy and bacmac themselves in it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from journal_durability import small_plan
from made_runs import BOARD, INT, made_run

from bacmac.power.campaign.analysis import analyse_campaign
from bacmac.power.campaign.export import export_journal
from bacmac.power.campaign.journal import Journal, verify_journal
from bacmac.power.campaign.plan import CampaignPlan, Cell, Design

RUN_S = 26
COLUMNS = 4


def main(hours: float = 8, n_rails: int = 10, hz: int = 50) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "night.journal"
        blocks = round(hours * 3600 / RUN_S / 2)
        plan = replace(
            small_plan(folder),
            cells=(Cell(0, 16, None),),
            design=Design(aa_blocks=0, pilot_blocks=10, max_blocks=blocks),
        )
        samples = hz * RUN_S
        _in_own_process("written", lambda to: _write(to, plan, blocks, n_rails, samples), path)
        n = blocks * 2 * RUN_S * hz * n_rails
        size = path.stat().st_size
        print(f"{n / 1e6:.1f} million samples, {size / 1e6:.0f} MB: {size / n:.1f} bytes each")
        for what, work in (
            ("every sample decoded", _decode),
            ("verified", _verify),
            ("analysed", _analyse),
            ("exported as CSV", _export),
        ):
            _in_own_process(what, work, path)


def _write(path: Path, plan: CampaignPlan, blocks: int, n_rails: int, samples: int) -> str:
    rails = tuple(replace((INT, BOARD)[i % 2], name=f"rail{i}") for i in range(n_rails))
    seconds = []
    with Journal.create(path, plan) as journal:
        journal.fix_blocks(0, blocks)
        for key in journal.owed():
            run = made_run(key, samples=samples, rails=rails)
            start = time.perf_counter()
            journal.begin(key, "boot")
            journal.finish(run)
            if key.position == 1:
                journal.checkpoint()
            seconds.append(time.perf_counter() - start)
    seconds.sort()
    middle, late = (seconds[len(seconds) * share // 100] * 1e3 for share in (50, 99))
    return (
        f"a run of {RUN_S} s stored in {middle:.0f} ms (99 %: {late:.0f} ms, "
        f"most {seconds[-1] * 1e3:.0f} ms)"
    )


def _decode(path: Path) -> str:
    n = 0
    with Journal.open(path) as journal:
        for run in journal.runs():
            n += sum(len(rail.times_ns) for rail in run.record.trace.rails.values())
    return f"{n / 1e6:.1f} million in {COLUMNS} columns"


def _verify(path: Path) -> str:
    return f"{len(verify_journal(path))} faults"


def _analyse(path: Path) -> str:
    with Journal.open(path) as journal:
        analyse_campaign(journal)
    return "every rail, ratio and energy"


def _export(path: Path) -> str:
    with Journal.open(path) as journal:
        export_journal(journal, path.parent / "csv", "csv")
    return f"{(path.parent / 'csv' / 'samples.csv').stat().st_size / 1e6:.0f} MB"


def _in_own_process(what: str, work: Callable[[Path], str], path: Path) -> None:
    child = os.fork()
    if child == 0:
        start = time.perf_counter()
        said = work(path)
        seconds = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(
            f"{what:22s} {seconds:6.1f} s ({used.ru_utime + used.ru_stime:.1f} s of a processor), "
            f"{used.ru_maxrss / 1024:4.0f} MB resident: {said}",
            flush=True,
        )
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"{what}: failed, see above")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:4]))
