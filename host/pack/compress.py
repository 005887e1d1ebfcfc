"""From a float model and calibration images to a quantized model: prune, then quantize."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import ConvOp, Op, Shape
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError, MismatchError
from bacmac.host.importers.images import ImageSet
from bacmac.host.model.forward import FloatTensor, forward
from bacmac.host.model.inputs import Images, input_codes, normalized
from bacmac.host.model.layers import Conv, Model, Normalization
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.parse import MAX_KERNEL, MAX_STRIDE
from bacmac.host.prune.masks import METHODS, SCOPES, Masks, prune
from bacmac.host.quantize.activations import collect_statistics
from bacmac.host.quantize.options import (
    QuantizeOptions,
    check_choice,
    layer_schemes,
    tensor_bits,
    weighted_layers,
)
from bacmac.host.quantize.quantizer import quantize_model, weight_scales

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CompressOptions:
    """How a float model is compressed; the defaults are the shipped command's.

    Attributes:
        scheme: weight scheme of every layer that nothing else is said of.
        first_last: weight scheme of the first and the last layer with weights. Where it is given
            these two are exceptions in every way: `sparsity` does not apply to them either.
        schemes: weight schemes of single layers.
        sparsity: share of zero weights, 0 to below 1.
        sparsities: shares of single layers.
        pruning: "magnitude" or "pot-aware".
        scope: reach `sparsity` in each "layer", or "global" over all of them together.
        rounding: "compensated" or "nearest".
        bias_correction: match each channel's mean output on the calibration images. None tries
            both and keeps the one whose outputs are nearer the float network's, on images of the
            set beyond those calibrated on where there are any.
        activation_bits: bits of stored activations, 2 to 8.
        activation_bits_table: bits of single tensors, by layer name or "input".
        calibration_images: how many images are used, from the start of the set.
        normalization: of pixels; None = the image set's own, or pixel / 255.

    Raises:
        InputError: a value is out of range or not one of its choices.
    """

    scheme: str = "pot-4"
    first_last: str | None = None
    schemes: Mapping[str, str] = field(default_factory=dict)
    sparsity: float = 0.0
    sparsities: Mapping[str, float] = field(default_factory=dict)
    pruning: str = "magnitude"
    scope: str = "layer"
    rounding: str = "compensated"
    bias_correction: bool | None = None
    activation_bits: int = 8
    activation_bits_table: Mapping[str, int] = field(default_factory=dict)
    calibration_images: int = 512
    normalization: Normalization | None = None

    def __post_init__(self) -> None:
        _ = self.quantize_options
        check_choice("pruning", self.pruning, METHODS)
        check_choice("scope", self.scope, SCOPES)
        shares = {f"sparsities[{name!r}]": share for name, share in self.sparsities.items()}
        for name, share in {"sparsity": self.sparsity, **shares}.items():
            if not 0.0 <= share < 1.0:
                raise InputError("options", name, found=str(share), expected="0 to below 1")
        if self.calibration_images < 1:
            raise InputError(
                "options",
                "calibration_images",
                found=str(self.calibration_images),
                expected="1 or more",
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
        )


@dataclass(frozen=True)
class LayerSummary:
    """What a person wants to know of one layer, or of all ("total").

    Attributes:
        name: the layer's, or "total".
        op: "conv", "dense", "structural", "max pool", "average pool", or "" for the total.
        scheme: of the weights; "" where there are none, "mixed" for a total of several.
        weight_shape: (C_out, C_in / groups, kh, kw), or () where there are no weights.
        output_shape: (C, H, W).
        n_weights: weights that count; 0 for pools and structural layers.
        n_zeros: of these, how many are zero.
        levels_used: distinct levels among these, ascending.
        relative_squared_error: sum((w - level*scale)^2) / sum(w^2) against the float weights; the
            total is the mean of the layers', each counted by its weights.
        bits_per_weight: bits of one dense code (a mean over all weights for the total).
        macs: multiply-accumulates of one image, structural layers and pools not counted.
    """

    name: str
    op: str
    scheme: str
    weight_shape: tuple[int, ...]
    output_shape: Shape
    n_weights: int
    n_zeros: int
    levels_used: tuple[int, ...]
    relative_squared_error: float
    bits_per_weight: float
    macs: int

    @property
    def sparsity(self) -> float:
        """Share of zero weights; 0 where there are no weights."""
        return self.n_zeros / self.n_weights if self.n_weights else 0.0


def compress(
    model: Model,
    calibration: ImageSet,
    options: CompressOptions,
    *,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Prune and quantize a model. Deterministic: the same inputs give the same bits.

    Args:
        model: the float network.
        calibration: images like those it will see; labels are not used.
        options: what to do.
        progress: called with a stage, how much is done, and of how much.

    Raises:
        MismatchError: the images do not fit the model, or there are none.
        InputError: a table names a layer that does not exist, calibration met a NaN, or a
            kernel or stride is larger than an accelerator runs.
    """
    _check(model, options.quantize_options)
    images = calibration.images[: options.calibration_images]
    if images.shape[1:] != model.input_shape or not len(images):
        raise MismatchError(
            calibration.source,
            "images",
            found=f"{len(images)} images of {images.shape[1:]}",
            expected=f"at least one of {model.input_shape}",
        )
    normalization = options.normalization or calibration.normalization or Normalization()
    for name, values in (("mean", normalization.mean), ("std", normalization.std)):
        if len(values) not in (1, model.input_shape[0]):
            raise InputError(
                "normalization",
                name,
                found=f"{len(values)} values",
                expected=f"1, or one for each of {model.input_shape[0]} channels",
            )
    masks = _masks(model, options)
    statistics = collect_statistics(model, images, normalization, progress)

    def quantized(bias_correction: bool) -> QuantizedModel:
        def told(stage: str, done: int, total: int) -> None:
            if progress is not None:
                progress(f"{stage}{', biases' if bias_correction else ''}", done, total)

        return quantize_model(
            model,
            images,
            normalization,
            replace(options.quantize_options, bias_correction=bias_correction),
            masks=masks,
            statistics=statistics,
            provenance=_provenance(model, calibration, options, len(images), bias_correction),
            progress=told,
        )

    if options.bias_correction is not None:
        return quantized(options.bias_correction)
    fresh = calibration.images[len(images) : 2 * len(images)]
    judged = fresh if len(fresh) else images
    floats = forward(model, normalized(judged, normalization))
    candidates = (quantized(False), quantized(True))
    return min(candidates, key=lambda found: _output_error(found, judged, floats))


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
    outputs = Engine(quantized.network).run(codes) * quantized.logit_scale[:, None, None]
    return float(np.mean((outputs - floats) ** 2))


def summarize(model: QuantizedModel) -> tuple[LayerSummary, ...]:
    """One summary a layer in execution order, then the total."""
    shapes = model.network.shapes
    layers = []
    for index, layer in enumerate(model.layers):
        op, shape = layer.op, shapes[index + 1]
        weighted = isinstance(op, ConvOp) and layer.has_weights
        levels = op.levels if isinstance(op, ConvOp) else np.zeros((), np.int8)
        layers.append(
            LayerSummary(
                name=layer.name,
                op=_op_word(op, structural=layer.structural, input_shape=shapes[op.input]),
                scheme=layer.scheme if weighted else "",
                weight_shape=levels.shape,
                output_shape=shape,
                n_weights=levels.size if weighted else 0,
                n_zeros=levels.size - int(np.count_nonzero(levels)) if weighted else 0,
                levels_used=tuple(np.unique(levels).tolist()) if weighted else (),
                relative_squared_error=layer.relative_squared_error,
                bits_per_weight=float(SCHEMES[layer.scheme].bits) if weighted else 0.0,
                macs=levels[0].size * int(np.prod(shape)) if weighted else 0,
            )
        )
    return (*layers, _total(layers))


def _masks(model: Model, options: CompressOptions) -> Masks:
    names = weighted_layers(model)
    ends = {names[0], names[-1]} if options.first_last is not None and names else set()
    scales = None
    if options.pruning == "pot-aware" and (options.sparsity > 0 or options.sparsities):
        scales = weight_scales(model, options.quantize_options)
    return prune(
        model,
        options.sparsity,
        method=options.pruning,
        scope=options.scope,
        sparsities=options.sparsities,
        exclude=ends - set(options.sparsities),
        scales=scales,
    )


def _provenance(
    model: Model,
    calibration: ImageSet,
    options: CompressOptions,
    n_images: int,
    bias_correction: bool,
) -> dict[str, object]:
    """Plain JSON types; no time and no host name, so that the same inputs give the same file."""
    words = asdict(options)
    if options.normalization is not None:
        words["normalization"] = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(options.normalization).items()
        }
    return {
        "tool": "bacmac",
        "version": importlib.metadata.version("bacmac"),
        "source": model.source,
        "source_sha256": model.source_sha256,
        "calibration": {
            "source": calibration.source,
            "sha256": calibration.sha256,
            "images": n_images,
        },
        "options": words,
        "bias_correction": bias_correction,
    }


def _op_word(op: Op, *, structural: bool, input_shape: Shape) -> str:
    if not isinstance(op, ConvOp):
        return f"{op.kind} pool"
    if structural:
        return "structural"
    whole = op.levels.shape[2:] == input_shape[1:] and not any(op.padding) and op.groups == 1
    return "dense" if whole else "conv"


def _total(layers: list[LayerSummary]) -> LayerSummary:
    weighted = [layer for layer in layers if layer.n_weights]
    n_weights = sum(layer.n_weights for layer in weighted)
    schemes = {layer.scheme for layer in weighted}

    def mean(values: list[float]) -> float:
        total = sum(v * layer.n_weights for v, layer in zip(values, weighted, strict=True))
        return total / n_weights if n_weights else 0.0

    return LayerSummary(
        name="total",
        op="",
        scheme=schemes.pop() if len(schemes) == 1 else "mixed" if schemes else "",
        weight_shape=(),
        output_shape=layers[-1].output_shape,
        n_weights=n_weights,
        n_zeros=sum(layer.n_zeros for layer in weighted),
        levels_used=tuple(sorted({level for layer in weighted for level in layer.levels_used})),
        relative_squared_error=mean([layer.relative_squared_error for layer in weighted]),
        bits_per_weight=mean([layer.bits_per_weight for layer in weighted]),
        macs=sum(layer.macs for layer in weighted),
    )
