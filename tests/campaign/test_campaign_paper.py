"""What is pasted into a paper holds the campaign's own numbers, and LaTeX can read it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_campaigns import made_journal

from bacmac.power.campaign.analysis import analyse_campaign
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.methods import MethodFacts, method_facts, methods_paragraph
from bacmac.power.campaign.paper import latex, paper_bib, paper_tex
from bacmac.power.campaign.plan import CampaignPlan
from bacmac.power.campaign.result import CampaignResult, Figure, TypeB
from bacmac.power.campaign.stored import StoredPlan
from bacmac.power.campaign.words import figure_text, plain_text, share_text
from bacmac.power.statistics import two_stage_mean


@pytest.fixture(scope="module")
def campaign(
    small_plan: CampaignPlan, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StoredPlan, CampaignResult]:
    path = made_journal(tmp_path_factory.mktemp("paper") / "j.journal", small_plan, faults=1)
    with Journal.open(path) as journal:
        return journal.plan, analyse_campaign(journal)


@pytest.fixture
def facts(campaign: tuple[StoredPlan, CampaignResult]) -> MethodFacts:
    return method_facts(*campaign, "1.2.3", 0.75)


def test_the_paragraph_holds_the_campaigns_own_numbers(facts: MethodFacts) -> None:
    text = methods_paragraph(facts)

    for part in (
        "with bacmac 1.2.3 for three accelerators: bac (overlay bac-pot4e4, 4-bit pot-4e4 weights",
        "the same 64 images (sha256 ",
        "in batches of 16",
        "blocks (4 a cell)",
        "(seed 0, plan sha256 5a5a5a5a5a5a…)",
        "settled for 1 s, idled for 0.5 s, worked for 1 s to warm up and for 1 s measured",
        "0.75 s at the start of the run and after its end",
        "in 2 blocks a cell (A/A)",
        "about every 20 ms with random jitter of up to 6 ms",
        "12V: INA226, steps of 12 mW, a new value every 35.2 ms",
        "INT: IRPS5401, steps of 106 mW, refresh unknown",
        "After 3 pilot blocks",
        "within 1.00% of it, with at most 6 blocks",
        "ratios met that target",
        "the result holds for this one board",
        "33.333 MHz",
    ):
        assert part in text, part


def test_the_paragraph_tells_what_was_invalid_and_what_is_owed(facts: MethodFacts) -> None:
    first = next(row for row in facts.validity if row.stage == "main")
    others = tuple(row for row in facts.validity if row is not first)
    bad = replace(first, invalid={"check 3": 2, "block": 1}, owed=5)

    text = methods_paragraph(replace(facts, validity=(bad, *others)))

    assert "3 were invalid with their whole block" in text
    assert "(check 3: 2)" in text
    assert "5 runs are still owed: the campaign is not complete." in text
    good = replace(bad, invalid={}, owed=0)
    rows = tuple(replace(row, invalid={}) for row in others)
    assert re.search(
        r"None of \d+ runs was invalid\.$|None of \d+ runs was invalid\. ",
        methods_paragraph(replace(facts, validity=(good, *rows))),
    )


def test_the_paragraph_does_not_hide_a_failed_or_a_missing_a_a_check(facts: MethodFacts) -> None:
    failed = methods_paragraph(replace(facts, aa=(4, 2)))
    missing = methods_paragraph(replace(facts, aa=(0, 0)))

    assert "2 of 4 intervals of its ratio, which is truly 1, left 1 out" in failed
    assert "No A/A check was made." in missing


def test_only_what_is_emulated_is_called_so(facts: MethodFacts) -> None:
    emulated = methods_paragraph(facts)
    measured = methods_paragraph(replace(facts, emulated=False))

    assert emulated.startswith("EMULATED: ")
    assert "estimated on an emulated board" in emulated
    assert "EMULATED" not in measured
    assert "measured on board emulated" in measured  # the label of this plan's board
    assert "not calibrated" in measured


def test_limits_that_were_widened_and_rails_that_are_limited_are_told(facts: MethodFacts) -> None:
    text = methods_paragraph(
        replace(facts, changed_limits=("max_die_c 95 (usually 85)",), limited=("INT",), widened=1)
    )

    assert "bacmac's own except max_die_c 95 (usually 85)" in text
    assert "On INT the sensor's step" in text
    assert "One interval was widened because neighbouring blocks were alike." in text


def test_the_tables_have_as_many_cells_as_columns(
    campaign: tuple[StoredPlan, CampaignResult],
) -> None:
    text = paper_tex(*campaign, "5 % of it", "1.2.3")
    tables = re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.S)

    assert len(tables) == 3
    for columns, body in tables:
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(rows) > 2
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1, row
    assert r"5 \% of it" in text
    assert "mac8/bac" in text
    assert r"\cite{bacmac}" in text
    assert "INT" in text
    assert "smallest difference" in text


@given(st.text())
def test_no_text_becomes_a_command_or_a_comment(text: str) -> None:
    escaped = latex(text)
    known = re.sub(
        r"\\textbackslash\{\}|\\text(asciitilde|asciicircum|less|greater)\{\}"
        r"|\\ldots\{\}|\$\\mu\$|\$\\pm\$|\$\^\\circ\$|\\[#$%&_{}]",
        "",
        escaped,
    )

    assert not set(known) & set("\\{}#$%&_~^<>\n\r")


def test_the_reference_is_one_bibtex_entry() -> None:
    text = paper_bib("0.1_rc")

    assert text.startswith("@misc{bacmac,\n")
    assert text.count("{") == text.count("}")
    assert r"version 0.1\_rc" in text


def test_figures_are_told_with_both_types_of_uncertainty() -> None:
    mean = two_stage_mean([1.30e-6, 1.34e-6, 1.38e-6], 3)
    figure = Figure(mean, TypeB(0.0, 3e-8, None, 4e-8))

    assert mean.half_width == pytest.approx(9.937e-8, rel=1e-3)
    assert figure_text(figure, "J") == "1.340 ± 0.099 (B: 0.050) µJ"
    exact = replace(figure, type_b=TypeB(0.0, None, None, None))
    assert figure_text(exact, "J") == "1.340 ± 0.099 µJ"


def test_numbers_have_no_exponent_and_shares_no_hundreds() -> None:
    assert plain_text(19280.4) == "19,280"
    assert plain_text(0.00012349) == "0.0001235"
    assert share_text(0.0123) == "1.23%"
    assert share_text(2.3463) == "a factor of 3.3"


def test_a_ratio_that_cannot_be_formed_is_told_with_its_reason(
    campaign: tuple[StoredPlan, CampaignResult],
) -> None:
    plan, result = campaign
    ratios = tuple(
        replace(r, estimate=None, reason="2 of 8 runs show none", smallest_difference=None)
        for r in result.ratios
    )

    text = paper_tex(plan, replace(result, ratios=ratios), "", "1")

    assert "none &  & 2 of 8 runs show none" in text


def test_a_measured_table_does_not_say_emulated(
    campaign: tuple[StoredPlan, CampaignResult], tmp_path: Path
) -> None:
    plan, result = campaign

    text = paper_tex(replace(plan, board="zcu104-1"), replace(result, emulated=False), "", "1")

    assert "EMULATED" not in text
    assert "on zcu104-1" in text
