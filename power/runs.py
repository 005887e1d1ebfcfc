"""One run of a comparison, and the plan that says which runs there are.

A run is `load overlay, settle, idle, warm up, run, idle`: each run carries its own idle bracket,
measured with its own overlay loaded and clocked. What comes out is one pure record; every energy
is computed from records alone, so that they can be stored and analysed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bacmac.host.device.board import Provenance
from bacmac.host.errors import InputError, RailError
from bacmac.host.importers.images import ImageSet
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.model.inputs import Images
from bacmac.host.pack.file import PackedModel
from bacmac.host.runtime.golden import Verify
from bacmac.host.runtime.results import Counters, Window
from bacmac.host.runtime.session import Session
from bacmac.power.rails import RailSource
from bacmac.power.sampler import PowerTrace, Sampler

ArmName = Literal["bac", "mac"]
ARMS: tuple[ArmName, ArmName] = ("bac", "mac")

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, how much there is."""

Phase = Literal["load", "settle", "idle", "warm up", "run", "guard", "idle after", "verify"]
"""Parts of a run in their order; sensors are sampled from "idle" to the end of "idle after"."""


@dataclass(frozen=True, eq=False)
class Arm:
    """One of the two accelerators compared: an overlay and the packed model it runs."""

    overlay: Overlay
    model: PackedModel


@dataclass(frozen=True)
class RunSettings:
    """How every run is made.

    Attributes:
        idle_s: length of the idle window before and of that after a run.
        settle_s: after loading an overlay, before the idle window.
        guard_s: left out at the start of the run and after its end.
        sample_period_s: nominal time between samples.
        rail_names: rails to sample; none means all.
        skip_read_errors: a reading that fails is left out and counted in the trace, for a check to
            judge; otherwise it ends the run.
    """

    idle_s: float
    settle_s: float
    guard_s: float
    sample_period_s: float
    rail_names: tuple[str, ...]
    skip_read_errors: bool = False


@dataclass(frozen=True, eq=False)
class ComparePlan:
    """Everything that decides a comparison before it starts.

    Attributes:
        bac, mac: the two arms.
        images: what both classify; accuracy is told where they have labels.
        blocks: each holds one run of either arm, in random order.
        run_s: length of a run.
        idle_s: length of the idle window before and of that after a run.
        settle_s: after loading an overlay, before the idle window.
        warm_up_s: of the same work, before the run.
        guard_s: left out at the start of a run and after its end, while sensors follow; made
            longer where a rail is slower.
        seed: of the order, the sampling jitter and the emulated noise.
        batch_images: images held by the accelerator and repeated during a run.
        rail_names: rails to sample; none means all.
        sample_period_s: nominal time between samples.
        rails: the rails word.
        device: the device word.
        verify: how much of each batch is compared with the exact engine: "sample" or "all".
        accept_timing: use an overlay that is not known to meet timing, and mark the comparison.

    Raises:
        InputError: a number is out of range, or nothing would be verified.
    """

    bac: Arm
    mac: Arm
    images: ImageSet
    blocks: int = 12
    run_s: float = 10.0
    idle_s: float = 5.0
    settle_s: float = 1.0
    warm_up_s: float = 1.0
    guard_s: float = 0.5
    seed: int = 0
    batch_images: int = 64
    rail_names: tuple[str, ...] = ()
    sample_period_s: float = 0.02
    rails: str = "emulated:"
    device: str = "functional:"
    verify: Verify = "sample"
    accept_timing: bool = False

    def __post_init__(self) -> None:
        checks = (
            ("blocks", self.blocks >= 2, self.blocks, "2 or more"),
            ("run_s", self.run_s > 2 * self.guard_s, self.run_s, "more than twice guard_s"),
            ("idle_s", self.idle_s > 0, self.idle_s, "above 0"),
            ("settle_s", self.settle_s >= 0, self.settle_s, "0 or more"),
            ("warm_up_s", self.warm_up_s >= 0, self.warm_up_s, "0 or more"),
            ("guard_s", self.guard_s >= 0, self.guard_s, "0 or more"),
            ("seed", self.seed >= 0, self.seed, "0 or more"),
            ("batch_images", self.batch_images >= 1, self.batch_images, "1 or more"),
            ("sample_period_s", self.sample_period_s > 0, self.sample_period_s, "above 0"),
        )
        for field, good, value, expected in checks:
            if not good:
                raise InputError("comparison plan", field, found=f"{value:g}", expected=expected)
        if self.verify == "none":
            raise InputError(
                "comparison plan",
                "verify",
                found=self.verify,
                expected="sample or all: energy of wrong results is not compared",
            )

    def arm(self, name: ArmName) -> Arm:
        """The arm of that name."""
        return self.bac if name == "bac" else self.mac

    def settings(self, guard_s: float) -> RunSettings:
        """How each run is made, with a guard that fits the rails."""
        return RunSettings(
            self.idle_s, self.settle_s, guard_s, self.sample_period_s, self.rail_names
        )


def block_orders(blocks: int, seed: int) -> tuple[tuple[ArmName, ArmName], ...]:
    """Order of the two arms in each block: as many with BAC first as not, shuffled."""
    bac_first = np.arange(blocks) % 2 == 0
    np.random.default_rng([seed, 0x0BAC]).shuffle(bac_first)
    return tuple(("bac", "mac") if first else ("mac", "bac") for first in bac_first)


@dataclass(frozen=True, eq=False)
class RunRecord:
    """All that is kept of one run: enough to compute every energy again.

    Attributes:
        block: number of the block, from 0.
        position: 0 or 1, place in the block.
        arm: which.
        overlay, overlay_sha256: what was loaded.
        model_sha256: of the packed file.
        clock_hz: the accelerator's clock, read back before the run.
        before, after: idle windows.
        run: from the first input beat to the last output beat.
        used: the part of `run` after the guard.
        counters: work done in `run`.
        outputs_sha256: of the outputs' bytes.
        provenance: where the accelerator ran.
        n_verified: images whose outputs were compared with the exact engine's, all equal.
        trace: every sample of every rail, from before `before` to the end of `after`.
    """

    block: int
    position: int
    arm: str
    overlay: str
    overlay_sha256: str
    model_sha256: str
    clock_hz: float
    before: Window
    run: Window
    used: Window
    after: Window
    counters: Counters
    outputs_sha256: str
    provenance: Provenance
    n_verified: int
    trace: PowerTrace

    @property
    def n_inferences(self) -> int:
        """Images worked through during the run."""
        return self.counters.images


@dataclass(frozen=True)
class RunSpec:
    """Place of a run in the plan, images held on chip, and passes made over them."""

    block: int
    position: int
    arm: str
    n_images: int
    warm_up_passes: int
    passes: int
    sampler_seed: int


def fitting_guard_s(
    guard_s: float, run_s: float, rail_names: tuple[str, ...], rails: RailSource
) -> float:
    """A guard of at least 1.1 refreshes of the slowest rail: older readings are not the run's.

    Raises:
        RailError: that leaves less than half of a run.
    """
    slowest_ns = max(
        (i.update_period_ns or 0 for i in rails.rails() if i.name in (rail_names or i.name)),
        default=0,
    )
    fitting_s = max(guard_s, 1.1e-9 * slowest_ns)
    if fitting_s > run_s / 2:
        raise RailError(
            f"a rail is refreshed every {slowest_ns * 1e-9:.3g} s, so a run of {run_s:g} s "
            "is too short: give it a longer run"
        )
    return fitting_s


def measure_run(
    arm: Arm,
    images: Images,
    spec: RunSpec,
    settings: RunSettings,
    session: Session,
    rails: RailSource,
    phase: Callable[[Phase], None] = lambda _: None,
) -> RunRecord:
    """Make one run and record it.

    Args:
        arm: what runs; its overlay may be clocked otherwise in the session.
        images: of which the first of the spec's number are held on chip.
        spec: which run this is.
        settings: lengths, rails and sampling.
        session: of the arm, not entered: entering loads overlay, program and weights.
        rails: where to read.
        phase: told what begins. No sensor is read while it works in "load", "settle", "verify"
            and, because sampling starts after it, "idle"; what it raises ends the run.

    Raises:
        RailError: a rail cannot be read.
        DeviceError: the device failed.
        VerificationError: outputs of the run are not the exact engine's: there is no record.
    """
    clock = session.board.clock
    held = images[: spec.n_images]
    sampler = Sampler(
        rails,
        clock,
        settings.rail_names,
        _ns(settings.sample_period_s),
        spec.sampler_seed,
        skip_errors=settings.skip_read_errors,
    )
    phase("load")
    with session:
        phase("settle")
        clock.sleep_ns(_ns(max(settings.settle_s, settings.guard_s)))
        clock_hz = session.board.clock_hz()
        phase("idle")
        sampler.start()
        try:
            before = _idle(clock.now_ns, clock.sleep_ns, settings.idle_s)
            phase("warm up")
            if spec.warm_up_passes:
                session.repeat_unverified(held, spec.warm_up_passes)
            phase("run")
            result = session.repeat_unverified(held, spec.passes)
            phase("guard")
            clock.sleep_ns(_ns(settings.guard_s))
            phase("idle after")
            after = _idle(clock.now_ns, clock.sleep_ns, settings.idle_s)
        except BaseException:  # Ctrl-C too: leave no thread that reads sensors
            sampler.abandon()
            raise
        trace = sampler.stop()
        phase("verify")
        result = session.verified(held, result)  # when no rail is read any more
    run = result.window
    return RunRecord(
        spec.block,
        spec.position,
        spec.arm,
        arm.overlay.manifest.name,
        arm.overlay.sha256,
        arm.model.sha256,
        clock_hz,
        before,
        run,
        Window(run.start_ns + _ns(settings.guard_s), run.end_ns),
        after,
        result.counters,
        hashlib.sha256(np.ascontiguousarray(result.outputs).tobytes()).hexdigest(),
        result.provenance,
        result.n_verified,
        trace,
    )


def _idle(now_ns: Callable[[], int], sleep_ns: Callable[[int], None], idle_s: float) -> Window:
    start = now_ns()
    sleep_ns(_ns(idle_s))
    return Window(start, now_ns())


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
