"""`bacmac sweep`: resumable, the same however it is made, and one set of numbers everywhere."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.cli.main import main
from bacmac.cli.scatter import Dot, scatter
from bacmac.host.runtime import sweep as sweep_module
from bacmac.power.sweep import error_ticks

QUICK = ("--vary", "rounding=nearest", "--vary", "bias-correction=off", "--limit", "150")
"""Points of a twentieth of a second."""


class Page(HTMLParser):
    """The table of points by number, all text, and what a page could load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[int, list[str]] = {}
        self.heads: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self._row: list[str] | None = None
        self._head = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.tags.append(tag)
        self.loads += [
            value
            for name, value in attrs
            if name in ("src", "href", "xlink:href") and not str(value).startswith("#")
        ]
        number = re.fullmatch(r"point-(\d+)", known.get("id") or "")
        if tag == "tr":
            self._row = self.rows.setdefault(int(number[1]), []) if number else None
        if tag == "td" and self._row is not None:
            self._row.append("")
        if tag == "th":
            self.heads.append("")
            self._head = True

    def handle_endtag(self, tag):
        if tag == "th":
            self._head = False

    def handle_data(self, data):
        self.text.append(data)
        if self._row:
            self._row[-1] += data
        if self._head:
            self.heads[-1] += data


@pytest.fixture(scope="module")
def words(example_dir: Path) -> list[object]:
    """A sweep of four points, and the model as it is."""
    return ["sweep", example_dir / "digits_cnn.json", "--images", example_dir / "digits_test.npz",
            "--calibration", example_dir / "digits_calibration.npz",
            "--scheme", "uniform-8,pot-4", "--sparsity", "0,0.5", *QUICK]  # fmt: skip


@pytest.fixture(scope="module")
def swept(words, tmp_path_factory) -> tuple[Path, dict]:
    """The folder of that sweep, made at once in one process, and its JSON."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in (*words, "-o", folder)])
    assert ended.value.code == 0
    return folder, json.loads((folder / "sweep.json").read_text())


def test_json_csv_and_page_say_the_same(run, words, swept):
    folder, found = swept

    assert json.loads(run(*words, "-o", folder, "--json").out) == found
    assert (found["schema"], found["schema_version"]) == ("bacmac.sweep", 1)
    assert [p["options"]["scheme"] for p in found["points"]] == ["uniform-8"] * 2 + ["pot-4"] * 2
    with (folder / "sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    page = Page((folder / "sweep.html").read_text())
    heads = page.heads[: len(page.rows[1])]
    assert len(lines) == len(page.rows) == len(found["points"]) == 4
    for point, line in zip(found["points"], lines, strict=True):
        assert line["scheme"] == point["options"]["scheme"]
        assert float(line["sparsity"]) == point["options"]["sparsity"]
        for name in ("accuracy", "stored_bits_per_weight", "products", "estimated_product_j"):
            assert float(line[name]) == point[name]
        assert line["bits_standing"] == point["standing"]["bits"]["place"]
        cells = dict(zip(heads, page.rows[point["number"]], strict=True))
        assert cells["scheme"] == point["options"]["scheme"]
        error = 100 * point["standard_error"]
        assert cells["accuracy, %"] == f"{100 * point['accuracy']:.2f} ± {error:.2f}"
        assert cells["bits"].split()[0] == f"{point['stored_bits_per_weight']:.2f}"
        assert cells["bytes"] == f"{point['weight_bytes']:,}"
        assert cells["products"].split()[0] == f"{100 * point['products_share']:.1f}"
        assert cells["array cycles"] == f"{point['array']['cycles']:,}"
        marks = {"front": ["●"], "noise": ["○"], "behind": []}
        assert cells["bits"].split()[1:] == marks[point["standing"]["bits"]["place"]]


def test_the_page_loads_nothing_and_says_what_is_an_estimate(swept):
    folder, _ = swept

    page = Page((folder / "sweep.html").read_text())

    assert page.loads == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 3
    text = " ".join(" ".join(page.text).split())
    assert "Energy is an ESTIMATE" in text
    assert "ESTIMATED energy of products" in text
    assert "McNemar" in text


def test_the_numbers_are_those_of_pack_and_run(swept, run, example_dir, test_images, tmp_path):
    _, found = swept
    packed = tmp_path / "one.safetensors"
    run("pack", example_dir / "digits_cnn.json", "--scheme", "pot-4", "--sparsity", "0.5",
        "--calibration", example_dir / "digits_calibration.npz", "--rounding", "nearest",
        "--bias-correction", "off", "-o", packed)  # fmt: skip

    ran = json.loads(run("run", packed, "--images", test_images, "--limit", "150", "--json").out)
    seen = json.loads(run("inspect", packed, "--json").out)

    point = found["points"][3]
    assert point["options"]["sparsity"] == 0.5
    assert point["n_correct"] == ran["correct"]
    assert point["n_images"] == 150
    assert point["weight_bytes"] == seen["trade_off"]["possible_bytes"]["smallest each"]
    assert point["array"]["overlay"] == ran["overlay"]
    assert point["array"]["cycles"] * 150 == sum(layer["cycles"] for layer in ran["layers"])
    assert point["products"] == seen["trade_off"]["n_products"]
    assert point["estimated_product_j"] == seen["trade_off"]["estimated_product_j"]


def test_a_sweep_in_parts_is_the_sweep_at_once(run, words, swept, tmp_path):
    at_once, _ = swept
    parts = tmp_path / "parts"
    first = [*words, "-o", parts]
    first[first.index("uniform-8,pot-4")] = "pot-4"

    assert run(*first).status == 0
    outcome = run(*words, "-o", parts)

    assert outcome.status == 0
    for name in ("sweep.json", "sweep.csv", "sweep.html"):
        assert (parts / name).read_bytes() == (at_once / name).read_bytes()
    names = [sorted(p.name for p in (f / "points").iterdir()) for f in (parts, at_once)]
    assert names[0] == names[1]


def test_after_an_interrupt_the_same_command_goes_on(run, words, swept, tmp_path, monkeypatch):
    at_once, _ = swept
    real, made = sweep_module.run_point, []

    def interrupted(spec, **options):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(spec)
        return real(spec, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "run_point", interrupted)
        outcome = run(*words, "-o", tmp_path / "again")
    kept = len(list((tmp_path / "again" / "points").iterdir()))
    resumed = run(*words, "-o", tmp_path / "again")

    assert outcome.status == 130
    assert "2 of 5 points are kept" in outcome.err
    assert kept == 2
    assert resumed.status == 0
    for name in ("sweep.json", "sweep.csv", "sweep.html"):
        assert (tmp_path / "again" / name).read_bytes() == (at_once / name).read_bytes()


def test_two_processes_make_the_same_and_keep_the_models(run, words, swept, tmp_path):
    at_once, found = swept

    outcome = run(*words, "-o", tmp_path / "two", "--jobs", "2", "--keep")

    assert outcome.status == 0, outcome.err
    assert (tmp_path / "two" / "sweep.json").read_bytes() == (at_once / "sweep.json").read_bytes()
    packed = {p.name: p.stat().st_size for p in (tmp_path / "two" / "packed").iterdir()}
    assert packed == {
        f"{point['key'][:16]}.safetensors": point["file_bytes"] for point in found["points"]
    }


def test_ctrl_c_ends_all_processes_and_keeps_what_is_done(words, tmp_path):
    folder = tmp_path / "out"
    many = [str(word) for word in (*words, "-o", folder, "--jobs", "2", "--keep")]
    many[many.index("0,0.5")] = ",".join(f"{share / 100:g}" for share in range(40))
    process = subprocess.Popen(
        [sys.executable, "-m", "bacmac.cli", *many],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    points = folder / "points"
    deadline = time.monotonic() + 180
    while not (points.is_dir() and any(points.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)

    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
    _, err = process.communicate(timeout=180)

    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert re.search(r"\d+ of 81 points are kept", err)
    files = list(folder.rglob("*"))
    assert [file for file in files if file.name.endswith(".part")] == []
    for file in points.iterdir():
        json.loads(file.read_text())
    deadline = time.monotonic() + 30
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _alive(process.pid) == []


def _alive(session: int) -> list[str]:
    """Processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it ended just now
            continue
        if int(of) == session and state != "Z":
            found.append((path.parent / "cmdline").read_text())
    return found


def test_images_are_never_both_calibrated_on_and_measured(run, example_dir, test_images, tmp_path):
    outcome = run("sweep", example_dir / "digits_cnn.json", "--images", test_images, "--scheme",
                  "pot-4", "--sparsity", "0", *QUICK[:-2], "-o", tmp_path, "--json")  # fmt: skip

    found = json.loads(outcome.out)
    assert "images 1 to 250" in outcome.err
    assert "250 others" in outcome.err
    assert (found["calibration"]["start"], found["calibration"]["stop"]) == (0, 250)
    assert (found["test"]["start"], found["test"]["stop"]) == (250, 500)
    assert found["points"][0]["n_images"] == 250


def test_what_cannot_be_made_is_told_and_the_rest_is_made(run, words, tmp_path):
    words = [*words, "-o", tmp_path / "out"]
    words[words.index("uniform-8,pot-4")] = "binary,pot-4"

    outcome = run(*words)

    assert outcome.status == 0
    found = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert [refused["options"]["scheme"] for refused in found["refused"]] == ["binary"]
    assert len(found["points"]) == 3
    assert "Refused: binary" in outcome.out
    assert "Refused" in Page((tmp_path / "out" / "sweep.html").read_text()).text


@pytest.mark.parametrize("columns", [80, 120])
def test_the_terminal_is_never_too_narrow(columns, run, words, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))

    outcome = run(*words, "-o", tmp_path / "out", "--no-report")

    assert outcome.status == 0
    assert max(len(line) for line in outcome.out.splitlines()) <= columns
    assert "…" not in outcome.out
    assert "accuracy against bits stored per weight" in outcome.out
    assert "No certain loss" in outcome.out
    assert not (tmp_path / "out" / "sweep.html").exists()


@given(low=st.floats(1e-4, 0.5), ratio=st.floats(1.1, 500), most=st.integers(5, 13))
def test_an_axis_names_some_errors_with_room_between(low, ratio, most):
    high = min(low * ratio, 1.0)

    ticks = sorted(error_ticks(low, high, most))

    assert 1 <= len(ticks) <= most + 1
    assert low <= ticks[0]
    assert ticks[-1] <= high
    apart = np.diff(np.log(ticks))
    assert (apart >= np.log(high / low) / most - 1e-12).all()


def test_the_drawing_places_marks_and_labels():
    dots = [
        Dot(2.0, 0.10, "front", "7"),
        Dot(4.0, 0.05, "front", "12"),
        Dot(4.0, 0.10, "noise", "3"),
    ]
    dots.append(Dot(3.0, 0.40, "behind", "1"))

    drawn = scatter(
        dots, width=60, height=14, line=0.05, line_label="as it is", cost_text=str, least_error=1e-4
    )

    lines = drawn.splitlines()
    assert len(lines) == 14
    assert max(map(len, lines)) <= 60
    assert "as it is" in lines[1]
    assert lines[1].endswith("12●")
    same = next(line for line in lines if "7●" in line)
    assert same.endswith("○")
    assert sum(line.count("·") for line in lines) == 1
    assert lines[-1].split() == ["2.0", "2.5", "3.0", "3.5", "4.0"]


def _without_labels(folder: Path) -> Path:
    path = folder / "plain.npz"
    np.savez(path, images=np.zeros((4, 8, 8), np.uint8))
    return path


BAD = {
    "no scheme of that name": (["--scheme", "pot-17"], "one of uniform-8"),
    "no scheme at all": (["--scheme", ","], "OPTION=V"),
    "share of one": (["--sparsity", "1"], "0 to below 1"),
    "share that is no number": (["--sparsity", "half"], "a number"),
    "share that is NaN": (["--sparsity", "nan"], "0 to below 1"),
    "option that is none": (["--vary", "frobnicate=1"], "no such option"),
    "option without values": (["--vary", "pruning"], "OPTION=V"),
    "option twice": (["--vary", "scheme=pot-4"], "twice"),
    "option of many values": (["--vary", "schemes=pot-4"], "no such option"),
    "pruning that is none": (["--vary", "pruning=hope"], "magnitude"),
    "bits out of range": (["--vary", "activation-bits=9"], "2 to 8"),
    "bits that are no number": (["--vary", "activation-bits=six"], "a whole number"),
    "too many points": (
        ["--sparsity", ",".join(f"{i / 20_000}" for i in range(2_001))],
        "10,000 at most",
    ),
    "overlay that is none": (["--overlay", "bac-pot17"], "bac-pot4"),
    "no processes": (["--jobs", "0"], "jobs"),
    "calibrated on what is measured": (["--calibration", "TEST"], "other images"),
    "calibration that is no file": (["--calibration", "gone.npz"], "gone.npz"),
    "folder that cannot be made": (["-o", "/proc/nowhere/out"], "cannot be written"),
    "layer list beside a layer list": (["--layer-list", "MODEL"], "--layer-list"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_one_line_and_nothing_is_written(
    name, run, example_dir, test_images, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    model = example_dir / "digits_cnn.json"
    more, fragment = BAD[name]
    places = {"TEST": test_images, "MODEL": model}
    more = [places.get(word, word) for word in more]

    outcome = run("sweep", model, "--images", test_images, *more)

    assert outcome.status == 2, outcome
    assert len(outcome.err.splitlines()) == 1, outcome.err
    assert fragment in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_images_without_labels_and_models_that_are_none_are_refused(
    run, example_dir, test_images, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    plain = _without_labels(tmp_path)

    outcomes = [
        run("sweep", example_dir / "digits_cnn.json", "--images", plain),
        run("sweep", tmp_path / "gone.onnx", "--images", test_images),
        run("sweep", test_images, "--images", test_images),
    ]

    assert [outcome.status for outcome in outcomes] == [2, 2, 2]
    assert "labels" in outcomes[0].err
    assert list(tmp_path.iterdir()) == [plain]
