"""What lies beside a manifest once the overlay is built, and whether it is what was built.

A build leaves five files, named after the bitstream: `BASE.bit`, `BASE.hwh`,
`BASE_timing_summary.rpt`, `BASE_utilization.rpt`, and `BASE.sha256`, which `sha256sum -c` checks
too: a line "digest, two spaces, name" for each of the others, the manifest and the register map.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bacmac.host.errors import OverlayError
from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.strict_toml import read_text


@dataclass(frozen=True)
class BundleFiles:
    """Where each file of a built overlay lies, there or not."""

    bitstream: Path
    hwh: Path
    timing: Path
    utilization: Path
    sha256: Path


def bundle_files(overlay: Overlay) -> BundleFiles:
    """The names of a built overlay's files, beside its manifest."""
    folder, files = overlay.folder, overlay.manifest.files
    base = Path(files.bitstream).stem
    return BundleFiles(
        bitstream=folder / files.bitstream,
        hwh=folder / files.hwh,
        timing=folder / f"{base}_timing_summary.rpt",
        utilization=folder / f"{base}_utilization.rpt",
        sha256=folder / f"{base}.sha256",
    )


def sha256_lines(paths: Iterable[Path], folder: Path) -> str:
    """The text of a sha256 file: a line for each of `paths`, named from `folder`.

    Raises:
        OverlayError: a file cannot be read.
    """
    return "".join(f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths)


def read_sha256(path: Path) -> dict[Path, str]:
    """Digest of each file that a sha256 file names; the names are from its folder.

    Raises:
        OverlayError: it cannot be read, or a line is not "digest  name".
    """
    digests: dict[Path, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *]([\w][\w./-]*)", line)
        if match is None or ".." in match.group(2):
            raise OverlayError(
                path,
                f"line {number}",
                found=repr(line[:60]),
                expected="64 hexadecimal digits, two spaces, a name in this folder",
            )
        digests[path.parent / match.group(2)] = match.group(1)
    return digests


def changed_files(path: Path) -> tuple[str, ...]:
    """Of the files that a sha256 file names, those that are not what they were, each a phrase.

    Raises:
        OverlayError: the sha256 file cannot be read.
    """
    problems = []
    for file, digest in read_sha256(path).items():
        try:
            found = _digest(file)
        except OverlayError as error:
            problems.append(f"{file.name}: {error.found}")
            continue
        if found != digest:
            problems.append(f"{file.name}: found sha256 {found[:12]}...; expected {digest[:12]}...")
    return tuple(problems)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise OverlayError(
            path, "file", found=error.strerror or str(error), expected="a readable file"
        ) from error
    return digest.hexdigest()
