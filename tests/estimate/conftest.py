"""The shipped network packed for a scheme, and a cache of netlists that lives for one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.compress import CompressOptions, compress

Pack = Callable[[str, float], QuantizedModel]


@pytest.fixture(scope="session", autouse=True)
def netlist_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("netlists")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACMAC_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def pack_digits(example_dir: Path) -> Pack:
    model = load_model(example_dir / "digits_cnn.json")
    calibration = load_images(example_dir / "digits_calibration.npz", shape=model.input_shape)

    @cache
    def pack(scheme: str, sparsity: float) -> QuantizedModel:
        options = CompressOptions(scheme=scheme, sparsity=sparsity, pruning="pot-aware")
        return compress(model, calibration, options)

    return pack
