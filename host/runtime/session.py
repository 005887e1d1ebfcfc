"""A session: one model on one board, images in, results out.

with Session(board, overlay, model) as session:
    for result in session.stream(images):
        ...
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
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
from bacmac.host.runtime.batching import ImageSource, check_images, device_batches, rebatch
from bacmac.host.runtime.golden import GoldenCheck, Verify
from bacmac.host.runtime.results import BatchResult, Counters, Window

DEFAULT_BATCH = 256
"""Images of a batch where the chip holds more."""
MAX_BUFFERS = 16


class Session:
    """Compiles on construction; opens the device on entering, frees everything on leaving.

    A board has one open session at a time; a session may be entered again after it was left.

    Args:
        board: open; stays the caller's to close.
        overlay: loaded on entering.
        model: what runs.
        batch_size: images of a batch; as many as stay on chip, up to 256, unless given. More than
            stay on chip, or than a DMA transfer moves, are split into equal device batches.
        buffers: batches that are prepared or run at a time, 1 to 16.
        retry: a batch of a stream that failed is run once more; its result says so.
        verify: how much of each batch is compared with the exact engine.

    Attributes:
        board, overlay, model: as given.
        program: the compiled model, with all that is predicted of it.
        batch_size: the most images of one device batch.

    Raises:
        MismatchError: model and overlay do not fit.
        CompileError: the overlay cannot run the model, or no such batch.
        ValueError: there is no such number of buffers.
    """

    def __init__(
        self,
        board: Board,
        overlay: Overlay,
        model: QuantizedModel,
        *,
        batch_size: int | None = None,
        buffers: int = 2,
        retry: bool = False,
        verify: Verify = "sample",
    ) -> None:
        if not 1 <= buffers <= MAX_BUFFERS:
            raise ValueError(f"{buffers} buffers; 1 to {MAX_BUFFERS} can be had")
        self.program = compile_model(model, overlay)
        largest = self.program.max_batch
        if batch_size is not None and batch_size < 1:
            raise CompileError(f"a batch of {batch_size} images of model {model.name!r}: 1 or more")
        self._sizes = device_batches(batch_size or min(largest, DEFAULT_BATCH), largest)
        self.batch_size = self._sizes[0]
        self.board, self.overlay, self.model = board, overlay, model
        self._buffers, self._retry, self._verify = buffers, retry, verify
        self._golden: GoldenCheck | None = None
        self._driver: Driver | None = None

    def __enter__(self) -> Session:
        if self._golden is None:
            self._golden = GoldenCheck(self.model, self._verify)
        driver = Driver(self.board, self.program, self.batch_size, self._buffers)
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

    def stream(self, images: ImageSource) -> Iterator[BatchResult]:
        """Run any number of images in batches, and give the results in order.

        While one batch runs the next ones are converted and laid into the other buffers.

        Args:
            images: (N, C, H, W), uint8 pixels or float32 normalized; or any iterable, of unknown
                length, of images (C, H, W) and blocks of images (n, C, H, W).

        Raises:
            MismatchError: the images are not the model's.
            DeviceError: the session is closed, or the device fails; it is reset and the session
                can be used again.
            VerificationError: outputs are not the exact engine's.
        """
        if isinstance(images, np.ndarray):
            check_images(images, self.model.input_shape)
        blocks = rebatch(images, self.model.input_shape, self._sizes)
        codes = (self._codes(block) for block in blocks)
        return self._results(self._open().run(codes, retry=self._retry))

    def repeat(self, images: Images, n_passes: int) -> BatchResult:
        """Run one batch `n_passes` times on the device, its images held on chip.

        Args:
            images: (n, C, H, W), 1 to `batch_size`.
            n_passes: 1 to 2**32 - 1.

        Raises:
            MismatchError: the images are not the model's, or too many.
            DeviceError: as `stream`; nothing is ever run a second time here.
            VerificationError: outputs of the last pass are not the exact engine's.
        """
        return self.verified(images, self.repeat_unverified(images, n_passes))

    def repeat_unverified(self, images: Images, n_passes: int) -> BatchResult:
        """As `repeat`, and the host computes nothing: what it does would be seen on a power rail.

        The result is to be given to `verified` before it is used.
        """
        check_images(images, self.model.input_shape)
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

    def verified(self, images: Images, result: BatchResult) -> BatchResult:
        """A result of `repeat_unverified`, checked.

        Raises:
            VerificationError: they are not the exact engine's.
        """
        return self._verified(self._codes(images), result)

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

    def _results(self, batches: Generator[DeviceBatch, None, None]) -> Iterator[BatchResult]:
        first = 0
        with closing(batches):
            for batch in batches:
                yield self._verified(batch.codes, self._result(batch, first))
                first += len(batch.outputs)

    def _verified(self, codes: Codes, result: BatchResult) -> BatchResult:
        driver, golden = self._open(), self._golden
        assert golden is not None
        n = golden.check(codes, result.outputs, result.first_index, self.overlay, driver.run_other)
        return replace(result, n_verified=n)

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
            batch.received_ns,
            batch.latency_ns,
            batch.stall_in_cycles,
            batch.stall_out_cycles,
            batch.bytes_in,
            batch.bytes_out,
            batch.retried,
        )


def output_values(model: QuantizedModel, outputs: Outputs) -> npt.NDArray[np.float64]:
    """Float outputs (N, C, H, W): each channel times its own scale."""
    return model.values(outputs)


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
