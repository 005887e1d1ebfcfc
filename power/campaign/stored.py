"""What a journal tells of a campaign without any other file."""

from __future__ import annotations

import platform
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.pack.summary import summarize
from bacmac.overlays.fairness import LedgerRow
from bacmac.overlays.marks import accepted_marks
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.pairs import pair_ledger
from bacmac.power.campaign.plan import CampaignPlan, Cell, Design, Pair, PlannedArm, RunKey, Stage
from bacmac.power.campaign.run import Finding, State
from bacmac.power.campaign.source_tree import source_tree


@dataclass(frozen=True)
class StoredArm:
    """What an arm was, without its files.

    Attributes:
        name: in the plan.
        overlay, overlay_sha256: what is loaded.
        product, scheme, built_clock_hz, build_id, resources, resources_source: of its manifest.
        marks: what is known against the overlay and was accepted.
        model, model_path, model_sha256, model_bytes: the packed file.
        weight_bits: bits of a weight code, largest over the layers.
        sparsity: share of zero weights.
        n_weights: weights that count.
        macs: multiply-accumulates of one image.
    """

    name: str
    overlay: str
    overlay_sha256: str
    product: str
    scheme: str
    built_clock_hz: float
    build_id: int
    resources: Mapping[str, float]
    resources_source: str
    marks: tuple[str, ...]
    model: str
    model_path: str
    model_sha256: str
    model_bytes: int
    weight_bits: int
    sparsity: float
    n_weights: int
    macs: int


@dataclass(frozen=True)
class StoredPlan:
    """All of a plan that analysis, report and comparison need: no other file is read for them.

    Attributes:
        name, text, sha256, board, device, rails, rail_names, cells, pairs, design, limits,
            accept_timing: as in `CampaignPlan`.
        arms: of the plan, in its order.
        ledgers: of each pair, in the order of `pairs`; `a` is the denominator's, `b` the
            numerator's.
        images_source, images_sha256, n_images: what every arm classifies.
        made_with: versions of bacmac, Python, NumPy and SQLite, and the machine, at creation.
        created_wall_ns: by the wall clock.
    """

    name: str
    text: str
    sha256: str
    board: str
    device: str
    rails: str
    rail_names: tuple[str, ...]
    accept_timing: bool
    arms: tuple[StoredArm, ...]
    cells: tuple[Cell, ...]
    pairs: tuple[Pair, ...]
    ledgers: tuple[tuple[LedgerRow, ...], ...]
    design: Design
    limits: Limits
    images_source: str
    images_sha256: str
    n_images: int
    made_with: Mapping[str, str]
    created_wall_ns: int


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        key: which.
        state: planned, running, done or invalid.
        reason: why it is invalid ("check 3", "crash", "interrupted", "block": another run of its
            block, ...), else "".
        boot_id: of the kernel under which it was begun, None before.
        begun_wall_ns, ended_wall_ns: by the wall clock, None before.
    """

    key: RunKey
    state: State
    reason: str
    boot_id: str | None
    begun_wall_ns: int | None
    ended_wall_ns: int | None


@dataclass(frozen=True)
class StoredFinding:
    """A finding and what it speaks of.

    Attributes:
        finding: what a check said.
        cell, stage, block, attempt: the block; all None for the whole campaign.
        position: of the run in its block, None for the block as a whole.
        arm: of that run, None likewise.
    """

    finding: Finding
    cell: int | None = None
    stage: Stage | None = None
    block: int | None = None
    attempt: int | None = None
    position: int | None = None
    arm: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened, in words."""

    wall_ns: int
    text: str


def stored_plan(plan: CampaignPlan) -> StoredPlan:
    """What is stored of a plan.

    Raises:
        OverlayError: an overlay carries a mark that was not accepted, or a build's report beside
            its manifest cannot be read.
    """
    return StoredPlan(
        plan.name,
        plan.text,
        plan.sha256,
        plan.board,
        plan.device,
        plan.rails,
        plan.rail_names,
        plan.accept_timing,
        tuple(_stored_arm(arm, plan.accept_timing) for arm in plan.arms),
        plan.cells,
        plan.pairs,
        tuple(pair_ledger(plan, pair) for pair in plan.pairs),
        plan.design,
        plan.limits,
        plan.images.source,
        plan.images.sha256,
        len(plan.images.images),
        made_with(),
        time.time_ns(),
    )


def made_with() -> dict[str, str]:
    """Versions, source and machine."""
    try:
        own = version("bacmac")
    except PackageNotFoundError:
        own = "not installed"
    tree = source_tree()
    return {
        "bacmac": own,
        "source": tree.text if tree else "installed package",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "sqlite": sqlite3.sqlite_version,
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def words_are_emulated(device: str, rails: str) -> bool:
    """Whether device or rails are emulated by their very words."""
    on_board = device.startswith("ssh:") or (
        device.startswith("pynq:") and "emulated" not in device
    )
    return rails.startswith("emulated:") or not on_board


def _stored_arm(arm: PlannedArm, accept_timing: bool) -> StoredArm:
    manifest, packed = arm.overlay.manifest, arm.model
    total = summarize(packed.model)[-1]
    layers = [layer for layer in packed.model.layers if layer.has_weights]
    return StoredArm(
        arm.name,
        manifest.name,
        arm.overlay.sha256,
        manifest.product,
        manifest.scheme,
        manifest.clock_hz,
        manifest.build_id,
        manifest.resources,
        manifest.resources_source,
        accepted_marks(arm.overlay, accept_timing=accept_timing),
        packed.model.name,
        packed.path,
        packed.sha256,
        packed.n_bytes,
        max((SCHEMES[layer.scheme].bits for layer in layers), default=0),
        total.sparsity,
        total.n_weights,
        total.macs,
    )
