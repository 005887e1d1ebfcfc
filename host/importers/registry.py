"""One function for every model file that can be read, and the table of what reads it.

A file is known by its first bytes; its suffix decides where they tell nothing (ONNX has no mark of
its own), and must not contradict them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.file_kinds import (
    LAYERS,
    NPZ,
    ONNX,
    SAFETENSORS,
    TFLITE,
    TORCH,
    foreign,
    kind_of,
    read_head,
)
from bacmac.host.importers.layer_list import load_layer_list
from bacmac.host.importers.onnx_file import load_onnx
from bacmac.host.importers.tflite_model import load_tflite
from bacmac.host.model.layers import Model


@dataclass(frozen=True)
class Importer:
    """One kind of file.

    Attributes:
        suffixes: that such files have; the first is the usual one.
        load: gives the model; None for files of weights, which a layer list must go with.
    """

    suffixes: tuple[str, ...]
    load: Callable[[Path], Model] | None = None


IMPORTERS = {
    ONNX: Importer((".onnx",), load_onnx),
    TFLITE: Importer((".tflite", ".lite"), load_tflite),
    LAYERS: Importer((".json",), load_layer_list),
    TORCH: Importer((".pt", ".pth", ".th", ".bin", ".tar", ".ckpt", ".pkl")),
    SAFETENSORS: Importer((".safetensors",)),
    NPZ: Importer((".npz",)),
}
"""By kind of file (`file_kinds`)."""


def load_model(path: str | Path, layers: str | Path | None = None) -> Model:
    """The model of a file.

    ONNX and TFLite files and layer lists are read alone. A PyTorch, `.safetensors` or `.npz`
    file holds weights and no structure: `layers` is the JSON layer list that says it
    (docs/models.md), with whatever weights that list names itself set aside.

    Raises:
        ModelFileError: the file cannot be read, its name and content contradict each other, or it
            holds what the accelerator lacks.
        MissingExtraError: the extra `onnx` is needed and not installed.
    """
    file = Path(path)
    kind = _kind(file)
    load = IMPORTERS[kind].load
    if load is not None:
        if layers is not None:
            raise ModelFileError(
                layers,
                "--layer-list",
                found=f"a layer list beside {file.name} ({kind})",
                expected="a file of weights: this one has its layers in it",
            )
        return load(file)
    if layers is None:
        raise ModelFileError(
            file,
            "layers",
            found=f"weights without a structure ({kind})",
            expected="a layer list too: --layer-list NET.json",
            hint="docs/models.md has its fields",
        )
    return load_layer_list(layers, weights=file)


def _kind(file: Path) -> str:
    head = read_head(file)
    found = kind_of(head)
    suffix = file.suffix.lower()
    named = next((kind for kind in IMPORTERS if suffix in IMPORTERS[kind].suffixes), "")
    if found in IMPORTERS and (found == named or not named):
        return found
    what, hint = foreign(head)
    if not found and not what and named in (ONNX, LAYERS):  # neither has a mark of its own
        return named
    known = found or what or f"unknown ({head[:4].hex()})"
    suffixes = ", ".join(importer.suffixes[0] for importer in IMPORTERS.values())
    raise ModelFileError(
        file,
        "file",
        found=f"suffix {suffix!r} and content {known}",
        expected=f"a file of the kind that its name says: {suffixes}",
        hint=hint,
    )
