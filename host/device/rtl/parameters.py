"""The RTL's sources, and the parameters that make them a manifest's overlay.

The simulator, the estimates and the bitstream are built from the same files with these.
"""

from __future__ import annotations

from pathlib import Path

from bacmac.host.errors import DeviceError
from bacmac.host.manifest.overlay import Manifest

SOURCE_FOLDER = Path(__file__).resolve().parents[3] / "hw_src"
"""Beside `host`, in a checkout and in an installed package alike."""
PRODUCTS = {
    ("mac", "uniform-4"): 0,
    ("bac", "pot-4e4"): 2,
    ("bac", "pot-4"): 3,
    ("mac", "uniform-8"): 4,
}
"""Values of the RTL's parameter PRODUCT; 1 is the 4-bit multiplier written as `*`, a baseline."""


def rtl_parameters(manifest: Manifest, product: int | None = None) -> dict[str, int]:
    """Parameters of `bacmac_top` that make it the manifest's overlay.

    Args:
        manifest: of the overlay.
        product: another PRODUCT than the manifest's, for a baseline that has none.

    Raises:
        DeviceError: the RTL has no product term for the manifest's scheme.
    """
    if product is None:
        product = PRODUCTS.get((manifest.product, manifest.scheme))
    if product is None:
        raise DeviceError(
            f"the RTL has no {manifest.product} product term for {manifest.scheme} weights "
            f"(overlay {manifest.name})"
        )
    geometry, buffers = manifest.geometry, manifest.buffers
    return {
        "IN": geometry.inputs,
        "OUT": geometry.outputs,
        "TILE": geometry.pixel_tile,
        "PRODUCT": product,
        "ACTIVATION_BYTES": buffers.activation_bytes,
        "WEIGHT_BYTES": buffers.weight_bytes,
        "CONSTANT_BYTES": buffers.constant_bytes,
        "PROGRAM_BYTES": buffers.program_bytes,
        "MAX_LAYERS": buffers.max_descriptors,
        "BUILD_ID": manifest.build_id,
    }
