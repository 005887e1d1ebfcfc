"""Checkpoints: a safetensors file, written whole after each epoch; no pickle anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bacmac.host.errors import InputError, MismatchError
from bacmac.host.files import write_bytes
from bacmac.host.recover.report import EpochReport

FORMAT = "bacmac-recovery"
VERSION = 1
STAGES = ("prune", "round")
Arrays = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run between two epochs.

    Attributes:
        run: digest of everything that the run depends on.
        stage: "prune" or "round".
        done: epochs of that stage.
        arrays: float32 by name.
        reports: so far.
    """

    run: str
    stage: str
    done: int
    arrays: Mapping[str, npt.NDArray[np.float32]]
    reports: tuple[EpochReport, ...]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write it, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "run": checkpoint.run,
        "stage": checkpoint.stage,
        "done": checkpoint.done,
        "reports": [asdict(report) for report in checkpoint.reports],
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in checkpoint.arrays.items()}
    write_bytes(path, save(arrays, {"checkpoint": json.dumps(header)}))


def read_checkpoint(path: Path, run: str) -> Checkpoint:
    """A checkpoint of this very run.

    Raises:
        InputError: it cannot be read, or is no checkpoint.
        MismatchError: it is another run's.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header: Any = json.loads((file.metadata() or {})["checkpoint"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if (header["format"], header["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {header['format']!r}, version {header['version']!r}")
        if any(array.dtype != np.float32 for array in arrays.values()):
            raise ValueError("tensors that are not float32")
        if header["stage"] not in STAGES or not isinstance(header["done"], int):
            raise ValueError(f"stage {header['stage']!r}, {header['done']!r} epochs")
        found = Checkpoint(
            run=str(header["run"]),
            stage=str(header["stage"]),
            done=header["done"],
            arrays=arrays,
            reports=tuple(EpochReport(**report) for report in header["reports"]),
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            path,
            "checkpoint",
            found=f"{type(error).__name__}: {error}",
            expected=f"a {FORMAT} file of version {VERSION}",
            hint="name another file to start anew",
        ) from error
    if found.run != run:
        raise MismatchError(
            path,
            "run",
            found="a checkpoint of another model, image set, option or release",
            expected="one of this run",
            hint="name another file to start anew",
        )
    return found
