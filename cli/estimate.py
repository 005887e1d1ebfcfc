"""`bacmac overlay estimate`, `bacmac overlay roofline`: an overlay's cost before it is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from bacmac.cli.choices import FILE, OUTPUT, OVERLAY, device_option, folders_option, images_option
from bacmac.cli.output import Advance, json_option, note, print_json, print_table, progress, say
from bacmac.cli.remote_command import DeviceCommand
from bacmac.host.device.registry import open_board
from bacmac.host.errors import InputError
from bacmac.host.files import replace_atomically
from bacmac.host.pack.file import read_packed
from bacmac.host.runtime.inputs import load_images_for
from bacmac.host.runtime.session import Session
from bacmac.overlays.estimate.configurations import Configuration, find_configurations
from bacmac.overlays.estimate.energy import ByteCosts, Estimate, Part, Ratio, ratios
from bacmac.overlays.estimate.networks import NetworkEstimate, estimate_networks, read_network
from bacmac.overlays.estimate.roofline import Roofline, draw_roofline, measure_roofline
from bacmac.overlays.estimate.synthesis import CAPACITY, PART, Utilisation, estimate_utilisation
from bacmac.overlays.registry import load_overlay
from bacmac.power.coefficients import Coefficients, load_coefficients

COLUMNS = ("lut_sites", "lut", "carry8", "ff", "dsp", "bram36", "uram")
HEADERS = ("LUT sites", "LUT cells", "CARRY8", "FF", "DSP", "BRAM36", "URAM")


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--model",
    "models",
    multiple=True,
    type=FILE,
    help="Packed model to estimate the energy of an inference for; may be given several times: "
    "each runs on every configuration that executes its scheme.",
)
@click.option("--images", type=FILE, help="Image set whose first images the models run on.")
@click.option("--n-images", default=2, show_default=True, type=click.IntRange(1, 64))
@click.option("--modules", is_flag=True, help="Utilisation module by module.")
@folders_option
@json_option
def estimate(
    names: tuple[str, ...],
    models: tuple[Path, ...],
    images: Path | None,
    n_images: int,
    modules: bool,
    folders: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Estimate area and energy of the overlays NAMES (default: all, and the naive multiplier).

    Area is what yosys maps the RTL to; energy is toggles of the synthesized lane on a network's
    own activations and weights. Both are estimates by open tools: nothing was built or measured.
    """
    if bool(models) != (images is not None):
        raise InputError(
            "--model, --images", "options", found="one of them", expected="both or neither"
        )
    configurations = find_configurations(names, folders)
    numbers = load_coefficients()
    with progress() as advance:
        utilisations = _synthesize(configurations, advance)
        networks = [read_network(path, images, n_images) for path in models] if images else []
        unit_pj = numbers["toggle_unit_pj"]
        costs = ByteCosts(
            numbers["weight_byte_pj"] / unit_pj, numbers["activation_byte_pj"] / unit_pj
        )
        found = estimate_networks(configurations, utilisations, networks, costs, advance)
    compared = _ratios(configurations, found)
    if as_json:
        print_json(_payload(configurations, utilisations, found, compared, numbers))
        return
    _print_utilisation(configurations, utilisations)
    if modules:
        for used in utilisations:
            _print_modules(used)
    if found:
        _print_energy(found, numbers)
        _print_ratios(compared)


@click.command(cls=DeviceCommand)
@click.argument("name", type=OVERLAY)
@click.option("--model", required=True, type=FILE, help="Packed model to run.")
@images_option
@device_option
@click.option(
    "-o", "--output", type=OUTPUT, help="Also draw it (.svg, .png, .pdf; extra `report`)."
)
@folders_option
@json_option
def roofline(
    name: str,
    model: Path,
    images: Path,
    device: str,
    output: Path | None,
    folders: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Set what each layer attains on overlay NAME beside the array's peak and the bandwidths.

    Cycles are the device's own counters of a run over one image.
    """
    packed = read_packed(model).model
    image_set = load_images_for(packed, images, 1)
    board = open_board(device)
    try:
        with Session(board, load_overlay(name, folders), packed, batch_size=1) as session:
            session.repeat(image_set.images, 1)
            found = measure_roofline(packed, session.program, session.layer_counters())
    finally:
        board.close()
    if output is not None:
        _draw(found, output)
    if as_json:
        print_json({**asdict(found), "peak": found.peak, "bytes_per_cycle": found.bytes_per_cycle})
        return
    _print_roofline(found)


def _synthesize(configurations: Sequence[Configuration], advance: Advance) -> list[Utilisation]:
    found = []
    for done, configuration in enumerate(configurations):
        advance("synthesis", done, len(configurations))
        found.append(estimate_utilisation(configuration))
    advance("synthesis", len(configurations), len(configurations))
    return found


def _ratios(
    configurations: Sequence[Configuration], found: Sequence[NetworkEstimate]
) -> list[Ratio]:
    by_product = {
        kind: [c.name for c in configurations if c.manifest.product == kind]
        for kind in ("bac", "mac")
    }
    return ratios(
        [e for network in found for e in network.estimates], by_product["mac"], by_product["bac"]
    )


def _print_utilisation(
    configurations: Sequence[Configuration], utilisations: Sequence[Utilisation]
) -> None:
    rows: list[tuple[object, ...]] = []
    for configuration, used in zip(configurations, utilisations, strict=True):
        lanes = used.module("bacmac_lane").lut_sites
        rows.append(
            (
                used.configuration,
                *(f"{getattr(used.total, c):,.5g}" for c in COLUMNS),
                f"{used.total.lut_sites / CAPACITY.lut_sites:.1%}",
                f"{used.array.lut_sites:,.0f}",
                f"{lanes / configuration.n_products:.1f}",
            )
        )
    most = (f"{getattr(CAPACITY, c):,}" for c in COLUMNS)
    print_table(
        ["configuration", *HEADERS, "of the LUTs", "array", "a product"],
        [*rows, (f"{PART} has", *most, "", "", "")],
        numbers=range(1, 11),
        title=f"ESTIMATE by {utilisations[0].tool} (no Vivado build)",
    )
    say(
        "LUT sites: after pairing functions that share inputs, as the part has two outputs a LUT; "
        "LUT cells: unpaired. Array: sites of lanes, weight registers and accumulators; a product: "
        "terms and tree of a lane. UltraRAM is counted by size. DMA and interconnect are not in it."
    )


def _print_modules(used: Utilisation) -> None:
    print_table(
        ["module", "instances", *HEADERS, "counted by"],
        [
            (
                use.module,
                use.instances,
                *(f"{getattr(use.resources, c):,g}" for c in COLUMNS),
                use.source,
            )
            for use in used.modules
        ],
        numbers=range(1, 9),
        title=f"{used.configuration}, all instances of each module",
    )


def _print_energy(found: Sequence[NetworkEstimate], numbers: Coefficients) -> None:
    print_table(
        ["configuration", "network", "pruned", "zeros", "cycles", "array", "whole", "whole, uJ"],
        [
            (
                one.configuration,
                base.network,
                f"{base.sparsity:.0%}",
                f"{one.lane.zero_share:.1%}",
                f"{base.cycles:,}",
                _pair(base.array, 1e-6),
                _pair(base.total, 1e-6),
                f"{_uj(base, numbers):.3g}",
            )
            for one in found
            for base in one.estimates[:1]
        ],
        numbers=range(2, 8),
        title="ESTIMATE of one inference: million toggle units, settled / with glitches",
    )
    parts = found[0].estimates[0].parts
    print_table(
        ["configuration", "pruned", *(part.name for part in parts)],
        [
            (
                one.configuration,
                f"{one.estimates[0].sparsity:.0%}",
                *(f"{_mean(part) * 1e-6:,.1f}" for part in one.estimates[0].parts),
            )
            for one in found
        ],
        numbers=range(1, 2 + len(parts)),
        title="million toggle units by part, mean of both counts",
    )
    for part in parts:
        say(f"{part.name}: {part.basis}")
    say(
        f"uJ: with toggle_unit_pj = {numbers['toggle_unit_pj']:g}, an assumption that may be wrong "
        f"by a factor of several ({Path(numbers.file).name}). Nothing here is measured."
    )


def _print_ratios(compared: Sequence[Ratio]) -> None:
    if not compared:
        say("No ratio: it takes a BAC and a MAC configuration, each with a model of its scheme.")
        return
    print_table(
        ["baseline", "over", "pruned", "of the", "settled", "glitches", "lowest", "highest"],
        [
            (
                ratio.baseline,
                ratio.bac,
                f"{ratio.sparsity:.0%}",
                ratio.scope,
                *(f"{value:.2f}" for value in (*ratio.base, ratio.lowest, ratio.highest)),
            )
            for ratio in compared
        ],
        numbers=(2, 4, 5, 6, 7),
        title="ESTIMATE of energy, MAC over BAC (above 1: the BAC takes less); lowest and highest "
        "over all coefficients",
    )


def _print_roofline(found: Roofline) -> None:
    print_table(
        ["layer", "products", "cycles", "products a cycle", "of the peak", "products a byte"],
        [
            (
                point.name,
                f"{point.products:,}",
                f"{point.cycles:,}",
                f"{point.products_per_cycle:.1f}",
                f"{point.utilisation(found.geometry):.1%}",
                f"{point.products_per_byte:.1f}",
            )
            for point in (*found.layers, found.total)
        ],
        numbers=range(1, 6),
        title=f"{found.network} on {found.overlay}: peak {found.peak} products a cycle, weight "
        f"memory and streams {found.bytes_per_cycle} bytes a cycle",
    )


def _draw(found: Roofline, output: Path) -> None:
    kind = output.suffix.lower().lstrip(".")
    if kind not in ("svg", "png", "pdf"):
        raise InputError(output, "suffix", found=output.suffix or "none", expected=".svg .png .pdf")
    figure = draw_roofline(found)
    with replace_atomically(output) as temporary:
        figure.savefig(temporary, format=kind, dpi=160)
    note(f"{output}: drawn")


def _pair(units: tuple[float, float], factor: float) -> str:
    return f"{units[0] * factor:,.1f} / {units[1] * factor:,.1f}"


def _mean(part: Part) -> float:
    return (part.func + part.glitch) / 2


def _uj(found: Estimate, numbers: Coefficients) -> float:
    return sum(found.total) / 2 * numbers["toggle_unit_pj"] * 1e-6


def _payload(
    configurations: Sequence[Configuration],
    utilisations: Sequence[Utilisation],
    found: Sequence[NetworkEstimate],
    compared: Sequence[Ratio],
    numbers: Coefficients,
) -> dict[str, object]:
    return {
        "schema": "bacmac.estimate",
        "schema_version": 1,
        "provenance": "estimate",
        "capacity": asdict(CAPACITY),
        "utilisation": [
            {
                **asdict(used),
                "array": asdict(configuration.geometry),
                "total": asdict(used.total),
                "of_the_array": asdict(used.array),
            }
            for configuration, used in zip(configurations, utilisations, strict=True)
        ],
        "energy": [
            {
                "configuration": one.configuration,
                "file": one.network.file,
                "zero_share": one.lane.zero_share,
                "products_done": one.products_done,
                "products_isolated": one.products_isolated,
                "products_skipped": one.products_skipped,
                "estimates": [asdict(estimate) for estimate in one.estimates],
                "base_uj": _uj(one.estimates[0], numbers),
            }
            for one in found
        ],
        "ratios": [asdict(ratio) for ratio in compared],
    }
