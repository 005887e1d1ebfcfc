"""May this overlay be trusted? Its texts against each other, and its files against its texts.

Nothing here touches a device. What only a running board can tell (the BUILD and ABI registers,
the clock as set) the driver checks when it loads the overlay.
"""

from __future__ import annotations

from collections.abc import Iterator

from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.check_bundle import check_bundle
from bacmac.overlays.check_hand_off import same_clock
from bacmac.overlays.findings import Finding
from bacmac.overlays.hwh import DMA_SIZE_BYTES, hand_off

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


def check_overlay(overlay: Overlay, *, accept_timing: bool = False) -> tuple[Finding, ...]:
    """Check an overlay's texts, and what a build left beside its manifest.

    Reads files and never raises for what is in them: everything found is a finding.

    Args:
        overlay: as it was loaded.
        accept_timing: timing that was not shown to be met is a warning, not an error.
    """
    found = (
        *_check_registers(overlay),
        *_check_addresses(overlay),
        *_check_clock(overlay),
        *_check_part(overlay),
        *check_bundle(overlay, accept_timing=accept_timing),
    )
    return tuple(Finding(f.level, f.subject, _printable(f.text)) for f in found)


def _printable(text: str) -> str:
    """Words of files that come from anywhere drive no terminal, and stay in one line."""
    return "".join(character if character.isprintable() else "?" for character in text)


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
    if same_clock(wanted, reached):
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
