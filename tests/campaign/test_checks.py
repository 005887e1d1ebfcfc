"""Each of the twenty checks fires on its fault and on nothing of a clean campaign."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.errors import InputError
from bacmac.host.runtime.results import Window
from bacmac.power.campaign.analysis import analyse_campaign, analyse_runs, summarize_run
from bacmac.power.campaign.checks import CHECKS, check_block, check_campaign, check_run
from bacmac.power.campaign.checks_power import dynamic_u_w
from bacmac.power.campaign.checks_provenance import (
    Provenance,
    check_provenance,
    journal_provenance,
)
from bacmac.power.campaign.checks_sensor import edge_share, needed_guard_s, stuck_samples_needed
from bacmac.power.campaign.checks_statistics import check_ratio, mad_scores
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.measure import Measurer
from bacmac.power.campaign.plan import CampaignPlan, Design, block_keys
from bacmac.power.campaign.result import CampaignResult, result_json
from bacmac.power.campaign.run import CampaignRun, Finding
from bacmac.power.campaign.sensor_step import StepResponse, check_step_responses
from bacmac.power.campaign.surroundings import open_surroundings
from bacmac.power.campaign.validity import ValidityRow
from bacmac.power.runs import RunRecord
from bacmac.power.sources import open_rails

Spoil = Callable[[CampaignRun], CampaignRun]
N_BLOCKS = 10


@dataclass(frozen=True)
class Made:
    """A part of an emulated campaign: its plan, answers to power pulses, and blocks."""

    plan: CampaignPlan
    responses: dict[str, StepResponse]
    start: tuple[Finding, ...]
    blocks: tuple[tuple[CampaignRun, ...], ...]
    aa: tuple[tuple[CampaignRun, ...], ...] = ()

    def findings(self, spoil: Spoil | None = None) -> list[Finding]:
        """Of the start, of every run and of every block; `spoil` changes each block's last run."""
        found = list(self.start)
        for block in self.blocks:
            runs = [*block[:-1], spoil(block[-1]) if spoil else block[-1]]
            for run in runs:
                found += check_run(run, self.plan, self.plan.limits, self.responses)
            found += check_block(runs, self.plan, self.plan.limits)
        return found


def make(plan: CampaignPlan, word: str = "emulated:", n_blocks: int = 1, n_aa: int = 0) -> Made:
    """Runs of 10 s as a campaign makes them, on rails of this word."""
    design = Design(seed=plan.design.seed)
    plan = replace(plan, rails=word, design=design, limits=Limits())
    board = EmulatedBoard()
    rails = open_rails(word, board, seed=design.seed)
    measurer = Measurer(plan, board, rails, open_surroundings(board, rails))
    responses = dict(measurer.step_responses())
    measurer.fit_guard(responses)
    headline = next(name for name in ("12V", "VCCINT") if name in responses)
    start = check_step_responses(responses, headline, measurer.guard_s, plan.limits)

    def blocks(stage: str, n: int) -> tuple[tuple[CampaignRun, ...], ...]:
        keys = (block_keys(plan, 0, stage, block) for block in range(n))  # type: ignore[arg-type]
        return tuple(tuple(measurer.run(key, lambda _: None) for key in own) for own in keys)

    return Made(plan, responses, start, blocks("main", n_blocks), blocks("aa", n_aa))


@pytest.fixture(scope="module")
def clean(small_plan: CampaignPlan) -> Made:
    return make(small_plan, n_blocks=N_BLOCKS, n_aa=4)


def analysed(made: Made) -> CampaignResult:
    runs = [run for block in (*made.aa, *made.blocks) for run in block]
    return analyse_runs(made.plan, [summarize_run(run) for run in runs], {0: len(made.blocks)})


def fired(findings: Iterable[Finding]) -> set[tuple[int, str]]:
    return {(finding.check, finding.level) for finding in findings}


# ---- clean campaigns


def test_a_clean_campaign_has_no_finding(clean: Made) -> None:
    assert clean.findings() == []


@pytest.mark.parametrize("seed", [1, 2])
def test_no_seed_makes_a_clean_campaign_look_wrong(small_plan: CampaignPlan, seed: int) -> None:
    plan = replace(small_plan, design=replace(small_plan.design, seed=seed))

    assert make(plan, n_blocks=8).findings() == []


def test_a_clean_zcu102_is_told_of_the_rail_that_shows_no_work_and_of_nothing_else(
    small_plan: CampaignPlan,
) -> None:
    made = make(small_plan, "emulated:zcu102", n_blocks=5)

    assert [(f.check, f.level, f.subject) for f in made.findings()] == [(9, "warn", "VCCAUX")]


def test_a_clean_campaign_is_told_of_its_coarse_rail_alone(clean: Made) -> None:
    findings = check_campaign(analysed(clean), _runs(clean), clean.plan.limits)

    assert fired(findings) == {(7, "warn")}
    assert all("INT" in finding.subject for finding in findings)


def _runs(made: Made) -> list[CampaignRun]:
    return [run for block in made.blocks for run in block]


# ---- faults of sensors and machine, as a rails word sets them

LATER = "@60"  # the power pulses are over, the first run is not

WORDS = [
    (1, "abort", f"unused=12V{LATER}"),
    (2, "abort", f"slow=12V{LATER}"),
    (3, "invalidate", f"gap=12V{LATER}-61"),
    (3, "invalidate", f"i2c-error=INT{LATER}-62"),
    (4, "invalidate", f"wall-step{LATER}"),
    (4, "invalidate", f"slow-clock{LATER}"),
    (6, "abort", "lag=12V"),
    (8, "warn", f"bogus=12V{LATER}"),
    (9, "invalidate", "stuck=12V@mac-uniform8"),
    (9, "invalidate", "stuck=12V@bac-pot4e4"),
    (9, "abort", "stuck=12V"),
    (10, "invalidate", f"saturated=12V{LATER}-61"),
    (10, "invalidate", f"throttled{LATER}"),
    (11, "invalidate", f"drift=12V{LATER}"),
    (12, "invalidate", f"noisy=12V{LATER}"),
    (12, "warn", "stuck=12V@mac-uniform8"),
    (13, "invalidate", f"wrong-clock{LATER}"),
    (13, "invalidate", f"governor{LATER}"),
    (13, "invalidate", f"throttled{LATER}"),
    (14, "invalidate", f"hot{LATER}"),
    (14, "invalidate", f"heating{LATER}"),
    (14, "invalidate", f"cold{LATER}"),
    (15, "invalidate", f"sag=12V{LATER}"),
    (15, "invalidate", f"dip=12V{LATER}"),
    (15, "invalidate", f"wrong-page=INT{LATER}-60.1"),
    (17, "invalidate", f"foreign-cpu{LATER}"),
    (17, "invalidate", f"disk-writes{LATER}"),
    (18, "abort", f"wrong-id{LATER}"),
    (18, "abort", f"wrong-build{LATER}"),
    (18, "abort", f"reboot{LATER}"),
]


@pytest.mark.parametrize(("check", "level", "fault"), WORDS, ids=lambda value: str(value))
def test_a_check_fires_on_its_fault(
    small_plan: CampaignPlan, check: int, level: str, fault: str
) -> None:
    made = make(small_plan, f"emulated:{fault}")

    findings = [f for f in made.findings() if (f.check, f.level) == (check, level)]
    assert findings, f"check {check} ({CHECKS[check]}) did not fire"
    assert all(any(c.isdigit() for c in f.text) or f.text for f in findings)


@pytest.mark.parametrize("arm", ["mac-uniform8", "bac-pot4e4"])
def test_a_sensor_that_freezes_in_one_arm_is_found_without_power_pulses_too(
    small_plan: CampaignPlan, arm: str
) -> None:
    made = make(small_plan, f"emulated:stuck=12V@{arm}")
    made = replace(made, responses={}, start=())

    own = [f for f in made.findings() if f.check == 9]
    assert {f.level for f in own} == {"invalidate"}
    assert len(own) == 1  # the other arms' runs are not accused


# ---- faults of a run, as its record shows them


def _record(run: CampaignRun, /, **changes: object) -> CampaignRun:
    return replace(run, record=replace(run.record, **changes))


def _short(run: CampaignRun) -> CampaignRun:
    r = run.record
    return _record(run, run=Window(r.run.start_ns, r.run.end_ns - 2_000_000_000))


def _no_guard(run: CampaignRun) -> CampaignRun:
    return _record(run, used=run.record.run)


def _idle_at_once(run: CampaignRun) -> CampaignRun:
    r = run.record
    return _record(run, after=Window(r.run.end_ns, r.after.end_ns))


def _nothing_read_at_the_end(run: CampaignRun) -> CampaignRun:
    """No sample in the last 80 ms of the run: not a gap yet, but the edge is uncertain."""
    r = run.record
    rails = {}
    for name, rail in r.trace.rails.items():
        kept = (rail.times_ns < r.run.end_ns - 80_000_000) | (rail.times_ns > r.run.end_ns)
        columns = (rail.times_ns, rail.voltage_mv, rail.current_ma, rail.power_uw)
        rails[name] = type(rail)(rail.info, *(column[kept] for column in columns))
    return _record(run, trace=replace(r.trace, rails=rails))


def _negative(run: CampaignRun) -> CampaignRun:
    """Less current in the run than in idle."""
    r = run.record
    rail = r.trace.rails["12V"]
    inside = (rail.times_ns >= r.run.start_ns) & (rail.times_ns <= r.run.end_ns)
    changed = replace(rail, current_ma=rail.current_ma - 40 * inside.astype(np.int64))
    return _record(run, trace=replace(r.trace, rails={**r.trace.rails, "12V": changed}))


def _other_sensor(run: CampaignRun) -> CampaignRun:
    r = run.record
    rail = r.trace.rails["12V"]
    changed = replace(rail, info=replace(rail.info, instrument="emulated INA260"))
    return _record(run, trace=replace(r.trace, rails={**r.trace.rails, "12V": changed}))


RECORDS: list[tuple[int, str, Spoil]] = [
    (1, "abort", _other_sensor),
    (3, "invalidate", lambda run: replace(run, read_errors=5)),
    (4, "invalidate", lambda run: replace(run, after=replace(run.after, monotonic_ns=0))),
    (5, "invalidate", _short),
    (5, "invalidate", _no_guard),
    (5, "invalidate", _nothing_read_at_the_end),
    (6, "abort", _no_guard),
    (6, "abort", _idle_at_once),
    (12, "warn", _negative),
    (13, "invalidate", lambda run: replace(run, after=replace(run.after, cpu_hz=1.1e9))),
    (13, "invalidate", lambda run: _record(run, clock_hz=run.record.clock_hz * 1.002)),
    (16, "invalidate", lambda run: replace(run, requested_images=run.record.n_inferences + 1)),
    (16, "invalidate", lambda run: replace(run, retries=1)),
    (16, "invalidate", lambda run: _record(run, n_verified=0)),
    (16, "invalidate", _short),
    (17, "invalidate", lambda run: replace(run, sampler_share_idle=0.06, sampler_share_run=0.06)),
    (17, "invalidate", lambda run: replace(run, sampler_share_idle=0.01, sampler_share_run=0.03)),
    (18, "abort", lambda run: _record(run, overlay_sha256="00" * 32)),
    (18, "abort", lambda run: _record(run, model_sha256="00" * 32)),
]


@pytest.mark.parametrize(("check", "level", "spoil"), RECORDS)
def test_a_check_fires_on_what_a_record_shows(
    clean: Made, check: int, level: str, spoil: Spoil
) -> None:
    assert (check, level) in fired(replace(clean, blocks=clean.blocks[:1]).findings(spoil))


def test_a_negative_energy_is_told_and_does_not_repeat_its_block(clean: Made) -> None:
    findings = replace(clean, blocks=clean.blocks[:1]).findings(_negative)

    assert fired(findings) == {(12, "warn")}


def test_a_run_is_not_judged_by_its_own_dynamic_power(clean: Made) -> None:
    """What a run resolves is asked with the power known from the start, not with its outcome."""
    run = clean.blocks[0][0]
    rail = run.record.trace.rails["12V"]
    u_w = dynamic_u_w(run.record, rail, (0.03, 0.8))

    assert 0.001 < u_w < 0.02
    assert not [
        f
        for f in check_run(_negative(run), clean.plan, Limits(), clean.responses)
        if f.level == "invalidate"
    ]


def test_a_rail_that_resolves_nothing_is_told_and_not_repeated_for_ever(
    small_plan: CampaignPlan,
) -> None:
    made = make(small_plan, "emulated:coarse", n_blocks=2)

    assert fired(made.findings()) == {(12, "warn")}


# ---- start of a campaign


def test_a_campaign_that_is_taken_up_with_another_sensor_is_ended(clean: Made) -> None:
    lag = clean.responses["INT"]
    slower = replace(lag, lag_s=0.4, u_lag_s=0.01)
    other = replace(lag, info=replace(lag.info, instrument="another"))
    for changed, check in ((slower, 6), (other, 1)):
        found = {**clean.responses, "INT": changed}

        findings = check_step_responses(found, "12V", 2.5, Limits(), clean.responses)

        assert fired(findings) == {(check, "abort")}
    gone = {name: r for name, r in clean.responses.items() if name != "INT"}
    assert fired(check_step_responses(gone, "12V", 0.5, Limits(), clean.responses)) == {
        (1, "abort")
    }


def test_lags_are_those_of_the_emulated_sensors(clean: Made) -> None:
    for response in clean.responses.values():
        assert response.lag_s is not None
        assert response.u_lag_s is not None
        assert response.info.filter_tau_s is not None
        expected_s = response.info.filter_tau_s + (response.info.update_period_ns or 0) * 0.5e-9
        assert abs(response.lag_s - expected_s) < 3 * response.u_lag_s


def test_a_pulse_meets_every_phase_of_a_slow_sensor(small_plan: CampaignPlan) -> None:
    made_s = make(small_plan, "emulated:1s-cache", n_blocks=0).responses["INT"]

    assert made_s.lag_s is not None
    assert 0.2 < made_s.lag_s < 0.9  # a value is between 0 and 1 s old


def test_the_guard_that_is_needed_grows_with_filter_and_refresh(clean: Made) -> None:
    info = clean.responses["12V"].info
    slow = replace(info, update_period_ns=1_000_000_000, filter_tau_s=0.05)

    assert needed_guard_s(info, Limits()) == pytest.approx(5 * 0.0176 + 0.0352)
    assert needed_guard_s(slow, Limits()) == pytest.approx(1.25)


# ---- edges and stuck sensors, against what is known


def test_the_edge_bound_holds_what_an_unguarded_filter_loses(clean: Made) -> None:
    """A filter of 50 ms and no guard: 0.5 % of a 10 s run is missing; the bound must say more."""
    record: RunRecord = clean.blocks[0][0].record
    rail = record.trace.rails["INT"]
    unguarded = replace(record, used=record.run)

    assert edge_share(record, rail, 0.05) < 0.002
    assert edge_share(unguarded, rail, 0.05) > 0.05 / 10


@pytest.mark.parametrize("noise_steps", [0.3, 0.5, 1.0, 2.0])
def test_a_live_sensor_is_hardly_ever_called_stuck(noise_steps: float, clean: Made) -> None:
    """Rows of equal readings of first-order autoregressive noise in the middle of a step."""
    rail = clean.blocks[0][0].record.trace.rails["12V"]
    step_w, held = rail.info.quantum_w, 0.8
    needed = stuck_samples_needed(rail, noise_steps * step_w, held, Limits())
    rng = np.random.default_rng(3)
    value, longest, row, last = 0.0, 0, 0, None
    for normal in rng.standard_normal(200_000).tolist():
        value = held * value + math.sqrt(1 - held**2) * normal
        reading = round(value * noise_steps)
        row = row + 1 if reading == last else 1
        longest, last = max(longest, row), reading

    assert longest < needed  # over more than an hour of samples


def test_a_coarse_sensor_that_shows_no_load_at_all_is_stuck(clean: Made) -> None:
    run = clean.blocks[0][0]
    rail = run.record.trace.rails["INT"]
    frozen = replace(rail, **{c: np.full_like(getattr(rail, c), 4250) for c in ("current_ma",)})
    frozen = replace(frozen, power_uw=np.full_like(rail.power_uw, 3_500_000))
    run = _record(run, trace=replace(run.record.trace, rails={"INT": frozen}))

    def found(step_w: float) -> list[int]:
        responses = {"INT": replace(clean.responses["INT"], step_w=step_w)}
        findings = check_run(run, clean.plan, Limits(), responses)
        return [f.check for f in findings if f.level == "invalidate"]

    assert found(0.5) == [9]
    assert found(0.1) == []  # less than a step: it may be by right


def test_clocks_that_run_apart_are_told_of_the_campaign(small_plan: CampaignPlan) -> None:
    made = make(small_plan, "emulated:wall-drift", n_blocks=2)

    assert made.findings() == []  # 25 ms over a run
    findings = check_campaign(analysed(made), _runs(made), made.plan.limits)
    assert any(f.check == 4 and "+1000 ppm" in f.text for f in findings)


def test_a_step_that_covers_the_noise_cannot_be_called_stuck(clean: Made) -> None:
    rail = clean.blocks[0][0].record.trace.rails["INT"]

    assert stuck_samples_needed(rail, 0.02, 0.8, Limits()) == math.inf


# ---- the whole campaign


@pytest.fixture(scope="module")
def result(clean: Made) -> CampaignResult:
    return analysed(clean)


def _ratio_findings(
    result: CampaignResult, logs: Sequence[float], **changes: object
) -> list[Finding]:
    ratio = result.headline()[0]
    assert ratio.estimate is not None
    mean = replace(ratio.estimate.log_mean, **changes.pop("log_mean", {}))  # type: ignore[arg-type]
    estimate = replace(ratio.estimate, log_mean=mean, **changes)
    return list(check_ratio("here", tuple(logs), estimate, Limits()))


def test_a_campaign_of_few_blocks_is_told(result: CampaignResult) -> None:
    assert "9 blocks" in _ratio_findings(result, [0.1, 0.2, 0.15] * 3)[0].text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"log_mean": {"lag1": 0.9}}, "correlated by +0.90; 0.63 allowed"),
        ({"position_p": 0.004}, "order has p = 0.0040"),
        ({"log_mean": {"half_width": 1e-9}}, "centres are"),
    ],
)
def test_what_ails_a_ratio_is_told(
    result: CampaignResult, changes: dict[str, object], words: str
) -> None:
    logs = result.headline()[0].log_ratios

    assert words in " ".join(f.text for f in _ratio_findings(result, logs, **changes))


def test_an_outlying_block_is_flagged_and_kept(result: CampaignResult) -> None:
    logs = [*result.headline()[0].log_ratios[:-1], 3.0]

    texts = [f.text for f in _ratio_findings(result, logs)]
    assert any("It is kept" in text for text in texts)
    assert mad_scores(tuple([1.0] * 5)).tolist() == [0.0] * 5


def test_an_aa_ratio_that_does_not_hold_1_is_told(clean: Made, result: CampaignResult) -> None:
    aa = next(ratio for ratio in result.aa if ratio.quantity == "dynamic" and ratio.rail == "12V")
    assert aa.estimate is not None
    off = replace(aa, estimate=replace(aa.estimate, low=1.01, high=1.05))

    texts = [f.text for f in check_campaign(replace(result, aa=(off,)), [], clean.plan.limits)]
    assert any("it must hold 1" in text for text in texts)
    none = [f.text for f in check_campaign(replace(result, aa=()), [], clean.plan.limits)]
    assert any("no A/A" in text for text in none)


def _validity(**invalid: int) -> tuple[ValidityRow, ...]:
    return tuple(
        ValidityRow(0, "main", arm, 40, 40, n, 0, {"check 9": n}) for arm, n in invalid.items()
    )


def test_invalid_runs_in_one_arm_are_told(clean: Made, result: CampaignResult) -> None:
    def texts(**invalid: int) -> list[str]:
        changed = replace(result, validity=_validity(**invalid))
        return [f.text for f in check_campaign(changed, [], clean.plan.limits) if f.check == 19]

    assert any("chosen by the arm" in text for text in texts(bac=0, mac4=0, mac8=8))
    assert any("8 of 128 runs were invalid" in text for text in texts(bac=0, mac4=0, mac8=8))
    assert texts(bac=1, mac4=1, mac8=1) == []


@pytest.mark.parametrize("reason", ["block", "crash", "interrupted"])
def test_runs_that_were_cut_off_are_not_held_against_their_arm(
    clean: Made, result: CampaignResult, reason: str
) -> None:
    rows = tuple(
        replace(row, invalid={reason: n} if (n := row.n_invalid) else {})
        for row in _validity(bac=0, mac4=0, mac8=20)
    )

    findings = check_campaign(replace(result, validity=rows), [], clean.plan.limits)

    assert not [f for f in findings if f.check == 19]


def test_a_limited_ratio_is_told_to_be_limited_by_its_step(
    clean: Made, result: CampaignResult
) -> None:
    ratio = result.headline()[0]
    assert ratio.estimate is not None
    limited = replace(ratio, estimate=replace(ratio.estimate, u_step=0.2))

    findings = check_campaign(replace(result, ratios=(limited,)), [], clean.plan.limits)

    assert any(f.check == 7 and "resolution-limited" in f.text for f in findings)


def test_runs_of_an_arm_that_are_not_alike_are_told(clean: Made, result: CampaignResult) -> None:
    runs = _runs(clean)
    slow = _record(runs[0], run=Window(0, 20_000_000_000))
    other = _record(runs[1], outputs_sha256="00" * 32)
    drifted = replace(
        runs[-1], before=replace(runs[-1].before, wall_ns=runs[-1].before.wall_ns + 10**9)
    )

    findings = check_campaign(result, [slow, other, *runs[2:-1], drifted], clean.plan.limits)

    texts = [finding.text for finding in findings]
    assert any("run times vary" in text for text in texts)
    assert any("2 different outputs" in text for text in texts)
    assert any(f.check == 4 and "ppm" in f.text for f in findings)


# ---- provenance


def _provenance(result: CampaignResult, **changes: object) -> list[Finding]:
    figures = result_json(result)
    found = Provenance((), "ab" * 32, "ab" * 32, False, figures, figures, 3, True)
    return list(check_provenance(replace(found, **changes), Limits()))  # type: ignore[arg-type]


def test_good_provenance_is_not_remarked_on(result: CampaignResult) -> None:
    assert _provenance(result) == []


def test_what_is_told_must_be_what_the_journal_holds(result: CampaignResult) -> None:
    again = result_json(result)
    again["energies"][0]["total_j"]["mean"]["centre"] *= 1 + 1e-11
    bad = {
        "abort": [
            {"journal_faults": ["run 3: sha256 differs"]},
            {"plan_sha256": "cd" * 32},
            {"again": again},
            {"told_emulated": False},
        ],
        "warn": [{"dirty": True}],
    }
    for level, cases in bad.items():
        for changes in cases:
            assert fired(_provenance(result, **changes)) == {(20, level)}, changes


def test_provenance_of_a_journal_is_read_from_it(clean: Made, tmp_path: Path) -> None:
    made = replace(clean, blocks=clean.blocks[:2], aa=())
    path = tmp_path / "campaign.sqlite"
    with Journal.create(path, made.plan) as journal:
        for run in _runs(made):
            journal.begin(run.key, "emulated")
            journal.finish(run)
        own = analyse_campaign(journal)
        journal.store_result(result_json(own))

        found = journal_provenance(journal, own, made.plan.sha256)

        assert list(check_provenance(replace(found, dirty=False), Limits())) == []
        assert found.emulated_runs == len(_runs(made))
        for changes in ({"plan_sha256": "00" * 32}, {"result": replace(own, emulated=False)}):
            arguments = {"result": own, "plan_sha256": made.plan.sha256, **changes}
            spoilt = journal_provenance(journal, **arguments)  # type: ignore[arg-type]
            assert (20, "abort") in fired(check_provenance(spoilt, Limits()))


# ---- limits and what is missing


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="limits: max_die_c: found 'hot'"):
        Limits(max_die_c="hot")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="min_run_s"):
        Limits(min_run_s=-1.0)


def test_what_a_machine_does_not_tell_is_told_once(clean: Made, result: CampaignResult) -> None:
    silent = [
        replace(run, before=replace(run.before, governor=None, die_c={})) for run in _runs(clean)
    ]

    findings = check_campaign(result, silent, clean.plan.limits)

    told = [(f.check, f.level, f.subject) for f in findings if "not judged" in f.text]
    assert told == [(13, "warn", "governor"), (14, "warn", "die temperature")]


def test_every_check_has_a_fault_that_fires_it() -> None:
    tried = {check for check, _, _ in WORDS} | {check for check, _, _ in RECORDS}

    assert tried | {7, 19, 20} == set(CHECKS)
