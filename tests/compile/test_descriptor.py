"""The 64-byte descriptor: every field survives, and nothing else is taken."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.compile.descriptor import Descriptor, decode, encode

U16 = ("groups", "in_h", "in_w", "in_c", "out_c", "out_h", "out_w", "n_entries", "n_skipped")
POSITIVE = ("kernel_h", "kernel_w", "stride_h", "stride_w", *U16[1:-1])
U32 = ("address", "weight_bytes", "constant_row")


def _values(name):
    if name == "kind":
        return st.integers(0, 2)
    if name == "flags":
        return st.integers(0, 255)
    if name in ("low", "high", "input_low", "input_high"):
        return st.integers(-(2**15), 2**15 - 1)
    if any(part in name for part in U32):
        return st.integers(0, 2**32 - 1)
    top = 2**16 - 1 if name in U16 else 255
    return st.integers(1 if name in POSITIVE else 0, top)


DESCRIPTORS = st.builds(Descriptor, **{f.name: _values(f.name) for f in fields(Descriptor)})
SIMPLE = Descriptor(
    0, 129, 3, 3, 1, 2, 1, 0, 1, 2, -128, 127, 1, 32, 30, 16, 64, 0x100, 0x200, 0x300, 0x400, 0x500,
    0x6, 0x700, -5, 250, 33, 15, 0x123, 0x45,
)  # fmt: skip


@given(DESCRIPTORS)
def test_a_descriptor_survives_its_bytes(descriptor):
    record = encode(descriptor)

    assert len(record) == 64
    assert decode(record) == descriptor


@given(st.binary(min_size=64, max_size=64))
def test_any_bytes_are_a_descriptor_or_a_value_error(record):
    try:
        descriptor = decode(record)
    except ValueError:
        return
    assert encode(descriptor) == record


def test_the_bytes_are_those_of_the_table():
    assert encode(SIMPLE).hex() == (
        "00810303010201000102"  # kind, flags, kernel, stride, padding
        "80ff7f00"  # low, high
        "010020001e0010004000"  # groups, in_h, in_w, in_c, out_c
        "000100000002000000030000"  # input, output, residual
        "000400000005000006000000"  # weights, weight bytes, constant row
        "00070000fbfffa00"  # group list, input range
        "21000f0023014500"  # output, entries, skipped
    )


@pytest.mark.parametrize(
    ("field", "value"), [("kernel_h", 256), ("in_c", 1 << 16), ("pad_top", -1), ("low", 1 << 15)]
)
def test_a_value_that_does_not_fit_is_named(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        encode(replace(SIMPLE, **{field: value}))


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [(0, 3, "kind"), (2, 0, "kernel_h is 0"), (56, 0, "out_h is 0")],
)
def test_a_record_that_means_nothing_is_refused(offset, value, message):
    record = bytearray(encode(SIMPLE))
    record[offset] = value

    with pytest.raises(ValueError, match=message):
        decode(bytes(record))
