"""A small campaign on the shipped digits network, and the command line run in this process."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bacmac.cli.main import main
from bacmac.host.importers.images import load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.pack.file import read_packed, write_packed
from bacmac.overlays.registry import load_overlay
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.plan import CampaignPlan, Cell, Design, Pair, PlannedArm

ARMS = {
    "bac": ("bac-pot4e4", "pot-4e4"),
    "mac4": ("mac-uniform4", "uniform-4"),
    "mac8": ("mac-uniform8", "uniform-8"),
}
"""Overlay and scheme of each arm."""

SHORT_RUNS = Limits(
    min_run_s=1.0, min_fresh_values=5, max_edge_share=0.03, max_gap_share=0.2, min_dynamic_u=0.5
)
"""Limits that runs of 1 s meet: what a window's length decides is wider."""


def _load_beside(name: str) -> None:
    """Make tests/NAME.py importable by its name: tests have no package of their own."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(sys.modules[name])


_load_beside("made_runs")
_load_beside("made_campaigns")
_load_beside("synthetic_runs")


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


@pytest.fixture(scope="session")
def packed_files(example_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The digits network packed for each arm, by the arm's name."""
    folder = tmp_path_factory.mktemp("packed")
    model = load_model(example_dir / "digits_cnn.json")
    calibration = load_images(example_dir / "digits_calibration.npz", shape=model.input_shape)
    files = {}
    for arm, (_, scheme) in ARMS.items():
        files[arm] = folder / f"digits-{scheme}.safetensors"
        write_packed(files[arm], compress(model, calibration, CompressOptions(scheme=scheme)))
    return files


@pytest.fixture(scope="session")
def small_plan(packed_files: dict[str, Path], example_dir: Path) -> CampaignPlan:
    """Three arms, one cell, runs of 1 s."""
    return CampaignPlan(
        name="small",
        text='name = "small"\n',
        sha256="5a" * 32,
        board="emulated",
        device="functional:",
        rails="emulated:",
        rail_names=(),
        images=load_images(example_dir / "digits_test.npz").first(64),
        arms=tuple(
            PlannedArm(arm, load_overlay(overlay), read_packed(packed_files[arm]))
            for arm, (overlay, _) in ARMS.items()
        ),
        cells=(Cell(0, 16, None),),
        pairs=(
            Pair("mac8", "bac", "saving"),
            Pair("mac8", "mac4", "bits"),
            Pair("mac4", "bac", "shift"),
        ),
        design=Design(run_s=1.0, idle_s=0.5, aa_blocks=2, pilot_blocks=3, max_blocks=6),
        limits=SHORT_RUNS,
    )
