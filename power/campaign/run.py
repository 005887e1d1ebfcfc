"""One run of a campaign as it is kept: what was measured, and what was so around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bacmac.power.campaign.plan import RunKey
from bacmac.power.runs import RunRecord

State = Literal["planned", "running", "done", "invalid"]


@dataclass(frozen=True)
class Surroundings:
    """What was so at one moment beside a run; None where it cannot be read.

    Attributes:
        monotonic_ns, wall_ns: both clocks, read together.
        boot_id: of the kernel that ran.
        clock_hz: the accelerator's, read back.
        overlay_id, build_id: registers of the accelerator.
        die_c: die temperatures in degrees Celsius by name.
        supply_v: supplies of the chip in volts by name.
        governor: of the processors' frequency.
        cpu_hz: their frequency.
        cpu_total_s, cpu_own_s, cpu_sampler_s: processor time used since boot by all, by this
            process, by the sampler's thread.
        disk_written_bytes: since boot.
        throttled: whether the device or a sensor reports an alarm, "" or its words.
        ambient_c: of the air in degrees Celsius, where there is a thermometer.
    """

    monotonic_ns: int
    wall_ns: int
    boot_id: str | None
    clock_hz: float
    overlay_id: int
    build_id: int
    die_c: Mapping[str, float]
    supply_v: Mapping[str, float]
    governor: str | None
    cpu_hz: float | None
    cpu_total_s: float | None
    cpu_own_s: float | None
    cpu_sampler_s: float | None
    disk_written_bytes: int | None
    throttled: str = ""
    ambient_c: float | None = None


@dataclass(frozen=True, eq=False)
class CampaignRun:
    """A run that ended.

    Attributes:
        key: which.
        record: windows, counters, hashes, raw samples; its `arm` is the key's.
        before, after: surroundings before the first idle window and after the last.
        read_errors: readings of a sensor that failed and were left out.
        retries: of the device.
        sampler_share_idle, sampler_share_run: share of one processor that the sampler's thread
            took in the idle window before and in the run; None where it has no thread of its own.
        requested_images: inferences that were asked for; None where that was not noted.
    """

    key: RunKey
    record: RunRecord
    before: Surroundings
    after: Surroundings
    read_errors: int = 0
    retries: int = 0
    sampler_share_idle: float | None = None
    sampler_share_run: float | None = None
    requested_images: int | None = None


@dataclass(frozen=True)
class Finding:
    """What a validity check says of a run, a block or a campaign.

    Attributes:
        check: its number, 1 to 20.
        level: "invalidate" repeats the block; "warn" is told; "abort" ends the campaign.
        subject: the rail, arm or cell, or "".
        text: what was found, and the limit.
    """

    check: int
    level: Literal["invalidate", "warn", "abort"]
    subject: str
    text: str
