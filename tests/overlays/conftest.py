"""Builds of overlays by the model of Vivado in `vivado_model/`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.vivado_inputs import write_inputs
from bacmac.overlays.vivado_run import vivado_command

MODEL = Path(__file__).parent / "vivado_model" / "vivado.tcl"


@dataclass(frozen=True)
class ModelRun:
    """What the model said and recorded; `folder` is where it worked."""

    folder: Path
    status: int
    said: str
    record: list[list[str]]

    def rows(self, kind: str) -> list[list[str]]:
        return [row[1:] for row in self.record if row[0] == kind]

    def calls(self, command: str) -> list[list[str]]:
        return [row[1:] for row in self.rows("call") if row[0] == command]


RunModel = Callable[..., ModelRun]


@pytest.fixture
def fake_vivado(tmp_path: Path) -> Path:
    """A program `vivado` that runs the model; its folder can be put on PATH."""
    program = tmp_path / "bin" / "vivado"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec tclsh "{MODEL}" "$@"\n')
    program.chmod(0o755)
    return program


@pytest.fixture(scope="session")
def run_model() -> RunModel:
    """Write the inputs of an overlay, change the script perhaps, and let the model run it."""

    def run(
        overlay: Overlay,
        folder: Path,
        *,
        change: tuple[str, str] = ("", ""),
        jobs: int = 0,
        **environment: object,
    ) -> ModelRun:
        write_inputs(overlay, folder, jobs)
        script = folder / "build.tcl"
        assert change[0] in script.read_text()
        script.write_text(
            script.read_text().replace(*change, 1) if change[0] else script.read_text()
        )
        record = folder / "record.txt"
        result = subprocess.run(
            ["tclsh", MODEL, *vivado_command()[1:]],
            cwd=folder,
            env={
                **os.environ,
                "MODEL_RECORD": str(record),
                **{f"MODEL_{key.upper()}": str(value) for key, value in environment.items()},
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        rows = [line.split("\t") for line in record.read_text().splitlines()]
        return ModelRun(folder, result.returncode, result.stdout, rows)

    return run
