"""`bacmac recover`: compress a float model, train it to make good the loss, and pack it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from bacmac.cli.choices import FILE, folders_option, layer_list_option
from bacmac.cli.formats import formats_json, print_formats
from bacmac.cli.layers import layer_bytes, layer_json, print_quality
from bacmac.cli.normalization import normalization_options, resolve_normalization
from bacmac.cli.output import json_option, note, print_json, print_table, progress
from bacmac.cli.pack_options import compress_options, group_shape, resolve_options
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.pack.file import read_packed, write_packed
from bacmac.host.pack.formats import DENSE, check_format, choose_formats
from bacmac.host.pack.summary import summarize
from bacmac.host.recover.options import RecoverOptions
from bacmac.host.recover.recovery import recover as train
from bacmac.host.recover.report import EpochReport
from bacmac.overlays.registry import load_overlay

_DEFAULTS = RecoverOptions()


@click.command()
@click.argument("model", type=FILE)
@layer_list_option
@click.option(
    "--images",
    "image_file",
    required=True,
    type=FILE,
    metavar="IMAGES",
    help="Image set (.npz with `images`) to train on; ranges are found on its first images.",
)
@click.option("-o", "--output", required=True, type=FILE, help="The packed model to write.")
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
    default=_DEFAULTS.prune_epochs,
    show_default=True,
    help="Before that, in float, while zeros rise to --sparsity; 0 leaves them to --pruning.",
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
    type=FILE,
    help="Written after each epoch; where it exists, the run goes on from it.",
)
@compress_options
@click.option(
    "--format",
    "storage",
    default=DENSE,
    show_default=True,
    metavar="FORMAT",
    help="How weights are stored, as `bacmac pack` takes it.",
)
@folders_option
@normalization_options
@json_option
def recover(
    model: Path,
    layers: Path | None,
    image_file: Path,
    output: Path,
    epochs: int,
    prune_epochs: int,
    lr: float,
    prune_lr: float,
    batch: int,
    seed: int,
    augment: bool,
    label_share: float,
    held_out: float,
    threads: int | None,
    checkpoint: Path | None,
    overlay: str | None,
    storage: str,
    folders: tuple[Path, ...],
    pixel_max: float | None,
    mean: str | None,
    std: str | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Compress MODEL, train it for a few epochs to make good what that cost, and pack it.

    Needs the extra `train`. The network learns to give the float network's outputs; labels are not
    needed. With --checkpoint a run that was stopped, by Ctrl-C too, goes on where it was. How it is
    compressed is told as to `bacmac pack`; a file's own integers are not kept.
    """
    network = load_model(model, layers)
    images = load_images(image_file, shape=network.input_shape)
    normalization = resolve_normalization(
        images, pixel_max, mean, std, channels=network.input_shape[0]
    )
    manifest = None if overlay is None else load_overlay(overlay, folders).manifest
    compressing = resolve_options(chosen, manifest, normalization)
    group = group_shape(manifest)
    check_format(storage, group)
    if network.is_quantized:
        note("The file's integers are trained as floats; its network is what is imitated.")
    options = RecoverOptions(
        epochs=epochs,
        prune_epochs=prune_epochs,
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
            compressing,
            options,
            checkpoint=checkpoint,
            progress=advance,
            told=lambda report: note(_sentence(report, labelled=labelled)),
        )
    formats = choose_formats(recovered.model, storage, group)
    write_packed(output, recovered.model, {name: how.name for name, how in formats.items()})
    packed = read_packed(output)
    summary = summarize(recovered.model, group)
    if as_json:
        print_json(
            {
                "file": str(output),
                "sha256": packed.sha256,
                "bytes": packed.n_bytes,
                "epochs": [asdict(report) for report in recovered.reports],
                "formats": formats_json(formats),
                "layers": [layer_json(layer, layer_bytes(packed, layer)) for layer in summary],
            }
        )
        return
    _print_epochs(recovered.reports, labelled=labelled)
    print_quality(summary)
    if storage != DENSE:
        print_formats(formats)
    note(f"{output}: {packed.n_bytes:,} bytes. Next: bacmac inspect {output}")


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
