"""Programs for the stand-in engine (standin_engine.sv), and what they must give."""

from __future__ import annotations

import math
import random
import struct
from dataclasses import dataclass, field
from itertools import pairwise

IMAGE_ADDRESS = 1024
ACTIVATION_BYTES, WEIGHT_BYTES, CONSTANT_BYTES, PROGRAM_BYTES = 4096, 1024, 1536, 2048
MAX_LAYERS = 16
BATCH, OUTPUT = 28, 5
"""Cycles of a batch and of an image's output beside the beats (probe: 5); docs/accelerator.md."""


@dataclass
class Layer:
    """One descriptor of the stand-in: bytes in, bytes out, cycles."""

    n_in: int
    n_out: int
    cycles: int
    n_skipped: int = 0
    kind: int = 0


@dataclass
class Network:
    """A program, its images and its outputs."""

    layers: list[Layer]
    beat: int
    weights: bytes = field(default_factory=lambda: random.randbytes(64))
    constants: bytes = field(default_factory=lambda: random.randbytes(192))

    def output_address(self, number: int) -> int:
        return 256 * (number % 4)

    @property
    def program(self) -> bytes:
        records = []
        for number, layer in enumerate(self.layers):
            last = number == len(self.layers) - 1
            record = bytearray(64)
            record[0] = layer.kind
            record[1] = (8 if number == 0 else 0) | (32 if last else 0)
            source = IMAGE_ADDRESS if number == 0 else self.output_address(number - 1)
            struct.pack_into("<HHHH", record, 16, 1, 1, layer.n_in, layer.n_out)
            struct.pack_into("<II", record, 24, source, self.output_address(number))
            struct.pack_into("<I", record, 40, layer.cycles)
            struct.pack_into("<HHHH", record, 56, 1, 1, 0, layer.n_skipped)
            records.append(bytes(record))
        return b"".join(records)

    @property
    def image_bytes(self) -> int:
        return math.ceil(self.layers[0].n_in / self.beat) * self.beat

    @property
    def output_bytes(self) -> int:
        return math.ceil(self.layers[-1].n_out / self.beat) * self.beat

    def images(self, n: int) -> bytes:
        return random.randbytes(n * self.image_bytes)

    def outputs(self, images: bytes) -> bytes:
        sent = b""
        for start in range(0, len(images), self.image_bytes):
            values = images[start : start + self.image_bytes]
            for number, layer in enumerate(self.layers):
                tensor = values[: layer.n_in]
                values = bytes(
                    tensor[i % layer.n_in] + number + 1 & 0xFF for i in range(layer.n_out)
                )
            sent += values.ljust(self.output_bytes, b"\0")
        return sent

    def cycles(self, n: int, passes: int) -> int:
        beats_in, beats_out = self.image_bytes // self.beat, self.output_bytes // self.beat
        one = sum(layer.cycles for layer in self.layers)
        return BATCH + n * (beats_in + passes * one + OUTPUT + beats_out)


def small_network(beat: int) -> Network:
    return Network([Layer(2 * beat, 9, 7, 5), Layer(9, 2 * beat + 3, 6, 7)], beat)


def random_network(beat: int, n_layers: int) -> Network:
    sizes = [random.randint(1, 5 * beat) for _ in range(n_layers + 1)]
    return Network(
        [
            Layer(n_in, n_out, random.randint(4, 40), random.randint(0, 9999))
            for n_in, n_out in pairwise(sizes)
        ],
        beat,
    )
