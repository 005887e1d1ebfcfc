"""What is damaged is told, what is full or held is told, and nothing that was stored is lost."""

from __future__ import annotations

import resource
import shutil
import signal
import sqlite3
import sys
import textwrap
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
import pytest
from made_runs import made_run, same_run

from bacmac.host.errors import JournalError, OutputError
from bacmac.power.campaign.journal import Journal, verify_journal
from bacmac.power.campaign.journal_file import file_system, refuse_network
from bacmac.power.campaign.plan import CampaignPlan

SECOND_ATTEMPT = (
    "INSERT INTO run (cell, stage, block, attempt, position, arm, state)"
    " SELECT cell, stage, block, 1, position, arm, 'planned' FROM run WHERE stage = 'aa'"
)


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory, small_plan: CampaignPlan) -> Path:
    """A closed journal with both A/A blocks made."""
    path = tmp_path_factory.mktemp("night") / "night.journal"
    with Journal.create(path, small_plan) as journal:
        for key in journal.owed()[:4]:
            journal.begin(key, "boot")
            journal.finish(made_run(key))
    return path


@pytest.fixture
def copied(night: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(night, tmp_path / "copy.journal"))


def change(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def test_a_sound_journal_has_no_fault(night: Path) -> None:
    assert verify_journal(night) == ()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE sample SET data = zeroblob(length(data)) WHERE rowid = 3", "sha256 of current_ma"),
        ("UPDATE sample SET sha256 = 'x' WHERE rowid = 3", "its sha256 is not that"),
        ("DELETE FROM sample WHERE rowid = 3", "its sha256 is not that"),
        ("UPDATE run SET document = replace(document, '8000', '8001') WHERE id = 1", "its sha256"),
        ("UPDATE run SET emulated = 0 WHERE id = 1", "differ in whether it is emulated"),
        ("UPDATE run SET document = '{' WHERE id = 1", "its sha256 is not that"),
        ("DELETE FROM run WHERE id = 2", "sample: 8 rows refer to a run that is missing"),
        ("DELETE FROM run WHERE id = 5", "not a run of every arm"),
        (
            "INSERT INTO sample SELECT 5, rail, name, data, sha256 FROM sample WHERE run = 1",
            "samples of a run that did not end",
        ),
        (
            SECOND_ATTEMPT,
            "more than one attempt is not invalid",
        ),
        ("UPDATE run SET state = 'invalid', reason = 'x' WHERE block = 0", "none is planned"),
    ],
)
def test_what_was_changed_is_found(copied: Path, statement: str, told: str) -> None:
    change(copied, statement)

    found = verify_journal(copied)
    assert any(told in fault for fault in found), found
    with pytest.raises(JournalError, match="contents: found"):
        Journal.open(copied, write=True)


def test_samples_are_compared_with_their_digest_when_they_are_read(copied: Path) -> None:
    change(copied, "UPDATE sample SET data = zeroblob(length(data)) WHERE rowid = 3")

    with Journal.open(copied) as journal:
        run = next(journal.runs())
        with pytest.raises(JournalError, match="rail INT: sha256 of current_ma"):
            run.record.trace.rails["INT"]


def test_emulated_runs_cannot_be_passed_off_as_real(copied: Path) -> None:
    change(
        copied,
        "UPDATE run SET emulated = 0, document = replace(replace(replace(document,"
        " '\"emulated\":true', '\"emulated\":false'), 'functional', 'board'),"
        " 'emulated:', 'hwmon:')",
    )

    with Journal.open(copied) as journal, pytest.raises(JournalError, match="its sha256"):
        next(journal.runs())


def test_a_changed_plan_is_found(copied: Path) -> None:
    change(copied, "UPDATE campaign SET document = replace(document, 'small', 'large')")

    with pytest.raises(JournalError, match="sha256"):
        Journal.open(copied)


def test_a_missing_table_is_told(copied: Path) -> None:
    change(copied, "DROP TABLE campaign")

    with pytest.raises(JournalError, match="tables: found others"):
        Journal.open(copied)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_told(copied: Path, share: float) -> None:
    data = copied.read_bytes()
    copied.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(JournalError, match=r"copy\.journal"):
        verify_journal(copied)


def test_overwritten_pages_are_told(copied: Path) -> None:
    data = bytearray(copied.read_bytes())
    data[8192:-4096] = bytes(len(data) - 8192 - 4096)
    copied.write_bytes(data)

    with pytest.raises(JournalError, match=r"copy\.journal.*damaged"):
        verify_journal(copied)


def test_whatever_is_damaged_is_told_in_one_line(night: Path, tmp_path: Path) -> None:
    """150 damaged files: cut short, bytes changed here and there, a stretch overwritten."""
    sound, path, told = night.read_bytes(), tmp_path / "damaged.journal", 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        data, place = bytearray(sound), int(rng.integers(0, len(sound)))
        if seed % 3 == 0:
            del data[place:]
        elif seed % 3 == 1:
            for at in rng.integers(0, len(data), 20):
                data[at] = int(rng.integers(0, 256))
        else:
            data[place : place + 3000] = rng.bytes(len(data[place : place + 3000]))
        path.write_bytes(data)
        try:
            told += bool(verify_journal(path))
        except JournalError:
            told += 1
        for beside in tmp_path.glob("damaged.journal*"):
            beside.unlink()

    assert told > 100  # the rest hit pages that hold nothing


def test_a_full_disk_is_told_and_loses_nothing(copied: Path, small_plan: CampaignPlan) -> None:
    with Journal.open(copied, write=True) as journal:
        key = journal.owed()[0]
        journal.begin(key, "boot")
        pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
        journal._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OutputError, match="disk is full; nothing was changed"):
            journal.finish(made_run(key, samples=20_000))
        assert journal.owed()[0] != key
        assert len(list(journal.runs())) == 4

        journal._db.execute("PRAGMA max_page_count = 1000000")
        journal.finish(made_run(key, samples=20_000))
    assert verify_journal(copied) == ()


def test_a_write_that_fails_half_way_leaves_the_journal_as_it_was(
    copied: Path, tmp_path: Path
) -> None:
    """A limit on the size of files: the kernel cuts a write of the log short (setrlimit(2))."""
    script = textwrap.dedent(
        """
        import resource, sys
        sys.path.insert(0, sys.argv[2])
        from made_runs import made_run
        from bacmac.host.errors import OutputError
        from bacmac.power.campaign.journal import Journal
        with Journal.open(sys.argv[1], write=True) as journal:
            key = journal.owed()[0]
            journal.begin(key, "boot")
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
            try:
                journal.finish(made_run(key, samples=20_000))
            except OutputError as error:
                print("told:", error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            journal.finish(made_run(key, samples=20_000))
            print("then:", len(list(journal.runs())))
        """
    )
    command = [sys.executable, "-c", script, str(copied), str(Path(__file__).parents[1])]
    with Popen(command, stdout=PIPE, text=True) as process:
        printed, _ = process.communicate()

    assert "told:" in printed
    assert "the disk fails, or is full" in printed
    assert "then: 5" in printed
    assert verify_journal(copied) == ()


def test_a_new_journal_that_meets_a_full_disk_leaves_no_file(
    tmp_path: Path, small_plan: CampaignPlan
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, hard))
    try:
        with pytest.raises(OutputError, match="disk fails, or is full"):
            Journal.create(tmp_path / "night.journal", small_plan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)

    assert [path.name for path in tmp_path.iterdir()] == ["night.journal.lock"]


def test_a_journal_where_nothing_can_be_written_can_be_read(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "archive.journal"
    shutil.copy(night, archive)
    monkeypatch.setattr("os.access", lambda path, mode: False)

    with Journal.open(archive) as journal:
        assert len(list(journal.runs())) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["archive.journal"]


def test_a_log_that_cannot_be_taken_in_is_not_passed_over(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied.with_name("copy.journal-wal").write_bytes(b"x")
    monkeypatch.setattr("os.access", lambda path, mode: False)

    with pytest.raises(JournalError, match="copy both to a local disk"):
        Journal.open(copied)


def test_a_journal_that_another_user_writes_can_be_read_meanwhile(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(copied, write=True) as writer:
        writer.event("while it is written")
        monkeypatch.setattr("os.access", lambda path, mode: False)

        with Journal.open(copied) as journal:
            assert journal.events()[-1].text == "while it is written"


MOUNTS = r"""
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
22 21 0:30 / /lab rw shared:2 - nfs4 server:/lab rw
23 22 254:1 / /lab/me/local\040disk rw shared:3 - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/nights/a.journal", "ext4"),
        ("/labs/a.journal", "ext4"),
        ("/lab/me/a.journal", "nfs4"),
        ("/lab/me/local disk/a.journal", "xfs"),
    ],
)
def test_the_file_system_is_that_of_the_deepest_mount(tmp_path: Path, path: str, kind: str) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS.lstrip())

    assert file_system(Path(path), tmp_path / "mountinfo") == kind


def test_where_mounts_are_not_told_nothing_is_refused(tmp_path: Path) -> None:
    assert file_system(tmp_path, tmp_path / "missing") is None


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bacmac.power.campaign.journal_file.file_system", lambda path: "nfs4")

    with pytest.raises(OutputError, match="nfs4, a network file system"):
        refuse_network(tmp_path / "night.journal")
    (tmp_path / "night.journal").write_bytes(b"x")
    with pytest.raises(OutputError, match="take a local disk"):
        Journal.open(tmp_path / "night.journal", write=True)


def test_ctrl_c_in_a_transaction_stores_nothing_of_it(copied: Path) -> None:
    with Journal.open(copied, write=True) as journal:
        key = journal.owed()[0]
        journal.begin(key, "boot")
        run = made_run(key)

        class Interrupting(dict):  # type: ignore[type-arg]
            def values(self) -> object:
                yield from dict.values(self)
                raise KeyboardInterrupt

        object.__setattr__(run.record.trace, "rails", Interrupting(run.record.trace.rails))
        with pytest.raises(KeyboardInterrupt):
            journal.finish(run)
        assert len(list(journal.runs())) == 4
        journal.finish(made_run(key))

        assert same_run(list(journal.runs())[-1], made_run(key))
    assert verify_journal(copied) == ()
