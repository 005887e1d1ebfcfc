"""`check` trusts nothing: texts against each other, files against the texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.bitfile import PREAMBLE
from bacmac.overlays.check import Finding, check_overlay
from bacmac.overlays.hwh import make_hwh
from bacmac.overlays.registry import list_overlays, load_overlay

SHIPPED = load_overlay("bac-pot4")
OVERLAY = replace(SHIPPED, manifest=replace(SHIPPED.manifest, clock_hz=187.5e6))
PART = OVERLAY.manifest.part


def bit_file(part: str = PART, payload: bytes = b"\xff" * 64, cut: int = 0) -> bytes:
    data = len(PREAMBLE).to_bytes(2, "big") + PREAMBLE + b"\0\1"
    for key, text in zip(
        "abcd", ("top;Version=2024.1", part, "2026/01/31", "12:00:00"), strict=True
    ):
        value = text.encode() + b"\0"
        data += key.encode() + len(value).to_bytes(2, "big") + value
    data += b"e" + len(payload).to_bytes(4, "big") + payload
    return data[: len(data) - cut]


def findings(overlay: Overlay, folder: Path, subject: str) -> list[Finding]:
    return [f for f in check_overlay(replace(overlay, folder=folder)) if f.subject == subject]


def built(folder: Path, hwh: bytes | None, bit: bytes | None) -> Path:
    if hwh is not None:
        (folder / "bac-pot4.hwh").write_bytes(hwh)
    if bit is not None:
        (folder / "bac-pot4.bit").write_bytes(bit)
    return folder


def test_the_shipped_overlays_have_no_error_and_say_that_there_is_no_bitstream() -> None:
    for overlay in list_overlays():
        found = check_overlay(overlay)

        assert not [finding for finding in found if finding.level == "error"]
        (bitstream,) = (finding for finding in found if finding.subject == "bitstream")
        assert bitstream.level == "note"
        assert "runs emulated only" in bitstream.text
        assert "hw_src/README.md" in bitstream.text


def test_a_complete_overlay_has_nothing_but_its_estimates_to_note(tmp_path: Path) -> None:
    folder = built(tmp_path, make_hwh(OVERLAY), bit_file())

    found = check_overlay(replace(OVERLAY, folder=folder))

    assert [f.subject for f in found if f.level != "ok"] == ["resources"]
    (bitstream,) = (f for f in found if f.subject == "bitstream")
    assert bitstream.text == (
        "bac-pot4.bit: top;Version=2024.1, xczu7ev-ffvc1156-2-e, built 2026/01/31 12:00:00"
    )


@pytest.mark.parametrize(("hwh", "bit"), [(make_hwh(OVERLAY), None), (None, bit_file())])
def test_one_file_of_the_two_is_an_error(
    tmp_path: Path, hwh: bytes | None, bit: bytes | None
) -> None:
    (found,) = findings(OVERLAY, built(tmp_path, hwh, bit), "files")

    assert found.level == "error"
    assert "without" in found.text


@pytest.mark.parametrize(
    ("bit", "told"),
    [
        (bit_file("xczu9eg-ffvb1156-2-e"), "is for xczu9eg-ffvb1156-2-e"),
        (bit_file(cut=1), "found 63 bytes; expected 64"),
        (bit_file() + b"more", "found 68 bytes; expected 64"),
        (bit_file()[:20], "field a: found the end of the header"),
        (b"", "preamble"),
        (b"\0\x09not a bitstream", "preamble"),
        (bit_file().replace(b"b\0\x15", b"z\0\x15"), "field b"),
        (bit_file().replace(b"b\0\x15", b"b\xff\xff"), "expected 65535 bytes"),
    ],
)
def test_a_wrong_bit_file_is_an_error(tmp_path: Path, bit: bytes, told: str) -> None:
    (found,) = findings(OVERLAY, built(tmp_path, make_hwh(OVERLAY), bit), "bitstream")

    assert found.level == "error"
    assert told in found.text


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b'DEVICE="xczu7ev"', b'DEVICE="xczu9eg"', "part: found xczu9eg-ffvc1156-2"),
        (b'"187.5"', b'"200.0"', "clock: found 200 MHz; expected 187.5 MHz"),
        (b"0xA0000000", b"0x9FFFF000", "accelerator address: found 0x9ffff000"),
        (b"0xA0000FFF", b"0xA00007FF", "address range: found 0x800 bytes"),
        (b'BASEVALUE="0xA0010000"', b'BASEVALUE="0xA0010800"', "DMA address: found 0xa0010800"),
        (b'c_include_mm2s" VALUE="1"', b'c_include_mm2s" VALUE="0"', "memory-to-stream channel"),
        (b'c_include_s2mm" VALUE="1"', b'c_include_s2mm" VALUE="0"', "stream-to-memory channel"),
        (b'c_include_sg" VALUE="0"', b'c_include_sg" VALUE="1"', "scatter-gather"),
        (b'VALUE="26"', b'VALUE="14"', "DMA length bits: found 14; expected at least 26"),
        (b'mm2s_tdata_width" VALUE="128"', b'mm2s_tdata_width" VALUE="64"', "sent beat: found 8"),
        (b'REGISTER NAME="REPEAT"', b'REGISTER NAME="AGAIN"', "register REPEAT: found none"),
        (b'VALUE="0x1c"', b'VALUE="0x7c"', "register REPEAT: found 0x7c read-write"),
        (
            b'FIELD NAME="START"',
            b'FIELD NAME="GO"',
            "register CTRL: found 0xc read-write {GO[0+:1]",
        ),
        (b"</EDKSYSTEM>", b"", "XML in UTF-8"),
    ],
)
def test_a_hand_off_that_differs_is_an_error(
    tmp_path: Path, old: bytes, new: bytes, told: str
) -> None:
    good = make_hwh(OVERLAY)
    assert old in good

    found = findings(OVERLAY, built(tmp_path, good.replace(old, new), bit_file()), "hand-off")

    assert [f.level for f in found] == ["error"]
    assert told in found[0].text


def test_upper_case_parameters_of_vivado_say_the_same(tmp_path: Path) -> None:
    hwh = make_hwh(OVERLAY).replace(b"c_sg_length_width", b"C_SG_LENGTH_WIDTH")

    (found,) = findings(OVERLAY, built(tmp_path, hwh, bit_file()), "hand-off")

    assert found.level == "ok"


def test_a_design_that_declares_no_registers_is_a_warning(tmp_path: Path) -> None:
    bare = replace(OVERLAY, registers=replace(OVERLAY.registers, registers=()))

    found = findings(OVERLAY, built(tmp_path, make_hwh(bare), bit_file()), "hand-off")

    assert [f.level for f in found] == ["warning", "ok"]


def test_a_dma_that_cannot_reach_all_memory_is_a_warning(tmp_path: Path) -> None:
    hwh = make_hwh(OVERLAY).replace(b'c_addr_width" VALUE="40"', b'c_addr_width" VALUE="32"')

    found = findings(OVERLAY, built(tmp_path, hwh, bit_file()), "hand-off")

    assert [f.level for f in found] == ["warning", "ok"]


@pytest.mark.parametrize(
    ("change", "subject", "level", "told"),
    [
        ({"abi": 3}, "register map", "error", "ABI resets to 2, the manifest says 3"),
        ({"dma_base": 0xA0000000}, "addresses", "error", "overlap"),
        ({"clock_hz": 200e6}, "clock", "warning", "nearest below is 187.5 MHz"),
        ({"part": "xczu9eg-ffvb1156-2-e"}, "part", "error", "ZCU104 has xczu7ev-ffvc1156-2-e"),
        ({"board": "ZCU999"}, "part", "note", "'ZCU999'"),
        ({"resources": {"LUT": 3e5}}, "resources", "error", "LUT 300000 of 230400"),
        ({"resources_source": "measured: Vivado"}, "resources", "ok", "LUT 2"),
    ],
)
def test_a_manifest_that_cannot_be_is_found(
    tmp_path: Path, change: dict[str, object], subject: str, level: str, told: str
) -> None:
    overlay = replace(OVERLAY, manifest=replace(OVERLAY.manifest, **change))  # type: ignore[arg-type]

    (found,) = findings(overlay, tmp_path, subject)

    assert found.level == level
    assert told in found.text


def test_registers_and_fields_that_the_driver_needs_are_named(tmp_path: Path) -> None:
    kept = []
    for register in OVERLAY.registers.registers:
        if register.name == "STATUS":
            register = replace(register, fields=register.fields[1:])
        if register.name != "REPEAT":
            kept.append(register)
    overlay = replace(OVERLAY, registers=replace(OVERLAY.registers, registers=tuple(kept)))

    (found,) = findings(overlay, tmp_path, "register map")

    assert found.level == "error"
    assert found.text == "the driver needs REPEAT, STATUS.IDLE"


def test_a_base_that_the_decoder_cannot_match_is_an_error(tmp_path: Path) -> None:
    large = replace(OVERLAY.registers, size_bytes=0x10000)
    manifest = replace(OVERLAY.manifest, accelerator_base=0xA0001000, dma_base=0xA0100000)

    (found,) = findings(Overlay(manifest, large, "", tmp_path), tmp_path, "addresses")

    assert found.level == "error"
    assert "multiple of its size" in found.text
