"""The program: all that a device is given, and what is known of its run beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import IntegerNetwork, Shape
from bacmac.host.arith.reference import Codes, Outputs, output_dtype
from bacmac.host.compile.descriptor import Descriptor, encode
from bacmac.host.compile.plan import BufferPlan, tensor_bytes
from bacmac.host.compile.work import Work, batch_work, total
from bacmac.host.manifest.overlay import Overlay


@dataclass(frozen=True)
class LayerPlan:
    """What the compiler knows of one layer.

    Attributes:
        name: the model's.
        work: for one image.
        weight_bytes: of its groups that are stored, in the weight memory.
        empty_groups: groups that are not stored and cost nothing.
        n_groups: all groups.
        accumulator_bound: no partial sum of any accumulator, in any order and for any input,
            is larger in magnitude (proven; arith.bounds); below 2**31.
    """

    name: str
    work: Work
    weight_bytes: int
    empty_groups: int
    n_groups: int
    accumulator_bound: int

    @property
    def headroom_bits(self) -> float:
        """log2 of how much larger an accumulator could be before int32 overflows."""
        return 31.0 - math.log2(max(self.accumulator_bound, 1))


@dataclass(frozen=True)
class Tensor:
    """A tensor on the stream: HWC, filled with zeros to whole beats.

    Attributes:
        shape: (C, H, W).
        dtype: NumPy name: uint8, int8 or int32 (little-endian).
        n_bytes: of one image, whole beats.
    """

    shape: Shape
    dtype: str
    n_bytes: int

    def pack(self, values: Codes | Outputs, out: npt.NDArray[np.uint8]) -> None:
        """Write values (n, C, H, W) into `out`, uint8 (n, n_bytes)."""
        used = self._used_bytes
        # NumPy 1.21, which PYNQ's images have, views only what lies in one piece as bytes
        rows = np.ascontiguousarray(values.transpose(0, 2, 3, 1), self._stored)
        out[:, :used] = rows.reshape(len(values), -1).view(np.uint8)
        out[:, used:] = 0

    def unpack(self, data: npt.NDArray[np.uint8]) -> Outputs:
        """Values (n, C, H, W), a new array, of data uint8 (n, n_bytes)."""
        channels, height, width = self.shape
        values = np.ascontiguousarray(data[:, : self._used_bytes]).view(self._stored)
        ordered = values.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
        return np.array(ordered, self.dtype, order="C")

    @property
    def _stored(self) -> npt.DTypeLike:
        stored: npt.DTypeLike = np.dtype(self.dtype).newbyteorder("<")
        return stored

    @property
    def _used_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def stream_tensors(network: IntegerNetwork, beat_bytes: int) -> tuple[Tensor, Tensor]:
    """A network's input and output on the stream."""
    sizes = tensor_bytes(network, beat_bytes)
    return (
        Tensor(network.input_shape, "int8" if network.input_low < 0 else "uint8", sizes[0]),
        Tensor(network.shapes[-1], np.dtype(output_dtype(network)).name, sizes[-1]),
    )


@dataclass(frozen=True, eq=False)
class Program:
    """A network compiled for one overlay.

    Attributes:
        overlay: what it was compiled for.
        descriptors: one a layer.
        group_lists: bytes of the program memory after the descriptors.
        weight_image: bytes of the weight memory (bacmac.host.arith.array_codes).
        constant_image: bytes of the constant memory (bacmac.host.compile.weights).
        input: the image on the stream.
        output: the result on the stream.
        plan: the activation memory.
        layers: what is known of each layer.
    """

    overlay: Overlay
    descriptors: tuple[Descriptor, ...]
    group_lists: bytes
    weight_image: bytes
    constant_image: bytes
    input: Tensor
    output: Tensor
    plan: BufferPlan
    layers: tuple[LayerPlan, ...]

    @cached_property
    def program_image(self) -> bytes:
        """Descriptors and group lists as the device takes them."""
        return b"".join(map(encode, self.descriptors)) + self.group_lists

    @cached_property
    def image_work(self) -> Work:
        """Work of one pass over one image, streams apart."""
        return total(layer.work for layer in self.layers)

    @property
    def input_beats(self) -> int:
        """Stream beats of one image."""
        return self.input.n_bytes // self.overlay.manifest.beat_bytes

    @property
    def output_beats(self) -> int:
        """Stream beats of one output."""
        return self.output.n_bytes // self.overlay.manifest.beat_bytes

    @property
    def max_batch(self) -> int:
        """Images that stay on chip together, and go in and come out in one DMA transfer each."""
        most = self.overlay.manifest.max_transfer_bytes
        return min(self.plan.max_images, most // self.input.n_bytes, most // self.output.n_bytes)

    def batch_work(self, n_images: int, passes: int = 1) -> Work:
        """What the device's counters must say of a batch, to the last cycle."""
        return batch_work(
            self.image_work,
            n_images,
            passes,
            input_beats=self.input_beats,
            output_beats=self.output_beats,
            geometry=self.overlay.manifest.geometry,
        )
