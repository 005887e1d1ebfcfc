"""`bacmac doctor`: what is installed, what can be opened, what to do next."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import click

from bacmac.cli.output import json_option, print_json, print_table
from bacmac.host.device.clock import RealClock
from bacmac.host.device.pynq.registry import describe_board
from bacmac.host.device.registry import open_board
from bacmac.host.device.rtl.build import cache_folder, find_tools
from bacmac.host.errors import BacmacError
from bacmac.host.files import write_text
from bacmac.overlays.check import check_overlay
from bacmac.overlays.registry import list_overlays
from bacmac.power.ams import find_ams
from bacmac.power.hwmon import HwmonRails
from bacmac.power.sources import open_hwmon

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the examination; `next` says what to do, or is empty."""

    level: Level
    subject: str
    found: str
    next: str = ""


EXTRAS = (
    ("onnx", "onnx", "reading .onnx models"),
    ("report", "matplotlib", "HTML reports with plots"),
    ("report", "jinja2", "HTML reports with plots"),
    ("pynq", "pynq", "the board, or PYNQ on an emulated one"),
)
"""Extra, a package of it, and what it is for."""


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what is installed, what can be opened, and what to do next.

    Exit status 0 when the emulated board works; 1 when it does not.
    """
    findings = [
        *_software(),
        *_devices(),
        *_overlays(),
        *_rails(),
        _writable(),
    ]
    healthy = not any(finding.level == "problem" for finding in findings)
    if as_json:
        print_json({"healthy": healthy, "findings": [asdict(finding) for finding in findings]})
    else:
        print_table(
            ["", "what", "found", "next"],
            [(finding.level, finding.subject, finding.found, finding.next) for finding in findings],
            prose=(2, 3),
        )
    if not healthy:
        raise SystemExit(1)


def _software() -> list[Finding]:
    core = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("numpy", "click", "rich", "safetensors")
    )
    findings = [
        Finding("ok", "bacmac", metadata.version("bacmac")),
        Finding("ok", "Python", f"{platform.python_version()} on {platform.machine()}"),
        Finding("ok", "core", core),
    ]
    for extra, package, purpose in EXTRAS:
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            mend = f"for {purpose}: pip install 'bacmac[{extra}]'"
            findings.append(Finding("note", f"extra {extra}", f"{package} is not installed", mend))
        else:
            findings.append(Finding("ok", f"extra {extra}", f"{package} {version}"))
    return findings


def _devices() -> list[Finding]:
    findings = []
    for word in ("functional:", "reference:"):
        try:
            open_board(word).close()
        except BacmacError as error:
            findings.append(Finding("problem", f"device {word}", str(error)))
        else:
            findings.append(Finding("ok", f"device {word}", "opens (emulated)"))
    return [*findings, _rtl(), _board(), _pynq()]


def _rtl() -> Finding:
    """Whether what `rtl:` is built with is there; building would take a minute."""
    try:
        tools = find_tools()
    except BacmacError as error:
        return Finding("note", "device rtl:", str(error))
    found = f"builds with Verilator {tools.version}, {tools.compiler_version}"
    return Finding("ok", "device rtl:", f"{found}; keeps in {cache_folder()}")


def _board() -> Finding:
    try:
        return Finding("ok", "device pynq:", describe_board())
    except BacmacError as error:
        return Finding("note", "device pynq:", str(error))


def _pynq() -> Finding:
    try:
        open_board("pynq:emulated").close()
    except BacmacError as error:
        return Finding("note", "device pynq:emulated", str(error))
    return Finding("ok", "device pynq:emulated", f"opens; PYNQ {metadata.version('pynq')}")


def _overlays() -> list[Finding]:
    findings = []
    for overlay in list_overlays():
        checked = check_overlay(overlay)
        errors = [finding.text for finding in checked if finding.level == "error"]
        notes = [f.text for f in checked if f.level == "warning" or f.subject == "bitstream"]
        subject = f"overlay {overlay.manifest.name}"
        if errors:
            findings.append(Finding("problem", subject, errors[0], "bacmac overlay check"))
        elif notes:
            findings.append(Finding("note", subject, notes[0]))
        else:
            findings.append(Finding("ok", subject, "complete"))
    return findings


def _rails() -> list[Finding]:
    try:
        rails = open_hwmon("hwmon:", RealClock())
    except BacmacError as error:
        return [Finding("note", "power rails", str(error), "off the board: --rails emulated:")]
    names = ", ".join(rail.name for rail in rails.rails())
    findings = [
        Finding("ok", "power rails", f"{rails.board.name}: {names}", "bacmac power probe"),
        *(
            Finding("note", f"rail {name}", f"left out: {reason}")
            for name, reason in rails.excluded.items()
        ),
    ]
    return [*findings, _ams(rails)]


def _ams(rails: HwmonRails) -> Finding:
    subject = "system monitor"
    try:
        ams = find_ams(rails.root)
        if ams is None:
            return Finding("note", subject, "no AMS under IIO: die temperatures are not recorded")
        found = ", ".join(f"{name} {c:.1f} C" for name, c in ams.temperatures_c().items())
    except BacmacError as error:
        return Finding("note", subject, str(error))
    return Finding("ok", subject, found or "no temperature, voltages only")


def _writable() -> Finding:
    probe = Path(".bacmac-doctor")
    try:
        write_text(probe, "")
        probe.unlink()
    except (BacmacError, OSError) as error:
        return Finding("note", "this folder", str(error), "run where results can be written")
    return Finding("ok", "this folder", f"writable; Python at {sys.executable}")
