"""Train a network, pruned or rounded or both, to imitate the float network it came from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from bacmac.host.errors import InputError
from bacmac.host.recover.batches import (
    PRUNE,
    ROUND,
    TrainingSet,
    epoch_batches,
    generator,
)
from bacmac.host.recover.network import Network
from bacmac.host.recover.options import RecoverOptions
from bacmac.host.recover.report import EpochReport, Progress
from bacmac.host.recover.schedule import MASK_STEPS, RISE, Pool, masks_at

WARM_UP = 0.05
"""Part of the steps over which the learning rate rises."""
HELD_BATCH = 250
MAX_GRADIENT = 1.0
"""Norm that gradients are scaled down to: the first steps after pruning can be wild."""


class Stage:
    """A network in training, between epochs.

    Args:
        name: "prune" or "round".
        network: what is trained.
        epochs: in all.

    Attributes:
        done: epochs so far.
        best: the parameters of the epoch of least loss on held-out images.
        best_loss: that loss.
    """

    def __init__(self, name: str, network: Network, epochs: int) -> None:
        self.name = name
        self.network = network
        self.epochs = epochs
        self.done = 0
        self.best: dict[str, Tensor] = {}
        self.best_loss = math.inf
        self.optimizer = torch.optim.Adam(list(network.parameters.values()))

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Everything that the next epoch depends on."""
        arrays = {"best_loss": np.array([self.best_loss], np.float32)}
        for name, parameter in self.network.parameters.items():
            state = self.optimizer.state[parameter]
            arrays[f"parameter.{name}"] = parameter.detach().numpy()
            arrays[f"best.{name}"] = self.best[name].numpy()
            arrays[f"adam.step.{name}"] = state["step"].numpy().reshape(1)
            arrays[f"adam.first.{name}"] = state["exp_avg"].numpy()
            arrays[f"adam.second.{name}"] = state["exp_avg_sq"].numpy()
        for name, mask in self.network.masks.items():
            arrays[f"mask.{name}"] = mask.numpy()
        return arrays

    def restore(self, arrays: Mapping[str, npt.NDArray[np.float32]], done: int) -> None:
        """Go on from what `arrays` gave after `done` epochs of the same stage.

        Raises:
            ValueError: naming an array that is missing or has another shape.
        """

        def tensor(name: str, like: Tensor) -> Tensor:
            array = arrays.get(name)
            if array is None or array.shape != tuple(like.shape):
                raise ValueError(f"{name}: {None if array is None else array.shape}")
            # laid out in memory as the original, so that sums run in the same order
            return torch.empty_like(like).copy_(torch.from_numpy(array.copy()))

        one = torch.zeros(1)
        self.done = done
        self.best_loss = float(tensor("best_loss", one))
        with torch.no_grad():
            for name, parameter in self.network.parameters.items():
                parameter.copy_(tensor(f"parameter.{name}", parameter))
                self.best[name] = tensor(f"best.{name}", parameter)
                self.optimizer.state[parameter] = {
                    "step": tensor(f"adam.step.{name}", one)[0],
                    "exp_avg": tensor(f"adam.first.{name}", parameter),
                    "exp_avg_sq": tensor(f"adam.second.{name}", parameter),
                }
        for name in self.network.trained:
            if f"mask.{name}" in arrays:
                like = self.network.parameters[f"{name}.weight"]
                self.network.masks[name] = tensor(f"mask.{name}", like)


def train_epoch(
    stage: Stage,
    teacher: Network,
    images: TrainingSet,
    held_out: TrainingSet,
    options: RecoverOptions,
    *,
    pools: tuple[Pool, ...] = (),
    progress: Progress | None = None,
) -> EpochReport:
    """One more epoch.

    Args:
        stage: changed.
        teacher: the float network.
        images: trained on.
        held_out: measured on; may be empty, then the images trained on are.
        options: of the run.
        pools: in stage "prune", the layers that lose weights.
        progress: called with a stage, how much is done and of how much.

    Raises:
        InputError: the loss is no longer finite.
    """
    network, number = stage.network, stage.done
    numbers = generator(options.seed, PRUNE if stage.name == "prune" else ROUND, number)
    batches = max(1, round(len(images) / options.batch))
    rise_steps = max(1, round(RISE * stage.epochs * batches)) if stage.name == "prune" else 1
    peak = options.prune_learning_rate if stage.name == "prune" else options.learning_rate
    total = 0.0
    for index, batch in enumerate(
        epoch_batches(images, options.batch, numbers, augment=options.augment)
    ):
        step = number * batches + index
        if pools and step <= rise_steps and step % max(1, rise_steps // MASK_STEPS) == 0:
            _prune(network, pools, step / rise_steps)
        for group in stage.optimizer.param_groups:
            group["lr"] = peak * _rate(step, stage.epochs * batches)
        loss = _loss(network, teacher, *batch, label_share=options.label_share)
        if not math.isfinite(loss.item()):
            raise InputError(
                "options",
                "learning_rate",
                found=f"{peak:g}, at which the loss is not finite in epoch {number + 1}",
                expected="a smaller one",
            )
        total += loss.item()
        stage.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(network.parameters.values()), MAX_GRADIENT)
        stage.optimizer.step()
        network.project()
        if progress is not None:
            progress(f"{stage.name}, epoch {number + 1} of {stage.epochs}", index + 1, batches)
    stage.done += 1
    if pools and stage.done == stage.epochs:
        _prune(network, pools, 1.0)
    return measure(stage, teacher, held_out if len(held_out) else images, total / batches)


def measure(
    stage: Stage, teacher: Network, images: TrainingSet, loss: float | None = None
) -> EpochReport:
    """How near the network is to the float one on images it is not trained on; keeps the best."""
    distance, right = 0.0, 0
    for index in torch.arange(len(images)).split(HELD_BATCH):
        x = images.normalized(images.images[index])
        with torch.no_grad():
            found, wanted = stage.network(x), teacher(x)
        distance += float(_distance(found, wanted)) * len(index)
        classes = wanted.argmax(1) if images.labels is None else images.labels[index]
        right += int((found.argmax(1) == classes).sum())
    weights = [stage.network.weight(name).detach() for name in stage.network.trained]
    n_zeros = sum(int((weight == 0).sum()) for weight in weights)
    report = EpochReport(
        stage=stage.name,
        epoch=stage.done,
        epochs=stage.epochs,
        loss=loss,
        # as a checkpoint keeps it: a resumed run must find the same epoch best
        held_out_loss=float(np.float32(distance / len(images))),
        held_out_accuracy=right / len(images),
        sparsity=n_zeros / sum(weight.numel() for weight in weights),
    )
    if report.held_out_loss < stage.best_loss:
        stage.best_loss = report.held_out_loss
        stage.best = {
            name: value.detach().clone() for name, value in stage.network.parameters.items()
        }
    return report


@contextmanager
def torch_settings(threads: int) -> Iterator[None]:
    """Torch as the promise of equal bits needs it; the process's own settings come back after."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # gradients that vanish become denormal numbers, which take ten times as long
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.set_flush_denormal(False)


def _loss(
    network: Network,
    teacher: Network,
    x: Tensor,
    labels: Tensor | None,
    others: Tensor | None,
    share: float,
    *,
    label_share: float,
) -> Tensor:
    found = network(x)
    with torch.no_grad():
        wanted = teacher(x)
    loss = _distance(found, wanted)
    if labels is None or label_share == 0.0:
        return loss
    on_labels = functional.cross_entropy(found, labels) * share
    if others is not None:
        on_labels = on_labels + functional.cross_entropy(found, others) * (1.0 - share)
    return (1.0 - label_share) * loss + label_share * on_labels


def _distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Of logits (N, K): squared differences over their variance (Ba and Caruana 2014)."""
    return functional.mse_loss(found, wanted) / wanted.var().clamp_min(1e-12)


def _rate(step: int, steps: int) -> float:
    """Learning rate over its peak: a linear rise, then a cosine (Loshchilov and Hutter 2017)."""
    warm = max(1.0, WARM_UP * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1.0, steps - warm)))


def _prune(network: Network, pools: tuple[Pool, ...], progress: float) -> None:
    weights = {
        name: network.weight(name).detach().numpy() for pool in pools for name in pool.layers
    }
    masks = masks_at(weights, pools, progress)
    network.masks.update(
        {name: torch.from_numpy(mask.astype(np.float32)) for name, mask in masks.items()}
    )
    network.project()
