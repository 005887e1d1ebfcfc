"""Read a campaign's plan, `campaign.toml`: every problem of the file at once, or a plan that runs.

Nothing is left to be found out at night: overlays, models and images are read and fitted together
here. Paths are relative to the file's folder. The format is in docs/campaigns.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bacmac.host.compile.compiler import compile_model
from bacmac.host.device.registry import DEVICES, open_board
from bacmac.host.errors import BacmacError, InputError, OverlayError
from bacmac.host.importers.images import ImageSet
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.pack.file import PackedModel, read_packed
from bacmac.host.runtime.inputs import load_images_for
from bacmac.host.runtime.session import DEFAULT_BATCH
from bacmac.overlays.check_hand_off import same_clock
from bacmac.overlays.hwh import IOPLL_HZ
from bacmac.overlays.marks import accepted_marks
from bacmac.overlays.registry import list_overlays, load_overlay
from bacmac.overlays.strict_toml import Table, read_text
from bacmac.power.campaign.limits import Limits
from bacmac.power.campaign.pairs import derive_pairs, missing_multiplier
from bacmac.power.campaign.plan import CampaignPlan, Cell, Design, Pair, PlannedArm
from bacmac.power.campaign.plan_digest import resolved_sha256
from bacmac.power.rails import chosen_rails
from bacmac.power.sources import open_rails, rail_words

DEFAULT_BATCH_IMAGES = 64
"""As `bacmac compare`: images held on chip where the plan names no batch size."""
MAX_ARMS = 8
MAX_CELLS = 1000
_PYNQ = ("", "emulated")
_WORD = r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*"
_WORD_IN_WORDS = "letters and digits, with single . _ or - between them"


def load_plan(path: str | Path) -> CampaignPlan:
    """The campaign that a file plans, with everything it names read and found to fit.

    Real sensors are not opened: that needs the board.

    Raises:
        InputError: whatever is wrong with the file or with what it names; the first problem in
            full, the others briefly.
    """
    path = Path(path)
    try:
        return parse_plan(path, read_text(path))
    except OverlayError as error:  # the strict reader's own class; here no overlay is at fault
        raise InputError(
            error.file, error.field, found=error.found, expected=error.expected, hint=error.hint
        ) from error


def parse_plan(path: Path, text: str) -> CampaignPlan:
    """The campaign in a TOML text.

    Args:
        path: of the text: paths in it are relative to its folder, and errors name it.
        text: TOML.

    Raises:
        OverlayError: as `load_plan`'s InputError.
    """
    top = Table.parse(path, text)
    folder = path.parent
    name = top.text("name", _WORD, _WORD_IN_WORDS)
    device, rails = _words(top)
    board = _board(top, device)
    rail_names = _rail_names(top, rails)
    accept_timing = "accept_timing" in top.names() and top.flag("accept_timing")
    folders = _folders(top, folder)
    arms = _arms(top, folder, folders, accept_timing)
    images = _images(top, folder, arms)
    cells = _cells(top, arms, images)
    design = _design(top)
    limits = _limits(top)
    pairs = _pairs(top, arms, folders)
    top.finish()
    assert images is not None  # else a problem was noted
    plan = CampaignPlan(
        name,
        text,
        "",
        board,
        device,
        rails,
        rail_names,
        images,
        arms,
        cells,
        pairs,
        design,
        limits,
        accept_timing,
    )
    return replace(plan, sha256=resolved_sha256(plan))


def _words(top: Table) -> tuple[str, str]:
    """Device and rails; emulated ones are opened, so that their options are known to be good."""
    device = top.line("device") if "device" in top.names() else "functional:"
    rails = top.line("rails") if "rails" in top.names() else "emulated:"
    kind, colon, option = device.partition(":")
    known = f"{kind}:" in DEVICES and (kind != "pynq" or option.partition(",")[0] in _PYNQ)
    if device and not (colon and known):
        top.problem("device", device, f"one of {', '.join(DEVICES)}: where the campaign runs")
    elif kind in ("functional", "reference", "rtl"):
        try:
            open_board(device).close()
        except BacmacError as error:
            top.refused("device", device, error)
    rails_kind, colon, _ = rails.partition(":")
    if rails and (not colon or rails_kind not in ("emulated", "hwmon")):
        top.problem("rails", rails, f"one of {', '.join(rail_words())}")
    elif rails_kind == "hwmon" and device != "pynq:":
        top.problem("rails", rails, f"emulated: real sensors see nothing of device {device!r}")
    elif rails_kind == "emulated" and device == "pynq:":
        top.problem("rails", rails, "hwmon: nothing that a real board does can be emulated")
    return device, rails


def _board(top: Table, device: str) -> str:
    if "board" in top.names() or device == "pynq:":
        return top.text("board", _WORD, f"which board it is, your label: {_WORD_IN_WORDS}")
    return "emulated"


def _rail_names(top: Table, rails: str) -> tuple[str, ...]:
    names: tuple[str, ...] = ()
    if "rail_names" in top.names():
        items = top.items("rail_names")
        names = tuple(items.line(place) for place in items.names())
        if len(set(names)) < len(names):
            top.problem("rail_names", list(names), "each rail once")
    if rails.startswith("emulated:"):
        board = open_board("functional:")
        try:
            chosen_rails(open_rails(rails, board), names)
        except BacmacError as error:
            top.refused("rails", rails, error)
        finally:
            board.close()
    return names


def _folders(top: Table, folder: Path) -> tuple[Path, ...]:
    if "overlay_folders" not in top.names():
        return ()
    items = top.items("overlay_folders")
    folders = [folder / line for line in (items.line(place) for place in items.names()) if line]
    try:
        list_overlays(folders)
    except OverlayError as error:
        top.refused("overlay_folders", [str(path) for path in folders], error)
        return ()
    return tuple(folders)


def _arms(
    top: Table, folder: Path, folders: Sequence[Path], accept_timing: bool
) -> tuple[PlannedArm, ...]:
    """The arms that could be read; those that could not are noted."""
    table = top.table("arms")
    names = table.names()
    if not 2 <= len(names) <= MAX_ARMS:
        top.problem("arms", list(names), f"2 to {MAX_ARMS} arms, [arms.NAME] each")
    arms = []
    for name in names:
        inner = table.table(name)
        if not name.isascii() or not name.isalnum():
            table.problem(name, name, "a name of letters and digits")
        overlay = _overlay(inner, folder, folders, accept_timing)
        model = _model(inner, folder)
        if overlay is None or model is None:
            continue
        try:
            compile_model(model.model, overlay)
        except BacmacError as error:
            inner.refused("overlay", overlay.manifest.name, error)
            continue
        arms.append(PlannedArm(name, overlay, model))
    return tuple(arms)


def _overlay(
    table: Table, folder: Path, folders: Sequence[Path], accept_timing: bool
) -> Overlay | None:
    word = table.line("overlay")
    if not word:
        return None
    is_path = "/" in word or word.endswith(".toml")  # as load_overlay tells them apart
    try:
        overlay = load_overlay(folder / word if is_path else word, folders)
        accepted_marks(overlay, accept_timing=accept_timing)
    except OverlayError as error:
        table.refused("overlay", word, error)
        return None
    return overlay


def _model(table: Table, folder: Path) -> PackedModel | None:
    word = table.line("model")
    if not word:
        return None
    try:
        return read_packed(folder / word)
    except BacmacError as error:
        table.refused("model", word, error)
        return None


def _images(top: Table, folder: Path, arms: Sequence[PlannedArm]) -> ImageSet | None:
    """The images, once they are known to mean the same to every arm's model."""
    word = top.line("images")
    limit = top.integer("n_images", 1, 1 << 31) if "n_images" in top.names() else None
    if not word or not arms:
        return None
    try:
        first, *others = [load_images_for(a.model.model, folder / word, limit) for a in arms]
    except BacmacError as error:
        top.refused("images", word, error)
        return None
    for arm, images in zip(arms[1:], others, strict=True):
        ours, theirs = arms[0].model.model, arm.model.model
        # pixels are normalized by each model's own constants: other constants are other inputs
        same = images.images.dtype != np.uint8 or ours.normalization == theirs.normalization
        if not same or ours.input_shape != theirs.input_shape:
            top.problem(
                f"arms.{arm.name}.model", arm.model.path, f"the inputs of {arms[0].model.path}"
            )
    if limit is not None and limit > len(first.images):
        top.problem("n_images", limit, f"at most {len(first.images)}, all that {word} holds")
    return first


def _cells(top: Table, arms: Sequence[PlannedArm], images: ImageSet | None) -> tuple[Cell, ...]:
    """Every batch size at every clock."""
    most = min([compile_model(a.model.model, a.overlay).max_batch for a in arms] or [1 << 31])
    most = min(most, DEFAULT_BATCH, len(images.images) if images is not None else most)
    batches: tuple[int, ...] = (min(DEFAULT_BATCH_IMAGES, most),)
    if "batch_images" in top.names():
        items = top.items("batch_images")
        batches = tuple(items.integer(place, 1, most) for place in items.names())
        if len(set(batches)) < len(batches):
            top.problem("batch_images", list(batches), "each size once")
    clocks: tuple[float | None, ...] = (None,)
    if "clocks_mhz" in top.names():
        clocks = _clocks(top, arms)
    if len(batches) * len(clocks) > MAX_CELLS:
        top.problem("batch_images", len(batches) * len(clocks), f"at most {MAX_CELLS} cells")
    points = [(batch, clock) for clock in clocks for batch in batches]
    return tuple(Cell(index, batch, clock) for index, (batch, clock) in enumerate(points))


def _clocks(top: Table, arms: Sequence[PlannedArm]) -> tuple[float | None, ...]:
    """Clocks that pl_clk0 has, and that no overlay was built for less than."""
    items = top.items("clocks_mhz")
    most_mhz = min([arm.overlay.manifest.clock_hz / 1e6 for arm in arms] or [1000.0])
    clocks = []
    for place in items.names():
        mhz = items.number(place, 1.0, most_mhz * 1.001)
        divisor = max(round(IOPLL_HZ / (mhz * 1e6)), 1)
        reached = IOPLL_HZ / divisor
        if not same_clock(mhz * 1e6, reached):
            near = f"{IOPLL_HZ / 1e6 / (divisor + 1):.6g}, {reached / 1e6:.6g}"
            items.problem(place, mhz, f"1500 over a whole number, as pl_clk0 has it: {near}")
        clocks.append(reached)
    if len(set(clocks)) < len(clocks):
        top.problem("clocks_mhz", [hz / 1e6 for hz in clocks], "each clock once")
    return tuple(clocks)


def _design(top: Table) -> Design:
    """Lengths and numbers; what is not given keeps its default."""
    if "design" not in top.names():
        return Design()
    table = top.table("design")
    ranges = {
        "run_s": (0.1, 3600.0),
        "idle_s": (0.1, 3600.0),
        "settle_s": (0.0, 3600.0),
        "warm_up_s": (0.0, 3600.0),
        "guard_s": (0.0, 60.0),
        "sample_period_s": (0.001, 10.0),
        "target_half_width": (1e-5, 1.0),
    }
    counts = {
        "aa_blocks": (0, 10_000),
        "pilot_blocks": (2, 10_000),
        "max_blocks": (2, 10_000),
        "seed": (0, (1 << 32) - 1),
    }
    given = table.names()
    numbers = {key: table.number(key, *ranges[key]) for key in ranges if key in given}
    integers = {key: table.integer(key, *counts[key]) for key in counts if key in given}
    design = replace(Design(), **numbers, **integers)  # type: ignore[arg-type]
    if design.run_s <= 2 * design.guard_s:
        table.problem("run_s", design.run_s, f"more than twice guard_s, {design.guard_s:g}")
    if min(design.idle_s, design.run_s - design.guard_s) < 4 * design.sample_period_s:
        table.problem(
            "sample_period_s", design.sample_period_s, "four samples or more in every window"
        )
    if design.max_blocks < design.pilot_blocks:
        table.problem(
            "max_blocks", design.max_blocks, f"at least pilot_blocks, {design.pilot_blocks}"
        )
    if design.aa_blocks == 1:
        table.problem("aa_blocks", 1, "2 or more, for an interval; or 0 for none")
    return design


def _limits(top: Table) -> Limits:
    """Thresholds of the checks; what is not given keeps its default."""
    if "limits" not in top.names():
        return Limits()
    table, default = top.table("limits"), Limits()
    given: dict[str, Any] = {}
    for name in (field.name for field in fields(Limits) if field.name in table.names()):
        if isinstance(getattr(default, name), tuple):
            items = table.items(name)
            given[name] = tuple(items.line(place) for place in items.names())
        else:
            given[name] = table.number(name, 0.0, 1e12)
    return replace(default, **given)


def _pairs(top: Table, arms: Sequence[PlannedArm], folders: Sequence[Path]) -> tuple[Pair, ...]:
    """The pairs; a saving that could be split and is not has to be left so on purpose."""
    split = "split" not in top.names() or top.flag("split")
    pairs = derive_pairs(arms)
    if not pairs and len(arms) > 1:
        kinds = ", ".join(f"{arm.name}: {arm.overlay.manifest.product}" for arm in arms)
        top.problem("arms", kinds, "a bac arm and a mac arm to compare")
    missing = missing_multiplier(arms, pairs, list_overlays(folders)) if split else None
    if missing is not None:
        top.problem(
            "arms",
            [arm.name for arm in arms],
            f'an arm with overlay = "{missing.name}" and the network packed with --scheme '
            f"{missing.scheme}, which splits the saving into bit width and shift; or split = false",
        )
    return pairs
