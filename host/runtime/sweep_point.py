"""One point of a sweep: compress a model in one way and say what it costs and how right it is.

A point is a function of its specification and of nothing else: of the bytes of three files, named
by their digests, of options, and of the release. Specification and result are plain data that
survive JSON, so that a point can be made by another process or on another machine.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bacmac.host.compile.array_work import Array
from bacmac.host.compile.work import Work
from bacmac.host.errors import CompileError, InputError, MismatchError
from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.manifest.overlay import Geometry
from bacmac.host.model.layers import Model, Normalization
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.pack.file import read_packed, write_packed
from bacmac.host.pack.formats import choose_formats
from bacmac.host.quantize.budget import parse_budget
from bacmac.host.runtime.evaluate import evaluate_float
from bacmac.host.runtime.score import (
    ArrayWork,
    Progress,
    Score,
    Size,
    check_scorable,
    exact_score,
    packed_size,
    work_on,
)

Option = str | int | float | bool | None


@dataclass(frozen=True)
class ImagePart:
    """Images `start` to below `stop` of a set.

    Attributes:
        path: where it lies here; no part of what a point is.
        sha256: of the file.
    """

    path: str
    sha256: str
    start: int
    stop: int

    def load(self, model: Model) -> ImageSet:
        """The images, of the model's shape.

        Raises:
            ImageFileError: the file cannot be used.
            MismatchError: it is another file than it was.
        """
        whole = load_images(self.path, shape=model.input_shape)
        _check_digest(self.path, whole.sha256, self.sha256)
        labels = whole.labels
        return replace(
            whole,
            images=whole.images[self.start : self.stop],
            labels=None if labels is None else labels[self.start : self.stop],
        )


@dataclass(frozen=True)
class PointSpec:
    """What makes a point.

    Attributes:
        model: path of the model file.
        layers: path of the layer list of a file that holds weights alone, or None.
        model_sha256: digest of both, `Model.source_sha256`.
        calibration: images that the compression may look at.
        test: images with labels that accuracy is measured on.
        normalization: of pixels.
        options: fields of `CompressOptions` that are not at their default; None for the model as
            its file has it, uncompressed.
        arrays: that the work is counted for: the first that executes the weights.
        release: of bacmac.
    """

    model: str
    layers: str | None
    model_sha256: str
    calibration: ImagePart
    test: ImagePart
    normalization: Normalization
    options: Mapping[str, Option] | None
    arrays: tuple[Array, ...] = ()
    release: str = importlib.metadata.version("bacmac")

    @property
    def key(self) -> str:
        """Digest of everything that the result depends on; paths are not among it."""
        parts = self.to_json()
        del parts["model"], parts["layers"]
        for images in ("calibration", "test"):
            del parts[images]["path"]
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        options = None if self.options is None else dict(self.options)
        result: dict[str, Any] = json.loads(
            json.dumps(asdict(replace(self, options=None)), allow_nan=False)
        )
        return {**result, "options": options}

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> PointSpec:
        """Undo `to_json`, which must have made it."""
        pixels = fields["normalization"]
        normalization = Normalization(
            pixels["pixel_max"], tuple(pixels["mean"]), tuple(pixels["std"])
        )
        arrays = (
            Array(**{**array, "geometry": Geometry(**array["geometry"])})
            for array in fields["arrays"]
        )
        return PointSpec(
            **{
                **fields,
                "calibration": ImagePart(**fields["calibration"]),
                "test": ImagePart(**fields["test"]),
                "normalization": normalization,
                "arrays": tuple(arrays),
            }
        )


@dataclass(frozen=True)
class SweepPoint:
    """What became of a specification.

    Attributes:
        key: the specification's.
        options: likewise.
        refused: why the model cannot be compressed so; "" where it was.
        score: accuracy by the exact engine; for the model as it is, by its float definition.
        size: None for the model as it is.
        array: None where no array executes the weights, and for the model as it is.
    """

    key: str
    options: Mapping[str, Option] | None
    refused: str = ""
    score: Score | None = None
    size: Size | None = None
    array: ArrayWork | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        result: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return result

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> SweepPoint:
        """Undo `to_json`.

        Raises:
            KeyError, TypeError, ValueError: it did not make this.
        """
        score, size, array = fields["score"], fields["size"], fields["array"]
        return SweepPoint(
            str(fields["key"]),
            fields["options"],
            str(fields["refused"]),
            None if score is None else Score(**score),
            None if size is None else Size(**size),
            None if array is None else ArrayWork(**{**array, "work": Work(**array["work"])}),
        )


def run_point(
    spec: PointSpec, *, keep: Path | None = None, progress: Progress | None = None
) -> SweepPoint:
    """Make one point. Each layer is stored in the smallest format.

    Args:
        spec: what to do.
        keep: where to leave the packed model.
        progress: called with a stage, how much is done, and of how much.

    Raises:
        InputError: a file cannot be read, is another than it was, or cannot be scored.
        OutputError: the packed model cannot be written.
    """
    model = load_model(spec.model, spec.layers)
    _check_digest(spec.model, model.source_sha256, spec.model_sha256)
    test = spec.test.load(model)
    check_scorable(test, model.name, model.output_shape)
    if spec.options is None:
        found = evaluate_float(model, test, spec.normalization, progress)
        return SweepPoint(spec.key, None, score=Score.of(found.classes == test.labels))
    calibration = spec.calibration.load(model)
    with tempfile.TemporaryDirectory() as folder:
        path = keep or Path(folder) / "packed.safetensors"
        try:
            options = compress_options(spec.options, spec.normalization, spec.arrays)
            quantized = compress(model, calibration, options, progress=progress)
            chosen = choose_formats(quantized)
            write_packed(path, quantized, {name: how.name for name, how in chosen.items()})
            packed = read_packed(path)
            score = exact_score(packed.model, test, progress)
        except (InputError, CompileError) as error:
            return SweepPoint(spec.key, dict(spec.options), refused=str(error))
    return SweepPoint(
        spec.key,
        dict(spec.options),
        score=score,
        size=packed_size(packed),
        array=work_on(packed.model, spec.arrays),
    )


def compress_options(
    options: Mapping[str, Option], normalization: Normalization, arrays: Sequence[Array]
) -> CompressOptions:
    """The options of a specification; groups are those of its first array, a budget is one of bits.

    Raises:
        InputError: a value is out of range or not one of its choices.
    """
    fields: dict[str, Any] = dict(options)
    if fields.get("group_sparsity") and arrays:
        geometry = arrays[0].geometry
        fields["group"] = (geometry.group_outputs, geometry.group_inputs)
    if fields.get("budget"):
        fields["budget"] = parse_budget(fields["budget"], {})
    return CompressOptions(**fields, normalization=normalization)


def _check_digest(path: str, found: str, expected: str) -> None:
    if found != expected:
        raise MismatchError(
            path,
            "sha256",
            found=found,
            expected=f"{expected}, as when the sweep was planned",
            hint="a file must not change while a sweep runs",
        )
