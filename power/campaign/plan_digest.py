"""The digest of a campaign: two plans of one digest are one campaign."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import numpy as np

from bacmac.host.errors import OverlayError
from bacmac.host.importers.images import ImageSet
from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.bundle import bundle_files
from bacmac.power.campaign.plan import CampaignPlan


def resolved_sha256(plan: CampaignPlan) -> str:
    """Digest of all that decides a campaign: the text, what it names, and the defaults it takes.

    Overlays count by their manifest, register map, and bitstream and hand-off where they exist;
    models by their file; images by their arrays. Where they lie does not count.

    Raises:
        OverlayError: a bitstream that is there cannot be read.
    """
    resolved = {
        "text": plan.text,
        "board": plan.board,
        "device": plan.device,
        "rails": plan.rails,
        "rail_names": plan.rail_names,
        "images": _images_sha256(plan.images),
        "arms": [
            [arm.name, arm.overlay.sha256, *_built_sha256(arm.overlay), arm.model.sha256]
            for arm in plan.arms
        ],
        "cells": [asdict(cell) for cell in plan.cells],
        "pairs": [asdict(pair) for pair in plan.pairs],
        "design": asdict(plan.design),
        "limits": asdict(plan.limits),
        "accept_timing": plan.accept_timing,
    }
    return hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()


def _built_sha256(overlay: Overlay) -> tuple[str, ...]:
    """Digests of bitstream and hand-off, "" for one that does not exist yet."""
    files = bundle_files(overlay)
    digests = []
    for path in (files.bitstream, files.hwh):
        try:
            digests.append(hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        except OSError as error:
            raise OverlayError(
                path, "file", found=error.strerror or str(error), expected="a readable file"
            ) from error
    return tuple(digests)


def _images_sha256(images: ImageSet) -> str:
    digest = hashlib.sha256()
    for array in (images.images, images.labels):
        if array is None:
            digest.update(b"no labels")
            continue
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
