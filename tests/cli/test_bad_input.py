"""Every way of giving bad input ends in one line that names it, status 2, and nothing written."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file


@dataclass(frozen=True)
class World:
    """Good files to spoil, and a folder to spoil them in."""

    folder: Path
    model: Path
    weights: Path
    onnx: Path
    calibration: Path
    images: Path
    bac: Path
    mac: Path

    def file(self, name: str, data: bytes | str = b"") -> Path:
        path = self.folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def npz(self, name: str, **arrays: object) -> Path:
        path = self.folder / name
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return path

    def layer_list(self, edit: Callable[[dict], object], name: str = "edited.json") -> Path:
        shutil.copy(self.weights, self.folder)
        document = json.loads(self.model.read_text())
        edit(document)
        return self.file(name, json.dumps(document))

    def respelled(self, edit: Callable[[dict, dict], object]) -> Path:
        """The packed file with its metadata and tensors changed."""
        tensors = load_file(self.bac)
        header_bytes = struct.unpack("<Q", self.bac.read_bytes()[:8])[0]
        header = json.loads(self.bac.read_bytes()[8 : 8 + header_bytes])
        metadata = json.loads(header["__metadata__"]["bacmac"])
        edit(metadata, tensors)
        path = self.folder / "respelled.safetensors"
        save_file(tensors, path, {"bacmac": json.dumps(metadata)})
        return path


Arguments = list[object]
Make = Callable[[World], Arguments]
TABLE: dict[str, tuple[Make, tuple[str, ...]]] = {}


def case(*fragments: str) -> Callable[[Make], Make]:
    """Register a case under its function's name; every fragment must be in the message."""

    def register(make: Make) -> Make:
        TABLE[make.__name__] = (make, fragments)
        return make

    return register


def _pack(w: World, model: object = None, *more: object, images: object = None) -> Arguments:
    out = w.folder / "out.safetensors"
    return ["pack", model or w.model, "--calibration", images or w.calibration, "-o", out, *more]


def _run(w: World, packed: object = None, images: object = None, *more: object) -> Arguments:
    return ["run", packed or w.bac, "--images", images or w.images, *more]


def _compare(w: World, *more: object) -> Arguments:
    return ["compare", "--bac", w.bac, "--mac", w.mac, "--images", w.images, "--no-report",
            "-o", w.folder / "out", *more]  # fmt: skip


# Float models


@case("nowhere.onnx", "no such file")
def model_is_missing(w: World) -> Arguments:
    return _pack(w, w.folder / "nowhere.onnx")


@case("a folder")
def model_is_a_folder(w: World) -> Arguments:
    (w.folder / "net.onnx").mkdir()
    return _pack(w, w.folder / "net.onnx")


@case("net.h5", "expected")
def model_has_an_unknown_suffix(w: World) -> Arguments:
    return _pack(w, w.file("net.h5", b"\x89HDF\r\n"))


@case("net.onnx")
def onnx_is_empty(w: World) -> Arguments:
    return _pack(w, w.file("net.onnx"))


@case("net.onnx")
def onnx_is_truncated(w: World) -> Arguments:
    return _pack(w, w.file("net.onnx", w.onnx.read_bytes()[:-500]))


@case("net.onnx")
def onnx_is_a_pickle(w: World) -> Arguments:
    return _pack(w, w.file("net.onnx", pickle.dumps({"conv": [1.0]})))


@case("net.onnx")
def onnx_is_noise(w: World) -> Arguments:
    return _pack(w, w.file("net.onnx", np.random.default_rng(1).bytes(4096)))


@case("net.json", "JSON")
def layer_list_is_no_json(w: World) -> Arguments:
    return _pack(w, w.file("net.json", "{layers:"))


@case("net.json")
def layer_list_is_a_json_list(w: World) -> Arguments:
    return _pack(w, w.file("net.json", "[1, 2]"))


@case("net.json")
def layer_list_is_nested_without_end(w: World) -> Arguments:
    return _pack(w, w.file("net.json", "[" * 100_000))


@case("edited.json", "version")
def layer_list_is_of_another_version(w: World) -> Arguments:
    return _pack(w, w.layer_list(lambda d: d.update(version=99)))


@case("edited.json", "input_shape")
def layer_list_has_no_input_shape(w: World) -> Arguments:
    return _pack(w, w.layer_list(lambda d: d.pop("input_shape")))


@case("gone.npz")
def layer_list_names_no_weights_file(w: World) -> Arguments:
    return _pack(w, w.layer_list(lambda d: d.update(weights="gone.npz")))


@case("weights", "found")
def layer_list_reaches_outside_its_folder(w: World) -> Arguments:
    return _pack(w, w.layer_list(lambda d: d.update(weights="../" + w.weights.name)))


@case("edited.json", "gelu")
def layer_list_has_an_unknown_op(w: World) -> Arguments:
    return _pack(w, w.layer_list(lambda d: d["layers"][0].update(op="gelu")))


@case("edited.json", "nobody")
def layer_list_reads_an_unknown_layer(w: World) -> Arguments:
    return _pack(w, w.layer_list(lambda d: d["layers"][1].update(input="nobody")))


@case("edited.json", "nokey")
def layer_list_names_an_unknown_array(w: World) -> Arguments:
    return _pack(w, w.layer_list(lambda d: d["layers"][0].update(weight="nokey")))


@case("edited.json", "stride")
def layer_list_has_a_negative_stride(w: World) -> Arguments:
    return _pack(w, w.layer_list(lambda d: d["layers"][0].update(stride=-1)))


@case("conv1.weight", "NaN")
def weights_hold_nan(w: World) -> Arguments:
    model = w.layer_list(lambda d: None)
    arrays = dict(np.load(w.weights))
    first = next(key for key, value in arrays.items() if value.ndim == 4)
    arrays[first] = arrays[first] * np.nan
    np.savez(w.folder / w.weights.name, **arrays)
    return _pack(w, model)


@case("digits_cnn.npz")
def weights_are_pickled_objects(w: World) -> Arguments:
    model = w.layer_list(lambda d: None)
    arrays = {key: np.array([{"a": 1}], dtype=object) for key in np.load(w.weights)}
    np.savez(w.folder / w.weights.name, **arrays)
    return _pack(w, model)


@case("digits_cnn.npz")
def weights_file_is_truncated(w: World) -> Arguments:
    model = w.layer_list(lambda d: None)
    w.file(w.weights.name, w.weights.read_bytes()[:2000])
    return _pack(w, model)


# Image sets


@case("nowhere.npz", "no such file")
def images_are_missing(w: World) -> Arguments:
    return _pack(w, images=w.folder / "nowhere.npz")


@case("images.npz")
def images_are_text(w: World) -> Arguments:
    return _pack(w, images=w.file("images.npz", "cat, dog"))


@case("images.npz", "images")
def images_have_no_array_of_that_name(w: World) -> Arguments:
    return _pack(w, images=w.npz("images.npz", pictures=np.zeros((4, 1, 8, 8), np.uint8)))


@case("images.npz", "(3, 8, 8)", "(1, 8, 8)")
def images_have_another_shape(w: World) -> Arguments:
    return _pack(w, images=w.npz("images.npz", images=np.zeros((4, 3, 8, 8), np.uint8)))


@case("images.npz", "int64", "uint8")
def images_have_another_dtype(w: World) -> Arguments:
    return _pack(w, images=w.npz("images.npz", images=np.zeros((4, 1, 8, 8), np.int64)))


@case("images.npz", "images")
def images_hold_nan(w: World) -> Arguments:
    pixels = np.full((4, 1, 8, 8), np.nan, np.float32)
    return _pack(w, images=w.npz("images.npz", images=pixels))


@case("images.npz", "one image or more")
def image_set_is_empty(w: World) -> Arguments:
    return _pack(w, images=w.npz("images.npz", images=np.zeros((0, 1, 8, 8), np.uint8)))


@case("images.npz", "labels")
def labels_are_too_few(w: World) -> Arguments:
    pixels = np.zeros((4, 1, 8, 8), np.uint8)
    return _run(w, images=w.npz("images.npz", images=pixels, labels=np.zeros(3, np.int64)))


@case("images.npz")
def images_are_pickled_objects(w: World) -> Arguments:
    return _pack(w, images=w.npz("images.npz", images=np.array([None], dtype=object)))


@case("images.npz")
def images_are_a_truncated_archive(w: World) -> Arguments:
    return _pack(w, images=w.file("images.npz", w.images.read_bytes()[:3000]))


@case("images.npz", "images")
def images_claim_to_be_enormous(w: World) -> Arguments:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1, 8, 8), }\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    path = w.folder / "images.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", member)
    return _pack(w, images=path)


@case("normalization", "pixel_max 255", "pixel_max 16")
def images_mean_something_else_than_the_model_takes(w: World) -> Arguments:
    pixels = np.zeros((4, 1, 8, 8), np.uint8)
    return _run(w, images=w.npz("images.npz", images=pixels, pixel_max=np.float64(255)))


# Options


@case("sparsity", "1.5")
def sparsity_is_above_one(w: World) -> Arguments:
    return _pack(w, None, "--sparsity", "1.5")


@case("sparsity", "-0.1")
def sparsity_is_negative(w: World) -> Arguments:
    return _pack(w, None, "--sparsity=-0.1")


@case("sparsity", "nan")
def sparsity_is_nan(w: World) -> Arguments:
    return _pack(w, None, "--sparsity", "nan")


@case("--scheme", "pot-9", "pot-4")
def scheme_is_unknown(w: World) -> Arguments:
    return _pack(w, None, "--scheme", "pot-9")


@case("--mean", "numbers")
def mean_is_no_number(w: World) -> Arguments:
    return _pack(w, None, "--mean", "a,b")


@case("--mean", "0.1,0.2")
def mean_has_too_many_values(w: World) -> Arguments:
    return _pack(w, None, "--mean", "0.1,0.2")


@case("--std", "above 0")
def std_is_zero(w: World) -> Arguments:
    return _pack(w, None, "--std", "0")


@case("--pixel-max", "above 0")
def pixel_max_is_negative(w: World) -> Arguments:
    return _pack(w, None, "--pixel-max=-255")


@case("--activation-bits", "9")
def activation_bits_are_too_many(w: World) -> Arguments:
    return _pack(w, None, "--activation-bits", "9")


@case("--calibration")
def calibration_is_not_given(w: World) -> Arguments:
    return ["pack", w.model, "-o", w.folder / "out.safetensors"]


@case("conv9", "conv1")
def layer_table_names_an_unknown_layer(w: World) -> Arguments:
    return _pack(w, None, "--layer-table", w.file("table.json", '{"conv9": "pot-3"}'))


@case("table.json", "conv1.scheme", "pot-99")
def layer_table_has_an_unknown_scheme(w: World) -> Arguments:
    return _pack(w, None, "--layer-table", w.file("table.json", '{"conv1": "pot-99"}'))


@case("table.json", "colour")
def layer_table_has_an_unknown_key(w: World) -> Arguments:
    return _pack(w, None, "--layer-table", w.file("table.json", '{"conv1": {"colour": 1}}'))


@case("table.json", "JSON")
def layer_table_is_no_json(w: World) -> Arguments:
    return _pack(w, None, "--layer-table", w.file("table.json", "conv1 = pot-4"))


@case("table.json", "activation_bits", "true")
def layer_table_has_bits_that_are_no_number(w: World) -> Arguments:
    return _pack(
        w, None, "--layer-table", w.file("table.json", '{"conv1": {"activation_bits": "true"}}')
    )


@case("frobnicate")
def command_is_unknown(w: World) -> Arguments:
    return ["frobnicate"]


@case("--frobnicate")
def option_is_unknown(w: World) -> Arguments:
    return ["inspect", w.bac, "--frobnicate"]


@case("--limit")
def limit_is_zero(w: World) -> Arguments:
    return _run(w, None, None, "--limit", "0")


# Packed models


@case("nowhere.safetensors", "No such file")
def packed_is_missing(w: World) -> Arguments:
    return _run(w, w.folder / "nowhere.safetensors")


@case("bad.safetensors")
def packed_is_empty(w: World) -> Arguments:
    return ["inspect", w.file("bad.safetensors")]


@case("bad.safetensors")
def packed_is_truncated(w: World) -> Arguments:
    return ["inspect", w.file("bad.safetensors", w.bac.read_bytes()[:-100])]


@case("bad.safetensors", "header")
def packed_claims_a_huge_header(w: World) -> Arguments:
    data = struct.pack("<Q", 1 << 60) + w.bac.read_bytes()[8:]
    return ["inspect", w.file("bad.safetensors", data)]


@case("bad.safetensors", "pickle")
def packed_is_a_pickle(w: World) -> Arguments:
    return ["inspect", w.file("bad.safetensors", pickle.dumps({"a": np.zeros(3)}))]


@case("bad.safetensors", "zip")
def packed_is_a_zip_archive(w: World) -> Arguments:
    return ["inspect", w.file("bad.safetensors", w.images.read_bytes())]


@case("plain.safetensors", "another program")
def packed_is_somebody_elses_safetensors(w: World) -> Arguments:
    path = w.folder / "plain.safetensors"
    save_file({"weight": np.zeros((2, 2), np.float32)}, path)
    return ["inspect", path]


@case("respelled.safetensors", "version")
def packed_is_of_a_later_version(w: World) -> Arguments:
    return ["inspect", w.respelled(lambda m, t: m.update(version=3))]


@case("respelled.safetensors", "input_shape")
def packed_has_a_wrong_input_shape(w: World) -> Arguments:
    return ["inspect", w.respelled(lambda m, t: m.update(input_shape=[1, -8, 8]))]


@case("respelled.safetensors", "scale")
def packed_has_a_nan_scale(w: World) -> Arguments:
    def edit(_: dict, tensors: dict) -> None:
        tensors["layers.0.scale"] = tensors["layers.0.scale"] * np.nan

    return ["inspect", w.respelled(edit)]


@case("respelled.safetensors", "layers.0.codes")
def packed_has_illegal_codes(w: World) -> Arguments:
    def edit(_: dict, tensors: dict) -> None:
        tensors["layers.0.codes"] = np.full_like(tensors["layers.0.codes"], 0xFF)

    return ["inspect", w.respelled(edit)]


@case("respelled.safetensors", "layers.0.bias")
def packed_lacks_a_tensor(w: World) -> Arguments:
    return ["inspect", w.respelled(lambda m, t: t.pop("layers.0.bias"))]


@case("respelled.safetensors", "malware")
def packed_has_one_tensor_too_many(w: World) -> Arguments:
    return ["inspect", w.respelled(lambda m, t: t.update(malware=np.zeros(3, np.uint8)))]


@case("respelled.safetensors", "layers.0.multiplier")
def packed_has_a_tensor_of_another_type(w: World) -> Arguments:
    def edit(_: dict, tensors: dict) -> None:
        tensors["layers.0.multiplier"] = tensors["layers.0.multiplier"].astype(np.float32)

    return ["inspect", w.respelled(edit)]


# Overlays and devices


@case("no-such", "bac-pot4")
def overlay_is_unknown(w: World) -> Arguments:
    return ["overlay", "show", "no-such"]


@case("bad.toml")
def overlay_manifest_is_no_toml(w: World) -> Arguments:
    return ["overlay", "show", w.file("bad.toml", "name = ")]


@case("bad.toml", "clock_hz", "found nothing")
def overlay_manifest_is_incomplete(w: World) -> Arguments:
    return ["overlay", "show", w.file("bad.toml", 'name = "bad"\n')]


@case("uniform-8", "bac-pot4", "pot-4")
def overlay_does_not_execute_the_model(w: World) -> Arguments:
    return _run(w, w.mac, None, "--overlay", "bac-pot4")


@case("nowhere")
def overlay_folder_is_missing(w: World) -> Arguments:
    return ["overlay", "list", "--overlay-folder", w.folder / "nowhere"]


@case("teleport:", "functional:")
def device_is_unknown(w: World) -> Arguments:
    return _run(w, None, None, "--device", "teleport:")


@case("--buffers", "17")
def buffers_are_too_many(w: World) -> Arguments:
    return _run(w, None, None, "--buffers", "17")


# Rails


@case("solar:", "emulated:")
def rails_are_unknown(w: World) -> Arguments:
    return ["power", "rails", "--rails", "solar:"]


@case("sunny", "emulated:")
def emulated_board_is_unknown(w: World) -> Arguments:
    return ["power", "rails", "--rails", "emulated:sunny"]


@case("nowhere")
def hwmon_folder_is_missing(w: World) -> Arguments:
    return ["power", "rails", "--rails", f"hwmon:{w.folder / 'nowhere'}"]


@case("hwmon")
def hwmon_folder_has_no_sensor_of_the_board(w: World) -> Arguments:
    (w.folder / "hwmon").mkdir()
    return ["power", "rails", "--rails", f"hwmon:{w.folder / 'hwmon'}"]


@case("curr1_input")
def rail_gives_no_number(w: World) -> Arguments:
    chip = w.folder / "hwmon" / "hwmon0"
    device = w.folder / "devices" / "5-0040"
    for folder in (chip, device):
        folder.mkdir(parents=True)
    (chip / "device").symlink_to(device)
    texts = {"name": "ina226", "in0_input": "6", "in1_input": "12113", "curr1_input": "sensor?",
             "power1_input": "14050000"}  # fmt: skip
    for name, text in texts.items():
        (chip / name).write_text(text + "\n")
    return ["power", "rails", "--rails", f"hwmon:{w.folder / 'hwmon'}"]


@case("5V5", "INT")
def rail_is_not_there(w: World) -> Arguments:
    return ["power", "record", "--rail", "5V5", "--seconds", "1"]


@case("2 or more")
def recording_is_too_short_for_an_energy(w: World) -> Arguments:
    return ["power", "record", "--seconds", "0.01"]


# Comparisons


@case("--blocks")
def comparison_has_one_block(w: World) -> Arguments:
    return _compare(w, "--blocks", "1")


@case("run")
def comparison_has_runs_of_no_length(w: World) -> Arguments:
    return _compare(w, "--run-seconds", "0")


@case("bac-pot4", "uniform-8")
def comparison_puts_the_multiplier_model_on_the_shifter(w: World) -> Arguments:
    return ["compare", "--bac", w.mac, "--mac", w.mac, "--images", w.images, "--no-report",
            "-o", w.folder / "out"]  # fmt: skip


@case("every 1 s", "longer run")
def comparison_has_runs_too_short_for_the_sensor(w: World) -> Arguments:
    return _compare(w, "--rails", "emulated:1s-cache", "--run-seconds", "2")


@case("real sensors", "functional:", "emulated:")
def comparison_reads_real_sensors_beside_an_emulated_accelerator(w: World) -> Arguments:
    return _compare(w, "--rails", "hwmon:")


# Outputs


@case("cannot be written", "nothing was changed")
def output_folder_is_missing(w: World) -> Arguments:
    return [*_pack(w)[:-1], w.folder / "no" / "out.safetensors"]


@case("cannot be written", "nothing was changed")
def output_folder_is_a_file(w: World) -> Arguments:
    return [*_pack(w)[:-1], w.file("plain") / "out.safetensors"]


@case("cannot be written")
def output_is_a_folder(w: World) -> Arguments:
    (w.folder / "taken").mkdir()
    return [*_pack(w)[:-1], w.folder / "taken"]


@case("cannot be written")
def trace_cannot_be_written(w: World) -> Arguments:
    return ["power", "record", "--seconds", "1", "-o", w.folder / "no" / "trace.csv"]


@pytest.fixture
def world(tmp_path: Path, example_dir: Path, bac_file: Path, mac_file: Path) -> World:
    folder = tmp_path / "here"
    folder.mkdir()
    return World(
        folder,
        example_dir / "digits_cnn.json",
        example_dir / "digits_cnn.npz",
        example_dir / "digits_cnn.onnx",
        example_dir / "digits_calibration.npz",
        example_dir / "digits_test.npz",
        bac_file,
        mac_file,
    )


def test_there_are_at_least_sixty_cases():
    assert len(TABLE) >= 60


@pytest.mark.parametrize("name", TABLE)
def test_bad_input_is_told_in_one_line_and_nothing_is_written(name, world, run):
    make, fragments = TABLE[name]
    arguments = make(world)
    before = sorted(world.folder.rglob("*"))

    outcome = run(*arguments)

    assert outcome.status == 2, outcome
    assert outcome.err.startswith("Error: ")
    assert len(outcome.err.splitlines()) == 1, outcome.err
    for fragment in fragments:
        assert fragment in outcome.err
    assert sorted(world.folder.rglob("*")) == before
