"""Loads, batches, errors and resets of the accelerator, around a stand-in of the engine."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from pathlib import Path

import pytest

RTL = Path(__file__).resolve().parents[2] / "hw_src" / "rtl"
BENCHES = Path(__file__).resolve().parent / "benches"
TABLE = Path(str(importlib.resources.files("bacmac.overlays") / "regmaps" / "accelerator-v2.toml"))
SOURCES = [
    *(BENCHES / name for name in ("shell_bench.sv", "axi_rules.sv", "standin_engine.sv")),
    RTL / "bacmac.v",
    *(
        RTL / f"bacmac_{part}.sv"
        for part in ("top", "registers", "run", "loader", "sender", "counters")
    ),
]


@pytest.mark.parametrize(
    ("bench", "simulator", "beat_bytes"),
    [
        ("shell_runs", "verilator", 16),
        ("shell_faults", "verilator", 16),
        ("shell_runs", "icarus", 16),
        ("shell_runs", "icarus", 8),
        ("shell_faults", "icarus", 8),
    ],
)
def test_the_shell_keeps_its_word(
    bench: str,
    simulator: str,
    beat_bytes: int,
    run_bench: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BACMAC_REGISTER_TABLE", str(TABLE))

    run_bench(simulator, "shell_bench", SOURCES, bench, parameters={"IN": beat_bytes})
