"""`bacmac run` as a stream: what it tells of it, faults from the command line, marks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

MANIFEST = Path(__file__).parents[2] / "overlays" / "manifests" / "bac-pot4.toml"


@pytest.fixture
def stream(run, bac_file, test_images):
    """Run the example, 200 images in batches of 50, with more options."""

    def call(*options, device="functional:"):
        return run(
            "run", bac_file, "--images", test_images, "--limit", 200, "--batch", 50,
            "--device", device, *options,
        )  # fmt: skip

    return call


def test_json_tells_the_stream_in_numbers(stream):
    told = json.loads(stream("--json", "--buffers", 3).out)["stream"]

    assert (told["batches"], told["images"], told["n_verified"]) == (4, 200, 8)
    assert told["bytes_in"] == 200 * 64
    assert 0 < told["latency_p50_s"] <= told["latency_p90_s"] <= told["latency_max_s"]
    assert told["images_per_s"] == pytest.approx(200 / told["wall_s"])
    assert 0.5 < told["busy_share"] <= 1
    assert told["retries"] == []
    assert told["clock"] == "virtual"
    assert "nearest rank" in told["percentile_method"]


def test_the_table_says_that_time_is_virtual(stream):
    outcome = stream()

    assert outcome.status == 0
    for words in (
        "4 batches in",
        "(virtual)",
        "p50",
        "p99",
        "waiting for input",
        "8 images of 200",
    ):
        assert words in outcome.out


@pytest.mark.parametrize(("verify", "n"), [("all", 200), ("sample", 8), ("none", 0)])
def test_as_much_is_verified_as_was_asked(stream, verify, n):
    told = json.loads(stream("--verify", verify, "--json").out)

    assert told["stream"]["n_verified"] == n
    assert told["accuracy"] > 0.95


def test_a_batch_larger_than_the_chip_holds_is_split(run, bac_file, test_images):
    told = json.loads(
        run("run", bac_file, "--images", test_images, "--batch", 100_000, "--json").out
    )

    assert told["images"] == 500


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("stall-send=4", "input starved"),
        ("stall-receive=1", "output blocked"),
        ("stop-batch=1", "the accelerator has stopped"),
        ("short-send=4", "short input packet"),
        ("long-receive=1", "over-long packet"),
        ("slave-error=4", "answered with an error by memory"),
        ("decode-error=4", "an address that nothing answers"),
        ("free-early=4", "its buffer was freed"),
        ("drop-send=1", "more of the weights load"),
    ],
)
def test_a_fault_is_one_line_and_with_json_its_state(stream, fault, cause):
    outcome = stream("--json", device=f"functional:{fault}")

    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 1
    assert outcome.err.startswith(f"Error: functional:{fault} ")
    assert cause in outcome.err
    told = json.loads(outcome.out)
    assert told["error"] in outcome.err
    assert cause in told["state"]["cause"]
    assert told["state"]["send"]["asked_bytes"] > 0
    assert {"status", "counters", "later", "apart_s"} <= set(told["state"])


def test_with_json_every_error_is_json(stream):
    outcome = stream("--json", device="functional:wrong-id=1")

    assert outcome.status == 2
    told = json.loads(outcome.out)
    assert "register ID: found 0x00000001" in told["error"]
    assert told["state"] is None


def test_without_json_a_fault_leaves_standard_output_empty(stream):
    outcome = stream(device="functional:stall-send=4")

    assert (outcome.status, outcome.out) == (2, "")


@pytest.mark.parametrize("fault", ["stall-send=4", "stop-batch=0", "free-early=6"])
def test_with_retry_the_run_ends_well_and_tells_of_it(stream, fault):
    clean = json.loads(stream("--json").out)
    again = stream("--retry", "--json", device=f"functional:{fault}")
    table = stream("--retry", device=f"functional:{fault}")

    told = json.loads(again.out)
    (cause,) = told["stream"]["retries"]
    assert (told["correct"], told["counters"]) == (clean["correct"], clean["counters"])
    assert cause in table.out
    assert "a batch was run twice" in table.out


def test_a_difference_exits_1_and_tells_place_and_layer(stream):
    outcome = stream("--json", device="functional:flip-output-bit=5")

    assert outcome.status == 1
    assert "the result is not used" in outcome.err
    state = json.loads(outcome.out)["state"]
    assert (state["image"], state["channel"]) == (0, 0)
    assert state["found"] == state["expected"] ^ 32
    assert state["layer"] == "conv1"


@pytest.fixture
def late(tmp_path):
    """The shipped overlay, built with a slack below zero."""
    path = tmp_path / "bac-pot4.toml"
    path.write_text(MANIFEST.read_text() + "slack_ns = -0.125\n")
    return path


@pytest.mark.parametrize("command", ["run", "verify"])
def test_an_overlay_that_missed_timing_is_used_only_on_purpose(
    run, bac_file, test_images, late, command
):
    words = [command, bac_file, "--images", test_images, "--limit", 10, "--overlay", late]

    refused = run(*words)
    accepted = run(*words, "--accept-timing")
    told = run(*words, "--accept-timing", "--json")

    assert refused.status == 2
    assert "worst slack -0.125 ns" in refused.err
    assert "--accept-timing" in refused.err
    assert "timing not met: worst slack -0.125 ns" in accepted.out
    assert json.loads(told.out)["marks"] == ["timing not met: worst slack -0.125 ns (manifest)"]


def test_compare_marks_what_it_accepts(run, bac_file, mac_file, test_images, late, tmp_path):
    words = ["compare", "--bac", bac_file, "--mac", mac_file, "--images", test_images]
    words += ["--limit", 20, "--blocks", 2, "--run-seconds", 2, "--idle-seconds", 1]
    words += ["--bac-overlay", late, "--no-report", "-o", tmp_path / "found"]

    refused = run(*words)
    accepted = run(*words, "--accept-timing", "--verify", "all")

    assert refused.status == 2
    assert not refused.out
    told = json.loads((tmp_path / "found.json").read_text())
    assert "MARKED, bac-pot4: timing not met: worst slack -0.125 ns" in told["headline"]
    assert "MARKED" in accepted.out
    assert told["arms"]["bac"]["n_verified"] == 20
