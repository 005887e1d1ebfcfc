"""`bacmac pack`: a model becomes a packed file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bacmac.cli.choices import FILE, folders_option, layer_list_option
from bacmac.cli.formats import formats_json, print_formats
from bacmac.cli.layers import layer_bytes, layer_json, print_quality
from bacmac.cli.normalization import normalization_options, resolve_normalization
from bacmac.cli.output import json_option, note, print_json, print_table, progress
from bacmac.cli.pack_options import compress_options, group_shape, resolve_options
from bacmac.host.errors import InputError
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.compress import compress
from bacmac.host.pack.file import read_packed, write_packed
from bacmac.host.pack.formats import DENSE, check_format, choose_formats
from bacmac.host.pack.summary import skipped_cycles, summarize
from bacmac.host.quantize.budget import LayerChoice
from bacmac.host.quantize.imported import needs_calibration
from bacmac.overlays.registry import load_overlay


@click.command()
@click.argument("model", type=FILE)
@layer_list_option
@click.option(
    "--calibration",
    type=FILE,
    metavar="IMAGES",
    help="Image set (.npz with `images`) from which activation ranges are found; a file that is "
    "quantized throughout needs none.",
)
@click.option("-o", "--output", required=True, type=FILE, help="The packed model to write.")
@compress_options
@click.option(
    "--format",
    "storage",
    default="dense",
    show_default=True,
    metavar="FORMAT",
    help="How weights are stored: dense, bitmap, coo, nm (or nm-2:4), stream (needs --overlay), or "
    "auto, the smallest for each layer.",
)
@folders_option
@normalization_options
@json_option
def pack(
    model: Path,
    layers: Path | None,
    calibration: Path | None,
    output: Path,
    overlay: str | None,
    storage: str,
    folders: tuple[Path, ...],
    pixel_max: float | None,
    mean: str | None,
    std: str | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Quantize, prune and pack MODEL into one file.

    MODEL is an .onnx or .tflite file, a PyTorch checkpoint, .safetensors or .npz with
    --layer-list, or a .json layer list. For images stored as pixels, --pixel-max, --mean and --std
    say how the network wants them; the packed file remembers.
    """
    network = load_model(model, layers)
    lacking = needs_calibration(network)
    if calibration is None and lacking is not None:
        raise InputError(
            "pack",
            "--calibration",
            found="none",
            expected=f"an image set: {lacking} is in floats",
        )
    images = None if calibration is None else load_images(calibration, shape=network.input_shape)
    normalization = resolve_normalization(
        images, pixel_max, mean, std, channels=network.input_shape[0]
    )
    manifest = None if overlay is None else load_overlay(overlay, folders).manifest
    options = resolve_options(chosen, manifest, normalization)
    group = group_shape(manifest)
    check_format(storage, group)
    with progress() as advance:
        quantized = compress(network, images, options, progress=advance)
    formats = choose_formats(quantized, storage, group)
    write_packed(output, quantized, {name: how.name for name, how in formats.items()})
    packed = read_packed(output)
    summary = summarize(quantized, group)
    choices = _choices(quantized)
    for text in _notes(quantized):
        note(text)
    if as_json:
        print_json(
            {
                "file": str(output),
                "sha256": packed.sha256,
                "bytes": packed.n_bytes,
                "layers": [layer_json(layer, layer_bytes(packed, layer)) for layer in summary],
                "budget": [vars(choice) for choice in choices],
                "formats": formats_json(formats),
                "notes": _notes(quantized),
            }
        )
        return
    if choices and options.budget is not None:
        _print_budget(choices, options.budget.kind)
    print_quality(summary)
    if storage != DENSE:
        print_formats(formats)
    if group is not None:
        note(f"empty groups save {skipped_cycles(summary):.1%} of the array's cycles")
    note(f"{output}: {packed.n_bytes:,} bytes. Next: bacmac inspect {output}")


def _choices(quantized: QuantizedModel) -> list[LayerChoice]:
    rows = quantized.provenance.get("budget")
    return [LayerChoice(**row) for row in rows] if isinstance(rows, list) else []


def _notes(quantized: QuantizedModel) -> list[str]:
    """What a person must know of the import."""
    imported = quantized.provenance.get("imported")
    notes = imported.get("notes") if isinstance(imported, dict) else None
    return [str(text) for text in notes] if isinstance(notes, list) else []


def _print_budget(choices: Sequence[LayerChoice], kind: str) -> None:
    n_weights = sum(choice.n_weights for choice in choices)
    bits = sum(choice.bits * choice.n_weights for choice in choices) / n_weights
    rows: list[tuple[object, ...]] = [
        (
            choice.layer,
            choice.scheme,
            choice.bits,
            f"{choice.n_weights:,}",
            f"{choice.n_products:,}",
            f"{choice.cost:.1%}",
            f"{choice.sensitivity:.1e}",
        )
        for choice in choices
    ]
    rows.append(
        (
            "all",
            "",
            f"{bits:.2f}",
            f"{n_weights:,}",
            f"{sum(choice.n_products for choice in choices):,}",
            f"{sum(choice.cost for choice in choices):.1%}",
            f"{sum(choice.sensitivity for choice in choices):.1e}",
        )
    )
    print_table(
        ["layer", "scheme", "bits", "weights", "products", "of budget", "sensitivity"],
        rows,
        numbers=range(2, 7),
        title="sensitivity: error expected at the output, relative to its variance",
    )
    if kind == "energy":
        note(
            "The energy of products is an estimate from netlists, not a measurement, and takes "
            "each layer to run on the product terms that suit it."
        )
