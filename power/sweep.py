"""What a sweep says: its points side by side, what each costs, and which are worth having.

Energy is an ESTIMATE of the products alone: the array's counts of a point times the costs of
`coefficients.toml`, the model that the emulated rails use. Memories, clocks and static power are
not in it, and nothing is measured.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any, Literal

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError
from bacmac.host.pack.compress import CompressOptions
from bacmac.host.runtime.pareto import SIGNIFICANCE, Difference, Standing, difference, standings
from bacmac.host.runtime.score import ArrayWork, Score, Size
from bacmac.host.runtime.sweep_point import Option, PointSpec, SweepPoint
from bacmac.power.coefficients import Coefficients

SCHEMA = "bacmac.sweep"
SCHEMA_VERSION = 1

ROUND = (1.0, 5.0, 2.0, 3.0, 7.0, 8.0, 9.0)
FINE = tuple(tenths / 10 for tenths in range(10, 100))
"""Mantissas of errors that an axis names, and those that it names where the others are too few."""

CostName = Literal["bits", "products", "energy"]
COSTS: dict[CostName, str] = {
    "bits": "bits stored per weight",
    "products": "products with a weight that is not zero",
    "energy": "estimated energy of the products",
}
"""What accuracy is traded for, and what it is called."""


@dataclass(frozen=True)
class Row:
    """One compressed network of a sweep.

    Attributes:
        number: from 1, in the order of the sweep.
        key: of the point; the packed model, where it is kept, is named by its first 16 digits.
        options: how it was compressed.
        score, size, array: what the point says.
        loss: its accuracy less that of the model as it is, on the same images.
        product_j: estimated energy of one image's products, in J; None where no array executes
            the weights or its product has no coefficient.
        standings: where it stands, by cost; without "energy" where that is None.
    """

    number: int
    key: str
    options: Mapping[str, Option]
    score: Score
    size: Size
    array: ArrayWork | None
    loss: Difference
    product_j: float | None
    standings: Mapping[CostName, Standing]

    def cost(self, name: CostName) -> float | None:
        """A cost by its name: bits a weight, products of an image, J."""
        if name == "bits":
            return self.size.stored_bits
        return float(self.size.n_products) if name == "products" else self.product_j


@dataclass(frozen=True)
class Sweep:
    """A finished sweep.

    Attributes:
        spec: of its first point: model, images and normalization are the same for all.
        model: name of the network.
        reference: score of the model as it is.
        rows: the compressed networks.
        refused: options of those that could not be made, and why.
        coefficients: of the estimate of energy.
    """

    spec: PointSpec
    model: str
    reference: Score
    rows: tuple[Row, ...]
    refused: tuple[tuple[Mapping[str, Option], str], ...]
    coefficients: Coefficients

    @property
    def varied(self) -> tuple[str, ...]:
        """Options that differ between points, in the order of `CompressOptions`."""
        every = [row.options for row in self.rows] + [options for options, _ in self.refused]
        names = [field.name for field in fields(CompressOptions)]
        return tuple(
            name for name in names if len({repr(option_of(each, name)) for each in every}) > 1
        )

    @property
    def common(self) -> dict[str, Option]:
        """Options that were said and are the same for all points."""
        every = [row.options for row in self.rows] + [options for options, _ in self.refused]
        first = every[0] if every else {}
        return {name: value for name, value in first.items() if name not in self.varied}

    def best(self, name: CostName) -> Row | None:
        """The cheapest row whose loss of accuracy is not certain; None where there is none."""
        able = [
            (cost, row)
            for row in self.rows
            if (cost := row.cost(name)) is not None
            and not (row.loss.mean < 0 and row.loss.is_certain)
        ]
        return min(able, key=lambda pair: (pair[0], -pair[1].score.n_correct), default=(0, None))[1]


def option_of(options: Mapping[str, Option], name: str) -> Option:
    """The value of an option, its default where nothing was said.

    The scheme is "mixed" where a budget chose one for each layer, and "own" where the file's own
    integers were kept.
    """
    if name == "scheme" and options.get("budget"):
        return f"mixed {SCHEMES[str(options.get(name, CompressOptions.scheme))].kind}"
    if name in options:
        return options[name]
    if name == "scheme" and options.get("imported") in ("keep", "recognize"):
        return "own"
    value: Option = getattr(CompressOptions, name, None)
    return value


def option_text(value: Option) -> str:
    """An option's value as a person writes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe(options: Mapping[str, Option]) -> str:
    """Options as a person says them: pot-4, sparsity 0.3."""
    words = []
    for name in options:
        value = option_text(option_of(options, name))
        words.append(value if name == "scheme" else f"{name.replace('_', ' ')} {value}")
    return ", ".join(words)


def analyse(
    specs: Sequence[PointSpec],
    points: Sequence[SweepPoint],
    model: str,
    coefficients: Coefficients,
) -> Sweep:
    """Put the points of a sweep side by side.

    Args:
        specs: what was asked.
        points: what became of it, in the same order; one of them is the model as it is.
        model: name of the network.
        coefficients: of the estimate of energy.
    """
    reference = next(p.score for p in points if p.options is None and p.score is not None)
    made = [
        (point, point.options, point.score, point.size)
        for point in points
        if point.options is not None and point.score is not None and point.size is not None
    ]
    flags = [score.flags for _, _, score, _ in made]
    energies = [product_energy_j(point.array, coefficients) for point, *_ in made]
    by_cost: dict[CostName, list[Standing | None]] = {
        "bits": [*standings([size.stored_bits for *_, size in made], flags)],
        "products": [*standings([size.n_products for *_, size in made], flags)],
        "energy": _partial_standings(energies, flags),
    }
    rows = [
        Row(
            number=index + 1,
            key=point.key,
            options=options,
            score=score,
            size=size,
            array=point.array,
            loss=difference(flags[index], reference.flags),
            product_j=energies[index],
            standings={
                name: standing
                for name, found in by_cost.items()
                if (standing := found[index]) is not None
            },
        )
        for index, (point, options, score, size) in enumerate(made)
    ]
    refused = tuple((p.options, p.refused) for p in points if p.options is not None and p.refused)
    return Sweep(specs[0], model, reference, tuple(rows), refused, coefficients)


def product_energy_j(array: ArrayWork | None, coefficients: Coefficients) -> float | None:
    """Estimated energy of one image's products, in J: those done, and the slots of zero weights.

    A group that is skipped takes no cycle and costs nothing.
    """
    if array is None or array.scheme not in coefficients.products:
        return None
    done_j, isolated_j = coefficients.product_j(array.scheme)
    return array.work.products_done * done_j + array.work.products_isolated * isolated_j


def sweep_json(sweep: Sweep) -> dict[str, Any]:
    """Plain types, finite numbers, units in the names; versioned by `schema_version`."""
    spec = sweep.spec.to_json()
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "model": {
            "name": sweep.model,
            "file": spec["model"],
            "sha256": spec["model_sha256"],
        },
        "calibration": spec["calibration"],
        "test": spec["test"],
        "normalization": spec["normalization"],
        "release": spec["release"],
        "options": sweep.common,
        "reference": _score(sweep.reference),
        "points": [_row(row) for row in sweep.rows],
        "best": {name: row.number if (row := sweep.best(name)) else None for name in COSTS},
        "refused": [{"options": dict(o), "because": why} for o, why in sweep.refused],
        "significance": SIGNIFICANCE,
        "energy_model": {
            "estimate": True,
            "of": "products of one image on the array; no memory, clock or static power",
            "toggle_unit_pj": asdict(sweep.coefficients.values["toggle_unit_pj"]),
            "products": [asdict(cost) for cost in sweep.coefficients.products.values()],
        },
    }


def sweep_text(sweep: Sweep) -> str:
    """The JSON as text; the same sweep gives the same text."""
    return json.dumps(sweep_json(sweep), indent=1, allow_nan=False) + "\n"


def sweep_csv(sweep: Sweep) -> str:
    """One line a point, for a spreadsheet; empty where there is nothing to tell."""
    named = [name for name in (f.name for f in fields(CompressOptions)) if _said(sweep, name)]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    rows = [_flat(_row(row), named) for row in sweep.rows]
    if rows:
        writer.writerow(rows[0])
        writer.writerows([row.values() for row in rows])
    return buffer.getvalue()


def error_ticks(low: float, high: float, most: int) -> list[float]:
    """Errors between two that a logarithmic axis names, round ones first.

    Args:
        low: above 0.
        high: above that.
        most: how many have room.
    """
    apart = math.log(high / low) / most
    ticks: list[float] = []
    for mantissas in (ROUND, FINE):
        for mantissa, decade in product(mantissas, range(1, 8)):
            error = mantissa * 10.0**-decade
            if low <= error <= high and all(abs(math.log(error / t)) >= apart for t in ticks):
                ticks.append(error)
        if len(ticks) > 2:
            break
    return ticks


def require_rows(sweep: Sweep) -> None:
    """Refuse a sweep of which nothing could be made.

    Raises:
        InputError: naming the first reason.
    """
    if not sweep.rows:
        why = sweep.refused[0][1] if sweep.refused else "no point was asked for"
        raise InputError("sweep", "points", found=f"none; {why}", expected="one or more")


def _said(sweep: Sweep, name: str) -> bool:
    return any(name in row.options for row in sweep.rows)


def _score(score: Score) -> dict[str, Any]:
    return {
        "accuracy": score.accuracy,
        "standard_error": score.standard_error,
        "n_correct": score.n_correct,
        "n_images": score.n_images,
    }


def _row(row: Row) -> dict[str, Any]:
    size, array = row.size, row.array
    work = None
    if array is not None:
        work = {
            "overlay": array.overlay,
            "scheme": array.scheme,
            "cycles": array.work.cycles,
            "skipped_share": array.skipped,
            "products_done": array.work.products_done,
            "products_isolated": array.work.products_isolated,
            "products_skipped": array.work.products_skipped,
        }
    return {
        "number": row.number,
        "key": row.key,
        "options": dict(row.options),
        **_score(row.score),
        "difference_to_model": row.loss.mean,
        "difference_standard_error": row.loss.standard_error,
        "difference_p": row.loss.p,
        "weights": size.n_weights,
        "zeros": size.n_zeros,
        "zero_share": size.sparsity,
        "code_bits_per_weight": size.code_bits,
        "stored_bits_per_weight": size.stored_bits,
        "weight_bytes": size.weight_bytes,
        "bytes_by_format": dict(size.bytes_by_format),
        "file_bytes": size.file_bytes,
        "macs": size.n_macs,
        "products": size.n_products,
        "products_share": size.density,
        "array": work,
        "estimated_product_j": row.product_j,
        "standing": {name: asdict(found) for name, found in row.standings.items()},
    }


def _flat(row: Mapping[str, Any], options: Sequence[str]) -> dict[str, Any]:
    flat: dict[str, Any] = {"number": row["number"]}
    flat |= {name: option_of(row["options"], name) for name in options}
    flat |= {name: value for name, value in row.items() if not isinstance(value, dict)}
    work = row["array"] or {}
    flat |= {name: work.get(name, "") for name in ("overlay", "cycles", "skipped_share")}
    for name in COSTS:
        flat[f"{name}_standing"] = row["standing"].get(name, {}).get("place", "")
    flat.pop("array", None)
    return flat


def _partial_standings(
    costs: Sequence[float | None], flags: Sequence[Any]
) -> list[Standing | None]:
    """Standings among the points that have the cost."""
    known = [index for index, cost in enumerate(costs) if cost is not None]
    found = standings([cost for cost in costs if cost is not None], [flags[i] for i in known])
    result: list[Standing | None] = [None] * len(costs)
    for index, standing in zip(known, found, strict=True):
        result[index] = standing
    return result
