"""A built overlay's files against its manifest, and against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from bacmac.host.errors import OverlayError
from bacmac.host.manifest.overlay import Manifest, Overlay
from bacmac.overlays.bitfile import BitHeader, read_bit_header
from bacmac.overlays.bundle import BundleFiles, bundle_files, changed_files, read_sha256
from bacmac.overlays.check_hand_off import check_design
from bacmac.overlays.findings import Finding, Level
from bacmac.overlays.hwh_reader import Design, load_hwh
from bacmac.overlays.timing import timing_problems
from bacmac.overlays.vivado_reports import (
    ReportHeader,
    TimingSummary,
    Utilization,
    read_timing_summary,
    read_utilization,
    same_part,
)

_Read = TypeVar("_Read")

_PRINTED_NS = 0.0005
"""Half of the last digit of a slack: Vivado prints picoseconds."""


def check_bundle(overlay: Overlay, *, accept_timing: bool = False) -> tuple[Finding, ...]:
    """What lies beside the manifest: bitstream, hand-off, reports, digests.

    Args:
        overlay: its folder is looked into.
        accept_timing: timing that was not shown to be met is a warning, not an error.
    """
    files = bundle_files(overlay)
    found: list[Finding] = []
    bit = _read(read_bit_header, files.bitstream, "bitstream", found)
    design = _read(load_hwh, files.hwh, "hand-off", found)
    timing = _read(read_timing_summary, files.timing, "timing", found)
    utilization = _read(read_utilization, files.utilization, "utilisation", found)
    found += _presence(files, design)
    if bit is not None:
        found += _bitstream(overlay.manifest, files, bit)
    if design is not None:
        found += _hand_off(overlay, files, design)
    if bit is not None and design is not None and not design.is_for_emulation:
        found += _one_build(bit, design)
    built = files.bitstream.is_file()
    level: Level = "warning" if accept_timing else "error"
    if timing is not None:
        found += _header(overlay.manifest, timing.header, "timing")
        found += _timing(overlay.manifest, timing, level)
    elif not files.timing.is_file():
        found += _timing_unknown(overlay.manifest, files, built, level)
    if utilization is not None:
        found += _header(overlay.manifest, utilization.header, "utilisation")
        found += _utilization(overlay.manifest, utilization)
    elif not files.utilization.is_file():
        found += _utilization_unknown(overlay.manifest, files, built)
    found += _digests(files, built)
    return tuple(found)


def _read(
    reader: Callable[[Path], _Read], path: Path, subject: str, found: list[Finding]
) -> _Read | None:
    """What a file says; None, and an error found, where it cannot be read; None where it is not."""
    if not path.is_file():
        return None
    try:
        return reader(path)
    except OverlayError as error:
        found.append(Finding("error", subject, str(error)))
        return None


def _presence(files: BundleFiles, design: Design | None) -> Iterator[Finding]:
    bit, hwh = files.bitstream, files.hwh
    if bit.stem != hwh.stem:
        yield Finding(
            "error",
            "files",
            f"{bit.name} and {hwh.name}: PYNQ looks for the hand-off by the bitstream's name",
        )
    if not bit.is_file():
        yield Finding(
            "note",
            "bitstream",
            "no bitstream: this overlay runs emulated only; `bacmac overlay build` makes one, "
            "by Vivado (see hw_src/README.md)",
        )
        if design is not None and not design.is_for_emulation:
            yield Finding(
                "error", "files", f"{hwh.name} without {bit.name}: PYNQ needs both, of one build"
            )
    elif not hwh.is_file():
        yield Finding(
            "error", "files", f"{bit.name} without {hwh.name}: PYNQ needs both, of one build"
        )
    elif design is not None and design.is_for_emulation:
        yield Finding(
            "error",
            "files",
            f"{hwh.name} is made for emulation, it is not that of {bit.name}: "
            "take the one that Vivado wrote with the bitstream",
        )


def _bitstream(manifest: Manifest, files: BundleFiles, bit: BitHeader) -> Iterator[Finding]:
    name, wrong = files.bitstream.name, False
    if bit.part.lower() != manifest.part:
        wrong = True
        yield Finding(
            "error",
            "bitstream",
            f"{name} is for {bit.part[:40]}, the manifest says {manifest.part}",
        )
    for option, what in (
        ("PARTIAL", "is partial, for a part of the device that runs another design"),
        ("ENCRYPT", "is encrypted: only a device that holds its key takes it"),
    ):
        if bit.options.get(option, "NO").upper() in ("TRUE", "YES"):
            wrong = True
            yield Finding("error", "bitstream", f"{name} {what}")
    if bit.user_id is None:
        yield Finding(
            "note", "bitstream", f"{name} records no build id (BITSTREAM.CONFIG.USERID, UG908)"
        )
    elif bit.user_id != manifest.build_id:
        wrong = True
        yield Finding(
            "error",
            "bitstream",
            f"{name} is build {bit.user_id:#010x}, the manifest says {manifest.build_id:#010x}",
        )
    if not wrong:
        build = "" if bit.user_id is None else f", build {bit.user_id:#010x}"
        yield Finding(
            "ok", "bitstream", f"{name}: {bit.design[:60]}, {bit.part}, built {bit.built}{build}"
        )


def _hand_off(overlay: Overlay, files: BundleFiles, design: Design) -> Iterator[Finding]:
    differing = check_design(overlay, design)
    yield from differing
    if all(finding.level in ("ok", "note") for finding in differing):
        made = "made for emulation" if design.is_for_emulation else f"Vivado {design.release[:20]}"
        yield Finding(
            "ok", "hand-off", f"{files.hwh.name} ({made}) agrees with manifest and register map"
        )


def _one_build(bit: BitHeader, design: Design) -> Iterator[Finding]:
    """Do the bitstream and the hand-off come from one run of Vivado, as far as they say?"""
    release, other = bit.options.get("VERSION", ""), design.release
    # an update, as 2022.1.2, may be named in full in one of the two only
    if release and other and release.split(".")[:2] != other.split(".")[:2]:
        yield Finding(
            "error",
            "files",
            f"the bitstream is of Vivado {release[:20]}, the hand-off of {other[:20]}: "
            "they are of two builds",
        )
    if design.name and not bit.design.startswith(design.name):
        yield Finding(
            "warning",
            "files",
            f"the bitstream is of {bit.design[:60]!r}, the hand-off of the block design "
            f"{design.name[:60]!r}: they may be of two builds",
        )


def _header(manifest: Manifest, header: ReportHeader, subject: str) -> Iterator[Finding]:
    if not same_part(header.part, manifest.part):
        yield Finding(
            "error",
            subject,
            f"the report is of a {header.part[:40] or 'part not named'}, "
            f"the manifest says {manifest.part}",
        )


def _timing(manifest: Manifest, timing: TimingSummary, level: Level) -> Iterator[Finding]:
    problems = timing_problems(timing, manifest.clock_hz)
    for problem in problems:
        yield Finding(level, "timing", problem)
    state = timing.header.state
    if state and "rout" not in state.lower():
        yield Finding(
            "warning", "timing", f"the report is of a design that is {state[:40]}, not routed"
        )
    said_ns, found_ns = manifest.resources.get("slack_ns"), timing.wns_ns
    if said_ns is not None and found_ns is not None and abs(said_ns - found_ns) > _PRINTED_NS:
        yield Finding(
            "error",
            "timing",
            f"slack_ns: the manifest says {said_ns:g}, the report {found_ns:g}",
        )
    if not problems:
        yield Finding(
            "ok",
            "timing",
            f"met: setup {_ns(timing.wns_ns)}, hold {_ns(timing.whs_ns)}, "
            f"pulse width {_ns(timing.wpws_ns)} ({timing.header.tool[:30]})",
        )


def _timing_unknown(
    manifest: Manifest, files: BundleFiles, built: bool, level: Level
) -> Iterator[Finding]:
    slack_ns = manifest.resources.get("slack_ns")
    if slack_ns is not None and slack_ns < 0:
        yield Finding(level, "timing", f"not met: the manifest says slack_ns = {slack_ns:g}")
    elif built:
        yield Finding(
            "warning",
            "timing",
            f"no {files.timing.name} beside the bitstream: not known whether timing was met",
        )


def _utilization(manifest: Manifest, report: Utilization) -> Iterator[Finding]:
    """The report's numbers; those of a manifest that says they are measured have to be the same."""
    subject, tool = "utilisation", report.header.tool[:30]
    shown = ", ".join(f"{name} {value:g}" for name, value in report.resources.items())
    over = [
        f"{name} {value:g} of {report.available[name]:g}"
        for name, value in report.resources.items()
        if value > report.available.get(name, value)
    ]
    differing = [
        f"{name}: the manifest says {manifest.resources[name]:g}, the report {value:g}"
        for name, value in report.resources.items()
        if name in manifest.resources and manifest.resources[name] != value
    ]
    measured = manifest.resources_source.startswith("measured:")
    if over:
        yield Finding("error", subject, f"more than the part has: {', '.join(over)}")
    if not report.is_placed:
        state = report.header.state[:40] or "in no state that the report names"
        yield Finding("warning", subject, f"the report is of a design that is {state}, not placed")
    if differing and measured:
        yield Finding("error", subject, "; ".join(differing))
    elif not measured:
        yield Finding(
            "warning",
            subject,
            f"{shown} ({tool}); the manifest's [resources] are still an estimate: "
            "put these numbers there, with source = 'measured: ...'",
        )
    else:
        yield Finding("ok", subject, f"{shown} ({tool})")


def _utilization_unknown(manifest: Manifest, files: BundleFiles, built: bool) -> Iterator[Finding]:
    name = files.utilization.name
    if manifest.resources_source.startswith("measured:"):
        yield Finding(
            "warning", "utilisation", f"no {name}: nothing shows what the manifest calls measured"
        )
    elif built:
        yield Finding("warning", "utilisation", f"no {name} beside the bitstream")


def _digests(files: BundleFiles, built: bool) -> Iterator[Finding]:
    path = files.sha256
    if not path.is_file():
        if built:
            yield Finding("note", "sha256", f"no {path.name}: a changed file would not be noticed")
        return
    try:
        listed, problems = read_sha256(path), changed_files(path)
    except OverlayError as error:
        yield Finding("error", "sha256", str(error))
        return
    left_out = [
        file.name
        for file in (files.bitstream, files.hwh, files.timing, files.utilization)
        if file.is_file() and file not in listed
    ]
    for problem in problems:
        yield Finding("error", "sha256", problem)
    if left_out:
        yield Finding("warning", "sha256", f"{path.name} leaves out {', '.join(left_out)}")
    if not problems and not left_out:
        yield Finding("ok", "sha256", f"every file of {path.name} is as it was built")


def _ns(slack_ns: float | None) -> str:
    return "none" if slack_ns is None else f"{slack_ns:.3f} ns"
