"""A model written is a model read; the bytes are the same every time, and damage is named."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import OutputError, PackedFileError
from bacmac.host.model.layers import Normalization
from bacmac.host.model.quantized import ActivationFormat, QuantizedModel
from bacmac.host.pack.bits import packed_size
from bacmac.host.pack.file import packed_bytes, read_packed, write_packed
from bacmac.host.pack.formats import choose_formats
from bacmac.host.pack.sparse import bitmap_size

GOLDEN = Path(__file__).with_name("golden-v2.safetensors")
FIRST = Path(__file__).with_name("golden-v1.safetensors")
EVERY_FORMAT = Path(__file__).with_name("golden-v2-formats.safetensors")


def differences(left: object, right: object, at: str = "model") -> list[str]:
    """Where two models differ, field by field, dtypes included."""
    if isinstance(left, np.ndarray):
        same = (
            isinstance(right, np.ndarray)
            and left.dtype == right.dtype
            and np.array_equal(left, right)
        )
        return [] if same else [at]
    if dataclasses.is_dataclass(left):
        if type(left) is not type(right):
            return [at]
        return [
            path
            for f in dataclasses.fields(left)
            for path in differences(getattr(left, f.name), getattr(right, f.name), f"{at}.{f.name}")
        ]
    if isinstance(left, tuple) and isinstance(right, tuple) and len(left) == len(right):
        pairs = enumerate(zip(left, right, strict=True))
        return [path for i, (a, b) in pairs for path in differences(a, b, f"{at}[{i}]")]
    return [] if type(left) is type(right) and left == right else [at]


def test_a_model_survives_a_round_trip(tiny_model, tmp_path):
    path = tmp_path / "tiny.safetensors"
    write_packed(path, tiny_model)
    packed = read_packed(path)

    assert differences(tiny_model, packed.model) == []
    assert packed.path == str(path)
    assert packed.n_bytes == path.stat().st_size
    assert packed.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert packed.layer_bytes == {
        layer.name: packed_size(layer.op.levels.size, SCHEMES[layer.scheme].bits)
        if layer.scheme
        else 0
        for layer in tiny_model.layers
    }


def test_the_comparison_of_models_sees_a_single_changed_value(tiny_model):
    scale = tiny_model.logit_scale.copy()
    scale[1] *= 1.0000001

    changed = dataclasses.replace(tiny_model, logit_scale=scale)

    assert differences(tiny_model, changed) == ["model.logit_scale"]


@given(
    scheme=st.sampled_from(sorted(SCHEMES)),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    bits=st.integers(2, 8),
    signed=st.booleans(),
    name=st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=20).filter(
        str.isprintable
    ),
    logits=st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_small_model_survives(
    tmp_path_factory, builder_class, scheme, shape, bits, signed, name, logits
):
    output = ActivationFormat(0.01 * bits, bits, signed)
    layer = builder_class(bits).conv(
        "only", 0, shape, scheme=scheme, output=None if logits else output
    )
    model = QuantizedModel(
        name, (shape[1], 5, 6), output, Normalization(), (layer,), np.full(shape[0], 0.125)
    )
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    write_packed(path, model)

    assert differences(model, read_packed(path).model) == []


def test_the_same_model_gives_the_same_bytes(tiny_model, builder_class):
    again = builder_class().tiny()
    reordered = dict(reversed(list(again.provenance.items())))

    assert packed_bytes(tiny_model) == packed_bytes(tiny_model)
    assert packed_bytes(tiny_model) == packed_bytes(
        dataclasses.replace(again, provenance=reordered)
    )


def test_the_golden_file_is_remade_byte_for_byte(tiny_model):
    """A change of the format needs a new version and tests/pack/remake_golden.py."""
    assert packed_bytes(tiny_model) == GOLDEN.read_bytes()


def test_the_golden_file_still_reads(tiny_model):
    assert differences(tiny_model, read_packed(GOLDEN).model) == []


def test_the_golden_file_of_version_1_reads_as_it_always_did(tiny_model):
    assert differences(tiny_model, read_packed(FIRST).model) == []


def test_the_golden_file_of_every_format(builder_class):
    """A change of the format needs a new version and tests/pack/remake_golden.py."""
    model, formats = builder_class().sparse()
    packed = read_packed(EVERY_FORMAT)

    assert packed_bytes(model, formats) == EVERY_FORMAT.read_bytes()
    assert differences(model, packed.model) == []
    assert packed.layer_formats == {**formats, "signs": "dense", "logits": "dense"}
    assert packed.layer_bytes["bitmap"] == bitmap_size(
        (6, 27), int(np.count_nonzero(model.layers[0].op.levels)), 4
    )


def test_zero_points_are_written_where_they_are_not_zero(builder_class, tiny_model):
    model, formats = builder_class().sparse()

    assert b"zero" not in packed_bytes(tiny_model)
    assert b"logit_offset" not in packed_bytes(tiny_model)
    assert packed_bytes(model, formats).count(b'\\"zero\\"') == 3


def test_the_smallest_format_of_each_layer_is_written_and_read(builder_class, tmp_path):
    model, _ = builder_class().sparse()
    chosen = choose_formats(model, "auto", (16, 16))
    path = tmp_path / "auto.safetensors"
    write_packed(path, model, {name: choice.name for name, choice in chosen.items()})
    packed = read_packed(path)

    assert differences(model, packed.model) == []
    for name, choice in chosen.items():
        assert packed.layer_formats[name] == choice.name
        assert packed.layer_bytes[name] == min(choice.n_bytes.values())
    assert packed.n_bytes < len(packed_bytes(model))


def test_another_reader_of_safetensors_finds_what_the_page_says(tiny_model):
    with safe_open(GOLDEN, "np") as handle:
        metadata = json.loads(handle.metadata()["bacmac"])
        codes = handle.get_tensor("layers.0.codes")
        bias = handle.get_tensor("layers.7.bias")

    stem = tiny_model.layers[0].op.levels.reshape(-1)
    nibbles = np.stack([codes & 15, codes >> 4], axis=1).reshape(-1)[: stem.size]
    assert metadata["format"] == "bacmac-packed"
    assert metadata["version"] == 2
    assert metadata["layers"][0]["weight_shape"] == [5, 3, 3, 3]
    assert SCHEMES["pot-4"].decode[nibbles].tolist() == stem.tolist()
    assert bias.tolist() == tiny_model.layers[7].op.bias.tolist()


def test_numpy_numbers_in_the_provenance_are_written_as_numbers(tiny_model, tmp_path):
    provenance = {"n": np.int64(3), "x": np.float32(0.5), "on": True, "none": None, "list": (1, 2)}
    path = tmp_path / "p.safetensors"

    write_packed(path, dataclasses.replace(tiny_model, provenance=provenance))

    assert read_packed(path).model.provenance == {
        "n": 3,
        "x": 0.5,
        "on": True,
        "none": None,
        "list": [1, 2],
    }


def test_what_the_reader_would_refuse_is_not_written(tiny_model, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"before")

    with pytest.raises(PackedFileError, match=r"metadata\.name: found 'a\\x1b\[2J'; exp"):
        write_packed(path, dataclasses.replace(tiny_model, name="a\x1b[2J"))

    assert path.read_bytes() == b"before"


def test_a_level_outside_its_scheme_is_a_bug_and_keeps_its_traceback(builder, tmp_path):
    layer = builder.conv("only", 0, (1, 1, 1, 1), scheme="uniform-8")
    layer.op.levels[:] = 3
    wrong = dataclasses.replace(layer, scheme="pot-4")
    model = QuantizedModel(
        "m", (1, 1, 1), ActivationFormat(1.0), Normalization(), (wrong,), np.ones(1)
    )

    with pytest.raises(ValueError, match="level 3 is not in pot-4"):
        write_packed(tmp_path / "m.safetensors", model)


def test_a_full_disk_leaves_nothing_behind(tiny_model, tmp_path):
    path = tmp_path / "full.safetensors"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written: File too large"):
            write_packed(path, tiny_model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_told(tiny_model, tmp_path):
    with pytest.raises(OutputError, match="No such file or directory"):
        write_packed(tmp_path / "nowhere" / "m.safetensors", tiny_model)
