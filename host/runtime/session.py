"""A session: one model on one board, images in, results out.

with Session(board, overlay, model) as session:
    for result in session.stream(images):
        ...
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.reference import Outputs
from bacmac.host.compile.compiler import compile_model
from bacmac.host.device.batch import DeviceBatch, LayerCounters
from bacmac.host.device.board import Board
from bacmac.host.device.driver import Driver
from bacmac.host.errors import CompileError, DeviceError, MismatchError
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.model.inputs import Codes, Images, input_codes
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.runtime.results import BatchResult, Counters, Window

DEFAULT_BATCH = 256
"""Images of a batch where the chip holds more."""


class Session:
    """Compiles on construction; opens the device on entering, frees everything on leaving.

    A board has one open session at a time; a session may be entered again after it was left.

    Args:
        board: open; stays the caller's to close.
        overlay: loaded on entering.
        model: what runs.
        batch_size: images of a batch; as many as stay on chip, up to 256, unless given.

    Attributes:
        board, overlay, model: as given.
        program: the compiled model, with all that is predicted of it.
        batch_size: images of a batch.

    Raises:
        MismatchError: model and overlay do not fit.
        CompileError: the overlay cannot run the model, or not that batch.
    """

    def __init__(
        self,
        board: Board,
        overlay: Overlay,
        model: QuantizedModel,
        *,
        batch_size: int | None = None,
    ) -> None:
        self.program = compile_model(model, overlay)
        largest = self.program.max_batch
        self.batch_size = min(largest, DEFAULT_BATCH) if batch_size is None else batch_size
        if not 1 <= self.batch_size <= largest:
            raise CompileError(
                f"a batch of {self.batch_size} images of model {model.name!r}: "
                f"{overlay.manifest.name} holds 1 to {largest} on chip"
            )
        self.board, self.overlay, self.model = board, overlay, model
        self._driver: Driver | None = None

    def __enter__(self) -> Session:
        driver = Driver(self.board, self.program, self.batch_size)
        driver.open()
        self._driver = driver
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()

    def stream(self, images: Images) -> Iterator[BatchResult]:
        """Run any number of images in batches, and give the results in order.

        While one batch runs the next is converted and laid into the other buffer.

        Args:
            images: (N, C, H, W), uint8 pixels or float32 normalized.

        Raises:
            MismatchError: the images are not the model's.
            DeviceError: the session is closed, or the device fails; it is reset and the session
                can be used again.
        """
        self._check(images)
        return self._results(self._open().run(self._blocks(images)))

    def repeat(self, images: Images, n_passes: int) -> BatchResult:
        """Run one batch `n_passes` times on the device, its images held on chip.

        Args:
            images: (n, C, H, W), 1 to `batch_size`.
            n_passes: 1 to 2**32 - 1.

        Raises:
            MismatchError: the images are not the model's, or too many.
            DeviceError: as `stream`.
        """
        self._check(images)
        if not 1 <= len(images) <= self.batch_size:
            raise MismatchError(
                "images",
                "number",
                found=str(len(images)),
                expected=f"1 to {self.batch_size}, the images of one batch",
            )
        if not 1 <= n_passes < 1 << 32:
            raise MismatchError("images", "passes", found=str(n_passes), expected="1 to 2**32 - 1")
        return self._result(self._open().repeat(self._codes(images), n_passes), 0)

    def layer_counters(self) -> tuple[LayerCounters, ...]:
        """What each layer did in the last batch, by the device's own counters.

        Raises:
            DeviceError: the session is closed, a stream is not at its end, or nothing has run.
        """
        return self._open().layer_counters()

    def _open(self) -> Driver:
        if self._driver is None:
            raise DeviceError("the session is not open: use it in a `with` statement")
        return self._driver

    def _check(self, images: Images) -> None:
        shape = self.model.input_shape
        if images.ndim != 4 or images.shape[1:] != shape:
            raise MismatchError(
                "images",
                "shape",
                found=str(images.shape),
                expected=f"(N, {shape[0]}, {shape[1]}, {shape[2]}) of model {self.model.name!r}",
            )
        if images.dtype not in (np.uint8, np.float32):
            raise MismatchError(
                "images", "dtype", found=str(images.dtype), expected="uint8 or float32"
            )

    def _results(self, batches: Iterator[DeviceBatch]) -> Iterator[BatchResult]:
        first = 0
        for batch in batches:
            yield self._result(batch, first)
            first += len(batch.outputs)

    def _blocks(self, images: Images) -> Iterator[Codes]:
        for start in range(0, len(images), self.batch_size):
            yield self._codes(images[start : start + self.batch_size])

    def _codes(self, images: Images) -> Codes:
        return input_codes(images, self.model.normalization, self.model.input_format)

    def _result(self, batch: DeviceBatch, first: int) -> BatchResult:
        return BatchResult(
            first,
            batch.outputs,
            Counters(
                batch.cycles,
                batch.busy_cycles,
                batch.products_done,
                batch.products_isolated,
                batch.products_skipped,
                batch.images,
            ),
            Window(batch.start_ns, batch.end_ns),
            self.board.provenance,
        )


def output_values(model: QuantizedModel, outputs: Outputs) -> npt.NDArray[np.float64]:
    """Float outputs (N, C, H, W): each channel times its own scale."""
    values: npt.NDArray[np.float64] = outputs * model.logit_scale[:, None, None]
    return values


def predicted_classes(model: QuantizedModel, outputs: Outputs) -> npt.NDArray[np.int64]:
    """The largest output's channel (N,), after scaling: channels have different scales.

    Raises:
        MismatchError: the outputs are maps, not one value a class.
    """
    if outputs.shape[2:] != (1, 1):
        raise MismatchError(
            model.name, "output", found=f"{outputs.shape[1:]}", expected="one value a class"
        )
    classes: npt.NDArray[np.int64] = output_values(model, outputs)[:, :, 0, 0].argmax(1)
    return classes
