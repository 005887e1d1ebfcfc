"""Figures of campaigns of which the truth is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import synthetic_runs as known

from bacmac.power.campaign.analysis import (
    analyse_runs,
    blocks_needed,
    summarize_run,
)
from bacmac.power.campaign.plan import Design, Pair
from bacmac.power.campaign.result import (
    CampaignResult,
    PairRatio,
    RunSummary,
    largest_difference,
    result_json,
)
from bacmac.power.statistics import second_stage_blocks

SHORT = Design(run_s=2.0, idle_s=1.0, pilot_blocks=4, max_blocks=20, aa_blocks=4)


def summaries(truth: object, blocks: int, **changes: object) -> list[RunSummary]:
    plan = known.Plan(**({"design": SHORT} | changes))
    return [summarize_run(run) for run in known.campaign_runs(plan, truth, blocks)]


def analysed(truth: object, blocks: int = 8, **changes: object) -> CampaignResult:
    plan = known.Plan(**({"design": SHORT} | changes))
    return analyse_runs(plan, summaries(truth, blocks, **changes), {0: blocks})


def ratio(result: CampaignResult, question: str, quantity: str = "dynamic") -> PairRatio:
    return (
        next(r for r in result.headline() if r.pair.question == question)
        if quantity == "dynamic"
        else next(
            r
            for r in result.ratios
            if (r.rail, r.quantity, r.pair.question) == (result.headline_rail, quantity, question)
        )
    )


def test_known_ratios_and_energies_are_found() -> None:
    result = analysed(known.Truth(noise_w=0.01))

    for question, truth in (("saving", 1.8), ("bits", 1.5), ("shift", 1.2)):
        found = ratio(result, question).estimate
        assert found is not None
        assert found.low <= truth <= found.high
        assert found.ratio == pytest.approx(truth, rel=0.01)
        assert found.verdict == "lower"
        assert not found.resolution_limited
    total = ratio(result, "saving", "total").estimate
    assert total is not None
    assert total.ratio == pytest.approx(14.7 / 14.3, rel=1e-3)
    bac = next(e for e in result.energies if e.arm == "bac")
    time_s = SHORT.run_s / known.IMAGES
    assert bac.dynamic_j.mean.centre == pytest.approx(0.5 * time_s, rel=0.01)
    assert bac.static_j.mean.centre == pytest.approx(13.8 * time_s, rel=1e-3)
    assert bac.total_j.mean.centre == pytest.approx(14.3 * time_s, rel=1e-3)
    assert bac.idle_w.mean.centre == pytest.approx(13.8, rel=1e-3)
    assert bac.energy_delay_js.mean.centre == pytest.approx(14.3 * time_s**2, rel=1e-3)
    assert bac.inferences_per_s_per_w.mean.centre == pytest.approx(1 / (14.3 * time_s), rel=1e-3)
    time = next(t for t in result.times if t.arm == "bac")
    assert time.time_s.centre == pytest.approx(time_s)
    assert time.inferences_per_s.centre == pytest.approx(1 / time_s)
    assert result.complete
    assert not result.emulated
    assert result.headline_rail == "12V"
    assert result.rails[0].feeds_board


def test_arms_that_take_different_times_are_compared_by_energy() -> None:
    truth = known.Truth(
        dynamic_w={"bac": 0.6, "mac4": 0.6, "mac8": 0.6}, run_s={"mac8": 3.0}, noise_w=0.005
    )

    found = ratio(analysed(truth), "saving").estimate

    assert found is not None
    assert found.ratio == pytest.approx(1.5, rel=0.01)


def test_equal_arms_are_not_resolvable_and_what_could_have_been_is_told() -> None:
    truth = known.Truth(dynamic_w={"bac": 0.7, "mac4": 0.7, "mac8": 0.7}, spread=0.01)

    result = analysed(truth)

    found = ratio(result, "saving")
    assert found.verdict == "not resolvable"
    assert found.estimate is not None
    assert found.smallest_difference == pytest.approx(math.expm1(found.estimate.half_width))
    assert 0.001 < found.smallest_difference < 0.1


def test_mac_below_bac_is_told_as_higher() -> None:
    truth = known.Truth(dynamic_w={"bac": 0.9, "mac4": 0.7, "mac8": 0.7})

    assert ratio(analysed(truth), "saving").verdict == "higher"


def test_a_saving_is_bits_times_shift_in_every_block() -> None:
    result = analysed(known.Truth(spread=0.01), blocks=12)

    saving, bits, shift = (ratio(result, q) for q in ("saving", "bits", "shift"))
    sums = np.add(bits.log_ratios, shift.log_ratios)
    assert saving.log_ratios == pytest.approx(sums, abs=1e-12)
    (split,) = (s for s in result.splits if s.quantity == "dynamic")
    assert split.shift_share is not None
    assert split.shift_share.low <= math.log(1.2) / math.log(1.8) <= split.shift_share.high
    assert split.middle == "mac4"
    # what the middle arm takes more is in bits with one sign, in shift with the other
    assert split.correlation is not None
    assert split.correlation < 0.3
    for found in (saving, bits, shift):
        assert found.estimate is not None
        assert found.estimate.joint_low < found.estimate.low
        assert found.estimate.joint_high > found.estimate.high


def test_a_saving_that_may_be_none_is_not_split() -> None:
    truth = known.Truth(dynamic_w={"bac": 0.7, "mac4": 0.7, "mac8": 0.7}, spread=0.02)

    (split,) = (s for s in analysed(truth).splits if s.quantity == "dynamic")

    assert split.shift_share is None
    assert split.reason == "the saving itself may be none"


def test_dynamic_energy_at_or_below_zero_is_kept_and_makes_no_ratio() -> None:
    truth = known.Truth(dynamic_w={"bac": -0.05, "mac4": 0.6, "mac8": 0.9})

    result = analysed(truth)

    found = ratio(result, "saving")
    assert found.estimate is None
    assert found.verdict == "not resolvable"
    assert found.reason == "8 of 16 runs show no dynamic energy above zero on 12V"
    assert found.smallest_difference is not None
    bac = next(e for e in result.energies if e.arm == "bac")
    assert bac.n_not_positive == 8
    assert bac.dynamic_j.mean.centre < 0
    assert ratio(result, "bits").verdict == "lower"  # the others stand
    json.dumps(result_json(result), allow_nan=False)


def test_a_coarse_sensor_is_limited_by_its_step_and_says_so() -> None:
    truth = known.Truth(rails=(known.FINE, known.COARSE), noise_w=0.02)

    result = analysed(truth)

    by_name = {rail.info.name: rail for rail in result.rails}
    assert by_name["INT"].limited
    assert not by_name["12V"].limited
    assert any("INT, cell 0: limited by the sensor's step of 106 mW" in n for n in result.notes)
    coarse = next(e for e in result.energies if (e.arm, e.rail) == ("bac", "INT"))
    fine = next(e for e in result.energies if (e.arm, e.rail) == ("bac", "12V"))
    assert coarse.dynamic_j.type_b.step == pytest.approx(math.sqrt(2) * coarse.total_j.type_b.step)
    assert coarse.total_j.type_b.step > 0.01 * coarse.dynamic_j.mean.centre
    assert fine.dynamic_j.type_b.step == 0
    assert coarse.total_j.type_b.unknown == ("gain", "shunt", "offset")
    split = next(s for s in result.splits if (s.rail, s.quantity) == ("INT", "dynamic"))
    assert split.shift_share is None
    assert "step" in split.reason


def with_sensor_error(gain_tenths: int = 10, offset_ma: int = 0) -> CampaignResult:
    truth, plan = known.Truth(noise_w=0.01), known.Plan(design=SHORT)
    runs = []
    for run in known.campaign_runs(plan, truth, 8):
        trace = run.record.trace.rails["12V"]
        current = trace.current_ma * gain_tenths // 10 + offset_ma
        wrong = replace(trace, current_ma=current)
        power = replace(run.record.trace, rails={"12V": wrong})
        runs.append(summarize_run(replace(run, record=replace(run.record, trace=power))))
    return analyse_runs(plan, runs, {0: 8})


def test_a_sensors_gain_cancels_in_ratios_and_not_in_energies() -> None:
    right, wrong = with_sensor_error(), with_sensor_error(gain_tenths=20)

    for quantity in ("dynamic", "total"):
        a, b = (ratio(r, "saving", quantity).estimate for r in (right, wrong))
        assert a is not None
        assert b is not None
        assert b.ratio == pytest.approx(a.ratio, rel=1e-9)
    first, second = right.energies[0], wrong.energies[0]
    assert second.dynamic_j.mean.centre == pytest.approx(2 * first.dynamic_j.mean.centre)
    gain = first.total_j.type_b.gain
    assert gain == pytest.approx(0.001 * first.total_j.mean.centre / math.sqrt(3))
    assert first.total_j.type_b.unknown == ("shunt",)
    assert any("cancel" in note for note in right.notes)
    assert any("12V: no limit of the sensor's shunt is known" in note for note in right.notes)


def test_a_sensors_offset_cancels_in_dynamic_energies_and_is_in_ratios_of_totals() -> None:
    right, wrong = with_sensor_error(), with_sensor_error(offset_ma=2)

    a, b = (r.energies[0] for r in (right, wrong))
    assert b.dynamic_j.mean.centre == pytest.approx(a.dynamic_j.mean.centre, rel=1e-9)
    assert a.dynamic_j.type_b.offset == 0
    moved = b.total_j.mean.centre - a.total_j.mean.centre
    assert a.total_j.type_b.offset == pytest.approx(moved / math.sqrt(3), rel=1e-6)
    dynamic, total = (ratio(right, "saving", q).estimate for q in ("dynamic", "total"))
    total_wrong = ratio(wrong, "saving", "total").estimate
    assert dynamic is not None
    assert total is not None
    assert total_wrong is not None
    assert dynamic.u_offset == 0
    shift = abs(math.log(total_wrong.ratio / total.ratio))
    assert total.u_offset == pytest.approx(shift / math.sqrt(3), rel=0.01)


def test_an_effect_of_the_place_is_seen_and_does_not_bias_whole_squares() -> None:
    plain = analysed(known.Truth(noise_w=0.005), blocks=9)
    ordered = analysed(known.Truth(noise_w=0.005, order_w=0.05), blocks=9)

    clean, found = (ratio(r, "shift").estimate for r in (plain, ordered))
    assert clean is not None
    assert found is not None
    assert clean.position_p is not None
    assert clean.position_p > 0.001
    assert found.position_p is not None
    assert found.position_p < 1e-4
    assert found.ratio == pytest.approx(0.65 / 0.55, rel=0.02)


def test_equal_arms_of_the_check_measure_equal() -> None:
    result = analysed(known.Truth(spread=0.01))

    assert {(r.rail, r.quantity) for r in result.aa} == {("12V", "dynamic"), ("12V", "total")}
    for found in result.aa:
        assert found.pair == Pair("bac", "bac", "A/A")
        assert found.estimate is not None
        assert found.estimate.low <= 1 <= found.estimate.high
        assert found.verdict == "not resolvable"
        firsts = [
            n < d
            for n, d in zip(found.numerator_positions, found.denominator_positions, strict=True)
        ]
        assert sum(firsts) == 2  # of four


def test_blocks_that_are_not_whole_are_left_out() -> None:
    runs = summaries(known.Truth(), 6)
    last = [r for r in runs if (r.key.stage, r.key.block) == ("main", 5)]
    unfinished = [r for r in runs if r is not last[-1]]
    mixed = [*unfinished, replace(last[-1], key=replace(last[-1].key, attempt=1))]

    for given in (unfinished, mixed):
        result = analyse_runs(known.Plan(design=SHORT), given, {0: 6})

        assert ratio(result, "saving").blocks == (0, 1, 2, 3, 4)
        assert not result.complete
        assert any("not final" in note for note in result.notes)
    with pytest.raises(ValueError, match="no block is whole"):
        analyse_runs(known.Plan(design=SHORT), runs[:1], {0: None})


def test_energies_so_noisy_that_their_logarithms_are_biased_are_told() -> None:
    quiet = analysed(known.Truth(), blocks=6)
    noisy = analysed(known.Truth(spread=0.5), blocks=20)

    assert not any("biased" in note for note in quiet.notes)
    (note,) = (note for note in noisy.notes if "biased" in note)
    assert "Longer runs help, more blocks do not." in note


def test_a_rail_that_a_run_lacks_is_left_out_and_told() -> None:
    plan, truth = known.Plan(design=SHORT), known.Truth(rails=(known.FINE, known.COARSE))
    runs = [summarize_run(run) for run in known.campaign_runs(plan, truth, 4)]
    runs[9] = replace(runs[9], rails={"12V": runs[9].rails["12V"]})

    result = analyse_runs(plan, runs, {0: 4})

    assert {rail.info.name for rail in result.rails} == {"12V"}
    assert "Left out, since not read in every run: INT." in result.notes


def test_the_number_of_blocks_follows_from_the_pilot_alone() -> None:
    plan = known.Plan(design=SHORT)
    runs = summaries(known.Truth(spread=0.005), 6)
    pilot = [r for r in runs if r.key.stage == "main" and r.key.block < 4]
    result = analyse_runs(plan, pilot, {0: None})

    needed = blocks_needed(plan, plan.cells[0], pilot, "12V")

    logs = [r.log_ratios for r in result.headline()]
    assert needed == second_stage_blocks(logs, SHORT.target_half_width, 4, 20)
    assert 4 < needed <= 20
    assert blocks_needed(plan, plan.cells[0], runs, "12V") == needed
    with pytest.raises(ValueError, match="no whole block 3"):
        blocks_needed(plan, plan.cells[0], pilot[:-1], "12V")


def test_no_ratio_asks_for_no_more_blocks() -> None:
    truth = known.Truth(dynamic_w={"bac": -0.1, "mac4": -0.1, "mac8": -0.1})
    plan = known.Plan(design=SHORT)

    assert blocks_needed(plan, plan.cells[0], summaries(truth, 4), "12V") == 4


def test_intervals_are_those_of_the_pilots_spread() -> None:
    found = ratio(analysed(known.Truth(spread=0.01), blocks=10), "saving")

    assert found.estimate is not None
    mean = found.estimate.log_mean
    assert (mean.dof, mean.n_blocks) == (3, 10)
    assert mean.sd == pytest.approx(np.std(found.log_ratios[:4], ddof=1))


def test_figures_are_the_same_whenever_they_are_made() -> None:
    first, again = (result_json(analysed(known.Truth(), blocks=5)) for _ in range(2))

    assert json.dumps(first, allow_nan=False) == json.dumps(again, allow_nan=False)
    assert largest_difference(json.loads(json.dumps(first)), again) == (0.0, "")


def test_a_difference_between_stored_and_new_figures_is_found() -> None:
    stored = {"ratios": [{"ratio": 1.25, "rail": "12V"}], "n": 3}
    other = {"ratios": [{"ratio": 1.25 * (1 + 1e-9), "rail": "12V"}], "n": 3}
    renamed = {"ratios": [{"ratio": 1.25, "rail": "INT"}], "n": 3}
    longer = {"ratios": [{"ratio": 1.25, "rail": "12V"}, {}], "n": 3}

    share, where = largest_difference(stored, other)
    assert share == pytest.approx(1e-9)
    assert where == "ratios.0.ratio"
    assert largest_difference(stored, renamed) == (math.inf, "ratios.0.rail")
    assert largest_difference(stored, longer)[0] == math.inf
    assert largest_difference(stored, {"n": 3})[0] == math.inf
    assert largest_difference(None, 0.0)[0] == math.inf
    assert largest_difference(True, 1.0) == (0.0, "")


@pytest.mark.parametrize("mac_w", [0.5, 0.7])
def test_intervals_from_raw_integers_hold_the_truth(mac_w: float) -> None:
    """Sample by sample: 120 campaigns, of which 6 points are 3 standard errors."""
    design = Design(run_s=1.5, idle_s=0.8, pilot_blocks=6, max_blocks=6, aa_blocks=0)
    pair = Pair("mac8", "bac", "saving")
    plan = known.Plan(design=design, arms=(known.Arm("bac"), known.Arm("mac8")), pairs=(pair,))
    truth = known.Truth(dynamic_w={"bac": 0.5, "mac8": mac_w}, spread=0.01)
    held = apart = 0
    for seed in range(120):
        runs = [summarize_run(run) for run in known.campaign_runs(plan, truth, 6, seed)]
        (found,) = analyse_runs(plan, runs, {0: 6}).headline()
        assert found.estimate is not None
        held += found.estimate.low <= mac_w / 0.5 <= found.estimate.high
        apart += found.verdict != "not resolvable"

    assert held / 120 == pytest.approx(0.95, abs=0.06)
    assert apart == 120 if mac_w > 0.5 else apart / 120 < 0.11
