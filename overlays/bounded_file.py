"""Read a file of an overlay, which may be anything: never more of it than it can need."""

from __future__ import annotations

from pathlib import Path

from bacmac.host.errors import OverlayError


def read_bounded(path: Path, max_bytes: int, expected: str) -> bytes:
    """A whole file.

    Args:
        path: the file.
        max_bytes: more than any good one has.
        expected: what it should be, for the error.

    Raises:
        OverlayError: it cannot be read, or is larger.
    """
    try:
        with path.open("rb") as handle:
            data = handle.read(max_bytes + 1)
    except OSError as error:
        raise OverlayError(
            path, "file", found=error.strerror or str(error), expected="a readable file"
        ) from error
    if len(data) > max_bytes:
        raise OverlayError(path, "file", found=f"more than {max_bytes} bytes", expected=expected)
    return data
