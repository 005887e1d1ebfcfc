"""What a campaign says: figures computed from its runs alone, and their JSON.

Type A is what the spread of blocks shows, Type B what it cannot show (JCGM 100:2008, 4.2 and 4.3).
They stand apart here: errors of gain and shunt multiply both arms' energies alike and cancel in
ratios, so no ratio's interval holds them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bacmac.power.campaign.plan import Pair, RunKey, Stage
from bacmac.power.campaign.validity import ValidityRow
from bacmac.power.energy import EnergyPerInference, Quantisation, RunPower
from bacmac.power.rails import RailInfo
from bacmac.power.statistics import BlockMean, Interval, Verdict

SCHEMA = "bacmac.campaign"
SCHEMA_VERSION = 1
RatioOf = Literal["dynamic", "total"]


@dataclass(frozen=True)
class RailRun:
    """One rail in one run."""

    power: RunPower
    energy: EnergyPerInference


@dataclass(frozen=True)
class RunSummary:
    """One run without its samples.

    Attributes:
        key: which.
        start_ns: of the run's window, monotonic.
        wall_ns: wall clock before the first idle window.
        boot_id: of the kernel, None where it cannot be read; `start_ns` counts from its start.
        clock_hz: the accelerator's, read back.
        run_s: length of the run's window.
        n_inferences: images worked through in it.
        die_c: die temperatures before the first idle window, by name.
        emulated: whether accelerator or rails are a model.
        infos: of the rails.
        rails: what each rail measured.
    """

    key: RunKey
    start_ns: int
    wall_ns: int
    boot_id: str | None
    clock_hz: float
    run_s: float
    n_inferences: int
    die_c: Mapping[str, float]
    emulated: bool
    infos: Mapping[str, RailInfo]
    rails: Mapping[str, RailRun]


@dataclass(frozen=True)
class TypeB:
    """Standard uncertainties of an absolute figure that no number of blocks lowers, in its unit.

    Attributes:
        step: by the sensor's step, where noise does not cover it (u_q).
        gain: by the sensor's gain error, None where no datasheet value is known.
        shunt: by the shunt's tolerance, None where it is not known: it is then missing from
            `combined`, and may be the largest.
        offset: by the sensor's offset, None where not known; 0 in dynamic energies, where it
            cancels.
    """

    step: float
    gain: float | None
    shunt: float | None
    offset: float | None

    @property
    def combined(self) -> float:
        """Known terms in quadrature."""
        known = (u for u in (self.step, self.gain, self.shunt, self.offset) if u is not None)
        return math.hypot(*known)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the terms that are not known."""
        return tuple(name for name in ("gain", "shunt", "offset") if getattr(self, name) is None)


@dataclass(frozen=True)
class Figure:
    """An absolute figure of an arm.

    Attributes:
        mean: over blocks with its 95 % interval, Type A alone.
        type_b: see there.
    """

    mean: BlockMean
    type_b: TypeB


@dataclass(frozen=True)
class ArmEnergy:
    """One arm on one rail in one cell, for one inference; with what the rail feeds, E_rail.

    On a rail that feeds the whole board `total_j` is the board's energy, E_board.

    Attributes:
        cell, arm, rail: which.
        dynamic_j: above idle with the arm's own overlay loaded and clocked.
        static_j: idle power times the inference's time.
        total_j: all the rail delivered.
        idle_w: mean of the idle windows around each run.
        energy_delay_js: total energy times time.
        inferences_per_s_per_w: of this rail: the mean of 1 / total energy.
        n_not_positive: runs without dynamic energy above zero; they are kept.
    """

    cell: int
    arm: str
    rail: str
    dynamic_j: Figure
    static_j: Figure
    total_j: Figure
    idle_w: Figure
    energy_delay_js: Figure
    inferences_per_s_per_w: Figure
    n_not_positive: int


@dataclass(frozen=True)
class ArmTime:
    """Speed of an arm in a cell, from the same runs as its energy; Type A alone."""

    cell: int
    arm: str
    time_s: BlockMean
    inferences_per_s: BlockMean


@dataclass(frozen=True)
class RatioEstimate:
    """Energy of the numerator over that of the denominator.

    Attributes:
        ratio: geometric mean over blocks.
        low, high: 95 % interval, all of the following in quadrature.
        log_mean: mean log ratio with its two-stage interval.
        u_step: standard uncertainty by the sensor's step, in ln units.
        u_offset: by its offset, in ln units: 0 in a dynamic ratio, where it cancels, and None
            where it is not known.
        half_width: of the whole interval, in ln units.
        joint_low, joint_high: interval that holds together with those of the other ratios of this
            cell and rail in 95 % of campaigns (Bonferroni): the ratios share runs.
        robust: Hodges and Lehmann's ratio with Wilcoxon's interval.
        centres_apart: robust over ratio, less 1.
        position_p: p of an effect of the place in the block, or None.
        verdict: what may be said of the denominator's energy against the numerator's.
        resolution_limited: whether the step, not the spread of blocks, sets the interval.
    """

    ratio: float
    low: float
    high: float
    log_mean: BlockMean
    u_step: float
    u_offset: float | None
    half_width: float
    joint_low: float
    joint_high: float
    robust: Interval
    centres_apart: float
    position_p: float | None
    verdict: Verdict
    resolution_limited: bool


@dataclass(frozen=True)
class PairRatio:
    """One ratio of one cell on one rail.

    Attributes:
        cell, stage, pair, rail, quantity: which; in stage "aa" both arms are one.
        blocks: numbers of the blocks, ascending.
        log_ratios: of each block; () where a dynamic energy is not above zero.
        numerator_positions, denominator_positions: places in each block.
        estimate: None where there is no ratio, see `reason`.
        reason: why not, else "".
        smallest_difference: smallest that could have been shown, as a share of the numerator's
            energy above 1; None where nothing can be said.
    """

    cell: int
    stage: Stage
    pair: Pair
    rail: str
    quantity: RatioOf
    blocks: tuple[int, ...]
    log_ratios: tuple[float, ...]
    numerator_positions: tuple[int, ...]
    denominator_positions: tuple[int, ...]
    estimate: RatioEstimate | None
    reason: str
    smallest_difference: float | None

    @property
    def verdict(self) -> Verdict:
        """Of the estimate; not resolvable without one."""
        return self.estimate.verdict if self.estimate else "not resolvable"


@dataclass(frozen=True)
class SavingSplit:
    """How much of a saving is the shift's, the rest being fewer weight bits'.

    In every block ln(saving) = ln(bits) + ln(shift): the three ratios share the runs, so the share
    is a quotient of correlated means.

    Attributes:
        cell, rail, quantity, pair: which saving.
        middle: the arm with the denominator's weight bits and the numerator's arithmetic.
        shift_share: of ln(saving), with Fieller's interval; None, see `reason`.
        reason: why there is none, else "".
        correlation: of bits and shift over blocks, or None: the middle arm is in both.
    """

    cell: int
    rail: str
    quantity: RatioOf
    pair: Pair
    middle: str
    shift_share: Interval | None
    reason: str
    correlation: float | None


@dataclass(frozen=True)
class RailResult:
    """A rail in a cell.

    Attributes:
        cell, info: which.
        quantisation: what its sensor's step does.
        limited: whether the step sets the interval of a dynamic ratio on it.
        feeds_board: whether it feeds the whole board.
    """

    cell: int
    info: RailInfo
    quantisation: Quantisation
    limited: bool
    feeds_board: bool


@dataclass(frozen=True)
class BlockCount:
    """Blocks of a cell's stage.

    Attributes:
        cell, stage: which.
        planned: None for main blocks whose number the pilot has not fixed yet.
        valid: whole and valid.
    """

    cell: int
    stage: Stage
    planned: int | None
    valid: int


@dataclass(frozen=True)
class CampaignResult:
    """All of it.

    Attributes:
        name, board, plan_sha256: of the plan.
        emulated: whether any run has an emulated leg.
        complete: every planned block is there and valid.
        headline_rail: of the headline's ratios.
        blocks: by cell and stage.
        validity: runs planned, valid, repeated and invalid by reason, by cell, stage and arm.
        rails, energies, times, ratios, splits: of the main stage.
        aa: ratios of the A/A check, truly 1.
        runs: valid runs of whole blocks, in order.
        notes: what a reader has to know of the figures.
    """

    name: str
    board: str
    plan_sha256: str
    emulated: bool
    complete: bool
    headline_rail: str
    blocks: tuple[BlockCount, ...]
    validity: tuple[ValidityRow, ...]
    rails: tuple[RailResult, ...]
    energies: tuple[ArmEnergy, ...]
    times: tuple[ArmTime, ...]
    ratios: tuple[PairRatio, ...]
    splits: tuple[SavingSplit, ...]
    aa: tuple[PairRatio, ...]
    runs: tuple[RunSummary, ...]
    notes: tuple[str, ...]

    def headline(self) -> tuple[PairRatio, ...]:
        """Dynamic ratios on the headline's rail, by cell and pair."""
        return tuple(
            r for r in self.ratios if r.rail == self.headline_rail and r.quantity == "dynamic"
        )


def result_json(result: CampaignResult) -> dict[str, Any]:
    """As JSON values: units in the names, floats to the last bit, no NaN.

    Rails' facts stand once under `rails`; a run names its rails only.
    """
    plain = asdict(result)
    for run in plain["runs"]:
        del run["infos"]
    for figure in _figures(plain["energies"]):
        known = [u for u in figure["type_b"].values() if u is not None]
        figure["type_b"]["combined"] = math.hypot(*known)
    checked: dict[str, Any] = _finite({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **plain})
    return checked


def _figures(energies: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for energy in energies:
        yield from (v for v in energy.values() if isinstance(v, dict))


def _finite(value: Any) -> Any:
    """Tuples as lists, NumPy numbers as Python's; a number that is none is a bug, not a null."""
    if isinstance(value, Mapping):
        return {str(name): _finite(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} in a result")
        return float(value)
    return value


def largest_difference(stored: Any, again: Any) -> tuple[float, str]:
    """Largest relative difference between the numbers of two results' JSON, and where it is.

    inf where they differ in anything else, as a name, a length or a word.
    """
    if isinstance(stored, Mapping) and isinstance(again, Mapping):
        if stored.keys() != again.keys():
            return math.inf, ", ".join(sorted(stored.keys() ^ again.keys()))
        return _largest((name, stored[name], again[name]) for name in stored)
    if isinstance(stored, list) and isinstance(again, list):
        if len(stored) != len(again):
            return math.inf, f"{len(stored)} and {len(again)} entries"
        return _largest((str(i), a, b) for i, (a, b) in enumerate(zip(stored, again, strict=True)))
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (stored, again))
    if not numbers or stored == again:
        return (0.0 if stored == again else math.inf), ""
    return abs(stored - again) / max(abs(stored), abs(again)), ""


def _largest(pairs: Iterator[tuple[str, Any, Any]]) -> tuple[float, str]:
    worst, where = 0.0, ""
    for name, a, b in pairs:
        difference, inside = largest_difference(a, b)
        if difference > worst:
            worst, where = difference, f"{name}.{inside}" if inside else name
    return worst, where
