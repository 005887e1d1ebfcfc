"""Where every tensor lies in the activation memory.

A tensor lives from the layer that writes it to the last layer that reads it, as input or as
residual; the network's output lives to the end. Tensors are placed in order of their layers, each
at the lowest beat-aligned address where nothing that is alive lies (first fit by liveness, as
register allocation does it: Poletto and Sarkar 1999). The images of a batch lie above all of
them and are never overwritten, so that a batch can be passed over many times.
"""

from __future__ import annotations

from dataclasses import dataclass

from bacmac.host.arith.network import ConvOp, IntegerNetwork
from bacmac.host.errors import CompileError


@dataclass(frozen=True)
class BufferPlan:
    """Addresses in bytes into the activation memory.

    Attributes:
        addresses: of each tensor; that of tensor 0 is `image_address`.
        sizes: bytes of each tensor, whole beats.
        last_reads: number of the last op that reads each tensor.
        peak_bytes: what the layers need for one image.
        image_address: where image 0 of a batch lies; each further one `sizes[0]` higher.
        max_images: images that fit there.
    """

    addresses: tuple[int, ...]
    sizes: tuple[int, ...]
    last_reads: tuple[int, ...]
    peak_bytes: int
    image_address: int
    max_images: int


def tensor_bytes(network: IntegerNetwork, beat_bytes: int) -> tuple[int, ...]:
    """Bytes of every tensor, HWC without gaps, up to a whole beat; logits are int32."""
    sizes = []
    for number, (channels, height, width) in enumerate(network.shapes):
        op = network.ops[number - 1] if number else None
        wide = isinstance(op, ConvOp) and op.requantize is None
        n_bytes = channels * height * width * (4 if wide else 1)
        sizes.append(-(-n_bytes // beat_bytes) * beat_bytes)
    return tuple(sizes)


def plan_buffers(
    network: IntegerNetwork, names: tuple[str, ...], capacity_bytes: int, beat_bytes: int
) -> BufferPlan:
    """Place the tensors of a network whose ops have these names.

    Raises:
        CompileError: naming the layer, what it needs and what there is.
    """
    sizes = tensor_bytes(network, beat_bytes)
    last_reads = [0] * len(sizes)
    for index, op in enumerate(network.ops):
        last_reads[op.input] = index
        if isinstance(op, ConvOp) and op.residual is not None:
            last_reads[op.residual] = index
    last_reads[-1] = len(network.ops) - 1

    addresses = [0] * len(sizes)
    peak = 0
    for index in range(len(network.ops)):
        # a tensor read by this op still lives: it may not be overwritten while it is read
        alive = sorted(
            (addresses[number], sizes[number])
            for number in range(1, index + 1)
            if last_reads[number] >= index
        )
        address = 0
        for start, size in alive:
            if address + sizes[index + 1] <= start:
                break
            address = max(address, start + size)
        addresses[index + 1] = address
        peak = max(peak, address + sizes[index + 1])
        if peak > capacity_bytes:
            raise CompileError(
                f"layer {names[index]!r}: its output, with what must stay, needs {peak} bytes of "
                f"activation memory; the overlay has {capacity_bytes}"
            )
    max_images = (capacity_bytes - peak) // sizes[0]
    if max_images < 1:
        raise CompileError(
            f"the input image of layer {names[0]!r} needs {sizes[0]} bytes of activation memory "
            f"beside the {peak} of the layers; the overlay has {capacity_bytes}"
        )
    addresses[0] = peak
    return BufferPlan(tuple(addresses), sizes, tuple(last_reads), peak, peak, max_images)
