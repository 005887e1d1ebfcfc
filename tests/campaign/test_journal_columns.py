"""Columns and documents come back as they were, and damaged bytes are told."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bacmac.power.campaign.blobs import decode_column, encode_column
from bacmac.power.campaign.documents import from_document, to_document, to_text

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(arrays(np.int64, st.integers(0, 200), elements=INT64))
def test_any_column_survives_a_round_trip(values: npt.NDArray[np.int64]) -> None:
    decoded = decode_column(encode_column(values))

    assert decoded.dtype == np.int64
    assert decoded.tolist() == values.tolist()


@given(st.integers(0, 62), st.integers(1, 50), INT64)
def test_differences_take_the_narrowest_integers(bits: int, n: int, first: int) -> None:
    with np.errstate(over="ignore"):
        values = np.cumsum(np.array([first] + [2**bits - 1] * n, np.int64))
    width = encode_column(values)[1]

    assert width == (1 if bits < 8 else 2 if bits < 16 else 4 if bits < 32 else 8)


def test_a_slow_rail_takes_little_room() -> None:
    values = 12_000 + np.repeat(np.arange(100), 30)

    assert len(encode_column(values)) < 100


@given(st.data(), st.binary(min_size=1, max_size=4))
def test_damaged_bytes_are_an_error_or_a_column_of_the_same_length(
    data: st.DataObject, noise: bytes
) -> None:
    stored = encode_column(np.arange(300) ** 2)
    place = data.draw(st.integers(0, len(stored) - 1))
    damaged = stored[:place] + noise + stored[place + len(noise) :]
    try:
        decoded = decode_column(damaged)
    except ValueError:
        return

    assert decoded.shape in ((300,), (0,), (1,))


@given(st.binary(max_size=60))
def test_random_bytes_are_never_anything_but_a_value_error(data: bytes) -> None:
    try:
        decode_column(data)
    except ValueError:
        return


def test_more_than_the_header_says_is_not_inflated() -> None:
    stored = encode_column(np.arange(10))
    bomb = stored[:14] + zlib.compress(bytes(10_000_000))

    with pytest.raises(ValueError, match="or more; expected 9"):
        decode_column(bomb)


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="int64"):
        encode_column(np.zeros(3))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Inner:
    name: str
    level: Literal["low", "high"] = "low"


@dataclass(frozen=True)
class Outer:
    n: int
    share: float
    flag: bool
    maybe: float | None
    inner: tuple[Inner, ...]
    by_name: Mapping[str, float]


OUTER = Outer(3, 0.1 + 0.2, True, None, (Inner("a"), Inner("b", "high")), {"x": 1 / 3})


def test_a_dataclass_survives_a_round_trip() -> None:
    assert from_document(Outer, json.loads(to_text(to_document(OUTER)))) == OUTER


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_survive_to_the_last_bit(value: float) -> None:
    assert json.loads(to_text(value)) == value


def test_numpy_scalars_are_stored_as_numbers() -> None:
    assert to_text({"a": np.int64(3), "b": np.float64(0.5)}) == '{"a":3,"b":0.5}'


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n": "3"}, "Outer.n: found '3'"),
        ({"n": True}, "Outer.n: found True"),
        ({"share": None}, "Outer.share: found None"),
        ({"inner": [{"name": "a", "level": "mid"}]}, "Inner.level: found 'mid'"),
        ({"inner": [{}]}, "Inner: .*name"),
        ({"inner": ["a"]}, "Inner: found str"),
        ({"by_name": {"x": "y"}}, "Outer.by_name.x"),
        ({"more": 1}, "unknown field more"),
    ],
)
def test_a_document_that_does_not_fit_is_told(change: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        from_document(Outer, {**to_document(OUTER), **change})


def test_a_field_that_an_older_release_lacked_takes_its_default() -> None:
    assert from_document(Inner, {"name": "a"}) == Inner("a")
