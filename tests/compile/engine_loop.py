"""The engine's loop, written down slowly from docs/accelerator.md: the golden model of the RTL.

It takes the bytes that a device is given and nothing else: no code of the compiler or the emulator
is used, so that both can be compared with it. Memories are bytes, a layer is the three loops, a
chunk is read at its byte address and masked, a lane is its adder tree of relative signs. `trace`
receives what the engine issues, for whoever debugs hardware:

    loop = EngineLoop(program.program_image, ..., scheme="pot-4", inputs=16, outputs=16, tile=64)
    loop.load_image(address, rows)
    loop.run_layer(0, trace=print)
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

REQUANTIZE, RESIDUAL, DENSE, INPUT_IS_IMAGE, RESIDUAL_IS_IMAGE = 1, 2, 4, 8, 16
RESIDUAL_SIGNED, INPUT_SIGNED = 64, 128
CONVOLUTION, MAX_POOL = 0, 1


class Record(NamedTuple):
    """A descriptor, as the table has it."""

    kind: int
    flags: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int
    pad_bottom: int
    pad_right: int
    low: int
    high: int
    groups: int
    in_h: int
    in_w: int
    in_c: int
    out_c: int
    input_address: int
    output_address: int
    residual_address: int
    weight_address: int
    weight_bytes: int
    constant_row: int
    list_address: int
    input_low: int
    input_high: int
    out_h: int
    out_w: int
    n_entries: int
    n_skipped: int

    @property
    def signed(self) -> bool:
        return bool(self.flags & INPUT_SIGNED)


@dataclass
class Issued:
    """One entry of the list over one tile.

    Attributes:
        tile, block, entry: numbers; the entry's within the list.
        addresses: (t,) byte address of each pixel's read, before padding is masked.
        low, high: (t,) bytes low .. high - 1 of the read are not padding.
        bytes: (t, inputs) what the array takes.
        sums: (t, outputs) what is added to the accumulators (of a pool: its bytes).
        accumulators: (t, outputs) after it, int32.
    """

    tile: int
    block: int
    entry: int
    addresses: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bytes: np.ndarray
    sums: np.ndarray
    accumulators: np.ndarray


@dataclass
class Count:
    """What one layer did for one image; `tiles` of `blocks` of entries that were not empty."""

    busy: int
    products: int
    isolated: int
    skipped: int
    tiles: list[tuple[int, list[int]]]


class EngineLoop:
    """Memories and loop of one accelerator."""

    def __init__(
        self,
        program: bytes,
        weights: bytes,
        constants: bytes,
        *,
        scheme: str,
        inputs: int,
        outputs: int,
        tile: int,
        activation_bytes: int = 1 << 19,
    ) -> None:
        self.program, self.weights, self.constants = program, weights, constants
        self.scheme, self.inputs, self.outputs, self.tile = scheme, inputs, outputs, tile
        # what nobody wrote is not zero
        rng = np.random.default_rng(7)
        self.activations = rng.integers(0, 256, activation_bytes + inputs, np.uint8)

    def load_image(self, address: int, data: bytes) -> None:
        self.activations[address : address + len(data)] = np.frombuffer(data, np.uint8)

    def record(self, index: int) -> Record:
        return Record(*struct.unpack_from("<10B2h5H7I2h4H", self.program, 64 * index))

    def run_layer(
        self, index: int, image_offset: int = 0, trace: Callable[[Issued], Any] | None = None
    ) -> Count:
        d = self.record(index)
        entries = struct.unpack_from(f"<{d.n_entries}I", self.program, d.list_address)
        pixels = d.out_h * d.out_w
        count = Count(0, 0, 0, self.outputs * self.inputs * d.n_skipped * pixels, [])
        for tile, first in enumerate(range(0, pixels, self.tile)):
            tile_pixels = np.arange(first, min(first + self.tile, pixels))
            block, group = 0, 0
            accumulators = np.zeros((len(tile_pixels), self.outputs), np.int32)
            opens = True
            sizes = [0]
            for number, entry in enumerate(entries):
                empty = entry >> 29 & 1
                if not empty:
                    addresses, low, high, taken = self.read(d, entry, tile_pixels, image_offset)
                    if d.kind == CONVOLUTION:
                        at = d.weight_address + group * self.group_bytes
                        magnitudes, signs = self.group(at)
                        sums = lanes(taken, magnitudes, signs)
                        products = int(np.count_nonzero(magnitudes))
                        count.products += products * len(tile_pixels)
                        count.isolated += (magnitudes.size - products) * len(tile_pixels)
                        group += 1
                    else:
                        sums = taken[:, : self.outputs].astype(np.int64)
                    if d.kind == MAX_POOL:
                        accumulators = np.maximum(accumulators, sums) if not opens else sums
                    else:
                        accumulators = accumulators + sums
                    accumulators = wrap(accumulators)
                    count.busy += len(tile_pixels)
                    sizes[-1] += 1
                    if trace is not None:
                        trace(
                            Issued(
                                tile, block, number, addresses, low, high, taken, sums, accumulators
                            )
                        )
                opens = False
                if entry >> 28 & 1:
                    self.write_back(d, tile_pixels, block, accumulators, image_offset)
                    block, opens = block + 1, True
                    accumulators = np.zeros_like(accumulators)
                    sizes.append(0)
            assert block == math.ceil(d.out_c / self.outputs)
            assert group * self.group_bytes == d.weight_bytes
            count.tiles.append((len(tile_pixels), sizes[:-1]))
        return count

    def read(
        self, d: Record, entry: int, pixels: np.ndarray, image_offset: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """A chunk of each pixel's window, as the array takes it."""
        row_offset, ky = entry & 0xFFFFF, entry >> 20 & 0xFF
        row_bytes = d.in_w * d.in_c
        limit = row_bytes * d.in_h if d.flags & DENSE else row_bytes
        y = pixels // d.out_w * d.stride_h - d.pad_top + ky
        x = (pixels % d.out_w * d.stride_w - d.pad_left) * d.in_c + row_offset
        base = d.input_address + (image_offset if d.flags & INPUT_IS_IMAGE else 0)
        addresses = base + y * row_bytes + x
        inside = (y >= 0) & (y < d.in_h)
        low = np.where(inside, np.clip(-x, 0, self.inputs), 0)
        high = np.where(inside, np.clip(limit - x, 0, self.inputs), 0)
        places = np.arange(self.inputs)
        real = (places >= low[:, None]) & (places < high[:, None])
        where = np.where(real, addresses[:, None] + places, 0)
        fill = d.input_low & 0xFF if d.kind == MAX_POOL else 0
        taken = np.where(real, self.activations[where], fill)
        return addresses, low, high, taken ^ 0x80 if d.signed else taken

    @property
    def magnitude_bits(self) -> int:
        return 7 if self.scheme == "uniform-8" else 3

    @property
    def group_bytes(self) -> int:
        return self.outputs * self.inputs * (self.magnitude_bits + 1) // 8

    def group(self, address: int) -> tuple[np.ndarray, np.ndarray]:
        """Magnitudes (outputs, inputs) and relative signs (outputs, inputs) of a group."""
        data = self.weights[address : address + self.group_bytes]
        bits = int.from_bytes(data, "little")
        width, inputs = self.magnitude_bits, self.inputs
        magnitudes = np.zeros((self.outputs, inputs), np.int64)
        signs = np.zeros((self.outputs, inputs), np.int64)
        for lane in range(self.outputs):
            own = bits >> lane * inputs * (width + 1)
            for i in range(inputs):
                magnitudes[lane, i] = self.magnitude(own >> i * width & (1 << width) - 1)
                signs[lane, i] = own >> inputs * width + i & 1
        return magnitudes, signs

    def magnitude(self, code: int) -> int:
        """What the product term multiplies by, for a code."""
        if self.scheme == "pot-4":
            return 1 << code - 1 if code else 0
        if self.scheme == "pot-4e4":
            return (0, 1, 2, 4)[code & 3] << 2 * (code >> 2)
        return code

    def write_back(
        self,
        d: Record,
        pixels: np.ndarray,
        block: int,
        accumulators: np.ndarray,
        image_offset: int,
    ) -> None:
        channels = min(self.outputs, d.out_c - block * self.outputs)
        wide = d.kind == CONVOLUTION and not d.flags & REQUANTIZE
        for lane in range(channels):
            row = (d.constant_row + block) * self.outputs + lane
            bias, m, shift, _, mr = struct.unpack_from("<iHBBi", self.constants, 12 * row)
            acc = wrap(accumulators[:, lane] + np.int64(bias)).astype(np.int64)
            place = pixels * d.out_c + block * self.outputs + lane
            t = acc * m
            if d.flags & RESIDUAL:
                base = d.residual_address
                base += image_offset if d.flags & RESIDUAL_IS_IMAGE else 0
                r = self.activations[base + place]
                t = t + (r.view(np.int8) if d.flags & RESIDUAL_SIGNED else r).astype(np.int64) * mr
            if shift:
                t = (t + (1 << (shift - 1))) >> shift
            if wide:
                for byte in range(4):
                    self.activations[d.output_address + 4 * place + byte] = (t >> 8 * byte) & 0xFF
                continue
            self.activations[d.output_address + place] = np.clip(t, d.low, d.high) & 0xFF

    def run_batch(self, rows: np.ndarray, n_layers: int) -> tuple[bytes, list[Count]]:
        """Outputs of images (n, image bytes), and what each layer did for the last of them."""
        address, outputs = self.record(0).input_address, bytearray()
        for number, row in enumerate(rows):
            self.load_image(address + number * len(row), row.tobytes())
        for number in range(len(rows)):
            counts = [self.run_layer(index, number * rows.shape[1]) for index in range(n_layers)]
            last = self.record(n_layers - 1)
            size = last.out_h * last.out_w * last.out_c * (1 if last.flags & REQUANTIZE else 4)
            if last.kind != CONVOLUTION:
                size = last.out_h * last.out_w * last.out_c
            start = last.output_address
            outputs += self.activations[start : start + size].tobytes()
            outputs += bytes(-size % self.inputs)
        return bytes(outputs), counts


def lanes(taken: np.ndarray, magnitudes: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Sums (t, outputs) of bytes (t, inputs): each lane's tree of additions and subtractions."""
    values = taken.astype(np.int64)[:, None, :] * magnitudes
    used = 0
    while values.shape[-1] > 1:
        half = values.shape[-1] // 2
        minus = signs[:, used : used + half]
        values = values[..., ::2] + np.where(minus, -values[..., 1::2], values[..., 1::2])
        used += half
    return np.where(signs[:, -1], -values[..., 0], values[..., 0])


def wrap(values: np.ndarray) -> np.ndarray:
    """Modulo 2**32, as int32."""
    return values.astype(np.int64).astype(np.uint64).astype(np.uint32).view(np.int32)


def slow_cycles(
    tiles: list[tuple[int, list[int]]], words: int, step: int, residual: bool, inputs: int
) -> int:
    """Cycles of a layer, entry by entry, as "Time" has them.

    Args:
        tiles: of each tile its pixels and the entries of each block, 0 where it is empty.
        words: of a group, 0 for a pool.
        step: cycles of a pixel in the write-back.
        residual: whether the write-back begins in even cycles.
        inputs: of the array.
    """
    head, accumulate, early, release, drain = 34 + 64 // inputs, 11, 6, 2, 15
    entries = [
        (t, words if n else 0, number == 0, number == max(n, 1) - 1)
        for t, blocks in tiles
        for n in blocks
        for number in range(max(n, 1))
    ]
    issued, block = 0, -1
    starts: list[int] = []
    pixels: list[int] = []
    for k, (t, load, first, last) in enumerate(entries):
        if first:
            block += 1
        if k == 0:
            issued = head + max(1, load)
        else:
            issued += max(entries[k - 1][0], load)
        if first and block >= 2:
            two = block - 2
            issued = max(issued, starts[two] + max(step * (pixels[two] - 1) - early, release))
        if last:
            begin = issued + t + accumulate
            if starts:
                begin = max(begin, starts[-1] + step * pixels[-1])
            if residual:
                begin += begin % 2
            starts.append(begin)
            pixels.append(t)
    return starts[-1] + step * pixels[-1] + drain
