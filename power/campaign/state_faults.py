"""Faults beside the rails of an emulated board: clocks, heat, processors, disk, identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bacmac.power.campaign.run import Surroundings
from bacmac.power.rail_faults import Fault
from bacmac.power.rails import RailSource

WALL_STEP_NS = 200_000_000
WALL_DRIFT = 1e-3
SLOW_CLOCK = 0.01
HOTTER_C = 50.0
HEATING_C_PER_S = 12.0 / 60
FOREIGN_CPU = 0.2
WRITES_PER_S = 4096
CLOCK_SHARE = 0.95
WRONG_ID = 0xBADC0DE5
OTHER_BOOT = "emulated, booted again"


def spoil_state(state: Surroundings, rails: RailSource) -> Surroundings:
    """Surroundings as the faults of emulated rails make them; others are as they were.

    Args:
        state: as they are on a clean machine, now.
        rails: of the same board; where they are `FaultyRails` their faults count.
    """
    faults: Sequence[Fault] = getattr(rails, "faults", ())
    if not faults:
        return state
    active = rails.active()  # type: ignore[attr-defined]  # FaultyRails, by its faults
    for fault in active:
        state = _spoil(state, fault)
    return state


def _spoil(state: Surroundings, fault: Fault) -> Surroundings:
    seconds = fault.lasted_s(state.monotonic_ns * 1e-9)
    match fault.name:
        case "wall-step":
            return replace(state, wall_ns=state.wall_ns - WALL_STEP_NS)
        case "wall-drift":
            return replace(state, wall_ns=state.wall_ns + round(WALL_DRIFT * seconds * 1e9))
        case "slow-clock":
            return replace(state, wall_ns=state.wall_ns + round(SLOW_CLOCK * seconds * 1e9))
        case "hot":
            return replace(state, die_c={n: c + HOTTER_C for n, c in state.die_c.items()})
        case "heating":
            warmer_c = HEATING_C_PER_S * seconds
            return replace(state, die_c={n: c + warmer_c for n, c in state.die_c.items()})
        case "cold":
            return replace(state, ambient_c=15.0)
        case "throttled":
            return replace(state, cpu_hz=6e8, throttled="emulated: processors throttled")
        case "governor":
            return replace(state, governor="ondemand")
        case "foreign-cpu":
            total_s = (state.cpu_total_s or 0.0) + FOREIGN_CPU * seconds
            return replace(state, cpu_total_s=total_s)
        case "disk-writes":
            written = (state.disk_written_bytes or 0) + round(WRITES_PER_S * seconds)
            return replace(state, disk_written_bytes=written)
        case "wrong-clock":
            return replace(state, clock_hz=state.clock_hz * CLOCK_SHARE)
        case "wrong-id":
            return replace(state, overlay_id=WRONG_ID)
        case "wrong-build":
            return replace(state, build_id=state.build_id ^ 1)
        case _:
            return replace(state, boot_id=OTHER_BOOT)
