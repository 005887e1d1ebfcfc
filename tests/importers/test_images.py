"""Image sets: what is understood, and how a wrong one is refused."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacmac.host.errors import ImageFileError
from bacmac.host.importers.images import load_images
from bacmac.host.model.layers import Normalization

PIXELS = np.arange(3 * 2 * 4 * 5, dtype=np.uint8).reshape(3, 2, 4, 5)


def save(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "set.npz", **arrays)
    return folder / "set.npz"


def test_pixels_labels_and_normalization_are_read(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        images=PIXELS,
        labels=np.array([2, 0, 1], np.uint8),
        pixel_max=16,
        mean=np.array([0.5, 0.25], np.float32),
        std=[2.0, 1.0],
        index=[5, 6, 7],
    )

    found = load_images(path, shape=(2, 4, 5))

    np.testing.assert_array_equal(found.images, PIXELS)
    assert found.images.dtype == np.uint8
    assert found.labels is not None
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == [2, 0, 1]
    assert found.normalization == Normalization(16.0, (0.5, 0.25), (2.0, 1.0))
    assert found.source == str(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_the_file_does_not_say_is_none(tmp_path: Path) -> None:
    found = load_images(save(tmp_path, images=PIXELS))

    assert found.labels is None
    assert found.normalization is None


def test_one_mean_leaves_the_rest_as_usual(tmp_path: Path) -> None:
    found = load_images(save(tmp_path, images=PIXELS, mean=0.5))

    assert found.normalization == Normalization(255.0, (0.5,), (1.0,))


def test_images_without_channels_have_one(tmp_path: Path) -> None:
    found = load_images(save(tmp_path, images=PIXELS[:, 0]), shape=(1, 4, 5))

    assert found.images.shape == (3, 1, 4, 5)


def test_a_npy_is_the_images_alone(tmp_path: Path) -> None:
    values = np.asfortranarray(PIXELS.astype(">f4") / np.float32(7))
    np.save(tmp_path / "set.npy", values)

    found = load_images(tmp_path / "set.npy")

    assert found.images.dtype == np.float32
    assert found.images.dtype.isnative
    np.testing.assert_array_equal(found.images, values)


def test_channels_last_is_understood_where_nothing_else_fits(tmp_path: Path) -> None:
    path = save(tmp_path, images=PIXELS.transpose(0, 2, 3, 1))

    found = load_images(path, shape=(2, 4, 5))

    np.testing.assert_array_equal(found.images, PIXELS)
    assert load_images(path).images.shape == (3, 4, 5, 2)


def test_a_set_that_fits_as_it_is_stays_as_it_is(tmp_path: Path) -> None:
    cube = np.arange(27, dtype=np.uint8).reshape(1, 3, 3, 3)

    found = load_images(save(tmp_path, images=cube), shape=(3, 3, 3))

    np.testing.assert_array_equal(found.images, cube)


def with_nan(kind: float) -> Any:
    values = np.zeros((3, 2, 4, 5), np.float32)
    values[1, 0, 3, 1] = kind
    return values


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no images": ({"pictures": PIXELS}, "array 'images': found pictures"),
    "no image": ({"images": PIXELS[:0]}, r"shape \(0, 2, 4, 5\).*one image or more"),
    "no rows": ({"images": PIXELS[:, :, :0]}, "one image or more"),
    "a matrix": ({"images": PIXELS[0, 0]}, r"shape \(4, 5\)"),
    "a number": ({"images": np.uint8(1)}, r"shape \(\)"),
    "five dimensions": ({"images": PIXELS[None]}, r"\(N, C, H, W\)"),
    "double images": ({"images": PIXELS.astype("f8")}, "images: found float64"),
    "signed images": ({"images": PIXELS.astype("i1")}, "images: found int8"),
    "text": ({"images": np.array(["a"])}, "type '<U1'"),
    "objects": ({"images": np.array([{}], dtype=object)}, "a pickle"),
    "structured": ({"images": np.zeros(2, [("a", "f4")])}, "array 'images'"),
    "complex": ({"images": PIXELS.astype("c8")}, "type '<c8'"),
    "NaN": ({"images": with_nan(np.nan)}, r"images\[1\]: found NaN or infinity in 1 images"),
    "infinity": ({"images": with_nan(-np.inf)}, r"images\[1\]"),
    "another shape": ({"images": PIXELS[:, :, :, 1:]}, r"\(2, 4, 4\); expected \(2, 4, 5\)"),
    "too few labels": ({"images": PIXELS, "labels": [1, 2]}, r"labels: found int64 \(2,\)"),
    "one-hot labels": ({"images": PIXELS, "labels": np.eye(3)}, "labels: found float64"),
    "float labels": ({"images": PIXELS, "labels": np.ones(3)}, "labels"),
    "negative labels": ({"images": PIXELS, "labels": [0, -1, 2]}, "labels: found -1 to 2"),
    "huge labels": ({"images": PIXELS, "labels": np.full(3, 2**63, "u8")}, "labels"),
    "pixel_max 0": ({"images": PIXELS, "pixel_max": 0}, "pixel_max: found 0; expected > 0"),
    "two pixel_max": ({"images": PIXELS, "pixel_max": [1, 2]}, "pixel_max"),
    "NaN mean": ({"images": PIXELS, "mean": np.nan}, "mean: found NaN"),
    "mean of three": ({"images": PIXELS, "mean": [0.5] * 3}, r"mean: found float64 \(3,\)"),
    "negative std": ({"images": PIXELS, "std": [1.0, -1.0]}, "std: found -1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_set_is_refused_by_name(case: str, tmp_path: Path) -> None:
    arrays, message = WRONG[case]
    path = save(tmp_path, **arrays)

    with pytest.raises(ImageFileError, match=message) as caught:
        load_images(path, shape=(2, 4, 5))

    assert str(caught.value).startswith(f"{path}: ")


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode("latin-1") + data


def dictionary(shape: str, descr: str = "'|u1'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def npz(name: str, data: bytes, **fields: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    content = bytearray(buffer.getvalue())
    for place, value in fields.get("edits", ()):
        content[place] ^= value
    if "file_size" in fields:  # of the central directory
        at = content.rindex(b"PK\x01\x02") + 24
        content[at : at + 4] = struct.pack("<I", fields["file_size"])
    return bytes(content)


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "text": b"hello",
    "pickle": pickle.dumps([1, 2]),
    "cut archive": npz("images.npy", npy(dictionary("(1, 2, 2)"), b"1234"))[:40],
    "flipped data": npz("images.npy", npy(dictionary("(1, 2, 2)"), b"1234"), edits=[(60, 255)]),
    "archive of text": npz("readme.txt", b"hello"),
    "array of text": npz("images.npy", b"hello"),
    "bomb": npz("images.npy", b"x", file_size=(1 << 31) - 1),
    "only magic": b"\x93NUMPY",
    "version 9": npy(dictionary("(1, 2, 2)"), b"1234", version=9),
    "long header": b"\x93NUMPY\x01\x00\xff\xff{}",
    "too little data": npy(dictionary("(1, 2, 2)"), b"123"),
    "too much data": npy(dictionary("(1, 2, 2)"), b"12345"),
    "huge shape": npy(dictionary("(1, 99999999999, 99999999999)"), b"1234"),
    "negative shape": npy(dictionary("(1, -2, -2)"), b"1234"),
    "float shape": npy(dictionary("(1, 2.0, 2)"), b"1234"),
    "list shape": npy(dictionary("[1, 2, 2]"), b"1234"),
    "text order": npy(dictionary("(1, 2, 2)", order="'no'"), b"1234"),
    "objects": npy(dictionary("(1, 2, 2)", descr="'|O'"), pickle.dumps([1])),
    "unknown type": npy(dictionary("(1, 2, 2)", descr="'<f7'"), b"1234"),
    "type of a call": npy(dictionary("(1, 2, 2)", descr="open('x')"), b"1234"),
    "another dictionary": npy("{'a': 1}\n"),
    "not a dictionary": npy("3\n"),
    "odd escapes": npy(dictionary("(1, 2, 2)", descr=r"'\d'"), b"1234"),
    "deep header": npy("(" * 5000),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_one_line(case: str, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(HOSTILE[case])

    with pytest.raises(ImageFileError) as caught:
        load_images(path)

    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("make", [lambda p: None, Path.mkdir], ids=["missing", "folder"])
def test_what_is_not_a_file_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "set.npz")

    with pytest.raises(ImageFileError, match=r"set\.npz: file: found "):
        load_images(tmp_path / "set.npz")


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    length=st.integers(0, 2000),
)
def test_no_edit_of_a_file_escapes_as_another_error(
    edits: list[tuple[int, int]], length: int, tmp_path: Path
) -> None:
    data = bytearray(save(tmp_path, images=PIXELS, labels=[1, 2, 3]).read_bytes())
    for place, byte in edits:
        data[place % len(data)] = byte
    path = tmp_path / "edited.npz"
    path.write_bytes(bytes(data[: max(length, 1)] if length < 500 else data))

    try:
        found = load_images(path)
    except ImageFileError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert found.images.ndim == 4
