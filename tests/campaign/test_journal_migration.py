"""A journal of an older version is brought up to date: whole or not at all, and nothing is lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from made_runs import made_run

from bacmac.host.errors import JournalError, OutputError
from bacmac.power.campaign import schema
from bacmac.power.campaign.journal import Journal, verify_journal
from bacmac.power.campaign.journal_file import hold
from bacmac.power.campaign.run import CampaignRun

VERSION_1 = Path(__file__).with_name("journal_v1.sql").read_text(encoding="utf-8")
"""Made by make_journal_v1.py: two A/A runs are done."""

SUMS = [
    [[6800, 10125, 8605500], [96002, 10004, 120050992]],
    [[6797, 10125, 8602125], [96001, 10028, 120336694]],
]
"""Of voltage, current and power of either rail in either run."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.journal"
    db = sqlite3.connect(path)
    db.executescript(VERSION_1)
    db.close()
    return path


def sums_of(run: CampaignRun) -> list[list[int]]:
    return [
        [int(column.sum()) for column in (rail.voltage_mv, rail.current_ma, rail.power_uw)]
        for rail in run.record.trace.rails.values()
    ]


def version_of(path: Path) -> int:
    db = sqlite3.connect(path)
    version = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    return int(version)


@pytest.mark.parametrize("write", [False, True])
def test_an_old_journal_is_brought_up_to_date_by_opening_it(old: Path, write: bool) -> None:
    with Journal.open(old, write=write) as journal:
        runs = list(journal.runs())
        assert [sums_of(run) for run in runs] == SUMS
        assert [run.key.arm for run in runs] == ["bac", "bac"]
        assert journal.plan.name == "durability"
        assert len(journal.findings()) == 2
        assert journal.facts() == {}
        assert journal.emulated

    assert version_of(old) == schema.VERSION
    assert verify_journal(old) == ()


def test_an_old_campaign_goes_on(old: Path) -> None:
    with Journal.open(old, write=True) as journal:
        key = journal.owed()[0]
        journal.begin(key, "boot")
        journal.finish(made_run(key, die=True))
        journal.event("resumed")

        assert len(list(journal.runs())) == 3
    assert verify_journal(old) == ()


def test_a_new_journal_and_an_old_one_have_the_same_tables(old: Path) -> None:
    Journal.open(old).close()
    new = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(new, 0)
    db = sqlite3.connect(old)
    query = "SELECT name, sql FROM sqlite_master ORDER BY name"

    assert db.execute(query).fetchall() == new.execute(query).fetchall()
    db.close()
    new.close()


def test_a_step_that_fails_leaves_the_old_version(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = schema.STEPS

    def step_that_fails(db: sqlite3.Connection) -> None:
        second(db)
        db.execute("SELECT nothing")

    with monkeypatch.context() as patched:
        patched.setattr(schema, "STEPS", (first, step_that_fails))
        with pytest.raises(sqlite3.OperationalError, match="nothing"):
            Journal.open(old)

    assert version_of(old) == 1
    Journal.open(old).close()
    assert verify_journal(old) == ()


def test_an_old_journal_that_is_held_is_not_changed(old: Path) -> None:
    lock = hold(old)
    with pytest.raises(OutputError, match="held by process"):
        Journal.open(old)
    lock.release()

    assert version_of(old) == 1


def test_a_later_version_is_refused_and_not_changed(old: Path) -> None:
    db = sqlite3.connect(old)
    db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()

    with pytest.raises(JournalError, match=f"expected 1 to {schema.VERSION}"):
        Journal.open(old, write=True)
    assert version_of(old) == schema.VERSION + 1
