"""One function for every model file that can be read."""

from __future__ import annotations

from pathlib import Path

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.layer_list import load_layer_list
from bacmac.host.importers.onnx_file import load_onnx
from bacmac.host.model.layers import Model

_READERS = {".onnx": load_onnx, ".json": load_layer_list}


def load_model(path: str | Path) -> Model:
    """The float model of a `.onnx` file, or of a `.json` layer list and the `.npz` it names.

    Raises:
        ModelFileError: the file cannot be read, or holds what the accelerator lacks.
        MissingExtraError: a `.onnx` file, and the extra `onnx` is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        raise ModelFileError(
            path,
            "file name",
            found=f"suffix {suffix!r}",
            expected=" or ".join(_READERS),
            hint="a torch or Keras model is exported to ONNX first",
        )
    return _READERS[suffix](path)
