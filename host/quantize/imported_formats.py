"""How the tensors of an imported network are stored: by its file's grids, else by calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bacmac.host.model.inputs import Images
from bacmac.host.model.layers import (
    LINEAR,
    Conv,
    Grid,
    Layer,
    Model,
    Normalization,
    moves_only,
)
from bacmac.host.model.quantized import ActivationFormat
from bacmac.host.quantize.activations import Progress, collect_statistics, tensor_format
from bacmac.host.quantize.keep import stored_format
from bacmac.host.quantize.options import QuantizeOptions, tensor_bits


@dataclass(frozen=True)
class Stored:
    """How a tensor is stored.

    Attributes:
        format: on the accelerator.
        grid: the file's own; None where it has none.
    """

    format: ActivationFormat
    grid: Grid | None


def unformatted_tensor(model: Model) -> str | None:
    """The first tensor that needs a format and has none from its file; None where all have."""
    layers = {layer.name: layer for layer in model.layers}
    for name in model.shapes:
        if _file_format(model, name) is None and not _takes_no_format(model, layers.get(name)):
            return name
    return None


def stored_formats(
    model: Model,
    images: Images | None,
    normalization: Normalization,
    options: QuantizeOptions,
    progress: Progress | None,
) -> dict[str, Stored]:
    """By tensor; none for one that is left as int32 sums."""
    bits, padded = tensor_bits(model, options), _padded_tensors(model)
    statistics = (
        collect_statistics(model, images, normalization, progress)
        if images is not None and unformatted_tensor(model) is not None
        else {}
    )
    stored: dict[str, Stored] = {}
    layers: dict[str, Layer] = {layer.name: layer for layer in model.layers}
    for name in model.shapes:
        known = _file_format(model, name, padded=name in padded)
        layer = layers.get(name)
        if known is not None:
            stored[name] = Stored(known, model.grids[name])
        elif layer is not None and _leaves_sums(model, layer):
            continue
        elif layer is not None and moves_only(layer):
            stored[name] = replace(stored[layer.input], grid=None)
        else:
            source = None if layer is None else stored[layer.input].format
            stored[name] = Stored(tensor_format(layer, statistics[name], bits[name], source), None)
    return stored


def _file_format(model: Model, name: str, *, padded: bool = True) -> ActivationFormat | None:
    """The format that the file's grid gives a tensor, None where it gives none."""
    grid = model.grids.get(name)
    return None if grid is None else stored_format(grid, padded=padded)


def _padded_tensors(model: Model) -> set[str]:
    """Tensors that something pads, and those that hold the same integers as one of them."""
    padded: set[str] = set()
    for layer in reversed(model.layers):
        if any(layer.padding) or (layer.name in padded and moves_only(layer)):
            padded.add(layer.input)
    return padded


def _takes_no_format(model: Model, layer: Layer | None) -> bool:
    """Whether a layer's output needs no format of its own: another's, or int32 sums."""
    return layer is not None and (moves_only(layer) or _leaves_sums(model, layer))


def _leaves_sums(model: Model, layer: Layer) -> bool:
    return (
        layer is model.layers[-1]
        and isinstance(layer, Conv)
        and layer.residual is None
        and layer.activation == LINEAR
        and layer.name not in model.grids
    )
