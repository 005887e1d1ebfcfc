"""The accelerator as an emulated board has it: a register slave and two streams.

It is given bytes and gives bytes back. Program, weights and constants come over the stream, are
decoded into an integer network (`bacmac.host.compile.loader`) and run by `bacmac.host.arith`; its
counters are `bacmac.host.compile.work` of what it decoded. So a wrong byte anywhere between the
model and the device gives wrong outputs, and not only on a board.

Time is the board's clock: the results are computed when the last input beat is in and become
visible when the cycles that the work takes have passed. On the virtual clock that is a sleep.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bacmac.host.compile.loader import BadDescriptorError, probe
from bacmac.host.compile.work import Work, batch_work, total
from bacmac.host.device.array import LoadedNetwork, held_memories, load_array, run_bytes
from bacmac.host.device.protocol import LAYER_COUNTERS, LOADS, ErrorCode, Select
from bacmac.host.device.timeline import Timeline
from bacmac.host.errors import DeviceError
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.manifest.registers import Register

GUARDED = ("STREAM_SELECT", "LOAD_BYTES", "N_IMAGES", "REPEAT", "N_DESCRIPTORS")
"""Registers that are not to be written while a load or a batch runs; START is the sixth."""
COUNTERS = (
    "CYCLES",
    "BUSY_CYCLES",
    "STALL_IN_CYCLES",
    "STALL_OUT_CYCLES",
    "PRODUCTS",
    "ISOLATED",
    "SKIPPED",
    "IMAGES",
)


@dataclass
class _Batch:
    """A batch between START and DONE; without a network there is none in the memories."""

    loaded: LoadedNetwork | BadDescriptorError
    n_images: int
    passes: int
    input_bytes: int
    started_ns: int
    output: bytes = b""
    input_end_ns: int | None = None
    end_ns: int | None = None
    stall_in: int = 0
    stall_out: int = 0


@dataclass
class _Load:
    """A load between STREAM_SELECT and its last beat."""

    kind: Select
    n_bytes: int
    packet: bytes = b""
    end_ns: int | None = None


class Accelerator:
    """One configured overlay.

    Args:
        overlay: whose registers, geometry and memories it has.
        word: the device word, a key of `array.COMPUTE`.
        timeline: its place on the board's clock.
    """

    def __init__(self, overlay: Overlay, word: str, timeline: Timeline) -> None:
        self._manifest, self._word = overlay.manifest, word
        self._map = overlay.registers
        self._at = {register.offset: register for register in overlay.registers.registers}
        self._timeline = timeline
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
        if name.endswith("_LO"):
            value = self._counter(counter)
            self._latched[counter] = value >> 32 & 0xFFFF_FFFF
            return value & 0xFFFF_FFFF
        if name.endswith("_HI"):
            return self._latched.get(counter, 0)
        if name == "STATUS":
            return self._status()
        special = {"BUILD": self._manifest.build_id, "CTRL": 0, "ERROR_INFO": self._error_info}
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
        elif register.name in GUARDED and self._busy:
            self._fail(ErrorCode.BUSY, offset)
        else:
            self._values[register.name] = value
            if register.name == "STREAM_SELECT" and self._select != Select.IMAGES:
                self._begin_load(self._select, self._values["LOAD_BYTES"])

    # ---- the streams

    def offer(self, packet: bytes) -> int | None:
        """Take a packet, see `bacmac.host.device.dma.Streams`."""
        self._settle()
        if self._error_code:
            return self._timeline.now_ns()  # swallowed
        load, batch = self._load, self._batch
        if load is not None and load.end_ns is None:
            announced = load.n_bytes
        elif batch is not None and batch.input_end_ns is None:
            announced = batch.input_bytes
        else:
            return None
        beat_bytes = self._manifest.beat_bytes
        taken = min(len(packet), announced)
        work = Work(cycles=-(-taken // beat_bytes))
        end_ns = self._timeline.add(self._timeline.next_ns(), work, taken)
        if len(packet) > announced:
            self._fail(ErrorCode.OVERRUN, announced)
        elif len(packet) % beat_bytes:
            self._fail(ErrorCode.BAD_BEAT, len(packet))
        elif len(packet) < announced:
            self._fail(ErrorCode.UNDERRUN, len(packet))
        elif load is not None:
            load.packet, load.end_ns = packet, end_ns
        elif batch is not None:
            self._take_images(batch, packet, end_ns)
        return end_ns

    def collect(self, posted_ns: int) -> tuple[bytes, int] | None:
        """Give the output, see `bacmac.host.device.dma.Streams`."""
        batch = self._batch
        if batch is None or batch.input_end_ns is None or batch.end_ns is not None:
            return None
        beats = len(batch.output) // self._manifest.beat_bytes
        work = replace(self._work(batch), cycles=self._inner_cycles(batch))
        worked_ns = self._timeline.add(batch.input_end_ns, work, 0)
        start_ns = max(worked_ns, posted_ns)
        batch.stall_out = self._timeline.cycles(start_ns - worked_ns)
        batch.end_ns = self._timeline.add(start_ns, Work(cycles=beats), len(batch.output))
        return batch.output, batch.end_ns

    def cancel(self) -> None:
        """The DMA was reset: packets are taken whole here, so nothing is half way."""

    # ---- inside

    def _reset(self) -> None:
        self._values = {register.name: register.reset for register in self._map.registers}
        self._memories: dict[Select, bytes] = dict.fromkeys(LOADS, b"")
        self._loaded: set[Select] = set()
        self._load: _Load | None = None
        self._error_code = self._error_info = 0
        self._done = False
        self._batch: _Batch | None = None
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._layer_works: tuple[Work, ...] = ()
        self._latched: dict[str, int] = {}
        self._timeline.stop()

    def _register(self, offset: int) -> Register:
        register = self._at.get(offset)
        if register is None:
            raise DeviceError(f"no register lies at {offset:#x} of {self._map.name}")
        return register

    @property
    def _select(self) -> Select:
        select = self._map.register("STREAM_SELECT").field("SELECT")
        return Select((self._values["STREAM_SELECT"] & select.mask) >> select.lsb)

    @property
    def _busy(self) -> bool:
        running = self._load is not None or self._batch is not None
        return running and not self._error_code

    def _counter(self, name: str) -> int:
        if name in COUNTERS:
            return self._counters[name] + self._running().get(name, 0)
        layer = self._values["LAYER_SELECT"]
        if layer >= len(self._layer_works):
            return 0
        count: int = getattr(self._layer_works[layer], LAYER_COUNTERS[name])
        return count

    def _running(self) -> dict[str, int]:
        """What the batch that runs has counted so far: cycles, and those spent waiting."""
        batch = self._batch
        if batch is None:
            return {}
        now = self._timeline.now_ns()
        counted = {"CYCLES": self._timeline.cycles(now - batch.started_ns)}
        if batch.input_end_ns is None:
            counted["STALL_IN_CYCLES"] = counted["CYCLES"]
        else:
            counted["STALL_IN_CYCLES"] = batch.stall_in
            if batch.end_ns is None:  # nobody takes the output
                waited = self._timeline.cycles(now - batch.input_end_ns) - self._inner_cycles(batch)
                counted["STALL_OUT_CYCLES"] = max(waited, 0)
        return counted

    def _inner_cycles(self, batch: _Batch) -> int:
        """Cycles between the last input beat and the first output beat."""
        streamed = len(batch.output) + batch.input_bytes
        return self._work(batch).cycles - streamed // self._manifest.beat_bytes

    def _status(self) -> int:
        failed, busy = self._error_code != 0, self._busy
        values = {
            "IDLE": not busy and not failed,
            "BUSY": busy,
            "DONE": self._done,
            "ERROR": failed,
            "ERROR_CODE": self._error_code,
        }
        values.update({kind.name: kind in self._loaded for kind in LOADS})
        register = self._map.register("STATUS")
        return sum(int(value) << register.field(name).lsb for name, value in values.items())

    def _command(self, register: Register, value: int) -> None:
        if value & register.field("SOFT_RESET").mask:
            self._reset()
            return
        start = bool(value & register.field("START").mask)
        if start and self._busy:
            self._fail(ErrorCode.BUSY, register.offset)
            return
        if value & register.field("CLEAR_COUNTERS").mask:
            self._counters = dict.fromkeys(COUNTERS, 0)
        if start and not self._error_code:
            self._start()

    def _begin_load(self, kind: Select, n_bytes: int) -> None:
        if self._error_code:
            return
        self._loaded -= set(LOADS) if kind == Select.PROGRAM else {kind}
        buffers = self._manifest.buffers
        capacity = {
            Select.PROGRAM: buffers.program_bytes,
            Select.WEIGHTS: buffers.weight_bytes,
            Select.CONSTANTS: buffers.constant_bytes,
        }[kind]
        if kind != Select.PROGRAM and Select.PROGRAM not in self._loaded:
            self._fail(ErrorCode.NOT_LOADED, Select.PROGRAM)
        elif n_bytes % self._manifest.beat_bytes:
            self._fail(ErrorCode.BAD_BEAT, n_bytes)
        elif n_bytes > capacity:
            self._fail(ErrorCode.OVERRUN, n_bytes)
        elif n_bytes == 0:
            self._memories[kind] = b""
            self._loaded.add(kind)
        else:
            self._load = _Load(kind, n_bytes)

    def _start(self) -> None:
        self._done = False
        self._layer_works = ()
        missing = sorted(set(LOADS) - self._loaded)
        names = ("N_IMAGES", "REPEAT", "N_DESCRIPTORS")
        n_images, passes, n_descriptors = (self._values[name] for name in names)
        buffers, beat_bytes = self._manifest.buffers, self._manifest.beat_bytes
        if missing:
            self._fail(ErrorCode.NOT_LOADED, missing[0])
            return
        if 0 in (n_images, passes, n_descriptors):
            self._fail(ErrorCode.UNDERRUN, 0)
            return
        if n_descriptors > buffers.max_descriptors:
            self._fail(ErrorCode.BAD_DESCRIPTOR, buffers.max_descriptors)
            return
        memories = held_memories(self._manifest, self._memories, n_descriptors)
        try:
            first = probe(memories)
        except BadDescriptorError as error:
            self._fail(ErrorCode.BAD_DESCRIPTOR, error.index)
            return
        input_bytes = n_images * -(-first.input_bytes // beat_bytes) * beat_bytes
        if first.input_address + input_bytes > buffers.activation_bytes:
            self._fail(ErrorCode.OVERRUN, first.input_address + input_bytes)
            return
        try:
            loaded: LoadedNetwork | BadDescriptorError = load_array(memories, self._word)
        except BadDescriptorError as error:
            loaded = error
        self._batch = _Batch(loaded, n_images, passes, input_bytes, self._timeline.now_ns())

    def _take_images(self, batch: _Batch, packet: bytes, end_ns: int) -> None:
        if isinstance(batch.loaded, BadDescriptorError):
            self._fail(ErrorCode.BAD_DESCRIPTOR, batch.loaded.index)
            return
        output = run_bytes(batch.loaded, packet, batch.n_images)
        batch.output = output
        batch.input_end_ns = end_ns
        waited = self._timeline.cycles(end_ns - batch.started_ns)
        batch.stall_in = max(waited - batch.input_bytes // self._manifest.beat_bytes, 0)

    def _work(self, batch: _Batch) -> Work:
        loaded, beat_bytes = _network(batch), self._manifest.beat_bytes
        return batch_work(
            total(loaded.layers),
            batch.n_images,
            batch.passes,
            input_beats=loaded.input.n_bytes // beat_bytes,
            output_beats=loaded.output.n_bytes // beat_bytes,
            geometry=self._manifest.geometry,
        )

    def _fail(self, code: ErrorCode, info: int) -> None:
        self._error_code, self._error_info = code, info & 0xFFFF_FFFF
        self._load = self._batch = None

    def _settle(self) -> None:
        """End the load or the batch whose time has come, and count it."""
        now = self._timeline.now_ns()
        load, batch = self._load, self._batch
        if load is not None and load.end_ns is not None and now >= load.end_ns:
            self._memories[load.kind] = load.packet
            self._loaded.add(load.kind)
            self._load = None
        if batch is None or batch.end_ns is None or now < batch.end_ns:
            return
        work, passed = self._work(batch), batch.n_images * batch.passes
        counted = (
            work.cycles + batch.stall_in + batch.stall_out,
            work.busy_cycles,
            batch.stall_in,
            batch.stall_out,
            work.products_done,
            work.products_isolated,
            work.products_skipped,
            passed,
        )
        for name, value in zip(COUNTERS, counted, strict=True):
            self._counters[name] += value
        self._layer_works = tuple(layer.times(passed) for layer in _network(batch).layers)
        self._batch, self._done = None, True


def _network(batch: _Batch) -> LoadedNetwork:
    if isinstance(batch.loaded, BadDescriptorError):
        raise RuntimeError("a batch without a network has run")
    return batch.loaded
