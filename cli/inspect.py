"""`bacmac inspect`: what a packed model, or a model file, holds."""

from __future__ import annotations

from pathlib import Path

import click

from bacmac.cli.choices import (
    FILE,
    OUTPUT,
    arrays_option,
    folders_option,
    layer_list_option,
    limit_option,
    resolve_arrays,
)
from bacmac.cli.inspect_model import inspect_model
from bacmac.cli.inspect_packed import inspect_packed
from bacmac.cli.output import json_option
from bacmac.host.errors import InputError
from bacmac.host.importers.file_kinds import SAFETENSORS, kind_of, read_head
from bacmac.power.report import require_report

PACKED_SUFFIX = ".safetensors"


@click.command()
@click.argument("file", type=FILE)
@layer_list_option
@click.option("--layer", help="Draw the histogram of this layer alone, a row a level.")
@click.option(
    "--images",
    type=FILE,
    help="Image set with `labels`: measure a packed model's accuracy on it, by the exact engine.",
)
@limit_option
@arrays_option
@folders_option
@click.option(
    "--html", type=OUTPUT, help="Also write a page with all plots (it needs the extra `report`)."
)
@json_option
def inspect(
    file: Path,
    layers: Path | None,
    layer: str | None,
    images: Path | None,
    limit: int | None,
    overlays: tuple[str, ...],
    folders: tuple[Path, ...],
    html: Path | None,
    as_json: bool,
) -> None:
    """Show what FILE holds, layer by layer: a packed model, or any model file that is read.

    Of a packed model: sizes, how often each level is used, and what accuracy costs in bits and
    products. Of a model file: its layers, what in it is quantized already, and on which levels
    its weights lie.
    """
    if html is not None:
        require_report()
    if is_packed(file, layers):
        arrays = resolve_arrays(overlays, folders)
        inspect_packed(
            file, layer=layer, images=images, limit=limit, arrays=arrays, html=html, as_json=as_json
        )
        return
    if images is not None:
        raise InputError(
            "inspect",
            "--images",
            found=f"a model that is not packed ({file.name})",
            expected="a packed model",
            hint="bacmac run MODEL --images gives the accuracy of a model as its file has it",
        )
    inspect_model(file, layers, layer=layer, html=html, as_json=as_json)


def is_packed(file: Path, layers: Path | None) -> bool:
    """Whether a file is to be read as a packed model: safetensors without a layer list."""
    if layers is not None:
        return False
    return file.suffix.lower() == PACKED_SUFFIX or kind_of(read_head(file)) == SAFETENSORS
