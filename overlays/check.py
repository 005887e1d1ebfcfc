"""May this overlay be trusted? Its texts against each other, and its files against its texts.

Nothing here touches a device. What only a running board can tell (the BUILD and ABI registers,
the clock as set) the driver checks when it loads the overlay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bacmac.host.errors import OverlayError
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.manifest.registers import Register
from bacmac.overlays.bitfile import read_bit_header
from bacmac.overlays.hwh import DMA_SIZE_BYTES, HandOff, hand_off
from bacmac.overlays.hwh_reader import MAX_BYTES, read_hwh

CLOCK_TOLERANCE = 1e-3
"""Relative; a 1.5 GHz PLL on a 33.333 MHz crystal runs at 1.499985 GHz, 1e-5 below."""

NEEDED_FIELDS = {
    "CTRL": ("START", "SOFT_RESET", "CLEAR_COUNTERS"),
    "STATUS": ("IDLE", "BUSY", "DONE", "ERROR", "PROGRAM", "WEIGHTS", "CONSTANTS", "ERROR_CODE"),
    "STREAM_SELECT": ("SELECT",),
}
NEEDED_REGISTERS = (
    *("ID", "ABI", "BUILD", *NEEDED_FIELDS, "N_IMAGES", "REPEAT", "N_DESCRIPTORS", "ERROR_INFO"),
    *("LOAD_BYTES", "LAYER_SELECT"),
    *(
        f"{counter}_{half}"
        for counter in (
            *("CYCLES", "BUSY_CYCLES", "STALL_IN_CYCLES", "STALL_OUT_CYCLES"),
            *("PRODUCTS", "ISOLATED", "SKIPPED", "IMAGES"),
            *("LAYER_CYCLES", "LAYER_BUSY", "LAYER_PRODUCTS", "LAYER_ISOLATED", "LAYER_SKIPPED"),
        )
        for half in ("LO", "HI")
    ),
)
"""What the driver reads and writes."""

BOARD_PARTS = {"ZCU104": "xczu7ev-ffvc1156-2-e"}  # UG1267

PART_RESOURCES = {
    # DS891, table of Zynq UltraScale+ EV devices
    "xczu7ev": {"LUT": 230_400, "FF": 460_800, "DSP": 1728, "BRAM36": 312, "URAM": 96},
}

Level = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        level: "ok"; "note", worth knowing; "warning", works but not as it should; "error", do not
            use it.
        subject: what was looked at, a word or two.
        text: what was found.
    """

    level: Level
    subject: str
    text: str


def check_overlay(overlay: Overlay) -> tuple[Finding, ...]:
    """Check an overlay's texts, and its .bit and .hwh where they lie in its folder.

    Reads files and never raises for what is in them: everything found is a finding.
    """
    return (
        *_check_registers(overlay),
        *_check_addresses(overlay),
        *_check_clock(overlay),
        *_check_part(overlay),
        *_check_files(overlay),
    )


def _check_registers(overlay: Overlay) -> Iterator[Finding]:
    subject = "register map"
    have = {register.name: register for register in overlay.registers.registers}
    missing = [name for name in NEEDED_REGISTERS if name not in have]
    for name, fields in NEEDED_FIELDS.items():
        if name in have:
            known = {field.name for field in have[name].fields}
            missing += [f"{name}.{field}" for field in fields if field not in known]
    if missing:
        yield Finding("error", subject, f"the driver needs {', '.join(missing)}")
    abi = have.get("ABI")
    if abi is not None and abi.reset != overlay.manifest.abi:
        yield Finding(
            "error", subject, f"ABI resets to {abi.reset}, the manifest says {overlay.manifest.abi}"
        )
    elif not missing:
        yield Finding(
            "ok",
            subject,
            f"{overlay.registers.name} version {overlay.registers.version}: "
            f"{len(have)} registers, ABI {overlay.manifest.abi}",
        )


def _check_addresses(overlay: Overlay) -> Iterator[Finding]:
    manifest, size = overlay.manifest, overlay.registers.size_bytes
    ours, dma = manifest.accelerator_base, manifest.dma_base
    shown = f"accelerator at {ours:#x} ({size:#x} bytes), DMA at {dma:#x}"
    if ours < dma + DMA_SIZE_BYTES and dma < ours + size:
        yield Finding("error", "addresses", f"{shown}: they overlap")
    elif ours % size:
        yield Finding("error", "addresses", f"{shown}: a base is a multiple of its size")
    else:
        yield Finding("ok", "addresses", shown)


def _check_clock(overlay: Overlay) -> Iterator[Finding]:
    wanted, reached = overlay.manifest.clock_hz, hand_off(overlay).clock_hz
    if _same_clock(wanted, reached):
        yield Finding("ok", "clock", f"{wanted / 1e6:g} MHz")
    else:
        yield Finding(
            "warning",
            "clock",
            f"{wanted / 1e6:g} MHz is not 1500 MHz over a whole number, which is all that pl_clk0 "
            f"gives under PYNQ: the nearest below is {reached / 1e6:g} MHz",
        )


def _check_part(overlay: Overlay) -> Iterator[Finding]:
    manifest = overlay.manifest
    part = BOARD_PARTS.get(manifest.board)
    if part is None:
        yield Finding("note", "part", f"nothing is known of a board {manifest.board!r}")
    elif part != manifest.part:
        yield Finding("error", "part", f"{manifest.board} has {part}, not {manifest.part}")
    else:
        yield Finding("ok", "part", f"{manifest.board}, {manifest.part}")
    available = PART_RESOURCES.get(manifest.part.partition("-")[0], {})
    needed = manifest.resources
    over = [
        f"{name} {needed[name]:g} of {most}"
        for name, most in available.items()
        if needed.get(name, 0) > most
    ]
    shown = ", ".join(f"{name} {value:g}" for name, value in needed.items())
    if over:
        yield Finding("error", "resources", f"more than the part has: {', '.join(over)}")
    elif manifest.resources_source.startswith("measured:"):
        yield Finding("ok", "resources", f"{shown} ({manifest.resources_source})")
    else:
        yield Finding("note", "resources", f"{shown} ({manifest.resources_source})")


def _check_files(overlay: Overlay) -> Iterator[Finding]:
    folder, files = overlay.folder, overlay.manifest.files
    bit, hwh = folder / files.bitstream, folder / files.hwh
    there = {path.name: path.is_file() for path in (bit, hwh)}
    if not any(there.values()):
        yield Finding(
            "note",
            "bitstream",
            "no bitstream: this overlay runs emulated only; "
            "a bitstream is built by Vivado from hw_src (see hw_src/README.md)",
        )
        return
    if not all(there.values()):
        (have,) = (name for name, exists in there.items() if exists)
        (lack,) = (name for name, exists in there.items() if not exists)
        yield Finding("error", "files", f"{have} without {lack}: PYNQ needs both, of one build")
    if there[bit.name]:
        yield from _check_bit(overlay, bit)
    if there[hwh.name]:
        yield from _check_hwh(overlay, hwh)


def _check_bit(overlay: Overlay, path: Path) -> Iterator[Finding]:
    try:
        header = read_bit_header(path)
    except OverlayError as error:
        yield Finding("error", "bitstream", str(error))
        return
    if header.part.lower() != overlay.manifest.part:
        yield Finding(
            "error",
            "bitstream",
            f"{path.name} is for {header.part}, the manifest says {overlay.manifest.part}",
        )
    else:
        yield Finding(
            "ok", "bitstream", f"{path.name}: {header.design}, {header.part}, built {header.built}"
        )


def _check_hwh(overlay: Overlay, path: Path) -> Iterator[Finding]:
    try:
        with path.open("rb") as handle:
            found = read_hwh(handle.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        yield Finding("error", "hand-off", f"{path}: {error.strerror}")
        return
    except OverlayError as error:
        yield Finding("error", "hand-off", str(error))
        return
    wanted = hand_off(overlay)
    problems = [*_differing(overlay, found, wanted), *_differing_registers(found, wanted)]
    for problem in problems:
        yield Finding("error", "hand-off", f"{path.name}: {problem}")
    if not found.registers:
        yield Finding(
            "warning", "hand-off", f"{path.name} declares no registers: offsets cannot be compared"
        )
    if found.dma.address_bits < wanted.dma.address_bits:
        yield Finding(
            "warning",
            "hand-off",
            f"{path.name}: the DMA has {found.dma.address_bits} address bits, expected "
            f"{wanted.dma.address_bits}: a buffer above its reach fails",
        )
    if not problems:
        yield Finding("ok", "hand-off", f"{path.name} agrees with manifest and register map")


def _differing(overlay: Overlay, found: HandOff, wanted: HandOff) -> Iterator[str]:
    """What differs outside the registers, each as one phrase."""
    for what, is_value, want in (
        ("part", found.part, wanted.part),
        ("accelerator address", hex(found.accelerator_base), hex(wanted.accelerator_base)),
        ("DMA address", hex(found.dma_base), hex(wanted.dma_base)),
        ("DMA memory-to-stream channel", found.dma.sends, True),
        ("DMA stream-to-memory channel", found.dma.receives, True),
        ("DMA scatter-gather", found.dma.scatter_gather, False),
        ("bytes of a sent beat", found.dma.send_bytes, wanted.dma.send_bytes),
        ("bytes of a received beat", found.dma.receive_bytes, wanted.dma.receive_bytes),
    ):
        if is_value != want:
            yield f"{what}: found {is_value}; expected {want}"
    if found.accelerator_bytes < wanted.accelerator_bytes:
        yield (
            f"accelerator address range: found {found.accelerator_bytes:#x} bytes; "
            f"expected at least {wanted.accelerator_bytes:#x}"
        )
    if found.dma.length_bits < wanted.dma.length_bits:
        yield (
            f"DMA length bits: found {found.dma.length_bits}; expected at least "
            f"{wanted.dma.length_bits} for transfers of {overlay.manifest.max_transfer_bytes} bytes"
        )
    if not _same_clock(overlay.manifest.clock_hz, found.clock_hz):
        yield (
            f"clock: found {found.clock_hz / 1e6:g} MHz; "
            f"expected {overlay.manifest.clock_hz / 1e6:g} MHz"
        )


def _differing_registers(found: HandOff, wanted: HandOff) -> Iterator[str]:
    if not found.registers:
        return
    have = {register.name: register for register in found.registers}
    for register in wanted.registers:
        if register.name not in have:
            yield f"register {register.name}: found none; expected one at {register.offset:#x}"
        elif _layout(have[register.name]) != _layout(register):
            yield (
                f"register {register.name}: found {_layout(have[register.name])}; "
                f"expected {_layout(register)}"
            )


def _layout(register: Register) -> str:
    """What a driver depends on; descriptions and reset values may differ."""
    fields = ", ".join(
        f"{field.name}[{field.lsb}+:{field.width}]"
        for field in sorted(register.fields, key=lambda field: field.lsb)
    )
    return f"{register.offset:#x} {register.access} {{{fields}}}"


def _same_clock(a_hz: float, b_hz: float) -> bool:
    return abs(a_hz - b_hz) <= CLOCK_TOLERANCE * a_hz
