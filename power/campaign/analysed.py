"""The figures of a journal, computed anew, by this version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from bacmac.host.errors import InputError
from bacmac.power.campaign.analysis import analyse_campaign
from bacmac.power.campaign.journal import Journal
from bacmac.power.campaign.result import CampaignResult


def analysed(journal: Journal) -> CampaignResult:
    """Figures of a campaign, computed anew.

    Raises:
        InputError: no block is whole yet.
    """
    try:
        return analyse_campaign(journal)
    except ValueError as error:
        raise InputError(
            journal.path, "runs", found=str(error), expected="a block that is whole and valid"
        ) from error


def own_version() -> str:
    """Of bacmac, that analyses."""
    try:
        return version("bacmac")
    except PackageNotFoundError:
        return "not installed"
