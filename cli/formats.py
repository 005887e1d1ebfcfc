"""The table of storage formats that `pack` prints: bytes of each, and which was taken."""

from __future__ import annotations

from collections.abc import Mapping

from bacmac.cli.output import print_table
from bacmac.host.pack.formats import FormatChoice


def print_formats(choices: Mapping[str, FormatChoice]) -> None:
    """Bytes of every layer in every format, the one that was taken, and why; all layers last."""
    kinds = list(dict.fromkeys(_kind(name) for c in choices.values() for name in c.n_bytes))
    rows: list[tuple[object, ...]] = []
    for choice in choices.values():
        smallest = _by_kind(choice)
        rows.append(
            (
                choice.layer,
                *(f"{smallest[kind]:,}" if kind in smallest else "-" for kind in kinds),
                choice.why,
            )
        )
    taken = sum(choice.n_bytes[choice.name] for choice in choices.values())
    sums = [
        f"{sum(_by_kind(choice).get(kind, 0) for choice in choices.values()):,}"
        if all(kind in _by_kind(choice) for choice in choices.values())
        else "-"
        for kind in kinds
    ]
    rows.append(("all", *sums, f"{taken:,} bytes as stored"))
    print_table(
        ["layer", *kinds, "stored as"],
        rows,
        numbers=range(1, len(kinds) + 1),
        prose=(len(kinds) + 1,),
        title="bytes of each layer's weights by storage format",
    )


def formats_json(choices: Mapping[str, FormatChoice]) -> list[dict[str, object]]:
    """The same as plain JSON types."""
    return [
        {
            "layer": choice.layer,
            "format": choice.name,
            "bytes": dict(choice.n_bytes),
            "refused": dict(choice.refused),
            "why": choice.why,
        }
        for choice in choices.values()
    ]


def _kind(name: str) -> str:
    """A format without its parameters, so that layers share a column."""
    return name.partition("-")[0]


def _by_kind(choice: FormatChoice) -> dict[str, int]:
    """The fewest bytes of each kind."""
    smallest: dict[str, int] = {}
    for name, n_bytes in choice.n_bytes.items():
        smallest[_kind(name)] = min(n_bytes, smallest.get(_kind(name), n_bytes))
    return smallest
