"""Any source of images, cut into the batches that a device takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import numpy as np

from bacmac.host.arith.network import Shape
from bacmac.host.errors import MismatchError
from bacmac.host.model.inputs import Images

ImageSource = Images | Iterable[Images]
"""Images (N, C, H, W), or any number of images (C, H, W) and blocks of them (n, C, H, W)."""


def device_batches(n_images: int, largest: int) -> tuple[int, ...]:
    """Sizes of the device batches that a batch of so many images is split into.

    As few as can be, as equal as can be, the larger ones first.

    >>> device_batches(1000, 300)
    (250, 250, 250, 250)
    >>> device_batches(11, 4)
    (4, 4, 3)
    """
    n_batches = -(-n_images // largest)
    size, larger = divmod(n_images, n_batches)
    return (size + 1,) * larger + (size,) * (n_batches - larger)


def rebatch(source: ImageSource, shape: Shape, sizes: Sequence[int]) -> Iterator[Images]:
    """Blocks of images of these sizes, over and over, until the source is at its end.

    Args:
        source: is asked for no more than the next block needs.
        shape: (C, H, W) of an image.
        sizes: images of a block; the last block may be smaller.

    Yields:
        (n, C, H, W), of the source's dtype; views where an array can be cut.

    Raises:
        MismatchError: an image of the source is of another shape or type, or it gives images of
            two types. What the source itself raises passes through.
    """
    waiting: list[Images] = []
    n_waiting = n_taken = 0
    wanted = itertools.cycle(sizes)
    size = next(wanted)
    for block in _blocks(source, shape):
        if waiting and block.dtype != waiting[0].dtype:
            raise MismatchError(
                f"image {n_taken}",
                "dtype",
                found=str(block.dtype),
                expected=f"{waiting[0].dtype}, as the images before it",
            )
        n_taken += len(block)
        start = 0
        while n_waiting + len(block) - start >= size:
            stop = start + size - n_waiting
            yield _joined([*waiting, block[start:stop]])
            waiting, n_waiting, start, size = [], 0, stop, next(wanted)
        if start < len(block):
            waiting.append(block[start:])
            n_waiting += len(block) - start
    if waiting:
        yield _joined(waiting)


def check_images(images: Images, shape: Shape, name: str = "images") -> None:
    """Refuse images that are not (n, C, H, W) of uint8 or float32.

    Raises:
        MismatchError: saying what they are, by that name.
    """
    if images.ndim != 4 or images.shape[1:] != shape:
        raise MismatchError(
            name,
            "shape",
            found=str(images.shape),
            expected=f"(N, {shape[0]}, {shape[1]}, {shape[2]}), the model's input",
        )
    if images.dtype not in (np.uint8, np.float32):
        raise MismatchError(name, "dtype", found=str(images.dtype), expected="uint8 or float32")


def _blocks(source: ImageSource, shape: Shape) -> Iterator[Images]:
    if isinstance(source, np.ndarray):
        check_images(source, shape)
        yield source
        return
    first = 0
    for item in source:
        if not isinstance(item, np.ndarray):
            raise MismatchError(
                f"image {first}", "type", found=type(item).__name__, expected="a NumPy array"
            )
        block = item[None] if item.ndim == len(shape) else item
        check_images(block, shape, f"image {first}")
        yield block
        first += len(block)


def _joined(parts: list[Images]) -> Images:
    if len(parts) == 1:
        return parts[0]
    return cast(Images, np.concatenate(parts))
