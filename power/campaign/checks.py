"""The twenty validity checks, as campaigns call them: of a run, of a block, of a campaign.

docs/campaigns.md has the table. Each finding carries its check's number, what was found and the
limit; the thresholds are `Limits`, stored with the campaign. Checks are pure: what they are given
is all they know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bacmac.power.campaign.checks_power import check_block_supply, check_power
from bacmac.power.campaign.checks_provenance import Provenance, check_provenance
from bacmac.power.campaign.checks_sensor import check_block_sensors, check_sensors
from bacmac.power.campaign.checks_state import check_block_state, check_state
from bacmac.power.campaign.checks_statistics import (
    check_invalid_rates,
    check_ratios,
    check_sameness,
    check_steps,
)
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.plan import CampaignPlan
from bacmac.power.campaign.result import CampaignResult
from bacmac.power.campaign.run import CampaignRun, Finding
from bacmac.power.campaign.sensor_step import StepResponse

CHECKS = {
    1: "sensor inventory",
    2: "refresh",
    3: "completeness",
    4: "clocks",
    5: "window and edges",
    6: "guard",
    7: "quantisation",
    8: "power register",
    9: "stuck sensor",
    10: "saturation and alarms",
    11: "idle stability",
    12: "dynamic energy resolvable",
    13: "clocks of the device",
    14: "thermal",
    15: "supply",
    16: "work done",
    17: "quiet system",
    18: "identity",
    19: "campaign statistics",
    20: "provenance",
}
"""Name of each check by its number."""


def check_run(
    run: CampaignRun,
    plan: CampaignPlan,
    limits: Limits,
    responses: Mapping[str, StepResponse] | None = None,
) -> tuple[Finding, ...]:
    """Everything that one run shows: checks 1 to 6, 8 to 18.

    Args:
        run: as recorded.
        plan: what it should have been.
        limits: thresholds.
        responses: of the rails to power pulses at the campaign's start. Where they are known a
            sensor that is stuck over a whole run is found by its run alone, and whether a run
            resolves the dynamic power does not hang on the run's own.
    """
    known = responses or {}
    return (
        *check_sensors(run, limits, known),
        *check_power(run, limits, known),
        *check_state(run, plan, limits),
    )


def check_block(
    runs: Sequence[CampaignRun], plan: CampaignPlan, limits: Limits
) -> tuple[Finding, ...]:
    """What shows only between the runs of a block: checks 1, 9, 14, 15 and 18.

    Args:
        runs: all of one attempt at a block.
        plan: of the campaign.
        limits: thresholds.
    """
    return (
        *check_block_sensors(runs, limits),
        *check_block_supply(runs, limits),
        *check_block_state(runs, limits),
    )


def check_campaign(
    result: CampaignResult,
    runs: Iterable[CampaignRun],
    limits: Limits,
    provenance: Provenance | None = None,
) -> tuple[Finding, ...]:
    """What shows only over the whole campaign: checks 4, 7, 16, 19 and 20.

    Args:
        result: of its analysis.
        runs: its valid runs; their samples are not looked at.
        limits: thresholds.
        provenance: of what is told; None leaves check 20 to who tells it.
    """
    return (
        *check_steps(result, limits),
        *check_ratios(result, limits),
        *check_invalid_rates(result, limits),
        *check_sameness(runs, limits),
        *(() if provenance is None else check_provenance(provenance, limits)),
    )
