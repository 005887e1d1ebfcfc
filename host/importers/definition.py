"""What a model file itself says that its network computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from bacmac.host.importers import tflite_reference
from bacmac.host.importers.file_kinds import TFLITE, kind_of, read_head
from bacmac.host.model.forward import forward
from bacmac.host.model.layers import Model


def outputs_as_defined(
    path: str | Path, model: Model, images: npt.NDArray[np.float32]
) -> npt.NDArray[np.floating]:
    """Outputs (N, C, H, W) of float images (N, C, H, W) by the definition of the file's format.

    TFLite defines integer arithmetic, which is followed to the last bit. ONNX defines real numbers
    on grids: those are computed in float32, so that a sum within its rounding error of a border
    between two codes may fall to the other side.
    """
    if kind_of(read_head(Path(path))) == TFLITE:
        return tflite_reference.run(path, images)
    return forward(model, images)
