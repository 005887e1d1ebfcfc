"""The fairness ledger: what differs between two overlays besides the arithmetic compared.

A difference in energy speaks of the product term only where nothing else differs. Each row is
part of the arithmetic, the same, or a confound that the report has to name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.bundle import bundle_files
from bacmac.overlays.vivado_reports import read_timing_summary, read_utilization

ACTIVATION_BITS = 8
"""Stored bits of an activation in every design of ABI 1."""

Kind = Literal["arithmetic", "same", "confound"]


@dataclass(frozen=True)
class LedgerRow:
    """One property of two overlays.

    Attributes:
        item: the property, its unit in brackets.
        a, b: its value in either, as printed.
        kind: "arithmetic", a difference that is the thing compared or follows from it; "same";
            "confound", a difference that moves energy for another reason.
        note: why, or where the values come from; may be empty.
    """

    item: str
    a: str
    b: str
    kind: Kind
    note: str = ""


def fairness_ledger(a: Overlay, b: Overlay) -> tuple[LedgerRow, ...]:
    """Compare two overlays property by property: manifests, and the reports of their builds.

    Two arms of one product term (or of unequal weight bits) are not a comparison of shift with
    multiply: what follows from that is marked a confound.

    Raises:
        OverlayError: a report beside a manifest cannot be read.

    >>> from bacmac.overlays.registry import load_overlay
    >>> rows = fairness_ledger(load_overlay("bac-pot4"), load_overlay("mac-uniform8"))
    >>> [row.item for row in rows if row.kind == "confound"]
    ['weight bits']
    """
    return (*_arithmetic(a, b), *_structure(a, b), *_resources(a, b))


def _arithmetic(a: Overlay, b: Overlay) -> Iterator[LedgerRow]:
    first, second = SCHEMES[a.manifest.scheme], SCHEMES[b.manifest.scheme]
    yield _row("product term", a.manifest.product, b.manifest.product, "arithmetic")
    yield _row("weight levels", first.name, second.name, "arithmetic")
    yield _row(
        "weight bits",
        first.bits,
        second.bits,
        "confound",
        "fewer bits save weight memory and traffic whatever the product term is",
    )
    yield _row("activation bits", ACTIVATION_BITS, ACTIVATION_BITS, "confound")


def _structure(a: Overlay, b: Overlay) -> Iterator[LedgerRow]:
    one, two = a.manifest, b.manifest
    for item, first, second in (
        ("lanes", *(f"{m.geometry.inputs} x {m.geometry.outputs}" for m in (one, two))),
        ("pixel tile", one.geometry.pixel_tile, two.geometry.pixel_tile),
        (
            "skipped group",
            *(f"{m.geometry.group_inputs} x {m.geometry.group_outputs}" for m in (one, two)),
        ),
        ("clock (MHz)", f"{one.clock_hz / 1e6:g}", f"{two.clock_hz / 1e6:g}"),
        ("stream beat (bytes)", one.beat_bytes, two.beat_bytes),
        ("activation buffer (bytes)", one.buffers.activation_bytes, two.buffers.activation_bytes),
        ("weight buffer (bytes)", one.buffers.weight_bytes, two.buffers.weight_bytes),
        ("constant buffer (bytes)", one.buffers.constant_bytes, two.buffers.constant_bytes),
        ("descriptors", one.buffers.max_descriptors, two.buffers.max_descriptors),
        ("register map", a.registers.name, b.registers.name),
        ("ABI", one.abi, two.abi),
        ("board", one.board, two.board),
        ("part", one.part, two.part),
    ):
        yield _row(item, first, second, "confound")


def known_resources(overlay: Overlay) -> tuple[str, dict[str, float]]:
    """What an overlay takes, and where that is known from.

    From the reports beside its manifest, where they are there and the design is placed; else what
    the manifest says.

    Returns:
        "measured: ..." or "estimate: ...", and the numbers by the names of a manifest.

    Raises:
        OverlayError: a report that is there cannot be read.
    """
    manifest, files = overlay.manifest, bundle_files(overlay)
    source, resources = manifest.resources_source, dict(manifest.resources)
    if files.utilization.is_file():
        report = read_utilization(files.utilization)
        if report.is_placed:
            source, resources = f"measured: {report.header.tool} utilisation", report.resources
    if files.timing.is_file():
        slack_ns = read_timing_summary(files.timing).wns_ns
        resources = resources if slack_ns is None else {**resources, "slack_ns": slack_ns}
    return source, resources


def _resources(a: Overlay, b: Overlay) -> Iterator[LedgerRow]:
    """Logic and slack follow from the product term; memory does not, nor does missed timing."""
    one, two = a.manifest, b.manifest
    (source_a, values_a), (source_b, values_b) = known_resources(a), known_resources(b)
    how_a, how_b = (source.partition(":")[0] for source in (source_a, source_b))
    short_a, short_b = (_first_clause(source) for source in (source_a, source_b))
    source = short_a if short_a == short_b else f"a: {short_a}; b: {short_b}"
    differ = (one.product, one.scheme) != (two.product, two.scheme)
    yield _row(
        "resources known by", how_a, how_b, "confound", "an estimate and a build do not compare"
    )
    for name in dict.fromkeys((*values_a, *values_b)):
        value_a, value_b = values_a.get(name), values_b.get(name)
        follows = False
        if value_a is not None and value_b is not None:
            met = name == "slack_ns" and min(value_a, value_b) >= 0
            follows = differ and (met or name in ("LUT", "FF", "DSP"))
        kind: Kind = "arithmetic" if follows else "confound"
        yield _row(name, _shown(value_a), _shown(value_b), kind, source)


def _first_clause(source: str) -> str:
    return source.partition(",")[0]


def _shown(value: float | None) -> str:
    return "not stated" if value is None else f"{value:g}"


def _row(item: str, a: object, b: object, when_different: Kind, note: str = "") -> LedgerRow:
    return LedgerRow(item, str(a), str(b), "same" if a == b else when_different, note)
