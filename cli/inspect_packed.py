"""What `bacmac inspect` shows of a packed model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bacmac.cli.histogram import bar_rows, on_the_grid, sparkline
from bacmac.cli.layers import layer_bytes, layer_cells, layer_json, print_layers
from bacmac.cli.output import console, note, print_json, print_table, progress, say
from bacmac.host.compile.array_work import Array, choose_array
from bacmac.host.errors import InputError
from bacmac.host.files import write_text
from bacmac.host.model.layers import Normalization
from bacmac.host.pack.file import PackedModel, read_packed
from bacmac.host.pack.summary import LayerSummary, summarize
from bacmac.host.runtime.inputs import load_images_for
from bacmac.host.runtime.score import (
    ArrayWork,
    Score,
    Size,
    exact_score,
    packed_size,
    possible_bytes,
    work_on,
)
from bacmac.power.coefficients import load_coefficients
from bacmac.power.model_report import Fact, Histogram, ModelPage, ProductBar, model_html
from bacmac.power.sweep import product_energy_j
from bacmac.power.units import si_text

BESIDE = 42
"""Columns of the table of histograms, but for names and the histograms themselves."""
BESIDE_BAR = 34
HEADS = (
    *("layer", "op", "weights", "output", "scheme", "zeros", "format", "bytes", "products"),
    "empty",
)
"""Of the page's table."""
MOST_ROWS = 51
"""Levels or bins of a histogram that stands alone."""


@dataclass(frozen=True, eq=False)
class Findings:
    """What is to be told of a packed model.

    Attributes:
        found: the file.
        layers: a summary of each layer, then of all.
        score: None where no images were given.
        size, work: what it takes; no work where no array executes it.
        possible_bytes: of all weights, by storage format.
        energy_j: ESTIMATE of an image's products, where there is a coefficient.
    """

    found: PackedModel
    layers: Sequence[LayerSummary]
    score: Score | None
    size: Size
    possible_bytes: Mapping[str, int]
    work: ArrayWork | None
    energy_j: float | None


def inspect_packed(
    file: Path,
    *,
    layer: str | None,
    images: Path | None,
    limit: int | None,
    arrays: Sequence[Array],
    html: Path | None,
    as_json: bool,
) -> None:
    """Print it, and write the page where one is wanted."""
    found = read_packed(file)
    model = found.model
    array = choose_array(model, arrays)
    group = None
    if array is not None:
        group = (array.geometry.group_outputs, array.geometry.group_inputs)
    layers = summarize(model, group)
    shown = _layer(found, layers, layer)
    score = None
    if images is not None:
        with progress() as advance:
            score = exact_score(model, load_images_for(model, images, limit), advance)
    work = work_on(model, arrays)
    seen = Findings(
        found,
        layers,
        score,
        packed_size(found),
        possible_bytes(model),
        work,
        product_energy_j(work, load_coefficients()),
    )
    if html is not None:
        write_text(html, model_html(_page(seen)))
        note(f"written: {html} (open it in a browser; it needs no network)")
    if as_json:
        print_json(_payload(seen))
        return
    if shown is not None:
        _print_histogram(shown)
        return
    print_table(
        ["field", "value"],
        [(fact.name, fact.value) for fact in _facts(found)],
        title=model.name,
        prose=(1,),
    )
    print_layers(found, layers)
    _print_histograms(layers)
    print_table(
        ["trade-off", ""],
        [(fact.name, fact.value) for fact in _trade_off(seen)],
        prose=(1,),
    )
    if images is None:
        note("accuracy: give --images, an image set with labels")


def _layer(
    found: PackedModel, layers: Sequence[LayerSummary], name: str | None
) -> LayerSummary | None:
    if name is None:
        return None
    weighted = {layer.name: layer for layer in layers if layer.n_weights and layer.op}
    if name not in weighted:
        raise InputError(
            found.path,
            "--layer",
            found=repr(name),
            expected=f"a layer with weights: {', '.join(weighted)}",
        )
    return weighted[name]


def _facts(found: PackedModel) -> list[Fact]:
    model, stored = found.model, found.model.input_format
    return [
        Fact("file", f"{found.path}, {found.n_bytes:,} bytes"),
        Fact("sha256", found.sha256),
        Fact(
            "input",
            f"{'x'.join(map(str, model.input_shape))}, "
            f"{'int' if stored.signed else 'uint'}{stored.bits}, scale {stored.scale:.6g}",
        ),
        Fact("normalization", _normalization(model.normalization)),
        Fact("made from", str(model.provenance.get("source", "unknown"))),
    ]


def _trade_off(seen: Findings) -> list[Fact]:
    """Accuracy, and what it costs."""
    score, size, work = seen.score, seen.size, seen.work
    measured = "not measured"
    if score is not None:
        measured = (
            f"{100 * score.accuracy:.2f} ± {100 * score.standard_error:.2f} % "
            f"({score.n_correct:,} of {score.n_images:,} images, exact engine)"
        )
    formats = ", ".join(f"{name} {n:,}" for name, n in size.bytes_by_format.items())
    others = ", ".join(f"{name} {n:,}" for name, n in seen.possible_bytes.items())
    facts = [
        Fact("accuracy", measured),
        Fact(
            "bits a weight", f"{size.stored_bits:.2f} stored, {size.code_bits:.2f} as dense codes"
        ),
        Fact("bytes of weights", f"{formats}; possible: {others}"),
        Fact(
            "products an image",
            f"{size.n_products:,} with a weight that is not zero, {size.density:.1%} of "
            f"{size.n_macs:,}",
        ),
    ]
    if work is None:
        facts.append(Fact("array", "no overlay executes these weights"))
        return facts
    facts.append(
        Fact(
            "array",
            f"{work.overlay}: {work.work.cycles:,} cycles an image; empty groups, which it "
            f"skips, save {work.skipped:.1%}",
        )
    )
    if seen.energy_j is not None:
        facts.append(
            Fact(
                "energy of products",
                f"ESTIMATE {si_text(seen.energy_j, 'J')} an image: toggles of a synthesized "
                f"{work.scheme} lane at an assumed energy a toggle; nothing is measured",
            )
        )
    return facts


def _print_histograms(layers: Sequence[LayerSummary]) -> None:
    weighted = [layer for layer in layers if layer.n_weights and layer.op]
    width = max(len(layer.name) for layer in weighted)
    most = max(console().width - BESIDE - width, 15)
    print_table(
        ["layer", "products", "empty", "levels", "to", "weights on each level"],
        [
            (
                layer.name,
                f"{layer.n_products / layer.macs:.1%}",
                f"{layer.n_empty_groups / layer.n_groups:.0%}" if layer.n_groups else "",
                f"{len(layer.levels_used)} of {len(grid)}",
                f"±{grid[-1][0]}",
                sparkline(grid, most),
            )
            for layer in weighted
            for grid in [on_the_grid(layer.scheme, layer.levels_used, layer.level_counts)]
        ],
        numbers=(1, 2, 3, 4),
    )
    say(
        "products: share with a weight that is not zero; empty: groups that the array skips. "
        "Heights are to the fullest level that is not zero; · is a level without a weight."
    )


def _print_histogram(layer: LayerSummary) -> None:
    grid = on_the_grid(layer.scheme, layer.levels_used, layer.level_counts)
    rows = bar_rows(grid, most=MOST_ROWS, width=max(console().width - BESIDE_BAR, 10))
    print_table(
        ["level", "weights", "share", ""],
        [(name, f"{count:,}", f"{share:.1%}", bar) for name, count, share, bar in rows],
        numbers=(0, 1, 2),
        title=f"{layer.name}: {layer.n_weights:,} weights in {layer.scheme}, "
        f"{len(layer.levels_used)} of {len(grid)} levels used",
    )


def _payload(seen: Findings) -> dict[str, object]:
    found, model = seen.found, seen.found.model
    score, size, work = seen.score, seen.size, seen.work
    accuracy = None
    if score is not None:
        accuracy = {
            "accuracy": score.accuracy,
            "standard_error": score.standard_error,
            "n_correct": score.n_correct,
            "n_images": score.n_images,
        }
    return {
        "file": found.path,
        "sha256": found.sha256,
        "bytes": found.n_bytes,
        "name": model.name,
        "input_shape": list(model.input_shape),
        "input_format": asdict(model.input_format),
        "normalization": asdict(model.normalization),
        "layers": [
            {
                **layer_json(layer, layer_bytes(found, layer)),
                "format": found.layer_formats.get(layer.name, ""),
            }
            for layer in seen.layers
        ],
        "trade_off": {
            "measured": accuracy,
            **asdict(size),
            "stored_bits_per_weight": size.stored_bits,
            "products_share": size.density,
            "array": None if work is None else {**asdict(work), "skipped_share": work.skipped},
            "possible_bytes": dict(seen.possible_bytes),
            "estimated_product_j": seen.energy_j,
        },
        "provenance": dict(model.provenance),
    }


def _page(seen: Findings) -> ModelPage:
    found, layers = seen.found, seen.layers
    weighted = [layer for layer in layers if layer.n_weights and layer.op]
    return ModelPage(
        title=f"Packed model: {found.model.name}",
        facts=tuple(_facts(found)),
        trade_off=tuple(_trade_off(seen)),
        heads=HEADS,
        rows=tuple(
            (
                *layer_cells(layer),
                found.layer_formats.get(layer.name, ""),
                f"{layer_bytes(found, layer):,}",
                f"{layer.n_products:,}" if layer.n_weights else "",
                f"{layer.n_empty_groups / layer.n_groups:.1%}" if layer.n_groups else "",
            )
            for layer in layers
        ),
        histograms=tuple(
            Histogram(
                layer.name,
                layer.scheme,
                tuple(on_the_grid(layer.scheme, layer.levels_used, layer.level_counts)),
            )
            for layer in weighted
        ),
        products=tuple(ProductBar(layer.name, layer.n_products, layer.macs) for layer in weighted),
    )


def _normalization(known: Normalization) -> str:
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (known.mean, known.std))
    return f"(pixel / {known.pixel_max:g} - ({mean})) / ({std})"
