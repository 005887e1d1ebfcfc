"""From a float model and calibration images to a quantized model: prune, then quantize."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from bacmac.host.arith.engine import Engine
from bacmac.host.errors import InputError, MismatchError
from bacmac.host.importers.images import ImageSet
from bacmac.host.model.forward import FloatTensor, forward
from bacmac.host.model.inputs import Images, input_codes, normalized
from bacmac.host.model.layers import Conv, Model, Normalization
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.model.sparse_fit import Selection
from bacmac.host.pack.limits import MAX_KERNEL, MAX_STRIDE
from bacmac.host.prune.allocate import PROBE_IMAGES
from bacmac.host.prune.plan import COMPENSATED, Pruning, selections
from bacmac.host.quantize.activations import collect_statistics
from bacmac.host.quantize.budget import (
    Budget,
    LayerChoice,
    candidate_schemes,
    choose_schemes,
)
from bacmac.host.quantize.imported import quantize_imported
from bacmac.host.quantize.options import (
    QuantizeOptions,
    check_choice,
    layer_schemes,
    tensor_bits,
    weighted_layers,
)
from bacmac.host.quantize.quantizer import quantize_model, weight_scales
from bacmac.host.quantize.recognize import recognize_model
from bacmac.host.quantize.sensitivity import measure_sensitivity
from bacmac.host.quantize.shrink import without_silent_channels

Progress = Callable[[str, int, int], None]


IMPORTED = ("keep", "recognize", "requantize")


@dataclass(frozen=True)
class CompressOptions:
    """How a float model is compressed; the defaults are the shipped command's.

    Attributes:
        scheme: weight scheme of every layer that nothing else is said of.
        first_last: weight scheme of the first and the last layer with weights. Where it is given
            these two are exceptions in every way: `sparsity` does not apply to them either.
        schemes: weight schemes of single layers.
        sparsity: share of weights (or units of `structure`) made zero, 0 to below 1.
        sparsities: shares of single layers.
        structure: what goes to zero together: "weight", "channel", "block", "tile", or a pattern
            "N:M" (`prune.structures`).
        structures: of single layers.
        pruning: "compensated" (which weights go is decided jointly with rounding), "magnitude" or
            "pot-aware".
        scope: reach a share in each "layer", or "global" over all of them together; None is
            "global" where pruning is compensated, else "layer".
        group_sparsity: share of the array's time that empty groups save, 0 to below 1 ("layer": of
            each layer's groups). `sparsity` counts the weights of empty groups too.
        group_sparsities: shares of single layers.
        group: output channels and inputs of a group, from the overlay's geometry; needed where
            groups are pruned.
        rounding: "compensated" or "nearest".
        bias_correction: match each channel's mean output on the calibration images. None: yes
            where rounding is compensated; else both are tried and the one is kept whose outputs are
            nearer the float network's, on images of the set beyond those calibrated on where there
            are any.
        activation_bits: bits of stored activations, 2 to 8.
        activation_bits_table: bits of single tensors, by layer name or "input".
        calibration_images: how many images are used, from the start of the set.
        normalization: of pixels; None = the image set's own, or pixel / 255.
        imported: what becomes of a network that its file has quantized: "keep" its integers,
            "recognize" power-of-two levels among them, or "requantize" its floats.
        budget: what the weights may cost; the scheme of each layer is then chosen within it,
            except where `schemes` or `first_last` say which.
        budget_schemes: schemes to choose from; empty for the budget's own list.
        shift_only: every requantization is a shift: an accelerator without one multiplier.

    Raises:
        InputError: a value is out of range or not one of its choices.
    """

    scheme: str = "pot-4"
    first_last: str | None = None
    schemes: Mapping[str, str] = field(default_factory=dict)
    sparsity: float = 0.0
    sparsities: Mapping[str, float] = field(default_factory=dict)
    structure: str = "weight"
    structures: Mapping[str, str] = field(default_factory=dict)
    pruning: str = COMPENSATED
    scope: str | None = None
    group_sparsity: float = 0.0
    group_sparsities: Mapping[str, float] = field(default_factory=dict)
    group: tuple[int, int] | None = None
    rounding: str = "compensated"
    bias_correction: bool | None = None
    activation_bits: int = 8
    activation_bits_table: Mapping[str, int] = field(default_factory=dict)
    calibration_images: int = 512
    normalization: Normalization | None = None
    imported: str = "keep"
    budget: Budget | None = None
    budget_schemes: tuple[str, ...] = ()
    shift_only: bool = False

    def __post_init__(self) -> None:
        _ = self.quantize_options
        check_choice("imported", self.imported, IMPORTED)
        _ = self.pruning_of(())
        if self.calibration_images < 1:
            raise InputError(
                "options",
                "calibration_images",
                found=str(self.calibration_images),
                expected="1 or more",
            )

    @property
    def prunes_groups(self) -> bool:
        """Whether any layer loses whole groups."""
        return self.pruning_of(()).prunes_groups

    def pruning_of(self, ends: Collection[str]) -> Pruning:
        """The part that `prune` needs; `ends` are the names of the first and the last layer."""
        return Pruning(
            sparsity=self.sparsity,
            sparsities=self.sparsities,
            structure=self.structure,
            structures=self.structures,
            method=self.pruning,
            scope=self.scope,
            group_sparsity=self.group_sparsity,
            group_sparsities=self.group_sparsities,
            group=self.group,
            exclude=ends if self.first_last is not None else (),
        )

    @property
    def quantize_options(self) -> QuantizeOptions:
        """The part that `quantize` needs."""
        return QuantizeOptions(
            scheme=self.scheme,
            first_last=self.first_last,
            schemes=self.schemes,
            rounding=self.rounding,
            bias_correction=bool(self.bias_correction),
            activation_bits=self.activation_bits,
            activation_bits_table=self.activation_bits_table,
            shift_only=self.shift_only,
        )


def compress(
    model: Model,
    calibration: ImageSet | None,
    options: CompressOptions,
    *,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Prune and quantize a model. Deterministic: the same inputs give the same bits.

    Args:
        model: the float network.
        calibration: images like those it will see; labels are not used. None where the file has
            quantized everything and that is kept.
        options: what to do.
        progress: called with a stage, how much is done, and of how much.

    Raises:
        MismatchError: the images do not fit the model, or there are none.
        InputError: a table names a layer that does not exist, calibration met a NaN, or a
            kernel or stride is larger than an accelerator runs.
    """
    _check(model, options.quantize_options)
    if options.imported == "recognize":
        model = _recognized(model, options)
    if model.is_quantized and options.imported != "requantize":
        return _imported(model, calibration, options, progress)
    model = model.in_floats()
    if calibration is None:
        raise InputError(
            model.source or model.name,
            "calibration",
            found="no images",
            expected="images to quantize a float network with",
        )
    images = _images(model, calibration, options)
    normalization = _normalization(model, calibration, options)
    choices: tuple[LayerChoice, ...] = ()
    if options.budget is not None:
        choices = _choices(model, images, normalization, options, options.budget, progress)
        options = replace(options, schemes={choice.layer: choice.scheme for choice in choices})
    chosen = _selections(model, images, normalization, options, progress)
    statistics = collect_statistics(model, images, normalization, progress)

    def quantized(bias_correction: bool) -> QuantizedModel:
        def told(stage: str, done: int, total: int) -> None:
            if progress is not None:
                progress(f"{stage}{', biases' if bias_correction else ''}", done, total)

        found = quantize_model(
            model,
            images,
            normalization,
            replace(options.quantize_options, bias_correction=bias_correction),
            selections=chosen,
            statistics=statistics,
            provenance={
                **_provenance(model, calibration, options, len(images)),
                "bias_correction": bias_correction,
                **({"budget": [asdict(choice) for choice in choices]} if choices else {}),
            },
            progress=told,
        )
        by_channel = "channel" in (options.structure, *options.structures.values())
        return without_silent_channels(found) if by_channel else found

    if options.bias_correction is not None:
        return quantized(options.bias_correction)
    if options.rounding == "compensated":
        return quantized(True)
    fresh = calibration.images[len(images) : 2 * len(images)]
    judged = fresh if len(fresh) else images
    floats = forward(model, normalized(judged, normalization))
    candidates = (quantized(False), quantized(True))
    return min(candidates, key=lambda found: _output_error(found, judged, floats))


def _recognized(model: Model, options: CompressOptions) -> Model:
    """The model on the levels that its weights were found to lie on; its notes say which."""
    model, found = recognize_model(model, options.schemes)
    notes = [
        f"layer {known.layer!r}: {sentence}" for known in found for sentence in known.sentences()
    ]
    return replace(model, notes=(*model.notes, *notes))


def _imported(
    model: Model,
    calibration: ImageSet | None,
    options: CompressOptions,
    progress: Progress | None,
) -> QuantizedModel:
    """A network that its file has quantized; only what it has not is quantized here."""
    pruning = options.pruning_of(())
    for asked, what in (
        (pruning.prunes_units or pruning.prunes_groups, "pruning"),
        (options.budget is not None, "budget"),
        (options.shift_only, "shift_only"),
    ):
        if asked:
            raise InputError(
                model.source or model.name,
                what,
                found="a network that is quantized already, its integers kept",
                expected="nothing of this, or the weights quantized anew (imported: requantize)",
            )
    images = None if calibration is None else _images(model, calibration, options)
    provenance = _provenance(model, calibration, options, 0 if images is None else len(images))
    return quantize_imported(
        model,
        images,
        _normalization(model, calibration, options),
        options.quantize_options,
        provenance=provenance,
        progress=progress,
    )


def _choices(
    model: Model,
    images: Images,
    normalization: Normalization,
    options: CompressOptions,
    budget: Budget,
    progress: Progress | None,
) -> tuple[LayerChoice, ...]:
    candidates = candidate_schemes(model, options.quantize_options, options.budget_schemes)
    found = measure_sensitivity(model, images, normalization, candidates, progress)
    return choose_schemes(model, found, budget)


def _images(model: Model, calibration: ImageSet, options: CompressOptions) -> Images:
    images = calibration.images[: options.calibration_images]
    if images.shape[1:] != model.input_shape or not len(images):
        raise MismatchError(
            calibration.source,
            "images",
            found=f"{len(images)} images of {images.shape[1:]}",
            expected=f"at least one of {model.input_shape}",
        )
    return images


def _normalization(
    model: Model, calibration: ImageSet | None, options: CompressOptions
) -> Normalization:
    stored = None if calibration is None else calibration.normalization
    normalization = options.normalization or stored or Normalization()
    for name, values in (("mean", normalization.mean), ("std", normalization.std)):
        if len(values) not in (1, model.input_shape[0]):
            raise InputError(
                "normalization",
                name,
                found=f"{len(values)} values",
                expected=f"1, or one for each of {model.input_shape[0]} channels",
            )
    return normalization


def _check(model: Model, options: QuantizeOptions) -> None:
    """Refuse tables of unknown layers, and what no packed file holds, before the work begins."""
    layer_schemes(model, options)
    tensor_bits(model, options)
    for layer in model.layers:
        if not isinstance(layer, Conv):
            continue
        _, height, width = model.shapes[layer.input]
        top, left, bottom, right = layer.padding
        whole = (height + top + bottom, width + left + right)
        kernel = layer.weight.shape[2:]
        if max(kernel) > MAX_KERNEL and kernel != whole:
            raise InputError(
                model.source or model.name,
                f"layer {layer.name!r}",
                found=f"a kernel of {kernel[0]}x{kernel[1]}",
                expected=f"sides of 1 to {MAX_KERNEL}, or the whole input (a dense layer)",
            )
        if max(layer.stride) > MAX_STRIDE:
            raise InputError(
                model.source or model.name,
                f"layer {layer.name!r}",
                found=f"stride {layer.stride}",
                expected=f"1 to {MAX_STRIDE}",
            )


def _output_error(quantized: QuantizedModel, images: Images, floats: FloatTensor) -> float:
    """Mean squared difference of the integer network's outputs to the float network's, `floats`."""
    codes = input_codes(images, quantized.normalization, quantized.input_format)
    outputs = quantized.values(Engine(quantized.network).run(codes))
    return float(np.mean((outputs - floats) ** 2))


def _selections(
    model: Model,
    images: Images,
    normalization: Normalization,
    options: CompressOptions,
    progress: Progress | None,
) -> dict[str, Selection]:
    """Which weights each layer may lose."""
    names = weighted_layers(model)
    pruning = options.pruning_of((*names[:1], *names[-1:]))
    return selections(
        model,
        normalized(images[:PROBE_IMAGES], normalization),
        pruning,
        lambda: weight_scales(model, options.quantize_options),
        progress,
    )


def _provenance(
    model: Model,
    calibration: ImageSet | None,
    options: CompressOptions,
    n_images: int,
) -> dict[str, object]:
    """Plain JSON types; no time and no host name, so that the same inputs give the same file."""
    words = json.loads(json.dumps(asdict(options)))
    return {
        "tool": "bacmac",
        "version": importlib.metadata.version("bacmac"),
        "source": model.source,
        "source_sha256": model.source_sha256,
        "calibration": None
        if calibration is None
        else {
            "source": calibration.source,
            "sha256": calibration.sha256,
            "images": n_images,
        },
        "options": words,
    }
