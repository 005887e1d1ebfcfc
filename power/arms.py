"""What is said of the two arms beside their energy: who they were, and what else differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.summary import LayerSummary, summarize
from bacmac.host.runtime.evaluate import Evaluation
from bacmac.overlays.fairness import LedgerRow
from bacmac.power.runs import Arm, ArmName, ComparePlan, RunRecord


@dataclass(frozen=True)
class ArmSummary:
    """What one arm was, and how often it was right.

    Attributes:
        overlay, overlay_sha256: what was loaded.
        product, scheme: of the overlay.
        clock_hz: read back before the runs.
        model, model_path, model_sha256, model_bytes: the packed file.
        weight_bits: bits of a weight code, largest over the layers.
        sparsity: share of zero weights.
        n_images: images classified; n_correct of them right, None without labels; of n_verified
            the outputs were compared with the exact engine's, all equal.
        cycles, busy_cycles, products_done, products_isolated, products_skipped: of one inference,
            by the device's counters.
    """

    overlay: str
    overlay_sha256: str
    product: str
    scheme: str
    clock_hz: float
    model: str
    model_path: str
    model_sha256: str
    model_bytes: int
    weight_bits: int
    sparsity: float
    n_images: int
    n_correct: int | None
    n_verified: int
    cycles: float
    busy_cycles: float
    products_done: float
    products_isolated: float
    products_skipped: float

    @property
    def accuracy(self) -> float | None:
        """Share of images classified right, None without labels."""
        return None if self.n_correct is None else self.n_correct / self.n_images


def summarize_arm(
    arm: Arm, name: ArmName, evaluation: Evaluation, records: Sequence[RunRecord]
) -> ArmSummary:
    """Summary of an arm from its evaluation and the first of its runs."""
    manifest, packed = arm.overlay.manifest, arm.model
    record = next(r for r in records if r.arm == name)
    n = record.n_inferences
    return ArmSummary(
        manifest.name,
        arm.overlay.sha256,
        manifest.product,
        manifest.scheme,
        record.clock_hz,
        packed.model.name,
        packed.path,
        packed.sha256,
        packed.n_bytes,
        _weight_bits(packed.model),
        _total(packed.model).sparsity,
        evaluation.n_images,
        evaluation.n_correct,
        evaluation.work.stream.n_verified if evaluation.work else 0,
        record.counters.cycles / n,
        record.counters.busy_cycles / n,
        record.counters.products_done / n,
        record.counters.products_isolated / n,
        record.counters.products_skipped / n,
    )


def model_rows(plan: ComparePlan) -> tuple[LedgerRow, ...]:
    """Ledger rows of the two packed models."""
    return compare_models(plan.bac.model.model, plan.mac.model.model)


def compare_models(bac: QuantizedModel, mac: QuantizedModel) -> tuple[LedgerRow, ...]:
    """Ledger rows of two models: `a` is BAC's, `b` is MAC's."""
    rows = (
        ("model: layers and shapes", _structure(bac), _structure(mac)),
        ("model: schemes", _schemes(bac), _schemes(mac)),
        ("model: weight bits", f"{_weight_bits(bac)}", f"{_weight_bits(mac)}"),
        ("model: activation bits", _activation_bits(bac), _activation_bits(mac)),
        ("model: zero weights", f"{_total(bac).sparsity:.1%}", f"{_total(mac).sparsity:.1%}"),
    )
    notes = {
        "model: weight bits": "fewer bits save weight memory and traffic whatever the product is",
        "model: zero weights": "zero weights save energy in either arm",
    }
    arithmetic = ("model: schemes",)
    return tuple(
        LedgerRow(
            item,
            a,
            b,
            "same" if a == b else "arithmetic" if item in arithmetic else "confound",
            notes.get(item, ""),
        )
        for item, a, b in rows
    )


def _structure(model: QuantizedModel) -> str:
    return f"{len(model.layers)} layers, {_total(model).n_weights:,} weights"


def _schemes(model: QuantizedModel) -> str:
    return ", ".join(sorted({layer.scheme for layer in model.layers if layer.has_weights}))


def _weight_bits(model: QuantizedModel) -> int:
    return max((SCHEMES[x.scheme].bits for x in model.layers if x.has_weights), default=0)


def _activation_bits(model: QuantizedModel) -> str:
    formats = [model.input_format, *(layer.output for layer in model.layers if layer.output)]
    return ", ".join(str(bits) for bits in sorted({f.bits for f in formats}))


def _total(model: QuantizedModel) -> LayerSummary:
    """The whole model, counted as `pack` and `inspect` count it."""
    return summarize(model)[-1]
