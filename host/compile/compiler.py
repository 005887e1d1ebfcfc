"""From a quantized model to the program of one overlay."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bacmac.host.arith.array_codes import MAGNITUDES, encode_groups
from bacmac.host.arith.bounds import INT32_LIMIT, accumulator_bounds
from bacmac.host.arith.network import ConvOp, PoolOp
from bacmac.host.arith.schemes import SCHEMES, Scheme
from bacmac.host.compile.checks import BYTE_LIMIT
from bacmac.host.compile.descriptor import DESCRIPTOR_BYTES, Descriptor, Flag, Kind, encode
from bacmac.host.compile.plan import BufferPlan, plan_buffers
from bacmac.host.compile.program import LayerPlan, Program, stream_tensors
from bacmac.host.compile.weights import (
    CONSTANT,
    encode_constants,
    is_dense,
    layer_groups,
    padded_to,
)
from bacmac.host.compile.work import layer_work
from bacmac.host.errors import CompileError, MismatchError
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.model.quantized import QuantizedLayer, QuantizedModel

ABI = 2
"""The version of the formats that this compiler writes."""
MAX_DESCRIPTORS = 256
"""The hardware counts layers in 8 bits."""


def compile_model(model: QuantizedModel, overlay: Overlay) -> Program:
    """Compile a model for an overlay.

    Every limit is checked and every accumulator is proven to fit int32 here: a program that
    exists can run, and its outputs, cycles and products are known before it does.

    Raises:
        MismatchError: the overlay does not execute a layer's weights, or speaks another version
            of the formats.
        CompileError: a memory is too small (the layer, the need and the capacity are named), a
            number does not fit its descriptor, or an accumulator may overflow.
    """
    manifest = overlay.manifest
    _check_overlay(overlay)
    scheme = SCHEMES[manifest.scheme]
    for layer in model.layers:
        _check_scheme(model, layer, scheme, overlay)
    network = model.network
    names = tuple(layer.name for layer in model.layers)
    _check_number_of_layers(names, overlay)
    plan = plan_buffers(network, names, manifest.buffers.activation_bytes, manifest.beat_bytes)
    images = _Images(len(names) * DESCRIPTOR_BYTES)
    descriptors, layers = [], []
    for index in range(len(names)):
        descriptor, known = _compile_layer(model, index, plan, overlay, images)
        _check_memories(names[index], images, overlay)
        descriptors.append(descriptor)
        layers.append(known)
    program = Program(
        overlay,
        tuple(descriptors),
        bytes(images.lists),
        bytes(images.weights),
        bytes(images.constants),
        *stream_tensors(network, manifest.beat_bytes),
        plan,
        tuple(layers),
    )
    if program.max_batch < 1:
        most = max(program.input.n_bytes, program.output.n_bytes)
        raise CompileError(
            f"layer {names[-1]!r}: an image and its output are one packet each, and one has "
            f"{most} bytes; a DMA transfer of {manifest.name} moves {manifest.max_transfer_bytes}"
        )
    return program


@dataclass
class _Images:
    """The memory images, growing layer by layer; the group lists follow the descriptors."""

    descriptor_bytes: int
    lists: bytearray = field(default_factory=bytearray)
    weights: bytearray = field(default_factory=bytearray)
    constants: bytearray = field(default_factory=bytearray)


def _check_overlay(overlay: Overlay) -> None:
    manifest = overlay.manifest
    if manifest.abi != ABI:
        raise MismatchError(
            manifest.name,
            "abi",
            found=str(manifest.abi),
            expected=str(ABI),
            hint="this release compiles for no other version of the formats",
        )
    geometry = manifest.geometry
    array = geometry.outputs, geometry.inputs
    powers = all(side & (side - 1) == 0 for side in array)
    for name, found, expected, good in (
        (
            "geometry.group",
            f"{geometry.group_outputs} x {geometry.group_inputs}",
            f"{array[0]} x {array[1]}, the array's own: it is loaded and skipped as a whole",
            (geometry.group_outputs, geometry.group_inputs) == array,
        ),
        (
            "geometry",
            f"{array[0]} x {array[1]}",
            f"powers of two, 8 <= outputs <= inputs <= 4 x outputs, {DESCRIPTOR_BYTES}",
            powers and 8 <= array[0] <= array[1] <= min(4 * array[0], DESCRIPTOR_BYTES),
        ),
        (
            "beat_bytes",
            str(manifest.beat_bytes),
            f"{array[1]}, the inputs of the array: a beat is a memory word",
            manifest.beat_bytes == array[1],
        ),
        (
            "buffers.activation_bytes",
            str(manifest.buffers.activation_bytes),
            f"{BYTE_LIMIT} at most",
            manifest.buffers.activation_bytes <= BYTE_LIMIT,
        ),
        (
            "buffers.max_descriptors",
            str(manifest.buffers.max_descriptors),
            f"{MAX_DESCRIPTORS} at most",
            manifest.buffers.max_descriptors <= MAX_DESCRIPTORS,
        ),
        (
            "scheme",
            manifest.scheme,
            f"one of {', '.join(MAGNITUDES)}, for which the array has a product term",
            manifest.scheme in MAGNITUDES,
        ),
    ):
        if not good:
            raise MismatchError(manifest.name, name, found=found, expected=expected)


def _check_number_of_layers(names: tuple[str, ...], overlay: Overlay) -> None:
    capacity = overlay.manifest.buffers.max_descriptors
    if len(names) > capacity:
        raise CompileError(
            f"layer {names[capacity]!r}: the model has {len(names)} layers; "
            f"{overlay.manifest.name} holds {capacity} descriptors of {DESCRIPTOR_BYTES} bytes"
        )


def _check_scheme(
    model: QuantizedModel, layer: QuantizedLayer, scheme: Scheme, overlay: Overlay
) -> None:
    """Codes as wide as the overlay's or narrower, levels that its product term has."""
    if not isinstance(layer.op, ConvOp):
        return
    manifest = overlay.manifest
    missing = np.setdiff1d(layer.op.levels, scheme.levels)
    wide = not layer.structural and SCHEMES[layer.scheme].bits > scheme.bits
    if not missing.size and not wide:
        return
    found = layer.scheme or "structural weights"
    if missing.size:
        found += f" with level {missing[0]}"
    raise MismatchError(
        model.name,
        f"layer {layer.name!r}",
        found=found,
        expected=f"{scheme.name}, which is what {manifest.name} executes",
        hint="pack the model for this overlay's scheme, or choose another overlay",
    )


def _check_memories(name: str, images: _Images, overlay: Overlay) -> None:
    """Each memory holds what it must, and each load is one DMA transfer."""
    manifest = overlay.manifest
    buffers, most = manifest.buffers, manifest.max_transfer_bytes
    for what, need, capacity in (
        ("program", images.descriptor_bytes + len(images.lists), buffers.program_bytes),
        ("weights", len(images.weights), buffers.weight_bytes),
        ("constants", len(images.constants), buffers.constant_bytes),
    ):
        if need > capacity:
            raise CompileError(
                f"layer {name!r}: {what} up to this layer need {need} bytes; "
                f"the overlay has {capacity}"
            )
        if need > most:
            raise CompileError(
                f"layer {name!r}: {what} up to this layer are one packet of {need} bytes; "
                f"a DMA transfer of {manifest.name} moves {most}"
            )


def _compile_layer(
    model: QuantizedModel, index: int, plan: BufferPlan, overlay: Overlay, images: _Images
) -> tuple[Descriptor, LayerPlan]:
    network, layer = model.network, model.layers[index]
    op, manifest = layer.op, overlay.manifest
    geometry, scheme = manifest.geometry, manifest.scheme
    shape, output = network.shapes[op.input], network.shapes[index + 1]
    low, high = network.ranges[op.input]
    bound = _accumulator_bound(layer, low, high)
    weight_address = len(images.weights)
    row = len(images.constants) // (CONSTANT.itemsize * geometry.outputs)
    list_address = images.descriptor_bytes + len(images.lists)
    try:
        groups = layer_groups(op, shape, geometry)
    except ValueError as error:
        raise CompileError(f"layer {layer.name!r}: {error}") from error
    weights = encode_groups(groups.levels, scheme)
    images.weights += weights
    images.constants += encode_constants(op, (low, high), output[0], geometry)
    images.lists += padded_to(groups.entries.astype("<u4").tobytes(), manifest.beat_bytes)
    residual = op.residual if isinstance(op, ConvOp) else None
    kernel = op.levels.shape[2:] if isinstance(op, ConvOp) else op.kernel
    top, left, bottom, right = op.padding
    stored = _stored_range(layer, low, high)
    descriptor = Descriptor(
        kind=_kind(layer),
        flags=_flags(model, index),
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride_h=op.stride[0],
        stride_w=op.stride[1],
        pad_top=top,
        pad_left=left,
        pad_bottom=bottom,
        pad_right=right,
        low=stored[0],
        high=stored[1],
        groups=op.groups if isinstance(op, ConvOp) else 1,
        in_h=shape[1],
        in_w=shape[2],
        in_c=shape[0],
        out_c=output[0],
        input_address=plan.addresses[op.input],
        output_address=plan.addresses[index + 1],
        residual_address=plan.addresses[residual] if residual is not None else 0,
        weight_address=weight_address if weights else 0,
        weight_bytes=len(weights),
        constant_row=row,
        list_address=list_address,
        input_low=low,
        input_high=high,
        out_h=output[1],
        out_w=output[2],
        n_entries=len(groups.entries),
        n_skipped=groups.n_skipped,
    )
    try:
        encode(descriptor)
    except ValueError as error:
        raise CompileError(f"layer {layer.name!r}: {error}") from error
    work = layer_work(op, groups, output, geometry, scheme)
    n_groups = len(groups.levels) + groups.n_skipped
    known = LayerPlan(layer.name, work, len(weights), groups.n_skipped, n_groups, bound)
    return descriptor, known


def _stored_range(layer: QuantizedLayer, low: int, high: int) -> tuple[int, int]:
    """Smallest and largest stored output; a maximum keeps the range of its input."""
    if layer.op.requantize is not None:
        return layer.op.requantize.low, layer.op.requantize.high
    return (low, high) if isinstance(layer.op, PoolOp) else (0, 0)


def _kind(layer: QuantizedLayer) -> Kind:
    if isinstance(layer.op, ConvOp):
        return Kind.CONV
    return Kind.MAX_POOL if layer.op.kind == "max" else Kind.AVERAGE_POOL


def _flags(model: QuantizedModel, index: int) -> Flag:
    network, op = model.network, model.layers[index].op
    ranges = network.ranges
    residual = op.residual if isinstance(op, ConvOp) else None
    dense = isinstance(op, ConvOp) and is_dense(op, *network.shapes[op.input][1:])
    flags = Flag(0)
    for flag, given in (
        (Flag.REQUANTIZE, op.requantize is not None or isinstance(op, PoolOp)),
        (Flag.RESIDUAL, residual is not None),
        (Flag.DENSE, dense),
        (Flag.INPUT_IS_IMAGE, op.input == 0),
        (Flag.RESIDUAL_IS_IMAGE, residual == 0),
        (Flag.LAST, index == len(model.layers) - 1),
        (Flag.RESIDUAL_SIGNED, residual is not None and ranges[residual][0] < 0),
        (Flag.INPUT_SIGNED, ranges[op.input][0] < 0),
    ):
        if given:
            flags |= flag
    return flags


def _accumulator_bound(layer: QuantizedLayer, low: int, high: int) -> int:
    """The proof that int32 holds every partial sum.

    Raises:
        CompileError: it does not.
    """
    lows, highs = accumulator_bounds(layer.op, low, high)
    reach = np.maximum(-lows, highs)
    channel = int(reach.argmax())
    bound = int(reach[channel])
    if bound >= INT32_LIMIT:
        raise CompileError(
            f"layer {layer.name!r}: the accumulator of channel {channel} may reach {bound}; "
            f"int32 holds less than {INT32_LIMIT}"
        )
    return bound
