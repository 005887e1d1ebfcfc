"""What is concluded from a device's registers, for each way in which they can stand."""

from __future__ import annotations

import re

import pytest

from bacmac.host.device.board import TransferState
from bacmac.host.device.clock import VirtualClock
from bacmac.host.device.dma_registers import DONE_INTERRUPT, HALTED, IDLE
from bacmac.host.device.state import APART_NS, read_state
from bacmac.host.errors import DeviceError
from bacmac.overlays.registry import load_overlay

TABLE = load_overlay("bac-pot4").registers
OFFSETS = {register.name: register.offset for register in TABLE.registers}
RUNS, ENDED = DONE_INTERRUPT, IDLE | DONE_INTERRUPT
BUSY, DONE = 0x72, 0x75


class ScriptedBoard:
    """Registers that stand still, or grow by so much a ns."""

    def __init__(self, status, send=RUNS, receive=RUNS, grows=(), broken=(), select=0, came=96):
        self.clock = VirtualClock(1_000_000)
        self._send, self._receive, self._came = send, receive, came
        self._values = {OFFSETS["STATUS"]: status, OFFSETS["STREAM_SELECT"]: select}
        self._grows = {OFFSETS[f"{name}_LO"] for name in grows}
        self._broken = {OFFSETS[name] for name in broken}

    def read_register(self, offset):
        if offset in self._broken:
            raise DeviceError(f"no answer at {offset:#x}")
        if offset in self._grows:
            return self.clock.now_ns() & 0xFFFF_FFFF
        return self._values.get(offset, 0)

    def send_state(self):
        return TransferState(bool(self._send & IDLE), "", 128, self._send)

    def receive_state(self):
        return TransferState(bool(self._receive & IDLE), "", self._came, self._receive)


def cause(*arguments, **keywords):
    state = read_state(ScriptedBoard(*arguments, **keywords), TABLE, "it does not end", (128, 96))
    assert state.line.startswith(state.cause)
    return state.cause


@pytest.mark.parametrize(
    ("send", "told"),
    [
        (HALTED, "input starved: .* send DMA was never started"),
        (RUNS, "input starved: .* send DMA has not finished its 128 bytes"),
        (ENDED, "input starved: .* all 128 bytes are out: some were lost"),
    ],
)
def test_an_accelerator_that_waits_for_input_is_starved_by_the_host(send, told):
    found = cause(BUSY, send=send, grows=("CYCLES", "STALL_IN_CYCLES"))

    assert re.match(told, found)


@pytest.mark.parametrize(
    ("receive", "told"),
    [
        (HALTED, "the receive DMA was never started"),
        (RUNS, "the receive DMA has not finished its 96 bytes"),
    ],
)
def test_an_accelerator_that_waits_for_its_output_is_blocked_by_the_host(receive, told):
    found = cause(BUSY, send=ENDED, receive=receive, grows=("CYCLES", "STALL_OUT_CYCLES"))

    assert found.startswith("output blocked")
    assert told in found


@pytest.mark.parametrize(
    ("grows", "told"),
    [
        (("CYCLES", "BUSY_CYCLES"), "works on and is late"),
        (("CYCLES",), "has stopped in a layer: CYCLES count and no pixel is issued"),
        ((), "has stopped: it is busy and CYCLES stands still"),
    ],
)
def test_whether_an_accelerator_works_is_told_by_what_still_counts(grows, told):
    assert told in cause(BUSY, send=ENDED, grows=grows)


@pytest.mark.parametrize(
    ("status", "keywords", "told"),
    [
        (0x71, {}, "is idle: it has not taken the command; the send DMA has not finished"),
        (DONE, {}, "is done and the receive DMA has not finished its 96 bytes"),
        (DONE, {"receive": ENDED, "came": 48}, "only 48 of 96 bytes came (short packet)"),
        (0x12, {"select": 2}, "waits for more of the weights load; the send DMA has not finished"),
        (0x378, {}, "stopped: short input packet: it ended after 0 bytes"),
        (0x678, {}, "stopped: register 0x0 was written while it worked"),
        (0x978, {}, "stopped: unknown error 9"),
    ],
)
def test_states_that_speak_for_themselves(status, keywords, told):
    assert told in cause(status, **keywords)


def test_both_looks_are_kept_and_how_far_apart_they_are():
    board = ScriptedBoard(BUSY, grows=("CYCLES",))

    state = read_state(board, TABLE, "it does not end", (128, 96))

    assert state.later["cycles"] - state.counters["cycles"] == APART_NS
    assert state.apart_s == pytest.approx(APART_NS * 1e-9)
    assert state.failure == "it does not end"
    assert f"CYCLES {state.counters['cycles']} (+{APART_NS} in 1 ms)" in state.line


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (("STATUS",), "the accelerator's registers cannot be read"),
        (("CYCLES_LO",), "is busy, and its counters cannot be read"),
        (("ERROR_INFO", "STREAM_SELECT"), "has stopped: it is busy"),
    ],
)
def test_what_cannot_be_read_is_told_once_and_the_rest_is_still_there(broken, told):
    state = read_state(ScriptedBoard(BUSY, broken=broken), TABLE, "it hangs", (128, 96))

    assert told in state.cause
    assert len(state.unreadable) == len(broken)
    assert all("no answer at 0x" in words for words in state.unreadable)
    assert state.send.asked_bytes == 128
    assert all(words in state.line for words in state.unreadable)
