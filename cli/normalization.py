"""How the pixels of an image set become the float network's input: options and defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
import numpy as np

from bacmac.cli.output import note
from bacmac.host.errors import InputError
from bacmac.host.importers.images import ImageSet
from bacmac.host.model.layers import Normalization

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--pixel-max", type=float, help="Pixel that means 1.0 [default: the set's, or 255]."
    ),
    click.option(
        "--mean", metavar="M[,M...]", help="Mean of the input, one value or one a channel."
    ),
    click.option("--std", metavar="S[,S...]", help="Standard deviation of the input, likewise."),
)


def normalization_options(command: _Command) -> _Command:
    """Add --pixel-max, --mean and --std to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def resolve_normalization(
    images: ImageSet | None,
    pixel_max: float | None,
    mean: str | None,
    std: str | None,
    *,
    channels: int | None = None,
) -> Normalization:
    """What the options say, completed by the image set, completed by pixel / 255.

    Says on standard error when nobody said anything of pixels.

    Args:
        images: the set, if there is one.
        pixel_max: --pixel-max.
        mean: --mean.
        std: --std.
        channels: of the network, where there is no set.

    Raises:
        InputError: an option is no number, or there are not 1 or as many as channels.
    """
    known = (images.normalization if images is not None else None) or Normalization()
    pixels = images is None or (images.normalization is None and images.images.dtype == np.uint8)
    if pixel_max is None and mean is None and std is None:
        if pixels:
            note(
                "Pixels are taken as pixel / 255: neither the image set nor --pixel-max, --mean "
                "or --std says how the network wants them. Another normalization ruins the "
                "accuracy."
            )
        return known
    n_channels = images.images.shape[1] if images is not None else channels or 1
    return Normalization(
        pixel_max=known.pixel_max if pixel_max is None else _positive("--pixel-max", pixel_max),
        mean=known.mean if mean is None else _numbers("--mean", mean, n_channels),
        std=known.std
        if std is None
        else tuple(_positive("--std", value) for value in _numbers("--std", std, n_channels)),
    )


def _numbers(option: str, text: str, channels: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(option, "value", found=repr(text), expected="numbers") from error
    if len(values) not in (1, channels) or not all(abs(value) < 1e9 for value in values):
        raise InputError(
            option, "value", found=repr(text), expected=f"1 or {channels} finite numbers"
        )
    return values


def _positive(option: str, value: float) -> float:
    if not 0 < value < 1e9:
        raise InputError(option, "value", found=str(value), expected="a number above 0")
    return value
