"""How a sweep is printed: a table of its points, and two drawings of what is worth having."""

from __future__ import annotations

from typing import Literal

from bacmac.cli.output import console, print_table, say
from bacmac.cli.scatter import MARKS, Dot, scatter
from bacmac.host.runtime.pareto import Standing
from bacmac.power.sweep import COSTS, CostName, Row, Sweep, describe, option_of, option_text
from bacmac.power.units import si_text

WIDE = 100
"""Columns from which the table has room for everything."""
DRAWING = (78, 17)
"""Most columns, and rows, of a drawing."""


def print_sweep(sweep: Sweep) -> None:
    """Drawings, table, what could not be made, and the cheapest that lose nothing for certain."""
    reference = sweep.reference
    say(
        f"{sweep.model}: {len(sweep.rows)} networks on {reference.n_images:,} images; as it is, "
        f"not compressed: {_percent(reference.accuracy)} ± {_percent(reference.standard_error)} %."
    )
    for name in ("bits", "products"):
        _print_drawing(sweep, name)
    _print_table(sweep)
    say(
        f"{MARKS['front']} on the front of that cost and accuracy; {MARKS['noise']} behind it, but "
        "by no more than chance makes: two networks are compared by the images on which they "
        "differ (McNemar's exact test, 5 % each)."
    )
    if any(row.product_j is not None for row in sweep.rows):
        say(
            "products: multiplications or shifts by a weight that is not zero. energy: ESTIMATE of "
            "an image's products alone, from toggle counts of synthesized lanes and an assumed "
            "energy a toggle; nothing is measured."
        )
    for options, why in sweep.refused:
        say(f"Refused: {describe(options)}: {why}")
    _print_best(sweep)


def _print_table(sweep: Sweep) -> None:
    wide = console().width >= WIDE
    varied = sweep.varied or ("scheme",)
    heads = ["", *(_word(name) for name in varied), "accuracy, %"]
    heads += ["to float"] if wide else []
    heads += ["bits", "products"] + (["skipped"] if wide else []) + ["energy"]
    rows = [_cells(sweep, row, varied, wide=wide) for row in _sorted(sweep)]
    print_table(heads, rows, numbers=(0, *range(1 + len(varied), len(heads))))


def _sorted(sweep: Sweep) -> list[Row]:
    return sorted(sweep.rows, key=lambda row: (row.size.stored_bits, row.size.n_products))


def _cells(sweep: Sweep, row: Row, varied: tuple[str, ...], *, wide: bool) -> list[object]:
    score, loss = row.score, row.loss
    cells: list[object] = [
        row.number,
        *(option_text(option_of(row.options, name)) for name in varied),
    ]
    cells.append(f"{_percent(score.accuracy)} ± {_percent(score.standard_error)}")
    if wide:
        cells.append(f"{100 * loss.mean:+.2f} ± {_percent(loss.standard_error)}")
    cells.append(_marked(f"{row.size.stored_bits:.2f}", row.standings.get("bits")))
    cells.append(_marked(f"{row.size.density:.1%}", row.standings.get("products")))
    if wide:
        cells.append("" if row.array is None else f"{row.array.skipped:.1%}")
    energy = "" if row.product_j is None else si_text(row.product_j, "J")
    cells.append(_marked(energy, row.standings.get("energy")))
    return cells


def _marked(text: str, standing: Standing | None) -> str:
    place = "behind" if standing is None else standing.place
    return text if place == "behind" else f"{MARKS[place]} {text}"


def _print_drawing(sweep: Sweep, name: CostName) -> None:
    n_macs = sweep.rows[0].size.n_macs

    def cost_text(cost: float) -> str:
        return f"{cost:.2g}" if name == "bits" else f"{cost / n_macs:.1%}"

    dots = [
        Dot(cost, 1 - row.score.accuracy, row.standings[name].place, str(row.number))
        for row in sweep.rows
        if (cost := row.cost(name)) is not None
    ]
    reference = sweep.reference
    lines = scatter(
        dots,
        width=min(console().width, DRAWING[0]),
        height=DRAWING[1],
        line=1 - reference.accuracy,
        line_label=f"as it is: {_percent(reference.accuracy)} %",
        cost_text=cost_text,
        least_error=0.5 / reference.n_images,
    )
    say(f"\naccuracy against {COSTS[name]}\n{lines}\n")


def _print_best(sweep: Sweep) -> None:
    found: dict[int, list[str]] = {}
    told: tuple[tuple[Literal["bits", "products"], str], ...] = (
        ("bits", "fewest bits"),
        ("products", "fewest products"),
    )
    for name, fewest in told:
        row = sweep.best(name)
        if row is None:
            say("Every network loses accuracy for certain.")
            return
        found.setdefault(row.number, []).append(fewest)
    for number, words in found.items():
        row = next(row for row in sweep.rows if row.number == number)
        say(
            f"No certain loss, {' and '.join(words)}: {number} ({describe(row.options)}), "
            f"{_percent(row.score.accuracy)} %, {row.size.stored_bits:.2f} bits a weight, "
            f"{row.size.density:.1%} of the products."
        )


def _word(name: str) -> str:
    return name.replace("_", " ")


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
