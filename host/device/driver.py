"""The driver: the register protocol, DMA, n-fold buffering and deadlines, written once.

It knows the board only by `bacmac.host.device.board.Board`, so the same code runs on the emulated
models, on simulated RTL and on hardware. It never waits without a deadline: how long a batch may
take follows from its cycles, and a device that stays silent is an error that tells its state and
the cause (`bacmac.host.device.state`), after which it is reset, so that the next batch finds it as
if nothing had been.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from functools import partial
from weakref import WeakSet

from bacmac.host.arith.reference import Codes, Outputs
from bacmac.host.compile.program import Program
from bacmac.host.device.batch import DeviceBatch, LayerCounters
from bacmac.host.device.board import Board
from bacmac.host.device.identity import check_identity
from bacmac.host.device.named_registers import NamedRegisters
from bacmac.host.device.protocol import LAYER_COUNTERS, LOADS, Select
from bacmac.host.device.slots import FilledSlot, Slot, Slots
from bacmac.host.device.state import cause_of
from bacmac.host.device.watch import Watch
from bacmac.host.errors import DeviceError

Batches = Generator[DeviceBatch, None, None]

_DRIVEN: WeakSet[Board] = WeakSet()
"""Boards with an open driver: two would run each other's programs."""
_COUNTERS = {
    "CYCLES": "cycles",
    "BUSY_CYCLES": "busy_cycles",
    "PRODUCTS": "products_done",
    "ISOLATED": "products_isolated",
    "SKIPPED": "products_skipped",
    "IMAGES": "images",
    "STALL_IN_CYCLES": "stall_in_cycles",
    "STALL_OUT_CYCLES": "stall_out_cycles",
}
"""Counters of a batch, and what `DeviceBatch` calls them."""


@dataclass(frozen=True, eq=False)
class _Flight:
    """A batch that runs, or could not be started."""

    batch: FilledSlot
    passes: int
    start_ns: int
    failure: DeviceError | None = None


@dataclass(frozen=True, eq=False)
class _Ended:
    """A batch that has ended; its outputs are still in its slot."""

    flight: _Flight
    counters: dict[str, int]
    end_ns: int


class Driver:
    """One accelerator on one board. Not for use from more than one thread.

    Args:
        board: open; it stays the caller's to close.
        program: what is to run, compiled for the overlay that is to be loaded.
        batch_size: the most images of one batch.
        slots: buffers for so many batches: one runs, one is unpacked, the others wait filled.
    """

    def __init__(self, board: Board, program: Program, batch_size: int, slots: int = 2) -> None:
        self._board, self._program, self._batch_size = board, program, batch_size
        self._overlay, self._slots = program.overlay, Slots(board, slots)
        self._registers = NamedRegisters(board, program.overlay.registers)
        self._watch = Watch(board, program.overlay.registers)
        self._open = self._loaded = False
        self._flight: _Flight | None = None
        self._stream: object | None = None
        self._images_counted = 0

    # ---- open, load, close

    def open(self) -> None:
        """Configure the board, check what it says of itself, allocate, and load the program.

        Raises:
            MismatchError: the board runs something other than the overlay.
            DeviceError: another driver is open on the board, no memory, or a load that fails.
        """
        if self._board in _DRIVEN:
            raise DeviceError(f"{self._board.word} is in use by another session: close that first")
        _DRIVEN.add(self._board)
        self._open = True
        try:
            self._board.load_overlay(self._overlay)
            check_identity(self._board, self._overlay)
            self._slots.get(self._program, self._batch_size)
            self._load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop what runs and free every buffer; may be called twice."""
        if not self._open:
            return
        self._stream = None
        try:
            if self._flight is not None:
                self.reset()
        finally:
            self._slots.free()
            _DRIVEN.discard(self._board)
            self._open = False

    def reset(self) -> None:
        """Bring accelerator and DMA back to the state after configuration, from any state."""
        self._forget()
        self._watch.reset()

    # ---- run

    def run(self, batches: Iterable[Codes], *, retry: bool = False) -> Batches:
        """Run batches (n, C, H, W) in order, each prepared while one before it runs.

        When a batch has ended the next that is filled is started before its outputs are unpacked.
        On any error, and when the caller stops early, the device is reset; the driver can be
        used again.

        Args:
            batches: any number of them; asked for one when there is a slot for it.
            retry: run a batch that failed once more, in new buffers on a device that was reset
                and loaded again; the next failure of the same batch is raised.

        Raises:
            DeviceError: the device reports an error.
            DeviceTimeoutError: it does not report at all.
        """
        self._check_free()
        free, ready = deque(self._slots.get(self._program, self._batch_size)), deque[FilledSlot]()
        source, drained = iter(batches), False
        self._stream = mine = object()
        try:
            while self._stream is mine:
                while free and not drained and not (ready and self._has_ended()):
                    codes = next(source, None)
                    drained = codes is None
                    if codes is not None:
                        ready.append(self._fill(free.popleft(), codes))
                    if self._flight is None and ready:
                        self._start(ready.popleft(), passes=1)
                flight = self._flight
                if flight is None:
                    return
                try:
                    ended = self._finish(flight)
                except DeviceError as error:
                    if not retry or flight.batch.retried:
                        raise
                    again = replace(
                        flight.batch, retried=cause_of(error), first_start_ns=flight.start_ns
                    )
                    free, ready = self._refill((again, *ready))
                    self._start(ready.popleft(), passes=1)
                    continue
                if ready:
                    self._start(ready.popleft(), passes=1)
                batch = self._collect(ended)
                free.append(flight.batch.slot)
                yield batch
            raise DeviceError("this stream was ended by another use of the device")
        finally:
            if self._stream is mine:
                self._stream = None
                if self._flight is not None:
                    self.reset()

    def repeat(self, codes: Codes, passes: int) -> DeviceBatch:
        """Run one batch `passes` times on the device; the outputs are those of the last pass.

        Raises:
            DeviceError: as `run`.
        """
        self._check_free()
        slot = self._slots.get(self._program, self._batch_size)[0]
        try:
            self._start(self._fill(slot, codes), passes)
            assert self._flight is not None
            return self._collect(self._finish(self._flight))
        finally:
            if self._flight is not None:
                self.reset()

    def run_other(self, program: Program, codes: Codes) -> Outputs:
        """Outputs of another program for the same overlay, once; then our own is loaded again.

        Whatever runs is stopped.

        Raises:
            DeviceError: as `run`.
        """
        own = self._program, self._batch_size
        self._stream = None
        self.reset()
        self._slots.free()
        self._program, self._batch_size = program, len(codes)
        try:
            return self.repeat(codes, 1).outputs
        finally:
            self._program, self._batch_size = own
            self._slots.free()
            self.reset()

    def layer_counters(self) -> tuple[LayerCounters, ...]:
        """Counters of each layer over the last batch that ended, as long as no other runs.

        Raises:
            DeviceError: a batch runs, or none has ended since the device was reset.
        """
        if self._flight is not None:
            raise DeviceError("a batch still runs: its layers are not counted yet")
        if not self._images_counted:
            raise DeviceError("no batch has ended: there are no counters of its layers")
        slots = self._overlay.manifest.geometry.inputs * self._overlay.manifest.geometry.outputs
        found = []
        for number, layer in enumerate(self._program.layers):
            self._registers.write("LAYER_SELECT", number)
            counts = {
                field: self._registers.counter(name) for name, field in LAYER_COUNTERS.items()
            }
            share = counts["products_done"] / (slots * max(counts["cycles"], 1))
            counters = LayerCounters(layer.name, self._images_counted, **counts, utilisation=share)
            found.append(counters)
        return tuple(found)

    # ---- inside

    def _check_free(self) -> None:
        if self._flight is not None or self._stream is not None:
            raise DeviceError("another stream has not been read to its end: end that stream first")

    def _forget(self) -> None:
        """The device was reset, or is about to be: nothing runs on it, nothing is loaded."""
        self._flight, self._loaded, self._images_counted = None, False, 0

    def _load(self) -> None:
        program = self._program
        self._registers.write("N_DESCRIPTORS", len(program.descriptors))
        images = program.program_image, program.weight_image, program.constant_image
        for select, image in zip(LOADS, images, strict=True):
            self._registers.write("LOAD_BYTES", len(image))
            self._registers.write("STREAM_SELECT", select)
            if image:
                self._send_image(image)
            taken = partial(self._registers.flag, "STATUS", select.name)
            self._watch.until(taken, f"the {select.name} image is not taken")
        self._loaded = True

    def _send_image(self, image: bytes) -> None:
        with self._slots.holding(image) as buffer:
            try:
                self._watch.start_send(buffer, len(image))
                self._watch.until(self._is_sent, "a transfer to the device does not end")
            except DeviceError:  # nothing was started, or it was reset
                raise
            except BaseException:
                self.reset()  # before the buffer goes: the DMA may still read it
                raise

    def _is_sent(self) -> bool:
        return self._board.send_state().idle

    def _fill(self, slot: Slot, codes: Codes) -> FilledSlot:
        """Lay images into a slot's input buffer."""
        if not 0 < len(codes) <= self._batch_size:
            raise ValueError(f"a batch of {len(codes)} images; 1 to {self._batch_size} fit")
        rows = slot.input.array[: len(codes) * self._program.input.n_bytes]
        self._program.input.pack(codes, rows.reshape(len(codes), -1))
        slot.input.flush()
        return FilledSlot(slot, codes)

    def _refill(self, batches: Iterable[FilledSlot]) -> tuple[deque[Slot], deque[FilledSlot]]:
        """New buffers after a failure, which may have been theirs; free slots and filled ones."""
        self._slots.free()
        free = deque(self._slots.get(self._program, self._batch_size))
        ready = deque(
            replace(batch, slot=self._fill(free.popleft(), batch.codes).slot) for batch in batches
        )
        return free, ready

    def _start(self, batch: FilledSlot, passes: int) -> None:
        """Start a batch; where that fails, whoever waits for the batch is told."""
        n_images, program = len(batch.codes), self._program
        self._flight = _Flight(batch, passes, self._board.clock.now_ns())
        try:
            if not self._loaded:
                self._load()
            self._registers.write("STREAM_SELECT", Select.IMAGES)
            self._registers.write("N_IMAGES", n_images)
            self._registers.write("REPEAT", passes)
            self._flight = _Flight(batch, passes, self._board.clock.now_ns())
            self._watch.start_receive(batch.slot.output, n_images * program.output.n_bytes)
            self._registers.command("START", "CLEAR_COUNTERS")
            self._watch.start_send(batch.slot.input, n_images * program.input.n_bytes)
        except DeviceError as error:
            self._watch.explain(error, "a batch cannot be started")
            self._flight = _Flight(batch, passes, self._board.clock.now_ns(), error)

    def _has_ended(self) -> bool:
        """Whether the batch that runs can be finished without waiting."""
        flight = self._flight
        if flight is None or flight.failure is not None:
            return flight is not None
        return self._board.receive_state().idle and self._registers.flag("STATUS", "DONE")

    def _finish(self, flight: _Flight) -> _Ended:
        """Wait for the end of a batch and read its counters, so that the next can be started."""
        try:
            return self._await_end(flight)
        except DeviceError:  # whoever raised it has reset the device; the buffers may be at fault
            self._forget()
            self._slots.free()
            raise

    def _await_end(self, flight: _Flight) -> _Ended:
        if flight.failure is not None:
            raise flight.failure
        n_images, clock = len(flight.batch.codes), self._board.clock
        passes = f", {flight.passes} passes," if flight.passes > 1 else ""
        what = f"a batch of {n_images} images{passes} does not end"
        work = self._program.batch_work(n_images, flight.passes)
        expected_ns = round(work.cycles * 1e9 / self._overlay.manifest.clock_hz)
        elapsed_ns = clock.now_ns() - flight.start_ns
        self._watch.until(self._has_ended, what, expected_ns, elapsed_ns)
        seen_ns = clock.now_ns()
        came = self._board.receive_state().n_bytes
        expected = n_images * self._program.output.n_bytes
        if came != expected:
            self._watch.fail(DeviceError, f"short packet: {came} of {expected} bytes came out")
        counters = {field: self._registers.counter(name) for name, field in _COUNTERS.items()}
        # the accelerator counts from START to DONE: better than when the host came to look
        ran_ns = math.ceil(counters["cycles"] * 1e9 / self._board.clock_hz())
        self._flight, self._images_counted = None, counters["images"]
        return _Ended(flight, counters, min(flight.start_ns + ran_ns, seen_ns))

    def _collect(self, ended: _Ended) -> DeviceBatch:
        """Bring the outputs of a batch that has ended into the host's hands."""
        flight, counters, program = ended.flight, dict(ended.counters), self._program
        slot, n_images = flight.batch.slot, len(flight.batch.codes)
        slot.output.invalidate()
        data = slot.output.array[: n_images * program.output.n_bytes]
        outputs = program.output.unpack(data.reshape(n_images, -1))
        received_ns, first_ns = self._board.clock.now_ns(), flight.batch.first_start_ns
        counters["cycles"] -= counters["stall_in_cycles"] + counters["stall_out_cycles"]
        return DeviceBatch(
            codes=flight.batch.codes,
            outputs=outputs,
            **counters,
            start_ns=flight.start_ns,
            end_ns=ended.end_ns,
            received_ns=received_ns,
            latency_ns=received_ns - (flight.start_ns if first_ns is None else first_ns),
            bytes_in=n_images * program.input.n_bytes,
            bytes_out=len(data),
            retried=flight.batch.retried,
        )
