"""What is synthesized: the overlays, and the multiplier that nobody has looked at twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bacmac.host.device.rtl.parameters import PRODUCTS, rtl_parameters
from bacmac.host.errors import OverlayError
from bacmac.host.manifest.overlay import Buffers, Geometry, Manifest, Overlay
from bacmac.overlays.registry import list_overlays, load_overlay

PRODUCT_TERMS = {scheme: number for (_, scheme), number in PRODUCTS.items()}
"""PRODUCT of `bacmac_lane` for the scheme that an overlay executes."""
NAIVE_TERM = 1
NAIVE = "mac-uniform4-star"
"""The naive baseline: `*` where mac-uniform4 has its product term. It has no manifest."""
MAGNITUDE_BITS = {0: 3, 1: 3, 2: 3, 3: 3, 4: 7}


@dataclass(frozen=True)
class Configuration:
    """One build of the RTL: an overlay, and the number of its product term."""

    overlay: Overlay
    product: int

    @property
    def name(self) -> str:
        """The overlay's."""
        return self.manifest.name

    @property
    def manifest(self) -> Manifest:
        """The overlay's."""
        return self.overlay.manifest

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
        whole = rtl_parameters(self.manifest, self.product)
        return {name: whole[name] for name in whole if name not in ("MAX_LAYERS", "BUILD_ID")}

    def resized(self, inputs: int, outputs: int, buffers: Buffers | None = None) -> Configuration:
        """The same design with another array, and other memories where they are given."""
        geometry = replace(
            self.geometry,
            inputs=inputs,
            outputs=outputs,
            group_inputs=inputs,
            group_outputs=outputs,
        )
        manifest = replace(
            self.manifest,
            name=f"{self.name} {inputs}x{outputs}",
            geometry=geometry,
            beat_bytes=inputs,
            buffers=buffers or self.manifest.buffers,
        )
        return replace(self, overlay=replace(self.overlay, manifest=manifest))


def find_configurations(
    names: Sequence[str] = (), folders: Sequence[Path] = ()
) -> tuple[Configuration, ...]:
    """The configurations of that names; without names every overlay and the naive baseline.

    Raises:
        OverlayError: no such overlay, or it executes a scheme that no product term is for.
    """
    if not names:
        return (*(_configuration(found) for found in list_overlays(folders)), _naive(folders))
    return tuple(
        _naive(folders) if name == NAIVE else _configuration(load_overlay(name, folders))
        for name in names
    )


def _naive(folders: Sequence[Path]) -> Configuration:
    overlay = load_overlay("mac-uniform4", folders)
    return Configuration(
        replace(overlay, manifest=replace(overlay.manifest, name=NAIVE)), NAIVE_TERM
    )


def _configuration(overlay: Overlay) -> Configuration:
    manifest = overlay.manifest
    product = PRODUCT_TERMS.get(manifest.scheme)
    if product is None:
        raise OverlayError(
            manifest.name,
            "scheme",
            found=manifest.scheme,
            expected=f"one that the RTL has a product term for: {', '.join(PRODUCT_TERMS)}",
        )
    return Configuration(overlay, product)
