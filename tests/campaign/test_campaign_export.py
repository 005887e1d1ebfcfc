"""Tables hold what the journal holds, and every row says whether it is emulated."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_runs import made_run

from bacmac.host.errors import JournalError, MissingExtraError, OutputError
from bacmac.power.campaign.export import TABLES, export_journal
from bacmac.power.campaign.export_files import FORMATS, Format
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.plan import CampaignPlan
from bacmac.power.campaign.run import Finding

BAD = Finding(3, "invalidate", "12V", 'gap of "9" s, 0.1 may be')


def filled(path: Path, plan: CampaignPlan, *, emulated: bool = True) -> Path:
    """Four runs, the last of them invalid."""
    with Journal.create(path, plan) as journal:
        keys = journal.owed()[:4]
        for key in keys:
            journal.begin(key, "boot")
            findings = (BAD,) if key == keys[-1] else ()
            run = made_run(key, samples=40, emulated=emulated, die=key == keys[0])
            journal.finish(run, findings)
        journal.event("begun")
        journal.store_fact("guard_s", 0.5)
    return path


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory, small_plan: CampaignPlan) -> Path:
    return filled(tmp_path_factory.mktemp("export") / "night.journal", small_plan)


def read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def read_json(path: Path) -> list[dict[str, Any]]:
    """One dictionary a row, where an object holds arrays."""
    rows = []
    for found in json.loads(path.read_text()):
        arrays = {name: value for name, value in found.items() if isinstance(value, list)}
        rows += [
            {**found, **dict(zip(arrays, values, strict=True))}
            for values in (zip(*arrays.values(), strict=True) if arrays else [()])
        ]
    return rows


def read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


READERS: dict[Format, Callable[[Path], list[dict[str, Any]]]] = {
    "csv": read_csv,
    "json": read_json,
    "parquet": read_parquet,
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_sample_is_there_with_its_run(stored: Path, tmp_path: Path, kind: Format) -> None:
    with Journal.open(stored) as journal:
        export_journal(journal, tmp_path, kind)
        runs = {(r.key.block, r.key.position): r for r in journal.runs(valid_only=False)}

    rows = READERS[kind](tmp_path / f"samples.{kind}")
    assert len(rows) == 4 * 2 * 40
    assert list(rows[0]) == list(TABLES["samples"])
    for row in rows[:: len(rows) // 7]:
        rail = runs[int(row["block"]), int(row["position"])].record.trace.rails[row["rail"]]
        place = rail.times_ns.tolist().index(int(row["time_ns"]))
        assert int(row["voltage_mv"]) == rail.voltage_mv[place]
        assert int(row["current_ma"]) == rail.current_ma[place]
        assert int(row["power_uw"]) == rail.power_uw[place]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_row_says_that_it_is_emulated(stored: Path, tmp_path: Path, kind: Format) -> None:
    with Journal.open(stored) as journal:
        export_journal(journal, tmp_path, kind)

    for table in TABLES:
        rows = READERS[kind](tmp_path / f"{table}.{kind}")
        assert rows, table
        assert {str(row["emulated"]).lower() for row in rows} == {"true"}
    assert json.loads((tmp_path / "campaign.json").read_text())["emulated"] is True


@pytest.mark.parametrize("kind", FORMATS)
def test_every_run_is_there_whatever_its_state(stored: Path, tmp_path: Path, kind: Format) -> None:
    with Journal.open(stored) as journal:
        export_journal(journal, tmp_path, kind)
        states = journal.states()

    rows = READERS[kind](tmp_path / f"runs.{kind}")
    assert [row["state"] for row in rows] == [state.state for state in states]
    assert [row["arm"] for row in rows] == [state.key.arm for state in states]
    invalid = [row for row in rows if row["state"] == "invalid"]
    assert [row["reason"] for row in invalid] == ["block", "check 3"]
    assert {str(row["valid"]).lower() for row in invalid} == {"false"}
    assert float(invalid[0]["clock_hz"]) == 1e8 / 3
    assert rows[-1]["clock_hz"] in ("", None)


@pytest.mark.parametrize("kind", FORMATS)
def test_words_come_through_whole(stored: Path, tmp_path: Path, kind: Format) -> None:
    with Journal.open(stored) as journal:
        export_journal(journal, tmp_path, kind)

    (found,) = READERS[kind](tmp_path / f"findings.{kind}")
    assert found["text"] == BAD.text
    die = READERS[kind](tmp_path / f"die.{kind}")
    assert {row["name"] for row in die} == {"pl", "fpd"}
    assert len(die) == 16


def test_measured_runs_are_told_as_measured(tmp_path: Path, small_plan: CampaignPlan) -> None:
    plan = replace(small_plan, device="pynq:", rails="hwmon:")
    path = filled(tmp_path / "night.journal", plan, emulated=False)
    with Journal.open(path) as journal:
        export_journal(journal, tmp_path, "csv")

    assert {row["emulated"] for row in read_csv(tmp_path / "samples.csv")} == {"false"}


@pytest.mark.parametrize(
    ("device", "rails"), [("pynq:emulated", "hwmon:"), ("functional:", "hwmon:")]
)
def test_runs_that_call_themselves_measured_are_emulated_where_the_plan_is(
    tmp_path: Path, small_plan: CampaignPlan, device: str, rails: str
) -> None:
    plan = replace(small_plan, device=device, rails=rails)
    path = filled(tmp_path / "night.journal", plan, emulated=False)
    with Journal.open(path) as journal:
        export_journal(journal, tmp_path, "csv")

    assert {row["emulated"] for row in read_csv(tmp_path / "samples.csv")} == {"true"}


def test_emulated_runs_stay_emulated_whatever_the_plan_says(
    tmp_path: Path, small_plan: CampaignPlan
) -> None:
    plan = replace(small_plan, device="pynq:", rails="hwmon:")
    path = filled(tmp_path / "night.journal", plan)
    with Journal.open(path) as journal:
        export_journal(journal, tmp_path, "csv")

    assert {row["emulated"] for row in read_csv(tmp_path / "runs.csv")} == {"true"}


def test_damage_ends_an_export_and_leaves_no_table(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bacmac.power.campaign.run_store.sha256", lambda data: "0" * 64)

    with Journal.open(stored) as journal, pytest.raises(JournalError, match="its sha256"):
        export_journal(journal, tmp_path / "out", "csv")
    assert list((tmp_path / "out").iterdir()) == []


def test_parquet_without_its_extra_is_told_before_anything_is_written(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with (
        Journal.open(stored) as journal,
        pytest.raises(MissingExtraError, match=r"bacmac\[parquet\]"),
    ):
        export_journal(journal, tmp_path / "out", "parquet")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_parquet_file_says_by_itself_that_it_is_emulated(stored: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    with Journal.open(stored) as journal:
        export_journal(journal, tmp_path, "parquet")

    told = pyarrow.parquet.read_schema(tmp_path / "samples.parquet")
    assert told.metadata[b"bacmac.emulated"] == b"true"
    assert str(told.field("time_ns").type) == "int64"


def test_a_folder_that_cannot_be_made_is_told(stored: Path) -> None:
    with Journal.open(stored) as journal, pytest.raises(OutputError, match="File exists"):
        export_journal(journal, stored, "csv")


def test_the_command_writes_and_tells(
    stored: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    done = run("campaign", "export", stored, "-o", tmp_path)

    assert done.status == 0
    assert "samples" in done.out
    assert "320" in done.out
    assert "EMULATED" in done.err


def test_the_command_speaks_json(stored: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    done = run("campaign", "export", stored, "--format", "json", "-o", tmp_path, "--json")

    told = json.loads(done.out)
    assert told["emulated"] is True
    assert [table["rows"] for table in told["tables"] if table["table"] == "samples"] == [320]


def test_the_command_says_what_is_no_journal(tmp_path: Path, run: Callable[..., Any]) -> None:
    done = run("campaign", "export", tmp_path / "missing", "-o", tmp_path / "out")

    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "no such file" in done.err
