"""`bacmac campaign plan` tells a plan whole, or every problem of it in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def campaign_file(packed_files: dict[str, Path], example_dir: Path, tmp_path: Path) -> Path:
    """The documented plan, beside all that it names."""
    for file in (*packed_files.values(), example_dir / "digits_test.npz"):
        shutil.copy(file, tmp_path)
    return Path(shutil.copy(ROOT / "docs" / "campaign.toml", tmp_path))


def as_json(run: Callable[..., Any], *words: object) -> dict[str, Any]:
    outcome = run("campaign", "plan", *words, "--json")
    assert outcome.status == 0, outcome.err
    document: dict[str, Any] = json.loads(outcome.out)
    return document


def test_everything_is_told(run: Callable[..., Any], campaign_file: Path) -> None:
    outcome = run("campaign", "plan", campaign_file)

    assert outcome.status == 0
    for words in (
        "mac-uniform4",
        "saving, E_mac8 / E_bac",
        "bits, E_mac8 / E_mac4",
        "shift, E_mac4 / E_bac",
        "confound",
        "187.5 MHz",
        "max_blocks, 60 a cell",
        "106 mW",
        "EMULATED: expected half-width",
        "Stein",
        "sha256",
    ):
        assert words in outcome.out, words
    assert "EMULATED" in outcome.err
    assert "step" in outcome.err


def test_json_holds_the_same(run: Callable[..., Any], campaign_file: Path) -> None:
    told = as_json(run, campaign_file)

    assert told["schema"] == "bacmac.campaign.plan"
    assert told["emulated"] is True
    assert [pair["question"] for pair in told["pairs"]] == ["saving", "bits", "shift"]
    assert all(pair["ledger"] for pair in told["pairs"])
    assert len(told["expected"]) == 2 * 2 * 3, "cells, rails and pairs"
    assert {rail["rail"] for rail in told["rails"]} == {"12V", "INT"}
    pilot, expected, most = (told["amounts"][key] for key in ("pilot", "expected", "most"))
    for key in ("blocks", "runs", "duration_s", "disk_bytes"):
        assert pilot[key] <= expected[key] <= most[key]


def test_more_power_is_told_more_narrowly(run: Callable[..., Any], campaign_file: Path) -> None:
    weak, strong = (as_json(run, campaign_file, "--watts", w)["expected"] for w in (0.1, 1.0))

    assert all(s["pilot"] < w["pilot"] for w, s in zip(weak, strong, strict=True))


def test_a_personality_of_many_rails_is_told(run: Callable[..., Any], campaign_file: Path) -> None:
    text = campaign_file.read_text(encoding="utf-8")
    text = text.replace('"emulated:" ', '"emulated:zcu102"').replace('["12V", "INT"]', '["VCCINT"]')
    campaign_file.write_text(text, encoding="utf-8")

    told = as_json(run, campaign_file)

    assert {e["rail"] for e in told["expected"]} == {"VCCINT"}
    assert not any(e["step_limited"] for e in told["expected"])


def test_a_bad_plan_is_one_line_with_every_problem(
    run: Callable[..., Any], campaign_file: Path
) -> None:
    text = campaign_file.read_text(encoding="utf-8")
    text = text.replace("seed = 1 ", "seed = -1").replace("mac-uniform8", "mac9")
    campaign_file.write_text(text, encoding="utf-8")

    outcome = run("campaign", "plan", campaign_file)

    assert outcome.status == 2
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 1
    assert "arms.mac8.overlay" in outcome.err
    assert "design.seed" in outcome.err


def test_a_file_that_is_not_there_is_said_to_be_missing(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = run("campaign", "plan", tmp_path / "none.toml")

    assert outcome.status == 2
    assert "No such file" in outcome.err


def test_the_group_lists_its_commands_in_the_order_of_the_work(run: Callable[..., Any]) -> None:
    outcome = run("campaign", "--help")

    words = ["plan", "run", "resume", "status", "export", "analyse", "report", "diff"]
    places = [outcome.out.index(f"\n  {word} ") for word in words]
    assert places == sorted(places)


def test_an_unknown_command_is_refused(run: Callable[..., Any]) -> None:
    assert run("campaign", "plam").status == 2
