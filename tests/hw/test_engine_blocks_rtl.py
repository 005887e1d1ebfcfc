"""The engine's blocks, each alone in cocotb, at several widths and on two simulators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

RTL = Path(__file__).resolve().parents[2] / "hw_src" / "rtl"
SIMULATORS = pytest.mark.parametrize("simulator", ["verilator", "icarus"])


def sources(*names: str) -> list[Path]:
    return [RTL / f"bacmac_{name}.sv" for name in names]


@SIMULATORS
@pytest.mark.parametrize("width", [8, 16])
def test_activation_memory(simulator: str, width: int, run_bench: Callable[..., None]) -> None:
    run_bench(
        simulator,
        "bacmac_activations",
        sources("activations", "activation_bank"),
        "activations_bench",
        parameters={"IN": width, "BYTES": 1024},
    )


@SIMULATORS
def test_requantization(simulator: str, run_bench: Callable[..., None]) -> None:
    run_bench(simulator, "bacmac_requantize", sources("requantize"), "requantize_bench")


@SIMULATORS
@pytest.mark.parametrize(("inputs", "outputs", "mag"), [(16, 16, 3), (8, 8, 7), (32, 16, 3)])
def test_group_list(
    simulator: str, inputs: int, outputs: int, mag: int, run_bench: Callable[..., None]
) -> None:
    run_bench(
        simulator,
        "bacmac_entries",
        sources("entries"),
        "entries_bench",
        parameters={"IN": inputs, "OUT": outputs, "MAG": mag},
    )


@SIMULATORS
@pytest.mark.parametrize("inputs", [8, 16])
def test_descriptors(simulator: str, inputs: int, run_bench: Callable[..., None]) -> None:
    run_bench(
        simulator,
        "bacmac_layer",
        sources("layer"),
        "layer_bench",
        parameters={"IN": inputs, "OUT": inputs, "ACTIVATION_BYTES": 8192},
    )


@SIMULATORS
@pytest.mark.parametrize(("inputs", "outputs", "mag"), [(16, 16, 3), (8, 8, 7), (32, 16, 3)])
def test_weights(
    simulator: str, inputs: int, outputs: int, mag: int, run_bench: Callable[..., None]
) -> None:
    run_bench(
        simulator,
        "bacmac_weights",
        sources("weights", "memory"),
        "weights_bench",
        parameters={"IN": inputs, "OUT": outputs, "MAG": mag, "BYTES": 128 * inputs},
    )


@SIMULATORS
@pytest.mark.parametrize("width", [8, 16])
def test_issue(simulator: str, width: int, run_bench: Callable[..., None]) -> None:
    run_bench(
        simulator,
        "bacmac_issue",
        sources("issue"),
        "issue_bench",
        parameters={"IN": width, "TILE": 16, "INDEX": 4, "WORDS": 8},
    )


@SIMULATORS
@pytest.mark.parametrize(("inputs", "outputs"), [(16, 16), (8, 8), (32, 16)])
def test_write_back(
    simulator: str, inputs: int, outputs: int, run_bench: Callable[..., None]
) -> None:
    run_bench(
        simulator,
        "bacmac_write_back",
        sources("write_back"),
        "write_back_bench",
        parameters={"IN": inputs, "OUT": outputs, "TILE": 16, "INDEX": 4},
    )
