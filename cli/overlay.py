"""`bacmac overlay`: list, show, check and estimate accelerator overlays."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from bacmac.cli.choices import FILE, folders_option
from bacmac.cli.estimate import estimate, roofline
from bacmac.cli.output import json_option, note, print_json, print_table
from bacmac.cli.overlay_build import build, collect
from bacmac.host.files import write_bytes
from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.bundle import bundle_files
from bacmac.overlays.check import check_overlay
from bacmac.overlays.hwh import make_hwh
from bacmac.overlays.registry import list_overlays, load_overlay
from bacmac.overlays.timing import overlay_marks


@click.group()
def overlay() -> None:
    """List, show, check and estimate accelerator overlays."""


overlay.add_command(estimate)
overlay.add_command(roofline)
overlay.add_command(build)
overlay.add_command(collect)


@overlay.command("list")
@folders_option
@json_option
def list_command(folders: tuple[Path, ...], as_json: bool) -> None:
    """List every overlay that is shipped or lies in a given folder."""
    overlays = list_overlays(folders)
    if as_json:
        print_json(
            [
                {
                    **asdict(found.manifest),
                    "folder": str(found.folder),
                    "bitstream_present": _is_built(found),
                    "marks": overlay_marks(found),
                }
                for found in overlays
            ]
        )
        return
    print_table(
        ["overlay", "product", "weights", "array", "clock", "bitstream"],
        [
            (
                manifest.name,
                manifest.product,
                manifest.scheme,
                f"{manifest.geometry.inputs}x{manifest.geometry.outputs}",
                f"{manifest.clock_hz / 1e6:g} MHz",
                "; ".join(("present" if _is_built(found) else "none (emulated only)", *marks)),
            )
            for found, manifest, marks in ((o, o.manifest, overlay_marks(o)) for o in overlays)
        ],
        prose=(5,),
    )


@overlay.command()
@click.argument("name")
@folders_option
@json_option
def show(name: str, folders: tuple[Path, ...], as_json: bool) -> None:
    """Show the manifest and the registers of overlay NAME (a name or a manifest's path)."""
    found = load_overlay(name, folders)
    manifest = found.manifest
    if as_json:
        print_json(
            {
                "manifest": asdict(manifest),
                "registers": asdict(found.registers),
                "sha256": found.sha256,
            }
        )
        return
    rows: list[tuple[str, object]] = []
    for key, value in asdict(manifest).items():
        if isinstance(value, dict):
            rows += [(f"{key}.{inner}", _show(inner, part)) for inner, part in value.items()]
        else:
            rows.append((key, _show(key, value)))
    print_table(
        ["field", "value"], [*rows, ("sha256", found.sha256)], title=manifest.name, prose=(1,)
    )
    print_table(
        ["offset", "register", "access", "fields", "what"],
        [
            (
                f"0x{register.offset:02X}",
                register.name,
                register.access,
                ", ".join(field.name for field in register.fields),
                register.description,
            )
            for register in found.registers.registers
        ],
        title=f"{found.registers.name}, {found.registers.size_bytes} bytes",
        prose=(3, 4),
    )


@overlay.command()
@click.argument("name")
@click.option(
    "--accept-timing",
    is_flag=True,
    help="Timing that was not shown to be met is a warning; results stay marked.",
)
@folders_option
@json_option
def check(name: str, accept_timing: bool, folders: tuple[Path, ...], as_json: bool) -> None:
    """Check overlay NAME: manifest, register map, and what a build left beside them.

    Bitstream and hand-off of one build, for this board and this register map; timing met;
    utilisation as the manifest says. All findings at once; exit status 2 when one is an error.
    A bitstream that does not exist yet is a note.
    """
    found = load_overlay(name, folders)
    findings = check_overlay(found, accept_timing=accept_timing)
    failed = any(finding.level == "error" for finding in findings)
    if as_json:
        print_json(
            {
                "overlay": found.manifest.name,
                "folder": str(found.folder),
                "sha256": found.sha256,
                "ok": not failed,
                "findings": [asdict(item) for item in findings],
            }
        )
    else:
        print_table(
            ["", "what", "found"],
            [(finding.level, finding.subject, finding.text) for finding in findings],
            prose=(2,),
        )
    if failed:
        raise SystemExit(2)


@overlay.command()
@click.argument("name")
@click.option("-o", "--output", required=True, type=FILE, help="The .hwh to write.")
@folders_option
@json_option
def hwh(name: str, output: Path, folders: tuple[Path, ...], as_json: bool) -> None:
    """Write the hardware hand-off (.hwh) of overlay NAME, for emulation under PYNQ."""
    data = make_hwh(load_overlay(name, folders))
    write_bytes(output, data)
    if as_json:
        print_json({"file": str(output), "bytes": len(data)})
    else:
        note(f"{output}: {len(data):,} bytes")


def _is_built(overlay: Overlay) -> bool:
    return bundle_files(overlay).bitstream.is_file()


def _show(key: str, value: object) -> object:
    if isinstance(value, int) and key in ("build_id", "accelerator_base", "dma_base"):
        return f"0x{value:08X}"
    return f"{value:,.10g}" if isinstance(value, float) else value
