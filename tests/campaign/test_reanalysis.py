"""Figures come out of the journal's raw samples again, and boards are the unit of several."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import synthetic_runs as known

from bacmac.host.errors import MismatchError
from bacmac.power.campaign.analysis import analyse_campaign, analyse_runs, summarize_run
from bacmac.power.campaign.boards import analyse_boards, boards_json
from bacmac.power.campaign.diff import Side
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.plan import CampaignPlan, RunKey
from bacmac.power.campaign.result import CampaignResult, largest_difference, result_json
from bacmac.power.campaign.run import CampaignRun, Finding
from bacmac.power.statistics import mean_interval


class Outcome(Protocol):
    """Of the fixture `run`."""

    status: int
    out: str
    err: str


TRUTH = known.Truth(spread=0.01, rails=(known.FINE, known.COARSE))


class Maker:
    """Fills a journal with synthetic runs, as they are owed."""

    def __init__(self, plan: CampaignPlan, truth: known.Truth) -> None:
        self.plan, self.truth = plan, truth
        self.rng, self.start_ns = np.random.default_rng(4), known.START_NS
        self.runs: list[CampaignRun] = []

    def fill(self, journal: Journal, *, invalid: int | None = None) -> None:
        """Make all that is owed; the run of that number turns out invalid."""
        while owed := journal.owed():
            self.make(journal, owed[0], invalid == len(self.runs))

    def make(self, journal: Journal, key: RunKey, invalid: bool) -> None:
        run = known.campaign_run(self.plan, self.truth, key, self.start_ns, self.rng)
        self.start_ns = run.record.after.end_ns + 3 * 10**9
        journal.begin(key, "boot")
        findings = (Finding(11, "invalidate", "12V", "idle moved"),) if invalid else ()
        journal.finish(run, findings)
        self.runs.append(run)


@pytest.fixture
def filled(tmp_path: Path, small_plan: CampaignPlan) -> tuple[Path, Maker]:
    """A whole campaign with one block made twice."""
    path, maker = tmp_path / "night.journal", Maker(small_plan, TRUTH)
    with Journal.create(path, small_plan) as journal:
        maker.fill(journal, invalid=5)
        journal.fix_blocks(0, 6)
        maker.fill(journal)
        journal.store_result(result_json(analyse_campaign(journal)))
    return path, maker


def test_figures_from_stored_samples_are_those_from_memory_to_the_last_bit(
    filled: tuple[Path, Maker],
) -> None:
    path, maker = filled
    invalid = maker.runs[5].key
    valid = [
        run
        for run in maker.runs
        if replace(run.key, position=0, arm="") != replace(invalid, position=0, arm="")
    ]

    with Journal.open(path) as journal:
        stored, again = journal.result(), analyse_campaign(journal)

    expected = analyse_runs(maker.plan, [summarize_run(run) for run in valid], {0: 6})
    expected = replace(expected, validity=again.validity)
    assert stored is not None
    assert largest_difference(stored, result_json(again)) == (0.0, "")
    assert replace(again, emulated=False, notes=()) == replace(expected, emulated=False, notes=())
    assert again.complete
    assert [c.valid for c in again.blocks] == [2, 6]


def test_blocks_that_were_made_again_are_counted_by_reason(filled: tuple[Path, Maker]) -> None:
    path, _ = filled
    with Journal.open(path) as journal:
        result = analyse_campaign(journal)

    main = [row for row in result.validity if row.stage == "main"]
    assert sum(row.repeated for row in main) == 3
    assert sum(row.own_invalid for row in main) == 1
    assert len(result.runs) == 2 * 2 + 6 * 3


def test_a_sample_that_changed_is_found_in_the_figures(filled: tuple[Path, Maker]) -> None:
    path, maker = filled
    with Journal.open(path) as journal:
        stored = journal.result()
    trace = maker.runs[-1].record.trace
    rail = trace.rails["12V"]
    moved = replace(rail, current_ma=rail.current_ma + (np.arange(len(rail.times_ns)) == 10))
    record = replace(
        maker.runs[-1].record, trace=replace(trace, rails={**trace.rails, "12V": moved})
    )
    runs = [*maker.runs[:-1], replace(maker.runs[-1], record=record)]
    again = analyse_runs(maker.plan, [summarize_run(run) for run in runs], {0: 6})

    share, _ = largest_difference(
        [r for r in (stored or {})["ratios"] if r["rail"] == "12V"],
        [r for r in result_json(again)["ratios"] if r["rail"] == "12V"],
    )

    assert share > 1e-12


def test_analyse_prints_every_figure_and_that_they_come_out_again(
    filled: tuple[Path, Maker], run: Callable[..., Outcome]
) -> None:
    outcome = run("campaign", "analyse", filled[0])

    assert outcome.status == 0
    for text in ("mac8 / bac", "12V: ratios of energy", "INT: energy of an inference", "A/A"):
        assert text in outcome.out
    assert "come out again from the raw samples, to the last bit" in outcome.out
    assert "EMULATED" in outcome.out
    assert "limited by the sensor's step" in outcome.err


def test_analyse_gives_json_of_the_same_figures(
    filled: tuple[Path, Maker], run: Callable[..., Outcome]
) -> None:
    outcome = run("campaign", "analyse", filled[0], "--json")

    printed = json.loads(outcome.out)
    with Journal.open(filled[0]) as journal:
        assert printed == journal.result()
    assert (printed["schema"], printed["schema_version"]) == ("bacmac.campaign", 1)


def test_stored_figures_that_do_not_come_out_again_are_an_error(
    filled: tuple[Path, Maker], run: Callable[..., Outcome]
) -> None:
    with Journal.open(filled[0], write=True) as journal:
        forged = json.loads(json.dumps(journal.result()))
        forged["ratios"][0]["estimate"]["ratio"] *= 1 + 1e-9
        journal.store_result(forged)

    outcome = run("campaign", "analyse", filled[0])

    assert outcome.status == 2
    assert "ratios.0.estimate.ratio: found a relative difference of 1e-09" in outcome.err


def test_a_journal_without_a_block_has_nothing_to_analyse(
    tmp_path: Path, small_plan: CampaignPlan, run: Callable[..., Outcome]
) -> None:
    Journal.create(tmp_path / "new.journal", small_plan).close()

    outcome = run("campaign", "analyse", tmp_path / "new.journal")

    assert outcome.status == 2
    assert "no block is whole yet" in outcome.err


def board(name: str, dynamic_w: float, seed: int) -> tuple[Side, CampaignResult]:
    """A campaign on a board whose MAC takes this much; BAC takes 0.5 W on each."""
    truth = known.Truth({"bac": 0.5, "mac4": 0.6, "mac8": dynamic_w})
    plan = known.Plan(board=name, design=replace(known.Plan().design, run_s=2.0, idle_s=1.0))
    runs = [summarize_run(run) for run in known.campaign_runs(plan, truth, 10, seed)]
    side = Side(f"{name}.journal", False, {"board": name, "images": "ab"}, {}, {})
    return side, analyse_runs(plan, runs, {0: 10})


BOARDS = (("one", 0.90, 1), ("two", 0.93, 2), ("three", 0.87, 3))


def test_with_several_boards_the_board_is_the_unit() -> None:
    boards = [board(*which) for which in BOARDS]

    result = analyse_boards(boards)

    found = next(r for r in result.ratios if (r.quantity, r.pair.question) == ("dynamic", "saving"))
    logs = [
        ratio.estimate.log_mean.centre
        for _, own in boards
        for ratio in own.headline()
        if ratio.pair.question == "saving" and ratio.estimate is not None
    ]
    t = mean_interval(logs)
    assert result.boards == ("one", "two", "three")
    assert found.ratio == pytest.approx(math.exp(t.centre))
    assert (found.low, found.high) == pytest.approx((math.exp(t.low), math.exp(t.high)), rel=1e-9)
    assert found.sd_between > 5 * found.se_within  # so blocks alone would be far too sure
    assert found.verdict == "lower"
    assert not result.missing
    json.dumps(boards_json(result), allow_nan=False)


def test_two_campaigns_of_one_board_are_not_two_boards() -> None:
    side, result = board(*BOARDS[0])
    again = replace(side, file="again.journal")

    with pytest.raises(MismatchError, match=r"again\.journal: board: found one; expected another"):
        analyse_boards([(side, result), (again, result)])


def test_boards_with_unlike_campaigns_are_refused() -> None:
    one, (side, result) = board(*BOARDS[0]), board(*BOARDS[1])
    other = replace(side, properties={**side.properties, "images": "cd"})

    with pytest.raises(MismatchError, match=r"two\.journal: images: found cd; expected ab"):
        analyse_boards([one, (other, result)])
    with pytest.raises(MismatchError, match="found one; expected two or more"):
        analyse_boards([one])


def test_two_boards_are_told_to_be_few() -> None:
    result = analyse_boards([board(*which) for which in BOARDS[:2]])

    assert any("one degree of freedom" in note for note in result.notes)
    saving = next(r for r in result.ratios if r.pair.question == "saving")
    assert saving.high / saving.low > 1.2
