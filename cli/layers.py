"""The table of layers that `pack` and `inspect` print."""

from __future__ import annotations

from collections.abc import Sequence

from bacmac.cli.output import print_table
from bacmac.host.pack.compress import LayerSummary
from bacmac.host.pack.file import PackedModel


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
        "relative_squared_error": layer.relative_squared_error,
        "bits_per_weight": layer.bits_per_weight,
        "bytes": n_bytes,
        "macs": layer.macs,
    }


def layer_bytes(packed: PackedModel, layer: LayerSummary) -> int:
    """Bytes of a layer's packed codes; of all layers, for the total."""
    if layer.name in packed.layer_bytes:
        return packed.layer_bytes[layer.name]
    return sum(packed.layer_bytes.values())


def print_layers(packed: PackedModel, layers: Sequence[LayerSummary]) -> None:
    """One row a layer, the total last."""
    print_table(
        [
            "layer",
            "op",
            "weights",
            "output",
            "scheme",
            "levels",
            "zeros",
            "error",
            "bits/w",
            "bytes",
            "MACs",
        ],
        [
            (
                layer.name,
                layer.op,
                "x".join(map(str, layer.weight_shape)) or f"{layer.n_weights:,}"
                if layer.n_weights or layer.weight_shape
                else "",
                "x".join(map(str, layer.output_shape)),
                layer.scheme,
                len(layer.levels_used) if layer.n_weights else "",
                f"{100 * layer.sparsity:.1f} %" if layer.n_weights else "",
                f"{layer.relative_squared_error:.2e}" if layer.n_weights else "",
                f"{layer.bits_per_weight:.2f}" if layer.n_weights else "",
                f"{layer_bytes(packed, layer):,}",
                f"{layer.macs:,}" if layer.macs else "",
            )
            for layer in layers
        ],
        numbers=(2, 3, 5, 6, 7, 8, 9, 10),
    )
