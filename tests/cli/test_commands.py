"""What each command prints and writes, on the shipped example."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bacmac.cli.main import COMMANDS


def _json(outcome):
    assert outcome.status == 0, outcome.err
    return json.loads(outcome.out)


def test_help_lists_every_command(run):
    outcome = run("--help")

    assert outcome.status == 0
    for command in COMMANDS:
        assert command in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, run):
    outcome = run(command, "--help")

    assert outcome.status == 0
    assert "Usage: bacmac" in outcome.out


def test_pack_prints_a_row_a_layer_and_says_what_is_next(run, example_dir, tmp_path):
    target = tmp_path / "net.safetensors"

    outcome = run(
        "pack",
        example_dir / "digits_cnn.json",
        "--sparsity",
        "0.5",
        "--calibration",
        example_dir / "digits_calibration.npz",
        "-o",
        target,
    )

    assert outcome.status == 0
    assert "block.conv2" in outcome.out
    assert "total" in outcome.out
    assert f"bacmac inspect {target}" in outcome.err
    assert target.is_file()


def test_pack_reaches_the_sparsity_and_reads_the_layer_table(run, example_dir, tmp_path):
    table = tmp_path / "table.json"
    table.write_text('{"fc": {"scheme": "uniform-8", "sparsity": 0.0}}')

    found = _json(
        run(
            "pack",
            example_dir / "digits_cnn.onnx",
            "--sparsity",
            "0.5",
            "--scope",
            "layer",
            "--layer-table",
            table,
            "--calibration",
            example_dir / "digits_calibration.npz",
            "-o",
            tmp_path / "net.safetensors",
            "--json",
        )
    )

    layers = {layer["name"]: layer for layer in found["layers"]}
    assert layers["fc"]["scheme"] == "uniform-8"
    assert layers["fc"]["sparsity"] < 0.1
    # rounding may add zeros to those that pruning made, never take one away
    assert 0.5 <= layers["block.conv1"]["sparsity"] < 0.55
    assert layers["block.conv1"]["scheme"] == "pot-4"


def test_packing_twice_gives_the_same_bytes(run, example_dir, tmp_path):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]

    for file in files:
        run("pack", example_dir / "digits_cnn.json", "--calibration",
            example_dir / "digits_calibration.npz", "-o", file)  # fmt: skip

    assert files[0].read_bytes() == files[1].read_bytes()


def test_inspect_agrees_with_what_the_file_holds(run, bac_file):
    found = _json(run("inspect", bac_file, "--json"))

    assert found["bytes"] == bac_file.stat().st_size
    assert found["layers"][-1]["name"] == "total"
    assert found["layers"][-1]["weights"] == sum(row["weights"] for row in found["layers"][:-1])
    assert found["layers"][0]["weight_shape"] == [16, 1, 3, 3]
    assert str(bac_file) in run("inspect", bac_file).out


def test_run_is_as_accurate_as_the_float_network_nearly_is(run, bac_file, test_images, tmp_path):
    target = tmp_path / "outputs.npz"

    found = _json(run("run", bac_file, "--images", test_images, "-o", target, "--json"))

    assert found["provenance"] == "functional"
    assert found["images"] == 500
    assert found["accuracy"] >= 0.97
    with np.load(target) as outputs, np.load(test_images) as images:
        assert outputs["values"].shape == (500, 10)
        assert np.count_nonzero(outputs["classes"] == images["labels"]) == found["correct"]


def test_run_tells_the_float_networks_accuracy_too(run, example_dir, test_images):
    for name in ("digits_cnn.onnx", "digits_cnn.json"):
        found = _json(run("run", example_dir / name, "--images", test_images, "--json"))

        assert found["provenance"] == "float"
        assert found["correct"] == 496  # what host/example/README.md says


def test_run_takes_the_normalization_of_a_float_network(run, example_dir, tmp_path, test_images):
    with np.load(test_images) as known:
        np.savez(tmp_path / "plain.npz", images=known["images"], labels=known["labels"])
    float_model = example_dir / "digits_cnn.json"

    right = _json(run("run", float_model, "--images", tmp_path / "plain.npz",
                      "--pixel-max", "16", "--json"))  # fmt: skip
    wrong = run("run", float_model, "--images", tmp_path / "plain.npz", "--json")

    assert right["correct"] == 496
    assert json.loads(wrong.out)["correct"] < 496
    assert "pixel / 255" in wrong.err


def test_run_refuses_a_normalization_for_a_packed_model(run, bac_file, test_images):
    outcome = run("run", bac_file, "--images", test_images, "--mean", "0.5")

    assert outcome.status == 2
    assert "the packed file remembers" in outcome.err


def test_run_gives_the_same_on_any_batch_size(run, bac_file, test_images):
    small = _json(run("run", bac_file, "--images", test_images, "--batch", "7", "--json"))
    large = _json(run("run", bac_file, "--images", test_images, "--json"))

    assert small["correct"] == large["correct"]
    assert small["counters"]["products_done"] == large["counters"]["products_done"]
    assert small["counters"]["images"] == 500


def test_run_tells_what_each_layer_did(run, bac_file, test_images):
    table = run("run", bac_file, "--images", test_images, "--limit", "20", "--layers")
    found = _json(run("run", bac_file, "--images", test_images, "--limit", "20", "--json"))

    counters, layers = found["counters"], found["layers"]
    assert [layer["images"] for layer in layers] == [20] * len(layers)
    for name in ("busy_cycles", "products_done", "products_isolated", "products_skipped"):
        assert sum(layer[name] for layer in layers) == counters[name], name
    assert sum(layer["cycles"] for layer in layers) < counters["cycles"], "streams come on top"
    assert all(0 <= layer["utilisation"] <= 1 for layer in layers)
    assert "utilisation" in table.out
    assert all(layer["name"] in table.out for layer in layers)


def test_a_model_of_eight_bits_finds_the_overlay_that_runs_it(run, mac_file, test_images):
    found = _json(run("run", mac_file, "--images", test_images, "--limit", "10", "--json"))

    assert found["overlay"] == "mac-uniform8"
    assert found["images"] == 10


def test_verify_finds_two_devices_equal(run, bac_file, test_images):
    outcome = run("verify", bac_file, "--images", test_images, "--limit", "40")

    assert outcome.status == 0
    assert "equal" in outcome.out


def test_verify_names_the_first_output_that_differs(run, bac_file, test_images):
    outcome = run("verify", bac_file, "--images", test_images, "--limit", "40",
                  "--device", "functional:flip-output-bit=0")  # fmt: skip

    assert outcome.status == 1
    assert "the first is image 0, channel 0, row 0, column 0" in outcome.out


def test_overlay_check_says_plainly_that_there_is_no_bitstream(run):
    outcome = run("overlay", "check", "bac-pot4")

    assert outcome.status == 0
    assert "no bitstream" in outcome.out
    assert "hw_src/README.md" in outcome.out


def test_overlay_list_and_show_speak_json(run):
    names = [row["name"] for row in _json(run("overlay", "list", "--json"))]
    shown = _json(run("overlay", "show", "mac-uniform8", "--json"))

    assert names == ["bac-pot4", "bac-pot4e4", "mac-uniform4", "mac-uniform8"]
    assert shown["manifest"]["scheme"] == "uniform-8"
    assert shown["registers"]["registers"][0]["name"] == "ID"


def test_overlay_hwh_writes_the_hand_off(run, tmp_path):
    target = tmp_path / "bac-pot4.hwh"

    outcome = run("overlay", "hwh", "bac-pot4", "-o", target)

    assert outcome.status == 0
    assert b"STREAM_SELECT" in target.read_bytes()


def test_power_rails_are_marked_as_emulated(run):
    rows = _json(run("power", "rails", "--json"))["rails"]

    assert {row["rail"] for row in rows} == {"INT", "12V"}
    assert all(row["emulated"] for row in rows)
    assert "EMULATED" in run("power", "rails").out


def test_power_record_writes_the_readings_it_sums_up(run, tmp_path):
    target = tmp_path / "trace.csv"

    found = _json(run("power", "record", "--seconds", "2", "--rail", "12V", "-o", target, "--json"))

    with target.open() as handle:
        rows = list(csv.DictReader(handle))
    watts = [int(row["voltage_mv"]) * int(row["current_ma"]) * 1e-6 for row in rows]
    assert len(rows) == found["rails"][0]["samples"]
    assert found["rails"][0]["mean_w"] == pytest.approx(np.mean(watts), rel=1e-3)


def test_doctor_finds_the_emulated_board_healthy(run):
    found = _json(run("doctor", "--json"))

    assert found["healthy"]
    assert "functional:" in run("doctor").out


def test_compare_writes_what_it_prints(run, bac_file, mac_file, test_images, tmp_path):
    found = _json(
        run(
            "compare",
            "--bac",
            bac_file,
            "--mac",
            mac_file,
            "--images",
            test_images,
            "--blocks",
            "3",
            "-o",
            tmp_path / "out",
            "--json",
        )
    )

    assert json.loads((tmp_path / "out.json").read_text()) == found
    page = (tmp_path / "out.html").read_text()
    assert "EMULATED" in page
    assert "<svg" in page
    assert 'src="http' not in page


def test_compare_samples_only_the_rails_that_are_named(
    run, bac_file, mac_file, test_images, tmp_path
):
    arguments = ["compare", "--bac", bac_file, "--mac", mac_file, "--images", test_images,
                 "--blocks", "3", "--no-report", "-o", tmp_path / "c"]  # fmt: skip

    one = run(*arguments, "--rail", "12V", "--json")
    none = run(*arguments, "--rail", "13V")

    assert [rail["rail"]["name"] for rail in json.loads(one.out)["rails"]] == ["12V"]
    assert none.status == 2
    assert "'13V'" in none.err


def test_compare_repeats_itself_with_the_same_seed(run, bac_file, mac_file, test_images, tmp_path):
    texts = []
    for name in ("a", "b"):
        run("compare", "--bac", bac_file, "--mac", mac_file, "--images", test_images,
            "--blocks", "2", "--no-report", "-o", tmp_path / name)  # fmt: skip
        texts.append((tmp_path / f"{name}.json").read_text())

    assert texts[0] == texts[1]


def test_demo_prints_both_ratios_and_writes_both_reports(run, tmp_path):
    outcome = run("demo", "-o", tmp_path / "demo", "--blocks", "3")

    assert outcome.status == 0
    assert "EMULATED" in outcome.out
    assert "Against uniform-8 BAC saves" in outcome.out
    assert "weights of 4 bits in place of 8" in outcome.out
    for name in ("pot-4-against-uniform-8", "pot-4-against-uniform-4"):
        assert (tmp_path / "demo" / f"{name}.html").is_file()


def _start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bacmac.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def _wait_until_busy(process: subprocess.Popen[str], cpu_s: float) -> None:
    """Until it has used that much CPU: start-up takes half a second of it, the work minutes."""
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    while process.poll() is None:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        if (int(fields[11]) + int(fields[12])) / ticks_per_s >= cpu_s:
            return
        time.sleep(0.05)


def test_ctrl_c_in_the_middle_of_packing_leaves_the_old_file(
    run, example_dir, tmp_path, monkeypatch
):
    target = tmp_path / "net.safetensors"
    target.write_bytes(b"what was there before")

    def interrupted(self: Path, data: bytes) -> int:
        self.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    outcome = run("pack", example_dir / "digits_cnn.json", "--calibration",
                  example_dir / "digits_calibration.npz", "-o", target)  # fmt: skip

    assert outcome.status == 130
    assert outcome.err.strip().startswith("Interrupted")
    assert target.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [target]


def test_ctrl_c_leaves_nothing_half_written_and_status_130(
    bac_file, mac_file, test_images, tmp_path
):
    process = _start("compare", "--bac", bac_file, "--mac", mac_file, "--images", test_images,
                     "--blocks", "1000", "-o", tmp_path / "out")  # fmt: skip
    try:
        _wait_until_busy(process, cpu_s=2.0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode == 130
    assert err.strip().splitlines()[-1].startswith("Interrupted")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_the_old_file_stays(example_dir, tmp_path):
    target = tmp_path / "net.safetensors"
    target.write_bytes(b"what was there before")

    process = _start(
        "pack", example_dir / "digits_cnn.json", "--calibration",
        example_dir / "digits_calibration.npz", "-o", target,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )  # fmt: skip
    _, err = process.communicate(timeout=60)

    assert process.returncode == 2
    assert err.startswith("Error: ")
    assert "cannot be written" in err
    assert target.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_closed_pipe_is_no_traceback(bac_file):
    process = _start("inspect", bac_file)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()

    assert err == ""
    assert process.returncode == 1


def test_help_does_not_import_numpy():
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bacmac.cli", "--help"],
        capture_output=True, text=True, check=True, env={**os.environ}, cwd=Path.cwd(),
    )  # fmt: skip

    assert "bacmac.cli.main" in found.stderr
    assert " numpy\n" not in found.stderr


def test_run_takes_weights_alone_with_their_layer_list(run, example_dir, test_images):
    outcome = run(
        "run",
        example_dir / "digits_cnn.npz",
        "--layer-list",
        example_dir / "digits_cnn.json",
        "--images",
        test_images,
        "--json",
    )

    assert outcome.status == 0
    assert json.loads(outcome.out)["accuracy"] > 0.98
