"""What one model file holds, as one HTML file that opens without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bacmac.power.report import page_style, require_report

TEMPLATE = Path(__file__).with_name("model.html.j2")
ACCENT = "#0f8bb3"


@dataclass(frozen=True)
class Fact:
    """A name and what is to be said of it."""

    name: str
    value: str


@dataclass(frozen=True)
class Histogram:
    """How many weights of a layer are on each level.

    Attributes:
        layer: its name.
        scheme: of the levels.
        grid: (level, weights), levels ascending.
    """

    layer: str
    scheme: str
    grid: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ProductBar:
    """Products of a layer with a weight that is not zero, and all of them."""

    layer: str
    n_products: int
    n_macs: int


@dataclass(frozen=True)
class ModelPage:
    """What stands on the page.

    Attributes:
        title: above it.
        facts: of the file.
        trade_off: accuracy and what it costs; none for a file that is not packed.
        heads: of the table of layers.
        rows: its cells, as many each.
        histograms: of the layers that are on levels.
        products: of the layers with weights; none for a file that is not packed.
    """

    title: str
    facts: tuple[Fact, ...]
    trade_off: tuple[Fact, ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    histograms: tuple[Histogram, ...]
    products: tuple[ProductBar, ...]


def model_html(page: ModelPage) -> str:
    """The page as text; the same page gives the same text.

    Raises:
        MissingExtraError: matplotlib or Jinja is not installed.
    """
    require_report()
    from jinja2 import Environment, StrictUndefined  # extra `report`
    from markupsafe import Markup

    from bacmac.power.model_figures import histogram_figure, products_figure

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        page=page,
        histograms=[
            (one, Markup(histogram_figure(one, index))) for index, one in enumerate(page.histograms)
        ],
        products=Markup(products_figure(page.products)) if page.products else None,
        style=page_style(ACCENT),
    )
