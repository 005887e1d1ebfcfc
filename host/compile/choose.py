"""Which of several overlays a model runs on."""

from __future__ import annotations

from collections.abc import Sequence

from bacmac.host.arith.network import ConvOp
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.compile.compiler import compile_model
from bacmac.host.errors import CompileError, MismatchError
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.model.quantized import QuantizedModel


def choose_overlay(
    model: QuantizedModel, overlays: Sequence[Overlay], *, product: str | None = None
) -> Overlay:
    """The overlay with the narrowest codes, of a product kind if one is named, that runs the model.

    Between equals shifts come before multiplications, then fewer levels before more, then names
    decide.

    Raises:
        MismatchError: none executes the model's weights; the reasons are listed.
    """
    candidates = [overlay for overlay in overlays if product in (None, overlay.manifest.product)]
    reasons = []
    for overlay in sorted(candidates, key=_preference):
        try:
            compile_model(model, overlay)
        except (MismatchError, CompileError) as error:
            reasons.append(f"{overlay.manifest.name}: {error}")
        else:
            return overlay
    schemes = sorted({layer.scheme for layer in model.layers if isinstance(layer.op, ConvOp)})
    raise MismatchError(
        model.name,
        "overlay",
        found=f"weights in {', '.join(schemes) or 'no scheme'}",
        expected=f"one of the {product or 'known'} overlays to run them; "
        + ("; ".join(reasons) or "there is none"),
    )


def _preference(overlay: Overlay) -> tuple[int, str, int, str]:
    manifest = overlay.manifest
    scheme = SCHEMES[manifest.scheme]
    return scheme.bits, manifest.product, len(scheme.levels), manifest.name
