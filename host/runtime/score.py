"""How right a packed network is, and what it takes: bits, products, cycles of an array."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import Shape
from bacmac.host.compile.array_work import Array, array_work, choose_array
from bacmac.host.compile.work import Work
from bacmac.host.errors import ImageFileError, MismatchError
from bacmac.host.importers.images import ImageSet
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.file import PackedModel
from bacmac.host.pack.formats import choose_formats
from bacmac.host.pack.summary import summarize
from bacmac.host.runtime.pareto import Correct

BLOCK_IMAGES = 256
"""Images that are turned into codes at a time."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Score:
    """How right a network is.

    Attributes:
        n_images, n_correct: of the test images.
        correct: one bit an image, the first in the highest bit of the first byte, as hex digits.
    """

    n_images: int
    n_correct: int
    correct: str

    @property
    def accuracy(self) -> float:
        """Share of images classified right."""
        return self.n_correct / self.n_images

    @property
    def standard_error(self) -> float:
        """Binomial standard error of `accuracy`."""
        p = self.accuracy
        return float(np.sqrt(p * (1.0 - p) / self.n_images))

    @property
    def flags(self) -> Correct:
        """(n_images,) whether each image was classified right."""
        packed = np.frombuffer(bytes.fromhex(self.correct), np.uint8)
        return np.unpackbits(packed, count=self.n_images).astype(np.bool_)

    @staticmethod
    def of(correct: Correct) -> Score:
        """The score of (n,) right or wrong answers."""
        digits = np.packbits(correct).tobytes().hex()
        return Score(len(correct), int(np.count_nonzero(correct)), digits)


@dataclass(frozen=True)
class Size:
    """What the weights are and take; structural layers are not counted.

    Attributes:
        n_weights, n_zeros: of all layers.
        code_bits: bits of one dense code, a mean over all weights.
        weight_bytes: of the packed codes, as stored in the file.
        bytes_by_format: the same, by storage format.
        file_bytes: of the whole packed file.
        n_macs: multiply-accumulates of one image.
        n_products: of these, how many have a weight that is not zero.
    """

    n_weights: int
    n_zeros: int
    code_bits: float
    weight_bytes: int
    bytes_by_format: Mapping[str, int]
    file_bytes: int
    n_macs: int
    n_products: int

    @property
    def sparsity(self) -> float:
        """Share of zero weights."""
        return self.n_zeros / self.n_weights

    @property
    def stored_bits(self) -> float:
        """Bits that a weight takes in the file."""
        return 8 * self.weight_bytes / self.n_weights

    @property
    def density(self) -> float:
        """Share of the products that are not with zero."""
        return self.n_products / self.n_macs


@dataclass(frozen=True)
class ArrayWork:
    """Work of one image on the array that executes the weights."""

    overlay: str
    scheme: str
    work: Work

    @property
    def skipped(self) -> float:
        """Share of the array's cycles that empty groups save."""
        slots = self.work.products_done + self.work.products_isolated + self.work.products_skipped
        return self.work.products_skipped / slots if slots else 0.0


def exact_score(
    model: QuantizedModel, image_set: ImageSet, progress: Progress | None = None
) -> Score:
    """Accuracy of a quantized network on the host, by the exact engine: any device has the same.

    Raises:
        InputError: as `check_scorable`.
        CompileError: an accumulator may overflow int32.
    """
    check_scorable(image_set, model.name, model.network.shapes[-1])
    engine, n_images = Engine(model.network), len(image_set.images)
    classes = []
    for start in range(0, n_images, BLOCK_IMAGES):
        block = image_set.images[start : start + BLOCK_IMAGES]
        codes = input_codes(block, model.normalization, model.input_format)
        outputs = model.values(engine.run(codes))
        classes.append(outputs.reshape(len(block), -1).argmax(1))
        if progress is not None:
            progress("exact engine", start + len(block), n_images)
    return Score.of(np.concatenate(classes) == image_set.labels)


def check_scorable(image_set: ImageSet, name: str, output_shape: Shape) -> None:
    """Refuse images without labels, and a network (of this name) without one value a class.

    Raises:
        ImageFileError: the images have no labels.
        MismatchError: the network's output (C, H, W) is a map.
    """
    if image_set.labels is None:
        raise ImageFileError(
            image_set.source, "labels", found="no such array", expected="the class of each image"
        )
    if output_shape[1:] != (1, 1):
        raise MismatchError(
            name,
            "output",
            found=f"a map of {output_shape}",
            expected="one value a class, to be compared with the labels",
        )


def packed_size(packed: PackedModel) -> Size:
    """What a packed model's weights are and take."""
    *layers, total = summarize(packed.model)
    n_bytes: dict[str, int] = {}
    for layer in layers:
        if layer.n_weights:
            stored = packed.layer_formats[layer.name]
            n_bytes[stored] = n_bytes.get(stored, 0) + packed.layer_bytes[layer.name]
    return Size(
        n_weights=total.n_weights,
        n_zeros=total.n_zeros,
        code_bits=total.bits_per_weight,
        weight_bytes=sum(n_bytes.values()),
        bytes_by_format=n_bytes,
        file_bytes=packed.n_bytes,
        n_macs=total.macs,
        n_products=total.n_products,
    )


def possible_bytes(model: QuantizedModel) -> dict[str, int]:
    """Bytes that all weights would take, by storage format.

    Formats that hold every layer, of N:M the best N, and the smallest format for each layer.
    """
    weighted = {layer.name for layer in model.layers if layer.has_weights}
    sizes = [how.n_bytes for name, how in choose_formats(model).items() if name in weighted]
    totals = {}
    for name in ("dense", "bitmap", "coo", "nm"):
        kinds = [[n for full, n in own.items() if full.partition("-")[0] == name] for own in sizes]
        if all(kinds):
            totals[name] = sum(min(own) for own in kinds)
    return {**totals, "smallest each": sum(min(own.values()) for own in sizes)}


def work_on(model: QuantizedModel, arrays: Sequence[Array]) -> ArrayWork | None:
    """Work of one image on the first array that executes the weights; None where none does."""
    array = choose_array(model, arrays)
    if array is None:
        return None
    return ArrayWork(array.overlay, array.scheme, array_work(model, array))
