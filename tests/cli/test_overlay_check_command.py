"""`bacmac overlay check` and `list` on an overlay with what a build left beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bacmac.overlays.registry import find_manifest

TIMING = """\
| Tool Version      : Vivado v.2024.1 (lin64) Build 5076996
| Device            : xczu7ev-ffvc1156
| Design State      : Routed

| Design Timing Summary

    WNS(ns)      TNS(ns)      WHS(ns)      THS(ns)     WPWS(ns)
    -------      -------      -------      -------     --------
     -0.120       -1.230        0.010        0.000        1.166

Timing constraints are not met.
"""
MISSED = "timing not met: worst slack -0.120 ns (Vivado timing summary)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped overlay, whose manifest a build may keep, and a timing summary that says no."""
    shipped = find_manifest("bac-pot4")
    for path in (shipped, shipped.with_suffix(".hwh")):
        shutil.copy(path, tmp_path)
    (tmp_path / "bac-pot4_timing_summary.rpt").write_text(TIMING)
    return tmp_path


def test_missed_timing_is_exit_status_2_unless_it_is_accepted(run, folder):
    refused = run("overlay", "check", "bac-pot4", "--overlay-folder", folder, "--json")
    accepted = run(
        *("overlay", "check", "bac-pot4", "--overlay-folder", folder),
        *("--accept-timing", "--json"),
    )

    told = json.loads(refused.out)
    assert (refused.status, accepted.status) == (2, 0)
    assert (told["ok"], json.loads(accepted.out)["ok"]) == (False, True)
    assert (told["overlay"], told["folder"]) == ("bac-pot4", str(folder))
    assert {"level": "error", "subject": "timing", "text": MISSED} in told["findings"]


def test_the_list_shows_the_mark_of_an_overlay(run, folder):
    told = json.loads(run("overlay", "list", "--overlay-folder", folder, "--json").out)

    assert [row["marks"] for row in told] == [[MISSED], [], [], []]
    assert told[0]["folder"] == str(folder)
    assert MISSED in run("overlay", "list", "--overlay-folder", folder).out


def test_a_folder_that_holds_no_build_of_the_overlay_says_why(run, folder):
    path = folder / "bac-pot4.toml"
    path.write_text(path.read_text().replace("187.5e6", "150e6"))

    outcome = run("overlay", "check", "bac-pot4", "--overlay-folder", folder)

    assert outcome.status == 2
    assert "differs in clock_hz" in outcome.err
