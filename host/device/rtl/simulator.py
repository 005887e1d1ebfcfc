"""The shared library of the RTL through ctypes: registers, packets, clock cycles."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bacmac.host.errors import DeviceError

NO_ANSWER, BROKEN = -1, -2
NEVER = (1 << 64) - 1
_RESPONSES = {2: "SLVERR", 3: "DECERR", NO_ANSWER: "no answer"}


class State(ctypes.Structure):
    """How the streams stand; `bacmac_sim_state` of hw_src/sim/bacmac_sim.cpp.

    Attributes:
        cycle: cycles since the simulation was made.
        beats: beats taken on either stream.
        input_end, output_end: the cycle in which the last beat of the last packet was taken.
        output_bytes: of the output packet so far.
        input_active: a packet is offered and not taken whole.
        output_complete: the output packet that was asked for has ended.
        starved_since, blocked_since: since when, without a break up to now, the accelerator takes
            input where none is offered, or offers output that nobody takes; NEVER if it does not.
    """

    _fields_ = (
        ("cycle", ctypes.c_uint64),
        ("beats", ctypes.c_uint64),
        ("input_end", ctypes.c_uint64),
        ("output_end", ctypes.c_uint64),
        ("output_bytes", ctypes.c_uint64),
        ("input_active", ctypes.c_uint32),
        ("output_complete", ctypes.c_uint32),
        ("starved_since", ctypes.c_uint64),
        ("blocked_since", ctypes.c_uint64),
    )

    cycle: int
    beats: int
    input_end: int
    output_end: int
    output_bytes: int
    input_active: int
    output_complete: int
    starved_since: int
    blocked_since: int


class Simulator:
    """One simulated accelerator, just out of reset. Not for more than one thread.

    Args:
        library: from `bacmac.host.device.rtl.build.build_simulator`.

    Raises:
        DeviceError: the library cannot be loaded, or the model fails as it starts.
    """

    def __init__(self, library: Path) -> None:
        try:
            self._calls = _bind(ctypes.CDLL(str(library)))
        except OSError as error:
            raise DeviceError(f"rtl: {library} cannot be loaded: {error}; delete it") from error
        self._handle: int | None = self._calls.bacmac_sim_create()
        if not self._handle:
            raise DeviceError("rtl: the simulation failed as it came out of reset")
        self._state: State = self._calls.bacmac_sim_look(self._handle).contents
        self._output: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)

    @property
    def state(self) -> State:
        """How it stands now: a view, not a copy."""
        return self._state

    def write(self, offset: int, value: int) -> None:
        """Write a register over AXI4-Lite.

        Raises:
            DeviceError: it is refused, or not answered.
        """
        response = self._call("write", offset, value)
        self._check_response(response, f"a write to register {offset:#x}")

    def read(self, offset: int) -> int:
        """Read a register over AXI4-Lite.

        Raises:
            DeviceError: as `write`.
        """
        value = ctypes.c_uint32()
        response = self._call("read", offset, ctypes.byref(value))
        self._check_response(response, f"a read of register {offset:#x}")
        return value.value

    def offer(self, packet: bytes, idle: float = 0.0, seed: int = 0) -> None:
        """Begin to send a packet; `idle` is the share of cycles without a beat between beats."""
        data = (ctypes.c_uint8 * len(packet)).from_buffer_copy(packet)
        self._call("offer", data, len(packet), idle, seed)

    def receive(self, capacity_bytes: int, stall: float = 0.0, seed: int = 0) -> None:
        """Begin to take a packet; `stall` is the share of cycles in which the taker is not ready.

        A packet that is longer than `capacity_bytes` is counted whole and kept so far.
        """
        self._output = np.zeros(capacity_bytes, np.uint8)
        pointer = self._output.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        self._call("receive", pointer, capacity_bytes, stall, seed)

    def received(self) -> bytes:
        """The output packet, or what there is of it."""
        return self._output[: self._state.output_bytes].tobytes()

    def cancel(self) -> None:
        """Forget both packets; what was not taken never is."""
        self._call("cancel")

    def run(self, n_cycles: int) -> int:
        """Let cycles pass; stops early where a packet ends. How many passed.

        Raises:
            DeviceError: the model stopped by $error, $fatal or $stop.
        """
        return self._call("run", n_cycles)

    def trace(self, file: Path, first_cycle: int, last_cycle: int) -> None:
        """Record cycles first_cycle to last_cycle - 1 to an FST file.

        Raises:
            DeviceError: the library was built without.
        """
        if not self._call("trace", str(file).encode(), first_cycle, last_cycle):
            raise DeviceError("rtl: this build cannot record waveforms")

    def close(self) -> None:
        """End it and close its trace; may be called twice."""
        if self._handle:
            self._state = State.from_buffer_copy(self._state)
            self._calls.bacmac_sim_destroy(self._handle)
            self._handle = None

    def _call(self, name: str, *arguments: object) -> int:
        if not self._handle:
            raise DeviceError("rtl: the simulation is closed")
        result = int(getattr(self._calls, f"bacmac_sim_{name}")(self._handle, *arguments))
        if result == BROKEN:
            message = self._calls.bacmac_sim_message(self._handle).decode(errors="replace")
            raise DeviceError(
                f"rtl: the simulation broke off in cycle {self._state.cycle}: {message}"
            )
        return result

    def _check_response(self, response: int, what: str) -> None:
        if response:
            raise DeviceError(f"rtl: {what}: {_RESPONSES.get(response, response)}")


def _bind(library: ctypes.CDLL) -> ctypes.CDLL:
    handle, u64, double = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_double
    data, word = ctypes.POINTER(ctypes.c_uint8), ctypes.c_uint32
    for name, arguments in {
        "write": (word, word),
        "read": (word, ctypes.POINTER(word)),
        "offer": (data, u64, double, u64),
        "receive": (data, u64, double, u64),
        "cancel": (),
        "run": (u64,),
        "trace": (ctypes.c_char_p, u64, u64),
    }.items():
        function = getattr(library, f"bacmac_sim_{name}")
        function.argtypes, function.restype = (handle, *arguments), ctypes.c_int64
    library.bacmac_sim_create.argtypes, library.bacmac_sim_create.restype = (), handle
    library.bacmac_sim_destroy.argtypes, library.bacmac_sim_destroy.restype = (handle,), None
    library.bacmac_sim_look.argtypes = (handle,)
    library.bacmac_sim_look.restype = ctypes.POINTER(State)
    library.bacmac_sim_message.argtypes = (handle,)
    library.bacmac_sim_message.restype = ctypes.c_char_p
    return library
