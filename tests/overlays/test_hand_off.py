"""The hand-off says what the tables say, and reads back as it was written."""

from __future__ import annotations

import itertools
import string
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacmac.host.errors import OverlayError
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.manifest.registers import Field, Register, RegisterMap
from bacmac.overlays.check_hand_off import check_design
from bacmac.overlays.hwh import IOPLL_HZ, clock_dividers, make_hwh
from bacmac.overlays.hwh_reader import MAX_DEPTH, load_hwh, parse_integer, read_hwh
from bacmac.overlays.registry import list_overlays, load_overlay

OVERLAY = load_overlay("bac-pot4")
GOOD = make_hwh(OVERLAY)

names = st.text(string.ascii_uppercase + string.digits + "_", max_size=12).map(lambda s: "R" + s)
printable = st.characters(codec="utf-8", categories=["L", "N", "P", "S"])
descriptions = st.text(printable, min_size=1, max_size=40)


@st.composite
def fields_of_a_register(draw: st.DrawFn) -> tuple[Field, ...]:
    edges = sorted(draw(st.sets(st.integers(0, 32), max_size=8)))
    spans = list(itertools.pairwise(edges))
    unique = draw(st.lists(names, min_size=len(spans), max_size=len(spans), unique=True))
    return tuple(
        Field(name, low, high - low, draw(descriptions))
        for name, (low, high) in zip(unique, spans, strict=True)
    )


@st.composite
def register_maps(draw: st.DrawFn) -> RegisterMap:
    offsets = draw(st.lists(st.integers(0, 1023), min_size=1, max_size=10, unique=True))
    unique = draw(st.lists(names, min_size=len(offsets), max_size=len(offsets), unique=True))
    registers = tuple(
        Register(
            name,
            4 * offset,
            draw(st.sampled_from(["read-only", "read-write", "write-only"])),
            draw(st.integers(0, 0xFFFFFFFF)),
            draw(descriptions),
            draw(fields_of_a_register()),
        )
        for name, offset in zip(unique, offsets, strict=True)
    )
    return RegisterMap("random", 1, 0x1000, registers)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    register_map=register_maps(),
    clock_hz=st.floats(1e6, 1e9),
    length_bits=st.integers(8, 26),
    pages=st.lists(st.integers(0xA0000, 0xAFFFF), min_size=2, max_size=2, unique=True),
)
def test_reading_gives_back_the_tables_it_was_made_from(
    register_map: RegisterMap, clock_hz: float, length_bits: int, pages: list[int]
) -> None:
    manifest = replace(
        OVERLAY.manifest,
        clock_hz=clock_hz,
        max_transfer_bytes=(1 << length_bits) - 1,
        accelerator_base=pages[0] << 12,
        dma_base=pages[1] << 12,
    )
    overlay = Overlay(manifest, register_map, "", OVERLAY.folder)

    design = read_hwh(make_hwh(overlay))

    assert [f for f in check_design(overlay, design) if f.subject != "clock"] == []
    assert design.is_for_emulation
    assert design.problems == ()
    (accelerator,) = design.of_kind("accelerator")
    assert [
        (r.name, r.offset, r.access, [(name, lsb, width) for name, lsb, width in r.fields])
        for r in accelerator.registers
    ] == [
        (r.name, r.offset, r.access, [(f.name, f.lsb, f.width) for f in r.fields])
        for r in register_map.registers
    ]
    assert {r.slave: r.base for r in design.ranges} == {
        "accelerator": manifest.accelerator_base,
        "axi_dma": manifest.dma_base,
    }
    (dma,) = design.of_kind("axi_dma")
    assert (1 << int(dma.parameters["c_sg_length_width"])) - 1 == manifest.max_transfer_bytes


def test_the_shipped_hand_offs_are_those_that_are_made_from_the_tables() -> None:
    for overlay in list_overlays():
        shipped = overlay.folder / overlay.manifest.files.hwh

        again = f"bacmac overlay hwh {overlay.manifest.name} -o {shipped}"
        assert shipped.read_bytes() == make_hwh(overlay), f"made from other tables: {again}"
        assert check_design(overlay, load_hwh(shipped)) == ()


def test_the_built_design_and_the_one_for_emulation_have_the_same_names() -> None:
    design = read_hwh(GOOD)

    assert [(m.instance, m.vlnv) for m in design.modules] == [
        ("ps", "xilinx.com:ip:zynq_ultra_ps_e:3.5"),
        ("accelerator", "bacmac:ip:accelerator:2.0"),
        ("axi_dma", "xilinx.com:ip:axi_dma:7.1"),
    ]
    assert design.modules[1].parameters["build_id"] == "0xBAC40001"
    assert (design.name, design.part, design.release) == ("bac-pot4", "xczu7ev-ffvc1156-2", "")


def test_the_hand_off_holds_what_pynq_asks_for() -> None:
    text = GOOD.decode()

    for needed in (
        "<EXTERNALPORTS />",
        'MODTYPE="zynq_ultra_ps_e"',
        'VLNV="xilinx.com:interface:aximm:1.0"',
        'MEMTYPE="REGISTER"',
        'SLAVEBUSINTERFACE="S_AXI_LITE"',
        'NAME="PSU__FPGA_PL3_ENABLE" VALUE="0"',
        'NAME="PSU__CRL_APB__PL0_REF_CTRL__SRCSEL" VALUE="IOPLL"',
        'NAME="c_m_axi_mm2s_data_width" VALUE="128"',
        'NAME="c_sg_length_width" VALUE="26"',
        'NAME="c_addr_width" VALUE="40"',
        'INTERFACE="s_axi" USAGE="register"',
    ):
        assert needed in text, needed


@given(st.floats(1e6, 1e9))
def test_the_clock_is_never_faster_than_asked(clock_hz: float) -> None:
    first, second = clock_dividers(clock_hz)

    assert 1 <= first <= 63
    assert 1 <= second <= 63
    assert IOPLL_HZ / (first * second) <= clock_hz * 1.001


@pytest.mark.parametrize(
    ("mhz", "reached"), [(187.5, 187.5), (200, 187.5), (250, 250), (100, 100), (214.2855, 1500 / 7)]
)
def test_dividers_give_the_nearest_clock_below(mhz: float, reached: float) -> None:
    first, second = clock_dividers(mhz * 1e6)

    assert IOPLL_HZ / (first * second) == pytest.approx(reached * 1e6)


LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY b%d "%s">' % (n, b"&a;" * 100) for n in range(50))
    + b"]><x>&b49;</x>"
)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (LAUGHS, "document type declaration"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>', "document type declaration"),
        (b"", "no element found"),
        (b"PK\x03\x04", "not well-formed"),
        (GOOD[: len(GOOD) // 2], "XML in UTF-8"),
        (b"<x>&undeclared;</x>", "undefined entity"),
        (b"<a>" * (MAX_DEPTH + 1), "nested without end"),
        (b"<x/>", "root element: found <x>"),
        (b"<EDKSYSTEM/>", "without MODULES"),
        (GOOD.replace(b"the letters", b"the l\xff"), "XML in UTF-8"),
    ],
)
def test_a_hostile_or_damaged_hand_off_is_an_overlay_error(data: bytes, told: str) -> None:
    with pytest.raises(OverlayError, match=told) as caught:
        read_hwh(data, "some.hwh")

    assert caught.value.file == "some.hwh"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_only_an_overlay_error_leaves_the_reader(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, min(len(GOOD), start + 30)))
    damaged = GOOD[:start] + data.draw(st.binary(max_size=12)) + GOOD[end:]

    told = ""
    try:
        read_hwh(damaged)
    except OverlayError as error:
        told = str(error)

    assert "\n" not in told


def test_a_declared_encoding_cannot_choose_a_codec() -> None:
    assert read_hwh(GOOD.replace(b"'UTF-8'", b"'punycode'")) == read_hwh(GOOD)


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read_hwh(b"\xef\xbb\xbf" + GOOD) == read_hwh(GOOD)


def test_a_hand_off_that_cannot_be_read_is_an_overlay_error(tmp_path: Path) -> None:
    with pytest.raises(OverlayError, match="a readable file"):
        load_hwh(tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("26", 26),
        ("0xA0000000", 0xA0000000),
        ("0X1F", 31),
        ("0b101", 5),
        ('"00000000000000000000000000000011"', 3),
        ("32'hBAC40001", 0xBAC40001),
        ("1'b0", 0),
        ("32'd7", 7),
        ("10111010110001000000000000000001", 0xBAC40001),
        ("1_0", None),
        ("\u0663", None),
        ("-1", None),
        ("0x10000000000000000", None),
        ("auto", None),
        ("", None),
        ("9" * 5000, None),
    ],
)
def test_numbers_as_hand_offs_write_them(text: str, value: int | None) -> None:
    assert parse_integer(text) == value
