"""What `bacmac inspect` shows of a model file: its layers, its own integers, its levels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bacmac.cli.histogram import bar_rows, on_the_grid
from bacmac.cli.inspect_packed import BESIDE_BAR, MOST_ROWS
from bacmac.cli.output import console, note, print_json, print_table, say
from bacmac.host.errors import InputError
from bacmac.host.files import write_text
from bacmac.host.importers.registry import load_model
from bacmac.host.model.layers import INPUT, Conv, Grid, Layer, Model
from bacmac.host.quantize.recognize import LayerRecognition, recognize_layer
from bacmac.power.model_report import Fact, Histogram, ModelPage, model_html


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
        ["layer", "weights", "output", "integers", "codes", "scale", "zero"],
        [_row(model, one) for one in model.layers],
        numbers=(1, 2, 3, 5, 6),
        prose=(0,),
        title="integers: how many different ones; codes, scale, zero: of the output",
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
    grid = model.grids.get(INPUT)
    if grid is None:
        return ", float32"
    return f", {codes_text(grid)}, scale {grid.scale:.4g}, zero {grid.zero:g}"


def _row(model: Model, layer: Layer) -> tuple[str, ...]:
    """Cells of a layer: its weights or what it is, and what the file says is stored."""
    weights = op_word(model, layer)
    if isinstance(layer, Conv) and not layer.structural:
        weights = "x".join(map(str, layer.weight.shape))
    grid = model.grids.get(layer.name)
    stored = ("float", "", "")
    if grid is not None:
        stored = (codes_text(grid), f"{grid.scale:.4g}", f"{grid.zero:g}")
    shape = "x".join(map(str, model.shapes[layer.name]))
    return layer.name, weights, shape, kept_text(layer), *stored


def op_word(model: Model, layer: Layer) -> str:
    """What a layer is."""
    if not isinstance(layer, Conv):
        return f"{layer.kind} pool"
    if layer.structural:
        return "structural"
    return "dense" if layer.weight.shape[2:] == model.shapes[layer.input][1:] else "conv"


def codes_text(grid: Grid) -> str:
    """The codes of a grid in a word: uint8, int4, -1 to 1."""
    bits = (grid.high - grid.low + 1).bit_length() - 1
    if (grid.low, grid.high) == (0, (1 << bits) - 1):
        return f"uint{bits}"
    if bits and (grid.low, grid.high) == (-(1 << bits - 1), (1 << bits - 1) - 1):
        return f"int{bits}"
    return f"{grid.low} to {grid.high}"


def kept_text(layer: Layer) -> str:
    """How many different integers a layer's weights are, and how far they go: 149, ±127."""
    if not isinstance(layer, Conv) or layer.structural:
        return ""
    if layer.kept is None:
        return "float"
    levels = np.unique(layer.kept.levels)
    low, high = int(levels[0]), int(levels[-1])
    reach = f"±{high}" if low == -high else f"{low}..{high}"
    return f"{len(levels)}, {reach}"


def _print_recognition(known: dict[str, LayerRecognition]) -> None:
    """On which levels the weights lie; only layers that lie on any."""
    found = [one for one in known.values() if one.family != "none"]
    if not found:
        say("Levels: the weights lie on none that are known; pack quantizes them.")
        return
    columns: dict[str, list[object]] = {
        "layer": [one.layer for one in found],
        "levels": [one.scheme for one in found],
        "channels": [kinds_text(one) for one in found],
        "off grid": [len(one.off_grid) or "" for one in found],
        "127 = 128": [one.stands_for_128 or "" for one in found],
        "dead": [len(one.dead) or "" for one in found],
        "2^k scales": [one.power_of_two_scales or "" for one in found],
    }
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    heads = list(columns)
    print_table(
        heads,
        list(zip(*columns.values(), strict=True)),
        numbers=[place for place, head in enumerate(heads) if head not in heads[:3]],
        prose=(0, 2),
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


def kinds_text(found: LayerRecognition) -> str:
    """How many channels are what; kinds that differ in a number alone are told together."""
    told: dict[tuple[str, str], list[str]] = {}
    for kind, count in found.kinds.items():
        number = re.search(r"\d+", kind)
        if kind in ("off grid", "dead"):  # they have columns of their own
            continue
        if number is None or found.family == "uniform":
            told[("all" if kind == found.scheme else kind, "")] = [f": {count}"]
            continue
        before, after = kind[: number.start()], kind[number.end() :]
        after = re.sub(r"exponent\b", "exponents", after)
        told.setdefault((before, after), []).append(f"{number[0]}: {count}")
    return "; ".join(
        f"{before}{', '.join(counts)}{after}" for (before, after), counts in told.items()
    )


def level_grid(layer: Conv, found: LayerRecognition) -> tuple[str, list[tuple[int, int]]] | None:
    """What the levels are, and (level, weights) of each; None for a layer in floats."""
    kept = found.kept or layer.kept
    if kept is None:
        return None
    levels, counts = np.unique(kept.levels, return_counts=True)
    if found.kept is not None:
        return found.scheme, on_the_grid(found.scheme, levels.tolist(), counts.tolist())
    known = dict(zip(levels.tolist(), counts.tolist(), strict=True))
    span = range(int(levels[0]), int(levels[-1]) + 1)
    return "integers of the file", [(level, known.get(level, 0)) for level in span]


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
    entry: dict[str, object] = {
        "name": layer.name,
        "op": op_word(model, layer),
        "input": layer.input,
        "output_shape": list(model.shapes[layer.name]),
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


def _levels_text(found: LayerRecognition | None) -> str:
    """Scheme and channels of a layer, and what else is to be known of its levels."""
    if found is None or found.family == "none":
        return ""
    dead = (f"{len(found.dead)} dead channels",) if found.dead else ()
    return "; ".join((f"{found.scheme}: {kinds_text(found)}", *dead, *found.sentences()[1:]))


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
        rows.append((*_row(model, layer), _levels_text(found)))
    return ModelPage(
        title=f"Model file: {model.name}",
        facts=(*_facts(model, file), *(Fact("note", text) for text in model.notes)),
        trade_off=(),
        heads=("layer", "weights", "output", "integers", "codes", "scale", "zero", "levels"),
        rows=tuple(rows),
        histograms=tuple(histograms),
        products=(),
    )
