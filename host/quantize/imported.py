"""A network that its file has quantized already, to the quantized model: its integers stay.

Tensors keep the grids that the file gives them, weights the integers; only what the file left in
floats is quantized here, on calibration images. How a layer's arithmetic is carried over is in
`keep`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bacmac.host.arith.network import PoolOp
from bacmac.host.arith.requantize import fit_requantize
from bacmac.host.arith.schemes import SCHEMES, Scheme
from bacmac.host.errors import InputError
from bacmac.host.model.inputs import Images
from bacmac.host.model.layers import (
    INPUT,
    LINEAR,
    Conv,
    Layer,
    Model,
    Normalization,
    Pool,
)
from bacmac.host.model.quantized import QuantizedLayer, QuantizedModel
from bacmac.host.quantize.activations import (
    Progress,
    host_format,
)
from bacmac.host.quantize.imported_formats import Stored, stored_formats, unformatted_tensor
from bacmac.host.quantize.imported_weights import LayerWeights, file_weights, imported_weights
from bacmac.host.quantize.keep import Float, stored_format, stored_limits
from bacmac.host.quantize.keep_layers import STRUCTURAL_SCHEME, KeptLayer, Wire, keep_conv
from bacmac.host.quantize.options import QuantizeOptions


def needs_calibration(model: Model) -> str | None:
    """What an imported model's file left in floats, or None: then no images are needed."""
    tensor = unformatted_tensor(model)
    if tensor is not None:
        return f"tensor {tensor!r}"
    for layer in model.layers:
        if not isinstance(layer, Conv) or layer.structural:
            continue
        if layer.kept is None or file_weights(layer.kept) is None:
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
    stored = stored_formats(model, images, normalization, options, progress)
    weights = imported_weights(model, images, normalization, options)
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


def _wire(number: int, stored: Stored, channels: int) -> Wire:
    return Wire(number, stored.format, (stored.format.low, stored.format.high), channels)


def _plain_pool(layer: Pool, source: Wire, target: Stored | None) -> bool:
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


def _pool(layer: Pool, source: Wire, target: Stored | None, channels: int) -> QuantizedLayer:
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


def _structural(layer: Layer, conv: Conv, mover: Scheme, *, as_it_is: bool) -> LayerWeights:
    """Levels for weights that are all one number or zero.

    The level is 1 where integers go on as they are. Elsewhere it is the largest power of two that
    `mover` has: the sum is then so many times the value, and a bias in its units that much finer.
    """
    scale = 1.0 / np.prod(layer.kernel) if isinstance(layer, Pool) else 1.0
    level = 1 if as_it_is else 1 << (mover.max_level.bit_length() - 1)
    levels = ((conv.weight != 0) * level).astype(np.int8)
    scheme = SCHEMES[STRUCTURAL_SCHEME] if level == 1 else mover
    return LayerWeights(levels, np.full(len(levels), scale / level), scheme)


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
    stored: Mapping[str, Stored],
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
