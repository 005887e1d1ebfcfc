"""Any design gives findings: the overlay's own none, another's what it has instead."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacmac.host.errors import OverlayError
from bacmac.overlays.check_hand_off import check_design
from bacmac.overlays.findings import Finding
from bacmac.overlays.hwh import make_hwh
from bacmac.overlays.hwh_reader import read_hwh
from bacmac.overlays.registry import load_overlay

SHIPPED = load_overlay("bac-pot4")
OVERLAY = replace(SHIPPED, manifest=replace(SHIPPED.manifest, clock_hz=187.5e6))
GOOD = make_hwh(OVERLAY)


def findings(hwh: bytes) -> list[tuple[str, str, str]]:
    return [(f.level, f.subject, f.text) for f in check_design(OVERLAY, read_hwh(hwh))]


def changed(old: str, new: str) -> bytes:
    assert old.encode() in GOOD
    return GOOD.replace(old.encode(), new.encode())


@pytest.mark.parametrize(
    ("old", "new", "subject", "told"),
    [
        ('DEVICE="xczu7ev"', 'DEVICE="xczu9eg"', "hand-off", "part: found xczu9eg-ffvc1156-2"),
        (
            'PL0_REF_CTRL__ACT_FREQMHZ" VALUE="187.5"',
            'PL0_REF_CTRL__ACT_FREQMHZ" VALUE="200.0"',
            "clock",
            "pl_clk0: found 200 MHz; expected 187.5 MHz",
        ),
        (
            'PL0_REF_CTRL__ACT_FREQMHZ" VALUE="187.5"',
            'PL0_REF_CTRL__ACT_FREQMHZ" VALUE="nan"',
            "clock",
            "ACT_FREQMHZ of pl_clk0: found 'nan'; expected MHz",
        ),
        (
            'PL0_REF_CTRL__DIVISOR0" VALUE="8"',
            'PL0_REF_CTRL__DIVISOR0" VALUE="4"',
            "clock",
            "dividers of pl_clk0: found 4 x 1, 375 MHz under PYNQ 3; expected 187.5 MHz",
        ),
        ('PL0_ENABLE" VALUE="1"', 'PL0_ENABLE" VALUE="0"', "clock", "found '0'; expected 1"),
        ("0xA0000000", "0x9FFFF000", "accelerator", "address: found 0x9ffff000; expected"),
        ("0xA0000FFF", "0xA00007FF", "accelerator", "address range: found 0x800 bytes"),
        (
            'BASEVALUE="0xA0010000"',
            'BASEVALUE="0xA0010800"',
            "DMA",
            "address: found 0xa0010800; expected 0xa0010000",
        ),
        (
            'INSTANCE="axi_dma" MASTER',
            'INSTANCE="other" MASTER',
            "DMA",
            "address: found none in the address map",
        ),
        ('mm2s" VALUE="1"', 'mm2s" VALUE="0"', "DMA", "memory-to-stream channel (c_include_mm2s)"),
        ('s2mm" VALUE="1"', 's2mm" VALUE="0"', "DMA", "stream-to-memory channel (c_include_s2mm)"),
        ('sg" VALUE="0"', 'sg" VALUE="1"', "DMA", "scatter-gather (c_include_sg): found 1"),
        ('micro_dma" VALUE="0"', 'micro_dma" VALUE="1"', "DMA", "micro mode"),
        (
            'length_width" VALUE="26"',
            'length_width" VALUE="14"',
            "DMA",
            "found 14; expected at least 26, for transfers of 67108863 bytes",
        ),
        (
            'length_width" VALUE="26"',
            'length_width" VALUE="-26"',
            "DMA",
            "found -26; expected at least 26",
        ),
        (
            'mm2s_tdata_width" VALUE="128"',
            'mm2s_tdata_width" VALUE="64"',
            "DMA",
            "bits of a sent beat (c_m_axis_mm2s_tdata_width): found 64; expected 128",
        ),
        (
            "ip:accelerator:2.0",
            "ip:accelerator:3.0",
            "accelerator",
            "found bacmac:ip:accelerator:3.0",
        ),
        ("ip:accelerator:2.0", "hls:scaler:1.0", "accelerator", "found bacmac:hls:scaler:1.0"),
        (
            'BUILD_ID" VALUE="0xBAC40001"',
            'BUILD_ID" VALUE="0xBAC40002"',
            "accelerator",
            "parameter BUILD_ID: found 0xBAC40002; expected 0xbac40001",
        ),
        ('PRODUCT" VALUE="3"', 'PRODUCT" VALUE="1"', "accelerator", "parameter PRODUCT: found 1"),
        ('REGISTER NAME="REPEAT"', 'REGISTER NAME="AGAIN"', "registers", "REPEAT: found none"),
        ('VALUE="0x1c"', 'VALUE="0x7c"', "registers", "REPEAT: found 0x7c read-write"),
        (
            'FIELD NAME="START"',
            'FIELD NAME="GO"',
            "registers",
            "CTRL: found 0xc read-write {GO[0+:1]",
        ),
        ("zynq_ultra_ps_e:3.5", "processing_system7:5.5", "processor", "found processing_system7"),
    ],
)
def test_a_design_that_differs_is_an_error(old: str, new: str, subject: str, told: str) -> None:
    found = findings(changed(old, new))

    assert [level for level, _, text in found if told in text] == ["error"]
    assert {about for level, about, _ in found if level == "error"} == {subject}


@pytest.mark.parametrize(
    ("old", "new", "level", "told"),
    [
        ('addr_width" VALUE="40"', 'addr_width" VALUE="32"', "warning", "may give a buffer that"),
        ('mm2s_data_width" VALUE="128"', 'mm2s_data_width" VALUE="64"', "warning", "memory is"),
        ("axi_dma:7.1", "axi_dma:8.0", "warning", "version: found 8.0"),
        ('SRCSEL" VALUE="IOPLL"', 'SRCSEL" VALUE="RPLL"', "warning", "made from RPLL"),
        ("c_sg_length_width", "C_SG_LENGTH_WIDTH", None, ""),
        ('VALUE="0xBAC40001"', 'VALUE="32\'hBAC40001"', None, ""),
        ("bacmac:ip:accelerator:2.0", "xilinx.com:module_ref:bacmac:1.0", "note", "no IP"),
        ('NAME="BUILD_ID"', 'NAME="BUILD"', "note", "records no BUILD_ID"),
        ('187.5"', '187.498123"', None, ""),
        (
            'HIGHVALUE="0xA0000FFF"',
            'HIGHVALUE="0xA0000FFF" IS_DATA="TRUE" IS_INSTRUCTION="TRUE"',
            None,
            "",
        ),
    ],
)
def test_what_works_all_the_same_is_no_error(
    old: str, new: str, level: str | None, told: str
) -> None:
    found = findings(changed(old, new))

    assert [lev for lev, _, _ in found] == ([] if level is None else [level])
    assert all(told in text for _, _, text in found)


def test_a_design_that_declares_no_registers_is_a_note() -> None:
    bare = replace(OVERLAY, registers=replace(OVERLAY.registers, registers=()))

    (found,) = check_design(OVERLAY, read_hwh(make_hwh(bare)))

    assert found == Finding(
        "note", "registers", "the hand-off declares none: offsets cannot be compared"
    )


def tree() -> Element:
    return ElementTree.fromstring(GOOD)


def module(root: Element, instance: str) -> Element:
    return next(m for m in root.iter("MODULE") if m.get("INSTANCE") == instance)


def of(root: Element) -> list[tuple[str, str, str]]:
    return findings(ElementTree.tostring(root))


def add_dma(root: Element, base: int) -> None:
    """Another DMA, at another address; the first one's is changed where `base` is the overlay's."""
    modules = root.find("MODULES")
    assert modules is not None
    other = ElementTree.fromstring(ElementTree.tostring(module(root, "axi_dma")))
    other.set("INSTANCE", "trace_axi_dma")
    modules.append(other)
    seen = module(root, "ps").find("MEMORYMAP")
    assert seen is not None
    ElementTree.SubElement(
        seen,
        "MEMRANGE",
        INSTANCE="trace_axi_dma",
        BASEVALUE=hex(base),
        HIGHVALUE=hex(base + 0xFFF),
        MASTERBUSINTERFACE="M_AXI_HPM0_FPD",
        ADDRESSBLOCK="Reg",
    )


def test_of_several_dmas_the_one_at_the_manifests_address_is_meant() -> None:
    root = tree()
    add_dma(root, 0xA0020000)

    both = "2 in the design (axi_dma at 0xa0010000, trace_axi_dma at 0xa0020000)"
    assert of(root) == [("note", "DMA", f"{both}: the one at 0xa0010000 is looked at")]


def test_several_dmas_of_which_none_is_at_the_address() -> None:
    root = tree()
    add_dma(root, 0xA0020000)
    data = ElementTree.tostring(root).replace(b"0xA0010", b"0xA0030")

    both = "2 in the design (axi_dma at 0xa0030000, trace_axi_dma at 0xa0020000)"
    assert findings(data) == [("error", "DMA", f"{both}: expected one at 0xa0010000")]


def memory(root: Element, channel: str, block: str, high: str, base: str = "0x00000000") -> None:
    dma = module(root, "axi_dma")
    seen = dma.find("MEMORYMAP")
    if seen is None:
        seen = ElementTree.SubElement(dma, "MEMORYMAP")
    ElementTree.SubElement(
        seen,
        "MEMRANGE",
        INSTANCE="ps",
        BASEVALUE=base,
        HIGHVALUE=high,
        MASTERBUSINTERFACE=channel,
        ADDRESSBLOCK=block,
        MEMTYPE="MEMORY",
    )


@pytest.mark.parametrize(
    ("block", "high", "level", "told"),
    [
        ("HP0_DDR_LOW", "0x7FFFFFFF", None, ""),
        (
            "HP0_DDR_LOW",
            "0x1FFFFFFF",
            "warning",
            "found 0x0 to 0x1fffffff; expected 0x0 to 0x7fffffff",
        ),
        (
            "HP0_LPS_OCM",
            "0x7FFFFFFF",
            "error",
            "DDR that the stream-to-memory channel reaches: found none",
        ),
    ],
)
def test_both_channels_of_the_dma_reach_memory_where_that_is_recorded(
    block: str, high: str, level: str | None, told: str
) -> None:
    root = tree()
    memory(root, "M_AXI_MM2S", "HP0_DDR_LOW", "0x7FFFFFFF")
    memory(root, "M_AXI_S2MM", block, high)

    found = of(root)

    assert [lev for lev, _, _ in found] == ([] if level is None else [level])
    assert all(told in text for _, _, text in found)


def test_memory_may_be_mapped_in_parts() -> None:
    root = tree()
    for channel in ("M_AXI_MM2S", "M_AXI_S2MM"):
        memory(root, channel, "HP0_DDR_LOW", "0x3FFFFFFF")
        memory(root, channel, "HP0_DDR_LOW", "0x7FFFFFFF", "0x40000000")
        memory(root, channel, "HP0_DDR_HIGH", "0x87FFFFFFF", "0x800000000")

    assert of(root) == []


def clock_input(root: Element, instance: str, driver: str, port: str) -> None:
    ports = ElementTree.SubElement(module(root, instance), "PORTS")
    clock = ElementTree.SubElement(ports, "PORT", NAME="aclk", DIR="I", SIGIS="clk")
    joined = ElementTree.SubElement(clock, "CONNECTIONS")
    ElementTree.SubElement(joined, "CONNECTION", INSTANCE=driver, PORT=port)


@pytest.mark.parametrize(
    ("driver", "port", "level", "told"),
    [
        ("ps", "pl_clk0", None, ""),
        ("ps", "pl_clk1", "error", "clock input aclk: found pl_clk1; expected pl_clk0"),
        ("clk_wiz_0", "clk_out1", "warning", "found clk_wiz_0 clk_out1; expected pl_clk0"),
    ],
)
@pytest.mark.parametrize("instance", ["accelerator", "axi_dma"])
def test_the_clock_that_drives_a_block_is_pl_clk0_where_that_is_recorded(
    instance: str, driver: str, port: str, level: str | None, told: str
) -> None:
    root = tree()
    clock_input(root, instance, driver, port)

    found = of(root)

    assert [lev for lev, _, _ in found] == ([] if level is None else [level])
    assert all(told in text for _, _, text in found)


def stream(root: Element, instance: str, name: str, net: str) -> None:
    buses = module(root, instance).find("BUSINTERFACES")
    assert buses is not None
    ElementTree.SubElement(buses, "BUSINTERFACE", NAME=name, BUSNAME=net)


@pytest.mark.parametrize(
    ("net", "told"),
    [("axi_dma_M_AXIS_MM2S", ""), ("fifo_M_AXIS", "found nothing"), ("__NOC__", "found nothing")],
)
def test_the_streams_join_the_dma_and_the_accelerator_where_that_is_recorded(
    net: str, told: str
) -> None:
    root = tree()
    stream(root, "axi_dma", "M_AXIS_MM2S", "axi_dma_M_AXIS_MM2S")
    stream(root, "accelerator", "s_axis", net)

    found = of(root)

    assert [level for level, _, _ in found] == ([] if not told else ["error"])
    assert all(f"input stream s_axis joins: {told}" in text for _, _, text in found)


def test_numbers_that_are_none_are_told() -> None:
    hwh = GOOD.replace(b'BASEVALUE="0xA0000000"', b'BASEVALUE="zero"')
    hwh = hwh.replace(b'NAME="BIT_OFFSET"', b'NAME="BIT"')

    found = findings(hwh)

    assert ("warning", "hand-off", "MEMRANGE accelerator BASEVALUE: 'zero' is no number") in found
    assert any(text.endswith("more words that are no numbers") for _, _, text in found)


EMPTY = b"<EDKSYSTEM><MODULES/></EDKSYSTEM>"
ZYNQ_7000 = b"""\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8" standalone="no" ?>
<EDKSYSTEM EDWVERSION="1.2" TIMESTAMP="Wed Feb 12 16:19:27 2020" VIVADOVERSION="2019.2">
  <SYSTEMINFO ARCH="zynq" DEVICE="7z020" NAME="resizer" PACKAGE="clg400" SPEEDGRADE="-1"/>
  <EXTERNALPORTS/><EXTERNALINTERFACES/>
  <MODULES>
    <MODULE FULLNAME="/dma" INSTANCE="dma" VLNV="xilinx.com:ip:axi_dma:7.1">
      <PARAMETERS><PARAMETER NAME="C_INCLUDE_SG" VALUE="0"/></PARAMETERS>
    </MODULE>
    <MODULE FULLNAME="/ps7" INSTANCE="ps7" VLNV="xilinx.com:ip:processing_system7:5.5">
      <MEMORYMAP>
        <MEMRANGE BASEVALUE="0x40400000" HIGHVALUE="0x4040FFFF" INSTANCE="dma"/>
      </MEMORYMAP>
    </MODULE>
    <MODULE FULLNAME="/a" INSTANCE="a" VLNV="xilinx.com:hls:resize_accel:1.0"/>
    <MODULE FULLNAME="/region" INSTANCE="region" BDTYPE="BLOCK_CONTAINER" BD="region_0"/>
  </MODULES>
</EDKSYSTEM>
"""


def test_designs_of_other_boards_and_of_nothing_give_findings() -> None:
    none = findings(EMPTY)
    zynq = findings(ZYNQ_7000)

    assert [text for level, _, text in none] == [
        "part: found none; expected xczu7ev-ffvc1156-2",
        "processing system: found none; expected zynq_ultra_ps_e",
        "IP in the design: found none; expected bacmac:ip:accelerator:2.0",
        "IP in the design: found none; expected axi_dma",
    ]
    told = " | ".join(text for _, _, text in zynq)
    assert "found 7z020-clg400-1" in told
    assert "found processing_system7" in told
    assert "found xilinx.com:hls:resize_accel:1.0; expected bacmac:ip:accelerator:2.0" in told
    assert "address: found 0x40400000" in told
    assert "length bits (c_sg_length_width): found 14 by default; expected at least 26" in told


written = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), max_size=8)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_tree_gives_findings(data: st.DataObject) -> None:
    """Elements are dropped, doubled and moved, attributes dropped and changed."""
    root = tree()
    for _ in range(data.draw(st.integers(1, 6))):
        parents = [element for element in root.iter() if len(element)]
        parent = data.draw(st.sampled_from(parents))
        child = data.draw(st.sampled_from(list(parent)))
        match data.draw(st.sampled_from(["drop", "double", "move", "attribute"])):
            case "drop":
                parent.remove(child)
            case "double":
                parent.append(ElementTree.fromstring(ElementTree.tostring(child)))
            case "move":
                parent.remove(child)
                root.append(child)
            case _ if child.attrib:
                key = data.draw(st.sampled_from(sorted(child.attrib)))
                words = ["", "0", "1", "-1", "0xFFFFFFFFFFFFFFFF", "\u0663", "a:b:axi_dma:1", "ps"]
                child.set(key, data.draw(st.sampled_from(words) | written))
            case _:
                child.tag = "OTHER"
        if not any(len(element) for element in root.iter()):
            break

    try:
        design = read_hwh(ElementTree.tostring(root, encoding="utf-8"))
    except OverlayError:  # no hand-off any more
        return

    for finding in check_design(OVERLAY, design):
        assert len(finding.text) < 2000
        assert finding.level in ("note", "warning", "error")
