"""What Vivado leaves becomes a bundle, whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bacmac.host.errors import OutputError, OverlayError
from bacmac.overlays.check import check_overlay
from bacmac.overlays.registry import list_overlays, load_overlay
from bacmac.overlays.vivado_bundle import collect_bundle
from bacmac.overlays.vivado_run import locked, run_vivado

OVERLAY = load_overlay("bac-pot4")
FILES = [
    "bac-pot4.bit",
    "bac-pot4.hwh",
    "bac-pot4.sha256",
    "bac-pot4.toml",
    "bac-pot4_timing_summary.rpt",
    "bac-pot4_utilization.rpt",
    "regmaps",
    "vivado",
]


@pytest.fixture
def build(run_model, tmp_path) -> Path:
    """A folder in which Vivado has run and nothing was collected."""
    run = run_model(OVERLAY, tmp_path / "my builds" / "vivado")
    assert run.status == 0, run.said
    return run.folder.parent


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_the_bundle_holds_every_file_and_nothing_else(build):
    collect_bundle(build)

    assert names(build) == FILES
    assert names(build / "regmaps") == ["accelerator-v2.toml"]


def test_the_manifest_is_filled_from_the_reports(build):
    bundle = collect_bundle(build)

    manifest = bundle.overlay.manifest
    assert manifest.resources == {
        "LUT": 30123,
        "FF": 25456,
        "BRAM36": 240.5,
        "URAM": 64,
        "DSP": 69,
        "slack_ns": 0.234,
    }
    assert manifest.resources_source.startswith("measured: Vivado 2024.2, ")
    assert (bundle.vivado, bundle.board_part) == ("2024.2", "none")
    assert (
        replace(
            manifest,
            resources=OVERLAY.manifest.resources,
            resources_source=OVERLAY.manifest.resources_source,
        )
        == OVERLAY.manifest
    )


def test_sha256sum_checks_the_bundle(build):
    collect_bundle(build)

    checked = subprocess.run(
        ["sha256sum", "-c", "bac-pot4.sha256"],
        cwd=build,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count(": OK") == 6


def test_the_bundle_is_found_by_its_folder_in_place_of_the_shipped_overlay(build):
    collect_bundle(build)

    (found,) = (o for o in list_overlays([build]) if o.manifest.name == "bac-pot4")

    assert found.folder == build
    assert found.manifest.resources["LUT"] == 30123


def test_a_folder_that_was_copied_away_and_back_collects_the_same(build, tmp_path):
    one = collect_bundle(shutil.copytree(build, tmp_path / "elsewhere"))
    two = collect_bundle(build)

    assert one.overlay.sha256 == two.overlay.sha256
    for name in FILES[:-2]:
        assert (build / name).read_bytes() == (tmp_path / "elsewhere" / name).read_bytes()


def test_a_negative_slack_is_in_the_manifest_and_an_error_of_the_check(run_model, tmp_path):
    run_model(OVERLAY, tmp_path / "vivado", slack="-0.321")

    overlay = collect_bundle(tmp_path).overlay

    assert overlay.manifest.resources["slack_ns"] == -0.321
    assert [f.subject for f in check_overlay(overlay) if f.level == "error"] == ["timing"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda out: shutil.rmtree(out), "results of Vivado: found none"),
        (lambda out: (out / "build.txt").unlink(), "no build.txt, which is written last"),
        (lambda out: (out / "build.txt").write_text("vivado 2024.2\n"), "inputs_sha256: found"),
        (lambda out: (out / "build.txt").write_bytes(b"\xff\xfe"), "build.txt"),
        (lambda out: (out / "bac-pot4.bit").unlink(), "bac-pot4.bit: file: found none"),
        (lambda out: (out / "bac-pot4_utilization.rpt").unlink(), "bac-pot4_utilization.rpt"),
        (
            lambda out: (out / "bac-pot4_timing_summary.rpt").write_text("?"),
            "Design Timing Summary",
        ),
    ],
)
def test_an_incomplete_build_makes_no_bundle_and_keeps_the_earlier_one(build, spoil, said):
    collect_bundle(build)
    before = {path: path.read_bytes() for path in build.glob("bac-pot4*")}
    spoil(build / "vivado" / "out")

    with pytest.raises(OverlayError, match=said):
        collect_bundle(build)

    assert names(build) == FILES
    assert {path: path.read_bytes() for path in build.glob("bac-pot4*")} == before


def test_sources_changed_after_vivado_ran_are_noticed(build):
    with (build / "vivado" / "rtl" / "bacmac_lane.sv").open("a") as source:
        source.write("// changed\n")

    with pytest.raises(OverlayError, match="they were changed after Vivado ran: run it again"):
        collect_bundle(build)

    assert names(build) == ["vivado"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(OverlayError, match="0 manifests; expected one"):
        collect_bundle(tmp_path)


def test_no_manifest_stands_beside_files_of_two_builds(build, monkeypatch):
    collect_bundle(build)
    real, put = Path.replace, []

    def fail_at_the_third(path: Path, target: Path) -> Path:
        if target.name.endswith((".bit", ".hwh", ".rpt", ".sha256")):
            put.append(target.name)
            if len(put) == 3:
                raise OSError(28, "No space left on device")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_third)
    with pytest.raises(OutputError, match="No space left on device"):
        collect_bundle(build)
    monkeypatch.undo()

    assert not (build / "bac-pot4.toml").exists()
    assert collect_bundle(build).overlay.manifest.name == "bac-pot4"
    assert names(build) == FILES


def test_a_new_build_replaces_the_earlier_one(build, run_model):
    before = collect_bundle(build).overlay
    run_model(OVERLAY, build / "vivado", slack="0.500")

    after = collect_bundle(build).overlay

    assert before.manifest.resources["slack_ns"] == 0.234
    assert after.manifest.resources["slack_ns"] == 0.5
    assert [f for f in check_overlay(after) if f.level != "ok"] == []


def test_vivados_first_errors_are_told(build, fake_vivado, monkeypatch):
    monkeypatch.setenv("MODEL_FAIL", "place_design")
    lines: list[str] = []

    with pytest.raises(OverlayError) as failed:
        run_vivado(str(fake_vivado), build / "vivado", lines.append)

    assert "[Model 1-23] place_design failed as it was told to | ERROR: [Model 1-24]" in str(
        failed.value
    )
    assert failed.value.file.endswith("vivado.log")
    assert "bacmac: synthesis, placement and routing" in lines


def test_a_program_that_is_not_vivado_is_told(build, tmp_path):
    quiet = tmp_path / "quiet"
    quiet.write_text("#!/bin/sh\necho hello\n")
    quiet.chmod(0o755)
    shutil.rmtree(build / "vivado" / "out")

    with pytest.raises(OverlayError, match="exit status 0 after 'hello'"):
        run_vivado(str(quiet), build / "vivado", lambda line: None)
    with pytest.raises(OverlayError, match=r"--vivado: .*absent: found No such file"):
        run_vivado(str(tmp_path / "absent"), build / "vivado", lambda line: None)


def test_two_builds_do_not_work_in_one_folder(tmp_path):
    with (
        locked(tmp_path / "vivado", make=True),
        pytest.raises(OverlayError, match="another build at work in it"),
        locked(tmp_path / "vivado"),
    ):
        pass

    with locked(tmp_path / "vivado"):
        pass
