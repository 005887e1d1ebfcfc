"""`bacmac demo`: the main job on the shipped example, on the emulated board."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import click

from bacmac.cli.choices import OUTPUT
from bacmac.cli.comparison import write_comparison
from bacmac.cli.output import json_option, note, print_json, print_table, progress, say
from bacmac.host.errors import OutputError
from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.pack.file import PackedModel, read_packed, write_packed
from bacmac.overlays.registry import load_overlay
from bacmac.power.arms import ArmSummary
from bacmac.power.compare import Comparison, ratio_text
from bacmac.power.compare import compare as run_comparison
from bacmac.power.report import comparison_json, require_report
from bacmac.power.runs import Arm, ComparePlan

ARMS = {
    "pot-4": "bac-pot4",
    "uniform-4": "mac-uniform4",
    "uniform-8": "mac-uniform8",
}
"""Scheme and overlay: the shift at 4 bits, the multiplier at 4 bits, the multiplier at 8."""

MULTIPLIERS = ("uniform-8", "uniform-4")
"""What the shift is compared with, the wider first."""


@click.command()
@click.option(
    "-o",
    "--output",
    type=OUTPUT,
    default=Path("demo-output"),
    show_default=True,
    help="Folder for the packed models and the reports.",
)
@click.option(
    "--blocks",
    type=click.IntRange(2, 1000),
    default=12,
    show_default=True,
    help="Blocks of each comparison.",
)
@json_option
def demo(output: Path, blocks: int, as_json: bool) -> None:
    """The main job on the shipped example, on the emulated board.

    Packs a small digits network three ways, runs held-back images through the emulated
    accelerators, and estimates how much energy the shift saves: over a multiplier of 8-bit
    weights, and over one of the same 4 bits.
    """
    require_report()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(output, error.strerror or str(error)) from error
    with as_file(files("bacmac.host") / "example") as example, progress() as advance:
        model = load_model(example / "digits_cnn.json")
        calibration = load_images(example / "digits_calibration.npz", shape=model.input_shape)
        images = load_images(example / "digits_test.npz", shape=model.input_shape)
        packed = {}
        for step, scheme in enumerate(ARMS):
            advance("packing", step, len(ARMS))
            file = output / f"digits-{scheme}.safetensors"
            write_packed(file, compress(model, calibration, CompressOptions(scheme=scheme)))
            packed[scheme] = read_packed(file)
        advance("packing", len(ARMS), len(ARMS))
    comparisons = {}
    for scheme in MULTIPLIERS:
        with progress() as advance:
            comparisons[scheme] = run_comparison(
                _plan(packed, scheme, images, blocks), progress=advance
            )
        write_comparison(comparisons[scheme], output / f"pot-4-against-{scheme}", report=True)
    if as_json:
        print_json({scheme: comparison_json(found) for scheme, found in comparisons.items()})
        return
    _print(comparisons)
    note(f"Next: open {output / 'pot-4-against-uniform-8.html'}; then README.md, Your own network.")


def _plan(
    packed: dict[str, PackedModel], scheme: str, images: ImageSet, blocks: int
) -> ComparePlan:
    return ComparePlan(
        bac=Arm(load_overlay(ARMS["pot-4"]), packed["pot-4"]),
        mac=Arm(load_overlay(ARMS[scheme]), packed[scheme]),
        images=images,
        blocks=blocks,
    )


def _print(comparisons: dict[str, Comparison]) -> None:
    """One row a multiplier, then what the narrower weights and what the shift give."""
    wide = comparisons[MULTIPLIERS[0]]
    say(
        "EMULATED, an estimate by a model: dynamic energy of an inference on the "
        f"{wide.primary} rail, {wide.plan.blocks} randomised blocks each; "
        f"{wide.bac.n_images} real images of handwritten digits; "
        f"BAC with pot-4 weights, accuracy {_accuracy(wide.bac)}."
    )
    print_table(
        ["MAC", "E_MAC / E_BAC", "95 % interval", "BAC is", "MAC's accuracy"],
        [_row(scheme, comparison) for scheme, comparison in comparisons.items()],
        numbers=(1, 2, 4),
    )
    eight, four = (comparisons[scheme].primary_result.dynamic for scheme in MULTIPLIERS)
    if eight is None or four is None:
        say("The saving cannot be split: one of the two ratios is not resolvable.")
        return
    meaning = {
        "lower": "the shift itself saves energy",
        "higher": "at equal bits this shift costs energy",
        "not resolvable": "at equal bits no difference could be shown",
    }[four.verdict]
    say(
        f"Against {MULTIPLIERS[0]} BAC saves {1 - 1 / eight.low:.0%} to {1 - 1 / eight.high:.0%}. "
        f"The factor {eight.ratio:.2f} is {eight.ratio / four.ratio:.2f} (weights of 4 bits in "
        f"place of 8) x {four.ratio:.2f} (shifts in place of multiplications: {meaning}). The "
        "reports list what else differs."
    )


def _row(scheme: str, comparison: Comparison) -> tuple[object, ...]:
    ratio, accuracy = comparison.primary_result.dynamic, _accuracy(comparison.mac)
    if ratio is None:
        return scheme, "", "", comparison.verdict, accuracy
    interval = f"{ratio_text(ratio.low)} to {ratio_text(ratio.high)}"
    return scheme, ratio_text(ratio.ratio), interval, ratio.verdict, accuracy


def _accuracy(arm: ArmSummary) -> str:
    return "not known" if arm.accuracy is None else f"{arm.accuracy:.2%}"
