"""Does a model do what whoever wrote its file says it does? Test vectors, and how they compare.

A vector file is a `.npz` with `input`, as the file's own framework takes it, and `output` (or
`logits`): one row of values an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import Shape
from bacmac.host.errors import MismatchError, ModelFileError
from bacmac.host.importers.arrays import open_arrays
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.layers import Model
from bacmac.host.model.quantized import QuantizedModel

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

FLOAT_ERROR = 1e-4
"""Of the largest output: what the order of float32 sums may change."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """Inputs and what the file's own framework made of them.

    Attributes:
        inputs: float32 (N, C, H, W).
        outputs: float64 (N, values).
    """

    inputs: Floats
    outputs: Values


@dataclass(frozen=True)
class Reproduction:
    """How outputs compare with those of the vectors.

    Attributes:
        n_images: how many.
        n_values: outputs in all.
        n_differing: outputs that are further off than float32 sums explain.
        largest_difference: of any output, in its own unit.
        step: between two values that an output can have by the file's grid; None without one.
        n_classes_equal: images whose largest output is the same one.
        softmax: the vectors are probabilities, and a softmax was put behind the model's logits.
    """

    n_images: int
    n_values: int
    n_differing: int
    largest_difference: float
    step: float | None
    n_classes_equal: int
    softmax: bool

    @property
    def exact(self) -> bool:
        """Whether nothing differs."""
        return self.n_differing == 0


def load_vectors(path: str | Path, shape: Shape) -> Vectors:
    """The vectors of a `.npz`; channels last are turned to (N, C, H, W).

    Raises:
        ModelFileError: an array is missing or not of numbers.
        MismatchError: the inputs are not the model's.
    """
    arrays = open_arrays(path, ModelFileError)
    name = "logits" if "output" not in arrays and "logits" in arrays else "output"
    inputs = arrays.read("input").astype(np.float32)
    outputs = arrays.read(name)
    channels, height, width = shape
    if inputs.ndim == 4 and inputs.shape[1:] == (height, width, channels) != shape:
        inputs = inputs.transpose(0, 3, 1, 2)
    if not len(inputs) or inputs[0].size != channels * height * width:
        raise MismatchError(path, "input", found=f"{inputs.shape}", expected=f"(N, *{shape})")
    if len(outputs) != len(inputs) or not outputs.size:
        raise MismatchError(
            path, name, found=f"{len(outputs)} rows", expected=f"{len(inputs)}, one an input"
        )
    return Vectors(
        np.ascontiguousarray(inputs.reshape(-1, *shape)),
        outputs.reshape(len(outputs), -1).astype(np.float64),
    )


def device_outputs(quantized: QuantizedModel, inputs: Floats) -> Values:
    """Output values (N, C, H, W) of the exact engine for float inputs (N, C, H, W)."""
    codes = input_codes(inputs, quantized.normalization, quantized.input_format)
    return quantized.values(Engine(quantized.network).run(codes))


def reproduction(model: Model, found: npt.NDArray[np.floating], vectors: Vectors) -> Reproduction:
    """Compare outputs (N, ...) with those of the vectors.

    Raises:
        MismatchError: they are not as many values an image.
    """
    values = found.reshape(len(found), -1).astype(np.float64)
    if values.shape != vectors.outputs.shape:
        raise MismatchError(
            model.source or model.name,
            "output",
            found=f"{values.shape[1]} values an image",
            expected=f"{vectors.outputs.shape[1]}, as the vectors have",
        )
    softmax = _are_probabilities(vectors.outputs) and not _are_probabilities(values)
    if softmax:
        values = np.exp(values - values.max(1, keepdims=True))
        values /= values.sum(1, keepdims=True)
    apart = np.abs(values - vectors.outputs)
    grid = model.grids.get(model.layers[-1].name)
    allowed = FLOAT_ERROR * max(float(np.abs(vectors.outputs).max()), 1e-30)
    if grid is not None and not softmax:
        allowed = max(allowed, 0.01 * grid.scale)
    return Reproduction(
        n_images=len(values),
        n_values=values.size,
        n_differing=int(np.count_nonzero(apart > allowed)),
        largest_difference=float(apart.max()),
        step=None if grid is None or softmax else grid.scale,
        n_classes_equal=int(np.count_nonzero(values.argmax(1) == vectors.outputs.argmax(1))),
        softmax=softmax,
    )


def _are_probabilities(values: Values) -> bool:
    return bool(values.min() >= 0 and np.abs(values.sum(1) - 1).max() < 1e-3)
