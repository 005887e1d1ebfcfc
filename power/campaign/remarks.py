"""What is to be said of a plan that may run: what its result will not show, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bacmac.power.campaign.checks_sensor import needed_guard_s
from bacmac.power.campaign.forecast import ExpectedWidth, guard_s
from bacmac.power.campaign.plan import CampaignPlan
from bacmac.power.rails import RailInfo


def plan_remarks(
    plan: CampaignPlan, rails: Sequence[RailInfo], expected: Sequence[ExpectedWidth]
) -> tuple[str, ...]:
    """Each a sentence or two; none of them keeps a campaign from running.

    Args:
        plan: the campaign.
        rails: that will be sampled.
        expected: of all cells; for what will not be resolved.
    """
    return (*_of_the_arms(plan), *_of_the_checks(plan, rails), *_of_widths(plan, expected))


def _of_the_arms(plan: CampaignPlan) -> Iterator[str]:
    if plan.device != "pynq:":
        yield "EMULATED: the result tests the method and says nothing about a board."
    split = {pair.denominator for pair in plan.pairs if pair.question == "shift"}
    for pair in plan.pairs:
        if pair.question == "saving" and pair.denominator not in split:
            yield (
                f"The saving of {pair.denominator} over {pair.numerator} is not split: without a "
                "multiplier of as few weight bits it is that of bit width and shift in one."
            )
    if plan.images.labels is None:
        yield "The images have no labels: no accuracy stands beside the energy."


def _of_the_checks(plan: CampaignPlan, rails: Sequence[RailInfo]) -> Iterator[str]:
    """What the validity checks will say of every run, known beforehand."""
    d, limits = plan.design, plan.limits
    if d.run_s < limits.min_run_s:
        yield (
            f"A run of {d.run_s:g} s is shorter than limits.min_run_s, {limits.min_run_s:g} s: "
            "check 5 will find every run invalid."
        )
    guard = guard_s(plan, rails)
    used_s = d.run_s - guard
    for info in rails:
        needed_s = needed_guard_s(info, limits)
        if guard < needed_s * (1 - 1e-9):
            yield (
                f"{info.name} needs a guard of {needed_s:.3g} s, and runs have {guard:.3g} s: "
                "check 6 refuses that; give design.guard_s."
            )
        refresh_s = (info.update_period_ns or 0) * 1e-9
        if refresh_s >= limits.slow_refresh_s:
            if d.run_s < limits.slow_refresh_run_s:
                yield (
                    f"{info.name} is refreshed every {refresh_s:g} s: check 2 refuses runs below "
                    f"limits.slow_refresh_run_s, {limits.slow_refresh_run_s:g} s."
                )
        elif refresh_s and used_s / refresh_s < limits.min_fresh_values:
            yield (
                f"{info.name} gives about {used_s / refresh_s:.0f} values a run: check 2 wants "
                f"limits.min_fresh_values, {limits.min_fresh_values:g}."
            )
    if d.aa_blocks == 0:
        yield "No A/A check: nothing will show that the whole chain tells 1 where 1 is true."
    if d.pilot_blocks < limits.min_blocks:
        yield (
            f"A pilot of {d.pilot_blocks} blocks is below limits.min_blocks, "
            f"{limits.min_blocks:g}: check 19 will say so."
        )


def _of_widths(plan: CampaignPlan, expected: Sequence[ExpectedWidth]) -> Iterator[str]:
    """Once a rail, by its worst pair."""
    d = plan.design
    for rail in dict.fromkeys(e.rail for e in expected):
        worst = max((e for e in expected if e.rail == rail), key=lambda e: e.most)
        pair = f"{worst.pair.numerator}/{worst.pair.denominator}"
        if worst.step_limited:
            yield (
                f"{rail} will be limited by its sensor's step: {pair} is expected to "
                f"{worst.most:.2%} at best, and more blocks will not narrow that."
            )
        elif worst.wanted > d.target_half_width:
            yield (
                f"{rail} is not expected to reach {d.target_half_width:.2%}: {pair} to "
                f"{worst.most:.2%} in max_blocks, {d.max_blocks}. Longer runs and more "
                "blocks narrow it."
            )
