"""Remake what synthesis gives: product costs of coefficients.toml, [resources] of the manifests.

    python -m bacmac.power.make_coefficients            (in a checkout: `make coefficients`)

The shipped example network is packed for every scheme at four sparsities, a lane of each overlay is
synthesized and simulated on it, and its toggles are fitted. Every other number of the file is kept.
It needs the extra `synth` and a C compiler.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bacmac.host.errors import OverlayError
from bacmac.host.files import write_text
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.inputs import input_codes
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.overlays.estimate.activity import BASE
from bacmac.overlays.estimate.configurations import NAIVE, Configuration, find_configurations
from bacmac.overlays.estimate.lane_cost import LaneCost, count_lane
from bacmac.overlays.estimate.synthesis import Utilisation, estimate_utilisation
from bacmac.overlays.registry import find_manifest
from bacmac.power.coefficients import DEFAULT_FILE

SPARSITIES = (0.0, 0.3, 0.5, 0.7)
N_IMAGES = 4
CYCLES = 1024


@dataclass(frozen=True)
class Fit:
    """Cost of a product, least squares of E = product x (1 - z + z x zero) over shares z of zeros.

    Attributes:
        func, glitch: of a slot whose weight is not zero, in toggle units.
        skipped: cost of a slot whose weight is zero, relative to one whose weight is not.
    """

    func: float
    glitch: float
    skipped: float


def fit_costs(zero_shares: Sequence[float], units: Sequence[tuple[float, float]]) -> Fit:
    """Fit what was counted at several shares of zero weights.

    Args:
        zero_shares: of the slots, one a network.
        units: toggle units a slot: func, glitch.
    """
    z = np.array(zero_shares)
    design: npt.NDArray[np.float64] = np.stack([1 - z, z], axis=1)
    (func, glitch), zero = np.linalg.lstsq(design, np.array(units), rcond=None)[0]
    return Fit(float(func), float(glitch), float(zero.sum() / (func + glitch)))


def product_table(scheme: str, tool: str, counted: Sequence[LaneCost]) -> str:
    """The [[product]] table of a scheme."""
    units = [lane.units(BASE) for lane in counted]
    fit = fit_costs([lane.zero_share for lane in counted], units)
    rows = ", ".join(
        f"{100 * lane.zero_share:.1f} %: {func:.1f}/{glitch:.1f}"
        for lane, (func, glitch) in zip(counted, units, strict=True)
    )
    return (
        "[[product]]\n"
        f'scheme = "{scheme}"\n'
        f"func = {fit.func:.1f}\n"
        f"glitch = {fit.glitch:.1f}\n"
        f"skipped = {fit.skipped:.2f}\n"
        f'source = "netlist toggles ({tool}; {counted[0].n_cycles} lane cycles of the shipped '
        f'example network); share of zero weights: settled/glitches a slot: {rows}"\n'
    )


def replace_products(text: str, tables: Sequence[str]) -> str:
    """The text of a coefficient file with other [[product]] tables.

    Raises:
        OverlayError: the text has none.
    """
    found = list(re.finditer(r"^\[\[product\]\]\n(?:[^\n#\[]+\n)+", text, re.MULTILINE))
    if not found:
        raise OverlayError("coefficients.toml", "product", found="none", expected="tables")
    return text[: found[0].start()] + "\n".join(tables) + text[found[-1].end() :]


def replace_resources(text: str, used: Utilisation) -> str:
    """The text of a manifest with other [resources]."""
    total = used.total
    section = (
        "[resources]\n"
        f'source = "estimate: {used.tool} synth_xilinx -family xcup, whole accelerator without DMA '
        "and interconnect; LUT: sites after pairing, UltraRAM by size; the array alone: "
        f'{used.array.lut_sites:.0f} LUT, {used.array.ff:.0f} FF; no Vivado build yet"\n'
        f"LUT = {total.lut_sites:.0f}\n"
        f"FF = {total.ff:.0f}\n"
        f"DSP = {total.dsp:.0f}\n"
        f"BRAM36 = {total.bram36:g}\n"
        f"URAM = {total.uram:.0f}\n"
    )
    return re.sub(r"^\[resources\]\n.*\Z", lambda _: section, text, flags=re.MULTILINE | re.DOTALL)


def count_example(configuration: Configuration) -> list[LaneCost]:
    """A lane's cost on the shipped example network, packed for it at each of SPARSITIES."""
    counted = []
    with as_file(files("bacmac.host") / "example") as folder:
        model = load_model(folder / "digits_cnn.json")
        calibration = load_images(folder / "digits_calibration.npz", shape=model.input_shape)
        images = load_images(folder / "digits_test.npz", shape=model.input_shape).first(N_IMAGES)
    for sparsity in SPARSITIES:
        options = CompressOptions(
            scheme=configuration.manifest.scheme, sparsity=sparsity, pruning="pot-aware"
        )
        packed = compress(model, calibration, options)
        codes = input_codes(images.images, packed.normalization, packed.input_format)
        counted.append(count_lane(configuration, packed.network, codes, cycles=CYCLES))
    return counted


def main() -> None:
    """Write coefficients.toml and the manifests of this installation."""
    tables = []
    for configuration in find_configurations():
        if configuration.name == NAIVE:
            continue
        _say(f"{configuration.name}: synthesis")
        used = estimate_utilisation(configuration)
        _say(f"{configuration.name}: toggles")
        scheme = configuration.manifest.scheme
        tables.append(product_table(scheme, used.tool, count_example(configuration)))
        path = find_manifest(configuration.name)
        _rewrite(path, replace_resources(path.read_text(encoding="utf-8"), used))
    _rewrite(DEFAULT_FILE, replace_products(DEFAULT_FILE.read_text(encoding="utf-8"), tables))


def _rewrite(path: Path, text: str) -> None:
    write_text(path, text)
    _say(f"{path}: written")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
