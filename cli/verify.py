"""`bacmac verify`: the same images on two devices, bit for bit."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from bacmac.cli.choices import (
    FILE,
    accept_timing_option,
    batch_option,
    folders_option,
    images_option,
    limit_option,
    overlay_option,
    resolve_overlay,
)
from bacmac.cli.output import json_option, note, print_json, print_table, progress, say
from bacmac.cli.remote_command import DeviceCommand
from bacmac.host.device.registry import open_board
from bacmac.host.pack.file import read_packed
from bacmac.host.runtime.compare_devices import DeviceComparison, first_difference
from bacmac.host.runtime.inputs import load_images_for
from bacmac.overlays.marks import accepted_marks


@click.command(cls=DeviceCommand)
@click.argument("packed", type=FILE)
@images_option
@limit_option
@overlay_option
@folders_option
@click.option("--device", default="functional:", show_default=True, help="The device in question.")
@click.option("--against", default="reference:", show_default=True, help="The device trusted.")
@batch_option
@accept_timing_option
@json_option
def verify(
    packed: Path,
    images: Path,
    limit: int | None,
    overlay: str | None,
    folders: tuple[Path, ...],
    device: str,
    against: str,
    batch: int | None,
    accept_timing: bool,
    as_json: bool,
) -> None:
    """Run images on two devices and report the first output that differs.

    Exit status 0 when outputs and counters are equal, 1 when they are not.
    """
    model = read_packed(packed).model
    image_set = load_images_for(model, images, limit)
    chosen = resolve_overlay(model, overlay, folders)
    marks = accepted_marks(chosen, accept_timing=accept_timing)
    with ExitStack() as stack:
        first, second = open_board(device, tell=note), open_board(against, tell=note)
        stack.callback(first.close)
        stack.callback(second.close)
        advance = stack.enter_context(progress())
        found = first_difference(
            first, second, chosen, model, image_set.images, batch_size=batch, progress=advance
        )
    if as_json:
        payload = {"devices": [device, against], "marks": marks, "agree": found.agree}
        print_json({**payload, **asdict(found)})
    else:
        for mark in marks:
            say(f"Mark: {mark}.")
        _print(found, device, against)
    if not found.agree:
        raise SystemExit(1)


def _print(found: DeviceComparison, device: str, against: str) -> None:
    if found.difference is None:
        say(f"Outputs of {found.n_images:,} images are equal on {device} and {against}.")
    else:
        first = found.difference
        say(
            f"{found.n_different:,} outputs differ; the first is image {first.image}, channel "
            f"{first.channel}, row {first.y}, column {first.x}: "
            f"{first.first_value} on {device}, {first.second_value} on {against}."
        )
    if found.counters_agree:
        say("Cycle and work counters are equal.")
        return
    counters = (asdict(found.first_counters), asdict(found.second_counters))
    print_table(
        ["counter", device, against],
        [(name, counters[0][name], counters[1][name]) for name in counters[0]],
        numbers=(1, 2),
    )
