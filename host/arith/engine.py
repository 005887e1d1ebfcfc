"""The fast engine: float BLAS on integer values, proven equal to the reference bit for bit.

Images go through in blocks small enough for the caches. Each op takes the narrowest arithmetic
that is proven exact for its weights (`bounds`, `requantize`): a float32 product, two float32
products over halves of K, or a float64 product.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.blas import use_one_thread
from bacmac.host.arith.bounds import accumulator_bounds, prove_no_overflow
from bacmac.host.arith.network import ConvOp, IntegerNetwork, PoolOp
from bacmac.host.arith.operators import (
    Output,
    add_dense,
    add_elementwise,
    add_pool,
    add_slab_conv,
    conv_kind,
    slab_dtype,
)
from bacmac.host.arith.reference import Codes, Outputs, check_images, empty_outputs
from bacmac.host.arith.requantize import float32_exact
from bacmac.host.arith.slab import Array, SlabGeometry, Target, slab_geometry
from bacmac.host.arith.tape import Tape, add_store

BLOCK_COLUMNS = 432
"""Columns times images of the widest row: 384 floats of 16 channels are half of a 48 KiB L1."""


class Engine:
    """Runs one network; made once, run often. Not for use by two threads at the same time.

    Args:
        network: what to run.
        block_images: images that go through together; by default what suits the caches.

    Raises:
        CompileError: an accumulator may overflow int32.
    """

    def __init__(self, network: IntegerNetwork, *, block_images: int | None = None) -> None:
        prove_no_overflow(network)
        use_one_thread()
        self.network = network
        widest = max(shape[2] for shape in network.shapes)
        self.block_images = block_images or max(4, min(32, BLOCK_COLUMNS // widest))
        self._exact = [_exact_channels(network, index) for index in range(len(network.ops))]
        self._blocks: dict[int, _Block] = {}

    def run(self, images: Codes) -> Outputs:
        """Outputs (N, C, H, W) of input codes (N, C, H, W): what `run_reference` returns.

        Raises:
            ValueError: the images are not of the network's shape, dtype or range.
        """
        check_images(self.network, images)
        outputs = empty_outputs(self.network, len(images))
        start = 0
        while start < len(images):
            left = len(images) - start
            # a remainder goes through in a block of the next power of two, made when needed
            size = min(self.block_images, 1 << (left - 1).bit_length())
            n = min(size, left)
            if size not in self._blocks:
                self._blocks[size] = _Block(self.network, self._exact, size)
            self._blocks[size].run(images[start : start + n], outputs, start)
            start += n
        return outputs


@dataclass
class _Tensor(Output):
    """One tensor of a block.

    Attributes:
        home: one copy that is whole, (H, C, width, images), or None where nobody reads it so.
        slabs: by number of the op that reads it through one.
        memory: what it occupies, to be given back after its last use.
    """

    home: Array | None = None
    slabs: dict[int, tuple[SlabGeometry, Array]] = field(default_factory=dict)
    memory: list[tuple[Hashable, Array]] = field(default_factory=list)


class _Block:
    """The tape for a fixed number of images, and its memory."""

    def __init__(
        self, network: IntegerNetwork, exact: list[npt.NDArray[np.bool_]], images: int
    ) -> None:
        self._network, self._images = network, images
        self._free: dict[Hashable, list[Array]] = {}
        self._tape = Tape()
        channels, height, width = network.input_shape
        tensors = [self._tensor(0)]
        padded = np.zeros((height, channels, tensors[0].width, images), np.float32)
        self._input = padded[:, :, :width]
        add_store(self._tape, padded, slice(0, height), tensors[0].targets)
        for index in range(len(network.ops)):
            tensors.append(self._tensor(index + 1))
            self._add_op(index, exact[index], tensors)
            for number, tensor in enumerate(tensors):
                if self._last_use(number) == index:
                    self._give(tensor)
        output = tensors[-1].home
        assert output is not None
        self._output = output

    def run(self, images: Codes, outputs: Outputs, start: int) -> None:
        """Write outputs[start:] of at most as many images as the block holds."""
        n = len(images)
        np.copyto(self._input[..., :n], images.transpose(2, 1, 3, 0))
        self._tape.run()
        np.copyto(
            outputs[start : start + n],
            self._output[..., :n].transpose(3, 1, 0, 2),
            casting="unsafe",
        )

    def _add_op(self, index: int, exact: npt.NDArray[np.bool_], tensors: list[_Tensor]) -> None:
        network, op = self._network, self._network.ops[index]
        source, output = tensors[op.input], tensors[-1]
        input_shape, input_range = network.shapes[op.input], network.ranges[op.input]
        if index in source.slabs:
            assert isinstance(op, ConvOp)
            geometry, slab = source.slabs[index]
            residual = None if op.residual is None else tensors[op.residual].home
            add_slab_conv(self._tape, op, input_range, exact, geometry, slab, residual, output)
            return
        assert source.home is not None
        if isinstance(op, PoolOp):
            add_pool(self._tape, op, input_shape, input_range[0], exact, source.home, output)
            return
        residual = None if op.residual is None else tensors[op.residual].home
        if conv_kind(op, input_shape) == "dense":
            add_dense(self._tape, op, input_range, exact, source.home, residual, output)
        else:
            add_elementwise(self._tape, op, input_shape, exact, source.home, residual, output)

    def _tensor(self, number: int) -> _Tensor:
        """Memory for a tensor wherever its readers want it, without a copy where one can serve."""
        network = self._network
        shape, last = network.shapes[number], number == len(network.ops)
        tensor = _Tensor(shape[2])
        whole, contiguous = last, last
        for index, op in enumerate(network.ops):
            if isinstance(op, ConvOp) and op.residual == number:
                whole = True
            if op.input != number:
                continue
            kind = conv_kind(op, shape) if isinstance(op, ConvOp) else "elementwise"
            whole |= kind != "slab"
            contiguous |= kind == "dense"
            if isinstance(op, ConvOp) and kind == "slab":
                dtype = slab_dtype(op, *network.ranges[number])
                geometry = slab_geometry(op, shape, self._images, dtype)
                slab = self._take(tensor, geometry, geometry.allocate)
                if geometry.whole and not tensor.slabs:
                    tensor.width = geometry.width
                tensor.slabs[index] = geometry, slab
                tensor.targets.extend(geometry.targets(slab, tensor.width))
                if tensor.home is None and dtype == "float32":
                    tensor.home = geometry.home(slab)
        if whole and (tensor.home is None or contiguous):
            channels, height, width = shape
            # logits may need more than the 24 bits of float32
            key = (height, channels, width, self._images), "float64" if last else "float32"
            home = self._take(tensor, key, lambda: np.zeros(*key))
            tensor.home = home
            tensor.targets.append(Target(home[:, None], slice(0, width)))
        return tensor

    def _take(self, tensor: _Tensor, key: Hashable, allocate: Callable[[], Array]) -> Array:
        """Memory of that kind, used before where possible: it is still in the cache."""
        free = self._free.get(key)
        memory = free.pop() if free else allocate()
        tensor.memory.append((key, memory))
        return memory

    def _give(self, tensor: _Tensor) -> None:
        for key, memory in tensor.memory:
            self._free.setdefault(key, []).append(memory)
        tensor.memory.clear()

    def _last_use(self, number: int) -> int:
        """Number of the last op that reads a tensor, its own where none does; never the output."""
        readers = [
            index
            for index, op in enumerate(self._network.ops)
            if op.input == number or (isinstance(op, ConvOp) and op.residual == number)
        ]
        if number == len(self._network.ops):
            return number
        return max(readers, default=number - 1)


def _exact_channels(network: IntegerNetwork, index: int) -> npt.NDArray[np.bool_]:
    op, ranges = network.ops[index], network.ranges
    if op.requantize is None:
        return np.ones(0, np.bool_)
    residual = op.residual if isinstance(op, ConvOp) else None
    return float32_exact(
        op.requantize,
        *accumulator_bounds(op, *ranges[op.input]),
        None if residual is None else ranges[residual],
    )
