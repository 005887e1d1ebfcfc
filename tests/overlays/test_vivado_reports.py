"""Vivado's two reports are read in every layout, and no other text is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacmac.host.errors import OverlayError
from bacmac.overlays.vivado_reports import read_timing_summary, read_utilization, same_part

# Layouts as Vivado writes them, every number of our own making.

RULE = "-" * 96
TIMING_HEADER = """\
Copyright 1986-2022 Xilinx, Inc. Copyright 2022-2024 Advanced Micro Devices, Inc.
-----------------------------------------------------------------------------------------------
| Tool Version      : Vivado v.2024.1 (lin64) Build 5076996 Wed May 22 18:36:09 MDT 2024
| Date              : Tue Dec 10 11:21:39 2024
| Host              : somewhere running 64-bit Ubuntu 24.04.1 LTS
| Command           : report_timing_summary -max_paths 10 -file top_timing_summary.rpt
| Design            : bacmac_wrapper
| Device            : xczu7ev-ffvc1156
| Speed File        : -2  PRODUCTION 1.30 05-15-2022
| Design State      : Routed
| Temperature Grade : E
-----------------------------------------------------------------------------------------------

Timing Summary Report

"""
OLD_TIMING_HEADER = """\
Copyright 1986-2018 Xilinx, Inc. All Rights Reserved.
-----------------------------------------------------------------------------------------------
| Tool Version : Vivado v.2018.2 (lin64) Build 2258646 Thu Jun 14 20:02:38 MDT 2018
| Command      : report_timing_summary -warn_on_violation -max_paths 10 -file top.rpt
| Design       : top_wrapper
| Device       : 7z020-clg400
| Speed File   : -1  PRODUCTION 1.11 2014-09-11
-----------------------------------------------------------------------------------------------

"""
CHECKS = """\
1. checking no_clock (0)
------------------------
 There are 0 register/latch pins with no clock.

"""
COLUMNS = (
    "    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)      THS(ns)"
    "  THS Failing Endpoints  THS Total Endpoints     WPWS(ns)     TPWS(ns)  TPWS Failing Endpoints"
    "  TPWS Total Endpoints  "
)
MET = "All user specified timing constraints are met."
NOT_MET = "Timing constraints are not met."
NONE_GIVEN = "There are no user specified timing constraints."


def timing(
    numbers: str,
    verdict: str,
    header: str = TIMING_HEADER,
    checks: str = CHECKS,
    clocks: str = "clk_pl_0  {0.000 2.667}        5.333           187.512         ",
) -> str:
    dashes = "    " + "  ".join("-" * len(name) for name in COLUMNS.split("  ") if name.strip())
    return f"""{header}{checks}{RULE}
| Design Timing Summary
| ---------------------
{RULE}

{COLUMNS}
{dashes}
      {"        ".join(numbers.split())}


{verdict}


{RULE}
| Clock Summary
| -------------
{RULE}

Clock     Waveform(ns)         Period(ns)      Frequency(MHz)
-----     ------------         ----------      --------------
{clocks}


{RULE}
| Intra Clock Table
| -----------------
{RULE}

Clock             WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints
-----             -------      -------  ---------------------  -------------------
clk_pl_0           9.999        0.000                      0                  100
"""


GOOD_TIMING = timing("0.123 0.000 0 20000 0.011 0.000 0 20000 1.166 0.000 0 9000", MET)


def written(folder: Path, text: str) -> Path:
    path = folder / "report.rpt"
    path.write_text(text)
    return path


def test_a_routed_design_that_meets_timing(tmp_path: Path) -> None:
    found = read_timing_summary(written(tmp_path, GOOD_TIMING))

    assert found.met
    assert (found.wns_ns, found.tns_ns, found.whs_ns, found.ths_ns) == (0.123, 0, 0.011, 0)
    assert (found.wpws_ns, found.worst_slack_ns) == (1.166, 0.011)
    assert (found.setup_failing, found.hold_failing, found.pulse_failing) == (0, 0, 0)
    assert (found.period_ns("clk_pl_0"), found.period_ns("clk_pl_1")) == (5.333, None)
    assert found.header.tool == "Vivado v.2024.1"
    assert found.header.state == "Routed"
    assert found.header.design == "bacmac_wrapper"
    assert same_part(found.header.part, "xczu7ev-ffvc1156-2-e")


@pytest.mark.parametrize(
    ("numbers", "worst", "failing"),
    [
        ("-1.445 -210.5 310 9000 0.010 0.000 0 9000 1.000 0.000 0 90", -1.445, (310, 0, 0)),
        ("0.300 0.000 0 9000 -0.008 -0.008 1 9000 1.000 0.000 0 90", -0.008, (0, 1, 0)),
        ("0.300 0.000 0 9000 0.010 0.000 0 9000 -0.155 -0.310 2 90", -0.155, (0, 0, 2)),
    ],
)
def test_a_negative_slack_of_any_kind_is_not_met(
    tmp_path: Path, numbers: str, worst: float, failing: tuple[int, int, int]
) -> None:
    found = read_timing_summary(written(tmp_path, timing(numbers, NOT_MET)))

    assert not found.met
    assert found.worst_slack_ns == worst
    assert (found.setup_failing, found.hold_failing, found.pulse_failing) == failing


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ("NA NA NA NA NA NA NA NA NA NA NA NA", NONE_GIVEN),
        ("inf 0.000 0 2271 inf 0.000 0 2271 NA NA NA NA", NONE_GIVEN),
        ("NA NA NA NA NA NA NA NA 17.845 0.000 0 1", MET),
        ("0.300 0.000 0 900 0.010 0.000 0 900 1.000 0.000 0 90", NOT_MET),
        ("0.300 0.000 0 900 0.010 0.000 0 900 1.000 0.000 0 90", ""),
    ],
)
def test_what_was_never_shown_to_meet_timing_is_not_met(
    tmp_path: Path, numbers: str, verdict: str
) -> None:
    assert not read_timing_summary(written(tmp_path, timing(numbers, verdict))).met


def test_the_7_series_header_of_old_releases_and_windows_line_ends(tmp_path: Path) -> None:
    text = timing(
        "2.621 0.000 0 25165 0.013 0.000 0 25165 3.400 0.000 0 9977",
        MET,
        header=OLD_TIMING_HEADER,
        checks=" There are 6 register/latch pins with no clock driven by root clock pin: a (HIGH)\n"
        " There are 2 register/latch pins with no clock driven by root clock pin: b (HIGH)\n",
        clocks="clk_fpga_0  {0.000 5.000}      10.000          100.000\n"
        "  clk_out1  {0.000 2.500}       5.000          200.000",
    )
    path = tmp_path / "report.rpt"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())

    found = read_timing_summary(path)

    assert found.met
    assert found.unclocked == 8
    assert [(clock.name, clock.period_ns) for clock in found.clocks] == [
        ("clk_fpga_0", 10.0),
        ("clk_out1", 5.0),
    ]
    assert (found.header.part, found.header.state) == ("7z020-clg400", "")


UTILIZATION_HEADER = """\
Copyright 1986-2022 Xilinx, Inc. All Rights Reserved.
-----------------------------------------------------------------------------------------------
| Tool Version : Vivado v.{release} (lin64) Build 5076996
| Date         : Tue Dec 10 11:19:10 2024
| Command      : {command}
| Design       : bacmac_wrapper
| Device       : {device}
| Design State : {state}
-----------------------------------------------------------------------------------------------

Utilization Design Information

"""


def table(title: str, prohibited: bool, *rows: tuple[str, str, str]) -> str:
    """One table of site types; a row is name, used, available."""
    widths = (28, 7, 7, 12, 11, 7) if prohibited else (28, 7, 7, 11, 7)
    heads = ["Site Type", "Used", "Fixed", "Prohibited", "Available", "Util%"]
    if not prohibited:
        heads.remove("Prohibited")
    rule = "+" + "+".join("-" * width for width in widths) + "+"

    def line(cells: list[str]) -> str:
        first, *others = cells
        shown = [f" {first}".ljust(widths[0])]
        shown += [f"{c} ".rjust(w) for c, w in zip(others, widths[1:], strict=True)]
        return "|" + "|".join(shown) + "|"

    middle = ["0", "0"] if prohibited else ["0"]
    body = [line([name, used, *middle, most, "1.00" if most else ""]) for name, used, most in rows]
    dashes = "-" * len(title)
    return "\n".join([title, dashes, "", rule, line(heads), rule, *body, rule, "", "", ""])


def ultrascale(prohibited: bool = True, **header: str) -> str:
    said = {
        "release": "2024.1",
        "command": "report_utilization -file top_utilization.rpt",
        "device": "xczu7ev-ffvc1156-2-e",
        "state": "Fully Placed",
        **header,
    }
    return UTILIZATION_HEADER.format(**said) + "".join(
        (
            table(
                "1. CLB Logic",
                prohibited,
                ("CLB LUTs", "31000", "230400"),
                ("  LUT as Logic", "29000", "230400"),
                ("    LUT as Distributed RAM", "232", ""),
                ("CLB Registers", "24500", "460800"),
                ("  Register as Flip Flop", "24500", "460800"),
            ),
            table(
                "2. CLB Logic Distribution",
                prohibited,
                ("CLB", "6000", "28800"),
                ("CLB Registers", "24500", "460800"),
            ),
            table(
                "3. BLOCKRAM",
                prohibited,
                ("Block RAM Tile", "236.5", "312"),
                ("  RAMB36/FIFO*", "236", "312"),
                ("  RAMB18", "1", "624"),
                ("URAM", "64", "96"),
            ),
            table(
                "4. ARITHMETIC", prohibited, ("DSPs", "69", "1728"), ("  DSP48E2 only", "69", "")
            ),
        )
    )


def seven_series(prohibited: bool, star: str = "") -> str:
    header = UTILIZATION_HEADER.format(
        release="2018.2",
        command="report_utilization -file top_utilization_placed.rpt -pb top.pb",
        device="7z020clg400-1",
        state="Fully Placed",
    )
    return header + "".join(
        (
            table(
                "1. Slice Logic",
                prohibited,
                (f"Slice LUTs{star}", "5417", "53200"),
                ("Slice Registers", "6173", "106400"),
            ),
            table("3. Memory", prohibited, ("Block RAM Tile", "18.5", "140")),
            table("4. DSP", prohibited, ("DSPs", "4", "220")),
        )
    )


@pytest.mark.parametrize("prohibited", [False, True])
def test_utilization_of_ultrascale_plus(tmp_path: Path, prohibited: bool) -> None:
    found = read_utilization(written(tmp_path, ultrascale(prohibited)))

    assert found.resources == {
        "LUT": 31000,
        "FF": 24500,
        "BRAM36": 236.5,
        "URAM": 64,
        "DSP": 69,
    }
    assert found.available == {
        "LUT": 230400,
        "FF": 460800,
        "BRAM36": 312,
        "URAM": 96,
        "DSP": 1728,
    }
    assert found.is_placed
    assert same_part(found.header.part, "xczu7ev-ffvc1156-2-e")


@pytest.mark.parametrize(("prohibited", "star"), [(False, ""), (False, "*"), (True, "")])
def test_utilization_of_7_series_has_no_uram(tmp_path: Path, prohibited: bool, star: str) -> None:
    found = read_utilization(written(tmp_path, seven_series(prohibited, star)))

    assert found.resources == {"LUT": 5417, "FF": 6173, "BRAM36": 18.5, "DSP": 4}
    assert same_part(found.header.part, "xc7z020-clg400-1-c")


def test_a_synthesised_design_is_said_not_to_be_placed(tmp_path: Path) -> None:
    assert not read_utilization(written(tmp_path, ultrascale(state="Synthesized"))).is_placed
    assert read_utilization(written(tmp_path, ultrascale(state="Physopt postRoute"))).is_placed


HIERARCHY = (
    UTILIZATION_HEADER.format(
        release="2024.1", command="report_utilization", device="x", state="Routed"
    )
    + """1. Utilization by Hierarchy
---------------------------

+----------+--------+------------+------+--------+--------+------------+
| Instance | Module | Total LUTs |  FFs | RAMB36 | RAMB18 | DSP Blocks |
+----------+--------+------------+------+--------+--------+------------+
| top      |  (top) |      16115 | 3080 |     10 |      2 |         36 |
+----------+--------+------------+------+--------+--------+------------+
"""
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HIERARCHY, "report_utilization -hierarchical"),
        (ultrascale(command="report_utilization -hierarchical -file a.rpt"), "-hierarchical"),
        (ultrascale(command="report_utilization -cells a/b -file a.rpt"), "-cells"),
        (ultrascale().replace("CLB LUTs", "LUTs of it"), "no row for LUT"),
        (ultrascale().replace("| 236.5", "|  many"), "Block RAM Tile: found 'many'"),
        (GOOD_TIMING, "no row for LUT, FF, DSP, BRAM36"),
        ("", "no row for LUT"),
        ("\0\xff" * 50, "no row for LUT"),
    ],
)
def test_what_is_no_utilization_of_a_design_is_refused(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(OverlayError, match=told):
        read_utilization(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no such table"),
        (ultrascale(), "no such table"),
        (GOOD_TIMING[: GOOD_TIMING.index("0.123")], "no such table"),
        (GOOD_TIMING.replace("0.123", "a.bcd"), r"WNS\(ns\): found 'a.bcd'"),
        (GOOD_TIMING.replace("0.123", "nan  "), r"WNS\(ns\): found 'nan'"),
        (GOOD_TIMING.replace("THS(ns)", "T(ns)  "), r"THS\(ns\): found 'nothing'"),
    ],
)
def test_what_is_no_timing_summary_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(OverlayError, match=told):
        read_timing_summary(written(tmp_path, text))


def test_a_report_that_cannot_be_read_is_an_overlay_error(tmp_path: Path) -> None:
    for read in (read_timing_summary, read_utilization):
        with pytest.raises(OverlayError, match="a readable file"):
            read(tmp_path / "none.rpt")
        with pytest.raises(OverlayError, match="a readable file"):
            read(tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_only_an_overlay_error_leaves_the_readers(tmp_path: Path, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([GOOD_TIMING, ultrascale(), seven_series(True)]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 200)))
    noise = data.draw(st.binary(max_size=30))
    path = tmp_path / "report.rpt"
    path.write_bytes(text[:start].encode() + noise + text[end:].encode())

    told = []
    for read in (read_timing_summary, read_utilization):
        try:
            read(path)
        except OverlayError as error:
            told.append(str(error))

    assert told  # a text is at most one of the two
    assert all("\n" not in text for text in told)
