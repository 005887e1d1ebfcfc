"""`bacmac overlay build`, `bacmac overlay collect`: from the RTL to a bundle, by Vivado."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import asdict
from pathlib import Path

import click

from bacmac.cli.choices import FILE, folders_option
from bacmac.cli.output import json_option, note, print_json, print_table, say
from bacmac.overlays.check import check_overlay
from bacmac.overlays.registry import load_overlay
from bacmac.overlays.vivado_bundle import VIVADO_FOLDER, Bundle, collect_bundle
from bacmac.overlays.vivado_inputs import SCRIPT, check_buildable, write_inputs
from bacmac.overlays.vivado_run import locked, run_vivado, vivado_command


@click.command()
@click.argument("name")
@click.option("-o", "--output", type=FILE, help="Folder of the build [default: build/NAME].")
@click.option(
    "--jobs", type=click.IntRange(1, 32), help="Threads of Vivado [default: its own choice]."
)
@click.option("--vivado", "program", help="Program to run [default: vivado, where PATH has it].")
@click.option("--script-only", is_flag=True, help="Write the scripts and run nothing.")
@folders_option
@json_option
def build(
    name: str,
    output: Path | None,
    jobs: int | None,
    program: str | None,
    script_only: bool,
    folders: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Build overlay NAME: its bitstream, hand-off, reports and filled manifest, by Vivado.

    Without Vivado the complete scripts are written, with what to run where it is. An earlier
    bundle in the folder stays as it is until a new one is whole.
    """
    overlay = load_overlay(name, folders)
    folder = output or Path("build") / overlay.manifest.name
    vivado_folder = folder / VIVADO_FOLDER
    found = None if script_only else program or shutil.which("vivado")
    check_buildable(overlay)
    with locked(vivado_folder, make=True):
        write_inputs(overlay, vivado_folder, jobs or 0)
        if found is None:
            _tell_command(folder, as_json, missing=not script_only)
            return
        note(f"{vivado_folder}: {found} is at work; this may take an hour")
        run_vivado(found, vivado_folder, note)
        bundle = collect_bundle(folder)
    _tell_bundle(bundle, as_json)


@click.command()
@click.argument("folder", type=FILE)
@json_option
def collect(folder: Path, as_json: bool) -> None:
    """Make the bundle in FOLDER, a folder of `overlay build`, of what Vivado left there.

    For a build that ran elsewhere: copy the folder there, run Vivado, copy it back.
    """
    with locked(folder / VIVADO_FOLDER):
        bundle = collect_bundle(folder)
    _tell_bundle(bundle, as_json)


def _tell_command(folder: Path, as_json: bool, *, missing: bool) -> None:
    vivado_folder = folder / VIVADO_FOLDER
    command = vivado_command()
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "script": str(vivado_folder / SCRIPT),
                "working_folder": str(vivado_folder),
                "command": command,
                "bundle": None,
            }
        )
        return
    if missing:
        note("vivado is not on the path: nothing was built")
    say(f"{vivado_folder / SCRIPT} is written. Here, or wherever {vivado_folder} is copied, run")
    click.echo(f"\n    cd {shlex.quote(str(vivado_folder))}\n    {shlex.join(command)}\n")
    say("and then, with the folder's `out` back in its place,")
    click.echo(f"\n    bacmac overlay collect {shlex.quote(str(folder))}\n")


def _tell_bundle(bundle: Bundle, as_json: bool) -> None:
    """What was built, and what the check says of it; exit status 2 where it says errors."""
    overlay = bundle.overlay
    manifest = overlay.manifest
    path = overlay.folder / f"{manifest.name}.toml"
    findings = check_overlay(overlay)
    failed = any(finding.level == "error" for finding in findings)
    if as_json:
        print_json(
            {
                "folder": str(overlay.folder),
                "bundle": str(path),
                "vivado": bundle.vivado,
                "board_part": bundle.board_part,
                "resources": manifest.resources,
                "sha256": overlay.sha256,
                "ok": not failed,
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        print_table(
            ["", "what", "found"],
            [(finding.level, finding.subject, finding.text) for finding in findings],
            prose=(2,),
        )
        say(f"{path}: built by Vivado {bundle.vivado}, preset of the board: {bundle.board_part}")
    if failed:
        raise SystemExit(2)
