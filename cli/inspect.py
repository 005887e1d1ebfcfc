"""`bacmac inspect`: what a packed model holds, layer by layer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from bacmac.cli.choices import FILE
from bacmac.cli.layers import layer_bytes, layer_json, print_layers
from bacmac.cli.output import json_option, print_json, print_table
from bacmac.host.model.layers import Normalization
from bacmac.host.pack.file import read_packed
from bacmac.host.pack.summary import summarize


@click.command()
@click.argument("packed", type=FILE)
@json_option
def inspect(packed: Path, as_json: bool) -> None:
    """Show what the packed model PACKED holds, layer by layer."""
    found = read_packed(packed)
    model = found.model
    layers = summarize(model)
    if as_json:
        print_json(
            {
                "file": found.path,
                "sha256": found.sha256,
                "bytes": found.n_bytes,
                "name": model.name,
                "input_shape": list(model.input_shape),
                "input_format": asdict(model.input_format),
                "normalization": asdict(model.normalization),
                "layers": [layer_json(layer, layer_bytes(found, layer)) for layer in layers],
                "provenance": dict(model.provenance),
            }
        )
        return
    stored = model.input_format
    print_table(
        ["field", "value"],
        [
            ("file", f"{found.path}, {found.n_bytes:,} bytes"),
            ("sha256", found.sha256),
            (
                "input",
                (
                    f"{'x'.join(map(str, model.input_shape))}, "
                    f"{'int' if stored.signed else 'uint'}{stored.bits}, scale {stored.scale:.6g}"
                ),
            ),
            ("normalization", _normalization(model.normalization)),
            ("made from", model.provenance.get("source", "unknown")),
        ],
        title=model.name,
        prose=(1,),
    )
    print_layers(found, layers)


def _normalization(known: Normalization) -> str:
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (known.mean, known.std))
    return f"(pixel / {known.pixel_max:g} - ({mean})) / ({std})"
