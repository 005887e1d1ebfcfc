"""The `rtl:` board: our DDR and DMA, and the Verilated RTL as the accelerator."""

from __future__ import annotations

from dataclasses import fields

from bacmac.host.device.emulated import ModelBoard
from bacmac.host.device.faults import Faults, parse_faults, word_options
from bacmac.host.device.faulty import Slave
from bacmac.host.device.hardware import CMA_BYTES, Hardware
from bacmac.host.device.rtl.accelerator import RtlAccelerator, SimulatedClock, StreamShape, Trace
from bacmac.host.device.rtl.build import Tell, build_simulator
from bacmac.host.device.rtl.simulator import Simulator
from bacmac.host.errors import DeviceError
from bacmac.host.files import write_bytes
from bacmac.host.manifest.overlay import Overlay

WORD = "rtl:"


class RtlHardware(Hardware):
    """The accelerator is the simulated RTL, built for the overlay that is loaded.

    Args:
        shape: of the streams.
        tell: told when a simulator is built, which takes about a minute.
        trace: what is recorded from the first START on.
        memory_bytes: contiguous memory that can be allocated.
        faults: what goes wrong.
    """

    def __init__(
        self,
        shape: StreamShape,
        *,
        tell: Tell | None = None,
        trace: Trace | None = None,
        memory_bytes: int = CMA_BYTES,
        faults: Faults | None = None,
    ) -> None:
        self._shape, self._tell, self._trace = shape, tell, trace
        self._simulated_clock = SimulatedClock()
        self._simulation: RtlAccelerator | None = None
        super().__init__("rtl", self._simulated_clock, memory_bytes, faults or Faults())

    def close(self) -> None:
        """End the simulation, and the recording with it."""
        super().close()
        if self._simulation is not None:
            self._simulation.close()
            self._simulation = None

    def _configure(self, overlay: Overlay) -> Slave:
        library = build_simulator(overlay.manifest, trace=self._trace is not None, tell=self._tell)
        if self._simulation is not None:
            self._simulation.close()
        self._simulation = RtlAccelerator(
            overlay,
            Simulator(library),
            self._simulated_clock,
            self.activity,
            self._shape,
            self._trace,
        )
        return self._simulation


class RtlBoard(ModelBoard):
    """A board whose accelerator is the simulated RTL.

    Args:
        word: "rtl:", or with options as "rtl:idle=0.3,stall=0.2,seed=1", see `StreamShape`, and
            faults, see `bacmac.host.device.faults`.
        tell, trace, memory_bytes: see `RtlHardware`.
        faults: what goes wrong, unless the word says it.

    Raises:
        DeviceError: an option that is not known or out of range.
        OutputError: the trace cannot be written.
    """

    def __init__(
        self,
        word: str = WORD,
        *,
        tell: Tell | None = None,
        trace: Trace | None = None,
        memory_bytes: int = CMA_BYTES,
        faults: Faults | None = None,
    ) -> None:
        shape, said = parse_word(word)
        if trace is not None:
            write_bytes(trace.file, b"")  # fails now where it cannot be written, not in mid-run
        hardware = RtlHardware(
            shape, tell=tell, trace=trace, memory_bytes=memory_bytes, faults=faults or said
        )
        super().__init__(word, hardware)


def parse_word(word: str) -> tuple[StreamShape, Faults]:
    """The options after `rtl:`.

    Raises:
        DeviceError: one that is not known, or its value is not one.
    """
    options = word_options(word)
    values: dict[str, float] = {}
    for field in fields(StreamShape):
        if field.name not in options:
            continue
        text = options.pop(field.name)
        value = _number(text)
        if value is None or value < 0:
            raise DeviceError(
                f"device {word!r}: {field.name}: found {text!r}; expected idle=SHARE, stall=SHARE "
                "(0 to below 1) or seed=NUMBER"
            )
        values[field.name] = value
    shape = StreamShape(
        values.get("idle", 0.0), values.get("stall", 0.0), int(values.get("seed", 0))
    )
    if max(shape.idle, shape.stall) >= 1:
        raise DeviceError(f"device {word!r}: a stream that never moves: idle and stall are below 1")
    return shape, parse_faults(word, options)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
