"""Read Vivado's timing summary and utilisation report, as far as an overlay is judged by them.

Both are texts: a header of `| Key : value` lines, then sections. What is read, and from which
releases the layouts are known (2018.2 to 2025.1):

- `report_timing_summary`: section "Design Timing Summary", one row of twelve numbers (UG906);
  a number is `NA` where no path is constrained, `inf` where there are no constraints at all;
- `report_utilization`: tables of "Site Type"; 7 series says "Slice LUTs" and "Slice Registers",
  UltraScale+ "CLB LUTs" and "CLB Registers", Versal "Registers" and "DSP Slices"; releases
  after 2020.1 have a column "Prohibited". A "Block RAM Tile" is one RAMB36 or two RAMB18, so it
  may be x.5.

Only `OverlayError` leaves this module, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bacmac.host.errors import OverlayError
from bacmac.overlays.bounded_file import read_bounded

MAX_BYTES = 64 << 20
"""Of a report; one that lists ten paths of each group for a full device has a few megabytes."""

PLACED_STATES = ("placed", "routed", "physopt")
"""Words of a `Design State` that is the device's own, not a synthesis estimate."""


@dataclass(frozen=True)
class ReportHeader:
    """What either report says of where it comes from; a line that is not there is empty.

    Attributes:
        tool: as "Vivado v.2024.1".
        command: the Tcl command that wrote it.
        design: name of the top module.
        part: as it is written: "xczu7ev-ffvc1156-2-e" of newer releases in one report,
            "xczu7ev-ffvc1156" in another; compare by `same_part`.
        state: "Fully Placed", "Routed", "Synthesized", ...
    """

    tool: str
    command: str
    design: str
    part: str
    state: str


@dataclass(frozen=True)
class TimedClock:
    """A clock of the design, as it was constrained."""

    name: str
    period_ns: float


@dataclass(frozen=True)
class TimingSummary:
    """The worst and the summed slack of a routed design.

    Attributes:
        header: of the report.
        wns_ns, tns_ns: worst and total negative slack of setup; None where no path has one.
        whs_ns, ths_ns: of hold.
        wpws_ns: worst slack of pulse widths and periods.
        setup_failing, hold_failing, pulse_failing: endpoints with negative slack.
        unclocked: registers without a clock, to which none of the above applies.
        met: Vivado says that all constraints are met, there are some, and no slack is negative.
        clocks: as they were constrained.
    """

    header: ReportHeader
    wns_ns: float | None
    tns_ns: float | None
    whs_ns: float | None
    ths_ns: float | None
    wpws_ns: float | None
    setup_failing: int
    hold_failing: int
    pulse_failing: int
    unclocked: int
    met: bool
    clocks: tuple[TimedClock, ...]

    @property
    def worst_slack_ns(self) -> float | None:
        """The least of setup, hold and pulse width; None where nothing is constrained."""
        return min(
            (slack for slack in (self.wns_ns, self.whs_ns, self.wpws_ns) if slack is not None),
            default=None,
        )

    def period_ns(self, clock: str) -> float | None:
        """What a clock was constrained to; None when the report does not list it."""
        return next((found.period_ns for found in self.clocks if found.name == clock), None)


@dataclass(frozen=True)
class Utilization:
    """What a whole design takes of its device.

    Attributes:
        header: of the report.
        resources: used LUT, FF, DSP, BRAM36 (halves are RAMB18), and URAM where the device has it.
        available: of the device, by the same names.
    """

    header: ReportHeader
    resources: dict[str, float]
    available: dict[str, float]

    @property
    def is_placed(self) -> bool:
        """Counted after placement; a synthesised design's numbers are an estimate of it."""
        return any(word in self.header.state.lower() for word in PLACED_STATES)


def read_timing_summary(path: Path) -> TimingSummary:
    """Read what `report_timing_summary` wrote.

    Raises:
        OverlayError: it cannot be read or is no timing summary.
    """
    text = _read(path)
    row = _design_summary(path, text)

    def slack(key: str) -> float | None:
        return _slack_ns(path, key, row.get(key, "nothing"))

    def failing(key: str) -> int:
        return int(_slack_ns(path, key, row.get(key, "NA")) or 0)

    wns, whs, wpws = (slack(key) for key in ("WNS(ns)", "WHS(ns)", "WPWS(ns)"))
    says_met = "All user specified timing constraints are met." in text
    return TimingSummary(
        header=_header(text),
        wns_ns=wns,
        tns_ns=slack("TNS(ns)"),
        whs_ns=whs,
        ths_ns=slack("THS(ns)"),
        wpws_ns=wpws,
        setup_failing=failing("TNS Failing Endpoints"),
        hold_failing=failing("THS Failing Endpoints"),
        pulse_failing=failing("TPWS Failing Endpoints"),
        unclocked=sum(
            int(count)
            for count in re.findall(
                r"There (?:is|are) (\d{1,9}) register/latch pins? with no", text
            )
        ),
        met=says_met and wns is not None and all(s is None or s >= 0 for s in (wns, whs, wpws)),
        clocks=tuple(_clocks(text)),
    )


def read_utilization(path: Path) -> Utilization:
    """Read what `report_utilization` wrote of a whole design.

    Raises:
        OverlayError: it cannot be read, is no utilisation report, is a table by hierarchy (its
            columns are of primitives, not of sites), or is of a part of the design (`-cells`).
    """
    text = _read(path)
    header = _header(text)
    partial = re.search(r"\s-(hierarchical|cells|pblocks?)\b", header.command)
    if partial or "Utilization by Hierarchy" in text:
        what = partial.group(1) if partial else "hierarchical"
        raise OverlayError(
            path,
            "report",
            found=f"report_utilization -{what}",
            expected="report_utilization of the whole design, a table of site types",
        )
    resources: dict[str, float] = {}
    available: dict[str, float] = {}
    for site, columns in _site_rows(text):
        name = _SITES.get(site)
        if name is None or name in resources:
            continue
        resources[name] = _count(path, site, columns.get("Used", ""))
        if columns.get("Available"):
            available[name] = _count(path, site, columns["Available"])
    missing = [name for name in ("LUT", "FF", "DSP", "BRAM36") if name not in resources]
    if missing:
        raise OverlayError(
            path,
            "report",
            found=f"no row for {', '.join(missing)}",
            expected="a Vivado utilisation report (report_utilization -file ...)",
        )
    return Utilization(header, resources, available)


def same_part(reported: str, part: str) -> bool:
    """Whether a report's part is this one, as far as the report says it.

    Vivado leaves out "xc", hyphens, the speed grade or the temperature grade, by release and
    report.

    >>> same_part("7z020clg400-1", "xc7z020-clg400-1-c")
    True
    >>> same_part("xczu7ev-ffvc1156", "xczu7ev-ffvc1156-2-e")
    True
    >>> same_part("xczu7eg-ffvc1156", "xczu7ev-ffvc1156-2-e")
    False
    """
    said, wanted = (re.sub(r"^xc|[-_\s]", "", word.lower()) for word in (reported, part))
    return bool(said) and wanted.startswith(said)


_SITES = {
    **dict.fromkeys(("Slice LUTs", "CLB LUTs"), "LUT"),
    **dict.fromkeys(("Slice Registers", "CLB Registers", "Registers"), "FF"),
    **dict.fromkeys(("DSPs", "DSP Slices"), "DSP"),
    "Block RAM Tile": "BRAM36",
    "URAM": "URAM",
}


def _read(path: Path) -> str:
    data = read_bounded(path, MAX_BYTES, "a Vivado report")
    # names of hosts and folders come in any encoding; what is read of the report is ASCII
    return data.decode("utf-8-sig", errors="replace")


def _header(text: str) -> ReportHeader:
    said: dict[str, str] = {}
    for line in text.splitlines()[:40]:
        match = re.fullmatch(r"\|\s*([A-Z][A-Za-z ]*?)\s*:\s*(.*?)\s*", line)
        if match:
            said.setdefault(match.group(1), match.group(2))
    return ReportHeader(
        tool=" ".join(said.get("Tool Version", "").split()[:2]),
        command=said.get("Command", ""),
        design=said.get("Design", ""),
        part=said.get("Device", ""),
        state=said.get("Design State", ""),
    )


def _design_summary(path: Path, text: str) -> dict[str, str]:
    """The one row of the section, by the heading of each column."""
    lines = iter(text.partition("| Design Timing Summary")[2].splitlines())
    for line in lines:
        if not line.strip().startswith("WNS(ns)"):
            continue
        headings = re.split(r"\s{2,}", line.strip())
        next(lines, "")  # dashes
        values = next(lines, "").split()
        if len(values) == len(headings):
            return dict(zip(headings, values, strict=True))
        break
    raise OverlayError(
        path,
        "Design Timing Summary",
        found="no such table",
        expected="a Vivado timing summary (report_timing_summary -file ...)",
    )


def _slack_ns(path: Path, key: str, text: str) -> float | None:
    if text in ("NA", "inf"):
        return None
    if re.fullmatch(r"-?\d{1,15}(\.\d{1,9})?", text) is None:
        raise OverlayError(path, key, found=repr(text[:40]), expected="a number, NA or inf")
    return float(text)


def _clocks(text: str) -> Iterator[TimedClock]:
    section = text.partition("| Clock Summary")[2].partition("| Intra Clock Table")[0]
    row = re.compile(r"\s*(\S+)\s+\{[^{}\n]*\}\s+(\d{1,9}\.\d{1,9})\s+\d{1,9}\.\d{1,9}\s*")
    for line in section.splitlines():
        match = row.fullmatch(line)
        if match:
            yield TimedClock(match.group(1), float(match.group(2)))


def _site_rows(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row of the tables of site types: its name, and its cells by their headings."""
    headings: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            headings = headings if line.startswith("+") else []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "Site Type":
            headings = cells
        elif len(headings) == len(cells):
            yield cells[0].rstrip("* "), dict(zip(headings, cells, strict=True))


def _count(path: Path, site: str, text: str) -> float:
    digits = text.replace(",", "")
    if re.fullmatch(r"\d{1,12}(\.\d{1,3})?", digits) is None:
        raise OverlayError(path, site, found=repr(text[:40]), expected="how many are used")
    return float(digits)
