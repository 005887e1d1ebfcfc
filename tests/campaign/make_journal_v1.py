"""Make journal_v1.sql: a journal as version 1 had it, for the test of the steps that follow.

    python -P tests/campaign/make_journal_v1.py

Two made-up runs and a finding, in the tables of the first step alone. It is made again only where
the documents in it (a plan, a run) can no longer be read without a step of their own.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from journal_durability import small_plan
from made_runs import made_run

from bacmac.power.campaign.blobs import sha256
from bacmac.power.campaign.documents import to_text
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.run import Finding
from bacmac.power.campaign.schema import APPLICATION_ID, STEPS

TARGET = Path(__file__).with_name("journal_v1.sql")
TABLES = ("campaign", "cell", "planned_order", "run", "rail", "sample", "finding")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the paths of models, which are stored, are then the same everywhere
        path = Path("night.journal")
        with Journal.create(path, small_plan(Path())) as journal:
            for key in journal.owed()[:2]:
                journal.begin(key, "boot")
                warning = Finding(7, "warn", "INT", "the step covers the noise")
                journal.finish(made_run(key, samples=8), (warning,))
        old = sqlite3.connect(":memory:", isolation_level=None)
        STEPS[0](old)
        old.execute("ATTACH ? AS today", (str(path),))
        for table in TABLES:
            names = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
            old.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM today.{table}")
        old.execute("DETACH today")
        _forget_place_and_time(old)
        pragmas = f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = 1;\n"
        TARGET.write_text(pragmas + "\n".join(old.iterdump()) + "\n", encoding="utf-8")
        old.close()


def _forget_place_and_time(db: sqlite3.Connection) -> None:
    """Made twice, the text is the same."""
    document = json.loads(db.execute("SELECT document FROM campaign").fetchone()[0])
    document |= {"made_with": {"bacmac": "0.1.0"}, "created_wall_ns": 10**18}
    document["images_source"] = Path(document["images_source"]).name
    text = to_text(document)
    db.execute("UPDATE campaign SET document = ?, sha256 = ?", (text, sha256(text.encode())))
    db.execute("UPDATE run SET begun_wall_ns = 1, ended_wall_ns = 2 WHERE state = 'done'")


if __name__ == "__main__":
    main()
