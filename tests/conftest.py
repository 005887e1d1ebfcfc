"""Where tests find their inputs, and the flag for a real board."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--board", action="store_true", help="also run the tests that need a ZCU104")


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
