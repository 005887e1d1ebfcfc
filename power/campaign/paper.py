r"""A campaign as LaTeX, to be pasted into a paper: the methods paragraph, tables, a reference.

The tables need no package. What is emulated says so in every caption.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bacmac.power.campaign.result import ArmEnergy, CampaignResult, PairRatio
from bacmac.power.campaign.stored import StoredPlan
from bacmac.power.campaign.words import cell_text, figure_text, place, plain_text, share_text
from bacmac.power.compare import ratio_text

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    **{c: f"\\{c}" for c in "#$%&_"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "µ": r"$\mu$",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "…": r"\ldots{}",
}


def latex(text: str) -> str:
    r"""Text with everything escaped that LaTeX would take for a command.

    >>> latex("5 % of 3 µJ, a_b")
    '5 \\% of 3 $\\mu$J, a\\_b'
    """
    return "".join(_ESCAPES.get(c, c if c.isprintable() else " ") for c in text)


def paper_tex(plan: StoredPlan, result: CampaignResult, methods: str, version: str) -> str:
    """Paragraph and tables, to be included whole or pasted in parts."""
    lines = [
        f"% Campaign {latex(plan.name)}, plan sha256 {plan.sha256}, by bacmac {latex(version)}.",
        *(["% EMULATED: nothing in this file was measured on a board."] * result.emulated),
        "% Methods",
        f"{latex(methods)} Software: bacmac~\\cite{{bacmac}}.",
        "",
        *_ratio_table(plan, result),
        "",
        *_energy_table(plan, result),
        "",
        *_validity_table(result),
    ]
    return "\n".join(lines) + "\n"


def paper_bib(version: str) -> str:
    """The tool as a BibTeX entry."""
    return (
        "@misc{bacmac,\n"
        "  author       = {{The bacmac developers}},\n"
        "  title        = {{bacmac}: energy of bitshift-and-accumulate against "
        "multiply-and-accumulate on {SoC} {FPGA}s},\n"
        f"  howpublished = {{Software, version {latex(version)}}},\n"
        "}\n"
    )


def _ratio_table(plan: StoredPlan, result: CampaignResult) -> list[str]:
    rows = [_ratio_row(plan, r) for r in result.ratios]
    caption = (
        f"Ratios of energies per inference on {place(plan, result)}, geometric means over blocks "
        "with 95 % intervals (two-stage procedure of Stein; the sensor's step in quadrature). "
        "Below the smallest difference, given last, nothing could have been shown."
    )
    head = ("cell", "rail", "ratio", "energy", "blocks", "value", "95 % interval", "denominator is")
    return _table(result, caption, "ratios", "llllrrll" + "r", (*head, "smallest difference"), rows)


def _ratio_row(plan: StoredPlan, r: PairRatio) -> tuple[str, ...]:
    e = r.estimate
    smallest = "" if r.smallest_difference is None else share_text(r.smallest_difference)
    limited = ", step-limited" if e is not None and e.resolution_limited else ""
    numbers = (
        ("none", "", r.reason)
        if e is None
        else (ratio_text(e.ratio), f"{ratio_text(e.low)} to {ratio_text(e.high)}", "")
    )
    return (
        cell_text(plan.cells[r.cell]),
        r.rail,
        f"{r.pair.numerator}/{r.pair.denominator}",
        r.quantity,
        str(len(r.blocks)),
        *numbers[:2],
        numbers[2] or f"{r.verdict}{limited}",
        smallest,
    )


def _energy_table(plan: StoredPlan, result: CampaignResult) -> list[str]:
    rows = [_energy_row(plan, e) for e in result.energies]
    caption = (
        f"Energy per inference on {place(plan, result)}: mean, half-width of the 95 % interval "
        "over blocks (Type A), and standard uncertainty by the sensor's known errors (Type B), "
        "which cancel in ratios as far as they are errors of gain."
    )
    head = ("cell", "rail", "arm", "dynamic", "static", "total", "inferences/s/W")
    return _table(result, caption, "energies", "lllrrrr", head, rows)


def _energy_row(plan: StoredPlan, e: ArmEnergy) -> tuple[str, ...]:
    return (
        cell_text(plan.cells[e.cell]),
        e.rail,
        e.arm,
        figure_text(e.dynamic_j, "J"),
        figure_text(e.static_j, "J"),
        figure_text(e.total_j, "J"),
        plain_text(e.inferences_per_s_per_w.mean.centre),
    )


def _validity_table(result: CampaignResult) -> list[str]:
    rows = [
        (
            str(row.cell),
            row.stage,
            row.arm,
            *(str(n) for n in (row.planned, row.valid, row.repeated, row.n_invalid, row.owed)),
            ", ".join(f"{reason}: {n}" for reason, n in row.invalid.items()) or "none",
        )
        for row in result.validity
    ]
    caption = (
        "Runs planned, valid, repeated, invalid and owed. A run found invalid makes its whole "
        "block invalid (reason: block); the data of invalid runs are kept."
    )
    head = ("cell", "stage", "arm", "planned", "valid", "repeated", "invalid", "owed", "reasons")
    return _table(result, caption, "validity", "lllrrrrrl", head, rows)


def _table(
    result: CampaignResult,
    caption: str,
    name: str,
    columns: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
) -> list[str]:
    emulated = r"\textbf{EMULATED, not measured.} " if result.emulated else ""
    complete = "" if result.complete else r"\textbf{Campaign not complete.} "
    return [
        r"\begin{table}",
        r"\centering\footnotesize",
        rf"\caption{{{emulated}{complete}{latex(caption)}}}",
        rf"\label{{tab:bacmac-{name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\hline",
        " & ".join(map(latex, head)) + r" \\",
        r"\hline",
        *(" & ".join(map(latex, row)) + r" \\" for row in rows),
        r"\hline",
        r"\end{tabular}",
        r"\end{table}",
    ]
