"""`bacmac export`: the weights of a packed model in another project's layout, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from bacmac.cli.choices import FILE, OUTPUT
from bacmac.cli.output import json_option, note, print_json, print_table
from bacmac.host.pack.export import export_model, read_exported, with_levels
from bacmac.host.pack.file import read_packed, write_packed
from bacmac.host.pack.formats import AUTO, DENSE, choose_formats
from bacmac.host.pack.layout_words import WORD_BITS
from bacmac.host.pack.layouts import LAYOUTS

_LAYOUTS = "; ".join(f"{name}: {layout.says}" for name, layout in LAYOUTS.items())


@click.command(
    help=f"""Write the weights of the packed model PACKED for another project, or read them back.

    Layouts: {_LAYOUTS}.

    A zero that a layout cannot hold, or a level outside its set, is an error that names the layer
    and the count; nothing is written then.
    """
)
@click.argument("packed", type=FILE)
@click.option("--layout", type=click.Choice(list(LAYOUTS)), help="Whose layout.")
@click.option(
    "--word-bits",
    type=click.Choice([str(bits) for bits in WORD_BITS]),
    default="32",
    show_default=True,
    help="Bits of a word in mem and coe.",
)
@click.option(
    "--read",
    "folder",
    type=FILE,
    help="Read weights back from this folder; -o is then the packed model with them in it.",
)
@click.option("-o", "--output", required=True, type=OUTPUT, help="The folder to make.")
@json_option
def export(
    packed: Path,
    layout: str | None,
    word_bits: str,
    folder: Path | None,
    output: Path,
    as_json: bool,
) -> None:
    """Write weights for another project, or read them back."""
    if (layout is None) == (folder is None):
        raise click.UsageError("give --layout to write a folder, or --read to read one")
    found = read_packed(packed)
    if folder is not None:
        changed = with_levels(found.model, read_exported(found.model, folder))
        changed = replace(changed, provenance={**changed.provenance, "weights": str(folder)})
        # other weights may not fit the format that the old ones had
        dense = set(found.layer_formats.values()) <= {DENSE, ""}
        formats = choose_formats(changed, DENSE if dense else AUTO)
        write_packed(output, changed, {name: how.name for name, how in formats.items()})
        note(f"{output}: the model of {packed} with the weights of {folder}")
        if as_json:
            print_json({"file": str(output), "weights": str(folder)})
        return
    layers = export_model(found.model, str(layout), output, word_bits=int(word_bits))
    if as_json:
        print_json(
            {"folder": str(output), "layout": layout, "layers": [vars(layer) for layer in layers]}
        )
        return
    print_table(
        ["layer", "scheme", "weights", "bytes", "files"],
        [
            (
                layer.name,
                layer.scheme,
                f"{layer.n_weights:,}",
                f"{layer.n_bytes:,}",
                ", ".join(layer.files),
            )
            for layer in layers
        ],
        numbers=(2, 3),
        prose=(4,),
    )
    note(f"{output}: {len(layers)} layers; weights.json says what each file holds")
