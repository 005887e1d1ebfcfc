"""`bacmac sweep`: many ways to compress a model, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bacmac.cli.choices import (
    FILE,
    OUTPUT,
    arrays_option,
    folders_option,
    layer_list_option,
    resolve_arrays,
)
from bacmac.cli.normalization import normalization_options, resolve_normalization
from bacmac.cli.output import json_option, note, print_json, progress
from bacmac.cli.sweep_table import print_sweep
from bacmac.host.compile.array_work import Array
from bacmac.host.errors import InputError
from bacmac.host.files import write_text
from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.layers import Model, Normalization
from bacmac.host.runtime.score import check_scorable
from bacmac.host.runtime.sweep import PointStore, grid, parse_option, run_sweep
from bacmac.host.runtime.sweep_point import (
    ImagePart,
    Option,
    PointSpec,
    SweepPoint,
    compress_options,
)
from bacmac.power.coefficients import load_coefficients
from bacmac.power.report import require_report
from bacmac.power.sweep import analyse, describe, require_rows, sweep_csv, sweep_json, sweep_text
from bacmac.power.sweep_report import sweep_html

MOST_CALIBRATION = 1024
"""Images that are taken for calibration from the test set, where no other set is given."""


@click.command()
@click.argument("model", type=FILE)
@layer_list_option
@click.option(
    "--images",
    required=True,
    type=FILE,
    help="Image set with `labels` (.npz) that accuracy is measured on.",
)
@click.option(
    "--calibration",
    type=FILE,
    metavar="IMAGES",
    help="Image set to calibrate on  [default: the first half of --images, at most "
    f"{MOST_CALIBRATION}; accuracy is then measured on the rest].",
)
@click.option("--limit", type=click.IntRange(1), help="Measure on the first so many images only.")
@click.option(
    "--scheme",
    "schemes",
    default="uniform-8,uniform-4,apot-4,pot-4,pot-3",
    show_default=True,
    metavar="S[,S...]",
    help="Weight schemes.",
)
@click.option(
    "--sparsity",
    "sparsities",
    default="0,0.3,0.5",
    show_default=True,
    metavar="Z[,Z...]",
    help="Shares of weights made zero.",
)
@click.option(
    "--vary",
    multiple=True,
    metavar="OPTION=V[,V...]",
    help="Any other option of pack that takes one value, by its name there: pruning=magnitude,"
    "pot-aware  activation-bits=8,6  first-last=none,uniform-8; may be given several times.",
)
@arrays_option
@folders_option
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Points made at a time, each in a process of its own with memory of its own.",
)
@click.option("--keep", is_flag=True, help="Keep every packed model, in OUTPUT/packed.")
@click.option(
    "-o",
    "--output",
    type=OUTPUT,
    default=Path("sweep-output"),
    show_default=True,
    metavar="FOLDER",
    help="Where points are kept, and sweep.json, sweep.csv and sweep.html written.",
)
@click.option("--no-report", is_flag=True, help="Write no HTML (it needs the extra `report`).")
@normalization_options
@json_option
def sweep(
    model: Path,
    layers: Path | None,
    images: Path,
    calibration: Path | None,
    limit: int | None,
    schemes: str,
    sparsities: str,
    vary: tuple[str, ...],
    overlays: tuple[str, ...],
    folders: tuple[Path, ...],
    jobs: int,
    keep: bool,
    output: Path,
    no_report: bool,
    pixel_max: float | None,
    mean: str | None,
    std: str | None,
    as_json: bool,
) -> None:
    """Compress MODEL in many ways, and draw accuracy against bits and products.

    Every combination of the options is one point: compressed, measured on the host by the exact
    engine, and stored when it is done. The same command after Ctrl-C makes what is missing.
    """
    if not no_report:
        require_report()
    axes = _axes(schemes, sparsities, vary)
    network = load_model(model, layers)
    test_set = load_images(images, shape=network.input_shape)
    check_scorable(test_set, network.name, network.output_shape)
    calibration_set = load_images(calibration, shape=network.input_shape) if calibration else None
    normalization = resolve_normalization(calibration_set or test_set, pixel_max, mean, std)
    parts = _split(test_set, calibration_set, limit)
    arrays = resolve_arrays(overlays, folders)
    specs = [
        PointSpec(
            str(model),
            None if layers is None else str(layers),
            network.source_sha256,
            *parts,
            normalization,
            options,
            arrays,
        )
        for options in (None, *_combinations(network, axes, normalization, arrays))
    ]
    store = PointStore(output, keep=keep)
    if calibration is None:
        note(
            f"Calibration: images 1 to {parts[0].stop:,} of {images}; accuracy is measured on "
            f"{parts[1].stop - parts[1].start:,} others."
        )
    points = _run(specs, store, jobs, output)
    found = analyse(specs, points, network.name, load_coefficients())
    require_rows(found)
    write_text(output / "sweep.json", sweep_text(found))
    write_text(output / "sweep.csv", sweep_csv(found))
    if not no_report:
        write_text(output / "sweep.html", sweep_html(found))
    if as_json:
        print_json(sweep_json(found))
    else:
        print_sweep(found)
    pages = "sweep.json, sweep.csv" + ("" if no_report else ", sweep.html")
    if keep:
        note(f"{output}/packed: each packed model, named by the start of its key in sweep.csv")
    note(f"written: {output}/: {pages}, {len({s.key for s in specs})} points")


def _axes(schemes: str, sparsities: str, vary: tuple[str, ...]) -> dict[str, tuple[Option, ...]]:
    """Values by field of `CompressOptions`."""
    axes: dict[str, tuple[Option, ...]] = {}
    words = [f"scheme={schemes}", f"sparsity={sparsities}", *vary]
    for word in words:
        name, equals, values = word.partition("=")
        field = name.strip().replace("-", "_")
        if not equals or not values.strip(" ,"):
            raise InputError("--vary", repr(word), found="no values", expected="OPTION=V[,V...]")
        if field in axes:
            raise InputError("--vary", name, found="it twice", expected="all its values at once")
        texts = [text.strip() for text in values.split(",") if text.strip()]
        axes[field] = tuple(dict.fromkeys(parse_option(name.strip(), text) for text in texts))
    return axes


def _split(
    test: ImageSet, calibration: ImageSet | None, limit: int | None
) -> tuple[ImagePart, ImagePart]:
    """Which images are calibrated on, and on which others accuracy is measured."""
    n_images = len(test.images)
    if calibration is not None:
        if calibration.sha256 == test.sha256:
            raise InputError(
                "--calibration",
                "images",
                found="the file of --images",
                expected="other images",
                hint="without --calibration the set is split in two",
            )
        start, known = 0, _part(calibration, 0, len(calibration.images))
    else:
        start = min(n_images // 2, MOST_CALIBRATION)
        if not start:
            raise InputError(
                test.source, "images", found="1 image", expected="2 or more, or --calibration"
            )
        known = _part(test, 0, start)
    stop = n_images if limit is None else min(start + limit, n_images)
    return known, _part(test, start, stop)


def _part(images: ImageSet, start: int, stop: int) -> ImagePart:
    return ImagePart(images.source, images.sha256, start, stop)


def _combinations(
    network: Model,
    axes: dict[str, tuple[Option, ...]],
    normalization: Normalization,
    arrays: tuple[Array, ...],
) -> tuple[dict[str, Option], ...]:
    """All combinations of values of which each is good by itself.

    Two that do not go together (zeros, and a scheme without one) make a point that is refused. A
    network that its file has quantized is there with its own integers too.
    """
    own: tuple[dict[str, Option], ...] = ()
    if network.is_quantized and "imported" not in axes:
        own = ({"imported": "keep"}, {"imported": "recognize"})
        axes = {**axes, "imported": ("requantize",)}
    found = (*own, *grid(axes))
    for name, values in axes.items():
        for value in values:
            compress_options({name: value}, normalization, arrays)
    return found


def _run(
    specs: Sequence[PointSpec], store: PointStore, jobs: int, output: Path
) -> tuple[SweepPoint, ...]:
    """Make the points, and say how far it got where it is interrupted."""
    n_done, n_all = 0, len({spec.key for spec in specs})

    def done(point: SweepPoint, count: int, total: int) -> None:
        nonlocal n_done
        n_done = count
        advance("points", count, total)
        note(f"{count}/{total} {_said(point)}")

    try:
        with progress() as advance:
            advance("points", 0, n_all)
            return run_sweep(specs, store, jobs=jobs, done=done, progress=advance)
    except KeyboardInterrupt:
        note(f"{n_done} of {n_all} points are kept in {output}: the same command goes on.")
        raise


def _said(point: SweepPoint) -> str:
    name = "the model as it is" if point.options is None else describe(point.options)
    if point.score is None:
        return f"{name}: refused: {point.refused}"
    score = point.score
    return f"{name}: {100 * score.accuracy:.2f} % ± {100 * score.standard_error:.2f}"
