"""The rails that a plan will read, and the dynamic power to expect on them: the forecast's inputs.

Emulated rails are opened, and the emulated board works for a moment to tell each arm's power by
the coefficient table. Of real ones only the sensors' facts are known here, and power is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.errors import RailError
from bacmac.host.runtime.session import Session
from bacmac.power.boards import BOARDS
from bacmac.power.campaign.forecast import ExpectedPower
from bacmac.power.campaign.measure import clocked
from bacmac.power.campaign.plan import CampaignPlan, Cell, PlannedArm
from bacmac.power.coefficients import Coefficients
from bacmac.power.emulated import activity_j, memory_bytes_j
from bacmac.power.rails import RailInfo, chosen_rails
from bacmac.power.sources import open_rails, open_with_clock

PASSES = 50
"""Over a batch: enough that the streams' share of the time is small."""
WHOLE_BOARD_V = 5.0
"""A rail of this voltage or more feeds the others through their regulators."""
ZCU102_IDLE = {"VCCINT": "zcu102_vccint_w", "VCCBRAM": "zcu102_vccbram_w"}
"""Coefficient of the idle power of each rail of the logic alone."""


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


def emulated_powers(
    plan: CampaignPlan, cell: Cell, rails: Sequence[RailInfo], numbers: Coefficients
) -> tuple[ExpectedPower, ...]:
    """Power of each arm at work by the coefficient table, on every rail that carries the work."""
    works = {arm.name: _work(plan, arm, cell, numbers) for arm in plan.arms}
    powers = []
    for info in rails:
        watts = {name: _on_rail(info, work, numbers) for name, work in works.items()}
        if min(watts.values()) > 0:
            powers.append(ExpectedPower(info, watts, *_noises_w(info, numbers)))
    return tuple(powers)


def assumed_powers(
    plan: CampaignPlan, rails: Sequence[RailInfo], watts: float, numbers: Coefficients
) -> tuple[ExpectedPower, ...]:
    """The same power for every arm on every rail that sees the logic."""
    return tuple(
        ExpectedPower(info, {arm.name: watts for arm in plan.arms}, *_noises_w(info, numbers))
        for info in rails
        if info.sees_logic
    )


def _work(
    plan: CampaignPlan, arm: PlannedArm, cell: Cell, numbers: Coefficients
) -> tuple[float, float, float]:
    """Power in W while an arm runs: on INT, in the DRAM, and of INT's in on-chip memory.

    Self-heating is left out: slower than a run, it is in the idle windows almost alike.
    """
    board, overlay = EmulatedBoard("functional:"), clocked(arm.overlay, cell.clock_hz)
    images = plan.images.images[: cell.batch_images]
    try:
        with Session(board, overlay, arm.model.model, batch_size=len(images)) as session:
            window = session.repeat_unverified(images, PASSES).window
    finally:
        board.close()
    int_j = dram_j = memory_j = 0.0
    for activity in (a for a in board.activity.work if a.end_ns > window.start_ns):
        logic, dram = activity_j(activity, overlay.manifest, numbers)
        int_j, dram_j = int_j + logic, dram_j + dram
        memory_j += memory_bytes_j(activity, numbers)
    seconds = window.duration_s
    return int_j / seconds, dram_j / seconds, memory_j / seconds


def _on_rail(info: RailInfo, work: tuple[float, float, float], numbers: Coefficients) -> float:
    """What of the work a rail carries: as the emulated boards have it."""
    int_w, dram_w, memory_w = work
    if info.nominal_v >= WHOLE_BOARD_V:
        return (int_w + dram_w) / numbers["regulator_efficiency"]
    shares = {"INT": int_w, "VCCINT": int_w - memory_w, "VCCBRAM": memory_w}
    return shares.get(info.name, 0.0)


def _noises_w(info: RailInfo, numbers: Coefficients) -> tuple[float, float]:
    """Fast and slow noise of a rail: as the emulated boards have it, INT's where they do not."""
    noise_w, slow_w = numbers["noise_w"], numbers["slow_noise_w"]
    if info.nominal_v >= WHOLE_BOARD_V:
        efficiency = numbers["regulator_efficiency"]
        return math.hypot(noise_w / efficiency, noise_w), slow_w / efficiency
    if info.name in ZCU102_IDLE:
        return numbers["zcu102_noise_share"] * numbers[ZCU102_IDLE[info.name]], 0.0
    return noise_w, slow_w


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
