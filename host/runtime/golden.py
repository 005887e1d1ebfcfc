"""Outputs of a device against the exact engine, on every run.

The engine computes from the model's own integer network, not from the bytes that were compiled of
it: so the check covers compiler, packing, transfers, accelerator and read-back together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.reference import Codes, Outputs
from bacmac.host.compile.compiler import compile_model
from bacmac.host.compile.program import Program
from bacmac.host.errors import CompileError, DeviceError, VerificationError
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.model.quantized import QuantizedModel

Verify = Literal["sample", "all", "none"]
VERIFY: tuple[Verify, ...] = ("sample", "all", "none")
"""How much of each batch is checked: some images, every one, nothing."""
SAMPLED = 2
"""Images checked of each batch by "sample"."""

RunOnce = Callable[[Program, Codes], Outputs]
"""Runs a program once on the device in question."""


@dataclass(frozen=True)
class Mismatch:
    """What the device made wrong.

    Attributes:
        image: number in the stream of the first image that differs.
        channel, y, x: place of the first of its outputs that differs.
        found, expected: what the device and what the exact engine say there.
        n_different: outputs that differ, of the images checked in this batch.
        n_checked: outputs of these images.
        layer: name of the first layer whose output differs when the image is run again by itself,
            "" where it does not differ again.
        again: what came of running it again, in words.
    """

    image: int
    channel: int
    y: int
    x: int
    found: int
    expected: int
    n_different: int
    n_checked: int
    layer: str = ""
    again: str = ""


class GoldenCheck:
    """Checks batches of one session.

    Args:
        model: what runs.
        verify: how much of each batch.
        seed: of the choice of images.
    """

    def __init__(self, model: QuantizedModel, verify: Verify, seed: int = 0) -> None:
        self._model, self._verify = model, verify
        self._seed, self._n_batches = seed, 0
        self._engine = Engine(model.network) if verify != "none" else None

    def check(
        self, codes: Codes, outputs: Outputs, first_index: int, overlay: Overlay, run: RunOnce
    ) -> int:
        """Compare some of a batch's outputs with the engine's.

        Args:
            codes: (n, C, H, W), what went in.
            outputs: (n, C, H, W), what came out.
            first_index: number of the batch's first image in the stream.
            overlay: that the device has.
            run: asked, where outputs differ, to run parts of the network on the device.

        Returns:
            images that were compared, all equal.

        Raises:
            VerificationError: they differ; its state is a `Mismatch`.
        """
        if self._engine is None:
            return 0
        chosen = self._choose(len(codes))
        self._n_batches += 1
        expected, found = self._engine.run(codes[chosen]), outputs[chosen]
        places = np.argwhere(expected != found)
        if not len(places):
            return len(chosen)
        which, channel, y, x = (int(value) for value in places[0])
        position = int(chosen[which])
        mismatch = Mismatch(
            first_index + position,
            channel,
            y,
            x,
            int(found[which, channel, y, x]),
            int(expected[which, channel, y, x]),
            len(places),
            expected.size,
        )
        mismatch = self._run_again(mismatch, codes, position, overlay, run)
        raise VerificationError(_message(mismatch, overlay), state=asdict(mismatch))

    def _choose(self, n: int) -> npt.NDArray[np.int64]:
        """Ascending numbers of the images to check: an end of the batch, and one at random.

        First and last image by turns: what shifts, shortens or overlaps a packet shows there.
        """
        if self._verify == "all" or n <= SAMPLED:
            return np.arange(n)
        last = bool(self._n_batches % 2)
        other = int(np.random.default_rng([self._seed, self._n_batches]).integers(1, n))
        return np.array([other - 1, n - 1] if last else [0, other])

    def _run_again(
        self, found: Mismatch, codes: Codes, position: int, overlay: Overlay, run: RunOnce
    ) -> Mismatch:
        """Find the first layer whose output differs, if anything differs a second time."""
        one = codes[position : position + 1]
        try:
            if not self._differs(len(self._model.layers), one, overlay, run):
                batch = self._differs(len(self._model.layers), codes, overlay, run)
                alone = "run by itself the image comes out right"
                where = (
                    "in its batch it does not: no layer is at fault"
                    if batch
                    else "and so does its batch: the difference was transient"
                )
                return replace(found, again=f"{alone}, {where}")
            for depth, layer in enumerate(self._model.layers, 1):
                if self._differs(depth, one, overlay, run):
                    words = f"layer {layer.name!r} is the first whose output differs"
                    return replace(found, layer=layer.name, again=words)
        except DeviceError as error:  # what was found first is the one to tell
            return replace(found, again=f"it could not be: {error}")
        return replace(found, again="it differed once more, then in no layer: it comes and goes")

    def _differs(self, depth: int, codes: Codes, overlay: Overlay, run: RunOnce) -> bool:
        """Whether the network's first layers give another result on the device than they should."""
        part = first_layers(self._model, depth)
        try:
            program = compile_model(part, overlay)
        except CompileError:  # an output that is too large to come out: look at the next
            return False
        return not np.array_equal(run(program, codes), Engine(part.network).run(codes))


def first_layers(model: QuantizedModel, depth: int) -> QuantizedModel:
    """The network that ends with layer number `depth`, counted from 1; its output is stored."""
    if depth == len(model.layers):
        return model
    channels = model.network.shapes[depth][0]
    return replace(
        model,
        layers=model.layers[:depth],
        logit_scale=np.ones(channels),
        logit_offset=np.zeros(()),
    )


def _message(found: Mismatch, overlay: Overlay) -> str:
    return (
        f"outputs are not the exact engine's: image {found.image}, channel {found.channel}, "
        f"row {found.y}, column {found.x}: found {found.found}, expected {found.expected}; "
        f"{found.n_different} of {found.n_checked} outputs checked in this batch differ; "
        f"run again: {found.again}; overlay {overlay.manifest.name}: the result is not used"
    )
