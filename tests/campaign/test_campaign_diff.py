"""Two campaigns are compared like with like, and nothing else is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_campaigns import made_journal

from bacmac.host.errors import MismatchError
from bacmac.power.campaign.diff import (
    NEVER_VARIED,
    RatioPart,
    Side,
    diff_campaigns,
    property_differences,
    ratio_change,
)
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.plan import CampaignPlan, Cell
from bacmac.power.campaign.side import campaign_side
from bacmac.power.statistics import student_quantile

KEY = ("batch 16", "mac8 / bac (saving)", "12V", "dynamic")
PART = RatioPart(math.log(1.3), 0.004, 9, 0.0)


def side(file: str = "a.journal", *, emulated: bool = False, **properties: str) -> Side:
    same = {"board": "zcu104-1", "arm bac: overlay": "0a" * 32, "limit min_run_s": "10.0"}
    origin = {NEVER_VARIED: "emulated" if emulated else "measured"}
    renamed = {name.replace("__", ": ").replace("_", " "): v for name, v in properties.items()}
    return Side(file, emulated, {**same, **origin, **renamed}, {"seed": "1"}, {KEY: PART})


def test_equal_campaigns_agree() -> None:
    found = diff_campaigns(side(), replace(side("b.journal"), remarks={"seed": "2"}))

    (change,) = found.changes
    assert (change.change, change.verdict) == (1.0, "agree")
    assert change.low < 1 < change.high
    assert [row.item for row in found.remarks] == ["seed"]
    assert found.headline.startswith("Both were made alike. 0 of 1")


def test_every_property_that_differs_is_named() -> None:
    other = side("b.journal", board="zcu104-2", arm_bac__overlay="0b" * 32, extra="1")

    with pytest.raises(MismatchError) as refused:
        diff_campaigns(side(), other)

    text = str(refused.value)
    assert "b.journal: board, arm bac: overlay, extra: found" in text
    assert "zcu104-2; 0b0b0b0b0b0b...; 1" in text
    assert "zcu104-1; 0a0a0a0a0a0a...; none, as in a.journal" in text
    assert len(property_differences(side(), other)) == 3


def test_what_is_compared_may_differ_when_it_is_named() -> None:
    other = side("b.journal", board="zcu104-2", arm_bac__overlay="0b" * 32)

    found = diff_campaigns(side(), other, varying=["board", "overlay"])

    assert [row.item for row in found.varied] == ["board", "arm bac: overlay"]
    assert "They differ in board, arm bac: overlay." in found.headline
    with pytest.raises(MismatchError, match=r"b.journal: arm bac: overlay: found"):
        diff_campaigns(side(), other, varying=["board"])


@pytest.mark.parametrize("word", ["emulated", "measured", NEVER_VARIED])
def test_a_model_is_never_compared_with_a_measurement(word: str) -> None:
    with pytest.raises(MismatchError, match=NEVER_VARIED):
        diff_campaigns(side(), side("b.journal", emulated=True), varying=[word])


def test_two_emulated_campaigns_say_so() -> None:
    found = diff_campaigns(side(emulated=True), side("b.journal", emulated=True))

    assert found.headline.startswith("EMULATED")


def test_campaigns_without_a_common_ratio_are_refused() -> None:
    with pytest.raises(MismatchError, match="none that both have"):
        diff_campaigns(side(), replace(side("b.journal"), ratios={}))


def test_the_interval_is_welchs_with_the_steps_in_quadrature() -> None:
    a, b = RatioPart(0.1, 0.03, 9, 0.02), RatioPart(0.2, 0.04, 19, 0.01)
    dof = (0.03**2 + 0.04**2) ** 2 / (0.03**4 / 9 + 0.04**4 / 19)
    t = student_quantile(0.975, dof) * 0.05
    step = 1.959963984540054 * math.hypot(0.02, 0.01)

    change = ratio_change(KEY, a, b)

    assert change.change == pytest.approx(math.exp(0.1))
    assert math.log(change.high) - 0.1 == pytest.approx(math.hypot(t, step))
    assert math.log(change.low) - 0.1 == pytest.approx(-math.hypot(t, step))


def test_the_interval_of_a_change_holds_the_truth_in_95_per_cent() -> None:
    rng, n, held = np.random.default_rng(3), 4000, 0
    for _ in range(n):
        parts = []
        for blocks, sd in ((10, 0.01), (20, 0.03)):
            values = rng.normal(0.25, sd, blocks)
            error = float(np.std(values, ddof=1)) / math.sqrt(blocks)
            parts.append(RatioPart(float(np.mean(values)), error, blocks - 1, 0.0))
        held += ratio_change(KEY, *parts).verdict == "agree"

    assert abs(held / n - 0.95) < 3 * math.sqrt(0.95 * 0.05 / n) + 0.003  # Welch's own error


@pytest.fixture(scope="module")
def journals(small_plan: CampaignPlan, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two of the same, and one of another clock and batch with other thresholds."""
    folder = tmp_path_factory.mktemp("diff")
    limits = replace(small_plan.limits, max_die_c=70.0)
    other = replace(small_plan, cells=(Cell(0, 32, None),), limits=limits)
    return [
        made_journal(folder / "a.journal", small_plan),
        made_journal(folder / "b.journal", small_plan, seed=1),
        made_journal(folder / "c.journal", other),
    ]


def test_sides_of_journals_hold_what_moves_energy(journals: list[Path]) -> None:
    with Journal.open(journals[0]) as journal:
        found = campaign_side(journals[0], journal)
        arms = journal.arms

    for arm in arms:
        assert found.properties[f"arm {arm.name}: overlay"] == arm.overlay_sha256
        assert found.properties[f"arm {arm.name}: model"] == arm.model_sha256
        assert found.properties[f"clock of {arm.name}"] == "33.33 MHz"
    assert found.properties["rails"] == "12V, INT"
    assert found.properties["batches"] == "16"
    assert found.properties["limit min_run_s"] == "1.0"
    assert found.properties[NEVER_VARIED] == "emulated"
    assert "bacmac that measured" in found.remarks
    assert len(found.ratios) == 12  # three pairs, two rails, two energies
    assert all(part.standard_error > 0 and part.dof == 2 for part in found.ratios.values())


def test_the_command_compares_like_with_like(journals: list[Path], run: Callable[..., Any]) -> None:
    outcome = run("campaign", "diff", *journals[:2], "--json")
    payload = json.loads(outcome.out)

    assert outcome.status == 0
    assert payload["emulated"] is True
    assert payload["headline"].startswith("EMULATED")
    assert payload["varied"] == []
    assert len(payload["ratios"]) == 12
    for ratio in payload["ratios"]:
        assert ratio["low"] < ratio["change"] < ratio["high"]
        assert ratio["change"] == pytest.approx(ratio["ratio_b"] / ratio["ratio_a"])
    table = run("campaign", "diff", *journals[:2])
    assert table.status == 0
    assert "EMULATED: A is " in table.out
    assert "EMULATED: batch 16" in table.out
    assert "B / A" in table.out


def test_the_command_refuses_unlike_and_names_all_of_it(
    journals: list[Path], run: Callable[..., Any]
) -> None:
    outcome = run("campaign", "diff", journals[0], journals[2])

    assert outcome.status == 2
    assert outcome.err.startswith("Error: ")
    assert len(outcome.err.splitlines()) == 1
    assert "batches, limit max_die_c" in outcome.err
    assert "properties that differ" in outcome.out
    assert "85.0" in outcome.out
    assert "70.0" in outcome.out
    assert run("campaign", "diff", journals[0], journals[2], "--varying", "limit").status == 2
