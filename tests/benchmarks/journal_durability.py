"""Kill a writer at random moments, and damage the log as a power cut may; count what was lost.

    python -P tests/benchmarks/journal_durability.py [kills] [damaged logs] [seed]

Kills: processes carry out campaigns of made-up runs; each is ended by SIGKILL at a random moment,
and the next goes on where it was. A run is acknowledged when `finish` has returned and the process
has said so through a pipe. After each kill the journal must open, have no fault, and hold every
acknowledged run to the last bit; a block that was whole is never made again; and when a campaign is
done, each block has exactly one valid attempt.

Damaged logs: the write-ahead log after a run that was acknowledged is followed by what the next
run had written of it, damaged: cut short, zeroed, overwritten, or with a hole. The acknowledged
runs must all be there and the damaged one whole or not at all. In every second case the damage may
be anywhere in the log: then what is there must be the first so many runs, whole.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from made_runs import made_run, same_run

from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.pack.file import read_packed, write_packed
from bacmac.overlays.registry import load_overlay
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.plan import CampaignPlan, Cell, Design, Pair, PlannedArm, RunKey
from bacmac.power.campaign.run import Finding

EXAMPLE = Path(__file__).parents[2] / "host" / "example"
ARMS = (("bac", "bac-pot4e4", "pot-4e4"), ("mac", "mac-uniform4", "uniform-4"))
SAMPLES = 500
BAD = Finding(3, "invalidate", "12V", "made up")


def main(kills: int = 200, damaged: int = 300, seed: int = 0) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = small_plan(folder)
        for line in kill_writers(folder, plan, kills, seed):
            print(line, flush=True)
        for line in damage_logs(folder, plan, damaged, seed):
            print(line, flush=True)


def small_plan(folder: Path) -> CampaignPlan:
    """Two arms on the shipped network, two cells, 2 A/A blocks and 3 of the pilot in each."""
    model = load_model(EXAMPLE / "digits_cnn.json")
    images = load_images(EXAMPLE / "digits_calibration.npz", shape=model.input_shape)
    arms = []
    for arm, overlay, scheme in ARMS:
        file = folder / f"{arm}.safetensors"
        write_packed(file, compress(model, images, CompressOptions(scheme=scheme)))
        arms.append(PlannedArm(arm, load_overlay(overlay), read_packed(file)))
    return CampaignPlan(
        name="durability",
        text="",
        sha256="5a" * 32,
        board="made up",
        device="functional:",
        rails="emulated:",
        rail_names=(),
        images=images,
        arms=tuple(arms),
        cells=(Cell(0, 16, None), Cell(1, 32, None)),
        pairs=(Pair("mac", "bac", "shift"),),
        design=Design(aa_blocks=2, pilot_blocks=3, max_blocks=5),
        limits=Limits(),
    )


# ---- kill -9


def kill_writers(folder: Path, plan: CampaignPlan, kills: int, seed: int) -> Iterator[str]:
    """Kill until there were so many; then let the last campaign end. Says what was counted."""
    rng = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    while counts["kills"] < kills:
        path = folder / f"campaign-{counts['campaigns']}.journal"
        acknowledged: set[RunKey] = set()
        whole: dict[_Block, int] = {}
        done = False
        while not done:
            deadline_s = rng.uniform(0, 0.06) if counts["kills"] < kills else None
            killed, done = _write_until(path, plan, deadline_s, acknowledged)
            counts["kills"] += killed
            if path.exists():
                _look_through(path, acknowledged, whole, counts)
            else:
                counts["killed before the file was there"] += 1
        _look_at_end(path, counts)
        counts["campaigns"] += 1
        counts["acknowledged runs"] += len(acknowledged)
    yield f"{counts['kills']} kill -9 in {counts['campaigns']} campaigns, {_told(counts)}"
    for name in ("lost", "changed", "faults", "blocks made twice", "blocks not made"):
        yield f"  {name}: {counts[name]}"


def _write_until(
    path: Path, plan: CampaignPlan, deadline_s: float | None, acknowledged: set[RunKey]
) -> tuple[bool, bool]:
    """Let a process write until it ends or is killed; whether it was killed, and was done."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            _write(path, plan, writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    if deadline_s is not None:
        time.sleep(deadline_s)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        acknowledged |= {RunKey(*json.loads(line)) for line in pipe.read().split("\n")[:-1]}
    status = os.waitpid(child, 0)[1]
    killed = os.WIFSIGNALED(status)
    if not killed and os.WEXITSTATUS(status):
        raise SystemExit("a writer failed by itself, see above")
    return killed, not killed


def _write(path: Path, plan: CampaignPlan, pipe: int) -> None:
    """What an executor does, with made-up runs; every seventh is invalid at its first attempt."""
    journal = Journal.open(path, write=True) if path.exists() else Journal.create(path, plan)
    with journal:
        journal.note_crash("boot")
        while True:
            owed = journal.owed()
            if not owed:
                open_cells = [c.index for c in plan.cells if journal.main_blocks(c.index) is None]
                if not open_cells:
                    return
                journal.fix_blocks(open_cells[0], 5)
                continue
            key = owed[0]
            journal.begin(key, "boot")
            bad = key.attempt == 0 and (key.block + key.position) % 7 == 3
            journal.finish(made_run(key, samples=SAMPLES), (BAD,) if bad else ())
            os.write(pipe, (json.dumps(astuple(key)) + "\n").encode())
            if key.position == len(plan.arms) - 1:
                journal.checkpoint()


_Block = tuple[object, ...]


def _look_through(
    path: Path, acknowledged: set[RunKey], whole: dict[_Block, int], counts: Counter[str]
) -> None:
    """Compare a journal with what was acknowledged, and with the blocks that were whole before."""
    counts["times opened"] += 1
    with Journal.open(path) as journal:
        counts["faults"] += len(journal.faults())
        stored = {run.key: run for run in journal.runs(valid_only=False)}
        now = _whole_blocks(journal)
    for key in acknowledged:
        if key not in stored:
            counts["lost"] += 1
        elif not same_run(stored[key], made_run(key, samples=SAMPLES)):
            counts["changed"] += 1
    counts["blocks made twice"] += sum(
        now.get(block) != attempt for block, attempt in whole.items()
    )
    whole |= now


def _whole_blocks(journal: Journal) -> dict[_Block, int]:
    """Attempt of each block of which every run is valid."""
    done = Counter(
        (state.key.cell, state.key.stage, state.key.block, state.key.attempt)
        for state in journal.states()
        if state.state == "done"
    )
    return {
        (cell, stage, block): attempt for (cell, stage, block, attempt), n in done.items() if n == 2
    }


def _look_at_end(path: Path, counts: Counter[str]) -> None:
    """Every block of both cells must have one valid attempt, whole."""
    with Journal.open(path) as journal:
        counts["blocks not made"] += 2 * (2 + 5) - len(_whole_blocks(journal))
        valid = Counter(
            (state.key.cell, state.key.stage, state.key.block, state.key.position)
            for state in journal.states()
            if state.state == "done"
        )
        counts["blocks made twice"] += sum(n > 1 for n in valid.values())
        counts["invalid runs"] += sum(state.state == "invalid" for state in journal.states())


# ---- damaged logs


def damage_logs(folder: Path, plan: CampaignPlan, cases: int, seed: int) -> Iterator[str]:
    """Damage so many logs. Says what was counted."""
    rng = np.random.default_rng([seed, 1])
    images = _images_of_logs(folder, plan)
    counts: Counter[str] = Counter()
    for case in range(cases):
        _one_damage(folder / "damaged.journal", images, case, rng, counts)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in _KINDS)
    yield (
        f"{cases} damaged logs ({kinds}): {counts['opened']} opened, "
        f"{counts['behind them']} damaged behind the acknowledged runs, of which "
        f"{counts['with the next run']} hold the next run too, whole"
    )
    for name in ("lost", "changed", "partial or out of order", "faults"):
        yield f"  {name}: {counts[name]}"


_KINDS = ("cut short", "zeroed", "garbage", "hole")


def _images_of_logs(folder: Path, plan: CampaignPlan) -> list[tuple[bytes, bytes, list[RunKey]]]:
    """File, log, and keys of the runs that are in them, after each of eight runs."""
    path = folder / "source.journal"
    images = []
    with Journal.create(path, plan) as journal:
        keys = list(journal.owed()[:8])
        for n, key in enumerate(keys, 1):
            journal.begin(key, "boot")
            journal.finish(made_run(key, samples=SAMPLES))
            log = path.with_name(path.name + "-wal").read_bytes()
            images.append((path.read_bytes(), log, keys[:n]))
    return images


def _one_damage(
    path: Path,
    images: list[tuple[bytes, bytes, list[RunKey]]],
    case: int,
    rng: np.random.Generator,
    counts: Counter[str],
) -> None:
    before = int(rng.integers(0, len(images) - 1))
    (file, log, keys), (_, longer, _) = images[before], images[before + 1]
    assert longer.startswith(log)
    kind, anywhere = _KINDS[case % len(_KINDS)], case // len(_KINDS) % 2 == 1
    counts[kind] += 1
    start = int(rng.integers(0 if anywhere else len(log), len(longer)))
    end = int(rng.integers(start + 1, len(longer) + 1))
    path.write_bytes(file)
    path.with_name(path.name + "-wal").write_bytes(_damaged(longer, kind, start, end, rng))

    with Journal.open(path, write=True) as journal:
        counts["opened"] += 1
        counts["faults"] += len(journal.faults())
        stored = list(journal.runs())
        found = [run.key for run in stored]
        counts["changed"] += sum(
            not same_run(run, made_run(run.key, samples=SAMPLES)) for run in stored
        )
        if found != images[-1][2][: len(found)]:
            counts["partial or out of order"] += 1
        if not anywhere:
            counts["behind them"] += 1
            counts["lost"] += len(set(keys) - set(found))
            counts["with the next run"] += len(found) > len(keys)
    for beside in path.parent.glob(path.name + "*"):
        beside.unlink()


def _damaged(log: bytes, kind: str, start: int, end: int, rng: np.random.Generator) -> bytes:
    if kind == "cut short":
        return log[:start]
    if kind == "zeroed":
        return log[:start] + bytes(len(log) - start)
    if kind == "garbage":
        return log[:start] + rng.bytes(end - start) + log[end:]
    return log[:start] + bytes(end - start) + log[end:]


def _told(counts: Counter[str]) -> str:
    names = (
        "acknowledged runs",
        "invalid runs",
        "times opened",
        "killed before the file was there",
    )
    return ", ".join(f"{name} {counts[name]}" for name in names)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:4]))
