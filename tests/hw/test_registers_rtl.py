"""The AXI4-Lite slave in RTL is the register table."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from pathlib import Path

import pytest

from bacmac.overlays.registry import parse_register_map
from bacmac.overlays.rtl_registers import rtl_localparams

RTL = Path(__file__).resolve().parents[2] / "hw_src" / "rtl"
BENCHES = Path(__file__).resolve().parent / "benches"
TABLE = Path(str(importlib.resources.files("bacmac.overlays") / "regmaps" / "accelerator-v2.toml"))


def test_the_include_file_is_made_from_the_table() -> None:
    made = rtl_localparams(parse_register_map(TABLE, TABLE.read_text()))

    assert (RTL / "bacmac_registers.svh").read_text() == made, (
        "run: python -m bacmac.overlays.rtl_registers "
        "overlays/regmaps/accelerator-v2.toml hw_src/rtl/bacmac_registers.svh"
    )


@pytest.mark.parametrize("simulator", ["verilator", "icarus"])
def test_registers_on_the_bus(
    simulator: str, run_bench: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACMAC_REGISTER_TABLE", str(TABLE))

    run_bench(
        simulator,
        "bacmac_registers",
        [RTL / "bacmac_registers.sv"],
        "registers_bench",
        parameters={"BUILD_ID": 0xBEEF0001},
    )
