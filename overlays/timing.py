"""Was an overlay's bitstream shown to meet timing, at the clock it is run at?

A design that misses timing may compute right today and wrong at another temperature, so whatever
is measured on it carries a mark.
"""

from __future__ import annotations

from bacmac.host.errors import OverlayError
from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.bundle import bundle_files
from bacmac.overlays.vivado_reports import TimingSummary, read_timing_summary

PL_CLOCK = "clk_pl_0"
"""What Vivado calls the clock of the port pl_clk0 (made by the processing system's IP)."""


def overlay_marks(overlay: Overlay) -> tuple[str, ...]:
    """What every result of this overlay has to carry; empty when nothing is known against it.

    From the timing summary beside the manifest, else from the manifest's `slack_ns`. A summary
    that cannot be read is a mark too: it was put there to be relied on.
    """
    path = bundle_files(overlay).timing
    if not path.is_file():
        slack_ns = overlay.manifest.resources.get("slack_ns", 0.0)
        return (f"timing not met: worst slack {slack_ns:g} ns (manifest)",) if slack_ns < 0 else ()
    try:
        timing = read_timing_summary(path)
    except OverlayError as error:
        return (f"timing not known: {error}",)
    return timing_problems(timing, overlay.manifest.clock_hz)


def timing_problems(timing: TimingSummary, clock_hz: float) -> tuple[str, ...]:
    """Why this summary does not show that the design meets timing at `clock_hz`; empty if it does.

    Each is a phrase that begins with "timing".
    """
    source = "Vivado timing summary"
    problems = []
    worst_ns = timing.worst_slack_ns
    if worst_ns is None or timing.wns_ns is None:
        problems.append(f"timing not known: no path is constrained ({source})")
    elif worst_ns < 0:
        problems.append(f"timing not met: worst slack {worst_ns:.3f} ns ({source})")
    elif not timing.met:
        problems.append(f"timing not met: Vivado says so, without a negative slack ({source})")
    period_ns = timing.period_ns(PL_CLOCK)
    # a period is printed to a picosecond, and comes from a 33.333 MHz crystal: 1e-3 covers both
    if period_ns is not None and period_ns > 1e9 / clock_hz * (1 + 1e-3):
        problems.append(
            f"timing analysed for {1e3 / period_ns:.4g} MHz, run at {clock_hz / 1e6:g} ({source})"
        )
    if timing.unclocked:
        problems.append(
            f"timing not known of {timing.unclocked} registers without a clock ({source})"
        )
    return tuple(problems)
