"""What a network would cost an array, counted from its weights alone: nothing is compiled.

For sweeps over many networks: an array is plain data, and neither memories nor packets are asked
whether the network fits. The counts are those of a compiled program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bacmac.host.arith.network import ConvOp
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.compile.weights import layer_groups
from bacmac.host.compile.work import Work, layer_work, total
from bacmac.host.manifest.overlay import Geometry, Overlay
from bacmac.host.model.quantized import QuantizedModel


@dataclass(frozen=True)
class Array:
    """The part of an overlay that the work depends on.

    Attributes:
        overlay: its name.
        product: "bac" or "mac".
        scheme: the widest that its product term executes.
        geometry: of the array.
    """

    overlay: str
    product: str
    scheme: str
    geometry: Geometry


def array_of(overlay: Overlay) -> Array:
    """The array of an overlay."""
    manifest = overlay.manifest
    return Array(manifest.name, manifest.product, manifest.scheme, manifest.geometry)


def choose_array(model: QuantizedModel, arrays: Sequence[Array]) -> Array | None:
    """The array that executes a model's weights, or None; the order is `choose_overlay`'s."""
    able = [array for array in arrays if _executes(model, array)]
    return min(able, key=_preference, default=None)


def array_work(model: QuantizedModel, array: Array) -> Work:
    """Work of one image without its streams, as the program compiled for the array has it.

    Raises:
        ValueError: a chunk lies further from its window than an entry can say.
    """
    network = model.network
    return total(
        layer_work(
            op,
            layer_groups(op, network.shapes[op.input], array.geometry),
            network.shapes[index + 1],
            array.geometry,
            array.scheme,
        )
        for index, op in enumerate(network.ops)
    )


def _executes(model: QuantizedModel, array: Array) -> bool:
    """Whether all codes are as wide as the array's or narrower, all levels its product term's."""
    own = SCHEMES[array.scheme]
    for layer in model.layers:
        if not isinstance(layer.op, ConvOp):
            continue
        if not layer.structural and SCHEMES[layer.scheme].bits > own.bits:
            return False
        if np.setdiff1d(layer.op.levels, own.levels).size:
            return False
    return True


def _preference(array: Array) -> tuple[int, str, int, str]:
    scheme = SCHEMES[array.scheme]
    return scheme.bits, array.product, len(scheme.levels), array.overlay
