"""What a device tells of itself when a wait has failed, and what that says of the cause.

Everything is read twice, a moment apart: a counter that grows, or stands still, tells which side
waits for the other. Nothing here fails: what cannot be read is told beside what can.

Sources: AMD PG021 (AXI DMA v7.1) for the DMA's status; docs/accelerator.md for the accelerator's.
In direct register mode the DMA tells how many bytes it moved only when a transfer has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

from bacmac.host.device.board import Board, TransferState
from bacmac.host.device.dma_registers import (
    DECODE_ERROR,
    HALTED,
    INTERNAL_ERROR,
    SLAVE_ERROR,
    status_words,
)
from bacmac.host.device.named_registers import NamedRegisters
from bacmac.host.device.protocol import ErrorCode, Select
from bacmac.host.errors import DeviceError
from bacmac.host.manifest.registers import RegisterMap

APART_NS = 1_000_000
"""Between the two looks: some hundred thousand cycles, and no time to a person."""
COUNTERS = {
    "cycles": "CYCLES",
    "busy_cycles": "BUSY_CYCLES",
    "stall_in_cycles": "STALL_IN_CYCLES",
    "stall_out_cycles": "STALL_OUT_CYCLES",
    "images": "IMAGES",
}

_T = TypeVar("_T")


@dataclass(frozen=True)
class DmaState:
    """One direction of the DMA.

    Attributes:
        status: its status register.
        words: the bits of it that are set, by their names in PG021.
        error: why it failed, or "".
        idle: whether no transfer runs.
        asked_bytes: of the last transfer that was started, 0 where none was since the last reset.
        moved_bytes: of these, once it has ended well; None while nothing tells.
    """

    status: int
    words: str
    error: str
    idle: bool
    asked_bytes: int
    moved_bytes: int | None


@dataclass(frozen=True)
class DeviceState:
    """DMA and accelerator as they were found; None where something could not be read.

    Attributes:
        cause: what is wrong, as far as the rest tells.
        failure: what happened, or did not.
        send, receive: the DMA.
        status: fields of STATUS by name, and the whole word as "raw".
        error: ERROR_CODE in words.
        error_info: ERROR_INFO.
        stream_select: what the accelerator takes the input stream for.
        counters: of the accelerator, names as in `COUNTERS`.
        later: the same, `apart_s` later.
        apart_s: seconds between the two.
        unreadable: what could not be read, and why.
    """

    cause: str
    failure: str
    send: DmaState | None
    receive: DmaState | None
    status: Mapping[str, int] | None
    error: str
    error_info: int | None
    stream_select: str
    counters: Mapping[str, int] | None
    later: Mapping[str, int] | None
    apart_s: float
    unreadable: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Plain types."""
        return asdict(self)

    @property
    def line(self) -> str:
        """Cause, and the registers it was told by, in one line."""
        parts = [self.cause]
        if self.status is not None:
            fields = (f"{k}={v}" for k, v in self.status.items() if v and k != "raw")
            parts.append(" ".join((f"STATUS {self.status['raw']:#010x}", *fields)))
            if self.status["ERROR"]:
                parts[-1] += f" ({self.error}), ERROR_INFO {self.error_info}"
            parts[-1] += f", stream of {self.stream_select}"
        for name, dma in (("send", self.send), ("receive", self.receive)):
            if dma is not None:
                moved = "?" if dma.moved_bytes is None else str(dma.moved_bytes)
                parts.append(
                    f"{name} {dma.status:#x} {dma.words}, {moved} of {dma.asked_bytes} bytes"
                )
        if self.counters is not None and self.later is not None:
            counts = (
                f"{COUNTERS[name]} {value}{_growth(self.later[name] - value)}"
                for name, value in self.counters.items()
                if self.later[name]
            )
            parts.append(", ".join(counts) or "all counters 0")
        return "; ".join((*parts, *self.unreadable))


def _growth(by: int) -> str:
    return f" (+{by} in {APART_NS / 1e6:g} ms)" if by else ""


def read_state(
    board: Board, table: RegisterMap, failure: str, asked_bytes: tuple[int, int]
) -> DeviceState:
    """Look at a device twice and say what is wrong with it.

    Args:
        board: with an overlay loaded.
        table: its registers.
        failure: what happened, or did not.
        asked_bytes: of the last send and the last receive, 0 where there was none.
    """
    registers, reader = NamedRegisters(board, table), _Reader([])
    send = reader.read("send state", board.send_state)
    receive = reader.read("receive state", board.receive_state)
    dma = (_dma(send, asked_bytes[0]), _dma(receive, asked_bytes[1]))
    raw = reader.read("STATUS", lambda: registers.read("STATUS"))
    status = None if raw is None else {"raw": raw, **registers.fields("STATUS", raw)}
    info = reader.read("ERROR_INFO", lambda: registers.read("ERROR_INFO"))
    select = reader.read("STREAM_SELECT", lambda: registers.value("STREAM_SELECT", "SELECT"))
    counters = reader.read("counters", lambda: _counters(registers))
    start_ns = board.clock.now_ns()
    board.clock.sleep_ns(APART_NS)
    later = reader.read("counters", lambda: _counters(registers))
    return DeviceState(
        _cause(*dma, status, info, select, counters, later),
        failure,
        *dma,
        status,
        "" if status is None else ErrorCode.words(status["ERROR_CODE"]),
        info,
        "" if select is None else Select(select).name.lower(),
        counters,
        later,
        (board.clock.now_ns() - start_ns) * 1e-9,
        tuple(dict.fromkeys(reader.unreadable)),
    )


def cause_of(error: DeviceError) -> str:
    """The cause in an error's state, or all that the error says where it has none."""
    return str(error.state["cause"]) if error.state and "cause" in error.state else str(error)


@dataclass(frozen=True)
class _Reader:
    """Reads, and writes down what it could not."""

    unreadable: list[str]

    def read(self, what: str, call: Callable[[], _T]) -> _T | None:
        try:
            return call()
        except (DeviceError, OSError) as error:
            self.unreadable.append(f"{what} cannot be read: {error}")
            return None


def _counters(registers: NamedRegisters) -> dict[str, int]:
    return {name: registers.counter(register) for name, register in COUNTERS.items()}


def _dma(state: TransferState | None, asked_bytes: int) -> DmaState | None:
    if state is None:
        return None
    ended = state.idle and not state.status & HALTED and asked_bytes > 0
    return DmaState(
        state.status,
        status_words(state.status),
        state.error,
        state.idle,
        asked_bytes,
        state.n_bytes if ended else None,
    )


def _cause(
    send: DmaState | None,
    receive: DmaState | None,
    status: Mapping[str, int] | None,
    info: int | None,
    select: int | None,
    counters: Mapping[str, int] | None,
    later: Mapping[str, int] | None,
) -> str:
    """What is wrong, the most certain sign first."""
    for name, dma in (("send", send), ("receive", receive)):
        if dma is not None and dma.error:
            return _dma_cause(name, dma)
    if status is None:
        return "the accelerator's registers cannot be read"
    if status["ERROR"]:
        return _accelerator_cause(status["ERROR_CODE"], info)
    sent = _sending(send)
    if not status["BUSY"]:
        if status["DONE"]:
            return f"the accelerator is done and {_receiving(receive)}"
        return f"the accelerator is idle: it has not taken the command; {sent}"
    if select:
        return f"the accelerator waits for more of the {Select(select).name.lower()} load; {sent}"
    if counters is None or later is None:
        return "the accelerator is busy, and its counters cannot be read"
    grown = {name: later[name] - counters[name] for name in counters}
    if grown["stall_in_cycles"]:
        return f"input starved: the accelerator waits for beats that do not come; {sent}"
    if grown["stall_out_cycles"]:
        return f"output blocked: nobody takes the accelerator's beats; {_receiving(receive)}"
    if grown["busy_cycles"]:
        return "the accelerator works on and is late: its clock is slower than planned, or it loops"
    if grown["cycles"]:
        return "the accelerator has stopped in a layer: CYCLES count and no pixel is issued"
    return "the accelerator has stopped: it is busy and CYCLES stands still"


def _dma_cause(name: str, dma: DmaState) -> str:
    if dma.status & DECODE_ERROR:
        return (
            f"the {name} DMA was given an address that nothing answers: its buffer was freed, or "
            "lies beyond the DMA's address width"
        )
    if dma.status & SLAVE_ERROR:
        return f"the {name} DMA was answered with an error by memory"
    if dma.status & INTERNAL_ERROR and name == "receive":
        return f"over-long packet: more came out than the {dma.asked_bytes} bytes expected"
    return f"the {name} DMA failed: {dma.error}"


def _accelerator_cause(code: int, info: int | None) -> str:
    causes = {
        ErrorCode.BAD_DESCRIPTOR: f"descriptor {info} or its group list makes no sense: the "
        "program in the accelerator is not the one that was sent",
        ErrorCode.OVERRUN: f"over-long input packet, or more than the memory holds ({info} bytes)",
        ErrorCode.UNDERRUN: f"short input packet: it ended after {info} bytes",
        ErrorCode.NOT_LOADED: f"load {info} (as STREAM_SELECT) is missing",
        ErrorCode.BAD_BEAT: f"an input packet with part of a beat, {info} bytes in",
        ErrorCode.BUSY: f"register {info:#x} was written while it worked"
        if info is not None
        else "a register was written while it worked",
    }
    known = code in set(ErrorCode)
    words = causes.get(ErrorCode(code)) if known else None
    return f"the accelerator stopped: {words or ErrorCode.words(code)}"


def _sending(send: DmaState | None) -> str:
    if send is None:
        return "the send DMA cannot be read"
    if not send.asked_bytes:
        return "nothing was sent"
    if send.status & HALTED:
        return "the send DMA was never started (halted)"
    if send.idle:
        return f"the send DMA says that all {send.asked_bytes} bytes are out: some were lost"
    return f"the send DMA has not finished its {send.asked_bytes} bytes"


def _receiving(receive: DmaState | None) -> str:
    if receive is None:
        return "the receive DMA cannot be read"
    if receive.status & HALTED:
        return "the receive DMA was never started (halted)"
    if receive.idle:
        return f"only {receive.moved_bytes} of {receive.asked_bytes} bytes came (short packet)"
    return f"the receive DMA has not finished its {receive.asked_bytes} bytes"
