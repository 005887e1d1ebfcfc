"""The table of layers that `pack` and `inspect` print."""

from __future__ import annotations

from collections.abc import Sequence

from bacmac.cli.output import print_table
from bacmac.host.pack.file import PackedModel
from bacmac.host.pack.summary import LayerSummary

MANY_EMPTY = 0.05
"""Share of tiles or channels from which the table has a column for them."""


def layer_json(layer: LayerSummary, n_bytes: int) -> dict[str, object]:
    """A layer's summary as plain JSON types."""
    return {
        "name": layer.name,
        "op": layer.op,
        "scheme": layer.scheme,
        "weight_shape": list(layer.weight_shape),
        "output_shape": list(layer.output_shape),
        "weights": layer.n_weights,
        "zeros": layer.n_zeros,
        "sparsity": layer.sparsity,
        "levels_used": list(layer.levels_used),
        "level_counts": list(layer.level_counts),
        "relative_squared_error": layer.relative_squared_error,
        "bits_per_weight": layer.bits_per_weight,
        "bytes": n_bytes,
        "macs": layer.macs,
        "products": layer.n_products,
        "groups": layer.n_groups,
        "empty_groups": layer.n_empty_groups,
        "tiles": layer.n_tiles,
        "empty_tiles": layer.n_empty_tiles,
        "channels": layer.n_channels,
        "empty_channels": layer.n_empty_channels,
    }


def layer_bytes(packed: PackedModel, layer: LayerSummary) -> int:
    """Bytes of a layer's packed codes; of all layers, for the total."""
    if layer.name in packed.layer_bytes:
        return packed.layer_bytes[layer.name]
    return sum(packed.layer_bytes.values())


def layer_cells(layer: LayerSummary) -> tuple[str, ...]:
    """What a layer is, as tables have it: name, op, weights, output, scheme and zeros."""
    return (
        layer.name,
        layer.op,
        "x".join(map(str, layer.weight_shape))
        or (f"{layer.n_weights:,}" if layer.n_weights else ""),
        "x".join(map(str, layer.output_shape)),
        layer.scheme,
        f"{layer.sparsity:.1%}" if layer.n_weights else "",
    )


def print_layers(packed: PackedModel, layers: Sequence[LayerSummary]) -> None:
    """What each layer is and takes, one row a layer, the total last."""
    print_table(
        ["layer", "op", "weights", "output", "scheme", "zeros", "bytes", "MACs"],
        [
            (
                *layer_cells(layer),
                f"{layer_bytes(packed, layer):,}",
                f"{layer.macs:,}" if layer.macs else "",
            )
            for layer in layers
        ],
        numbers=(2, 3, 5, 6, 7),
        prose=(0, 1),
    )


def print_quality(layers: Sequence[LayerSummary]) -> None:
    """What quantization and pruning made of each layer, the total last."""
    weighted = [layer for layer in layers if layer.n_weights]
    heads = ["layer", "scheme", "weights", "levels", "zeros", "error", "bits"]
    rows: list[tuple[str | int, ...]] = [
        (
            layer.name,
            layer.scheme,
            f"{layer.n_weights:,}",
            len(layer.levels_used),
            f"{layer.sparsity:.1%}",
            f"{layer.relative_squared_error:.2g}",
            f"{layer.bits_per_weight:.3g}",
        )
        for layer in weighted
    ]
    for head, empty in (
        ("groups", [(layer.n_empty_groups, layer.n_groups) for layer in weighted]),
        ("tiles", [(layer.n_empty_tiles, layer.n_tiles) for layer in weighted]),
        ("channels", [(layer.n_empty_channels, layer.n_channels) for layer in weighted]),
    ):
        # tiles and channels become empty by themselves too: a column is for those made so
        n_empty, n = empty[-1]
        if n and (head == "groups" or n_empty >= MANY_EMPTY * n):
            heads.append(head)
            rows = [
                (*row, f"{n_empty / n:.0%}" if n else "")
                for row, (n_empty, n) in zip(rows, empty, strict=True)
            ]
    print_table(
        heads,
        rows,
        numbers=range(2, len(heads)),
        prose=(0,),
        title="levels: used; error: squared, relative to the float weights, which compensation "
        "moves on purpose; groups, tiles, channels: share that is empty",
    )
