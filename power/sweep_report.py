"""A sweep as one HTML file that opens without a network: figures are inline SVG, no script."""

from __future__ import annotations

from pathlib import Path

from bacmac.power.report import page_style, require_report
from bacmac.power.sweep import COSTS, CostName, Row, Sweep, describe, option_of, option_text
from bacmac.power.units import si_text

TEMPLATE = Path(__file__).with_name("sweep.html.j2")
ACCENT = "#0f8bb3"
MARKS = {"front": "●", "noise": "○", "behind": ""}
PLACES = {"front": "on the front", "noise": "behind it by no more than chance", "behind": ""}


def sweep_html(sweep: Sweep) -> str:
    """The page as text; the same sweep gives the same text.

    Raises:
        MissingExtraError: matplotlib or Jinja is not installed.
    """
    require_report()
    from jinja2 import Environment, StrictUndefined  # extra `report`
    from markupsafe import Markup

    from bacmac.power.sweep_figures import cost_figure

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

    def cell(row: Row, name: str) -> str:
        return option_text(option_of(row.options, name))

    def mark(row: Row, name: CostName) -> str:
        found = row.standings.get(name)
        if found is None or found.place == "behind":
            return ""
        return Markup('<abbr title="{}">{}</abbr>').format(
            PLACES[found.place] + (", for certain" if found.certain else ""), MARKS[found.place]
        )

    environment.filters["percent"] = lambda share: f"{100 * share:.2f}"
    environment.filters["joules"] = lambda value: si_text(value, "J")
    environment.filters["words"] = describe
    names: list[CostName] = [n for n in COSTS if any(r.cost(n) is not None for r in sweep.rows)]
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        s=sweep,
        rows=sorted(sweep.rows, key=lambda row: (row.size.stored_bits, row.size.n_products)),
        varied=sweep.varied or ("scheme",),
        cell=cell,
        mark=mark,
        best={name: sweep.best(name) for name in COSTS},
        costs=COSTS,
        figures={name: Markup(cost_figure(sweep, name)) for name in names},
        style=page_style(ACCENT),
    )
