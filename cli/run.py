"""`bacmac run`: stream images through a device."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from bacmac.cli.choices import (
    FILE,
    batch_option,
    device_option,
    folders_option,
    images_option,
    limit_option,
    overlay_option,
    resolve_overlay,
)
from bacmac.cli.output import json_option, note, print_json, print_table, progress
from bacmac.host.device.registry import open_board
from bacmac.host.files import replace_atomically
from bacmac.host.pack.file import read_packed
from bacmac.host.runtime.evaluate import Evaluation, evaluate
from bacmac.host.runtime.inputs import load_images_for
from bacmac.host.runtime.session import Session


@click.command()
@click.argument("packed", type=FILE)
@images_option
@limit_option
@overlay_option
@folders_option
@device_option
@batch_option
@click.option("-o", "--output", type=FILE, help="Also write classes and output values (.npz).")
@json_option
def run(
    packed: Path,
    images: Path,
    limit: int | None,
    overlay: str | None,
    folders: tuple[Path, ...],
    device: str,
    batch: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Stream images through a device with the model PACKED loaded."""
    model = read_packed(packed).model
    image_set = load_images_for(model, images, limit)
    chosen = resolve_overlay(model, overlay, folders)
    board = open_board(device)
    try:
        with Session(board, chosen, model, batch_size=batch) as session, progress() as advance:
            result = evaluate(session, image_set, advance)
    finally:
        board.close()
    if output is not None:
        with replace_atomically(output) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, classes=result.classes, values=result.values)
    name, clock_hz = chosen.manifest.name, chosen.manifest.clock_hz
    if as_json:
        print_json({"overlay": name, "device": device, **_payload(result, clock_hz)})
        return
    print_table(["quantity", "value"], _rows(result, name, device, clock_hz), prose=(1,))
    if output is not None:
        note(f"{output}: {result.n_images} rows of classes and values")


def _payload(result: Evaluation, clock_hz: float) -> dict[str, object]:
    return {
        "provenance": result.provenance,
        "images": result.n_images,
        "correct": result.n_correct,
        "accuracy": result.accuracy,
        "accuracy_standard_error": result.accuracy_standard_error,
        "counters": asdict(result.counters),
        "busy_s": result.busy_s,
        "clock_hz": clock_hz,
    }


def _rows(
    result: Evaluation, overlay: str, device: str, clock_hz: float
) -> list[tuple[str, object]]:
    counters = result.counters
    slots = counters.products_done + counters.products_skipped
    rows: list[tuple[str, object]] = [
        ("device", f"{device} ({_PROVENANCE[result.provenance]})"),
        ("overlay", overlay),
        ("images", f"{result.n_images:,}"),
    ]
    if result.accuracy is not None and result.accuracy_standard_error is not None:
        rows.append(
            (
                "accuracy",
                (
                    f"{100 * result.accuracy:.2f} % +- {100 * result.accuracy_standard_error:.2f} "
                    f"(standard error; {result.n_correct} right)"
                ),
            )
        )
    rows += [
        ("cycles", f"{counters.cycles:,} ({counters.cycles / result.n_images:,.0f} an image)"),
        ("products done", f"{counters.products_done:,}"),
        (
            "products skipped",
            (
                f"{counters.products_skipped:,} "
                f"({100 * counters.products_skipped / slots:.1f} %, zero weights)"
            ),
        ),
        (
            "device time",
            (
                f"{result.busy_s:.4g} s at {clock_hz / 1e6:g} MHz, "
                f"{result.n_images / result.busy_s:,.0f} images/s"
            ),
        ),
    ]
    return rows


_PROVENANCE = {
    "board": "measured on a board",
    "rtl": "simulated RTL",
    "functional": "emulated: time is cycles over clock, not this machine's",
}
