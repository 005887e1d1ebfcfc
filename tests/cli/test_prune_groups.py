"""`bacmac pack --prune-groups`: the groups of an overlay, counted, skipped, and still right."""

from __future__ import annotations

import json


def test_pack_empties_the_overlays_groups_and_the_array_skips_them(run, example_dir, tmp_path):
    dense, pruned = tmp_path / "dense.safetensors", tmp_path / "pruned.safetensors"
    words = ("pack", example_dir / "digits_cnn.json", "--calibration",
             example_dir / "digits_calibration.npz", "--overlay", "bac-pot4", "-o")  # fmt: skip
    run(*words, dense)

    outcome = run(*words, pruned, "--prune-groups", "0.5")

    assert outcome.status == 0
    assert "empty groups save 4" in outcome.err
    assert "empty" in outcome.out
    images = example_dir / "digits_test.npz"
    whole, less = (
        json.loads(run("run", file, "--images", images, "--limit", "64", "--json").out)
        for file in (dense, pruned)
    )
    cycles = [sum(layer["cycles"] for layer in found["layers"]) for found in (whole, less)]
    assert cycles[1] < 0.75 * cycles[0]


def test_the_layer_table_names_groups_too_and_json_counts_them(run, example_dir, tmp_path):
    table = tmp_path / "table.json"
    table.write_text('{"fc": {"group_sparsity": 0.5}}')

    outcome = run("pack", example_dir / "digits_cnn.json", "--calibration",
                  example_dir / "digits_calibration.npz", "--overlay", "bac-pot4",
                  "--layer-table", table, "-o", tmp_path / "net", "--json")  # fmt: skip

    layers = {layer["name"]: layer for layer in json.loads(outcome.out)["layers"]}
    assert (layers["fc"]["groups"], layers["fc"]["empty_groups"]) == (2, 1)
    assert layers["block.conv1"]["empty_groups"] == 0


def test_groups_without_an_overlay_are_refused_with_what_to_say(run, example_dir, tmp_path):
    outcome = run("pack", example_dir / "digits_cnn.json", "--calibration",
                  example_dir / "digits_calibration.npz", "--prune-groups", "0.5",
                  "-o", tmp_path / "net")  # fmt: skip

    assert outcome.status != 0
    assert "--overlay" in outcome.err
    assert not (tmp_path / "net").exists()


def test_a_share_that_is_none_is_refused(run, example_dir, tmp_path):
    outcome = run("pack", example_dir / "digits_cnn.json", "--calibration",
                  example_dir / "digits_calibration.npz", "--prune-groups", "1.0",
                  "--overlay", "bac-pot4", "-o", tmp_path / "net")  # fmt: skip

    assert outcome.status != 0
    assert "0 to below 1" in outcome.err


def test_a_structure_is_named_on_the_command_line_and_in_the_table(run, example_dir, tmp_path):
    table = tmp_path / "table.json"
    table.write_text('{"fc": {"structure": "2:4"}}')

    outcome = run("pack", example_dir / "digits_cnn.json", "--calibration",
                  example_dir / "digits_calibration.npz", "--structure", "tile", "--sparsity",
                  "0.4", "--scope", "layer", "--layer-table", table, "-o", tmp_path / "net",
                  "--json")  # fmt: skip

    layers = {layer["name"]: layer for layer in json.loads(outcome.out)["layers"]}
    total = layers["total"]
    assert total["empty_tiles"] / total["tiles"] > 0.3
    assert 0.5 <= layers["fc"]["sparsity"] < 0.6


def test_a_structure_that_is_none_is_refused(run, example_dir, tmp_path):
    outcome = run("pack", example_dir / "digits_cnn.json", "--calibration",
                  example_dir / "digits_calibration.npz", "--structure", "3:2", "-o",
                  tmp_path / "net")  # fmt: skip

    assert outcome.status == 2
    assert "structure: found '3:2'; expected one of weight, channel, block, tile" in outcome.err
    assert not (tmp_path / "net").exists()
