"""Read an image set: pixels still to be normalized, or floats that already are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import Shape
from bacmac.host.errors import ImageFileError
from bacmac.host.importers.arrays import ArrayFile, open_arrays
from bacmac.host.model.inputs import Images
from bacmac.host.model.layers import Normalization


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with what their file says of them.

    Attributes:
        images: (N, C, H, W): uint8 pixels, or float32 already normalized.
        labels: int64 (N,) of class numbers, or None.
        normalization: what the file says of its pixels, or None where it says nothing.
        source: the file, as given.
        sha256: hex digest of the file.
    """

    images: Images
    labels: npt.NDArray[np.int64] | None
    normalization: Normalization | None
    source: str
    sha256: str

    def first(self, limit: int | None) -> ImageSet:
        """The first `limit` images with their labels; all of them for None."""
        labels = self.labels
        return replace(
            self,
            images=self.images[:limit],
            labels=None if labels is None else labels[:limit],
        )


def load_images(path: str | Path, *, shape: Shape | None = None) -> ImageSet:
    """Images of a `.npz` (arrays `images`, and `labels`, `pixel_max`, `mean`, `std` if there) or
    of a `.npy` (the images alone).

    Images are uint8 or float32, (N, C, H, W), or (N, H, W) of one channel. (N, H, W, C) is only
    understood where `shape` is given and fits no other way. Other arrays are ignored.

    Args:
        path: the file.
        shape: (C, H, W) that a model takes.

    Raises:
        ImageFileError: the file cannot be read safely, is empty, holds NaN or infinity, another
            type or another shape, or its parts do not belong together.
    """  # noqa: D205
    arrays = open_arrays(path, ImageFileError)
    name = "images" if arrays.names != ("",) else ""
    images = _images(arrays.read(name), path, shape)
    labels = _labels(arrays, len(images))
    return ImageSet(
        images, labels, _normalization(arrays, images.shape[1]), str(path), arrays.sha256
    )


def _images(images: npt.NDArray[Any], path: str | Path, shape: Shape | None) -> Images:
    if images.dtype not in (np.uint8, np.float32):
        raise ImageFileError(
            path,
            "images",
            found=str(images.dtype),
            expected="uint8 pixels, or float32 already normalized",
        )
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        raise ImageFileError(
            path, "images", found=f"shape {images.shape}", expected="(N, C, H, W) or (N, H, W)"
        )
    if images.size == 0:
        raise ImageFileError(
            path, "images", found=f"shape {images.shape}", expected="one image or more"
        )
    if shape is not None and images.shape[1:] != shape:
        channels, height, width = shape
        if images.shape[1:] != (height, width, channels):
            raise ImageFileError(
                path, "images", found=f"images of {images.shape[1:]}", expected=f"{shape}"
            )
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if images.dtype == np.float32:
        bad = np.flatnonzero(~np.isfinite(images).all((1, 2, 3)))
        if bad.size:
            raise ImageFileError(
                path,
                f"images[{bad[0]}]",
                found=f"NaN or infinity in {bad.size} images",
                expected="finite values",
            )
        return images.astype(np.float32, copy=False)
    return images.astype(np.uint8, copy=False)


def _labels(arrays: ArrayFile, n_images: int) -> npt.NDArray[np.int64] | None:
    if "labels" not in arrays:
        return None
    labels = arrays.read("labels")
    if labels.dtype.kind not in "iu" or labels.shape != (n_images,):
        raise ImageFileError(
            arrays.path,
            "labels",
            found=f"{labels.dtype} {labels.shape}",
            expected=f"integers ({n_images},), one an image",
        )
    if int(labels.min()) < 0 or int(labels.max()) >= 1 << 31:
        raise ImageFileError(
            arrays.path,
            "labels",
            found=f"{labels.min()} to {labels.max()}",
            expected="class numbers from 0",
        )
    return labels.astype(np.int64)


def _normalization(arrays: ArrayFile, channels: int) -> Normalization | None:
    """What the file says of its pixels; a part that is left out has its usual value."""
    said = {
        name: _constants(arrays, name, 1 if name == "pixel_max" else channels)
        for name in ("pixel_max", "mean", "std")
        if name in arrays
    }
    if not said:
        return None
    for name in ("pixel_max", "std"):
        if min(said.get(name, (1.0,))) <= 0:
            raise ImageFileError(arrays.path, name, found=f"{min(said[name]):g}", expected="> 0")
    usual = Normalization()
    return Normalization(
        said.get("pixel_max", (usual.pixel_max,))[0],
        said.get("mean", usual.mean),
        said.get("std", usual.std),
    )


def _constants(arrays: ArrayFile, name: str, channels: int) -> tuple[float, ...]:
    values = arrays.read(name)
    if values.ndim > 1 or values.size not in (1, channels) or values.dtype.kind not in "iuf":
        raise ImageFileError(
            arrays.path,
            name,
            found=f"{values.dtype} {values.shape}",
            expected="one number" if channels == 1 else f"one number, or {channels}",
        )
    if not np.isfinite(values).all():
        raise ImageFileError(arrays.path, name, found="NaN or infinity", expected="finite numbers")
    return tuple(float(value) for value in values.ravel())
