"""The RTL is clean under `verilator --lint-only -Wall`, in every configuration."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from bacmac.host.device.rtl.build import find_tools

RTL = Path(__file__).resolve().parents[2] / "hw_src" / "rtl"
CONFIGURATIONS = [
    *({"IN": 16, "OUT": 16, "PRODUCT": product} for product in range(5)),
    {"IN": 8, "OUT": 8, "TILE": 16, "PRODUCT": 3},
    {"IN": 32, "OUT": 16, "PRODUCT": 2},
    {"IN": 32, "OUT": 32, "PRODUCT": 4},
]


@pytest.mark.parametrize("parameters", CONFIGURATIONS, ids=str)
def test_no_warning_is_left(parameters: dict[str, int]) -> None:
    tools = find_tools()
    command = [tools.verilator, "--lint-only", "-Wall", "--top-module", "bacmac_top"]
    command += [f"-G{name}={value}" for name, value in parameters.items()]

    done = subprocess.run(
        [*command, *sorted(map(str, RTL.glob("bacmac_*.sv")))],
        cwd=RTL,
        env={"VERILATOR_ROOT": str(tools.root)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-4000:]
    assert "%Warning" not in done.stderr


def test_every_waiver_says_why() -> None:
    for path in RTL.glob("*.sv*"):
        for line in path.read_text().splitlines():
            if "lint_off" in line:
                assert re.search(r"//\s*\w", line), f"{path.name}: {line.strip()}"


def test_one_module_a_file_and_every_port_explained() -> None:
    port = re.compile(r"^ {4}(?:input|output|inout)\b")
    for path in RTL.glob("*.sv"):
        text = path.read_text()
        assert re.findall(r"^module (\w+)", text, re.M) == [path.stem]
        bare = [line for line in text.splitlines() if port.match(line) and "//" not in line]
        assert not bare, f"{path.name}: {bare}"
