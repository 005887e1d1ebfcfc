"""A network that its file has quantized already, to the quantized model: its integers stay.

Tensors keep the grids that the file gives them, weights the integers; only what the file left in
floats is quantized here, on calibration images. How a layer's arithmetic is carried over is in
`keep`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import PoolOp
from bacmac.host.arith.requantize import fit_requantize
from bacmac.host.arith.schemes import SCHEMES, Levels, Scheme
from bacmac.host.errors import InputError
from bacmac.host.model.forward import walk
from bacmac.host.model.inputs import Images, normalized
from bacmac.host.model.layers import (
    INPUT,
    LINEAR,
    Conv,
    Grid,
    KeptWeights,
    Layer,
    Model,
    Normalization,
    Pool,
    moves_only,
)
from bacmac.host.model.quantized import ActivationFormat, QuantizedLayer, QuantizedModel
from bacmac.host.quantize.activations import (
    BLOCK_IMAGES,
    Progress,
    collect_statistics,
    host_format,
    tensor_format,
)
from bacmac.host.quantize.compensate import MAX_HESSIAN_ROWS, compensated_levels, hessian
from bacmac.host.quantize.keep import Float, stored_format, stored_limits
from bacmac.host.quantize.keep_layers import STRUCTURAL_SCHEME, KeptLayer, Wire, keep_conv
from bacmac.host.quantize.level_sets import keep_exactly
from bacmac.host.quantize.options import QuantizeOptions, layer_schemes, tensor_bits
from bacmac.host.quantize.weights import round_to_levels, search_scales


@dataclass(frozen=True, eq=False)
class _Weights:
    levels: Levels
    scale: Float
    scheme: Scheme


@dataclass(frozen=True)
class _Stored:
    format: ActivationFormat
    grid: Grid | None


def needs_calibration(model: Model) -> str | None:
    """What an imported model's file left in floats, or None: then no images are needed."""
    for name in model.shapes:
        if stored_format_of(model, name) is None and not _takes_no_format(model, name):
            return f"tensor {name!r}"
    for layer in model.layers:
        if not isinstance(layer, Conv) or layer.structural:
            continue
        if layer.kept is None or _file_weights(layer.kept) is None:
            return f"the weights of {layer.name!r}"
    return None


def quantize_imported(
    model: Model,
    images: Images | None,
    normalization: Normalization,
    options: QuantizeOptions,
    *,
    provenance: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize what the file did not, and keep what it did. Deterministic.

    Args:
        model: with grids or kept weights.
        images: (N, C, H, W) for what needs calibration; None where nothing does.
        normalization: of pixels.
        options: schemes and bits of what the file left in floats.
        provenance: stored with the result; what became of the import is added to it.
        progress: called with a stage, how much is done and of how much.

    Raises:
        InputError: images are needed, or a layer cannot be carried over.
    """
    lacking = needs_calibration(model)
    if lacking is not None and images is None:
        raise InputError(
            model.source or model.name,
            lacking,
            found="floats, and no calibration images",
            expected="images to quantize them with: the file has no integers for them",
        )
    model = _sums_apart(model)
    stored = _stored_formats(model, images, normalization, options, progress)
    weights = _weights(model, images, normalization, options)
    mover = _mover([own.scheme for own in weights.values()])
    wires = {INPUT: _wire(0, stored[INPUT], model.shapes[INPUT][0])}
    layers: list[QuantizedLayer] = []
    report: dict[str, object] = {}
    offset: Float | None = None
    for index, layer in enumerate(model.layers):
        source = wires[layer.input]
        target = stored.get(layer.name)
        if isinstance(layer, Pool) and _plain_pool(layer, source, target):
            layers.append(_pool(layer, source, target, model.shapes[layer.name][0]))
        else:
            conv, own = _as_conv(layer, source.channels), weights.get(layer.name)
            if own is None:
                same = target is not None and target.format == source.stored
                own = _structural(layer, conv, mover, as_it_is=same and conv.residual is None)
            made = keep_conv(
                conv,
                own.levels,
                own.scale,
                own.scheme,
                source,
                None if target is None else (target.format, target.grid),
                None if conv.residual is None else wires[conv.residual],
                free_number=len(layers) + 1,
                file=model.source or model.name,
            )
            layers += made.layers
            offset = made.logit_offset
            changed = _changed(layer, made)
            if changed:
                report[layer.name] = changed
        if target is not None:
            op = layers[-1].op
            limits = source.limits
            if op.requantize is not None:
                limits = op.requantize.low, op.requantize.high
            wires[layer.name] = Wire(
                len(layers), target.format, limits, model.shapes[layer.name][0]
            )
        if progress is not None:
            progress("keep", index + 1, len(model.layers))
    return _finished(model, stored, layers, offset, normalization, provenance, report)


def stored_format_of(model: Model, name: str, *, padded: bool = True) -> ActivationFormat | None:
    """The format that the file's grid gives a tensor, None where it gives none."""
    grid = model.grids.get(name)
    return None if grid is None else stored_format(grid, padded=padded)


def _is_padded(model: Model, name: str) -> bool:
    """Whether something pads this tensor, or one that holds the same integers."""
    readers = [layer for layer in model.layers if layer.input == name]
    return any(
        any(layer.padding) or (moves_only(layer) and _is_padded(model, layer.name))
        for layer in readers
    )


def _takes_no_format(model: Model, name: str) -> bool:
    """Whether a tensor needs no format of its own: another's, or int32 sums."""
    if name == INPUT:
        return False
    layer = next(layer for layer in model.layers if layer.name == name)
    return moves_only(layer) or _leaves_sums(model, layer)


def _leaves_sums(model: Model, layer: Layer) -> bool:
    return (
        layer is model.layers[-1]
        and isinstance(layer, Conv)
        and layer.residual is None
        and layer.activation == LINEAR
        and layer.name not in model.grids
    )


def _stored_formats(
    model: Model,
    images: Images | None,
    normalization: Normalization,
    options: QuantizeOptions,
    progress: Progress | None,
) -> dict[str, _Stored]:
    """By tensor; none for one that is left as int32 sums."""
    bits = tensor_bits(model, options)
    statistics = (
        {} if images is None else collect_statistics(model, images, normalization, progress)
    )
    stored: dict[str, _Stored] = {}
    layers: dict[str, Layer] = {layer.name: layer for layer in model.layers}
    for name in model.shapes:
        known = stored_format_of(model, name, padded=_is_padded(model, name))
        layer = layers.get(name)
        if known is not None:
            stored[name] = _Stored(known, model.grids[name])
        elif layer is not None and _leaves_sums(model, layer):
            continue
        elif layer is not None and moves_only(layer):
            stored[name] = replace(stored[layer.input], grid=None)
        else:
            source = None if layer is None else stored[layer.input].format
            stored[name] = _Stored(tensor_format(layer, statistics[name], bits[name], source), None)
    return stored


def _weights(
    model: Model, images: Images | None, normalization: Normalization, options: QuantizeOptions
) -> dict[str, _Weights]:
    """Levels and scales of every layer with weights: the file's, or quantized here."""
    schemes = layer_schemes(model, options)
    weights: dict[str, _Weights] = {}
    floats: list[Conv] = []
    for layer in model.layers:
        if not isinstance(layer, Conv) or layer.structural:
            continue
        own = None if layer.kept is None else _file_weights(layer.kept)
        if own is None:
            floats.append(layer)
        else:
            weights[layer.name] = own
    seen = _inputs_of(model, {layer.input for layer in floats}, images, normalization)
    for layer in floats:
        scheme = SCHEMES[schemes[layer.name]]
        rows = layer.weight.reshape(len(layer.weight), -1).astype(np.float64)
        scale = search_scales(rows, scheme)
        scale = np.where(scale > 0, scale, 1.0)
        if options.rounding == "compensated" and rows.shape[1] <= MAX_HESSIAN_ROWS:
            kept = np.ones(rows.shape, np.bool_)
            moments = hessian(layer, seen[layer.input])
            levels = compensated_levels(rows, kept, scale, moments, scheme)
        else:
            levels = round_to_levels(rows / scale[:, None], scheme)
        weights[layer.name] = _Weights(levels.reshape(layer.weight.shape), scale, scheme)
    return weights


def _file_weights(kept: KeptWeights) -> _Weights | None:
    """The file's integers in the smallest scheme that holds them; None where none does.

    -128 has no code in a symmetric scheme, and is the one integer that becomes another, -127.
    """
    lowest, highest = int(kept.levels.min()), int(kept.levels.max())
    exact = keep_exactly(kept)
    if exact is not None:
        return _Weights(exact[0].levels, exact[0].scale, exact[1])
    if lowest < -128 or highest > 127:
        return None
    return _Weights(np.maximum(kept.levels, -127), kept.scale, SCHEMES["uniform-8"])


def _inputs_of(
    model: Model, names: set[str], images: Images | None, normalization: Normalization
) -> dict[str, npt.NDArray[np.float32]]:
    """Tensors (N, C, H, W) of these names over the calibration images."""
    if images is None or not names:
        return {}
    parts: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in names}
    for start in range(0, len(images), BLOCK_IMAGES):
        block = normalized(images[start : start + BLOCK_IMAGES], normalization)
        for name, tensor in walk(model, block):
            if name in parts:
                parts[name].append(tensor)
    return {name: np.concatenate(blocks) for name, blocks in parts.items()}


def _wire(number: int, stored: _Stored, channels: int) -> Wire:
    return Wire(number, stored.format, (stored.format.low, stored.format.high), channels)


def _plain_pool(layer: Pool, source: Wire, target: _Stored | None) -> bool:
    """Whether the accelerator's own pool does it: a maximum, or a mean with no zero point moved."""
    if layer.kind == "max":
        return True
    if target is None or (
        target.grid is not None and target.grid.rounding == "half-away-code"
    ):  # ties are common in means, and the accelerator's own go up
        return False
    same = (source.stored.scale, source.stored.zero) == (target.format.scale, target.format.zero)
    return (source.stored.zero == 0 and target.format.zero == 0) or (
        same and not any(layer.padding)
    )


def _pool(layer: Pool, source: Wire, target: _Stored | None, channels: int) -> QuantizedLayer:
    op = PoolOp(source.number, layer.kind, layer.kernel, layer.stride, layer.padding)
    if layer.kind == "max" or target is None:
        return QuantizedLayer(layer.name, op, source.stored)
    area = layer.kernel[0] * layer.kernel[1]
    limits = (target.format.low, target.format.high)
    if target.grid is not None:
        limits = stored_limits(target.grid, target.format)
    how = fit_requantize(
        np.full(channels, source.stored.scale / (target.format.scale * area)),
        low=limits[0],
        high=limits[1],
        acc_low=np.full(channels, area * source.limits[0], np.int64),
        acc_high=np.full(channels, area * source.limits[1], np.int64),
    )
    return QuantizedLayer(layer.name, replace(op, requantize=how), target.format)


def _changed(layer: Layer, made: KeptLayer) -> dict[str, int]:
    """What is not as the file has it, by name; 0 is left out."""
    kept = layer.kept if isinstance(layer, Conv) else None
    counts = {
        "constant_channels": made.constant_channels,
        "differing_accumulators": made.differing,
        "levels_of_-128_stored_as_-127": 0
        if kept is None
        else int(np.count_nonzero(kept.levels == -128)),
    }
    return {name: count for name, count in counts.items() if count}


def _as_conv(layer: Layer, channels: int) -> Conv:
    """A mean as a depthwise convolution, which has a bias for zero points."""
    if isinstance(layer, Conv):
        return layer
    area = layer.kernel[0] * layer.kernel[1]
    return Conv(
        layer.name,
        layer.input,
        np.full((channels, 1, *layer.kernel), 1.0 / area, np.float32),
        np.zeros(channels, np.float32),
        layer.stride,
        layer.padding,
        channels,
        structural=True,
    )


def _structural(layer: Layer, conv: Conv, mover: Scheme, *, as_it_is: bool) -> _Weights:
    """Levels for weights that are all one number or zero.

    The level is 1 where integers go on as they are. Elsewhere it is the largest power of two that
    `mover` has: the sum is then so many times the value, and a bias in its units that much finer.
    """
    scale = 1.0 / np.prod(layer.kernel) if isinstance(layer, Pool) else 1.0
    level = 1 if as_it_is else 1 << (mover.max_level.bit_length() - 1)
    levels = ((conv.weight != 0) * level).astype(np.int8)
    scheme = SCHEMES[STRUCTURAL_SCHEME] if level == 1 else mover
    return _Weights(levels, np.full(len(levels), scale / level), scheme)


def _mover(schemes: list[Scheme]) -> Scheme:
    """The scheme of the network whose array has the smallest levels: others have these too."""
    with_zero = [scheme for scheme in schemes if 0 in scheme.levels and scheme.max_level <= 127]
    return min(with_zero, key=lambda scheme: scheme.max_level, default=SCHEMES[STRUCTURAL_SCHEME])


def _sums_apart(model: Model) -> Model:
    """The model with every sum that its file rounds before a residual is added as a layer.

    Rounding once would be finer, but other integers than the file's.
    """
    layers: list[Layer] = []
    grids, renamed = dict(model.grids), {name: name for name in model.shapes}
    for layer in model.layers:
        moved = replace(layer, input=renamed[layer.input])
        if isinstance(moved, Conv) and moved.residual is not None:
            moved = replace(moved, residual=renamed[moved.residual])
        before = moved.before_residual if isinstance(moved, Conv) else None
        if not isinstance(moved, Conv) or before is None or stored_format(before) is None:
            layers.append(moved)
            continue
        channels, name = len(moved.weight), f"{layer.name}.add"
        sum_ = Conv(
            name,
            layer.name,
            np.ones((channels, 1, 1, 1), np.float32),
            np.zeros(channels, np.float32),
            groups=channels,
            activation=moved.activation,
            residual=moved.residual,
            structural=True,
        )
        apart = replace(moved, residual=None, before_residual=None, activation=LINEAR)
        layers += [apart, sum_]
        renamed[layer.name] = name
        after = grids.pop(layer.name, None)
        grids[layer.name] = before
        if after is not None:
            grids[name] = after
    return replace(model, layers=tuple(layers), grids=grids)


def _finished(
    model: Model,
    stored: Mapping[str, _Stored],
    layers: list[QuantizedLayer],
    offset: Float | None,
    normalization: Normalization,
    provenance: Mapping[str, object] | None,
    report: Mapping[str, object],
) -> QuantizedModel:
    last = layers[-1]
    if last.output is None:
        reads = stored[model.layers[-1].input].format
        scale = last.weight_scale * reads.scale
    else:
        scale = np.full(model.output_shape[0], last.output.scale)
        offset = -last.output.zero * scale
    return QuantizedModel(
        name=model.name,
        input_shape=model.input_shape,
        input_format=host_format(stored[INPUT].format, model),
        normalization=normalization,
        layers=tuple(layers),
        logit_scale=scale,
        provenance={**(provenance or {}), "imported": {"notes": list(model.notes), **report}},
        logit_offset=np.zeros(()) if offset is None or not offset.any() else offset,
    )
