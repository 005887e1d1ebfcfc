"""Energies and speed of one arm in a cell, over blocks, Type A and Type B apart.

Type B by JCGM 100:2008: limits of gain, shunt and offset are half widths of rectangles (4.3.7).
Gain and shunt are relative to the figure; the offset of the current is one power in every window,
so it cancels in dynamic energy and is whole in static and total energy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bacmac.power.campaign.plan import Design
from bacmac.power.campaign.ratios import not_positive
from bacmac.power.campaign.result import ArmEnergy, ArmTime, Figure, RunSummary, TypeB
from bacmac.power.energy import Quantisation
from bacmac.power.rails import RailInfo
from bacmac.power.statistics import two_stage_mean


def arm_time(design: Design, cell: int, arm: str, runs: Sequence[RunSummary]) -> ArmTime:
    """Time of an inference over an arm's runs, one a block."""
    times_s = [run.run_s / run.n_inferences for run in runs]
    pilot = design.pilot_blocks
    per_s = two_stage_mean([1 / time_s for time_s in times_s], pilot)
    return ArmTime(cell, arm, two_stage_mean(times_s, pilot), per_s)


def arm_energy(
    design: Design, cell: int, arm: str, rail: str, runs: Sequence[RunSummary], step: Quantisation
) -> ArmEnergy:
    """Energies of an arm on one rail.

    Args:
        design: gives the pilot.
        cell: which.
        arm: which.
        rail: which.
        runs: the arm's, one a block, in order of blocks.
        step: the rail's, in this cell.
    """
    info, own = runs[0].infos[rail], [run.rails[rail] for run in runs]
    energies = [run.energy for run in own]
    time_s = sum(e.time_s for e in energies) / len(energies)
    u_w = step.u_window_w
    total = [e.total_j for e in energies]
    total_j = sum(total) / len(total)

    def figure(
        values: Sequence[float], u_step: float, offset_s: float, scale: float = 1.0
    ) -> Figure:
        """`offset_s`: the figure's change by an offset of 1 W, before `scale`."""
        mean = two_stage_mean(values, design.pilot_blocks)
        return Figure(mean, _type_b(info, mean.centre, u_step * scale, offset_s * scale))

    return ArmEnergy(
        cell,
        arm,
        rail,
        figure([e.dynamic_j for e in energies], math.sqrt(2) * u_w * time_s, 0.0),
        figure([e.static_j for e in energies], u_w * time_s, time_s),
        figure(total, u_w * time_s, time_s),
        figure([run.power.idle_w for run in own], u_w, 1.0),
        figure([e.energy_delay_js for e in energies], u_w * time_s, time_s, time_s),
        # d(1/E) = -dE / E^2
        figure([e.inferences_per_s_per_w for e in energies], u_w * time_s, time_s, 1 / total_j**2),
        sum(not_positive(run, "dynamic") for run in own),
    )


def _type_b(info: RailInfo, value: float, u_step: float, offset_s: float) -> TypeB:
    def relative(limit: float | None) -> float | None:
        return None if limit is None else limit * abs(value) / math.sqrt(3)

    offset: float | None = 0.0
    if offset_s:
        known = info.offset_a
        offset = None if known is None else known * info.nominal_v * offset_s / math.sqrt(3)
    return TypeB(u_step, relative(info.gain_error), relative(info.shunt_error), offset)
