"""`bacmac check`: does a model file compute what it should, and will the accelerator?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from bacmac.cli.choices import FILE, layer_list_option
from bacmac.cli.normalization import normalization_options, resolve_normalization
from bacmac.cli.output import json_option, note, print_json, print_table, progress, say
from bacmac.host.importers.definition import outputs_as_defined
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.layers import Model, Normalization
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.quantize.imported import needs_calibration
from bacmac.host.runtime.vectors import (
    Reproduction,
    device_outputs,
    load_vectors,
    reproduction,
)

FILE_SAYS = "as the file defines it"
ACCELERATOR = "as the accelerator computes it"


@click.command()
@click.argument("model", type=FILE)
@click.option(
    "--vectors",
    required=True,
    type=FILE,
    help="Test vectors: an .npz with `input`, and `output` or `logits`.",
)
@layer_list_option
@click.option(
    "--calibration",
    type=FILE,
    metavar="IMAGES",
    help="Image set for what the file left in floats; without it only the file is checked then.",
)
@normalization_options
@json_option
def check(
    model: Path,
    vectors: Path,
    layers: Path | None,
    calibration: Path | None,
    pixel_max: float | None,
    mean: str | None,
    std: str | None,
    as_json: bool,
) -> None:
    """Run MODEL on test vectors: by its own definition, and by the accelerator's integers.

    Exit status 1 where its own definition does not give the vectors' outputs.
    """
    network = load_model(model, layers)
    known = load_vectors(vectors, network.input_shape)
    found = {
        FILE_SAYS: reproduction(network, outputs_as_defined(model, network, known.inputs), known)
    }
    lacking = needs_calibration(network)
    images = None
    normalization = Normalization()
    if calibration is not None:
        images = load_images(calibration, shape=network.input_shape)
        normalization = resolve_normalization(images, pixel_max, mean, std)
    if lacking is None or images is not None:
        with progress() as advance:
            options = CompressOptions(normalization=normalization)
            quantized = compress(network, images, options, progress=advance)
        outputs = device_outputs(quantized, known.inputs)
        found[ACCELERATOR] = reproduction(network, outputs, known)
    if as_json:
        print_json({name: asdict(each) | {"exact": each.exact} for name, each in found.items()})
    else:
        _print(network, found)
        if ACCELERATOR not in found:
            note(
                f"{lacking} is in floats: --calibration IMAGES shows the accelerator's outputs too"
            )
    if not found[FILE_SAYS].exact:
        raise SystemExit(1)


def _print(model: Model, found: dict[str, Reproduction]) -> None:
    for text in model.notes:
        note(text)
    print_table(
        ["outputs", "differ", "largest difference", "in steps", "same class"],
        [
            (
                name,
                f"{each.n_differing:,} of {each.n_values:,}",
                f"{each.largest_difference:.3g}",
                "" if each.step is None else f"{each.largest_difference / each.step:.2f}",
                f"{each.n_classes_equal} of {each.n_images}",
            )
            for name, each in found.items()
        ],
        numbers=(1, 2, 3, 4),
    )
    if any(each.softmax for each in found.values()):
        say("The vectors are probabilities: compared after a softmax of the model's logits.")
