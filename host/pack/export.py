"""A packed model's weights in another project's layout: a folder of files and a manifest, and back.

The manifest, `weights.json`, says of every layer what its files hold. The folder appears whole or
not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import ConvOp
from bacmac.host.arith.schemes import SCHEMES, Levels
from bacmac.host.errors import InputError, MismatchError, OutputError, PackedFileError
from bacmac.host.model.quantized import QuantizedLayer, QuantizedModel
from bacmac.host.pack.layer_shape import LayerShape
from bacmac.host.pack.layout_words import WORD_BITS
from bacmac.host.pack.layouts import LAYOUTS, LayerFiles, LayerWeights, Layout
from bacmac.host.pack.limits import MAX_LAYERS, MAX_SCALE, MIN_SCALE
from bacmac.host.pack.metadata import Field, parse_json

MANIFEST = "weights.json"
FORMAT = "bacmac-weights"
VERSION = 1
MAX_MANIFEST_BYTES = 16 << 20
MAX_TEXT_BYTES = 1 << 30
"""Of one file: 2**28 weights of a byte are more digits in text."""


@dataclass(frozen=True)
class ExportedLayer:
    """What was written of one layer."""

    name: str
    scheme: str
    n_weights: int
    files: tuple[str, ...]
    n_bytes: int


def export_model(
    model: QuantizedModel, layout: str, folder: str | Path, *, word_bits: int = 32
) -> tuple[ExportedLayer, ...]:
    """Write the weights of every layer that has some.

    Args:
        model: whose weights they are.
        layout: a name of `layouts.LAYOUTS`.
        folder: to be made; it may be there if it is empty.
        word_bits: of a word in .mem and .coe.

    Raises:
        InputError: no such layout or word, or a layer that it cannot hold, with the count of what
            it lacks.
        OutputError: the folder cannot be written, or is not empty.
    """
    if layout not in LAYOUTS:
        raise InputError("options", "layout", found=repr(layout), expected=", ".join(LAYOUTS))
    if word_bits not in WORD_BITS:
        words = ", ".join(map(str, WORD_BITS))
        raise InputError("options", "word bits", found=str(word_bits), expected=words)
    contents: dict[str, bytes] = {}
    rows: list[dict[str, object]] = []
    exported = []
    for index, (layer, weights) in enumerate(_weights(model, word_bits)):
        written = _written(LAYOUTS[layout], weights, model.name)
        names = {s: f"layer{index:03d}{s}" for s in written.files}
        contents |= {names[suffix]: data for suffix, data in written.files.items()}
        rows.append(
            {
                "name": layer.name,
                "scheme": layer.scheme,
                "weight_shape": list(weights.shape.weights),
                "files": names,
                "scale": written.scale.tolist(),
                "numbers": dict(written.numbers),
            }
        )
        n_bytes = sum(map(len, written.files.values()))
        exported.append(
            ExportedLayer(
                layer.name, layer.scheme, weights.levels.size, tuple(names.values()), n_bytes
            )
        )
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "layout": layout,
        "model": model.name,
        "layers": rows,
    }
    contents[MANIFEST] = (json.dumps(manifest, indent=1) + "\n").encode()
    _write_folder(Path(folder), contents)
    return tuple(exported)


def read_exported(model: QuantizedModel, folder: str | Path) -> dict[str, npt.NDArray[np.integer]]:
    """Levels of each layer of a folder that `export_model` wrote, or another tool filled anew.

    Args:
        model: the packed model whose layers they are: names, schemes and shapes must agree.
        folder: with its manifest.

    Raises:
        PackedFileError: the manifest or a file is damaged or missing.
        MismatchError: the folder is of another model.
    """
    place = Path(folder) / MANIFEST
    fields = parse_json(str(place), "manifest", _read(place, MAX_MANIFEST_BYTES)).record(
        "format", "version", "layout", "model", "layers"
    )
    fields["format"].choice((FORMAT,))
    fields["version"].integer(VERSION, VERSION)
    layout = LAYOUTS[fields["layout"].choice(tuple(LAYOUTS))]
    rows = [
        row.record("name", "scheme", "weight_shape", "files", "scale", "numbers")
        for row in fields["layers"].items(0, MAX_LAYERS)
    ]
    known = list(_weights(model, WORD_BITS[0]))
    names = [row["name"].text() for row in rows]
    if names != [layer.name for layer, _ in known]:
        raise MismatchError(
            place, "layers", found=", ".join(names) or "none", expected=f"those of {model.name!r}"
        )
    return {
        layer.name: _layer_levels(Path(folder), layout, row, weights)
        for row, (layer, weights) in zip(rows, known, strict=True)
    }


def with_levels(
    model: QuantizedModel, levels: Mapping[str, npt.NDArray[np.integer]]
) -> QuantizedModel:
    """The model with other levels of these layers, by name; everything else stays.

    Raises:
        MismatchError: a level that the layer's scheme does not have, or another shape.
    """
    layers = []
    for layer in model.layers:
        if isinstance(layer.op, ConvOp) and layer.name in levels:
            scheme, found = SCHEMES[layer.scheme], levels[layer.name]
            bad = ~scheme.holds(found)
            if found.shape != layer.op.levels.shape or bad.any():
                what = f"shape {found.shape}" if not bad.any() else f"level {int(found[bad][0])}"
                raise MismatchError(
                    model.name,
                    f"layer {layer.name!r}",
                    found=what,
                    expected=f"{layer.scheme} levels of {layer.op.levels.shape}",
                )
            typed = cast(Levels, found.astype(scheme.levels.dtype))
            layers.append(replace(layer, op=replace(layer.op, levels=typed)))
        else:
            layers.append(layer)
    return replace(model, layers=tuple(layers))


def _weights(model: QuantizedModel, word_bits: int) -> list[tuple[QuantizedLayer, LayerWeights]]:
    shapes = model.network.shapes
    found = []
    for layer in model.layers:
        if isinstance(layer.op, ConvOp):
            weights = LayerWeights(
                layer.name,
                layer.op.levels,
                SCHEMES[layer.scheme],
                layer.weight_scale,
                LayerShape.of(layer.op, shapes[layer.op.input]),
                word_bits,
            )
            found.append((layer, weights))
    return found


def _written(layout: Layout, weights: LayerWeights, model: str) -> LayerFiles:
    try:
        return layout.write(weights)
    except ValueError as error:
        raise InputError(
            model,
            f"layer {weights.name!r}",
            found=str(error),
            expected=f"what {layout.name} holds: {layout.says}",
        ) from error


def _layer_levels(
    folder: Path, layout: Layout, row: dict[str, Field], weights: LayerWeights
) -> npt.NDArray[np.integer]:
    row["scheme"].choice((weights.scheme.name,))
    shape = weights.shape.weights
    if row["weight_shape"].integers(4, 1, 1 << 24) != shape:
        row["weight_shape"].refuse(str(list(shape)))
    channels = shape[0]
    scale = [item.number(MIN_SCALE, MAX_SCALE) for item in row["scale"].items(channels, channels)]
    files = row["files"].record(*layout.suffixes)
    contents = {}
    for suffix, at in files.items():
        name = at.text()
        # a name alone: whatever the manifest says, only files of this folder are read
        if Path(name).name != name or name in (".", ".."):
            at.refuse("a file's name, without a folder")
        contents[suffix] = _read(folder / name, MAX_TEXT_BYTES)
    numbers = _numbers(row["numbers"], channels)
    try:
        return layout.read(weights, LayerFiles(contents, np.array(scale), numbers))
    except (ValueError, KeyError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise PackedFileError(
            folder, f"layer {weights.name!r}", found=found, expected=f"{layout.name}: {layout.says}"
        ) from error


def _numbers(at: Field, channels: int) -> dict[str, int | str | list[int]]:
    """What a layout keeps beside its files."""
    known: dict[str, int | str | list[int]] = {}
    for key, value in at.mapping().items():
        if key == "exponents":
            items = value.items(channels, channels)
            known[key] = [item.integer(-200, 200) for item in items]
        elif key == "type":
            known[key] = value.text()
        elif key == "word_bits":
            bits = value.integer(8, 1024)
            if bits not in WORD_BITS:
                value.refuse(", ".join(map(str, WORD_BITS)))
            known[key] = bits
        elif key in ("bits", "base"):
            known[key] = value.integer(-200, 200)
        else:
            at.refuse("bits, base, exponents, type or word_bits", f"the key {key[:60]!r}")
    return known


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise PackedFileError(path, "file", found="no plain file", expected="a file")
        with path.open("rb") as handle:
            data = handle.read(most_bytes + 1)
    except OSError as error:
        raise PackedFileError(
            path, "file", found=error.strerror or str(error), expected="a readable file"
        ) from error
    if len(data) > most_bytes:
        raise PackedFileError(
            path, "file", found=f"over {most_bytes} bytes", expected="files of one model's weights"
        )
    return data


def _write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """All files in a new folder, whole or not at all."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(folder, "it is there already and not an empty folder")
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise OutputError(folder, error.strerror or str(error)) from error
    try:
        for name, data in contents.items():
            with (temporary / name).open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(folder)
    except OSError as error:
        raise OutputError(folder, error.strerror or str(error)) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
