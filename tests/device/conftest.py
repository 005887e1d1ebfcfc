"""Fixtures: random quantized models, from tests/device/random_models.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

_PATH = Path(__file__).resolve().parents[1] / "device" / "random_models.py"


@pytest.fixture(scope="session")
def models() -> ModuleType:
    """The builders; each gives a model and images."""
    if "random_models" not in sys.modules:
        spec = importlib.util.spec_from_file_location("random_models", _PATH)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["random_models"] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    return sys.modules["random_models"]
