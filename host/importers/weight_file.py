"""What a file of weights is to a layer list, whichever tool wrote it: arrays by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.errors import ModelFileError


@dataclass(frozen=True, eq=False)
class ScaledIntegers:
    """A quantized tensor: value = (code - zero_point) * scale.

    Attributes:
        codes: integers of the tensor's shape.
        scale: float64 (1,), or one for each index of `axis`.
        zero_point: int64, likewise.
        axis: that scale and zero point run along.
    """

    codes: npt.NDArray[np.integer[Any]]
    scale: npt.NDArray[np.float64]
    zero_point: npt.NDArray[np.int64]
    axis: int = 0


Stored = npt.NDArray[Any] | ScaledIntegers


@dataclass(frozen=True, eq=False)
class WeightFile:
    """The arrays of a file, each read when asked for.

    Attributes:
        path: as given.
        sha256: hex digest of the file.
        readers: by name, in the file's order, what reads the array.
        notes: what a person must know of what was left out.
    """

    path: Path
    sha256: str
    readers: Mapping[str, Callable[[], Stored]]
    notes: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self.readers

    def read(self, name: str) -> Stored:
        """One array: booleans, integers or floats of any width, or integers with a scale.

        Raises:
            ModelFileError: missing, damaged, or not numbers.
        """
        if name not in self.readers:
            listed = ", ".join(list(self.readers)[:8]) or "no array"
            raise ModelFileError(self.path, f"array {name!r}", found=listed, expected="this array")
        return self.readers[name]()
