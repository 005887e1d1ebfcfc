"""The driver: the register protocol, DMA, double buffering and deadlines, written once.

It knows the board only by `bacmac.host.device.board.Board`, so the same code runs on the emulated
models, on simulated RTL and on hardware. It never waits without a deadline: how long a batch may
take follows from its cycles, and a device that stays silent is an error that tells its registers,
after which it is reset, so that the next batch finds it as if nothing had been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from weakref import WeakSet

import numpy as np

from bacmac.host.arith.reference import Codes
from bacmac.host.compile.program import Program
from bacmac.host.device.batch import DeviceBatch, LayerCounters
from bacmac.host.device.board import Board, Buffer
from bacmac.host.device.identity import check_identity
from bacmac.host.device.named_registers import NamedRegisters
from bacmac.host.device.protocol import LAYER_COUNTERS, LOADS, ErrorCode, Select
from bacmac.host.errors import DeviceError, DeviceTimeoutError

DEADLINE_FACTOR = 2
DEADLINE_FLOOR_NS = 250_000_000
"""Deadline = 2 x what the cycles say + 0.25 s: room for a host that is busy elsewhere."""
POLL_NS = 20_000
MAX_POLL_NS = 100_000_000
"""While work is due the driver sleeps until it should be over, at most 0.1 s at a time."""

_DRIVEN: WeakSet[Board] = WeakSet()
"""Boards with an open driver: two would run each other's programs."""


@dataclass(frozen=True)
class _Slot:
    """Buffers of one batch in flight: one DMA transfer in, one out."""

    input: Buffer
    output: Buffer


@dataclass(frozen=True)
class _Flight:
    """A batch that runs."""

    slot: _Slot
    n_images: int
    passes: int
    start_ns: int


class Driver:
    """One accelerator on one board. Not for use from more than one thread.

    Args:
        board: open; it stays the caller's to close.
        program: what is to run, compiled for the overlay that is to be loaded.
        batch_size: the most images of one batch.
    """

    def __init__(self, board: Board, program: Program, batch_size: int) -> None:
        self._board, self._program, self._batch_size = board, program, batch_size
        self._overlay = program.overlay
        self._registers = NamedRegisters(board, program.overlay.registers)
        self._buffers: list[Buffer] = []
        self._slots: tuple[_Slot, ...] = ()
        self._open = self._loaded = False
        self._flight: _Flight | None = None
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
            self._slots = (self._allocate_slot(), self._allocate_slot())
            self._load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop what runs and free every buffer; may be called twice."""
        if not self._open:
            return
        try:
            if self._flight is not None:
                self.reset()
        finally:
            self._slots = ()
            while self._buffers:
                self._buffers.pop().free()
            _DRIVEN.discard(self._board)
            self._open = False

    def reset(self) -> None:
        """Bring accelerator and DMA back to the state after configuration, from any state."""
        self._flight = None
        self._loaded = False
        self._images_counted = 0
        self._board.reset_dma()
        self._registers.command("SOFT_RESET")

    # ---- run

    def run(self, batches: Iterable[Codes]) -> Iterator[DeviceBatch]:
        """Run batches (n, C, H, W) in order, each prepared while the one before it runs.

        On any error, and when the caller stops early, the device is reset; the driver can be
        used again.

        Raises:
            DeviceError: the device reports an error.
            DeviceTimeoutError: it does not report at all.
        """
        self._check_free()
        try:
            for number, codes in enumerate(batches):
                slot = self._slots[number % 2]
                self._fill(slot, codes)
                done = self._finish() if self._flight is not None else None
                self._start(slot, len(codes), passes=1)
                if done is not None:
                    yield done
            if self._flight is not None:
                yield self._finish()
        finally:
            if self._flight is not None:
                self.reset()

    def repeat(self, codes: Codes, passes: int) -> DeviceBatch:
        """Run one batch `passes` times on the device; the outputs are those of the last pass.

        Raises:
            DeviceError: as `run`.
        """
        self._check_free()
        try:
            self._fill(self._slots[0], codes)
            self._start(self._slots[0], len(codes), passes)
            return self._finish()
        finally:
            if self._flight is not None:
                self.reset()

    def layer_counters(self) -> tuple[LayerCounters, ...]:
        """Counters of each layer over the last batch that ended, as long as no other runs.

        Raises:
            DeviceError: a batch runs, or none has ended since the device was reset.
        """
        self._check_free()
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
        if self._flight is not None:
            raise DeviceError("a batch of another stream still runs: end that stream first")

    def _allocate_slot(self) -> _Slot:
        program, size = self._program, self._batch_size
        inputs = self._allocate(size * program.input.n_bytes)
        return _Slot(inputs, self._allocate(size * program.output.n_bytes))

    def _allocate(self, n_bytes: int) -> Buffer:
        buffer = self._board.allocate(n_bytes)
        self._buffers.append(buffer)
        return buffer

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
            self._wait(taken, 0, f"the {select.name} image is not taken")
        self._loaded = True

    def _send_image(self, image: bytes) -> None:
        buffer = self._allocate(len(image))
        try:
            buffer.array[:] = np.frombuffer(image, np.uint8)
            buffer.flush()
            self._board.start_send(buffer, len(image))
            self._wait(lambda: self._board.send_state().idle, 0, "a transfer to the device hangs")
        except BaseException:
            self.reset()  # before the buffer goes: a DMA may still read it
            raise
        finally:
            self._buffers.remove(buffer)
            buffer.free()

    def _fill(self, slot: _Slot, codes: Codes) -> None:
        """Lay images into a slot's input buffers."""
        if not 0 < len(codes) <= self._batch_size:
            raise ValueError(f"a batch of {len(codes)} images; 1 to {self._batch_size} fit")
        rows = slot.input.array[: len(codes) * self._program.input.n_bytes]
        self._program.input.pack(codes, rows.reshape(len(codes), -1))
        slot.input.flush()

    def _start(self, slot: _Slot, n_images: int, passes: int) -> None:
        if not self._loaded:
            self._load()
        self._registers.write("STREAM_SELECT", Select.IMAGES)
        self._registers.write("N_IMAGES", n_images)
        self._registers.write("REPEAT", passes)
        self._flight = _Flight(slot, n_images, passes, self._board.clock.now_ns())
        self._board.start_receive(slot.output, n_images * self._program.output.n_bytes)
        self._registers.command("START", "CLEAR_COUNTERS")
        self._board.start_send(slot.input, n_images * self._program.input.n_bytes)

    def _finish(self) -> DeviceBatch:
        flight = self._flight
        assert flight is not None
        program = self._program
        work = program.batch_work(flight.n_images, flight.passes)
        expected_ns = round(work.cycles * 1e9 / self._overlay.manifest.clock_hz)
        elapsed_ns = self._board.clock.now_ns() - flight.start_ns
        self._wait(
            lambda: self._receive_idle() and self._registers.flag("STATUS", "DONE"),
            expected_ns,
            f"a batch of {flight.n_images} images, {flight.passes} passes, does not end",
            elapsed_ns,
        )
        seen_ns = self._board.clock.now_ns()
        slot = flight.slot
        slot.output.invalidate()
        data = slot.output.array[: flight.n_images * program.output.n_bytes]
        counter = self._registers.counter
        cycles = counter("CYCLES")
        # the accelerator counts from START to DONE: better than when the host came to look
        ran_ns = math.ceil(cycles * 1e9 / self._board.clock_hz())
        batch = DeviceBatch(
            program.output.unpack(data.reshape(flight.n_images, -1)),
            cycles - counter("STALL_IN_CYCLES") - counter("STALL_OUT_CYCLES"),
            counter("BUSY_CYCLES"),
            counter("PRODUCTS"),
            counter("ISOLATED"),
            counter("SKIPPED"),
            counter("IMAGES"),
            flight.start_ns,
            min(flight.start_ns + ran_ns, seen_ns),
        )
        self._flight, self._images_counted = None, batch.images
        return batch

    def _receive_idle(self) -> bool:
        return self._board.receive_state().idle

    def _wait(
        self, done: Callable[[], bool], expected_ns: int, what: str, elapsed_ns: int = 0
    ) -> None:
        """Poll until done; before the time it should take is over, sleep rather than poll.

        Raises:
            DeviceError: the accelerator or the DMA reports an error.
            DeviceTimeoutError: the deadline passed.
        """
        clock = self._board.clock
        start_ns = clock.now_ns() - elapsed_ns
        due_ns = start_ns + expected_ns
        deadline_ns = start_ns + DEADLINE_FACTOR * expected_ns + DEADLINE_FLOOR_NS
        pause_ns = POLL_NS
        while not done():
            self._raise_errors(what)
            now_ns = clock.now_ns()
            if now_ns >= deadline_ns:
                message = f"{what} within {(now_ns - start_ns) * 1e-9:.3f} s: {self.state()}"
                self.reset()
                raise DeviceTimeoutError(f"{self._board.word} {message}; it was reset")
            if now_ns < due_ns:
                clock.sleep_ns(min(due_ns - now_ns, MAX_POLL_NS))
            else:
                clock.sleep_ns(pause_ns)
                pause_ns = min(2 * pause_ns, MAX_POLL_NS)

    def _raise_errors(self, what: str) -> None:
        failed = [
            f"DMA {name} failed: {state.error}"
            for name, state in (
                ("send", self._board.send_state()),
                ("receive", self._board.receive_state()),
            )
            if state.error
        ]
        if self._registers.flag("STATUS", "ERROR"):
            failed.append("the accelerator stopped")
        if failed:
            message = f"{what}: {', '.join(failed)}: {self.state()}"
            self.reset()
            raise DeviceError(f"{self._board.word} {message}; it was reset")

    def state(self) -> str:
        """STATUS decoded, and what else tells what the device is doing, in one line."""
        error = ErrorCode.words(self._registers.value("STATUS", "ERROR_CODE"))
        return (
            f"{self._registers.describe('STATUS')} ({error}), "
            f"ERROR_INFO {self._registers.read('ERROR_INFO')}, "
            f"STREAM_SELECT {self._registers.read('STREAM_SELECT')}, "
            f"send {'idle' if self._board.send_state().idle else 'busy'}, "
            f"receive {'idle' if self._receive_idle() else 'busy'}"
        )
