"""Which ratios the arms of a campaign can tell, and what else differs between the two of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.manifest.overlay import Manifest, Overlay
from bacmac.overlays.fairness import LedgerRow, fairness_ledger
from bacmac.power.arms import compare_models
from bacmac.power.campaign.plan import CampaignPlan, Pair, PlannedArm

WIDTH_ITEMS = ("weight bits", "model: weight bits")
"""What a pair that asks about bit width compares; to every other pair they are confounds."""


def derive_pairs(arms: Sequence[PlannedArm]) -> tuple[Pair, ...]:
    """The ratios that these arms can tell.

    For each shift overlay: every multiplier of other weight bits over it ("saving"), every one of
    its own weight bits over it ("shift"), and between those two ("bits"), so that saving = bits x
    shift. Two arms of one overlay and one model are an "A/A" pair, whose true ratio is 1.
    """
    pairs: list[Pair] = []
    multipliers = [arm for arm in arms if arm.overlay.manifest.product == "mac"]
    for shift in (arm for arm in arms if arm.overlay.manifest.product == "bac"):
        equal = [arm for arm in multipliers if _bits(arm.overlay) == _bits(shift.overlay)]
        for wide in (arm for arm in multipliers if arm not in equal):
            pairs.append(Pair(wide.name, shift.name, "saving"))
            pairs += [Pair(wide.name, narrow.name, "bits") for narrow in equal]
        pairs += [Pair(narrow.name, shift.name, "shift") for narrow in equal]
    for place, arm in enumerate(arms):
        for other in arms[place + 1 :]:
            if (arm.overlay, arm.model.sha256) == (other.overlay, other.model.sha256):
                pairs.append(Pair(other.name, arm.name, "A/A"))
    return tuple(dict.fromkeys(pairs))


def missing_multiplier(
    arms: Sequence[PlannedArm], pairs: Sequence[Pair], known: Sequence[Overlay]
) -> Manifest | None:
    """A known multiplier of a shift arm's weight bits that no arm is of, though it would split.

    A saving over a wide multiplier is that of the bit width and that of the shift in one: against
    wide weights alone a shift looks better than it is.
    """
    split = {pair.denominator for pair in pairs if pair.question == "shift"}
    for name in dict.fromkeys(p.denominator for p in pairs if p.question == "saving"):
        shift = next(arm.overlay for arm in arms if arm.name == name)
        for manifest in (overlay.manifest for overlay in known):
            same = SCHEMES[manifest.scheme].bits == _bits(shift)
            if name not in split and manifest.product == "mac" and same:
                return manifest
    return None


def pair_ledger(plan: CampaignPlan, pair: Pair) -> tuple[LedgerRow, ...]:
    """Every property of a pair's arms: `a` is the denominator's, `b` the numerator's.

    Raises:
        OverlayError: a report beside an overlay's manifest cannot be read.
    """
    a, b = plan.arm(pair.denominator), plan.arm(pair.numerator)
    rows = (
        *fairness_ledger(a.overlay, b.overlay),
        *compare_models(a.model.model, b.model.model),
    )
    if pair.question != "bits":
        return rows
    return tuple(
        replace(row, kind="arithmetic", note="what this pair asks about")
        if row.item in WIDTH_ITEMS and row.kind == "confound"
        else row
        for row in rows
    )


def _bits(overlay: Overlay) -> int:
    return SCHEMES[overlay.manifest.scheme].bits
