"""One run of a campaign: which session, how many passes, and what was so around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bacmac.host.device.board import Board
from bacmac.host.errors import CompileError, MismatchError, RailError
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.runtime.evaluate import evaluate
from bacmac.host.runtime.session import Session
from bacmac.power.campaign.checks_sensor import needed_guard_s
from bacmac.power.campaign.plan import CampaignPlan, RunKey
from bacmac.power.campaign.run import CampaignRun, Surroundings
from bacmac.power.campaign.sensor_step import StepResponse, sensor_step_response
from bacmac.power.campaign.surroundings import SurroundingsSource, sampler_cpu_s
from bacmac.power.rails import RailSource
from bacmac.power.runs import Arm, Phase, RunSettings, RunSpec, fitting_guard_s, measure_run


class Measurer:
    """Makes the runs of a plan on a board.

    Args:
        plan: the campaign.
        board: where; one session at a time is open on it.
        rails: where power is read.
        surroundings: tells what is so beside a run.

    Attributes:
        guard_s: the plan's, or longer where a rail is slow; see `fit_guard`.

    Raises:
        RailError: a rail is too slow for the plan's runs.
        CompileError: an overlay cannot run its model, or does not hold the batch of a cell.
        MismatchError: a cell wants more images than there are.
    """

    def __init__(
        self,
        plan: CampaignPlan,
        board: Board,
        rails: RailSource,
        surroundings: SurroundingsSource,
    ) -> None:
        self._plan, self._board, self._rails = plan, board, rails
        self._surroundings = surroundings
        design = plan.design
        self.guard_s = fitting_guard_s(design.guard_s, design.run_s, plan.rail_names, rails)
        self._sessions = {
            (cell.index, arm.name): self._session(cell.index, arm.name)
            for cell in plan.cells
            for arm in plan.arms
        }

    def run(self, key: RunKey, phase: Callable[[Phase], None]) -> CampaignRun:
        """Make a run.

        Args:
            key: which.
            phase: told what begins; what it raises ends the run.

        Raises:
            RailError: a rail gives nothing that can be used.
            DeviceError: the device failed, or outputs are not the exact engine's.
            MismatchError: the device is not what the overlay says.
        """
        session, arm = self._sessions[key.cell, key.arm], self._plan.arm(key.arm)
        spec = RunSpec(
            key.block,
            key.position,
            key.arm,
            session.batch_size,
            *self.passes(key.cell, key.arm),
            sampler_seed(self._plan.design.seed, key),
        )
        design = self._plan.design
        settings = RunSettings(
            design.idle_s,
            design.settle_s,
            self.guard_s,
            design.sample_period_s,
            self._plan.rail_names,
            skip_read_errors=True,
        )
        beside = _Beside(self._surroundings, session, phase)
        record = measure_run(
            Arm(arm.overlay, arm.model),
            self._plan.images.images,
            spec,
            settings,
            session,
            self._rails,
            beside,
        )
        assert beside.before is not None
        assert beside.after is not None
        return CampaignRun(
            key,
            record,
            beside.before,
            beside.after,
            read_errors=record.trace.read_errors,
            sampler_share_idle=beside.sampler_share("idle", "warm up"),
            sampler_share_run=beside.sampler_share("run", "guard"),
            requested_images=spec.n_images * spec.passes,
        )

    def passes(self, cell: int, arm: str) -> tuple[int, int]:
        """Passes over the batch of warm-up and run, by the predicted cycles: equal in every run.

        The device's counters are held against the same prediction, to the last cycle.
        """
        session, design = self._sessions[cell, arm], self._plan.design
        pass_s, once_s = self._pass_s(session), _batch_s(session, 1)

        def count(length_s: float) -> int:
            return max(1, 1 + math.ceil((length_s - once_s) / pass_s))

        return count(design.warm_up_s) if design.warm_up_s > 0 else 0, count(design.run_s)

    def _pass_s(self, session: Session) -> float:
        """Time of a pass, streams apart: they are paid once."""
        return _batch_s(session, 2) - _batch_s(session, 1)

    def evaluate(self, progress: Callable[[str, int, int], None]) -> dict[str, Any]:
        """How often each arm is right over all the images, on this board.

        Raises:
            DeviceError: the device failed, or outputs are not the exact engine's.
        """
        found = {}
        for arm in self._plan.arms:
            with Session(self._board, arm.overlay, arm.model.model) as session:
                evaluation = evaluate(session, self._plan.images, progress)
            assert evaluation.work is not None
            found[arm.name] = {
                "n_images": evaluation.n_images,
                "n_correct": evaluation.n_correct,
                "n_verified": evaluation.work.stream.n_verified,
            }
        return found

    def step_responses(self) -> dict[str, StepResponse]:
        """How every rail answers to pulses of the first arm's work in the first cell.

        Raises:
            RailError: a rail cannot be read.
            DeviceError: the device failed.
        """
        plan, design = self._plan, self._plan.design
        cell, arm = plan.cells[0].index, plan.arms[0].name
        session = self._sessions[cell, arm]
        return sensor_step_response(
            session,
            plan.images.images[: session.batch_size],
            1.0 / self._pass_s(session),
            self._rails,
            rail_names=plan.rail_names,
            sample_period_s=design.sample_period_s,
            seed=design.seed,
            limits=plan.limits,
        )

    def fit_guard(self, responses: Mapping[str, StepResponse]) -> None:
        """Make the guard as long as rails need that answer to work like this; once a campaign.

        Raises:
            RailError: that leaves less than half of a run.
        """
        design, limits = self._plan.design, self._plan.limits
        seeing = [r for r in responses.values() if r.info.sees_logic]
        for response in seeing:
            needed_s = needed_guard_s(response.info, limits, response)
            if needed_s > design.run_s / 2:
                raise RailError(
                    f"{response.sentence}: samples may be used {needed_s:.3g} s after a change, "
                    f"which leaves less than half of a run of {design.run_s:g} s: plan longer runs"
                )
            self.guard_s = max(self.guard_s, needed_s)

    def facts(self) -> Mapping[str, Any]:
        """What follows from the plan and is the same in every run."""
        passes = {f"{cell} {arm}": list(self.passes(cell, arm)) for cell, arm in self._sessions}
        return {"passes": passes}

    def _session(self, cell: int, name: str) -> Session:
        arm = self._plan.arm(name)
        planned = next(c for c in self._plan.cells if c.index == cell)
        overlay = clocked(arm.overlay, planned.clock_hz)
        if planned.batch_images > len(self._plan.images.images):
            raise MismatchError(
                self._plan.images.source,
                "images",
                found=f"{len(self._plan.images.images)}",
                expected=f"{planned.batch_images}, the batch of cell {cell}",
            )
        session = Session(self._board, overlay, arm.model.model, batch_size=planned.batch_images)
        if session.batch_size != planned.batch_images:
            raise CompileError(
                f"cell {cell}: overlay {overlay.manifest.name} holds {session.batch_size} images "
                f"of model {arm.model.model.name!r} on chip, not {planned.batch_images}: plan a "
                "smaller batch"
            )
        return session


def _batch_s(session: Session, passes: int) -> float:
    cycles = session.program.batch_work(session.batch_size, passes).cycles
    return cycles / session.overlay.manifest.clock_hz


class _Beside:
    """Reads the surroundings between the windows of one run, and the sampler's own time."""

    def __init__(
        self, source: SurroundingsSource, session: Session, phase: Callable[[Phase], None]
    ) -> None:
        self._source, self._session, self._phase = source, session, phase
        self._sampler_s: dict[Phase, tuple[int, float | None]] = {}
        self.before: Surroundings | None = None
        self.after: Surroundings | None = None

    def __call__(self, phase: Phase) -> None:
        board, overlay = self._session.board, self._session.overlay
        self._phase(phase)
        if phase == "load":
            self._source.flush()
        elif phase == "idle":
            self.before = self._source.read(board, overlay)
            self._sampler_s[phase] = (board.clock.now_ns(), 0.0)  # its thread begins now
        elif phase == "verify":
            self.after = self._source.read(board, overlay)
        elif phase in ("warm up", "run", "guard"):
            self._sampler_s[phase] = (board.clock.now_ns(), sampler_cpu_s())

    def sampler_share(self, begin: Phase, end: Phase) -> float | None:
        """Share of one processor that the sampler's thread took between two phases' begins."""
        (begin_ns, begin_s), (end_ns, end_s) = self._sampler_s[begin], self._sampler_s[end]
        if begin_s is None or end_s is None or end_ns <= begin_ns:
            return None
        return (end_s - begin_s) / ((end_ns - begin_ns) * 1e-9)


def clocked(overlay: Overlay, clock_hz: float | None) -> Overlay:
    """The overlay run at another clock than it was built for; as it is for None."""
    if clock_hz is None:
        return overlay
    return replace(overlay, manifest=replace(overlay.manifest, clock_hz=clock_hz))


def sampler_seed(seed: int, key: RunKey) -> int:
    """Of a run's sampling jitter: a function of the plan's seed and the run alone."""
    words = [seed, 0x5A3, key.cell, key.stage == "main", key.block, key.attempt, key.position]
    return int(np.random.SeedSequence([int(word) for word in words]).generate_state(1)[0])
