"""What a host does: registers over AXI4-Lite, packets over AXI4-Stream, at any pace."""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)
from shell_network import Network

from bacmac.overlays.registry import parse_register_map

TABLE = Path(os.environ["BACMAC_REGISTER_TABLE"])
MAP = parse_register_map(TABLE, TABLE.read_text())
AT = {register.name: register.offset for register in MAP.registers}
START, SOFT_RESET, CLEAR = 1, 2, 4
IMAGES, PROGRAM, WEIGHTS, CONSTANTS = range(4)
STATES = (
    *("IDLE", "LOAD", "PROBE", "PROBING", "SIZE", "FIT", "INPUT", "LAYER", "RUNNING"),
    *("OUTPUT", "SENDING", "FAILED"),
)
PACES = ("at once", "random", "bursts")
DEADLINE_CYCLES = 20_000


def pauses(pace: str) -> Iterator[bool] | None:
    if pace == "random":
        return iter(lambda: random.random() < 0.5, None)
    return cycle([True] * 7 + [False] * 4) if pace == "bursts" else None


class Master:
    """The accelerator of shell_bench.sv and the host's ends of its three buses."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.beat = len(dut.s_axis_tkeep)
        self.stalls: Counter[str] = Counter()
        self.resets: Counter[str] = Counter()

    async def open(self) -> Master:
        dut = self.dut
        logging.getLogger("cocotb.shell_bench").setLevel(logging.ERROR)
        dut.aresetn.value = 0
        dut.dma_rst.value = 1
        cocotb.start_soon(Clock(dut.aclk, 10, unit="ns").start())
        bus = AxiLiteBus.from_prefix(dut, "s_axi")
        self.registers = AxiLiteMaster(bus, dut.aclk, dut.aresetn, reset_active_level=False)
        ends = (dut.aclk, dut.dma_rst)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), *ends)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), *ends)
        await ClockCycles(dut.aclk, 16)
        dut.aresetn.value = 1
        dut.dma_rst.value = 0
        await ClockCycles(dut.aclk, 2)
        cocotb.start_soon(self._watch())
        return self

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            await RisingEdge(dut.aclk)
            if int(dut.dma_rst.value):
                continue
            state = STATES[int(dut.run_state.value)]
            if int(dut.core_rst.value):
                self.resets[state] += 1
            if state == "INPUT" and int(dut.s_axis_tready.value):
                self.stalls["in"] += not int(dut.s_axis_tvalid.value)
            if int(dut.m_axis_tvalid.value):
                self.stalls["out"] += not int(dut.m_axis_tready.value)

    def pace(self, idle: str, back_pressure: str) -> None:
        for end, pace in ((self.source, idle), (self.sink, back_pressure)):
            end.set_pause_generator(pauses(pace))
            end.pause = False

    async def write(self, name: str, value: int) -> None:
        written = await self.registers.write(AT[name], value.to_bytes(4, "little"))
        assert written.resp == AxiResp.OKAY, name

    async def read(self, name: str) -> int:
        answer = await self.registers.read(AT[name], 4)
        assert answer.resp == AxiResp.OKAY, name
        return int.from_bytes(answer.data, "little")

    async def counter(self, name: str) -> int:
        low = await self.read(f"{name}_LO")
        return low | await self.read(f"{name}_HI") << 32

    async def flags(self) -> set[str]:
        value, status = await self.read("STATUS"), MAP.register("STATUS")
        return {f.name for f in status.fields if f.name != "ERROR_CODE" and value & f.mask}

    async def error(self) -> tuple[int, int]:
        """ERROR_CODE and ERROR_INFO."""
        field = MAP.register("STATUS").field("ERROR_CODE")
        value = await self.read("STATUS")
        return (value & field.mask) >> field.lsb, await self.read("ERROR_INFO")

    async def until(self, flag: str) -> None:
        for _ in range(DEADLINE_CYCLES // 6):
            if flag in (flags := await self.flags()):
                return
            assert flag == "ERROR" or "ERROR" not in flags, await self.error()
        raise AssertionError(f"{flag} does not come: {flags}, {self.dut.run_state.value}")

    async def until_state(self, *states: str) -> None:
        for _ in range(DEADLINE_CYCLES):
            await RisingEdge(self.dut.aclk)
            if STATES[int(self.dut.run_state.value)] in states:
                return
        raise AssertionError(f"{states} are not reached")

    async def announce(self, select: int, n_bytes: int) -> None:
        await self.write("LOAD_BYTES", n_bytes)
        await self.write("STREAM_SELECT", select)

    def send(self, data: bytes, holes: dict[int, int] | None = None) -> None:
        """A packet; `holes` maps a byte's number to its bit of TKEEP."""
        keep = None if holes is None else [holes.get(i, 1) for i in range(len(data))]
        self.source.send_nowait(AxiStreamFrame(bytearray(data), tkeep=keep))

    async def load(self, select: int, data: bytes) -> None:
        await self.announce(select, len(data))
        if data:
            self.send(data)
        await self.until(("", "PROGRAM", "WEIGHTS", "CONSTANTS")[select])

    async def load_all(self, network: Network) -> None:
        await self.load(PROGRAM, network.program)
        await self.load(WEIGHTS, network.weights)
        await self.load(CONSTANTS, network.constants)
        await self.write("N_DESCRIPTORS", len(network.layers))

    async def start(self, n_images: int, passes: int, command: int = START | CLEAR) -> None:
        await self.write("STREAM_SELECT", IMAGES)
        await self.write("N_IMAGES", n_images)
        await self.write("REPEAT", passes)
        self.stalls.clear()
        await self.write("CTRL", command)

    def output(self) -> bytes:
        assert self.sink.count() == 1
        frame = self.sink.recv_nowait(compact=False)
        assert all(frame.tkeep)
        return bytes(frame.tdata)

    async def run(self, network: Network, n_images: int, passes: int = 1) -> bytes:
        """A batch; the images that were sent. The output packet is checked."""
        images = network.images(n_images)
        await self.start(n_images, passes)
        self.send(images)
        await self.until("DONE")
        assert self.output() == network.outputs(images)
        return images

    async def soft_reset(self) -> None:
        """SOFT_RESET, and the masters' ends (the DMA) with it."""
        await self.write("CTRL", SOFT_RESET)
        self.dut.dma_rst.value = 1
        await ClockCycles(self.dut.aclk, 2)
        self.source.clear()
        self.sink.clear()
        self.dut.dma_rst.value = 0
        await ClockCycles(self.dut.aclk, 1)

    async def is_as_configured(self) -> None:
        """Every register has its reset value."""
        for register in MAP.registers:
            expected = 0xBEEF0001 if register.name == "BUILD" else register.reset
            assert await self.read(register.name) == expected, register.name
