"""Checks of what was so around a run: clocks, heat, work, quiet, identity (4, 10, 13, 14, 16-18).

What could not be read (None) is not judged; `check_unread` tells it once for the whole campaign.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.plan import CampaignPlan
from bacmac.power.campaign.run import CampaignRun, Finding, Surroundings


def check_state(run: CampaignRun, plan: CampaignPlan, limits: Limits) -> Iterator[Finding]:
    """Checks of one run."""
    yield from _clocks(run, limits)
    for when, state in (("before", run.before), ("after", run.after)):
        if state.throttled:
            text = f"alarm {when} the run: {state.throttled}; none allowed"
            yield Finding(10, "invalidate", "", text)
    yield from _dut_clock(run, plan, limits)
    yield from _governor(run, limits)
    yield from _heat(run, limits)
    yield from _work(run, limits)
    yield from _quiet(run, limits)
    yield from _identity(run, plan)


def _clocks(run: CampaignRun, limits: Limits) -> Iterator[Finding]:
    monotonic_s = (run.after.monotonic_ns - run.before.monotonic_ns) * 1e-9
    wall_s = (run.after.wall_ns - run.before.wall_ns) * 1e-9
    if monotonic_s <= 0:
        text = f"the monotonic clock went by {monotonic_s:.3f} s over the run"
        yield Finding(4, "invalidate", "", text)
    apart_s = wall_s - monotonic_s
    if abs(apart_s) > limits.max_wall_step_s:
        text = f"wall and monotonic clock parted by {apart_s * 1e3:+.0f} ms over the run"
        limit = f"{limits.max_wall_step_s * 1e3:.0f} ms allowed"
        yield Finding(4, "invalidate", "", f"{text}; {limit}")


def _dut_clock(run: CampaignRun, plan: CampaignPlan, limits: Limits) -> Iterator[Finding]:
    manifest = plan.arm(run.key.arm).overlay.manifest
    wanted_hz = plan.cells[run.key.cell].clock_hz or manifest.clock_hz
    for when, found_hz in (
        ("before", run.before.clock_hz),
        ("at the start of", run.record.clock_hz),
        ("after", run.after.clock_hz),
    ):
        if abs(found_hz / wanted_hz - 1) > limits.max_clock_share:
            text = f"accelerator's clock reads {found_hz / 1e6:.3f} MHz {when} the run; "
            text += f"{wanted_hz / 1e6:.3f} MHz within {limits.max_clock_share:.1%} wanted"
            yield Finding(13, "invalidate", run.key.arm, text)


def _governor(run: CampaignRun, limits: Limits) -> Iterator[Finding]:
    names = {state.governor for state in (run.before, run.after)} - {None}
    changing = [
        name
        for text in names
        for name in str(text).split(", ")
        if name not in limits.fixed_governors
    ]
    if changing or len(names) > 1:
        found = " and ".join(sorted(str(name) for name in names))
        text = f"governor {found} changes the processors' frequency; "
        yield Finding(13, "invalidate", "", text + f"{' or '.join(limits.fixed_governors)} wanted")
    before_hz, after_hz = run.before.cpu_hz, run.after.cpu_hz
    if before_hz and after_hz and abs(after_hz / before_hz - 1) > limits.max_cpu_hz_share:
        text = f"processors at {before_hz / 1e6:.0f} MHz before the run and "
        yield Finding(13, "invalidate", "", f"{text}{after_hz / 1e6:.0f} MHz after it")


def _heat(run: CampaignRun, limits: Limits) -> Iterator[Finding]:
    for state in (run.before, run.after):
        for name, celsius in state.die_c.items():
            if celsius >= limits.max_die_c:
                text = f"die at {celsius:.1f} C; below {limits.max_die_c:g} C wanted"
                yield Finding(14, "invalidate", name, text)
        if state.ambient_c is not None and state.ambient_c < limits.min_ambient_c:
            text = f"ambient {state.ambient_c:.1f} C; {limits.min_ambient_c:g} C or more wanted"
            yield Finding(14, "invalidate", "", text)


def _work(run: CampaignRun, limits: Limits) -> Iterator[Finding]:
    record, arm = run.record, run.key.arm
    wanted = run.requested_images
    if wanted is not None and record.n_inferences != wanted:
        text = f"{record.n_inferences} inferences were counted; {wanted} were asked for"
        yield Finding(16, "invalidate", arm, text)
    if record.n_verified < 1:
        text = "no output was compared with the exact engine's"
        yield Finding(16, "invalidate", arm, text)
    if run.retries:
        yield Finding(16, "invalidate", arm, f"the device was retried {run.retries} times; never")
    cycles_s = record.counters.cycles / record.clock_hz
    share = record.run.duration_s / cycles_s - 1 if cycles_s > 0 else float("inf")
    if abs(share) > limits.max_time_cv:
        text = f"the run took {share:+.2%} of what its cycles take at the clock read back; "
        yield Finding(16, "invalidate", arm, f"{text}within {limits.max_time_cv:.0%} wanted")


def _quiet(run: CampaignRun, limits: Limits) -> Iterator[Finding]:
    seconds = (run.after.monotonic_ns - run.before.monotonic_ns) * 1e-9
    total_s = _difference(run.before.cpu_total_s, run.after.cpu_total_s)
    own_s = _difference(run.before.cpu_own_s, run.after.cpu_own_s)
    if total_s is not None and own_s is not None and seconds > 0:
        share = (total_s - own_s) / seconds
        if share > limits.max_foreign_cpu:
            text = f"other programs took {share:.1%} of a processor"
            yield Finding(17, "invalidate", "", f"{text}; {limits.max_foreign_cpu:.0%} allowed")
    written = _difference(run.before.disk_written_bytes, run.after.disk_written_bytes)
    if written is not None and written > limits.max_disk_written_bytes:
        text = f"{written:.0f} bytes were written to disks during the run"
        yield Finding(17, "invalidate", "", f"{text}; {limits.max_disk_written_bytes:g} allowed")
    idle, work = run.sampler_share_idle, run.sampler_share_run
    if idle is None or work is None:
        return
    if max(idle, work) > limits.max_sampler_cpu:
        text = f"the sampler took {max(idle, work):.1%} of a processor"
        yield Finding(17, "invalidate", "", f"{text}; {limits.max_sampler_cpu:.0%} allowed")
    if abs(idle - work) > limits.max_sampler_cpu_apart:
        text = f"the sampler took {idle:.1%} of a processor in idle and {work:.1%} in the run; "
        text += f"{limits.max_sampler_cpu_apart * 100:g} point apart allowed"
        yield Finding(17, "invalidate", "", text)


def _identity(run: CampaignRun, plan: CampaignPlan) -> Iterator[Finding]:
    arm, record = plan.arm(run.key.arm), run.record
    id_wanted = arm.overlay.registers.register("ID").reset
    pairs: tuple[tuple[str, object, object], ...] = (
        ("overlay's sha256", record.overlay_sha256, arm.overlay.sha256),
        ("packed model's sha256", record.model_sha256, arm.model.sha256),
        ("register ID", f"{run.before.overlay_id:#010x}", f"{id_wanted:#010x}"),
        ("register ID after the run", f"{run.after.overlay_id:#010x}", f"{id_wanted:#010x}"),
        (
            "register BUILD",
            f"{run.before.build_id:#010x}",
            f"{arm.overlay.manifest.build_id:#010x}",
        ),
        (
            "register BUILD after the run",
            f"{run.after.build_id:#010x}",
            f"{arm.overlay.manifest.build_id:#010x}",
        ),
        ("boot", run.after.boot_id, run.before.boot_id),
    )
    for what, found, wanted in pairs:
        if found != wanted:
            yield Finding(18, "abort", run.key.arm, f"{what} is {found}; {wanted} wanted")


def check_block_state(runs: Sequence[CampaignRun], limits: Limits) -> Iterator[Finding]:
    """Checks 14 and 18 over a block: heat at the starts of its runs, and one boot."""
    boots = {run.before.boot_id for run in runs} | {run.after.boot_id for run in runs}
    if len(boots) > 1:
        found = " and ".join(sorted(str(boot) for boot in boots))
        yield Finding(18, "abort", "", f"boot ids {found} in one block; one wanted")
    ordered = sorted(runs, key=lambda run: run.key.position)
    for name in ordered[0].before.die_c:
        starts = [
            (run.before.monotonic_ns * 1e-9, run.before.die_c[name])
            for run in ordered
            if name in run.before.die_c
        ]
        celsius = [value for _, value in starts]
        apart = max(celsius) - min(celsius)
        if apart > limits.max_die_apart_c + limits.die_step_c:
            text = f"die {apart:.1f} C apart at the starts of a block's runs; "
            yield Finding(14, "invalidate", name, f"{text}{limits.max_die_apart_c:g} C allowed")
        minutes = (starts[-1][0] - starts[0][0]) / 60
        change = abs(starts[-1][1] - starts[0][1])
        if change > limits.max_die_slope_c_per_min * minutes + limits.die_step_c:
            text = f"die changed by {change:.1f} C in {minutes:.2f} min between a block's runs; "
            text += (
                f"{limits.max_die_slope_c_per_min:g} C/min and a step of {limits.die_step_c:g} C"
            )
            yield Finding(14, "invalidate", name, f"{text} allowed")


def check_unread(state: Surroundings) -> Iterator[Finding]:
    """What a check needs and the machine does not tell: that check was not made.

    Ambient is judged where there is a thermometer, and few boards have one.
    """
    facts: tuple[tuple[int, str, object], ...] = (
        (13, "governor", state.governor),
        (13, "processors' frequency", state.cpu_hz),
        (14, "die temperature", state.die_c or None),
        (17, "processor time", state.cpu_total_s),
        (17, "disk writes", state.disk_written_bytes),
        (18, "boot id", state.boot_id),
    )
    for check, what, value in facts:
        if value is None:
            yield Finding(check, "warn", what, "cannot be read here, so it was not judged")


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
