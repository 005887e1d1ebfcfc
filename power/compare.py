"""Compare two accelerators: randomised complete blocks of runs, one ratio with its interval.

Design: each block is one run of either arm in random order, each run with its own idle windows.
Against drift the order protects the ratio of total energies and the idle windows that of dynamic
energies; simulated campaigns with known truth are covered as claimed
(tests/benchmarks/coverage_of_intervals.py). Source of the design: Box, Hunter and Hunter,
Statistics for Experimenters, 2nd edition, chapter 4.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from bacmac.host.device.board import Board
from bacmac.host.device.registry import open_board
from bacmac.host.errors import DeviceError, MismatchError, RailError
from bacmac.host.runtime.evaluate import Evaluation, evaluate
from bacmac.host.runtime.session import Session
from bacmac.overlays.fairness import LedgerRow, fairness_ledger
from bacmac.overlays.marks import accepted_marks
from bacmac.power.analysis import RailResult, analyse, headline_rail
from bacmac.power.arms import ArmSummary, model_rows, summarize_arm
from bacmac.power.checks import Check, check_records
from bacmac.power.coefficients import Coefficient
from bacmac.power.emulated import EmulatedRails
from bacmac.power.rails import RailSource
from bacmac.power.runs import (
    ARMS,
    Arm,
    ArmName,
    ComparePlan,
    Progress,
    RunRecord,
    RunSpec,
    block_orders,
    fitting_guard_s,
    measure_run,
)
from bacmac.power.sources import open_rails
from bacmac.power.statistics import Verdict


@dataclass(frozen=True, eq=False)
class Comparison:
    """The answer, and all it rests on.

    Attributes:
        emulated: whether any part of it, accelerator or rails, is a model.
        marks: what is known against an overlay and was accepted; part of the headline.
        plan: what was asked for.
        guard_s: the guard that was used.
        orders: order of the arms in each block.
        bac, mac: the two arms.
        rails: what each rail says.
        primary: name of the headline's rail.
        ledger: what else differs between the arms; `a` is BAC, `b` is MAC.
        checks: what was checked about the data.
        records: every run.
        coefficients: of the emulated power model, empty where rails were measured.
        provenance: versions and words, for the report.
    """

    emulated: bool
    marks: tuple[str, ...]
    plan: ComparePlan
    guard_s: float
    orders: tuple[tuple[ArmName, ArmName], ...]
    bac: ArmSummary
    mac: ArmSummary
    rails: tuple[RailResult, ...]
    primary: str
    ledger: tuple[LedgerRow, ...]
    checks: tuple[Check, ...]
    records: tuple[RunRecord, ...]
    coefficients: tuple[Coefficient, ...]
    provenance: Mapping[str, str]

    @property
    def primary_result(self) -> RailResult:
        """What the headline's rail says."""
        return next(rail for rail in self.rails if rail.info.name == self.primary)

    @property
    def verdict(self) -> Verdict:
        """What may be said of BAC's dynamic energy on the headline's rail."""
        dynamic = self.primary_result.dynamic
        return dynamic.verdict if dynamic else "not resolvable"

    @property
    def headline(self) -> str:
        """The answer in one or two sentences; says so where it is emulated or marked."""
        rail, blocks = self.primary_result, self.plan.blocks
        origin = "EMULATED, an estimate by a model. " if self.emulated else ""
        origin += "".join(f"MARKED, {mark}. " for mark in self.marks)
        on = f"dynamic energy per inference on {self.primary}"
        could = (
            ""
            if rail.dynamic_smallest is None
            else f" This rail and {blocks} blocks could have shown "
            f"{_difference(rail.dynamic_smallest)} or more."
        )
        if rail.dynamic is None:
            return f"{origin}Not resolvable: {rail.dynamic_reason}.{could}"
        r = rail.dynamic
        low, high = ratio_text(r.low), ratio_text(r.high)
        ratio = f"E_MAC / E_BAC = {ratio_text(r.ratio)} (95 % interval {low} to {high})"
        said = {
            "lower": f"BAC takes less: {ratio}, {on}.",
            "higher": f"BAC takes more: {ratio}, {on}.",
            "not resolvable": f"Not resolvable: {ratio}, {on}.{could}",
        }[r.verdict]
        return origin + said


def ratio_text(ratio: float) -> str:
    """Three decimals, and more where they would hide on which side of 1 a ratio lies."""
    for digits in (3, 4, 5, 6):
        text = f"{ratio:.{digits}f}"
        if float(text) != 1.0:
            break
    return text


def _difference(share: float) -> str:
    return f"a factor of {1 + share:.1f}" if share >= 1 else f"a difference of {share:.1%}"


def compare(
    plan: ComparePlan, *, board: Board | None = None, progress: Progress | None = None
) -> Comparison:
    """Carry out a comparison.

    Args:
        plan: what to do.
        board: where; opened by the plan's word (and closed) unless given. Real sensors beside
            a device that is no board are refused unless the caller brings both together.
        progress: told what is being done.

    Raises:
        MismatchError: the images do not fit a model, or the models do not take the same images.
        CompileError: an overlay cannot run its model.
        OverlayError: an overlay is not known to meet timing and that was not accepted.
        DeviceError: the device failed.
        VerificationError: it made something else of an image than the exact engine.
        RailError: a rail cannot be read, holds too few samples, or cannot see the device.
    """
    _check_images(plan)
    marks = _marks(plan)
    if board is not None:
        return _compare_on(plan, marks, board, progress)
    board = open_board(plan.device)
    try:
        if board.provenance != "board" and plan.rails.startswith("hwmon:"):
            raise RailError(
                f"rails {plan.rails!r} are real sensors and device {plan.device!r} is no board: "
                "they see nothing of its work; use emulated:"
            )
        return _compare_on(plan, marks, board, progress)
    finally:
        board.close()


def _compare_on(
    plan: ComparePlan, marks: tuple[str, ...], board: Board, progress: Progress | None
) -> Comparison:
    rails = open_rails(plan.rails, board, seed=plan.seed)
    guard_s = fitting_guard_s(plan.guard_s, plan.run_s, plan.rail_names, rails)
    settings = plan.settings(guard_s)
    evaluations = {name: _evaluate(plan.arm(name), plan, board, progress) for name in ARMS}
    sessions = _sessions(plan, board)
    passes = {name: _passes(plan, session) for name, session in sessions.items()}
    orders = block_orders(plan.blocks, plan.seed)
    records: list[RunRecord] = []
    for block, order in enumerate(orders):
        for position, name in enumerate(order):
            if progress is not None:
                progress("runs", len(records), 2 * plan.blocks)
            seed = _sampler_seed(plan, len(records))
            session, images = sessions[name], plan.images.images
            spec = RunSpec(block, position, name, session.batch_size, *passes[name], seed)
            records.append(measure_run(plan.arm(name), images, spec, settings, session, rails))
    if progress is not None:
        progress("runs", len(records), 2 * plan.blocks)
    results = analyse(records)
    bac, mac = (summarize_arm(plan.arm(n), n, evaluations[n], records) for n in ARMS)
    emulated = rails.emulated or board.provenance != "board"
    names = [result.info.name for result in results]
    return Comparison(
        emulated,
        marks,
        plan,
        guard_s,
        orders,
        bac,
        mac,
        results,
        headline_rail(names),
        (*fairness_ledger(plan.bac.overlay, plan.mac.overlay), *model_rows(plan)),
        check_records(records, results),
        tuple(records),
        rails.coefficients.table() if isinstance(rails, EmulatedRails) else (),
        _provenance(rails, board),
    )


def _check_images(plan: ComparePlan) -> None:
    """Both arms classify the same images; energies of different inputs do not compare."""
    found = tuple(plan.images.images.shape[1:])
    for name in ARMS:
        packed = plan.arm(name).model
        if packed.model.input_shape != found:
            raise MismatchError(
                packed.path,
                "input shape",
                found=str(packed.model.input_shape),
                expected=f"{found}, that of {plan.images.source}",
            )
    bac, mac = plan.bac.model, plan.mac.model
    if plan.images.images.dtype == np.uint8 and mac.model.normalization != bac.model.normalization:
        raise MismatchError(
            mac.path,
            "normalization",
            found=str(mac.model.normalization),
            expected=f"{bac.model.normalization}, that of {bac.path}",
        )
    if len(plan.images.images) == 0:
        raise MismatchError(plan.images.source, "images", found="none", expected="1 or more")


def _marks(plan: ComparePlan) -> tuple[str, ...]:
    """What is known against the arms' overlays, each once."""
    return tuple(
        dict.fromkeys(
            f"{overlay.manifest.name}: {mark}"
            for overlay in (plan.bac.overlay, plan.mac.overlay)
            for mark in accepted_marks(overlay, accept_timing=plan.accept_timing)
        )
    )


def _sampler_seed(plan: ComparePlan, run: int) -> int:
    return int(np.random.SeedSequence([plan.seed, run]).generate_state(1)[0])


def _evaluate(arm: Arm, plan: ComparePlan, board: Board, progress: Progress | None) -> Evaluation:
    with Session(board, arm.overlay, arm.model.model, verify=plan.verify) as session:
        return evaluate(session, plan.images, progress)


def _sessions(plan: ComparePlan, board: Board) -> dict[ArmName, Session]:
    """A session of each arm, not entered, both with the same batch."""

    def session(name: ArmName, batch: int | None) -> Session:
        arm = plan.arm(name)
        return Session(board, arm.overlay, arm.model.model, batch_size=batch, verify=plan.verify)

    largest = min(session(name, None).batch_size for name in ARMS)
    batch = min(plan.batch_images, len(plan.images.images), largest)
    return {name: session(name, batch) for name in ARMS}


def _passes(plan: ComparePlan, session: Session) -> tuple[int, int]:
    """Passes of warm-up and run, sized by timing two short ones: every run does equal work.

    The difference of the two is a pass without the streams' share, which is paid once.
    """
    images = plan.images.images[: session.batch_size]
    with session:
        once_s, more_s = (session.repeat(images, n).window.duration_s for n in (1, 9))
    pass_s = (more_s - once_s) / 8
    if pass_s <= 0:
        raise DeviceError(
            f"{session.board.word}: 9 passes took {more_s:.3g} s and one {once_s:.3g} s: "
            "a run cannot be sized"
        )
    warm_up, run = (1 + round((s - once_s) / pass_s) for s in (plan.warm_up_s, plan.run_s))
    return max(warm_up, 0), max(run, 1)


def _provenance(rails: RailSource, board: Board) -> dict[str, str]:
    try:
        own = version("bacmac")
    except PackageNotFoundError:
        own = "not installed"
    return {
        "device": f"{board.word} ({board.provenance})",
        "rails": f"{rails.word} ({'emulated' if rails.emulated else 'measured'})",
        "bacmac": own,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }
