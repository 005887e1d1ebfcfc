"""`bacmac inspect`: histograms, the trade-off, and model files that are not packed."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.cli.histogram import BARS, UNUSED, bar_rows, binned, on_the_grid, sparkline
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.pack.file import read_packed


class Cells(HTMLParser):
    """Every table's rows of cells, and the tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.captions: list[str] = []
        self._cell = self._caption = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
            self._cell = True
        if tag == "figcaption":
            self.captions.append("")
            self._caption = True

    def handle_endtag(self, tag):
        self._cell = self._cell and tag != "td"
        self._caption = self._caption and tag != "figcaption"

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data
        if self._caption:
            self.captions[-1] += data


def test_level_counts_are_those_of_the_file(run, bac_file):
    found = json.loads(run("inspect", bac_file, "--json").out)

    layers = {layer.name: layer for layer in read_packed(bac_file).model.layers}
    for row in found["layers"][:-1]:
        if row["weights"]:
            levels, counts = np.unique(layers[row["name"]].op.levels, return_counts=True)
            assert row["levels_used"] == levels.tolist()
            assert row["level_counts"] == counts.tolist()
    total = found["layers"][-1]
    assert sum(total["level_counts"]) == total["weights"]
    assert total["level_counts"][total["levels_used"].index(0)] == total["zeros"]
    assert total["products"] == sum(row["products"] for row in found["layers"][:-1])


def test_the_trade_off_holds_the_accuracy_that_run_measures(run, bac_file, test_images):
    words = ("--images", test_images, "--limit", "200", "--json")

    found = json.loads(run("inspect", bac_file, *words).out)["trade_off"]
    ran = json.loads(run("run", bac_file, *words).out)

    assert found["measured"]["n_correct"] == ran["correct"]
    assert found["measured"]["accuracy"] == ran["accuracy"]
    assert found["array"]["overlay"] == ran["overlay"] == "bac-pot4"
    cycles = sum(layer["cycles"] for layer in ran["layers"])
    assert found["array"]["work"]["cycles"] * ran["images"] == cycles
    assert found["stored_bits_per_weight"] == 8 * found["weight_bytes"] / found["n_weights"]
    assert found["possible_bytes"]["dense"] == found["weight_bytes"] == 9680 // 2
    assert found["possible_bytes"]["smallest each"] <= min(found["possible_bytes"].values())
    assert 0 < found["products_share"] < 1
    assert found["estimated_product_j"] > 0


@pytest.mark.parametrize("columns", [80, 120])
def test_every_view_fits_the_terminal(columns, run, mac_file, example_dir, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))

    for words in ([mac_file], [mac_file, "--layer", "fc"], [example_dir / "digits_cnn.onnx"]):
        outcome = run("inspect", *words)

        assert outcome.status == 0
        assert max(len(line) for line in outcome.out.splitlines()) <= columns
        assert "…" not in outcome.out


def test_one_layer_is_drawn_level_by_level(run, bac_file):
    outcome = run("inspect", bac_file, "--layer", "fc")

    lines = [line.split() for line in outcome.out.splitlines()]
    rows = {words[0]: words for words in lines if len(words) > 2 and words[2].endswith("%")}
    layer = next(x for x in read_packed(bac_file).model.layers if x.name == "fc")
    for level in SCHEMES["pot-4"].levels.tolist():
        assert int(rows[str(level)][1]) == int(np.count_nonzero(layer.op.levels == level))


def test_the_page_of_a_packed_model_says_what_its_json_says(run, bac_file, test_images, tmp_path):
    page = tmp_path / "page.html"
    words = ("--images", test_images, "--limit", "100", "--html", page, "--json")

    found = json.loads(run("inspect", bac_file, *words).out)

    text = page.read_text()
    cells = Cells(text)
    by_name = {row[0]: row for row in cells.rows if row}
    for layer in found["layers"]:
        row = by_name[layer["name"]]
        assert row[6] == layer["format"]
        assert row[7] == f"{layer['bytes']:,}"
        if layer["weights"]:
            assert row[8] == f"{layer['products']:,}"
            assert row[5] == f"{layer['sparsity']:.1%}"
    weighted = [layer for layer in found["layers"][:-1] if layer["weights"]]
    assert cells.tags.count("svg") == 1 + len(weighted)
    for layer, caption in zip(weighted, cells.captions[1:], strict=True):
        share = 100 * layer["zeros"] / layer["weights"]
        assert caption == f"{layer['weights']:,} weights, {share:.1f} % zero."
    assert f"{100 * found['trade_off']['measured']['accuracy']:.2f} ±" in by_name["accuracy"][1]
    assert "ESTIMATE" in by_name["energy of products"][1]
    assert "script" not in cells.tags
    assert "http" not in text.replace("http://www.w3.org/", "")


def test_a_float_model_is_told_as_one(run, example_dir):
    outcome = run("inspect", example_dir / "digits_cnn.onnx")
    found = json.loads(run("inspect", example_dir / "digits_cnn.onnx", "--json").out)

    assert "no: a float network" in outcome.out
    assert "the weights lie on none that are known" in outcome.out
    assert not found["quantized"]
    assert found["grids"] == {}
    ops = {layer["name"]: layer["op"] for layer in found["layers"]}
    assert (ops["conv1"], ops["fc"]) == ("conv", "dense")
    assert all(layer.get("kept") is None for layer in found["layers"])


def test_levels_are_recognized_from_floats(run, example_dir, tmp_path):
    folder = _on_levels(example_dir, tmp_path)

    found = json.loads(run("inspect", folder / "digits_cnn.json", "--json").out)
    outcome = run("inspect", folder / "digits_cnn.json", "--html", tmp_path / "page.html")
    drawn = run("inspect", folder / "digits_cnn.json", "--layer", "fc")

    layer = next(layer for layer in found["layers"] if layer["name"] == "fc")
    assert layer["recognized"]["family"] == "PoT"
    assert layer["recognized"]["scheme"] == "pot-4"
    assert [off["channel"] for off in layer["recognized"]["off_grid"]] == [3]
    assert "channel 3 is off grid" in outcome.out
    assert (tmp_path / "page.html").read_text().count("<svg") == 1
    assert drawn.status == 0
    assert "pot-4" in drawn.out


def test_a_file_with_its_own_integers_shows_them(run, real_data, example_dir, tmp_path):
    """The published APoT network where it is at hand; else the example on levels."""
    if real_data is None:
        file, scheme = _on_levels(example_dir, tmp_path) / "digits_cnn.json", "pot-4"
    else:
        file, scheme = real_data / "potacc_apot_resnet20_4bit.tflite", "apot-4"

    found = json.loads(run("inspect", file, "--json").out)

    schemes = [layer["recognized"]["scheme"] for layer in found["layers"]
               if layer.get("recognized")]  # fmt: skip
    if real_data is None:
        assert schemes.count(scheme) == 1
        return
    assert found["quantized"]
    assert len(found["grids"]) == len(found["layers"]) + 1
    assert schemes == ["uniform-8", *[scheme] * 20, "uniform-8"]
    kept = next(layer["kept"] for layer in found["layers"] if layer["name"] == "conv2d_5")
    assert kept["levels_used"][-1] == 127


def test_what_does_not_go_together_is_refused(run, bac_file, test_images, example_dir, tmp_path):
    model = example_dir / "digits_cnn.json"
    outcomes = [
        run("inspect", bac_file, "--layer", "nothing", "--html", tmp_path / "a.html"),
        run("inspect", model, "--layer", "nothing"),
        run("inspect", model, "--layer", "fc"),
        run("inspect", model, "--images", test_images),
        run("inspect", tmp_path / "gone.onnx"),
        run("inspect", bac_file, "--overlay", "bac-pot17"),
        run("inspect", bac_file, "--html", tmp_path / "no" / "a.html"),
    ]

    fragments = ["block.conv1", "block.conv1", "in floats", "a packed model", "gone.onnx",
                 "bac-pot4", "cannot be written"]  # fmt: skip
    for outcome, fragment in zip(outcomes, fragments, strict=True):
        assert outcome.status == 2
        assert len(outcome.err.splitlines()) == 1
        assert fragment in outcome.err
    assert list(tmp_path.iterdir()) == []


@given(
    scheme=st.sampled_from(sorted(SCHEMES)),
    most=st.integers(15, 120),
    seed=st.integers(0, 2**32 - 1),
)
def test_bins_hold_every_weight_once_and_are_symmetric(scheme, most, seed):
    rng = np.random.default_rng(seed)
    levels = SCHEMES[scheme].levels.tolist()
    counts = rng.integers(0, 50, len(levels)).tolist()
    grid = on_the_grid(scheme, levels, counts)

    bins = binned(grid, most)

    assert len(bins) <= most
    assert sum(count for *_, count in bins) == sum(counts)
    assert [(-high, -low) for low, high, _ in reversed(bins)] == [b[:2] for b in bins]
    assert len(sparkline(grid, most)) == len(bins)
    assert sum(count for _, count, _, _ in bar_rows(grid, most=most, width=30)) == sum(counts)


def test_a_level_without_weights_never_looks_like_one_with_few():
    grid = [(-2, 1), (-1, 0), (0, 99_999), (1, 10_000), (2, 5_000)]

    assert sparkline(grid, 15) == f"{BARS[0]}{UNUSED}{BARS[-1]}{BARS[-1]}{BARS[3]}"
    bars = {name: bar for name, _, _, bar in bar_rows(grid, most=15, width=10)}
    assert bars["-1"] == ""
    assert bars["-2"] == "▏"
    assert bars["0"] == "█" * 10


def _on_levels(example_dir: Path, tmp_path: Path) -> Path:
    """The example with its dense layer on power-of-two levels but for one channel."""
    folder = tmp_path / "model"
    folder.mkdir()
    with np.load(example_dir / "digits_cnn.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    weight = arrays["fc.weight"].astype(np.float64)
    powers = np.sign(weight) * 2.0 ** np.clip(np.round(np.log2(np.abs(weight) + 1e-9)), -8, -2)
    powers[3] = weight[3]
    arrays["fc.weight"] = powers.astype(np.float32)
    np.savez(folder / "digits_cnn.npz", **arrays)
    (folder / "digits_cnn.json").write_bytes((example_dir / "digits_cnn.json").read_bytes())
    return folder
