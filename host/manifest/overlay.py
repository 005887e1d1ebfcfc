"""What an overlay says of itself: the manifest, and with its register map, the overlay."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bacmac.host.manifest.registers import RegisterMap

MADE_FOR, EMULATION = "MADEFOR", "emulation"
"""Attribute of a hand-off's first element, and its value where no Vivado wrote it."""


@dataclass(frozen=True)
class Geometry:
    """The array: `inputs` x `outputs` products a cycle, weights held over `pixel_tile` pixels.

    `group_inputs` x `group_outputs` weights form the group that is skipped when it is empty.
    """

    inputs: int
    outputs: int
    pixel_tile: int
    group_inputs: int
    group_outputs: int


@dataclass(frozen=True)
class Buffers:
    """On-chip memories, in bytes, and how many descriptors fit."""

    activation_bytes: int
    weight_bytes: int
    constant_bytes: int
    program_bytes: int
    max_descriptors: int


@dataclass(frozen=True)
class Files:
    """Names beside the manifest; a `.bit` that does not exist yet is said plainly by `check`."""

    bitstream: str
    hwh: str


@dataclass(frozen=True)
class Manifest:
    """One prebuilt accelerator.

    Attributes:
        name: "bac-pot4", ...; also the base name of its files.
        description: one line.
        abi: version of the descriptor, constant and stream formats.
        product: what the product term is: "bac" (shift) or "mac" (multiply).
        scheme: the widest scheme the product term executes; any model whose levels are a subset
            and whose codes are not wider can run (through re-encoding at compile).
        build_id: what the BUILD register reads, so that a stale overlay is noticed.
        clock_hz: the clock it is built for.
        beat_bytes: bytes of one AXI4-Stream beat.
        max_transfer_bytes: the most one DMA transfer can move.
        dma_base, accelerator_base: AXI4-Lite base addresses.
        board, part: what it is built for.
        resources: LUT, FF, DSP, BRAM... by name; their source in `resources_source`
            ("estimate: ..." until a build is measured).
    """

    name: str
    description: str
    abi: int
    product: Literal["bac", "mac"]
    scheme: str
    build_id: int
    clock_hz: float
    beat_bytes: int
    max_transfer_bytes: int
    accelerator_base: int
    dma_base: int
    board: str
    part: str
    geometry: Geometry
    buffers: Buffers
    files: Files
    resources: dict[str, float]
    resources_source: str


@dataclass(frozen=True)
class Overlay:
    """A manifest with the register map it names.

    Attributes:
        manifest, registers: the two texts, read.
        sha256: of both texts.
        folder: where the manifest lies, and its `.bit` and `.hwh` beside it; no part of what the
            overlay is.
    """

    manifest: Manifest
    registers: RegisterMap
    sha256: str
    folder: Path = field(compare=False)
