"""From a float model and training images to a quantized model that has been trained.

1. Prune (`prune_epochs`, in float): zeros rise to the share asked for while the network learns to
   do without (Zhu and Gupta 2017).
2. Compress: the ordinary pruning and rounding, `host/pack/compress.py`.
3. Round (`epochs`): weights and activations are rounded in each forward pass as the accelerator
   rounds them, gradients pass straight through, and the network imitates the float one's outputs
   (Hinton et al. 2015). Scales, activation formats and zeros stay: only levels and biases change,
   so what comes out is the ordinary quantized model with other integers, and nothing is rounded
   once more.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bacmac.host.arith.network import ConvOp
from bacmac.host.errors import InputError, MismatchError, MissingExtraError
from bacmac.host.importers.images import ImageSet
from bacmac.host.model.layers import Conv, Model, Normalization
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.quantize.options import weighted_layers
from bacmac.host.recover.checkpoint import Arrays, Checkpoint, read_checkpoint, write_checkpoint
from bacmac.host.recover.options import RecoverOptions
from bacmac.host.recover.report import EpochReport, Progress
from bacmac.host.recover.schedule import Pool

Told = Callable[[EpochReport], None]


@dataclass(frozen=True, eq=False)
class Recovered:
    """What training gave.

    Attributes:
        model: integer-exact, to be packed; of the epoch nearest the float network on held-out
            images, the start included.
        reports: of every epoch, and of the start of stage "round".
        pruned: the float network that stage "prune" gave; None without that stage.
    """

    model: QuantizedModel
    reports: tuple[EpochReport, ...]
    pruned: Model | None


def recover(
    model: Model,
    images: ImageSet,
    compress_options: CompressOptions,
    options: RecoverOptions,
    *,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
    told: Told | None = None,
) -> Recovered:
    """Compress a model and train it to make good what that cost.

    Args:
        model: the float network, which is imitated.
        images: to train on; those that calibrate come from its start. Labels are needed only
            where `options.label_share` is above 0.
        compress_options: as for `compress`.
        options: of the training.
        checkpoint: written after each epoch; where the file exists, the run goes on from it and
            gives what it would have given without the break.
        progress: called with a stage, how much is done and of how much.
        told: called with what each epoch gave, as it ends.

    Raises:
        MissingExtraError: torch is not installed.
        MismatchError: images and model do not fit together, or the checkpoint is of another run.
        InputError: options, images and model contradict each other, or training diverges.
        OutputError: the checkpoint cannot be written.
    """
    try:
        from bacmac.host.recover.training import torch_settings
    except ImportError as error:
        raise MissingExtraError("recovery training", "train") from error
    _check(model, images, compress_options, options)
    run = _Run(model, images, compress_options, options, progress, told)
    with torch_settings(options.threads):
        return _stages(run, None if checkpoint is None else Path(checkpoint))


@dataclass(frozen=True, eq=False)
class _Run:
    """What a run was given."""

    model: Model
    images: ImageSet
    compress_options: CompressOptions
    options: RecoverOptions
    progress: Progress | None
    told: Told | None

    def tell(self, report: EpochReport) -> None:
        if self.told is not None:
            self.told(report)


def _stages(run: _Run, file: Path | None) -> Recovered:
    """Both stages, from where the checkpoint left off."""
    from bacmac.host.recover import batches
    from bacmac.host.recover.network import Network, recovered_model
    from bacmac.host.recover.training import Stage, measure, train_epoch

    options, digest = run.options, _digest(run)
    found = read_checkpoint(file, digest) if file is not None and file.exists() else None
    normalization = (
        run.compress_options.normalization or run.images.normalization or Normalization()
    )
    # of an output that is a map no label says what is right
    labels = run.images.labels if run.model.output_shape[1:] == (1, 1) else None
    everything = batches.training_set(run.images.images, labels, normalization)
    images, held_out = batches.split(
        everything, options.held_out, options.seed, run.compress_options.calibration_images
    )
    teacher = Network(run.model)
    reports = list(found.reports) if found is not None else []

    def train(stage: Stage, pools: tuple[Pool, ...], kept: Arrays) -> None:
        while stage.done < stage.epochs:
            report = train_epoch(
                stage, teacher, images, held_out, options, pools=pools, progress=run.progress
            )
            reports.append(report)
            run.tell(report)
            if file is not None:
                arrays = {**stage.arrays(), **kept}
                write_checkpoint(
                    file, Checkpoint(digest, stage.name, stage.done, arrays, tuple(reports))
                )

    def restore(stage: Stage, found: Checkpoint) -> None:
        try:
            stage.restore(found.arrays, found.done)
        except ValueError as error:
            raise InputError(
                file or "", "checkpoint", found=str(error), expected="the network's own arrays"
            ) from error

    model = run.model
    compress_options = replace(run.compress_options, imported="requantize")
    pruned: Arrays = {}
    if options.prune_epochs:
        stage = Stage("prune", Network(run.model), options.prune_epochs)
        if found is not None and found.stage == "prune":
            restore(stage, found)
        if found is None or found.stage == "prune":
            train(stage, _pools(run.model, compress_options), {})
            pruned = {f"pruned.{name}": array for name, array in stage.network.values().items()}
        else:
            pruned = {
                name: array for name, array in found.arrays.items() if name.startswith("pruned.")
            }
        model, compress_options = _pruned_model(run.model, pruned, compress_options)
    quantized = compress(model, run.images, compress_options, progress=run.progress)
    network = Network(run.model, quantized, _masks(quantized, compress_options))
    stage = Stage("round", network, options.epochs)
    if found is not None and found.stage == "round":
        restore(stage, found)
    else:
        report = measure(stage, teacher, held_out if len(held_out) else images)
        reports.append(report)
        run.tell(report)
    train(stage, (), pruned)
    stage.network.set_parameters(stage.best)
    recovered = recovered_model(stage.network)
    provenance = {
        **quantized.provenance,
        "recovery": {
            "options": asdict(options),
            "images": {
                "source": run.images.source,
                "sha256": run.images.sha256,
                "images": len(run.images.images),
            },
        },
    }
    return Recovered(
        replace(recovered, provenance=provenance),
        tuple(reports),
        model if options.prune_epochs else None,
    )


def _check(
    model: Model, images: ImageSet, compress_options: CompressOptions, options: RecoverOptions
) -> None:
    """Refuse what cannot be trained, before the work begins."""
    if images.images.shape[1:] != model.input_shape:
        raise MismatchError(
            images.source,
            "images",
            found=f"images of {images.images.shape[1:]}",
            expected=f"{model.input_shape}",
        )
    if len(images.images) < 2:
        raise MismatchError(
            images.source, "images", found="1 image", expected="2 or more to train on"
        )
    if options.label_share > 0 and images.labels is None:
        raise MismatchError(
            images.source,
            "labels",
            found="none",
            expected=f"labels, for a label share of {options.label_share:g}",
        )
    n_classes, *place = model.output_shape
    if options.label_share > 0 and place != [1, 1]:
        raise MismatchError(
            model.source or model.name,
            "outputs",
            found=f"shape {model.output_shape}",
            expected="one value a class, for a label share above 0",
        )
    if options.label_share > 0 and images.labels is not None and images.labels.max() >= n_classes:
        raise MismatchError(
            images.source,
            "labels",
            found=f"class {images.labels.max()}",
            expected=f"0 to {n_classes - 1}, the outputs of {model.name!r}",
        )
    if options.prune_epochs:
        _check_pruning(compress_options, options.prune_epochs)
    if "channel" in (compress_options.structure, *compress_options.structures.values()):
        raise InputError(
            "recovery training",
            "structure",
            found="channel: such layers get smaller",
            expected="a structure that leaves every layer its shape",
        )


def _check_pruning(compress_options: CompressOptions, prune_epochs: int) -> None:
    """Zeros can only rise one by one, and to a share."""
    pruning = compress_options.pruning_of(())
    if not (pruning.sparsity or any(pruning.sparsities.values())):
        raise InputError(
            "options",
            "prune_epochs",
            found=f"{prune_epochs}, and no share of zeros to reach",
            expected="a sparsity above 0, or 0 epochs",
        )
    structures = {pruning.structure, *pruning.structures.values()} - {"weight"}
    if structures or pruning.prunes_groups:
        raise InputError(
            "options",
            "prune_epochs",
            found=f"{prune_epochs}, and {min(structures, default='group')}s to prune",
            expected="single weights to prune, or 0 epochs",
        )


def _pools(model: Model, options: CompressOptions) -> tuple[Pool, ...]:
    """Which layers lose what share of their weights together."""
    names = weighted_layers(model)
    pools = [Pool((name,), share) for name, share in options.sparsities.items() if share > 0]
    ends = {names[0], names[-1]} if options.first_last is not None else set()
    rest = tuple(name for name in names if name not in {*options.sparsities, *ends})
    if options.sparsity > 0 and rest:
        if options.scope == "layer":
            pools += [Pool((name,), options.sparsity) for name in rest]
        else:
            pools.append(Pool(rest, options.sparsity))
    return tuple(pools)


def _pruned_model(
    model: Model, pruned: Arrays, options: CompressOptions
) -> tuple[Model, CompressOptions]:
    """The model with the weights that stage "prune" left, and options that keep its zeros."""
    layers = []
    shares = {}
    for layer in model.layers:
        if not isinstance(layer, Conv) or layer.structural:
            layers.append(layer)
            continue
        weight = pruned[f"pruned.{layer.name}.weight"]
        bias = pruned[f"pruned.{layer.name}.bias"]
        layers.append(replace(layer, weight=weight, bias=bias, kept=None))
        shares[layer.name] = 1.0 - np.count_nonzero(weight) / weight.size
    return (
        replace(model, layers=tuple(layers)),
        replace(options, sparsity=0.0, sparsities=shares, pruning="magnitude", scope="layer"),
    )


def _masks(quantized: QuantizedModel, options: CompressOptions) -> dict[str, Any]:
    """Which levels may change: all but the zeros, where anything was pruned."""
    pruning = options.pruning_of(())
    if not (pruning.prunes_units or pruning.prunes_groups):
        return {}
    return {
        layer.name: layer.op.levels != 0
        for layer in quantized.layers
        if layer.has_weights and isinstance(layer.op, ConvOp)
    }


def _digest(run: _Run) -> str:
    """Hex digest of what the run's bits depend on."""
    import torch

    words = {
        "version": importlib.metadata.version("bacmac"),
        "torch": str(torch.__version__),
        "compress": asdict(run.compress_options),
        "recover": asdict(run.options),
    }
    digest = hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode())
    for layer in run.model.layers:
        digest.update(layer.name.encode())
        if isinstance(layer, Conv):
            digest.update(layer.weight.tobytes() + layer.bias.tobytes())
    digest.update(run.images.images.tobytes())
    if run.images.labels is not None:
        digest.update(run.images.labels.tobytes())
    return digest.hexdigest()
