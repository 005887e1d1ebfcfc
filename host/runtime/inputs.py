"""Image sets that fit a packed model."""

from __future__ import annotations

from pathlib import Path

from bacmac.host.errors import MismatchError
from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.model.quantized import QuantizedModel


def load_images_for(model: QuantizedModel, path: str | Path, limit: int | None = None) -> ImageSet:
    """Load an image set that a model can be given as it is.

    Args:
        model: its input shape is demanded, and its normalization where the file states one.
        path: the image set.
        limit: use only the first so many images.

    Raises:
        ImageFileError: the file cannot be used, or holds another shape.
        MismatchError: the file says that its pixels mean something else than the model was
            calibrated for: every result would be silently wrong.
    """
    image_set = load_images(path, shape=model.input_shape)
    stated = image_set.normalization
    if stated is not None and stated != model.normalization:
        raise MismatchError(
            path,
            "normalization",
            found=f"pixel_max {stated.pixel_max:g}, mean {stated.mean}, std {stated.std}",
            expected=f"pixel_max {model.normalization.pixel_max:g}, "
            f"mean {model.normalization.mean}, std {model.normalization.std}, "
            f"as model {model.name!r} was packed",
        )
    return image_set.first(limit)
