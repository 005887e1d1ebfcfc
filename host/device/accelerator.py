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
from dataclasses import asdict, dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import IntegerNetwork
from bacmac.host.arith.reference import Codes, Outputs, run_reference
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.compile.descriptor import DESCRIPTOR_BYTES
from bacmac.host.compile.loader import (
    BadDescriptorError,
    Memories,
    constant_end,
    load_network,
    read_descriptors,
    weight_end,
)
from bacmac.host.compile.program import Tensor, stream_tensors
from bacmac.host.compile.work import Work, batch_work, network_work, total
from bacmac.host.device.activity import Activity, ActivityLog
from bacmac.host.device.clock import Clock
from bacmac.host.errors import DeviceError
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.manifest.registers import Register

Run = Callable[[Codes], Outputs]


def _fast(network: IntegerNetwork) -> Run:
    return Engine(network).run


def _definition(network: IntegerNetwork) -> Run:
    return lambda images: run_reference(network, images)


COMPUTE: dict[str, Callable[[IntegerNetwork], Run]] = {
    "functional:": _fast,
    "reference:": _definition,
}
"""How the emulated array gets its results, by device word."""

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


@dataclass(frozen=True, eq=False)
class _Loaded:
    """What was decoded from the memories."""

    run: Run
    input: Tensor
    output: Tensor
    input_range: tuple[int, int]
    image_address: int
    work: Work


@lru_cache(maxsize=8)  # by content: two models that take turns are decoded once each
def _load(memories: Memories, word: str) -> _Loaded:
    network = load_network(memories)
    bits = SCHEMES[memories.scheme].bits
    return _Loaded(
        COMPUTE[word](network),
        *stream_tensors(network, memories.beat_bytes),
        network.ranges[0],
        read_descriptors(memories.program[:DESCRIPTOR_BYTES])[0].input_address,
        total(network_work(network, memories.geometry, bits, memories.beat_bytes)),
    )


@dataclass
class _Batch:
    """A batch between START and DONE."""

    loaded: _Loaded
    n_images: int
    passes: int
    started_ns: int
    received: bytearray = field(default_factory=bytearray)
    input_end_ns: int | None = None
    output: bytes = b""
    end_ns: int | None = None
    stall_out: int = 0

    @property
    def input_bytes(self) -> int:
        return self.n_images * self.loaded.input.n_bytes


class Accelerator:
    """One configured overlay.

    Args:
        overlay: whose registers, geometry and memories it has.
        word: the device word, a key of COMPUTE.
        clock: the board's.
        activity: what it does is written there.
        build_id: what BUILD reads.
        spoil: applied to the bytes of every output packet; a fault for tests.
    """

    def __init__(
        self,
        overlay: Overlay,
        word: str,
        clock: Clock,
        activity: ActivityLog,
        *,
        build_id: int,
        spoil: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._manifest, self._word = overlay.manifest, word
        self._map = overlay.registers
        self._at = {register.offset: register for register in overlay.registers.registers}
        self._clock, self._activity, self._spoil = clock, activity, spoil
        self._build_id = build_id
        self._free_ns = clock.now_ns()
        self._reset()

    # ---- the slave

    def read(self, offset: int) -> int:
        """A 32-bit register."""
        register = self._register(offset)
        if register.access == "write-only":
            raise DeviceError(f"register {register.name} cannot be read")
        self._settle()
        name = register.name
        if name == "STATUS":
            return self._status()
        if name == "BUILD":
            return self._build_id
        if name == "CTRL":
            return 0
        if name == "ERROR_INFO":
            return self._error[1] & 0xFFFF_FFFF
        if name.endswith("_LO") and name[:-3] in COUNTERS:
            value = self._counters[name[:-3]]
            self._latched[name[:-3]] = value >> 32 & 0xFFFF_FFFF
            return value & 0xFFFF_FFFF
        if name.endswith("_HI") and name[:-3] in COUNTERS:
            return self._latched[name[:-3]]
        return self._values[name]

    def write(self, offset: int, value: int) -> None:
        """A 32-bit register."""
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
            self._memories[kind] = b""
            self._loaded.discard(kind)
            self._check_loaded(kind)

    # ---- the streams

    def offer(self, packet: bytes) -> int | None:
        """Take a packet, see `bacmac.host.device.dma.Streams`."""
        self._settle()
        if self._error[0] or (self._select != IMAGES and self._batch is not None):
            return None
        if self._select == IMAGES and (self._batch is None or self._batch.input_end_ns is not None):
            return None  # not ready: the stream waits for START
        start_ns = max(self._clock.now_ns(), self._free_ns)
        beats = len(packet) // self._manifest.beat_bytes
        end_ns = start_ns + self._ns(beats)
        self._note(start_ns, end_ns, Work(cycles=beats), len(packet))
        if len(packet) % self._manifest.beat_bytes:
            self._fail(BAD_LENGTH, len(packet))
        elif self._select == IMAGES:
            self._take_images(packet, end_ns)
        else:
            self._take_memory(self._select, packet)
        return end_ns

    def collect(self, posted_ns: int) -> tuple[bytes, int] | None:
        """Give the output, see `bacmac.host.device.dma.Streams`."""
        batch = self._batch
        if batch is None or batch.input_end_ns is None or batch.end_ns is not None:
            return None
        work = batch.loaded.work.times(batch.n_images * batch.passes)
        worked_ns = batch.input_end_ns + self._ns(work.cycles)
        self._note(batch.input_end_ns, worked_ns, work, 0)
        start_ns = max(worked_ns, posted_ns)
        beats = len(batch.output) // self._manifest.beat_bytes
        batch.stall_out = self._cycles(start_ns - worked_ns)
        batch.end_ns = start_ns + self._ns(beats)
        self._note(start_ns, batch.end_ns, Work(cycles=beats), len(batch.output))
        return batch.output, batch.end_ns

    # ---- inside

    def _reset(self) -> None:
        self._values = {
            register.name: register.reset
            for register in self._map.registers
            if register.access != "write-only"
        }
        self._memories: dict[int, bytes] = dict.fromkeys(LOADED_FLAG, b"")
        self._loaded: set[int] = set()
        self._needs: dict[int, int] = {}
        self._error = (0, 0)
        self._done = False
        self._batch: _Batch | None = None
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._latched = dict.fromkeys(COUNTERS, 0)
        self._cut_activity()

    def _register(self, offset: int) -> Register:
        register = self._at.get(offset)
        if register is None:
            raise DeviceError(f"no register lies at {offset:#x} of {self._map.name}")
        return register

    @property
    def _select(self) -> int:
        field_ = self._map.register("STREAM_SELECT").field("SELECT")
        return (self._values["STREAM_SELECT"] & field_.mask) >> field_.lsb

    def _status(self) -> int:
        busy = self._batch is not None and not self._error[0]
        flags = {
            "IDLE": not busy and not self._error[0],
            "BUSY": busy,
            "DONE": self._done,
            "ERROR": self._error[0] != 0,
            "ERROR_CODE": self._error[0],
        }
        flags.update({name: kind in self._loaded for kind, name in LOADED_FLAG.items()})
        register = self._map.register("STATUS")
        return sum(int(value) << register.field(name).lsb for name, value in flags.items())

    def _command(self, register: Register, value: int) -> None:
        if value & register.field("SOFT_RESET").mask:
            self._reset()
            return
        if value & register.field("CLEAR_COUNTERS").mask:
            self._counters = dict.fromkeys(COUNTERS, 0)
        if value & register.field("START").mask and self._batch is None and not self._error[0]:
            self._start()

    def _start(self) -> None:
        self._done = False
        for kind in LOADED_FLAG:
            if kind not in self._loaded:
                self._fail(NOT_LOADED, kind)
                return
        n_images, passes = self._values["N_IMAGES"], self._values["REPEAT"]
        if n_images == 0 or passes == 0:
            self._fail(UNDERRUN, 0)
            return
        manifest = self._manifest
        memories = Memories(
            self._memories[PROGRAM],
            self._memories[WEIGHTS],
            self._memories[CONSTANTS],
            manifest.geometry,
            manifest.scheme,
            manifest.beat_bytes,
        )
        try:
            loaded = _load(memories, self._word)
        except BadDescriptorError as error:
            self._fail(BAD_DESCRIPTOR, error.index)
            return
        held = loaded.image_address + n_images * loaded.input.n_bytes
        if held > manifest.buffers.activation_bytes:
            self._fail(OVERRUN, held)
            return
        self._batch = _Batch(loaded, n_images, passes, self._clock.now_ns())

    def _take_images(self, packet: bytes, end_ns: int) -> None:
        batch = self._batch
        assert batch is not None
        batch.received += packet
        if len(batch.received) > batch.input_bytes:
            self._fail(BAD_LENGTH, len(batch.received))
        elif len(batch.received) == batch.input_bytes:
            data = np.frombuffer(batch.received, np.uint8).reshape(batch.n_images, -1)
            codes = batch.loaded.input.unpack(data)
            outputs = batch.loaded.run(codes.clip(*batch.loaded.input_range))
            rows: npt.NDArray[np.uint8] = np.empty(
                (batch.n_images, batch.loaded.output.n_bytes), np.uint8
            )
            batch.loaded.output.pack(outputs, rows)
            batch.output = self._spoil(rows.tobytes()) if self._spoil else rows.tobytes()
            batch.input_end_ns = end_ns

    def _take_memory(self, kind: int, packet: bytes) -> None:
        """Append a packet to a memory, and see whether it is complete."""
        buffers = self._manifest.buffers
        capacity = {
            PROGRAM: buffers.max_descriptors * DESCRIPTOR_BYTES,
            WEIGHTS: buffers.weight_bytes,
            CONSTANTS: buffers.constant_bytes,
        }[kind]
        self._memories[kind] += packet
        size = len(self._memories[kind])
        if kind != PROGRAM and PROGRAM not in self._loaded:
            self._fail(NOT_LOADED, PROGRAM)
        elif size > capacity:
            self._fail(OVERRUN, size)
        elif size > self._need(kind):
            self._fail(BAD_LENGTH, size)
        else:
            self._check_loaded(kind)

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
            try:
                descriptors = read_descriptors(self._memories[PROGRAM])
            except BadDescriptorError as error:
                self._fail(BAD_DESCRIPTOR, error.index)
                return
            if not descriptors:
                return
            beat_bytes = self._manifest.beat_bytes
            self._needs = {
                WEIGHTS: weight_end(descriptors, beat_bytes),
                CONSTANTS: constant_end(descriptors, self._manifest.geometry, beat_bytes),
            }
            # a program of pools alone needs neither; those of another program are not its own
            self._loaded = {kind for kind, need in self._needs.items() if need == 0}
        self._loaded.add(kind)

    def _fail(self, code: int, info: int) -> None:
        self._error = (code, info)

    def _settle(self) -> None:
        """End the batch whose time has come, and count it."""
        batch = self._batch
        if batch is None or batch.end_ns is None or self._clock.now_ns() < batch.end_ns:
            return
        loaded = batch.loaded
        beat_bytes = self._manifest.beat_bytes
        io_beats = (loaded.input.n_bytes + loaded.output.n_bytes) // beat_bytes
        work = batch_work(loaded.work, batch.n_images, batch.passes, io_beats)
        assert batch.input_end_ns is not None
        waited_ns = batch.input_end_ns - batch.started_ns
        stall_in = max(self._cycles(waited_ns) - batch.input_bytes // beat_bytes, 0)
        images = batch.n_images * batch.passes
        for name, value in (
            ("CYCLES", work.cycles + stall_in + batch.stall_out),
            ("BUSY_CYCLES", loaded.work.cycles * images),
            ("STALL_IN_CYCLES", stall_in),
            ("STALL_OUT_CYCLES", batch.stall_out),
            ("PRODUCTS", work.products_done),
            ("SKIPPED", work.products_skipped),
            ("IMAGES", images),
        ):
            self._counters[name] += value
        self._batch, self._done = None, True

    def _ns(self, cycles: int) -> int:
        return -int(-cycles * 1e9 // self._manifest.clock_hz)

    def _cycles(self, duration_ns: int) -> int:
        return round(duration_ns * 1e-9 * self._manifest.clock_hz)

    def _note(self, start_ns: int, end_ns: int, work: Work, dma_bytes: int) -> None:
        self._free_ns = max(self._free_ns, end_ns)
        if end_ns > start_ns:
            self._activity.work.append(
                Activity(
                    start_ns,
                    end_ns,
                    work.cycles,
                    work.products_done,
                    work.products_skipped,
                    work.weight_bytes,
                    work.activation_bytes,
                    dma_bytes,
                )
            )

    def _cut_activity(self) -> None:
        """What was noted ahead of now does not happen: a reset stops it."""
        now, work = self._clock.now_ns(), self._activity.work
        while work and work[-1].start_ns >= now:
            work.pop()
        if work and work[-1].end_ns > now:
            last = work.pop()
            share = (now - last.start_ns) / (last.end_ns - last.start_ns)
            parts = {
                name: int(value * share)
                for name, value in asdict(last).items()
                if name not in ("start_ns", "end_ns")
            }
            work.append(Activity(start_ns=last.start_ns, end_ns=now, **parts))
        self._free_ns = now
