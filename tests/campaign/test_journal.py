"""A journal gives back what was stored, to the last bit, and knows what is owed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import made_run, same_run

from bacmac.host.errors import JournalError, MismatchError, OutputError
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.plan import CampaignPlan, RunKey, block_keys
from bacmac.power.campaign.run import Finding

BAD = Finding(3, "invalidate", "12V", "90 % of the samples; 98 % are needed")
WARN = Finding(7, "warn", "INT", "the step covers the noise")


@pytest.fixture
def journal(tmp_path: Path, small_plan: CampaignPlan) -> Iterator[Journal]:
    with Journal.create(tmp_path / "night.journal", small_plan) as made:
        yield made


def make(journal: Journal, key: RunKey, **findings: tuple[Finding, ...]) -> None:
    journal.begin(key, "boot")
    journal.finish(made_run(key), **findings)


def make_block(journal: Journal) -> None:
    first = journal.owed()[0]
    for key in journal.owed():
        if replace(key, position=0, arm="") == replace(first, position=0, arm=""):
            make(journal, key)


def states_of(journal: Journal, block: int, attempt: int) -> list[tuple[str, str]]:
    return [
        (s.state, s.reason)
        for s in journal.states()
        if (s.key.stage, s.key.block, s.key.attempt) == ("aa", block, attempt)
    ]


def test_a_new_journal_owes_a_a_and_pilot_in_the_planned_order(
    journal: Journal, small_plan: CampaignPlan
) -> None:
    expected = [key for block in range(2) for key in block_keys(small_plan, 0, "aa", block)]
    expected += [key for block in range(3) for key in block_keys(small_plan, 0, "main", block)]

    assert list(journal.owed()) == expected
    assert {state.state for state in journal.states()} == {"planned"}


def test_the_plan_comes_back_whole(
    journal: Journal, small_plan: CampaignPlan, tmp_path: Path
) -> None:
    with Journal.open(tmp_path / "night.journal") as again:
        assert again.plan == journal.plan
        assert again.plan_text == small_plan.text
        assert again.plan_sha256 == small_plan.sha256
        assert again.design == small_plan.design
        assert again.limits == small_plan.limits
        assert again.cells == small_plan.cells
        assert again.pairs == small_plan.pairs
        assert [arm.weight_bits for arm in again.arms] == [4, 4, 8]
        assert [arm.model_sha256 for arm in again.arms] == [
            arm.model.sha256 for arm in small_plan.arms
        ]
        assert all(row.item for ledger in again.plan.ledgers for row in ledger)
        assert again.emulated


def test_a_run_comes_back_to_the_last_bit(journal: Journal) -> None:
    key = journal.owed()[0]
    run = replace(made_run(key, die=True), read_errors=3, sampler_share_run=0.1 + 0.2)
    journal.begin(key, "boot")
    journal.finish(run)

    (stored,) = journal.runs()
    assert same_run(stored, run)
    assert stored.sampler_share_run == 0.1 + 0.2


def test_runs_come_in_the_order_of_the_campaign(journal: Journal) -> None:
    keys = journal.owed()
    make_block(journal)
    make_block(journal)
    make_block(journal)

    assert [run.key for run in journal.runs()] == list(keys[:7])
    assert [run.key for run in journal.runs(stage="main")] == list(keys[4:7])
    assert list(journal.runs(cell=1)) == []


def test_an_invalid_run_invalidates_its_block_and_plans_it_again(journal: Journal) -> None:
    make_block(journal)
    first, second = journal.owed()[:2]
    make(journal, first, findings=(BAD, WARN))

    assert states_of(journal, 1, 0) == [("invalid", "check 3")]
    assert journal.owed()[:2] == (replace(first, attempt=1), replace(second, attempt=1))
    assert [found.finding for found in journal.findings()] == [BAD, WARN]
    assert {found.position for found in journal.findings()} == {0}


def test_invalid_runs_keep_their_data(journal: Journal) -> None:
    first = journal.owed()[0]
    make(journal, first, findings=(BAD,))

    assert list(journal.runs()) == []
    (kept,) = journal.runs(valid_only=False)
    assert same_run(kept, made_run(first))


def test_reasons_name_the_run_that_was_at_fault(journal: Journal) -> None:
    first, second = journal.owed()[:2]
    make(journal, first)
    make(journal, second, findings=(BAD,))

    assert states_of(journal, 0, 0) == [("invalid", "block"), ("invalid", "check 3")]


def test_a_block_finding_is_the_reason_of_all_its_runs(journal: Journal) -> None:
    first, second = journal.owed()[:2]
    make(journal, first)
    make(journal, second, block_findings=(Finding(14, "invalidate", "", "4 degrees apart"),))

    assert states_of(journal, 0, 0) == [("invalid", "check 14")] * 2
    assert journal.findings()[0].arm is None


def test_a_warning_leaves_the_block_valid(journal: Journal) -> None:
    first, second = journal.owed()[:2]
    make(journal, first, findings=(WARN,))
    make(journal, second)

    assert states_of(journal, 0, 0) == [("done", "")] * 2


def test_an_interrupted_block_is_dropped_with_its_reason(journal: Journal) -> None:
    first, second = journal.owed()[:2]
    make(journal, first)
    journal.begin(second, "boot")
    journal.invalidate(0, "aa", 0, 0, (), reason="interrupted")

    assert states_of(journal, 0, 0) == [("invalid", "interrupted")] * 2
    assert states_of(journal, 0, 1) == [("planned", "")] * 2


def test_a_block_that_was_never_begun_cannot_be_invalidated(journal: Journal) -> None:
    with pytest.raises(ValueError, match="is running or done"):
        journal.invalidate(0, "main", 1, 0, (BAD,))

    assert journal.findings() == ()


def test_states_go_one_way(journal: Journal) -> None:
    key = journal.owed()[0]
    with pytest.raises(ValueError, match="is planned, not running"):
        journal.finish(made_run(key))
    journal.begin(key, None)
    with pytest.raises(ValueError, match="is running, not planned"):
        journal.begin(key, None)
    journal.finish(made_run(key))
    with pytest.raises(ValueError, match="is done, not running"):
        journal.finish(made_run(key))
    with pytest.raises(ValueError, match="is not there"):
        journal.begin(replace(key, block=99), None)

    assert len(list(journal.runs())) == 1


def test_after_a_crash_the_block_is_made_again_as_a_whole(journal: Journal) -> None:
    make_block(journal)
    first, second = journal.owed()[:2]
    make(journal, first)
    journal.begin(second, "boot")

    assert journal.note_crash("another") == (first, second)
    assert states_of(journal, 0, 0) == [("done", "")] * 2
    assert states_of(journal, 1, 0) == [("invalid", "interrupted"), ("invalid", "crash")]
    assert journal.owed()[:2] == (replace(first, attempt=1), replace(second, attempt=1))
    assert "resumed in another boot" in journal.events()[0].text


def test_a_crash_between_two_runs_of_a_block_breaks_it_too(journal: Journal) -> None:
    first = journal.owed()[0]
    make(journal, first)

    assert journal.note_crash("boot") == (first,)
    assert states_of(journal, 0, 0) == [("invalid", "interrupted")]


def test_a_crash_between_two_blocks_costs_nothing(journal: Journal) -> None:
    make_block(journal)

    assert journal.note_crash("boot") == ()
    assert states_of(journal, 0, 0) == [("done", "")] * 2


def test_the_second_stage_is_fixed_once(journal: Journal, small_plan: CampaignPlan) -> None:
    assert journal.main_blocks(0) is None
    with pytest.raises(ValueError, match="3 to 6"):
        journal.fix_blocks(0, 2)
    journal.fix_blocks(0, 5)
    journal.fix_blocks(0, 5)
    with pytest.raises(ValueError, match="fixed at 5"):
        journal.fix_blocks(0, 6)

    assert journal.main_blocks(0) == 5
    assert journal.owed()[-3:] == block_keys(small_plan, 0, "main", 4)


def test_the_whole_campaign_can_be_made(journal: Journal) -> None:
    journal.fix_blocks(0, 6)
    while journal.owed():
        make_block(journal)
        journal.checkpoint()

    assert len(list(journal.runs())) == 2 * 2 + 6 * 3


def test_facts_results_and_events_are_kept(journal: Journal) -> None:
    journal.store_fact("guard_s", 0.5)
    journal.store_fact("guard_s", 1.1)
    journal.store_result({"ratio": 0.1 + 0.2})
    journal.store_result({"ratio": 1 / 3})
    journal.event("begun")
    journal.note_findings((WARN,))

    assert journal.facts() == {"guard_s": 1.1}
    assert journal.result() == {"ratio": 1 / 3}
    assert [event.text for event in journal.events()] == ["begun"]
    assert journal.findings()[0].cell is None


def test_not_a_number_is_never_stored(journal: Journal) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.store_fact("x", float("nan"))


def test_another_plan_is_refused(journal: Journal, small_plan: CampaignPlan) -> None:
    journal.check_plan(small_plan)

    with pytest.raises(MismatchError, match="have changed since"):
        journal.check_plan(replace(small_plan, sha256="00" * 32))


def test_an_existing_file_is_never_replaced(
    journal: Journal, small_plan: CampaignPlan, tmp_path: Path
) -> None:
    journal.close()
    before = (tmp_path / "night.journal").read_bytes()

    with pytest.raises(OutputError, match="campaign resume"):
        Journal.create(tmp_path / "night.journal", small_plan)
    assert (tmp_path / "night.journal").read_bytes() == before


def test_a_log_left_by_another_journal_is_never_taken_over(
    small_plan: CampaignPlan, tmp_path: Path
) -> None:
    (tmp_path / "new.journal-wal").write_bytes(b"of another")

    with pytest.raises(OutputError, match="belonged to another journal"):
        Journal.create(tmp_path / "new.journal", small_plan)


def test_readers_read_while_it_is_written(journal: Journal, tmp_path: Path) -> None:
    make_block(journal)
    with Journal.open(tmp_path / "night.journal") as reader:
        assert len(list(reader.runs())) == 2
        make_block(journal)

        assert len(list(reader.runs())) == 4
        with pytest.raises(OutputError, match="read-only"):
            reader.event("from a reader")


def test_a_second_writer_is_told_who_the_first_is(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"held by process \d+ of "):
        Journal.open(tmp_path / "night.journal", write=True)
    journal.close()

    Journal.open(tmp_path / "night.journal", write=True).close()


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "no such file"), (b"", "another SQLite file"), (b"x" * 4096, "not a database")],
)
def test_what_is_no_journal_is_told(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "x.journal"
    if content is not None:
        path.write_bytes(content)

    for write in (False, True):
        with pytest.raises(JournalError, match=told):
            Journal.open(path, write=write)


def test_a_journal_of_a_later_release_is_refused(journal: Journal, tmp_path: Path) -> None:
    journal.close()
    with sqlite3.connect(tmp_path / "night.journal") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()

    with pytest.raises(JournalError, match="a later bacmac made it"):
        Journal.open(tmp_path / "night.journal")
