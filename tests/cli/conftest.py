"""Run the command line as a user does, in this process, and packed example models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bacmac.cli.main import main


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call `bacmac ARGUMENTS...`; the outcome holds exit status and both outputs."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, printed.out, printed.err)

    return call


def _pack(example_dir: Path, folder: Path, scheme: str) -> Path:
    target = folder / f"{scheme}.safetensors"
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "pack",
                str(example_dir / "digits_cnn.json"),
                "--scheme",
                scheme,
                "--calibration",
                str(example_dir / "digits_calibration.npz"),
                "-o",
                str(target),
            ]
        )
    assert ended.value.code == 0
    return target


@pytest.fixture(scope="session")
def bac_file(example_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example packed as pot-4."""
    return _pack(example_dir, tmp_path_factory.mktemp("packed"), "pot-4")


@pytest.fixture(scope="session")
def mac_file(example_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example packed as uniform-8."""
    return _pack(example_dir, tmp_path_factory.mktemp("packed"), "uniform-8")


@pytest.fixture
def test_images(example_dir: Path) -> Path:
    """500 held-back images of the example."""
    return example_dir / "digits_test.npz"
