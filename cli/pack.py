"""`bacmac pack`: a float model becomes a packed file."""

from __future__ import annotations

from pathlib import Path

import click

from bacmac.cli.choices import folders_option
from bacmac.cli.layers import layer_bytes, layer_json, print_quality
from bacmac.cli.normalization import normalization_options, resolve_normalization
from bacmac.cli.output import json_option, note, print_json, progress
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.pack.file import read_packed, write_packed
from bacmac.host.pack.layer_table import LayerTable, read_layer_table
from bacmac.host.pack.summary import skipped_cycles, summarize
from bacmac.overlays.registry import load_overlay

_FILE = click.Path(path_type=Path)
_SCHEME = click.Choice(list(SCHEMES))

_BIAS_CORRECTION = {"auto": None, "on": True, "off": False}


@click.command()
@click.argument("model", type=_FILE)
@click.option(
    "--calibration",
    required=True,
    type=_FILE,
    metavar="IMAGES",
    help="Image set (.npz with `images`) from which activation ranges are found.",
)
@click.option("-o", "--output", required=True, type=_FILE, help="The packed model to write.")
@click.option("--scheme", type=_SCHEME, default="pot-4", show_default=True, help="Weight scheme.")
@click.option("--first-last", type=_SCHEME, help="Weight scheme of the first and last layer.")
@click.option(
    "--layer-table",
    type=_FILE,
    help='Exceptions by layer, JSON: {"conv1": "uniform-8", "conv2": {"scheme": "pot-3", '
    '"activation_bits": 6, "sparsity": 0.3, "group_sparsity": 0.5}}.',
)
@click.option(
    "--sparsity", type=float, default=0.0, show_default=True, help="Share of weights made zero."
)
@click.option(
    "--prune-groups",
    type=float,
    default=0.0,
    show_default=True,
    help="Share of weight groups made empty, which cost no time at all; needs --overlay.",
)
@click.option("--overlay", help="Overlay name or manifest that says how large a group is.")
@folders_option
@click.option(
    "--pruning",
    type=click.Choice(["magnitude", "pot-aware"]),
    default="magnitude",
    show_default=True,
    help="Which weights go to zero first.",
)
@click.option(
    "--scope",
    type=click.Choice(["layer", "global"]),
    help="Reach the share in each layer, or over all layers together  [default: layer for weights, "
    "global for groups].",
)
@click.option(
    "--rounding",
    type=click.Choice(["compensated", "nearest"]),
    default="compensated",
    show_default=True,
    help="How weights are rounded to levels.",
)
@click.option(
    "--bias-correction",
    type=click.Choice(list(_BIAS_CORRECTION)),
    default="auto",
    show_default=True,
    help="Match each channel's mean output; auto tries both and keeps the better.",
)
@click.option(
    "--activation-bits",
    type=click.IntRange(2, 8),
    default=8,
    show_default=True,
    help="Bits of stored activations.",
)
@click.option(
    "--calibration-images",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="How many images of the set are used, from its start.",
)
@normalization_options
@json_option
def pack(
    model: Path,
    calibration: Path,
    output: Path,
    scheme: str,
    first_last: str | None,
    layer_table: Path | None,
    sparsity: float,
    prune_groups: float,
    overlay: str | None,
    folders: tuple[Path, ...],
    pruning: str,
    scope: str | None,
    rounding: str,
    bias_correction: str,
    activation_bits: int,
    calibration_images: int,
    pixel_max: float | None,
    mean: str | None,
    std: str | None,
    as_json: bool,
) -> None:
    """Quantize, prune and pack MODEL (.onnx, or a .json layer list) into one file.

    For images stored as pixels, --pixel-max, --mean and --std say how the network wants them; the
    packed file remembers.
    """
    network = load_model(model)
    images = load_images(calibration, shape=network.input_shape)
    normalization = resolve_normalization(images, pixel_max, mean, std)
    table = read_layer_table(layer_table) if layer_table else LayerTable()
    group = None
    if overlay is None and (prune_groups or table.group_sparsities):
        raise InputError(
            "pack",
            "--prune-groups",
            found="no --overlay",
            expected="the overlay whose groups they are: its manifest says how large one is",
        )
    if overlay is not None:
        geometry = load_overlay(overlay, folders).manifest.geometry
        group = (geometry.group_outputs, geometry.group_inputs)
    options = CompressOptions(
        scheme=scheme,
        first_last=first_last,
        schemes=table.schemes,
        sparsity=sparsity,
        sparsities=table.sparsities,
        pruning=pruning,
        scope=scope,
        group_sparsity=prune_groups,
        group_sparsities=table.group_sparsities,
        group=group,
        rounding=rounding,
        bias_correction=_BIAS_CORRECTION[bias_correction],
        activation_bits=activation_bits,
        activation_bits_table=table.activation_bits,
        calibration_images=calibration_images,
        normalization=normalization,
    )
    with progress() as advance:
        quantized = compress(network, images, options, progress=advance)
    write_packed(output, quantized)
    packed = read_packed(output)
    layers = summarize(quantized, group)
    if as_json:
        print_json(
            {
                "file": str(output),
                "sha256": packed.sha256,
                "bytes": packed.n_bytes,
                "layers": [layer_json(layer, layer_bytes(packed, layer)) for layer in layers],
            }
        )
        return
    print_quality(layers)
    if group is not None:
        note(f"empty groups save {skipped_cycles(layers):.1%} of the array's cycles")
    note(f"{output}: {packed.n_bytes:,} bytes. Next: bacmac inspect {output}")
