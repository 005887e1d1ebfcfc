"""`bacmac compare`: E_MAC / E_BAC with an interval."""

from __future__ import annotations

from pathlib import Path

import click

from bacmac.cli.choices import (
    FILE,
    OUTPUT,
    OVERLAY,
    accept_timing_option,
    device_option,
    folders_option,
    images_option,
    limit_option,
    rail_option,
    rails_option,
    resolve_overlay,
)
from bacmac.cli.comparison import print_comparison, write_comparison
from bacmac.cli.output import json_option, print_json, progress
from bacmac.cli.remote_command import DeviceCommand
from bacmac.host.pack.file import read_packed
from bacmac.host.runtime.golden import Verify
from bacmac.host.runtime.inputs import load_images_for
from bacmac.power.compare import compare as run_comparison
from bacmac.power.report import comparison_json, require_report
from bacmac.power.runs import Arm, ComparePlan


@click.command(cls=DeviceCommand)
@click.option("--bac", required=True, type=FILE, help="Packed model of the shift arm.")
@click.option("--mac", required=True, type=FILE, help="Packed model of the multiply arm.")
@images_option
@limit_option
@click.option(
    "--bac-overlay",
    type=OVERLAY,
    help="Its overlay [default: the first shift overlay that runs it].",
)
@click.option(
    "--mac-overlay",
    type=OVERLAY,
    help="Its overlay [default: the first multiply overlay likewise].",
)
@folders_option
@click.option(
    "--blocks",
    type=click.IntRange(2, 1000),
    default=12,
    show_default=True,
    help="Blocks; each is one run of either arm in random order.",
)
@click.option("--run-seconds", type=float, default=10.0, show_default=True, help="A run.")
@click.option(
    "--idle-seconds",
    type=float,
    default=5.0,
    show_default=True,
    help="The idle window before and after each run.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the order of runs, the sampling jitter, and emulated noise.",
)
@click.option(
    "--verify",
    type=click.Choice(("sample", "all")),
    default="sample",
    show_default=True,
    help="Images of each batch that are compared with the exact engine; a difference ends it.",
)
@accept_timing_option
@device_option
@rails_option
@rail_option
@click.option(
    "-o",
    "--output",
    type=OUTPUT,
    default=Path("comparison"),
    show_default=True,
    metavar="NAME",
    help="Write NAME.json and NAME.html.",
)
@click.option("--no-report", is_flag=True, help="Write no HTML (it needs the extra `report`).")
@json_option
def compare(
    bac: Path,
    mac: Path,
    images: Path,
    limit: int | None,
    bac_overlay: str | None,
    mac_overlay: str | None,
    folders: tuple[Path, ...],
    blocks: int,
    run_seconds: float,
    idle_seconds: float,
    seed: int,
    verify: Verify,
    accept_timing: bool,
    device: str,
    rails_word: str,
    names: tuple[str, ...],
    output: Path,
    no_report: bool,
    as_json: bool,
) -> None:
    """Compare the energy of a shift and a multiply accelerator in randomised blocks of runs."""
    if not no_report:
        require_report()
    bac_model, mac_model = read_packed(bac), read_packed(mac)
    image_set = load_images_for(bac_model.model, images, limit)
    plan = ComparePlan(
        bac=Arm(resolve_overlay(bac_model.model, bac_overlay, folders, "bac"), bac_model),
        mac=Arm(resolve_overlay(mac_model.model, mac_overlay, folders, "mac"), mac_model),
        images=image_set,
        blocks=blocks,
        run_s=run_seconds,
        idle_s=idle_seconds,
        seed=seed,
        device=device,
        rails=rails_word,
        rail_names=names,
        verify=verify,
        accept_timing=accept_timing,
    )
    with progress() as advance:
        comparison = run_comparison(plan, progress=advance)
    write_comparison(comparison, output, report=not no_report)
    if as_json:
        print_json(comparison_json(comparison))
    else:
        print_comparison(comparison)
