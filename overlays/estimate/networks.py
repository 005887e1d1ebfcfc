"""From packed networks to energy estimates: which runs on which configuration, and all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import ConvOp
from bacmac.host.compile.compiler import compile_model
from bacmac.host.errors import MismatchError
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.file import read_packed
from bacmac.host.runtime.inputs import load_images_for
from bacmac.overlays.estimate.activity import COEFFICIENTS
from bacmac.overlays.estimate.configurations import Configuration
from bacmac.overlays.estimate.energy import ByteCosts, Estimate, estimate_energy
from bacmac.overlays.estimate.lane_cost import LaneCost, count_lane
from bacmac.overlays.estimate.synthesis import Utilisation

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Network:
    """A packed model with images to run it on.

    Attributes:
        file: where it was read from.
        scheme: of all its weights.
        sparsity: share of zero weights (or of empty groups) that pruning was asked for.
        codes: (n, C, H, W) input codes.
    """

    file: str
    model: QuantizedModel
    scheme: str
    sparsity: float
    codes: npt.NDArray[np.integer]


@dataclass(frozen=True)
class NetworkEstimate:
    """A network on a configuration.

    Attributes:
        estimates: one for each set of coefficients, the base set first.
        lane: what was counted in its lane.
        products_done, products_isolated, products_skipped: weight slots of one inference.
    """

    configuration: str
    network: Network
    estimates: tuple[Estimate, ...]
    lane: LaneCost
    products_done: int
    products_isolated: int
    products_skipped: int


def read_network(path: str | Path, images: str | Path, n_images: int) -> Network:
    """Read a packed model and the first images of a set.

    Raises:
        PackedFileError, ImageFileError: a file cannot be used.
        MismatchError: the images are not the model's, or its weights are of several schemes.
    """
    model = read_packed(path).model
    image_set = load_images_for(model, images, n_images)
    schemes = sorted(
        {layer.scheme for layer in model.layers if isinstance(layer.op, ConvOp) and layer.scheme}
    )
    if len(schemes) != 1:
        raise MismatchError(
            path, "weights", found=", ".join(schemes) or "none", expected="one scheme in all layers"
        )
    codes = input_codes(image_set.images, model.normalization, model.input_format)
    return Network(str(path), model, schemes[0], _asked_sparsity(model), codes)


def estimate_networks(
    configurations: Sequence[Configuration],
    utilisations: Sequence[Utilisation],
    networks: Sequence[Network],
    costs: ByteCosts,
    advance: Progress,
    *,
    cycles: int = 1024,
) -> list[NetworkEstimate]:
    """Every network on every configuration that executes its scheme.

    Args:
        configurations: what there is.
        utilisations: of each of them.
        networks: to run.
        costs: of the memories.
        advance: told (what, done, total).
        cycles: sampled, in each of 64 stretches of the array's work.

    Raises:
        MismatchError: a network's scheme is no configuration's.
        CompileError: it does not fit.
        DeviceError: there is no C compiler.
    """
    pairs = []
    for network in networks:
        fitting = [
            pair
            for pair in zip(configurations, utilisations, strict=True)
            if pair[0].manifest.scheme == network.scheme
        ]
        if not fitting:
            raise MismatchError(
                network.file,
                "weights",
                found=network.scheme,
                expected="the scheme of one of " + ", ".join(c.name for c in configurations),
            )
        pairs += [(network, *pair) for pair in fitting]
    found = []
    for done, (network, configuration, utilisation) in enumerate(pairs):
        advance("toggles", done, len(pairs))
        program = compile_model(network.model, configuration.overlay)
        lane = count_lane(configuration, network.model.network, network.codes, cycles=cycles)
        estimates = tuple(
            estimate_energy(
                configuration,
                utilisation,
                lane,
                program,
                costs,
                network=network.model.name,
                sparsity=network.sparsity,
                coefficients=name,
            )
            for name in COEFFICIENTS
        )
        work = program.image_work
        counts = work.products_done, work.products_isolated, work.products_skipped
        found.append(NetworkEstimate(configuration.name, network, estimates, lane, *counts))
    advance("toggles", len(pairs), len(pairs))
    return found


def _asked_sparsity(model: QuantizedModel) -> float:
    """What the packing options say; 0 where a model does not know."""
    options = model.provenance.get("options")
    if not isinstance(options, dict):
        return 0.0
    shares = [options.get(key) for key in ("sparsity", "group_sparsity")]
    return max((float(share) for share in shares if isinstance(share, int | float)), default=0.0)
