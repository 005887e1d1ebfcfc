"""From a quantized model to the program of one overlay."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bacmac.host.arith.bounds import INT32_LIMIT, accumulator_bounds
from bacmac.host.arith.network import ConvOp, Shape
from bacmac.host.arith.schemes import SCHEMES, Scheme
from bacmac.host.compile.descriptor import DESCRIPTOR_BYTES, Descriptor, Flag, Kind, encode
from bacmac.host.compile.plan import BufferPlan, plan_buffers
from bacmac.host.compile.program import LayerPlan, Program, stream_tensors
from bacmac.host.compile.weights import encode_constants, encode_groups, is_dense, padded_to
from bacmac.host.compile.work import Work, layer_groups, network_work
from bacmac.host.errors import CompileError, MismatchError
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.model.quantized import QuantizedLayer, QuantizedModel

ABI = 1
"""The version of the formats that this compiler writes."""


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
    plan = plan_buffers(network, names, manifest.buffers.activation_bytes, manifest.beat_bytes)
    works = network_work(network, manifest.geometry, scheme.bits, manifest.beat_bytes)
    images = _Images()
    descriptors, layers = [], []
    for index, (layer, work) in enumerate(zip(model.layers, works, strict=True)):
        descriptor, known = _compile_layer(model, index, plan, overlay, scheme, images, work)
        _check_memory(layer.name, "weights", images.weights, manifest.buffers.weight_bytes)
        _check_memory(layer.name, "constants", images.constants, manifest.buffers.constant_bytes)
        descriptors.append(descriptor)
        layers.append(known)
    if len(descriptors) > manifest.buffers.max_descriptors:
        raise CompileError(
            f"layer {names[manifest.buffers.max_descriptors]!r}: the model has {len(descriptors)} "
            f"layers; {manifest.name} holds {manifest.buffers.max_descriptors} descriptors "
            f"of {DESCRIPTOR_BYTES} bytes"
        )
    program = Program(
        overlay,
        tuple(descriptors),
        bytes(images.weights),
        bytes(images.constants),
        *stream_tensors(network, manifest.beat_bytes),
        plan,
        tuple(layers),
    )
    if program.max_batch < 1:
        raise CompileError(
            f"layer {names[-1]!r}: one output has {program.output.n_bytes} bytes; a DMA transfer "
            f"of {manifest.name} moves {manifest.max_transfer_bytes}"
        )
    return program


@dataclass
class _Images:
    """The two memory images, growing layer by layer."""

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
    # the groups of the weight image are the array's, begin at a byte, and descriptors at a beat
    for name, found, expected, good in (
        (
            "geometry.group",
            f"{geometry.group_outputs} x {geometry.group_inputs}",
            f"{array[0]} x {array[1]}, the array's own",
            (geometry.group_outputs, geometry.group_inputs) == array,
        ),
        (
            "geometry",
            f"{array[0]} x {array[1]}",
            "a multiple of 8 products",
            array[0] * array[1] % 8 == 0,
        ),
        (
            "beat_bytes",
            str(manifest.beat_bytes),
            f"a divisor of the {DESCRIPTOR_BYTES} bytes of a descriptor",
            DESCRIPTOR_BYTES % manifest.beat_bytes == 0,
        ),
    ):
        if not good:
            raise MismatchError(manifest.name, name, found=found, expected=expected)


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


def _check_memory(name: str, what: str, image: bytearray, capacity: int) -> None:
    if len(image) > capacity:
        raise CompileError(
            f"layer {name!r}: {what} up to this layer need {len(image)} bytes; "
            f"the overlay has {capacity}"
        )


def _compile_layer(
    model: QuantizedModel,
    index: int,
    plan: BufferPlan,
    overlay: Overlay,
    scheme: Scheme,
    images: _Images,
    work: Work,
) -> tuple[Descriptor, LayerPlan]:
    network, layer = model.network, model.layers[index]
    op, geometry = layer.op, overlay.manifest.geometry
    shape, beat_bytes = network.shapes[op.input], overlay.manifest.beat_bytes
    low, high = network.ranges[op.input]
    bound = _accumulator_bound(layer, low, high)
    weight_address, constant_address = len(images.weights), len(images.constants)
    bitmap_address, weight_bytes, n_groups, n_empty = 0, 0, 0, 0
    if isinstance(op, ConvOp):
        groups = layer_groups(op, shape, geometry)
        full = groups.any(axis=(1, 2))
        n_groups, n_empty = len(groups), int(len(groups) - full.sum())
        codes = encode_groups(groups[full], scheme)
        weight_bytes = len(codes)
        images.weights += padded_to(codes, beat_bytes)
        images.constants += padded_to(encode_constants(op.bias, op.requantize), beat_bytes)
        bitmap_address = len(images.constants)
        bitmap = np.packbits(full, bitorder="little").tobytes()
        images.constants += padded_to(bitmap, beat_bytes)
    elif op.requantize is not None:
        no_bias = np.zeros(shape[0], np.int32)
        images.constants += padded_to(encode_constants(no_bias, op.requantize), beat_bytes)
    residual = op.residual if isinstance(op, ConvOp) else None
    kernel = op.levels.shape[2:] if isinstance(op, ConvOp) else op.kernel
    top, left, bottom, right = op.padding
    descriptor = Descriptor(
        kind=_kind(layer),
        flags=_flags(layer, shape, last=index == len(model.layers) - 1),
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride_h=op.stride[0],
        stride_w=op.stride[1],
        pad_top=top,
        pad_left=left,
        pad_bottom=bottom,
        pad_right=right,
        low=op.requantize.low if op.requantize is not None else 0,
        high=op.requantize.high if op.requantize is not None else 0,
        groups=op.groups if isinstance(op, ConvOp) else 1,
        in_h=shape[1],
        in_w=shape[2],
        in_c=shape[0],
        out_c=network.shapes[index + 1][0],
        input_address=plan.addresses[op.input],
        output_address=plan.addresses[index + 1],
        residual_address=plan.addresses[residual] if residual is not None else 0,
        weight_address=weight_address if weight_bytes else 0,
        weight_bytes=weight_bytes,
        constant_address=constant_address if len(images.constants) > constant_address else 0,
        bitmap_address=bitmap_address,
        input_low=low,
        input_high=high,
    )
    try:
        encode(descriptor)
    except ValueError as error:
        raise CompileError(f"layer {layer.name!r}: {error}") from error
    return descriptor, LayerPlan(layer.name, work, weight_bytes, n_empty, n_groups, bound)


def _kind(layer: QuantizedLayer) -> Kind:
    if isinstance(layer.op, ConvOp):
        return Kind.CONV
    return Kind.MAX_POOL if layer.op.kind == "max" else Kind.AVERAGE_POOL


def _flags(layer: QuantizedLayer, shape: Shape, *, last: bool) -> Flag:
    op = layer.op
    flags = Flag.LAST if last else Flag(0)
    if op.requantize is not None:
        flags |= Flag.REQUANTIZE
    if op.input == 0:
        flags |= Flag.INPUT_IS_IMAGE
    if isinstance(op, ConvOp):
        if is_dense(op, *shape[1:]):
            flags |= Flag.DENSE
        if op.residual is not None:
            flags |= Flag.RESIDUAL
        if op.residual == 0:
            flags |= Flag.RESIDUAL_IS_IMAGE
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
