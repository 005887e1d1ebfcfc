"""What is synthesized: the overlays, and the multiplier that nobody has looked at twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bacmac.host.errors import OverlayError
from bacmac.host.manifest.overlay import Geometry, Manifest
from bacmac.overlays.registry import list_overlays, load_overlay

PRODUCT_TERMS = {"uniform-4": 0, "pot-4e4": 2, "pot-4": 3, "uniform-8": 4}
"""PRODUCT of `bacmac_lane` for the scheme that an overlay executes."""
NAIVE_TERM = 1
NAIVE = "mac-uniform4-star"
"""The naive baseline: `*` where mac-uniform4 has its product term. It has no manifest."""
MAGNITUDE_BITS = {0: 3, 1: 3, 2: 3, 3: 3, 4: 7}


@dataclass(frozen=True)
class Configuration:
    """One build of the RTL: a manifest, and the number of its product term."""

    name: str
    manifest: Manifest
    product: int

    @property
    def geometry(self) -> Geometry:
        """The array."""
        return self.manifest.geometry

    @property
    def n_products(self) -> int:
        """Products a cycle."""
        return self.geometry.inputs * self.geometry.outputs

    @property
    def lane_parameters(self) -> dict[str, int]:
        """Of `bacmac_lane`."""
        return {
            "IN": self.geometry.inputs,
            "PRODUCT": self.product,
            "MAG": MAGNITUDE_BITS[self.product],
        }

    @property
    def engine_parameters(self) -> dict[str, int]:
        """Of the modules from `bacmac_engine` upwards."""
        buffers = self.manifest.buffers
        return {
            "IN": self.geometry.inputs,
            "OUT": self.geometry.outputs,
            "TILE": self.geometry.pixel_tile,
            "PRODUCT": self.product,
            "ACTIVATION_BYTES": buffers.activation_bytes,
            "WEIGHT_BYTES": buffers.weight_bytes,
            "CONSTANT_BYTES": buffers.constant_bytes,
            "PROGRAM_BYTES": buffers.program_bytes,
        }

    def resized(self, inputs: int, outputs: int) -> Configuration:
        """The same design with an array of another size."""
        geometry = replace(
            self.geometry,
            inputs=inputs,
            outputs=outputs,
            group_inputs=inputs,
            group_outputs=outputs,
        )
        manifest = replace(self.manifest, geometry=geometry, beat_bytes=inputs)
        return replace(self, name=f"{self.name} {inputs}x{outputs}", manifest=manifest)


def find_configurations(
    names: Sequence[str] = (), folders: Sequence[Path] = ()
) -> tuple[Configuration, ...]:
    """The configurations of that names; without names every overlay and the naive baseline.

    Raises:
        OverlayError: no such overlay, or it executes a scheme that no product term is for.
    """
    if not names:
        found = [overlay.manifest for overlay in list_overlays(folders)]
        return (*(_configuration(m) for m in found), _naive(folders))
    return tuple(
        _naive(folders) if name == NAIVE else _configuration(load_overlay(name, folders).manifest)
        for name in names
    )


def _naive(folders: Sequence[Path]) -> Configuration:
    manifest = load_overlay("mac-uniform4", folders).manifest
    return Configuration(NAIVE, replace(manifest, name=NAIVE), NAIVE_TERM)


def _configuration(manifest: Manifest) -> Configuration:
    product = PRODUCT_TERMS.get(manifest.scheme)
    if product is None:
        raise OverlayError(
            manifest.name,
            "scheme",
            found=manifest.scheme,
            expected=f"one that the RTL has a product term for: {', '.join(PRODUCT_TERMS)}",
        )
    return Configuration(manifest.name, manifest, product)
