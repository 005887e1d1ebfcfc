"""Accuracy against a cost, drawn in characters.

The rows are logarithmic in the error, so that 99.1 and 99.4 % are as far apart as 91 and 94 %, and
a network that has lost everything still finds its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bacmac.power.sweep import error_ticks

MARKS = {"front": "●", "noise": "○", "behind": "·"}
"""By `Standing.place`; later ones do not cover earlier ones."""
LABEL = 6
"""Room for labels left of the cheapest dot."""


@dataclass(frozen=True)
class Dot:
    """A point: its cost, its error (1 - accuracy), its place, and a label."""

    cost: float
    error: float
    place: str
    label: str


def scatter(
    dots: Sequence[Dot],
    *,
    width: int,
    height: int,
    line: float,
    line_label: str,
    cost_text: Callable[[float], str],
    least_error: float,
) -> str:
    """The drawing, its axes included, as lines of at most `width` characters.

    Args:
        dots: one or more; those of the front are labelled.
        width: of the whole, in characters.
        height: likewise.
        line: an error that a line is drawn at.
        line_label: what it is.
        cost_text: a cost as the axis has it.
        least_error: errors below it are drawn at it; above 0.
    """
    errors = [max(error, least_error) for error in (*(dot.error for dot in dots), line)]
    low, high = min(errors) / 1.15, max(errors) * 1.15
    costs = [dot.cost for dot in dots]
    left, right = min(costs), max(costs)
    if left == right:
        left, right = 0.9 * left, 1.1 * right or 1.0
    margin = 9
    columns, rows = width - margin - LABEL, height - 2

    def row_of(error: float) -> int:
        share = math.log(max(error, least_error) / low) / math.log(high / low)
        return round(share * (rows - 1))

    def column_of(cost: float) -> int:
        return LABEL + round((cost - left) / (right - left) * (columns - 1))

    cells = [[" "] * (columns + LABEL) for _ in range(rows)]
    ruled = row_of(line)
    cells[ruled] = ["-"] * (columns + LABEL)
    order = list(MARKS)
    for dot in sorted(dots, key=lambda dot: -order.index(dot.place)):
        cells[row_of(dot.error)][column_of(dot.cost)] = MARKS[dot.place]
    labels: dict[tuple[int, int], list[str]] = {}
    for dot in dots:
        if dot.place == "front":
            labels.setdefault((row_of(dot.error), column_of(dot.cost)), []).append(dot.label)
    for (at_row, at_column), words in labels.items():
        _label(cells[at_row], at_column, words)
    _label_rule(cells, ruled, f" {line_label} ")
    ticks = _ticks(low, high, rows, row_of)
    lines = []
    for index, row in enumerate(cells):
        rule = "┤" if index in ticks else "│"
        lines.append(f"{ticks.get(index, ''):>{margin - 2}} {rule}{''.join(row)}".rstrip())
    return "\n".join([*lines, *_cost_axis(left, right, columns, margin, cost_text)])


def _label(row: list[str], end: int, words: list[str]) -> None:
    """Write the labels of a place left of it, or the first of them, where nothing else is.

    Nothing is both cheaper and more accurate than the front, so there mostly is room.
    """
    for label in (",".join(words), words[0] + ("…" if len(words) > 1 else "")):
        start = end - len(label)
        if start >= 0 and set(row[start:end]) <= {" ", "-"}:
            row[start:end] = label
            return


def _label_rule(cells: list[list[str]], ruled: int, text: str) -> None:
    """Write a line's label on it, or beside it, where that is free."""
    for index in (ruled, ruled - 1, ruled + 1):
        row = cells[index] if 0 <= index < len(cells) else []
        free = "".join(row).rfind(("-" if index == ruled else " ") * (len(text) + 2))
        if free >= 0:
            row[free + 1 : free + 1 + len(text)] = text
            return


def _ticks(low: float, high: float, rows: int, row_of: Callable[[float], int]) -> dict[int, str]:
    """Accuracies by row, two rows apart or more."""
    return {row_of(e): f"{100 * (1 - e):.6g} %" for e in error_ticks(low, high, rows // 2)}


def _cost_axis(
    left: float, right: float, columns: int, margin: int, cost_text: Callable[[float], str]
) -> list[str]:
    """The axis of the cost, five numbers below it."""
    axis, numbers = ["─"] * (columns + 6), [" "] * (columns + LABEL)
    for step in range(5):
        at = LABEL + round(step / 4 * (columns - 1))
        text = cost_text(left + step / 4 * (right - left))
        axis[at] = "┬"
        start = min(max(at - len(text) // 2, 0), len(numbers) - len(text))
        numbers[start : start + len(text)] = text
    return [" " * (margin - 1) + "└" + "".join(axis), " " * margin + "".join(numbers).rstrip()]
