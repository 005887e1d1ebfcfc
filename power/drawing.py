"""How figures look, on a page and on paper, and how they become SVG and PDF.

On a page text stays text and takes its colour from the page, so that figures read in light and in
dark. On paper everything is black on white with its letters embedded. The same figure gives the
same bytes every time: ids are salted, and no date is written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

IDLE, GUARD, RUN = "#8a94a3", "#c9a227", "#3f9b5f"
RATIO_LIMIT = 50.0
"""Ratios beyond it, or below its inverse, are drawn at it."""
_RATIO_TICKS = (
    *(0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 1.0),
    *(1.002, 1.005, 1.01, 1.02, 1.05, 1.1, 1.2, 1.4, 1.7, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0),
)


@dataclass(frozen=True)
class Theme:
    """Colours of what is no data, and how letters are kept.

    Attributes:
        ink: of letters and of lines that matter.
        faint: of axes.
        card: of the ground behind, for hollow marks.
        svg_letters: "none" keeps text, "path" draws it.
    """

    ink: str
    faint: str
    card: str
    svg_letters: str

    @property
    def style(self) -> Any:
        """For `matplotlib.rc_context`."""
        return {
            "svg.hashsalt": "bacmac",
            "svg.fonttype": self.svg_letters,
            "pdf.fonttype": 42,  # TrueType: many journals refuse Type 3
            "font.family": "sans-serif",
            "font.size": 11,
            "axes.titlesize": 11.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 11,
            "xtick.labelsize": 10.5,
            "ytick.labelsize": 10.5,
            "legend.fontsize": 10.5,
            "legend.frameon": False,
            "text.color": self.ink,
            "axes.labelcolor": self.ink,
            "axes.edgecolor": self.faint,
            "xtick.color": self.ink,
            "ytick.color": self.ink,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.facecolor": "none",
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "lines.linewidth": 1.6,
        }


PAGE = Theme("#010203", "#040506", "#070809", "none")
"""Stand-ins, replaced by the page's own colours."""
PAPER = Theme("#000000", "#606060", "#ffffff", "path")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in units of the page: about 360 wide makes 4.2."""
    return Figure(figsize=(width * 1.2, height * 1.25), layout="constrained")


def legend_in_a_line(axes: Axes, columns: int = 2) -> None:
    """A legend in one line at the top, with room made for it."""
    axes.legend(
        loc="upper left",
        ncols=columns,
        bbox_to_anchor=(-0.02, 1.0),
        columnspacing=1,
        borderpad=0.1,
        handletextpad=0.3,
    )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.16 * (high - low))


def ratio_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of ratios that shows 1."""
    axes.set_xscale("log")
    pad = max((high / low) ** 0.06, 1.0005)
    low, high = low / pad, high * pad
    axes.set_xlim(low, high)
    ticks = _spread([t for t in _RATIO_TICKS if low <= t <= high], low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _spread(ticks: Sequence[float], low: float, high: float) -> list[float]:
    """Ticks at least a ninth of the axis apart, 1 always among them."""
    apart = np.log(high / low) / 9
    kept = [1.0]
    for tick in sorted(ticks, key=lambda t: abs(np.log(t))):
        if all(abs(np.log(tick / other)) >= apart for other in kept):
            kept.append(tick)
    return sorted(kept)


def page_svg(figure: Figure, name: str, label: str) -> str:
    """Inline SVG for a page, drawn in PAGE: no metadata, ids of its own, the page's colours."""
    text = _svg(figure)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    # ids are unique within a figure only
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt" ', "", text, count=1)
    text = re.sub(r'\bd="[^"]*"', _rounded, text)  # paths alone: numbers in letters stay whole
    label = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    text = text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    text = re.sub(r"font: ((?:bold )?)([\d.]+)px [^;\"]*", r"font: \g<1>\g<2>px system-ui", text)
    for stand_in, colour in ((PAGE.ink, "ink"), (PAGE.faint, "faint"), (PAGE.card, "card")):
        text = text.replace(stand_in, f"var(--{colour})")
    return text.strip()


def _rounded(path: re.Match[str]) -> str:
    """A path to a hundredth of a point, finer than any screen."""
    return re.sub(r"(\.\d\d)\d+", r"\1", path[0])


def paper_svg(figure: Figure) -> bytes:
    """An SVG file, drawn in PAPER."""
    return _svg(figure).encode()


def paper_pdf(figure: Figure) -> bytes:
    """A PDF file, drawn in PAPER, letters embedded as TrueType."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
    return buffer.getvalue()


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
