"""The accelerator as an emulated board has it: a register slave and two streams.

It is given bytes and gives bytes back. Program, weights and constants come over the stream, are
decoded into an integer network (`bacmac.host.compile.loader`) and run by `bacmac.host.arith`; its
counters are `bacmac.host.compile.work` of what it decoded. So a wrong byte anywhere between the
model and the device gives wrong outputs, and not only on a board.

Time is the board's clock: the results are computed when the last input beat is in and become
visible when the cycles that the work takes have passed. On the virtual clock that is a sleep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bacmac.host.compile.descriptor import DESCRIPTOR_BYTES
from bacmac.host.compile.loader import (
    BadDescriptorError,
    Memories,
    constant_end,
    read_descriptors,
    weight_end,
)
from bacmac.host.compile.work import Work, batch_work
from bacmac.host.device.array import LoadedNetwork, load_array, run_bytes
from bacmac.host.device.timeline import Timeline
from bacmac.host.errors import DeviceError
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.manifest.registers import Register

IMAGES, PROGRAM, WEIGHTS, CONSTANTS = range(4)
"""Values of STREAM_SELECT."""
LOADED_FLAG = {PROGRAM: "PROGRAM", WEIGHTS: "WEIGHTS", CONSTANTS: "CONSTANTS"}
BAD_DESCRIPTOR, OVERRUN, UNDERRUN, NOT_LOADED, BAD_LENGTH = range(1, 6)
"""Values of STATUS.ERROR_CODE."""
COUNTERS = (
    "CYCLES",
    "BUSY_CYCLES",
    "STALL_IN_CYCLES",
    "STALL_OUT_CYCLES",
    "PRODUCTS",
    "SKIPPED",
    "IMAGES",
)


@dataclass
class _Batch:
    """A batch between START and DONE."""

    loaded: LoadedNetwork
    n_images: int
    passes: int
    started_ns: int
    received: bytearray = field(default_factory=bytearray)
    output: bytes = b""
    input_end_ns: int | None = None
    end_ns: int | None = None
    stall_in: int = 0
    stall_out: int = 0

    @property
    def input_bytes(self) -> int:
        return self.n_images * self.loaded.input.n_bytes


class Accelerator:
    """One configured overlay.

    Args:
        overlay: whose registers, geometry and memories it has.
        word: the device word, a key of `array.COMPUTE`.
        timeline: its place on the board's clock.
        build_id: what BUILD reads.
        spoil: applied to the bytes of every output packet; a fault for tests.
    """

    def __init__(
        self,
        overlay: Overlay,
        word: str,
        timeline: Timeline,
        *,
        build_id: int,
        spoil: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._manifest, self._word = overlay.manifest, word
        self._map = overlay.registers
        self._at = {register.offset: register for register in overlay.registers.registers}
        self._timeline, self._spoil = timeline, spoil
        self._build_id = build_id
        self._reset()

    # ---- the slave

    def read(self, offset: int) -> int:
        """A 32-bit register.

        Raises:
            DeviceError: there is none at the offset, or it cannot be read.
        """
        register = self._register(offset)
        if register.access == "write-only":
            raise DeviceError(f"register {register.name} cannot be read")
        self._settle()
        name, counter = register.name, register.name[:-3]
        if counter in COUNTERS and name.endswith("_LO"):
            value = self._counters[counter]
            self._latched[counter] = value >> 32 & 0xFFFF_FFFF
            return value & 0xFFFF_FFFF
        if counter in COUNTERS and name.endswith("_HI"):
            return self._latched[counter]
        if name == "STATUS":
            return self._status()
        special = {"BUILD": self._build_id, "CTRL": 0, "ERROR_INFO": self._error_info}
        return special.get(name, self._values[name])

    def write(self, offset: int, value: int) -> None:
        """A 32-bit register.

        Raises:
            DeviceError: there is none at the offset, or it cannot be written.
        """
        register = self._register(offset)
        if register.access == "read-only":
            raise DeviceError(f"register {register.name} cannot be written")
        if not 0 <= value < 1 << 32:
            raise DeviceError(f"register {register.name} has 32 bits; {value:#x} does not fit")
        self._settle()
        if register.name == "CTRL":
            self._command(register, value)
            return
        self._values[register.name] = value
        if register.name == "STREAM_SELECT" and (kind := self._select) != IMAGES:
            self._memories[kind] = b""  # a new load begins
            self._loaded.discard(kind)
            self._check_loaded(kind)

    # ---- the streams

    def offer(self, packet: bytes) -> int | None:
        """Take a packet, see `bacmac.host.device.dma.Streams`."""
        self._settle()
        batch, images = self._batch, self._select == IMAGES
        waits_for_start = batch is None or batch.input_end_ns is not None
        if self._error_code or (waits_for_start if images else batch is not None):
            return None
        beats = len(packet) // self._manifest.beat_bytes
        end_ns = self._timeline.add(self._timeline.next_ns(), Work(cycles=beats), len(packet))
        if len(packet) % self._manifest.beat_bytes:
            self._fail(BAD_LENGTH, len(packet))
        elif images and batch is not None:
            self._take_images(batch, packet, end_ns)
        else:
            self._take_memory(self._select, packet)
        return end_ns

    def collect(self, posted_ns: int) -> tuple[bytes, int] | None:
        """Give the output, see `bacmac.host.device.dma.Streams`."""
        batch = self._batch
        if batch is None or batch.input_end_ns is None or batch.end_ns is not None:
            return None
        work = batch.loaded.work.times(batch.n_images * batch.passes)
        worked_ns = self._timeline.add(batch.input_end_ns, work, 0)
        start_ns = max(worked_ns, posted_ns)
        batch.stall_out = self._timeline.cycles(start_ns - worked_ns)
        beats = len(batch.output) // self._manifest.beat_bytes
        batch.end_ns = self._timeline.add(start_ns, Work(cycles=beats), len(batch.output))
        return batch.output, batch.end_ns

    # ---- inside

    def _reset(self) -> None:
        self._values = {register.name: register.reset for register in self._map.registers}
        self._memories: dict[int, bytes] = dict.fromkeys(LOADED_FLAG, b"")
        self._loaded: set[int] = set()
        self._needs: dict[int, int] = {}
        self._error_code = self._error_info = 0
        self._done = False
        self._batch: _Batch | None = None
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._latched = dict.fromkeys(COUNTERS, 0)
        self._timeline.stop()

    def _register(self, offset: int) -> Register:
        register = self._at.get(offset)
        if register is None:
            raise DeviceError(f"no register lies at {offset:#x} of {self._map.name}")
        return register

    @property
    def _select(self) -> int:
        select = self._map.register("STREAM_SELECT").field("SELECT")
        return (self._values["STREAM_SELECT"] & select.mask) >> select.lsb

    def _status(self) -> int:
        failed = self._error_code != 0
        busy = self._batch is not None and not failed
        values = {
            "IDLE": not busy and not failed,
            "BUSY": busy,
            "DONE": self._done,
            "ERROR": failed,
            "ERROR_CODE": self._error_code,
        }
        values.update({name: kind in self._loaded for kind, name in LOADED_FLAG.items()})
        register = self._map.register("STATUS")
        return sum(int(value) << register.field(name).lsb for name, value in values.items())

    def _command(self, register: Register, value: int) -> None:
        if value & register.field("SOFT_RESET").mask:
            self._reset()
            return
        if value & register.field("CLEAR_COUNTERS").mask:
            self._counters = dict.fromkeys(COUNTERS, 0)
        if value & register.field("START").mask and self._batch is None and not self._error_code:
            self._start()

    def _start(self) -> None:
        self._done = False
        missing = sorted(set(LOADED_FLAG) - self._loaded)
        n_images, passes = self._values["N_IMAGES"], self._values["REPEAT"]
        if missing:
            self._fail(NOT_LOADED, missing[0])
            return
        if n_images == 0 or passes == 0:
            self._fail(UNDERRUN, 0)
            return
        memories = Memories(
            self._memories[PROGRAM],
            self._memories[WEIGHTS],
            self._memories[CONSTANTS],
            self._manifest.geometry,
            self._manifest.scheme,
            self._manifest.beat_bytes,
        )
        try:
            loaded = load_array(memories, self._word)
        except BadDescriptorError as error:
            self._fail(BAD_DESCRIPTOR, error.index)
            return
        held_bytes = loaded.image_address + n_images * loaded.input.n_bytes
        if held_bytes > self._manifest.buffers.activation_bytes:
            self._fail(OVERRUN, held_bytes)
            return
        self._batch = _Batch(loaded, n_images, passes, self._timeline.now_ns())

    def _take_images(self, batch: _Batch, packet: bytes, end_ns: int) -> None:
        batch.received += packet
        if len(batch.received) > batch.input_bytes:
            self._fail(BAD_LENGTH, len(batch.received))
        elif len(batch.received) == batch.input_bytes:
            output = run_bytes(batch.loaded, batch.received, batch.n_images)
            batch.output = self._spoil(output) if self._spoil else output
            batch.input_end_ns = end_ns
            waited = self._timeline.cycles(end_ns - batch.started_ns)
            batch.stall_in = max(waited - batch.input_bytes // self._manifest.beat_bytes, 0)

    def _take_memory(self, kind: int, packet: bytes) -> None:
        """Append a packet to a memory, and see whether it is complete."""
        self._memories[kind] += packet
        size = len(self._memories[kind])
        if kind != PROGRAM and PROGRAM not in self._loaded:
            self._fail(NOT_LOADED, PROGRAM)
        elif size > self._capacity(kind):
            self._fail(OVERRUN, size)
        elif size > self._need(kind):
            self._fail(BAD_LENGTH, size)
        else:
            self._check_loaded(kind)

    def _capacity(self, kind: int) -> int:
        buffers = self._manifest.buffers
        if kind == PROGRAM:
            return buffers.max_descriptors * DESCRIPTOR_BYTES
        return buffers.weight_bytes if kind == WEIGHTS else buffers.constant_bytes

    def _need(self, kind: int) -> int:
        if kind == PROGRAM:
            return self._values["N_DESCRIPTORS"] * DESCRIPTOR_BYTES
        return self._needs[kind]

    def _check_loaded(self, kind: int) -> None:
        """Mark a memory as loaded when it holds what is needed."""
        if kind != PROGRAM and PROGRAM not in self._loaded:
            return
        if len(self._memories[kind]) != self._need(kind):
            return
        if kind == PROGRAM:
            self._loaded.clear()  # weights of another program are not this one's
            if not self._memories[PROGRAM]:
                return
            try:
                descriptors = read_descriptors(self._memories[PROGRAM])
            except BadDescriptorError as error:
                self._fail(BAD_DESCRIPTOR, error.index)
                return
            beat_bytes = self._manifest.beat_bytes
            self._needs = {
                WEIGHTS: weight_end(descriptors, beat_bytes),
                CONSTANTS: constant_end(descriptors, self._manifest.geometry, beat_bytes),
            }
            # a program of pools alone needs no weights
            self._loaded = {other for other, need in self._needs.items() if need == 0}
        self._loaded.add(kind)

    def _fail(self, code: int, info: int) -> None:
        self._error_code, self._error_info = code, info & 0xFFFF_FFFF

    def _settle(self) -> None:
        """End the batch whose time has come, and count it."""
        batch = self._batch
        if batch is None or batch.end_ns is None or self._timeline.now_ns() < batch.end_ns:
            return
        loaded, passed = batch.loaded, batch.n_images * batch.passes
        io_beats = loaded.io_bytes // self._manifest.beat_bytes
        work = batch_work(loaded.work, batch.n_images, batch.passes, io_beats)
        counted = (
            work.cycles + batch.stall_in + batch.stall_out,
            loaded.work.cycles * passed,
            batch.stall_in,
            batch.stall_out,
            work.products_done,
            work.products_skipped,
            passed,
        )
        for name, value in zip(COUNTERS, counted, strict=True):
            self._counters[name] += value
        self._batch, self._done = None, True
