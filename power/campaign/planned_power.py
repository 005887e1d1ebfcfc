"""The rails that a plan will read, and the dynamic power to expect on them: the forecast's inputs.

Emulated rails are opened, and the emulated board works for a moment to tell each arm's power by
the coefficient table. Of real ones only the sensors' facts are known here, and power is assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.errors import RailError
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.runtime.session import Session
from bacmac.power.boards import BOARDS
from bacmac.power.campaign.forecast import WHOLE_BOARD_V
from bacmac.power.campaign.plan import CampaignPlan, Cell
from bacmac.power.coefficients import Coefficients
from bacmac.power.emulated import activity_j
from bacmac.power.rails import RailInfo, chosen_rails
from bacmac.power.sources import open_rails, open_with_clock

PASSES = 50
"""Over a batch: enough that the streams' share of the time is small."""


def planned_rails(plan: CampaignPlan) -> tuple[tuple[RailInfo, ...], str]:
    """The rails that will be sampled, and where that is known from.

    Sensors that cannot be read here are those of the board that the overlays are built for.

    Raises:
        RailError: they cannot be read, and nothing is known of that board; or one is not offered.
    """
    if plan.rails.startswith("emulated:"):
        board = EmulatedBoard("functional:")
        try:
            rails = open_rails(plan.rails, board, seed=plan.design.seed)
            return chosen_rails(rails, plan.rail_names), "the emulated sensors"
        finally:
            board.close()
    try:
        source, _ = open_with_clock(plan.rails)
    except RailError as error:
        return _of_table(plan, error), f"what is known of the board; not read here: {error}"
    return chosen_rails(source, plan.rail_names), "the sensors here"


def emulated_watts(
    plan: CampaignPlan, cell: Cell, rails: Sequence[RailInfo], numbers: Coefficients
) -> dict[str, dict[str, float]]:
    """Dynamic power in W of each arm at work, by rail and arm, by the coefficient table."""
    watts: dict[str, dict[str, float]] = {info.name: {} for info in rails if info.sees_logic}
    for arm in plan.arms:
        int_w, dram_w = _work_w(plan, arm.name, cell, numbers)
        for info in (info for info in rails if info.name in watts):
            whole = info.nominal_v >= WHOLE_BOARD_V
            watts[info.name][arm.name] = (
                (int_w + dram_w) / numbers["regulator_efficiency"] if whole else int_w
            )
    return watts


def assumed_watts(
    plan: CampaignPlan, rails: Sequence[RailInfo], watts: float
) -> dict[str, dict[str, float]]:
    """The same power for every arm on every rail that sees the logic."""
    return {info.name: {arm.name: watts for arm in plan.arms} for info in rails if info.sees_logic}


def clocked(overlay: Overlay, clock_hz: float | None) -> Overlay:
    """The overlay at another clock; as it was built for None."""
    if clock_hz is None:
        return overlay
    return replace(overlay, manifest=replace(overlay.manifest, clock_hz=clock_hz))


def _work_w(
    plan: CampaignPlan, name: str, cell: Cell, numbers: Coefficients
) -> tuple[float, float]:
    """Power of the logic's work and of the DRAM's while an arm runs."""
    arm, board = plan.arm(name), EmulatedBoard("functional:")
    overlay = clocked(arm.overlay, cell.clock_hz)
    images = plan.images.images[: cell.batch_images]
    try:
        with Session(board, overlay, arm.model.model, batch_size=len(images)) as session:
            window = session.repeat_unverified(images, PASSES).window
    finally:
        board.close()
    work = [a for a in board.activity.work if a.end_ns > window.start_ns]
    energies = [activity_j(a, overlay.manifest, numbers) for a in work]
    # self-heating is left out: slower than a run, it is in the idle windows almost alike
    int_j, dram_j = (sum(parts) for parts in zip(*energies, strict=True))
    return int_j / window.duration_s, dram_j / window.duration_s


def _of_table(plan: CampaignPlan, error: RailError) -> tuple[RailInfo, ...]:
    board = BOARDS.get(plan.arms[0].overlay.manifest.board.lower())
    if board is None:
        raise error
    unknown = [name for name in plan.rail_names if name not in board.rails]
    if unknown:
        raise RailError(f"rail {unknown[0]!r}: {board.name} has {', '.join(board.rails)}")
    return tuple(
        RailInfo(
            name,
            place.nominal_v,
            place.chip,
            None,
            place.current_step_a,
            place.power_step_w,
            feeds=place.feeds,
            max_current_a=place.max_current_a,
            sees_logic=place.logic != "none",
        )
        for name, place in board.rails.items()
        if not plan.rail_names or name in plan.rail_names
    )
