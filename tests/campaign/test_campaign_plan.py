"""What is planned before the first run."""

from __future__ import annotations

from bacmac.power.campaign.plan import CampaignPlan, block_order


def test_every_block_of_the_small_plan_holds_every_arm_once(small_plan: CampaignPlan) -> None:
    for block in range(6):
        order = block_order(small_plan, 0, "main", block)

        assert sorted(order) == ["bac", "mac4", "mac8"]
