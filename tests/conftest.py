"""Where tests find their inputs, random models, and the flag for a real board."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from bacmac.host.model.layers import Model

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--board", action="store_true", help="also run the tests that need a ZCU104")
    parser.addoption(
        "--device",
        action="append",
        help="run the device contract on this device instead; may be given several times",
    )


DEVICES = ("functional:", "reference:", "rtl:", pytest.param("pynq:", marks=pytest.mark.board))
"""Where the device contract runs; `pynq:emulated` by the option, in an environment with PYNQ."""

FAULTY = ("functional:", "rtl:")
"""Where tests of emulated faults run unless devices are named."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """tests/pynq imports PYNQ: only where a device of its kind was named (see .ci/pynq.sh)."""
    named = config.getoption("--device") or ()
    on_pynq = any(word.startswith("pynq:") for word in named)
    return True if collection_path == ROOT / "tests" / "pynq" and not on_pynq else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `device_word` runs on every device, `faulty_word` where faults can be."""
    named = metafunc.config.getoption("--device")
    if "device_word" in metafunc.fixturenames:
        metafunc.parametrize("device_word", named or DEVICES)
    if "faulty_word" in metafunc.fixturenames:
        emulated = [word for word in named or FAULTY if word != "pynq:"]
        metafunc.parametrize("faulty_word", emulated)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --board, tests that need one are not collected at all, and the run says so."""
    if config.getoption("--board"):
        return
    board = [item for item in items if item.get_closest_marker("board")]
    if board:
        config.hook.pytest_deselected(items=board)
        items[:] = [item for item in items if item not in board]


@pytest.fixture(scope="session")
def real_data() -> Path | None:
    """The folder of real models and data sets, or None where a machine has none."""
    folder = Path(os.environ.get("BACMAC_DATA", ROOT.parent / "shared" / "data"))
    return folder if (folder / "README.md").is_file() else None


@pytest.fixture(scope="session")
def example_dir() -> Path:
    """The shipped example: a small network and images made by the project's own script."""
    return ROOT / "host" / "example"


@pytest.fixture(scope="session")
def models() -> ModuleType:
    """Builders of random quantized models with images: tests/random_models.py."""
    return _module("random_models")


@pytest.fixture(scope="session")
def built() -> Callable[[int], Model]:
    """Small networks that their file has quantized, by seed: tests/kept_models.py."""
    found: Callable[[int], Model] = _module("kept_models").built
    return found


def _module(name: str) -> ModuleType:
    """A module of this folder: tests have no package of their own, so it is loaded by its path."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    return sys.modules[name]
