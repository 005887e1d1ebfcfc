"""What `bacmac inspect` shows of a model file: its layers, its own integers, its levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bacmac.cli.histogram import bar_rows
from bacmac.cli.inspect_packed import BESIDE_BAR, MOST_ROWS
from bacmac.cli.output import console, note, print_json, print_table, say
from bacmac.host.errors import InputError
from bacmac.host.files import write_text
from bacmac.host.importers.registry import load_model
from bacmac.host.model.layers import INPUT, Conv, Grid, KeptWeights, Layer, Model
from bacmac.host.quantize.recognize import LayerRecognition, recognize_layer
from bacmac.power.model_report import Fact, Histogram, ModelPage, model_html

MOST_LEVELS = 1 << 16


def inspect_model(
    file: Path, layers: Path | None, *, layer: str | None, html: Path | None, as_json: bool
) -> None:
    """Print it, and write the page where one is wanted."""
    model = load_model(file, layers)
    weighted = [one for one in model.layers if isinstance(one, Conv) and not one.structural]
    shown = _layer(model, weighted, layer)
    known = {one.name: recognize_layer(one) for one in weighted}
    if html is not None:
        write_text(html, model_html(_page(model, file, known)))
        note(f"written: {html} (open it in a browser; it needs no network)")
    if as_json:
        print_json(_payload(model, file, known))
        return
    if shown is not None:
        _print_histogram(shown, known[shown.name])
        return
    print_table(
        ["field", "value"],
        [(fact.name, fact.value) for fact in _facts(model, file)],
        title=model.name,
        prose=(1,),
    )
    print_table(
        ["layer", "op", "weights", "output", "stored weights", "stored output"],
        [_row(model, one) for one in model.layers],
        numbers=(2, 3),
        prose=(4, 5),
    )
    _print_recognition(known)
    for text in model.notes:
        say(f"Note: {text}")
    note("Next: bacmac pack, to compress it; docs/models.md says what is read how")


def _layer(model: Model, weighted: Sequence[Conv], name: str | None) -> Conv | None:
    if name is None:
        return None
    for layer in weighted:
        if layer.name == name:
            return layer
    raise InputError(
        model.source or model.name,
        "--layer",
        found=repr(name),
        expected=f"a layer with weights: {', '.join(layer.name for layer in weighted)}",
    )


def _facts(model: Model, file: Path) -> list[Fact]:
    convs = [layer for layer in model.layers if isinstance(layer, Conv) and not layer.structural]
    n_weights = sum(layer.weight.size for layer in convs)
    n_kept = sum(layer.kept is not None for layer in convs)
    quantized = "no: a float network"
    if model.is_quantized:
        quantized = (
            f"integer weights in {n_kept} of {len(convs)} layers, "
            f"{len(model.grids)} of {len(model.shapes)} tensors on grids"
        )
    facts = [
        Fact("file", f"{file}, {file.stat().st_size:,} bytes"),
        Fact("sha256", model.source_sha256),
        Fact("input", "x".join(map(str, model.input_shape)) + _input_grid(model)),
        Fact("output", "x".join(map(str, model.output_shape))),
        Fact("layers", f"{len(model.layers)}, {len(convs)} with {n_weights:,} weights"),
        Fact("quantized", quantized),
    ]
    if (model.input_gain, model.input_shift) != (1.0, 0.0):
        scaling = f"the file itself: input x {model.input_gain:g} + {model.input_shift:g}"
        facts.append(Fact("scaled by", scaling))
    return facts


def _input_grid(model: Model) -> str:
    return f", {grid_text(model.grids[INPUT])}" if INPUT in model.grids else ", float32"


def _row(model: Model, layer: Layer) -> tuple[str, ...]:
    grid = model.grids.get(layer.name)
    output = "float32" if grid is None else grid_text(grid)
    shape = "x".join(map(str, model.shapes[layer.name]))
    if not isinstance(layer, Conv):
        return layer.name, f"{layer.kind} pool", "", shape, "", output
    word = "structural" if layer.structural else "conv"
    if not layer.structural and layer.weight.shape[2:] == model.shapes[layer.input][1:]:
        word = "dense"
    weights = "x".join(map(str, layer.weight.shape))
    stored = "" if layer.structural else kept_text(layer.kept)
    return layer.name, word, weights, shape, stored, output


def grid_text(grid: Grid) -> str:
    """A grid in words: uint8, scale 0.02, zero 3."""
    bits = (grid.high - grid.low + 1).bit_length() - 1
    if (grid.low, grid.high) == (0, (1 << bits) - 1):
        word = f"uint{bits}"
    elif (grid.low, grid.high) == (-(1 << bits - 1), (1 << bits - 1) - 1):
        word = f"int{bits}"
    else:
        word = f"{grid.low} to {grid.high}"
    zero = f", zero {grid.zero:g}" if grid.zero else ""
    return f"{word}, scale {grid.scale:.4g}{zero}"


def kept_text(kept: KeptWeights | None) -> str:
    """Integers of a layer in words: -127 to 127, 9 values, a scale a channel."""
    if kept is None:
        return "float32"
    scales = "one scale" if len(np.unique(kept.scale)) == 1 else "a scale a channel"
    levels = np.unique(kept.levels)
    return f"{levels[0]} to {levels[-1]}, {len(levels)} values, {scales}"


def _print_recognition(known: dict[str, LayerRecognition]) -> None:
    """On which levels the weights lie; only layers that lie on any."""
    found = [one for one in known.values() if one.family != "none"]
    if not found:
        say("Levels: the weights lie on none that are known; pack quantizes them.")
        return
    print_table(
        ["layer", "levels", "channels", "off grid", "127 = 128", "dead", "2^k scales"],
        [
            (
                one.layer,
                one.scheme,
                "; ".join(f"{kind}: {count}" for kind, count in one.kinds.items()),
                len(one.off_grid) or "",
                one.stands_for_128 or "",
                len(one.dead) or "",
                one.power_of_two_scales or "",
            )
            for one in found
        ],
        numbers=(3, 4, 5, 6),
        prose=(2,),
        title="levels, found from the values",
    )
    for one in found:
        for off in one.off_grid:
            values = ", ".join(f"{value:.6g}" for value in off.values)
            say(
                f"{one.layer}: channel {off.channel} is off grid: {off.n_weights} weights, "
                f"such as {values}."
            )
    if any(one.stands_for_128 for one in found):
        say(
            "127 = 128: channels in which +-127 stands for +-128; the scale is adjusted where they "
            "are recognized. 2^k scales: channels whose scale is a power of two, which says "
            "nothing of their levels."
        )
    plain = len(known) - len(found)
    if plain:
        say(f"{plain} other layers lie on no known levels.")


def level_grid(layer: Conv, found: LayerRecognition) -> tuple[str, list[tuple[int, int]]] | None:
    """What the levels are, and (level, weights) of each; None for a layer in floats."""
    kept, name = found.kept, found.scheme
    if kept is None:
        kept, name = layer.kept, "integers of the file"
    if kept is None:
        return None
    levels, counts = np.unique(kept.levels, return_counts=True)
    known = dict(zip(levels.tolist(), counts.tolist(), strict=True))
    span = range(int(levels[0]), int(levels[-1]) + 1)
    every = span if len(span) <= MOST_ROWS or found.family in ("uniform", "none") else levels
    return name, [(int(level), known.get(int(level), 0)) for level in every]


def _print_histogram(layer: Conv, found: LayerRecognition) -> None:
    grid = level_grid(layer, found)
    if grid is None:
        raise InputError(
            "inspect", "--layer", found=f"{layer.name!r}, in floats", expected="a layer on levels"
        )
    name, levels = grid
    width = max(console().width - BESIDE_BAR, 10)
    print_table(
        ["level", "weights", "share", ""],
        [
            (level, f"{count:,}", f"{share:.1%}", bar)
            for level, count, share, bar in bar_rows(levels, most=MOST_ROWS, width=width)
        ],
        numbers=(0, 1, 2),
        title=f"{layer.name}: {layer.weight.size:,} weights, {name}",
    )


def _payload(model: Model, file: Path, known: dict[str, LayerRecognition]) -> dict[str, object]:
    return {
        "file": str(file),
        "sha256": model.source_sha256,
        "name": model.name,
        "input_shape": list(model.input_shape),
        "output_shape": list(model.output_shape),
        "quantized": model.is_quantized,
        "input_gain": model.input_gain,
        "input_shift": model.input_shift,
        "grids": {name: asdict(grid) for name, grid in model.grids.items()},
        "notes": list(model.notes),
        "layers": [_layer_json(model, layer, known.get(layer.name)) for layer in model.layers],
    }


def _layer_json(model: Model, layer: Layer, found: LayerRecognition | None) -> dict[str, object]:
    name, word, _, _, _, _ = _row(model, layer)
    entry: dict[str, object] = {
        "name": name,
        "op": word,
        "input": layer.input,
        "output_shape": list(model.shapes[name]),
    }
    if not isinstance(layer, Conv):
        return entry
    entry |= {"weight_shape": list(layer.weight.shape), "kept": None, "recognized": None}
    if layer.kept is not None and not layer.structural:
        levels, counts = np.unique(layer.kept.levels, return_counts=True)
        entry["kept"] = {"levels_used": levels.tolist(), "level_counts": counts.tolist()}
    if found is not None:
        # the levels themselves stay out, as in every other list of layers
        fields = {name: getattr(found, name) for name in found.__dataclass_fields__}
        del fields["kept"], fields["layer"]
        fields["kinds"] = dict(found.kinds)
        fields["off_grid"] = [asdict(off) for off in found.off_grid]
        fields["dead"] = list(found.dead)
        entry["recognized"] = fields
    return entry


def _page(model: Model, file: Path, known: dict[str, LayerRecognition]) -> ModelPage:
    histograms = []
    for layer in model.layers:
        if isinstance(layer, Conv) and layer.name in known:
            grid = level_grid(layer, known[layer.name])
            if grid is not None:
                histograms.append(Histogram(layer.name, grid[0], tuple(grid[1])))
    rows = []
    for layer in model.layers:
        found = known.get(layer.name)
        rows.append((*_row(model, layer), " ".join(found.sentences()) if found else ""))
    return ModelPage(
        title=f"Model file: {model.name}",
        facts=(*_facts(model, file), *(Fact("note", text) for text in model.notes)),
        trade_off=(),
        heads=("layer", "op", "weights", "output", "stored weights", "stored output", "levels"),
        rows=tuple(rows),
        histograms=tuple(histograms),
        products=(),
    )
