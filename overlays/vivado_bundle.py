"""Make an overlay's bundle of what a Vivado build left: files, sha256, and a filled manifest.

The bundle lies in the folder above Vivado's: `NAME.toml` with `[resources]` as measured, the files
that `bacmac.overlays.bundle` names beside it, the register map under `regmaps/`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bacmac.host.errors import OutputError, OverlayError
from bacmac.host.files import write_text
from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.bundle import bundle_files, sha256_lines
from bacmac.overlays.manifest_text import manifest_text
from bacmac.overlays.registry import load_overlay
from bacmac.overlays.strict_toml import read_text
from bacmac.overlays.vivado_inputs import RESULTS, inputs_sha256, register_map_file
from bacmac.overlays.vivado_reports import read_timing_summary, read_utilization
from bacmac.overlays.vivado_run import FINISHED, vivado_command

VIVADO_FOLDER = "vivado"
"""Of a build folder: what Vivado is given, and where it works."""


@dataclass(frozen=True)
class Bundle:
    """A built overlay.

    Attributes:
        overlay: as loaded from the bundle.
        vivado: release that built it, as "2024.2".
        board_part: whose preset the processing system has, as "xilinx.com:zcu104:part0:1.1";
            "none" where the board files were not installed.
    """

    overlay: Overlay
    vivado: str
    board_part: str


def collect_bundle(folder: Path) -> Bundle:
    """Make the bundle in `folder` of what Vivado left in `folder`/vivado/out.

    An earlier bundle there is replaced: its manifest goes first and the new one comes last, so
    that at no time a manifest stands beside files of another build.

    Raises:
        OverlayError: Vivado has not finished there, has built something else than what lies
            there now, or a report cannot be read.
        OutputError: the bundle cannot be written.
    """
    given = _given(folder / VIVADO_FOLDER)
    results = folder / VIVADO_FOLDER / RESULTS
    built = _finished(folder, results)
    left = bundle_files(replace(given, folder=results))
    timing, used = read_timing_summary(left.timing), read_utilization(left.utilization)
    resources = {**used.resources}
    if timing.wns_ns is not None:
        resources["slack_ns"] = timing.wns_ns
    release = f"Vivado {built['vivado']}"
    manifest = replace(
        given.manifest,
        resources=resources,
        resources_source=f"measured: {release}, report_utilization and report_timing_summary after "
        "routing, whole design with DMA and interconnect",
    )
    comment = f"Written by `bacmac overlay build`: built by {release}, preset {built['board_part']}"
    text = manifest_text(manifest, given.registers.name, comment)
    with _staged(folder) as stage:
        here = bundle_files(replace(given, folder=stage))
        for source, target in (
            (left.bitstream, here.bitstream),
            (left.bitstream.with_suffix(".hwh"), here.hwh),
            (left.timing, here.timing),
            (left.utilization, here.utilization),
        ):
            _copy(source, target)
        map_file = register_map_file(given)
        (stage / "regmaps").mkdir()
        _copy(map_file, stage / "regmaps" / map_file.name)
        write_text(stage / f"{manifest.name}.toml", text)
        # also refuses, before anything is replaced, what could not be loaded afterwards
        staged = load_overlay(stage / f"{manifest.name}.toml")
        files = (p for p in sorted(stage.rglob("*")) if p.is_file())
        write_text(bundle_files(staged).sha256, sha256_lines(files, stage))
        _put(stage, folder, f"{manifest.name}.toml")
    loaded = load_overlay(folder / f"{manifest.name}.toml")
    return Bundle(loaded, built["vivado"], built["board_part"])


def _given(vivado: Path) -> Overlay:
    found = sorted(vivado.glob("*.toml"))
    if len(found) != 1:
        raise OverlayError(
            vivado,
            "folder",
            found=f"{len(found)} manifests",
            expected="one, as `bacmac overlay build` leaves it",
        )
    return load_overlay(found[0])


def _finished(folder: Path, results: Path) -> dict[str, str]:
    """What the script says of its run."""
    if not (results / FINISHED).is_file():
        raise OverlayError(
            results,
            "results of Vivado",
            found="none" if not results.is_dir() else f"no {FINISHED}, which is written last",
            expected="those of a finished build",
            hint=f"in {folder / VIVADO_FOLDER} run {' '.join(vivado_command())}",
        )
    words = [line.partition(" ") for line in read_text(results / FINISHED).splitlines()]
    built = {key: value.strip() for key, _, value in words}
    for key in ("inputs_sha256", "vivado", "board_part"):
        if not built.get(key, "").isprintable() or not built.get(key):
            raise OverlayError(results / FINISHED, key, found="nothing", expected="a word")
    if built["inputs_sha256"] != inputs_sha256(folder / VIVADO_FOLDER):
        raise OverlayError(
            results / FINISHED,
            "inputs_sha256",
            found=f"{built['inputs_sha256'][:12]}...",
            expected="that of the sources and settings which lie there now",
            hint="they were changed after Vivado ran: run it again",
        )
    return built


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder inside `folder`, on the same file system, that is gone afterwards."""
    try:
        stage = Path(tempfile.mkdtemp(prefix=".bundle.", suffix=".part", dir=folder))
    except OSError as error:
        raise OutputError(folder, error.strerror or str(error)) from error
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
        with target.open("rb+") as handle:
            os.fsync(handle.fileno())
    except FileNotFoundError as error:
        raise OverlayError(
            source, "file", found="none", expected="what the build leaves"
        ) from error
    except OSError as error:
        raise OutputError(target, error.strerror or str(error)) from error


def _put(stage: Path, folder: Path, manifest: str) -> None:
    try:
        (folder / manifest).unlink(missing_ok=True)
        (folder / "regmaps").mkdir(exist_ok=True)
        files = [path for path in stage.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: path.name == manifest):
            path.replace(folder / path.relative_to(stage))
    except OSError as error:
        raise OutputError(folder, error.strerror or str(error)) from error
