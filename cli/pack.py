"""`bacmac pack`: a float model becomes a packed file."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from bacmac.cli.layers import layer_bytes, layer_json, print_quality
from bacmac.cli.output import json_option, note, print_json, progress
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError
from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.layers import Normalization
from bacmac.host.pack.compress import CompressOptions, compress, summarize
from bacmac.host.pack.file import read_packed, write_packed
from bacmac.host.pack.layer_table import LayerTable, read_layer_table

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
    '"activation_bits": 6, "sparsity": 0.3}}.',
)
@click.option(
    "--sparsity", type=float, default=0.0, show_default=True, help="Share of weights made zero."
)
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
    default="layer",
    show_default=True,
    help="Reach the sparsity in each layer, or over all layers together.",
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
@click.option("--pixel-max", type=float, help="Pixel that means 1.0 [default: the set's, or 255].")
@click.option("--mean", metavar="M[,M...]", help="Mean of the input, one value or one a channel.")
@click.option("--std", metavar="S[,S...]", help="Standard deviation of the input, likewise.")
@json_option
def pack(
    model: Path,
    calibration: Path,
    output: Path,
    scheme: str,
    first_last: str | None,
    layer_table: Path | None,
    sparsity: float,
    pruning: str,
    scope: str,
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
    normalization = _normalization(images, pixel_max, mean, std)
    if normalization is None and images.normalization is None and images.images.dtype == np.uint8:
        note(
            "Pixels are taken as pixel / 255: neither the image set nor --pixel-max, --mean or "
            "--std says how the network wants them. Another normalization ruins the accuracy."
        )
    table = read_layer_table(layer_table) if layer_table else LayerTable()
    options = CompressOptions(
        scheme=scheme,
        first_last=first_last,
        schemes=table.schemes,
        sparsity=sparsity,
        sparsities=table.sparsities,
        pruning=pruning,
        scope=scope,
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
    layers = summarize(quantized)
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
    note(f"{output}: {packed.n_bytes:,} bytes. Next: bacmac inspect {output}")


def _normalization(
    images: ImageSet, pixel_max: float | None, mean: str | None, std: str | None
) -> Normalization | None:
    """What the options say, completed by the image set; None when no option says anything."""
    if pixel_max is None and mean is None and std is None:
        return None
    known = images.normalization or Normalization()
    channels = images.images.shape[1]
    return Normalization(
        pixel_max=known.pixel_max if pixel_max is None else _positive("--pixel-max", pixel_max),
        mean=known.mean if mean is None else _numbers("--mean", mean, channels),
        std=known.std
        if std is None
        else tuple(_positive("--std", value) for value in _numbers("--std", std, channels)),
    )


def _numbers(option: str, text: str, channels: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(option, "value", found=repr(text), expected="numbers") from error
    if len(values) not in (1, channels) or not all(abs(value) < 1e9 for value in values):
        raise InputError(
            option, "value", found=repr(text), expected=f"1 or {channels} finite numbers"
        )
    return values


def _positive(option: str, value: float) -> float:
    if not 0 < value < 1e9:
        raise InputError(option, "value", found=str(value), expected="a number above 0")
    return value
