"""Overlays whose results carry a mark are used on purpose, or not at all."""

from __future__ import annotations

from bacmac.host.errors import OverlayError
from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.timing import overlay_marks


def accepted_marks(overlay: Overlay, *, accept_timing: bool) -> tuple[str, ...]:
    """The marks that every result of this overlay has to carry; mostly none.

    Raises:
        OverlayError: there are some and they were not accepted.
    """
    marks = overlay_marks(overlay)
    if marks and not accept_timing:
        raise OverlayError(
            overlay.manifest.name,
            "timing",
            found="; ".join(marks),
            expected="a design that is known to meet timing",
            hint="--accept-timing uses it all the same and marks every result",
        )
    return marks
