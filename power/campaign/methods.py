"""A paragraph on methods, with the campaign's own numbers, to be pasted into a paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.result import CampaignResult
from bacmac.power.campaign.stored import StoredArm, StoredPlan
from bacmac.power.campaign.validity import SAME_BLOCK, ValidityRow
from bacmac.power.energy import FINE_ENOUGH
from bacmac.power.rails import RailInfo
from bacmac.power.sampler import JITTER_SHARE


@dataclass(frozen=True)
class MethodFacts:
    """What the paragraph is made of.

    Attributes:
        plan: of the campaign.
        version: of bacmac, that analysed.
        emulated: whether any part of it is a model.
        rails: that were sampled.
        headline: name of the rail of the headline.
        guard_s: that was used.
        main_blocks: valid blocks of each cell.
        validity: runs planned, valid and invalid.
        aa: intervals of the A/A check, and how many of them left 1 out.
        reached: ratios on the headline's rail, and how many of them are within the target.
        changed_limits: thresholds that are not bacmac's own, as text.
        limited: rails whose step, not their spread, sets an interval.
        widened: number of intervals widened because neighbouring blocks were alike.
        boards: how many took part.
        clocks_hz: read back, of each arm.
    """

    plan: StoredPlan
    version: str
    emulated: bool
    rails: tuple[RailInfo, ...]
    headline: str
    guard_s: float
    main_blocks: tuple[int, ...]
    validity: tuple[ValidityRow, ...]
    aa: tuple[int, int]
    reached: tuple[int, int]
    changed_limits: tuple[str, ...]
    limited: tuple[str, ...]
    widened: int
    boards: int
    clocks_hz: Mapping[str, tuple[float, ...]]


def method_facts(
    plan: StoredPlan, result: CampaignResult, version: str, guard_s: float
) -> MethodFacts:
    """What the methods paragraph is made of."""
    rails = {rail.info.name: rail.info for rail in result.rails}
    clocks: dict[str, set[float]] = {}
    for run in result.runs:
        clocks.setdefault(run.key.arm, set()).add(run.clock_hz)
    return MethodFacts(
        plan,
        version,
        result.emulated,
        tuple(rails.values()),
        result.headline_rail,
        guard_s,
        tuple(b.valid for b in result.blocks if b.stage == "main"),
        result.validity,
        (len(result.aa), sum(r.verdict != "not resolvable" for r in result.aa)),
        _reached(plan, result),
        tuple(
            f"{name} {value} (usually {usual})" for name, value, usual in limits_told(plan) if usual
        ),
        tuple(dict.fromkeys(rail.info.name for rail in result.rails if rail.limited)),
        sum(r.estimate is not None and r.estimate.log_mean.widening > 1 for r in result.ratios),
        1,
        {arm: tuple(sorted(found)) for arm, found in clocks.items()},
    )


def limits_told(plan: StoredPlan) -> list[tuple[str, str, str]]:
    """Name, value, and the default where the plan has another."""
    usual = asdict(Limits())
    return [
        (name, _value_text(value), "" if value == usual[name] else _value_text(usual[name]))
        for name, value in asdict(plan.limits).items()
    ]


def _value_text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else f"{value}"


def _reached(plan: StoredPlan, result: CampaignResult) -> tuple[int, int]:
    """Ratios of the headline, and how many of them have an interval within the target."""
    target = math.log1p(plan.design.target_half_width)
    headline = result.headline()
    met = [r for r in headline if r.estimate and r.estimate.half_width <= target * (1 + 1e-9)]
    return len(headline), len(met)


def methods_paragraph(facts: MethodFacts) -> str:
    """Plain text; every number is the campaign's own, what was assumed is said."""
    parts = (_what, _design, _sampling, _statistics, _validity, _limits)
    return " ".join(text for part in parts if (text := part(facts)))


def _what(facts: MethodFacts) -> str:
    plan = facts.plan
    origin = (
        "EMULATED: this describes a simulated campaign; power was computed by a model and no "
        "board was measured. "
    )
    verb = "estimated on an emulated board" if facts.emulated else f"measured on board {plan.board}"
    arms = "; ".join(_arm(arm, facts) for arm in plan.arms)
    one = f"in batches of {plan.cells[0].batch_images}"
    return (
        f"{origin if facts.emulated else ''}"
        f"Energy per inference was {verb} with bacmac {facts.version} for "
        f"{_count(len(plan.arms), 'accelerator')}: {arms}. "
        f"All classified the same {plan.n_images:,} images (sha256 {plan.images_sha256[:12]}…), "
        f"{one if len(plan.cells) == 1 else _cells(facts)}, held on chip and repeated."
    )


def _arm(arm: StoredArm, facts: MethodFacts) -> str:
    clocks = sorted({round(hz / 1e6, 3) for hz in facts.clocks_hz.get(arm.name, ())})
    clock = " and ".join(f"{mhz:g}" for mhz in clocks) or f"{arm.built_clock_hz / 1e6:g}"
    return (
        f"{arm.name} (overlay {arm.overlay}, {arm.weight_bits}-bit {arm.scheme} weights, "
        f"{arm.sparsity:.1%} of them zero, {clock} MHz)"
    )


def _cells(facts: MethodFacts) -> str:
    cells = facts.plan.cells
    texts = [
        f"{cell.batch_images} images"
        + ("" if cell.clock_hz is None else f" at {cell.clock_hz / 1e6:g} MHz")
        for cell in cells
    ]
    return f"{len(cells)} cells: {', '.join(texts)}"


def _design(facts: MethodFacts) -> str:
    plan, d = facts.plan, facts.plan.design
    blocks = sorted(set(facts.main_blocks))
    made = f"{blocks[0]}" if len(blocks) == 1 else f"{blocks[0]} to {blocks[-1]}"
    n_aa, n_failed = facts.aa
    failed = f"{n_failed} of {n_aa} intervals of its ratio, which is truly 1, left 1 out"
    check = (
        f"Before, the first arm was compared with itself in {d.aa_blocks} blocks a cell (A/A): "
        f"{failed}."
        if n_aa
        else "No A/A check was made."
    )
    return (
        f"The design is randomised complete blocks ({made} a cell): in each block every arm ran "
        "once, in an order balanced over blocks and drawn before the first run "
        f"(seed {d.seed}, plan sha256 {plan.sha256[:12]}…). "
        f"A run loaded the arm's overlay, settled for {d.settle_s:g} s, idled for {d.idle_s:g} s, "
        f"worked for {d.warm_up_s:g} s to warm up and for {d.run_s:g} s measured, and idled again "
        f"for {d.idle_s:g} s, so that idle power was taken beside every run with the same overlay "
        f"loaded and clocked; {facts.guard_s:.3g} s at the start of the run and after its end "
        f"were left out while sensors followed. {check}"
    )


def _sampling(facts: MethodFacts) -> str:
    period_ms = 1e3 * facts.plan.design.sample_period_s
    jitter_ms = JITTER_SHARE * period_ms
    rails = "; ".join(_rail(rail) for rail in facts.rails)
    return (
        f"Voltage and current of {_count(len(facts.rails), 'rail')} were read about every "
        f"{period_ms:g} ms with random jitter of up to {jitter_ms:.2g} ms ({rails}). "
        "Power is voltage times current, integrated by the trapezoidal rule on monotonic time. "
        "Dynamic energy is power during the run less the mean of the run's own two idle windows, "
        "times the time of an inference; total energy includes idle power."
    )


def _rail(rail: RailInfo) -> str:
    refresh = (
        "refresh unknown"
        if rail.update_period_ns is None
        else f"a new value every {rail.update_period_ns * 1e-6:.3g} ms"
    )
    return f"{rail.name}: {rail.instrument}, steps of {rail.quantum_w * 1e3:.3g} mW, {refresh}"


def _statistics(facts: MethodFacts) -> str:
    d = facts.plan.design
    unit = (
        "With several boards the board is the unit of analysis."
        if facts.boards > 1
        else "The block is the unit of analysis; the result holds for this one board."
    )
    return (
        f"After {d.pilot_blocks} pilot blocks the number of blocks was fixed once so that the "
        f"95 % interval of each ratio on {facts.headline} should be within "
        f"{d.target_half_width:.2%} of it, with at most {d.max_blocks} blocks (two-stage "
        "procedure of Stein, 1945); nothing was stopped on its outcome. "
        f"{facts.reached[1]} of {facts.reached[0]} ratios met that target. "
        "A ratio is the geometric mean of the per-block ratios, its interval by Student's t with "
        "the pilot's spread and degrees of freedom. "
        f"Where a sensor's noise is below {FINE_ENOUGH:g} of its step the standard uncertainty by "
        "rounding was added in quadrature (Widrow and Kollár, 2008). "
        "Gain errors of a sensor cancel in a ratio, and offsets in dynamic energy; they are part "
        f"of the Type B uncertainty of absolute energies only. {unit}"
    )


def _validity(facts: MethodFacts) -> str:
    rows = [row for row in facts.validity if row.stage == "main"]
    made = sum(row.valid + row.n_invalid for row in rows)
    invalid = sum(row.n_invalid for row in rows)
    causes: dict[str, int] = {}
    for row in rows:
        for reason, n in row.invalid.items():
            if reason != SAME_BLOCK:
                causes[reason] = causes.get(reason, 0) + n
    why = ", ".join(f"{reason}: {n}" for reason, n in sorted(causes.items()))
    found = (
        f"None of {made} runs was invalid."
        if not invalid
        else f"Of {made} runs {invalid} were invalid with their whole block, which was repeated "
        f"in the same order ({why or 'by other runs of their blocks'}); their data are kept."
    )
    owed = sum(row.owed for row in rows)
    missing = f" {owed} runs are still owed: the campaign is not complete." if owed else ""
    changed = ", ".join(facts.changed_limits)
    thresholds = f"bacmac's own except {changed}" if changed else "bacmac's own"
    return (
        "Validity was decided by 20 checks of the data, none of which looks at a ratio, with "
        f"thresholds fixed beforehand ({thresholds}). {found}{missing}"
    )


def _limits(facts: MethodFacts) -> str:
    sentences = []
    if facts.limited:
        sentences.append(
            f"On {', '.join(facts.limited)} the sensor's step, not the spread of blocks, sets the "
            "uncertainty."
        )
    if facts.widened:
        was = "was" if facts.widened == 1 else "were"
        sentences.append(
            f"{_count(facts.widened, 'interval').capitalize()} {was} widened because neighbouring "
            "blocks were alike."
        )
    if not facts.emulated:
        sentences.append(
            "Steps and limits of error of the sensors are those of datasheets or were inferred "
            "from public listings; they were not calibrated for this work."
        )
    return " ".join(sentences)


def _count(n: int, noun: str) -> str:
    words = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
    return f"{words.get(n, str(n))} {noun}{'' if n == 1 else 's'}"
