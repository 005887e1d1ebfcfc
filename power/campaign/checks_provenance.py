"""Check 20: is what is told of a campaign what its journal holds, and is that what was planned?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bacmac.power.campaign.analysis import analyse_campaign
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.result import CampaignResult, largest_difference, result_json
from bacmac.power.campaign.run import Finding
from bacmac.power.campaign.source_tree import source_tree


@dataclass(frozen=True)
class Provenance:
    """What is known of where figures come from.

    Attributes:
        journal_faults: of `verify_journal`: integrity, hashes of samples, states.
        plan_sha256, journal_plan_sha256: of the plan as read again, and as stored; "" for a plan
            that is not at hand.
        dirty: whether the source tree that ran had changes that are not committed; None where it
            was installed from a package.
        stored, again: figures as stored, and as analysed again from raw samples; None where there
            are none yet.
        emulated_runs: runs of which any part was emulated.
        told_emulated: whether what is exported or reported says EMULATED.
    """

    journal_faults: Sequence[str]
    plan_sha256: str
    journal_plan_sha256: str
    dirty: bool | None
    stored: Mapping[str, Any] | None
    again: Mapping[str, Any] | None
    emulated_runs: int
    told_emulated: bool


def journal_provenance(journal: Journal, result: CampaignResult, plan_sha256: str) -> Provenance:
    """Of a campaign that ended, and whose figures were stored: its journal is read once more.

    Args:
        journal: with figures in it.
        result: that is told.
        plan_sha256: of the plan that was carried out.

    Raises:
        JournalError: the journal is too damaged to be looked through.
    """
    tree = source_tree()
    return Provenance(
        journal.faults(),
        plan_sha256,
        journal.plan_sha256,
        tree.dirty if tree else None,
        journal.result(),
        result_json(analyse_campaign(journal)),
        sum(run.emulated for run in result.runs),
        result.emulated,
    )


def check_provenance(found: Provenance, limits: Limits) -> Iterator[Finding]:
    """Check 20; a tree that is not clean is told, everything else ends the matter."""
    for fault in found.journal_faults:
        yield Finding(20, "abort", "journal", f"{fault}; none allowed")
    if found.plan_sha256 and found.plan_sha256 != found.journal_plan_sha256:
        text = f"is {found.plan_sha256[:12]}; the journal was made for "
        yield Finding(20, "abort", "plan", f"{text}{found.journal_plan_sha256[:12]}")
    if found.dirty:
        text = "the source tree has changes that are not committed; none wanted"
        yield Finding(20, "warn", "source", text)
    if found.stored is not None and found.again is not None:
        share, where = largest_difference(found.stored, found.again)
        if share > limits.max_reanalysis_share:
            text = f"analysed again, {where} differs by {share:.2g}"
            text += f"; {limits.max_reanalysis_share:g} allowed"
            yield Finding(20, "abort", "figures", text)
    if found.emulated_runs and not found.told_emulated:
        text = f"{found.emulated_runs} runs are emulated and this would not say so"
        yield Finding(20, "abort", "export", text)
