"""`bacmac overlay build` and `collect`, with a model of Vivado and without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[1] / "overlays" / "vivado_model" / "vivado.tcl"


@pytest.fixture
def vivado(tmp_path: Path) -> Path:
    program = tmp_path / "tools" / "vivado"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec tclsh "{MODEL}" "$@"\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def no_vivado(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))


def test_without_vivado_the_script_is_written_and_the_next_step_told(run, no_vivado, tmp_path):
    outcome = run("overlay", "build", "bac-pot4", "-o", tmp_path / "my build")

    assert outcome.status == 0
    assert "vivado is not on the path: nothing was built" in outcome.err
    assert f"cd '{tmp_path}/my build/vivado'" in outcome.out
    assert "vivado -mode batch -notrace -nojournal -log vivado.log -source build.tcl" in outcome.out
    assert f"bacmac overlay collect '{tmp_path}/my build'" in outcome.out
    assert (tmp_path / "my build" / "vivado" / "build.tcl").is_file()
    assert not (tmp_path / "my build" / "bac-pot4.toml").exists()


def test_the_build_goes_to_build_name_unless_told(run, no_vivado, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    told = json.loads(run("overlay", "build", "mac-uniform4", "--json").out)

    assert told["bundle"] is None
    assert told["script"] == "build/mac-uniform4/vivado/build.tcl"
    assert Path(told["script"]).is_file()


def test_script_only_runs_nothing_where_vivado_is(run, vivado, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{vivado.parent}:{os.environ['PATH']}")

    outcome = run("overlay", "build", "bac-pot4", "-o", tmp_path / "b", "--script-only")

    assert outcome.status == 0
    assert outcome.err == ""
    assert not (tmp_path / "b" / "vivado" / "vivado.log").exists()


def test_with_vivado_on_the_path_a_checked_bundle_comes_out(run, vivado, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{vivado.parent}:{os.environ['PATH']}")
    folder = tmp_path / "my build"

    outcome = run("overlay", "build", "bac-pot4", "-o", folder, "--json")

    told = json.loads(outcome.out)
    assert outcome.status == 0
    assert told["ok"]
    assert told["vivado"] == "2024.2"
    assert told["resources"]["LUT"] == 30123
    assert "bacmac: synthesis, placement and routing" in outcome.err
    assert run("overlay", "check", told["bundle"]).status == 0
    assert run("overlay", "list", "--overlay-folder", folder).status == 0


def test_what_ran_elsewhere_is_collected(run, vivado, no_vivado, tmp_path, monkeypatch):
    folder = tmp_path / "b"
    run("overlay", "build", "bac-pot4", "-o", folder)
    monkeypatch.undo()
    command = [vivado, "-mode", "batch", "-source", "build.tcl"]
    subprocess.run(command, cwd=folder / "vivado", check=True, capture_output=True)

    outcome = run("overlay", "collect", folder)

    assert outcome.status == 0
    assert f"{folder}/bac-pot4.toml: built by Vivado 2024.2" in " ".join(outcome.out.split())


def test_a_failed_build_is_one_line_and_leaves_no_bundle(run, vivado, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_FAIL", "route_design")

    outcome = run("overlay", "build", "bac-pot4", "-o", tmp_path / "b", "--vivado", vivado)

    assert outcome.status == 2
    last = outcome.err.splitlines()[-1]
    assert last.startswith("Error: ")
    assert "route_design failed as it was told to" in last
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["vivado"]


def test_missed_timing_makes_the_bundle_and_exit_status_2(run, vivado, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_SLACK", "-0.5")

    outcome = run("overlay", "build", "bac-pot4", "-o", tmp_path / "b", "--vivado", vivado)

    assert outcome.status == 2
    assert "timing not met: worst slack -0.500 ns" in outcome.out
    assert (tmp_path / "b" / "bac-pot4.toml").is_file()


def test_collecting_before_vivado_ran_says_what_to_run(run, no_vivado, tmp_path):
    run("overlay", "build", "bac-pot4", "-o", tmp_path / "b")

    outcome = run("overlay", "collect", tmp_path / "b")

    assert outcome.status == 2
    assert f"in {tmp_path}/b/vivado run vivado -mode batch" in outcome.err


def test_a_folder_that_is_not_there_is_told_and_not_made(run, tmp_path):
    outcome = run("overlay", "collect", tmp_path / "typo")

    assert outcome.status == 2
    assert "typo/vivado: folder: found none; expected what `bacmac overlay build`" in outcome.err
    assert not (tmp_path / "typo").exists()


def test_a_folder_that_cannot_be_written_is_told(run, no_vivado, tmp_path):
    (tmp_path / "file").write_text("")

    outcome = run("overlay", "build", "bac-pot4", "-o", tmp_path / "file")

    assert outcome.status == 2
    assert "file/vivado: cannot be written: Not a directory" in outcome.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_kill_end_vivado_too_and_leave_no_bundle(vivado, tmp_path, number):
    record = tmp_path / "record.txt"
    vivado.write_text(f'#!/bin/sh\necho $$ > "{tmp_path}/pid"\nexec tclsh "{MODEL}" "$@"\n')
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "bacmac.cli", "overlay", "build", "bac-pot4"),
            *("-o", str(tmp_path / "b"), "--vivado", str(vivado)),
        ],
        env={**os.environ, "MODEL_HANG": "place_design", "MODEL_RECORD": str(record)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _until(lambda: record.is_file() and "call\tplace_design" in record.read_text(), process)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("Interrupted")
    # the group that Vivado led, with the process that it started, is gone
    group = int((tmp_path / "pid").read_text())
    _until(lambda: not _alive(group), process)
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["vivado"]


def _until(true, process: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError(f"waited in vain; the command's status is {process.poll()}")


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
