"""What Vivado is given to build an overlay: one folder that needs nothing from outside.

    build.tcl        the flow, the same for every overlay (hw_src/vivado/build.tcl)
    settings.tcl     what manifest and register map say of this one
    rtl/             the sources
    NAME.toml, regmaps/MAP.toml   the two texts, for `collect_bundle`

No file in it holds a path, so it can be copied to the machine that has Vivado.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from bacmac.host.device.rtl.parameters import SOURCE_FOLDER, rtl_parameters
from bacmac.host.errors import DeviceError, OutputError, OverlayError
from bacmac.host.files import write_bytes, write_text
from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.hwh import DMA_SIZE_BYTES, IOPLL_HZ, clock_dividers
from bacmac.overlays.manifest_text import manifest_text
from bacmac.overlays.rtl_registers import rtl_localparams

SCRIPT = "build.tcl"
SETTINGS = "settings.tcl"
RESULTS = "out"
"""Where the script leaves what it built."""

MAX_INPUTS = 32
"""Of a lane of the RTL (docs/decisions/0006-fit.md)."""


def write_inputs(overlay: Overlay, folder: Path, jobs: int = 0) -> None:
    """Write all that Vivado needs into `folder`, and remove results of an earlier build from it.

    Args:
        overlay: what is built.
        folder: made where it does not exist.
        jobs: threads that Vivado may use; 0 leaves it at its own default.

    Raises:
        OverlayError: the RTL cannot be built as the manifest says.
        OutputError: the folder cannot be written.
    """
    check_buildable(overlay)
    manifest = overlay.manifest
    try:
        for inner in (RESULTS, "rtl", "regmaps"):
            shutil.rmtree(folder / inner, ignore_errors=True)
        for old in folder.glob("*.toml"):
            old.unlink()
        (folder / "rtl").mkdir(parents=True)
        (folder / "regmaps").mkdir()
    except OSError as error:
        raise OutputError(folder, error.strerror or str(error)) from error
    write_bytes(folder / SCRIPT, (SOURCE_FOLDER / "vivado" / SCRIPT).read_bytes())
    for source in sorted((SOURCE_FOLDER / "rtl").glob("*.*v*")):
        write_bytes(folder / "rtl" / source.name, source.read_bytes())
    map_file = register_map_file(overlay)
    write_bytes(folder / "regmaps" / map_file.name, map_file.read_bytes())
    comment = "What is built here; written by `bacmac overlay build`."
    text = manifest_text(manifest, overlay.registers.name, comment)
    write_text(folder / f"{manifest.name}.toml", text)
    body = settings(overlay)
    write_text(folder / SETTINGS, body)  # the hash is of what stands before the line that tells it
    write_text(
        folder / SETTINGS,
        f"{body}set design(jobs) {jobs}\nset design(inputs_sha256) {inputs_sha256(folder)}\n",
    )


def inputs_sha256(folder: Path) -> str:
    """Of all that `write_inputs` wrote and that decides what is built."""
    digest = hashlib.sha256()
    inputs = [folder / SCRIPT, *folder.glob("*.toml")]
    inputs += [*(folder / "rtl").iterdir(), *(folder / "regmaps").iterdir()]
    for path in sorted(inputs):
        data = path.read_bytes()
        digest.update(f"{path.name} {len(data)}\0".encode() + data)
    body = (folder / SETTINGS).read_text(encoding="ascii").partition("set design(jobs)")[0]
    return hashlib.sha256(digest.digest() + body.encode()).hexdigest()


def register_map_file(overlay: Overlay) -> Path:
    """The text that the overlay's register map was read from: its own, or the shipped one."""
    name = f"{overlay.registers.name}.toml"
    own = overlay.folder / "regmaps" / name
    return own if own.is_file() else Path(str(files("bacmac.overlays") / "regmaps" / name))


def check_buildable(overlay: Overlay) -> None:
    """Refuse what the RTL's parameters, or the clock of the board, do not allow.

    Raises:
        OverlayError: naming the manifest's key.
    """
    manifest, geometry = overlay.manifest, overlay.manifest.geometry
    file = overlay.folder / f"{manifest.name}.toml"
    try:
        rtl_parameters(manifest)
    except DeviceError as error:
        raise OverlayError(
            file,
            "scheme",
            found=manifest.scheme,
            expected="one with a product term",
            hint=f"{error}",
        ) from error
    first, second = clock_dividers(manifest.clock_hz)
    reached_hz = IOPLL_HZ / (first * second)
    clock = manifest.clock_hz
    for field, fits, found, expected in (
        (
            "clock_hz",
            abs(reached_hz - clock) <= 1e-3 * clock,
            f"{clock:g}",
            f"1.5e9 over a whole number, as pl_clk0 has it: {reached_hz:g} is the nearest below",
        ),
        (
            "inputs",
            _is_power_of_two(geometry.inputs) and geometry.inputs <= MAX_INPUTS,
            f"{geometry.inputs}",
            f"a power of two to {MAX_INPUTS}",
        ),
        (
            "outputs",
            _is_power_of_two(geometry.outputs) and 8 <= geometry.outputs <= geometry.inputs,
            f"{geometry.outputs}",
            f"a power of two from 8 to inputs, {geometry.inputs}",
        ),
        (
            "beat_bytes",
            manifest.beat_bytes == geometry.inputs,
            f"{manifest.beat_bytes}",
            f"inputs, {geometry.inputs}: a beat is a word of the array",
        ),
        (
            "activation_bytes",
            manifest.buffers.activation_bytes <= 1 << 20,
            f"{manifest.buffers.activation_bytes}",
            f"at most {1 << 20}",
        ),
        (
            "max_descriptors",
            2 <= manifest.buffers.max_descriptors <= 256,
            f"{manifest.buffers.max_descriptors}",
            "2 to 256",
        ),
        (
            "register_map",
            _registers_of_rtl() == rtl_localparams(overlay.registers).partition("\n")[2],
            overlay.registers.name,
            "the registers that the RTL has (hw_src/rtl/bacmac_registers.svh)",
        ),
    ):
        if not fits:
            raise OverlayError(file, field, found=found, expected=expected)


def settings(overlay: Overlay) -> str:
    """What `build.tcl` is told of an overlay: Tcl in ASCII, without the last two lines."""
    manifest = overlay.manifest
    first, second = clock_dividers(manifest.clock_hz)
    design = {
        "name": manifest.name,
        "base": Path(manifest.files.bitstream).stem,
        "board": manifest.board,
        "part": manifest.part,
        "abi": str(manifest.abi),
        "build_id": f"0x{manifest.build_id:08X}",
        "clock_mhz": repr(IOPLL_HZ / (first * second) / 1e6),
        "divisor0": str(first),
        "divisor1": str(second),
        "beat_bytes": str(manifest.beat_bytes),
        "length_bits": str(manifest.max_transfer_bytes.bit_length()),
        "accelerator_base": f"0x{manifest.accelerator_base:08X}",
        "accelerator_bytes": str(overlay.registers.size_bytes),
        "dma_base": f"0x{manifest.dma_base:08X}",
        "dma_bytes": str(DMA_SIZE_BYTES),
    }
    parameters = {name: str(value) for name, value in rtl_parameters(manifest).items()}
    parameters["BUILD_ID"] = design["build_id"]
    lines = [
        "# Written by `bacmac overlay build` from a manifest and its register map.",
        "array set design {",
        *(f"    {key} {tcl_word(value)}" for key, value in design.items()),
        "}",
        "# of bacmac.v",
        "set parameters {",
        *(f"    {key} {value}" for key, value in parameters.items()),
        "}",
        "# name, byte offset, access, description, fields: name, lowest bit, bits, description",
        "set registers {",
        *_register_lines(overlay),
        "}",
        "",
    ]
    return "\n".join(lines)


def tcl_word(text: str) -> str:
    r"""One word of a Tcl list that stands for `text`, in ASCII.

    >>> tcl_word("two words"), tcl_word("a{b")
    ('{two words}', 'a\\{b')
    """
    if re.fullmatch(r"[\w.,:+/-]+", text, re.ASCII):
        return text
    if re.fullmatch(r"[ -~]*", text) and not re.search(r"[{}\\]", text):
        return f"{{{text}}}"
    # Tcl 8 knows no character above U+FFFF
    return "".join(
        char
        if char.isascii() and char.isalnum()
        else f"\\{char}"
        if " " <= char <= "~"
        else f"\\u{min(ord(char), 0xFFFD):04x}"
        for char in text
    )


def _register_lines(overlay: Overlay) -> Iterator[str]:
    for register in overlay.registers.registers:
        head = f"{register.name} 0x{register.offset:02X} {register.access}"
        yield f"    {{{head} {tcl_word(register.description)} {{"
        for field in register.fields:
            what = tcl_word(field.description)
            yield f"        {{{field.name} {field.lsb} {field.width} {what}}}"
        yield "    }}"


def _registers_of_rtl() -> str:
    text = (SOURCE_FOLDER / "rtl" / "bacmac_registers.svh").read_text(encoding="utf-8")
    return text.partition("\n")[2]


def _is_power_of_two(value: int) -> bool:
    return value & (value - 1) == 0
