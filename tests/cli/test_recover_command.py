"""`bacmac recover` from the command line, on the shipped digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bacmac.host.pack.file import read_packed

Run = Callable[..., Any]


@pytest.fixture
def arguments(example_dir: Path, tmp_path: Path) -> list[object]:
    return [
        "recover",
        example_dir / "digits_cnn.json",
        "--images",
        example_dir / "digits_calibration.npz",
        "--output",
        tmp_path / "packed.safetensors",
        "--calibration-images",
        64,
        "--threads",
        1,
        "--epochs",
        1,
    ]


def test_a_network_is_trained_packed_and_told_of(
    run: Run, arguments: list[object], tmp_path: Path
) -> None:
    done = run(*arguments, "--sparsity", 0.5, "--prune-epochs", 1, "--format", "auto")

    assert done.status == 0, done.err
    assert "held out" in done.out
    assert "round, epoch 1 of 1: loss" in done.err
    packed = read_packed(tmp_path / "packed.safetensors")
    assert packed.model.provenance["recovery"]["options"]["prune_epochs"] == 1  # type: ignore[index]


def test_json_and_a_checkpoint_that_a_second_run_finds_done(
    run: Run, arguments: list[object], tmp_path: Path
) -> None:
    more = ("--sparsity", 0.3, "--checkpoint", tmp_path / "run.checkpoint", "--json")

    first = run(*arguments, *more)
    written = (tmp_path / "packed.safetensors").read_bytes()
    second = run(*arguments, *more)

    assert first.status == second.status == 0, first.err + second.err
    assert json.loads(first.out)["epochs"] == json.loads(second.out)["epochs"]
    assert [report["epoch"] for report in json.loads(first.out)["epochs"]] == [0, 1]
    assert "epoch 1 of 1" not in second.err
    assert (tmp_path / "packed.safetensors").read_bytes() == written


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--sparsity", 1.0), "sparsity"),
        (("--prune-epochs", 1), "prune_epochs"),
        (("--lr", 0), "learning_rate"),
        (("--batch", 0), "batch"),
        (("--held-out", 0.95), "held_out"),
        (("--checkpoint", "/nowhere/run.checkpoint"), "cannot be written"),
        (("--threads", -1), "threads"),
    ],
)
def test_bad_options_end_in_one_line(
    run: Run, arguments: list[object], tmp_path: Path, more: tuple[object, ...], said: str
) -> None:
    done = run(*arguments, *more)

    assert done.status == 2
    assert said in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_bad_image_set_is_named(run: Run, arguments: list[object], tmp_path: Path) -> None:
    bad = tmp_path / "bad.npz"
    for content in (b"", b"PK\x03\x04 no archive", b"\x80\x04]"):
        bad.write_bytes(content)
        arguments[3] = bad
        done = run(*arguments)
        assert done.status == 2
        assert "bad.npz" in done.err
    np.savez(bad, images=np.zeros((4, 1, 9, 9), np.uint8))
    done = run(*arguments)
    assert done.status == 2
    assert "images" in done.err
    assert not (tmp_path / "packed.safetensors").exists()
