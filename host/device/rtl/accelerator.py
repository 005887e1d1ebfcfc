"""The simulated accelerator as the models of DDR and DMA see it: registers and two streams.

Time is that of the board's virtual clock and passes with the simulated cycles. Where nothing can
move (the accelerator is idle, or waits for a stream that nobody serves) the clock is set forward
and no cycle is simulated: so a sleeping host costs nothing, and counts of cycles spent waiting for
the host are smaller than they would be on a board. No other number depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bacmac.host.device.activity import ActivityLog
from bacmac.host.device.clock import VirtualClock
from bacmac.host.device.rtl.meter import COUNTERS, ActivityMeter
from bacmac.host.device.rtl.simulator import Simulator
from bacmac.host.errors import DeviceError
from bacmac.host.manifest.overlay import Overlay

FIRST_CHUNK, LAST_CHUNK = 256, 1 << 16
"""Cycles between two looks at whether anything moves; they double."""


@dataclass(frozen=True)
class StreamShape:
    """How the host's side of the streams behaves.

    Attributes:
        idle: share of cycles without a beat between two beats of the input.
        stall: share of cycles in which an output beat is not taken.
        seed: of both.
    """

    idle: float = 0.0
    stall: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Trace:
    """What is to be recorded.

    Attributes:
        file: an FST file, for GTKWave or Surfer.
        first_cycle, last_cycle: counted from the first START, the last is not in it.
    """

    file: Path
    first_cycle: int = 0
    last_cycle: int = 100_000


class SimulatedClock(VirtualClock):
    """A virtual clock on which an accelerator's cycles pass while somebody sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.accelerator: RtlAccelerator | None = None

    def pass_to(self, until_ns: int) -> None:
        """Simulate up to there."""
        if self.accelerator is not None and until_ns > self.now_ns():
            self.accelerator.advance(until_ns)
        super().pass_to(until_ns)

    def catch_up(self, now_ns: int) -> None:
        """Cycles have passed that nobody slept for: those of a register access."""
        super().pass_to(now_ns)


class RtlAccelerator:
    """One configured overlay in simulation.

    Args:
        overlay: whose registers and clock it has.
        simulator: just made.
        clock: the board's.
        log: where its activity is written as it happens.
        shape: of the streams.
        trace: what is recorded, or None.
    """

    def __init__(
        self,
        overlay: Overlay,
        simulator: Simulator,
        clock: SimulatedClock,
        log: ActivityLog,
        shape: StreamShape,
        trace: Trace | None = None,
    ) -> None:
        self._overlay, self._simulator, self._clock = overlay, simulator, clock
        self._shape, self._trace = shape, trace
        self._offset = {register.name: register.offset for register in overlay.registers.registers}
        self._anchor = (clock.now_ns(), simulator.state.cycle)
        self._packet: bytes | None = None
        self._n_packets = 0
        self._receiving = False
        self._meter = ActivityMeter(overlay, log)
        clock.accelerator = self

    # ---- the slave

    def read(self, offset: int) -> int:
        """A 32-bit register, over AXI4-Lite.

        Raises:
            DeviceError: there is none at the offset, or it cannot be read.
        """
        value = self._simulator.read(offset)
        self._clock.catch_up(self.now_ns())
        return value

    def write(self, offset: int, value: int) -> None:
        """A 32-bit register, over AXI4-Lite.

        Raises:
            DeviceError: there is none at the offset, or it cannot be written.
        """
        if not 0 <= value < 1 << 32:
            raise DeviceError(f"a register has 32 bits; {value:#x} does not fit")
        self._log()
        self._meter.note_write(offset, value)
        if self._trace is not None and self._starts(offset, value):
            trace, cycle = self._trace, self._simulator.state.cycle
            first, last = cycle + trace.first_cycle, cycle + trace.last_cycle
            self._simulator.trace(trace.file, first, last)
            self._trace = None
        self._simulator.write(offset, value)
        self._clock.catch_up(self.now_ns())

    # ---- the streams

    def offer(self, packet: bytes) -> int | None:
        """Take a packet, see `bacmac.host.device.dma.Streams`."""
        if packet is not self._packet:
            self._packet = packet
            self._meter.note_packet(packet)
            self._simulator.offer(packet, self._shape.idle, self._seed())
        state = self._simulator.state
        return None if state.input_active else self._time_ns(state.input_end + 1)

    def collect(self, posted_ns: int) -> tuple[bytes, int] | None:
        """Give the output, see `bacmac.host.device.dma.Streams`."""
        if not self._receiving:
            self._receiving = True
            limit = self._overlay.manifest.max_transfer_bytes
            self._simulator.receive(limit, self._shape.stall, self._seed())
        if not self._simulator.state.output_complete:
            return None
        self._receiving = False
        return self._simulator.received(), self._time_ns(self._simulator.state.output_end + 1)

    def cancel(self) -> None:
        """The DMA was reset: what it was moving is gone."""
        self._simulator.cancel()
        self._packet, self._receiving = None, False

    # ---- time

    def now_ns(self) -> int:
        """The time of the cycle that the simulation stands at."""
        return self._time_ns(self._simulator.state.cycle)

    def advance(self, until_ns: int) -> None:
        """Simulate until then, or until nothing moves any more."""
        state, chunk = self._simulator.state, FIRST_CHUNK
        while (left := self._cycles_until(until_ns)) > 0:
            cycle, beats = state.cycle, state.beats
            self._simulator.run(min(left, chunk))
            chunk = min(2 * chunk, LAST_CHUNK)
            if state.beats == beats and self._stands_since(cycle):
                break
        self._log()
        if self.now_ns() < until_ns:
            self._anchor = (until_ns, state.cycle)

    def close(self) -> None:
        """End the simulation."""
        self._clock.accelerator = None
        self._simulator.close()

    # ---- inside

    def _stands_since(self, cycle: int) -> bool:
        """Whether the accelerator waits for the host, or is idle."""
        state = self._simulator.state
        if min(state.starved_since, state.blocked_since) <= cycle:
            return True
        return not self._busy()

    def _busy(self) -> bool:
        status = self._overlay.registers.register("STATUS")
        return bool(self._simulator.read(status.offset) & status.field("BUSY").mask)

    def _log(self) -> None:
        """Read the counters into the activity log."""
        state = self._simulator.state
        end = state.cycle if self._busy() else max(state.output_end, state.input_end) + 1
        counts = {name: self._counter(register) for name, register in COUNTERS.items()}
        self._meter.add(counts, state.beats, self._time_ns(end))

    def _counter(self, name: str) -> int:
        low = self._simulator.read(self._offset[f"{name}_LO"])
        return self._simulator.read(self._offset[f"{name}_HI"]) << 32 | low

    def _starts(self, offset: int, value: int) -> bool:
        control = self._overlay.registers.register("CTRL")
        return offset == control.offset and bool(value & control.field("START").mask)

    def _seed(self) -> int:
        self._n_packets += 1
        return self._shape.seed << 32 | self._n_packets

    def _time_ns(self, cycle: int) -> int:
        anchor_ns, anchor_cycle = self._anchor
        return anchor_ns + round((cycle - anchor_cycle) * 1e9 / self._overlay.manifest.clock_hz)

    def _cycles_until(self, until_ns: int) -> int:
        return -int(-(until_ns - self.now_ns()) * self._overlay.manifest.clock_hz // 1e9)
