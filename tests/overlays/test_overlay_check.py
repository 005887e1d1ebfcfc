"""`check` trusts nothing: texts against each other, files against the texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.bitfile import PREAMBLE
from bacmac.overlays.bundle import sha256_lines
from bacmac.overlays.check import check_overlay
from bacmac.overlays.findings import Finding
from bacmac.overlays.hwh import make_hwh
from bacmac.overlays.registry import list_overlays, load_overlay

SHIPPED = load_overlay("bac-pot4")
OVERLAY = replace(SHIPPED, manifest=replace(SHIPPED.manifest, clock_hz=187.5e6))
PART = OVERLAY.manifest.part


def bit_file(
    part: str = PART,
    payload: bytes = b"\xff" * 64,
    cut: int = 0,
    design: str = "bacmac_system_wrapper;UserID=0XBAC40001;Version=2024.1",
) -> bytes:
    data = len(PREAMBLE).to_bytes(2, "big") + PREAMBLE + b"\0\1"
    for key, text in zip("abcd", (design, part, "2026/01/31", "12:00:00"), strict=True):
        value = text.encode() + b"\0"
        data += key.encode() + len(value).to_bytes(2, "big") + value
    data += b"e" + len(payload).to_bytes(4, "big") + payload
    return data[: len(data) - cut]


def vivado_hwh(overlay: Overlay = OVERLAY) -> bytes:
    """The same design as Vivado would hand it off: a release, a name, a byte-order mark."""
    made = make_hwh(overlay).replace(b' MADEFOR="emulation"', b"")
    made = made.replace(b'VIVADOVERSION=""', b'VIVADOVERSION="2024.1"')
    return b"\xef\xbb\xbf" + made.replace(b'NAME="bac-pot4"', b'NAME="bacmac_system"', 1)


TIMING = """\
| Tool Version      : Vivado v.2024.1 (lin64) Build 5076996
| Command           : report_timing_summary -file bac-pot4_timing_summary.rpt
| Device            : xczu7ev-ffvc1156
| Design State      : Routed

| Design Timing Summary
| ---------------------

    WNS(ns)      TNS(ns)      WHS(ns)      THS(ns)     WPWS(ns)
    -------      -------      -------      -------     --------
      0.123        0.000        0.010        0.000        1.166

All user specified timing constraints are met.

| Clock Summary
clk_pl_0  {0.000 2.667}        5.333           187.512
"""
UTILIZATION = """\
| Tool Version : Vivado v.2024.1 (lin64) Build 5076996
| Command      : report_utilization -file bac-pot4_utilization.rpt
| Device       : xczu7ev-ffvc1156-2-e
| Design State : Fully Placed

| Site Type      | Used  | Fixed | Prohibited | Available | Util% |
| CLB LUTs       | 31000 |     0 |          0 |    230400 | 13.45 |
| CLB Registers  | 24500 |     0 |          0 |    460800 |  5.32 |
| Block RAM Tile | 236.5 |     0 |          0 |       312 | 75.80 |
| URAM           |    64 |     0 |          0 |        96 | 66.67 |
| DSPs           |    69 |     0 |          0 |      1728 |  3.99 |
"""
BUILT = replace(
    OVERLAY.manifest,
    resources={
        **{"LUT": 31000.0, "FF": 24500.0, "DSP": 69.0, "BRAM36": 236.5, "URAM": 64.0},
        "slack_ns": 0.123,
    },
    resources_source="measured: Vivado v.2024.1, utilisation after implementation",
)


def build(folder: Path, **changed: str | bytes | None) -> Overlay:
    """A built overlay in `folder`; a file is left out by None, or given other contents."""
    contents: dict[str, str | bytes | None] = {
        "bac-pot4.bit": bit_file(),
        "bac-pot4.hwh": vivado_hwh(),
        "bac-pot4_timing_summary.rpt": TIMING,
        "bac-pot4_utilization.rpt": UTILIZATION,
    }
    keys = {"bit": ".bit", "hwh": ".hwh", "timing": "_timing_summary.rpt"}
    keys["utilization"] = "_utilization.rpt"
    contents.update({f"bac-pot4{keys[key]}": value for key, value in changed.items()})
    paths = []
    for name, text in contents.items():
        if text is not None:
            path = folder / name
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            paths.append(path)
    (folder / "bac-pot4.sha256").write_text(sha256_lines(paths, folder))
    return replace(OVERLAY, manifest=BUILT, folder=folder)


def told(overlay: Overlay, *, accept_timing: bool = False) -> list[tuple[str, str, str]]:
    """Everything found that is not simply in order."""
    return [
        (f.level, f.subject, f.text)
        for f in check_overlay(overlay, accept_timing=accept_timing)
        if f.level != "ok"
    ]


def findings(overlay: Overlay, folder: Path, subject: str) -> list[Finding]:
    return [f for f in check_overlay(replace(overlay, folder=folder)) if f.subject == subject]


def test_the_shipped_overlays_have_no_error_and_say_that_there_is_no_bitstream() -> None:
    for overlay in list_overlays():
        found = check_overlay(overlay)

        assert not [finding for finding in found if finding.level == "error"]
        (bitstream,) = (finding for finding in found if finding.subject == "bitstream")
        assert bitstream.level == "note"
        assert "runs emulated only" in bitstream.text
        assert "hw_src/README.md" in bitstream.text


def test_a_complete_build_has_nothing_to_note(tmp_path: Path) -> None:
    overlay = build(tmp_path)

    found = check_overlay(overlay)

    assert [f for f in found if f.level != "ok"] == []
    text = {f.subject: f.text for f in found}
    assert text["bitstream"] == (
        "bac-pot4.bit: bacmac_system_wrapper, xczu7ev-ffvc1156-2-e, "
        "built 2026/01/31 12:00:00, build 0xbac40001"
    )
    assert text["hand-off"] == (
        "bac-pot4.hwh (Vivado 2024.1) agrees with manifest and register map"
    )
    assert text["timing"] == (
        "met: setup 0.123 ns, hold 0.010 ns, pulse width 1.166 ns (Vivado v.2024.1)"
    )
    assert text["utilisation"] == (
        "LUT 31000, FF 24500, BRAM36 236.5, URAM 64, DSP 69 (Vivado v.2024.1)"
    )
    assert text["sha256"] == "every file of bac-pot4.sha256 is as it was built"


def test_a_hand_off_for_emulation_belongs_to_no_bitstream(tmp_path: Path) -> None:
    text = (
        "bac-pot4.hwh is made for emulation, it is not that of bac-pot4.bit: "
        "take the one that Vivado wrote with the bitstream"
    )
    assert told(build(tmp_path, hwh=make_hwh(OVERLAY))) == [("error", "files", text)]


def test_a_hand_off_for_emulation_alone_runs_emulated(tmp_path: Path) -> None:
    (tmp_path / "bac-pot4.hwh").write_bytes(make_hwh(OVERLAY))

    found = check_overlay(replace(OVERLAY, folder=tmp_path))

    assert {f.level for f in found} == {"ok", "note"}
    assert any(f.text.startswith("bac-pot4.hwh (made for emulation) agrees") for f in found)


@pytest.mark.parametrize(
    ("without", "text"),
    [
        ("bit", "bac-pot4.hwh without bac-pot4.bit: PYNQ needs both, of one build"),
        ("hwh", "bac-pot4.bit without bac-pot4.hwh: PYNQ needs both, of one build"),
    ],
)
def test_one_file_of_the_two_is_an_error(tmp_path: Path, without: str, text: str) -> None:
    found = told(build(tmp_path, **{without: None}))

    assert ("error", "files", text) in found


def test_files_of_unlike_names_are_an_error(tmp_path: Path) -> None:
    overlay = build(tmp_path)
    files = replace(overlay.manifest.files, hwh="other.hwh")
    (tmp_path / "other.hwh").write_bytes(vivado_hwh())

    found = told(replace(overlay, manifest=replace(overlay.manifest, files=files)))

    text = "bac-pot4.bit and other.hwh: PYNQ looks for the hand-off by the bitstream's name"
    assert [item for item in found if item[0] == "error"] == [("error", "files", text)]


@pytest.mark.parametrize(
    ("bit", "text"),
    [
        (bit_file("xczu9eg-ffvb1156-2-e"), "is for xczu9eg-ffvb1156-2-e"),
        (bit_file(cut=1), "found 63 bytes; expected 64"),
        (bit_file() + b"more", "found 68 bytes; expected 64"),
        (bit_file()[:20], "field a: found the end of the header"),
        (b"", "preamble: found an empty file"),
        (b"\0\x09not a bitstream", "preamble: found 00096e6f"),
        (b"\xff" * 32 + b"\x66\x55\x99\xaa" + b"\0" * 32, "configuration data without a header"),
        (b"\xff" * 32 + b"\xaa\x99\x55\x66" + b"\0" * 32, "configuration data without a header"),
        (b"PK\x03\x04", "a zip archive (an .xsa holds the .bit)"),
        (bit_file().replace(b"b\0\x15", b"z\0\x15"), "field b"),
        (bit_file().replace(b"b\0\x15", b"b\xff\xff"), "expected 65535 bytes"),
        (bit_file(design="bacmac_system;PARTIAL=TRUE;Version=2024.1"), "is partial"),
        (bit_file(design="bacmac_system;ENCRYPT=YES;Version=2024.1"), "is encrypted"),
        (
            bit_file(design="bacmac_system;UserID=0XBAC40002;Version=2024.1"),
            "is build 0xbac40002, the manifest says 0xbac40001",
        ),
    ],
)
def test_a_wrong_bit_file_is_an_error(tmp_path: Path, bit: bytes, text: str) -> None:
    found = [
        (level, said)
        for level, about, said in told(build(tmp_path, bit=bit))
        if about == "bitstream"
    ]

    assert found[0][0] == "error"
    assert text in found[0][1]


def test_words_of_a_file_drive_no_terminal(tmp_path: Path) -> None:
    overlay = build(tmp_path, bit=bit_file(design="bacmac_system\x1b[2J\n;UserID=0XBAC40001"))

    (text,) = (f.text for f in check_overlay(overlay) if f.subject == "bitstream")

    assert text.startswith("bac-pot4.bit: bacmac_system?[2J?, ")


@pytest.mark.parametrize("user_id", ["", ";UserID=0XFFFFFFFF", ";UserID=nothing"])
def test_a_bitstream_without_a_build_id_is_a_note(tmp_path: Path, user_id: str) -> None:
    found = told(build(tmp_path, bit=bit_file(design=f"bacmac_system{user_id};Version=2024.1")))

    assert [level for level, _, _ in found] == ["note"]
    assert "records no build id" in found[0][2]


@pytest.mark.parametrize(
    ("design", "level", "text"),
    [
        (
            "bacmac_system_wrapper;UserID=0XBAC40001;Version=2022.2",
            "error",
            "the bitstream is of Vivado 2022.2, the hand-off of 2024.1: they are of two builds",
        ),
        (
            "top;UserID=0XBAC40001;Version=2024.1",
            "warning",
            "the bitstream is of 'top', the hand-off of the block design 'bacmac_system'",
        ),
    ],
)
def test_bitstream_and_hand_off_are_of_one_build(
    tmp_path: Path, design: str, level: str, text: str
) -> None:
    ((found_level, subject, found),) = told(build(tmp_path, bit=bit_file(design=design)))

    assert (found_level, subject) == (level, "files")
    assert found.startswith(text)


def test_every_problem_of_a_hand_off_is_told_at_once(tmp_path: Path) -> None:
    hwh = (
        vivado_hwh()
        .replace(b'sg" VALUE="0"', b'sg" VALUE="1"')
        .replace(b'NAME="REPEAT"', b'NAME="X"')
    )

    found = told(build(tmp_path, hwh=hwh.replace(b'"xczu7ev"', b'"xczu9eg"')))

    assert [(level, subject) for level, subject, _ in found] == [
        ("error", "hand-off"),
        ("error", "registers"),
        ("error", "DMA"),
    ]


def test_a_hand_off_that_is_none_is_an_error(tmp_path: Path) -> None:
    ((level, subject, text),) = told(build(tmp_path, hwh=b"<EDKSYSTEM>"))

    assert (level, subject) == ("error", "hand-off")
    assert "XML in UTF-8" in text


MISSED = TIMING.replace("0.123", "-0.12").replace("All user", "Not all")


def test_timing_that_was_not_met_is_an_error_unless_accepted(tmp_path: Path) -> None:
    overlay = build(tmp_path, timing=MISSED)
    manifest = replace(overlay.manifest, resources={**BUILT.resources, "slack_ns": -0.12})
    missed = replace(overlay, manifest=manifest)

    text = "timing not met: worst slack -0.120 ns (Vivado timing summary)"
    assert told(missed) == [("error", "timing", text)]
    assert told(missed, accept_timing=True) == [("warning", "timing", text)]


@pytest.mark.parametrize(
    ("timing", "level", "text"),
    [
        (TIMING.replace("0.123", "0.200"), "error", "the manifest says 0.123, the report 0.2"),
        (TIMING.replace("5.333", "9.999"), "error", "timing analysed for 100 MHz, run at 187.5"),
        (TIMING.replace(": Routed", ": Synthesized"), "warning", "is Synthesized, not routed"),
        (TIMING.replace("xczu7ev", "xczu9eg"), "error", "the report is of a xczu9eg-ffvc1156"),
        (TIMING.replace("Design Timing", "Some"), "error", "no such table"),
        (None, "warning", "not known whether timing was met"),
    ],
)
def test_what_a_timing_summary_says_is_looked_at(
    tmp_path: Path, timing: str | None, level: str, text: str
) -> None:
    ((found_level, subject, found),) = told(build(tmp_path, timing=timing))

    assert (found_level, subject) == (level, "timing")
    assert text in found


def test_without_a_summary_a_negative_slack_of_the_manifest_counts(tmp_path: Path) -> None:
    overlay = build(tmp_path, timing=None)
    manifest = replace(overlay.manifest, resources={**BUILT.resources, "slack_ns": -0.3})
    missed = replace(overlay, manifest=manifest)

    text = "not met: the manifest says slack_ns = -0.3"
    assert told(missed) == [("error", "timing", text)]
    assert told(missed, accept_timing=True) == [("warning", "timing", text)]


@pytest.mark.parametrize(
    ("utilization", "level", "text"),
    [
        (
            UTILIZATION.replace("31000", "32000"),
            "error",
            "LUT: the manifest says 31000, the report",
        ),
        (UTILIZATION.replace(": Fully Placed", ": Synthesized"), "warning", "not placed"),
        (UTILIZATION.replace("xczu7ev", "xczu9eg"), "error", "of a xczu9eg-ffvc1156-2-e"),
        (UTILIZATION.replace("   312", "   100"), "error", "BRAM36 236.5 of 100"),
        (UTILIZATION.replace("CLB LUTs", "LUTs"), "error", "no row for LUT"),
        (None, "warning", "nothing shows what the manifest calls measured"),
    ],
)
def test_what_a_utilisation_report_says_is_looked_at(
    tmp_path: Path, utilization: str | None, level: str, text: str
) -> None:
    ((found_level, subject, found),) = told(build(tmp_path, utilization=utilization))

    assert (found_level, subject) == (level, "utilisation")
    assert text in found


def test_estimates_beside_a_report_are_a_warning(tmp_path: Path) -> None:
    built = build(tmp_path)
    overlay = replace(built, manifest=OVERLAY.manifest)

    ((level, text),) = ((lev, said) for lev, about, said in told(overlay) if about == "utilisation")

    assert level == "warning"
    assert text.startswith("LUT 31000, ")
    assert "still an estimate" in text


def test_a_file_that_changed_after_the_build_is_an_error(tmp_path: Path) -> None:
    overlay = build(tmp_path)
    (tmp_path / "bac-pot4.hwh").write_bytes(vivado_hwh() + b"\n")

    ((level, subject, text),) = told(overlay)

    assert (level, subject) == ("error", "sha256")
    assert text.startswith("bac-pot4.hwh: found sha256 ")


def test_a_file_that_the_digests_leave_out_is_a_warning(tmp_path: Path) -> None:
    overlay = build(tmp_path)
    path = tmp_path / "bac-pot4.sha256"
    path.write_text(
        "".join(line for line in path.read_text().splitlines(keepends=True) if ".hwh" not in line)
    )

    assert told(overlay) == [("warning", "sha256", "bac-pot4.sha256 leaves out bac-pot4.hwh")]


def test_an_update_of_vivado_is_the_same_release(tmp_path: Path) -> None:
    design = "bacmac_system_wrapper;UserID=0XBAC40001;Version=2024.1.2"

    assert told(build(tmp_path, bit=bit_file(design=design))) == []


def test_a_file_that_is_gone_and_digests_that_are_none_are_errors(tmp_path: Path) -> None:
    overlay = build(tmp_path)
    (tmp_path / "bac-pot4_utilization.rpt").unlink()
    gone = [text for _, subject, text in told(overlay) if subject == "sha256"]
    (tmp_path / "bac-pot4.sha256").write_text("../../etc/passwd\n")
    none = [text for _, subject, text in told(overlay) if subject == "sha256"]
    (tmp_path / "bac-pot4.sha256").unlink()
    without = [(level, text) for level, subject, text in told(overlay) if subject == "sha256"]

    assert gone == ["bac-pot4_utilization.rpt: No such file or directory"]
    assert len(none) == 1
    assert "line 1: found '../../etc/passwd'" in none[0]
    assert without == [("note", "no bac-pot4.sha256: a changed file would not be noticed")]


@pytest.mark.parametrize(
    ("change", "subject", "level", "text"),
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
    tmp_path: Path, change: dict[str, object], subject: str, level: str, text: str
) -> None:
    overlay = replace(OVERLAY, manifest=replace(OVERLAY.manifest, **change))  # type: ignore[arg-type]

    (found,) = findings(overlay, tmp_path, subject)

    assert found.level == level
    assert text in found.text


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


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_the_files_hold_there_are_findings(tmp_path: Path, data: st.DataObject) -> None:
    overlay = build(tmp_path)
    path = data.draw(st.sampled_from(sorted(tmp_path.iterdir())))
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 200)))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=30)) + whole[end:])

    found = check_overlay(overlay)

    assert found
    assert all(f.text.isprintable() for f in found)
