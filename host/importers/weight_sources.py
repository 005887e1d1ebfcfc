"""Open a file of weights, whichever tool wrote it."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.arrays import open_arrays, read_bounded
from bacmac.host.importers.file_kinds import NPZ, SAFETENSORS, TORCH, foreign, kind_of, read_head
from bacmac.host.importers.safetensors_file import read_safetensors
from bacmac.host.importers.torch_file import read_torch
from bacmac.host.importers.weight_file import WeightFile

EXPECTED = "weights: a .npz, .safetensors or PyTorch file"


def open_weights(path: str | Path) -> WeightFile:
    """The arrays of a `.npz`, a `.safetensors` or a PyTorch file, told apart by their first bytes.

    Raises:
        ModelFileError: none of them, damaged, or larger than it claims to be.
    """
    file = Path(path)
    head = read_head(file)
    kind = kind_of(head)
    if kind == NPZ:
        arrays = open_arrays(file, ModelFileError)
        readers = {name: partial(arrays.read, name) for name in arrays.names}
        return WeightFile(file, arrays.sha256, readers)
    if kind not in (SAFETENSORS, TORCH):
        what, hint = foreign(head)
        what = f"a {kind or what} file" if kind or what else f"bytes {head[:4].hex()}"
        raise ModelFileError(file, "header", found=what, expected=EXPECTED, hint=hint)
    data = read_bounded(file, ModelFileError, EXPECTED)
    digest = hashlib.sha256(data).hexdigest()
    return (read_safetensors if kind == SAFETENSORS else read_torch)(file, data, digest)
