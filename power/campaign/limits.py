"""Thresholds of the validity checks, in one object that is stored with the campaign.

Each number is a judgement with a reason; docs/campaigns.md has the table of checks. Those of the
statistics (2 to 7, 12) follow from simulation, that of 14 from EEMBC's rules for energy (ambient
of 21 degrees or more), the others are practice and should be looked at again on hardware.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from bacmac.host.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Each check's thresholds, in the order of the checks.

    Attributes:
        max_voltage_share: 1: a rail's voltage from nominal, by which it is off or misread.
        min_fresh_values: 2: new values of a rail in the used window of a run.
        slow_refresh_s: 2: from here on a sensor is slow: its values are too few, and
        slow_refresh_run_s: the run must be this long, and
        slow_refresh_guard: the guard this many refreshes.
        min_refresh_changes: 2: fewer changes of value in a run do not show a refresh period.
        declared_refresh_within: 2: one seen within this share of the declared one is that one.
        min_complete_share: 3: samples found over samples expected, in every window.
        max_gap_periods: 3: longest time without a sample, in nominal sampling periods, and
        max_gap_share: as a share of the run.
        max_read_error_share: 3: readings that failed, of all.
        max_wall_step_s: 4: how far wall and monotonic clock may part over one run, and
        max_wall_rate: over the campaign as a share (the kernel's clock may be slewed by 500 ppm).
        min_run_s: 5: length of a run, and
        run_short_share: by which it may be shorter, since passes are whole.
        max_edge_share: 5: error by a window's edges, of the dynamic energy.
        guard_filter_taus: 6: the guard, in time constants of the sensor's filter, refresh added.
        max_lag_change_share: 6: lag of the sensor at the start, against the one stored, and
        lag_sigmas: this many standard uncertainties of it on top.
        min_noise_to_step: 7: below, the sensor's step is not averaged away.
        max_step_to_t: 7: uncertainty by the step over the half-width of the t interval.
        max_register_steps: 8: power register from V x I beyond rounding or cutting, in its steps.
        stuck_samples: 9: unchanged readings, and
        stuck_refreshes: unchanged refreshes, the longer of both counts, while
        stuck_noise_steps: noise is over this many steps, and
        stuck_probability: a live sensor stays in one step that long with less than this.
        stuck_load_steps: 9: a load of this many steps shows in any reading (of one always; the arms
            may differ by a factor of two).
        min_step_sigmas: 9: rise from idle to work at the start, in standard uncertainties.
        max_full_scale_share: 10: current, of the most the rail can carry.
        max_idle_change_share: 11: idle after less before, of idle, and
        max_idle_change_dynamic: of dynamic power, whichever is less, and
        idle_change_sigmas: this many standard uncertainties of the change on top.
        min_dynamic_u: 12: dynamic power, in its standard uncertainties within the run.
        max_clock_share: 13: clock read back from the one wanted.
        fixed_governors: 13: those that keep the processors' frequency.
        max_cpu_hz_share: 13: the processors' frequency after from before.
        max_die_apart_c: 14: die temperatures at the starts of a block's runs.
        max_die_slope_c_per_min: 14: how fast they may change there.
        die_step_c: 14: step of the die's sensor (UG580: 10 bits, 0.5 degrees), allowed on top.
        max_die_c: 14: die temperature.
        min_ambient_c: 14: of the air, where it is known.
        max_supply_share: 15: any reading of a rail's voltage from nominal.
        max_supply_change_share: 15: a rail's voltage over a block.
        max_time_cv: 16: standard deviation of an arm's run times over their mean, in a cell, and a
            run's time from what its cycles take.
        max_foreign_cpu: 17: other programs' processor time, of one processor.
        max_disk_written_bytes: 17: over a run.
        max_sampler_cpu: 17: the sampler's processor time, of one processor, and
        max_sampler_cpu_apart: idle and run apart.
        min_blocks: 19: fewer are too few.
        max_lag1_errors: 19: correlation of neighbouring blocks, in 1 / sqrt(blocks).
        min_order_p: 19: p of an effect of the order.
        max_centres_apart: 19: mean from Hodges and Lehmann's centre, in half-widths.
        max_mad_score: 19: a block from the median, in scaled median absolute deviations.
        max_invalid_share: 19: runs found invalid, of all made, and
        max_invalid_apart: their shares of two arms apart.
        max_reanalysis_share: 20: stored figures from those analysed again.

    Raises:
        InputError: one is no number, or below 0.
    """

    max_voltage_share: float = 0.10
    min_fresh_values: float = 200
    slow_refresh_s: float = 0.5
    slow_refresh_run_s: float = 60.0
    slow_refresh_guard: float = 1.1
    min_refresh_changes: float = 16
    declared_refresh_within: float = 0.1
    min_complete_share: float = 0.98
    max_gap_periods: float = 5.0
    max_gap_share: float = 0.01
    max_read_error_share: float = 0.001
    max_wall_step_s: float = 0.05
    max_wall_rate: float = 500e-6
    min_run_s: float = 10.0
    run_short_share: float = 0.01
    max_edge_share: float = 0.0025
    guard_filter_taus: float = 5.0
    max_lag_change_share: float = 0.5
    lag_sigmas: float = 4.0
    min_noise_to_step: float = 0.5
    max_step_to_t: float = 0.5
    max_register_steps: float = 0.25
    stuck_samples: float = 20
    stuck_refreshes: float = 10
    stuck_noise_steps: float = 0.25
    stuck_probability: float = 1e-6
    stuck_load_steps: float = 2.0
    min_step_sigmas: float = 3.0
    max_full_scale_share: float = 0.9
    max_idle_change_share: float = 0.02
    max_idle_change_dynamic: float = 0.10
    idle_change_sigmas: float = 4.0
    min_dynamic_u: float = 5.0
    max_clock_share: float = 0.001
    fixed_governors: tuple[str, ...] = ("performance", "powersave", "userspace")
    max_cpu_hz_share: float = 0.001
    max_die_apart_c: float = 3.0
    max_die_slope_c_per_min: float = 0.5
    die_step_c: float = 0.5
    max_die_c: float = 85.0
    min_ambient_c: float = 20.0
    max_supply_share: float = 0.03
    max_supply_change_share: float = 0.005
    max_time_cv: float = 0.01
    max_foreign_cpu: float = 0.02
    max_disk_written_bytes: float = 0
    max_sampler_cpu: float = 0.05
    max_sampler_cpu_apart: float = 0.01
    min_blocks: float = 10
    max_lag1_errors: float = 2.0
    min_order_p: float = 0.01
    max_centres_apart: float = 0.5
    max_mad_score: float = 5.0
    max_invalid_share: float = 0.05
    max_invalid_apart: float = 0.05
    max_reanalysis_share: float = 1e-12

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "fixed_governors":
                if not all(isinstance(name, str) for name in value):
                    raise InputError(
                        "limits", field.name, found=repr(value), expected="names of governors"
                    )
            elif (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 0 <= value < math.inf
            ):
                raise InputError(
                    "limits", field.name, found=repr(value), expected="a number, 0 or more"
                )
