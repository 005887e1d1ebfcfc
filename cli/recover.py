"""`bacmac recover`: compress a float model, train it to make good the loss, and pack it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from bacmac.cli.layers import layer_bytes, layer_json, print_quality
from bacmac.cli.normalization import normalization_options, resolve_normalization
from bacmac.cli.output import json_option, note, print_json, print_table, progress
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.pack.compress import CompressOptions
from bacmac.host.pack.file import read_packed, write_packed
from bacmac.host.pack.layer_table import LayerTable, read_layer_table
from bacmac.host.pack.summary import summarize
from bacmac.host.recover.options import RecoverOptions
from bacmac.host.recover.recovery import recover as train
from bacmac.host.recover.report import EpochReport

_FILE = click.Path(path_type=Path)
_SCHEME = click.Choice(list(SCHEMES))
_DEFAULTS = RecoverOptions()
FEW_ZEROS = 0.3
"""Share of zeros that compensated rounding makes good by itself."""


@click.command()
@click.argument("model", type=_FILE)
@click.option(
    "--images",
    "image_file",
    required=True,
    type=_FILE,
    metavar="IMAGES",
    help="Image set (.npz with `images`) to train on; ranges are found on its first images.",
)
@click.option("-o", "--output", required=True, type=_FILE, help="The packed model to write.")
@click.option("--scheme", type=_SCHEME, default="pot-4", show_default=True, help="Weight scheme.")
@click.option("--first-last", type=_SCHEME, help="Weight scheme of the first and last layer.")
@click.option(
    "--layer-table",
    type=_FILE,
    help='Exceptions by layer, JSON: {"conv1": {"scheme": "uniform-8", "sparsity": 0.3}}.',
)
@click.option(
    "--sparsity", type=float, default=0.0, show_default=True, help="Share of weights made zero."
)
@click.option(
    "--scope",
    type=click.Choice(["layer", "global"]),
    help="Reach the share in each layer, or over all together  [default: global over "
    "--prune-epochs, layer without].",
)
@click.option(
    "--epochs",
    type=int,
    default=_DEFAULTS.epochs,
    show_default=True,
    help="Over the images, with weights and activations rounded.",
)
@click.option(
    "--prune-epochs",
    type=int,
    help="Before that, in float, while zeros rise to --sparsity; 0 makes them at once  [default: "
    "four times --epochs where --sparsity is above 0.3, else 0].",
)
@click.option(
    "--lr",
    type=float,
    default=_DEFAULTS.learning_rate,
    show_default=True,
    help="Peak learning rate, relative to each channel's rms weight.",
)
@click.option(
    "--prune-lr",
    type=float,
    default=_DEFAULTS.prune_learning_rate,
    show_default=True,
    help="The same, of --prune-epochs.",
)
@click.option(
    "--batch", type=int, default=_DEFAULTS.batch, show_default=True, help="Images of a step."
)
@click.option(
    "--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Of everything random."
)
@click.option(
    "--augment/--no-augment",
    default=_DEFAULTS.augment,
    show_default=True,
    help="Shift images, mirror coloured ones, mix pairs.",
)
@click.option(
    "--label-share",
    type=float,
    default=_DEFAULTS.label_share,
    show_default=True,
    help="Part of the loss that is on labels; the rest imitates the float network.",
)
@click.option(
    "--held-out",
    type=float,
    default=_DEFAULTS.held_out,
    show_default=True,
    help="Share of the images that is not trained on and chooses the epoch to keep.",
)
@click.option(
    "--threads",
    type=int,
    help="Of torch; another number gives other last bits  [default: one a processor].",
)
@click.option(
    "--checkpoint",
    type=_FILE,
    help="Written after each epoch; where it exists, the run goes on from it.",
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
    help="How many images ranges are found on, from the start of the set.",
)
@normalization_options
@json_option
def recover(
    model: Path,
    image_file: Path,
    output: Path,
    scheme: str,
    first_last: str | None,
    layer_table: Path | None,
    sparsity: float,
    scope: str | None,
    epochs: int,
    prune_epochs: int | None,
    lr: float,
    prune_lr: float,
    batch: int,
    seed: int,
    augment: bool,
    label_share: float,
    held_out: float,
    threads: int | None,
    checkpoint: Path | None,
    activation_bits: int,
    calibration_images: int,
    pixel_max: float | None,
    mean: str | None,
    std: str | None,
    as_json: bool,
) -> None:
    """Compress MODEL, train it for a few epochs to make good what that cost, and pack it.

    Needs the extra `train`. The network learns to give the float network's outputs; labels are not
    needed. With --checkpoint a run that was stopped, by Ctrl-C too, goes on where it was.
    """
    network = load_model(model)
    images = load_images(image_file, shape=network.input_shape)
    normalization = resolve_normalization(images, pixel_max, mean, std)
    table = read_layer_table(layer_table) if layer_table else LayerTable()
    if table.group_sparsities:
        raise InputError(
            layer_table or "", "group_sparsity", found="a share", expected="none: see bacmac pack"
        )
    compress_options = CompressOptions(
        scheme=scheme,
        first_last=first_last,
        schemes=table.schemes,
        sparsity=sparsity,
        sparsities=table.sparsities,
        scope=scope,
        activation_bits=activation_bits,
        activation_bits_table=table.activation_bits,
        calibration_images=calibration_images,
        normalization=normalization,
    )
    options = RecoverOptions(
        epochs=epochs,
        prune_epochs=_prune_epochs(sparsity, epochs) if prune_epochs is None else prune_epochs,
        learning_rate=lr,
        prune_learning_rate=prune_lr,
        batch=batch,
        seed=seed,
        augment=augment,
        label_share=label_share,
        held_out=held_out,
        threads=threads or len(os.sched_getaffinity(0)),
    )
    labelled = images.labels is not None and network.output_shape[1:] == (1, 1)
    with progress() as advance:
        recovered = train(
            network,
            images,
            compress_options,
            options,
            checkpoint=checkpoint,
            progress=advance,
            told=lambda report: note(_sentence(report, labelled=labelled)),
        )
    write_packed(output, recovered.model)
    packed = read_packed(output)
    layers = summarize(recovered.model)
    if as_json:
        print_json(
            {
                "file": str(output),
                "sha256": packed.sha256,
                "bytes": packed.n_bytes,
                "epochs": [asdict(report) for report in recovered.reports],
                "layers": [layer_json(layer, layer_bytes(packed, layer)) for layer in layers],
            }
        )
        return
    _print_epochs(recovered.reports, labelled=labelled)
    print_quality(layers)
    note(f"{output}: {packed.n_bytes:,} bytes. Next: bacmac inspect {output}")


def _prune_epochs(sparsity: float, epochs: int) -> int:
    """Zeros that rounding alone makes good need no epochs in float (docs/recovery.md)."""
    return 4 * epochs if sparsity > FEW_ZEROS else 0


def _sentence(report: EpochReport, *, labelled: bool) -> str:
    """What an epoch gave, as it ends."""
    when = f"epoch {report.epoch} of {report.epochs}" if report.epoch else "start"
    loss = "" if report.loss is None else f"loss {report.loss:.4f}, "
    return (
        f"{report.stage}, {when}: {loss}held out: loss {report.held_out_loss:.4f}, "
        f"{report.held_out_accuracy:.2%} {'right' if labelled else 'as the float network'}; "
        f"{report.sparsity:.1%} zeros"
    )


def _print_epochs(reports: tuple[EpochReport, ...], *, labelled: bool) -> None:
    print_table(
        ["stage", "epoch", "loss", "held out", "right" if labelled else "as float", "zeros"],
        [
            (
                report.stage,
                report.epoch or "start",
                "" if report.loss is None else f"{report.loss:.4f}",
                f"{report.held_out_loss:.4f}",
                f"{report.held_out_accuracy:.2%}",
                f"{report.sparsity:.1%}",
            )
            for report in reports
        ],
        numbers=(1, 2, 3, 4, 5),
        title="loss: squared difference to the float network's outputs over their variance",
    )
