"""`bacmac overlay estimate` and `bacmac overlay roofline`, with synthesis of the whole faked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import bacmac.cli.estimate
from bacmac.overlays.estimate.configurations import Configuration
from bacmac.overlays.estimate.sites import Resources
from bacmac.overlays.estimate.synthesis import ModuleUse, Utilisation

PARTS = Resources(lut=2000, lut_sites=1600, carry8=10, ff=900, bram36=2)


def fake_synthesis(configuration: Configuration) -> Utilisation:
    names = ("bacmac_lane", "bacmac_channel", "bacmac_requantize", "bacmac_activations")
    uses = (ModuleUse(name, 16, PARTS, "yosys") for name in names)
    return Utilisation(configuration.name, "Yosys 9", tuple(uses))


@pytest.fixture(autouse=True)
def _no_synthesis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bacmac.cli.estimate, "estimate_utilisation", fake_synthesis)


def test_utilisation_of_every_configuration_is_called_an_estimate(run: Callable) -> None:
    done = run("overlay", "estimate")

    assert done.status == 0
    assert "ESTIMATE by Yosys 9" in done.out
    for name in ("bac-pot4", "bac-pot4e4", "mac-uniform4", "mac-uniform4-star", "mac-uniform8"):
        assert name in done.out
    assert "2.8%" in done.out  # 6,400 of 230,400 LUTs
    assert "XCZU7EV has" in done.out


def test_modules_are_told_on_request(run: Callable) -> None:
    done = run("overlay", "estimate", "bac-pot4", "--modules")

    assert done.status == 0
    assert "bacmac_requantize" in done.out


def test_energy_and_ratios_of_packed_models(
    run: Callable, bac_file: Path, mac_file: Path, example_dir: Path
) -> None:
    done = run(
        *("overlay", "estimate", "bac-pot4", "mac-uniform8", "--json"),
        *("--model", bac_file, "--model", mac_file, "--images", example_dir / "digits_test.npz"),
    )

    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["provenance"] == "estimate"
    assert [e["configuration"] for e in found["energy"]] == ["bac-pot4", "mac-uniform8"]
    assert {r["scope"] for r in found["ratios"]} == {"array", "accelerator"}
    for ratio in found["ratios"]:
        assert (ratio["baseline"], ratio["bac"]) == ("mac-uniform8", "bac-pot4")
        assert ratio["lowest"] <= min(ratio["base"]) <= max(ratio["base"]) <= ratio["highest"]

    told = run(
        *("overlay", "estimate", "bac-pot4", "mac-uniform8"),
        *("--model", bac_file, "--model", mac_file, "--images", example_dir / "digits_test.npz"),
    )
    assert "Nothing here is measured" in told.out.replace("\n", " ")
    assert "netlist activity" in told.out


def test_a_model_needs_images(run: Callable, bac_file: Path) -> None:
    done = run("overlay", "estimate", "--model", bac_file)

    assert done.status == 2
    assert "--model, --images" in done.err


def test_the_roofline_is_printed_and_drawn(
    run: Callable, bac_file: Path, example_dir: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "roof.svg"
    images = example_dir / "digits_test.npz"
    done = run(
        *("overlay", "roofline", "bac-pot4", "--model", bac_file, "--images", images),
        *("-o", picture),
    )

    assert done.status == 0, done.err
    assert "total" in done.out
    assert picture.read_text(encoding="utf-8").startswith("<?xml")
    as_json = run(
        *("overlay", "roofline", "bac-pot4", "--model", bac_file, "--images", images, "--json")
    )
    assert json.loads(as_json.out)["peak"] == 256


def test_a_picture_of_an_unknown_kind_is_refused(
    run: Callable, bac_file: Path, example_dir: Path, tmp_path: Path
) -> None:
    done = run(
        *("overlay", "roofline", "bac-pot4", "--model", bac_file),
        *("--images", example_dir / "digits_test.npz", "-o", tmp_path / "roof.gif"),
    )

    assert done.status == 2
    assert "expected .svg .png .pdf" in done.err
    assert not list(tmp_path.iterdir())
