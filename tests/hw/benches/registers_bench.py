"""The register slave against the register table, under any order and pace of its five channels."""

from __future__ import annotations

import os
import random
from collections import Counter
from itertools import chain, cycle, product
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge, Timer
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from bacmac.host.manifest.registers import Register
from bacmac.overlays.registry import parse_register_map

TABLE = Path(os.environ["BACMAC_REGISTER_TABLE"])
MAP = parse_register_map(TABLE, TABLE.read_text())
AT = {register.name: register.offset for register in MAP.registers}
BUILD_ID = 0xBEEF0001
COUNTERS = (
    *("CYCLES", "BUSY_CYCLES", "STALL_IN_CYCLES", "STALL_OUT_CYCLES"),
    *("PRODUCTS", "ISOLATED", "SKIPPED", "IMAGES"),
    *("LAYER_CYCLES", "LAYER_BUSY", "LAYER_PRODUCTS", "LAYER_ISOLATED", "LAYER_SKIPPED"),
)
GUARDED = ("STREAM_SELECT", "N_IMAGES", "REPEAT", "N_DESCRIPTORS", "LOAD_BYTES")
PULSES = ("soft_reset", "start", "clear_counters", "load", "refused")

reached: Counter[str] = Counter()
"""How often each bin of the functional coverage was hit; see `every_bin_is_reached`."""


def paces() -> dict[str, Any]:
    return {
        "at once": None,
        "every other": cycle([1, 0]),
        "random": iter(lambda: random.random() < 0.6, None),
        "slow": cycle([1, 1, 1, 1, 1, 0]),
    }


class Bench:
    """The slave with idle inputs, a master, and a count of the pulses it gave."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.pulses: Counter[str] = Counter()

    async def start(self) -> Bench:
        dut = self.dut
        for name in ("busy", "done", "failed", "loaded", "error_code", "error_info"):
            getattr(dut, name).value = 0
        dut.counters.value = 0
        dut.layer_counters.value = 0
        dut.layer_valid.value = 1
        dut.core_rst.value = 1
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        for _ in range(4):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        dut.core_rst.value = 0
        await RisingEdge(dut.clk)
        cocotb.start_soon(self.count())
        return self

    async def count(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            self.pulses.update(name for name in PULSES if int(getattr(self.dut, name).value))

    def pace(self, **channels: Any) -> None:
        write, read = self.master.write_if, self.master.read_if
        ends = {
            "aw": write.aw_channel, "w": write.w_channel, "b": write.b_channel,
            "ar": read.ar_channel, "r": read.r_channel,
        }  # fmt: skip
        for name, generator in channels.items():
            ends[name].set_pause_generator(generator)
            if generator is None:
                ends[name].pause = False

    async def write(self, offset: int, value: int) -> AxiResp:
        return (await self.master.write(offset, value.to_bytes(4, "little"))).resp

    async def read(self, offset: int) -> tuple[int, AxiResp]:
        answer = await self.master.read(offset, 4)
        return int.from_bytes(answer.data, "little"), answer.resp

    async def value(self, name: str) -> int:
        value, response = await self.read(AT[name])
        assert response == AxiResp.OKAY, name
        return value


def held_bits(register: Register) -> int:
    """The bits that a writable register keeps."""
    if register.name == "CTRL":
        return 0
    return sum(field.mask for field in register.fields) if register.fields else 0xFFFFFFFF


@cocotb.test()
async def every_register_resets_and_holds_what_the_table_says(dut: Any) -> None:
    bench = await Bench(dut).start()
    for register in MAP.registers:
        expected = BUILD_ID if register.name == "BUILD" else register.reset
        assert await bench.value(register.name) == expected, register.name
    for register in MAP.registers:
        writable = register.access != "read-only"
        for value in (0xFFFFFFFF, random.getrandbits(32), 0x12345678):
            if register.name == "CTRL":
                value &= ~7  # the commands have a test of their own
            before = await bench.value(register.name)
            response = await bench.write(register.offset, value)
            after = await bench.value(register.name)
            if writable:
                assert response == AxiResp.OKAY, register.name
                assert after == value & held_bits(register), register.name
                reached["write"] += 1
            else:
                assert response == AxiResp.SLVERR, register.name
                assert after == before, register.name
                reached["write to read-only"] += 1
    assert int(dut.layer_select.value) == 0x12345678
    assert int(dut.passes.value) == 0x12345678


@cocotb.test()
async def what_is_no_register_is_an_error(dut: Any) -> None:
    bench = await Bench(dut).start()
    offsets = set(AT.values())
    for offset in range(0, MAP.size_bytes, 4):
        if offset not in offsets:
            assert (await bench.read(offset))[1] == AxiResp.SLVERR, offset
            assert await bench.write(offset, 1) == AxiResp.SLVERR, offset
            reached["no register"] += 1
    for offset in (AT["N_IMAGES"] + 1, AT["N_IMAGES"] + 2, AT["CTRL"] + 3):
        # the master splits what is not aligned, so the address is driven by itself
        answer = await bench.master.read(offset, 1)
        assert answer.resp == AxiResp.SLVERR, offset
        assert (await bench.master.write(offset, b"\xff")).resp == AxiResp.SLVERR, offset
        reached["unaligned"] += 1
    assert await bench.value("N_IMAGES") == 0


@cocotb.test()
async def a_write_without_all_strobes_changes_nothing(dut: Any) -> None:
    bench = await Bench(dut).start()
    await bench.write(AT["REPEAT"], 0xA5A5A5A5)
    for n_bytes in (1, 2, 3):
        written = await bench.master.write(AT["REPEAT"], b"\xff" * n_bytes)
        assert written.resp == AxiResp.SLVERR
        assert await bench.value("REPEAT") == 0xA5A5A5A5
        reached["strobes"] += 1
    await bench.master.write(AT["CTRL"], b"\x07")
    assert not bench.pulses


@cocotb.test()
async def commands_are_pulses(dut: Any) -> None:
    bench = await Bench(dut).start()
    for bits in range(8):
        bench.pulses.clear()
        assert await bench.write(AT["CTRL"], bits) == AxiResp.OKAY
        await bench.value("CTRL")
        reset = bits & 2
        expected = Counter(
            {
                "start": int(bits & 1 and not reset),
                "soft_reset": int(bool(reset)),
                "clear_counters": int(bits & 4 and not reset),
            }
        )
        assert bench.pulses == +expected, bits
        reached[f"command {bits}"] += 1
    bench.pulses.clear()
    await bench.write(AT["STREAM_SELECT"], 2)
    await bench.value("STREAM_SELECT")
    assert bench.pulses == Counter(load=1)


@cocotb.test()
async def while_busy_guarded_writes_are_refused_and_named(dut: Any) -> None:
    bench = await Bench(dut).start()
    dut.busy.value = 1
    for name in (*GUARDED, "CTRL"):
        bench.pulses.clear()
        before = await bench.value(name)
        assert await bench.write(AT[name], 1) == AxiResp.OKAY
        assert int(dut.refused_offset.value) == AT[name]
        assert await bench.value(name) == before
        assert bench.pulses == Counter(refused=1), name
        reached[f"refused {name}"] += 1
    bench.pulses.clear()
    await bench.write(AT["LAYER_SELECT"], 7)
    await bench.write(AT["CTRL"], 4)
    assert await bench.value("LAYER_SELECT") == 7
    assert bench.pulses == Counter(clear_counters=1)
    await bench.write(AT["CTRL"], 3)
    await bench.value("CTRL")
    assert bench.pulses == Counter(clear_counters=1, soft_reset=1)


@cocotb.test()
async def status_is_the_state(dut: Any) -> None:
    bench = await Bench(dut).start()
    status = MAP.register("STATUS")
    for busy, failed, done, loaded in product((0, 1), (0, 1), (0, 1), range(8)):
        if busy and failed:
            continue
        code, info = random.getrandbits(8), random.getrandbits(32)
        dut.busy.value, dut.failed.value, dut.done.value = busy, failed, done
        dut.loaded.value, dut.error_code.value, dut.error_info.value = loaded, code, info
        flags = {
            "IDLE": not busy and not failed, "BUSY": busy, "DONE": done, "ERROR": failed,
            "PROGRAM": loaded & 1, "WEIGHTS": loaded >> 1 & 1, "CONSTANTS": loaded >> 2,
            "ERROR_CODE": code,
        }  # fmt: skip
        expected = sum(int(value) << status.field(name).lsb for name, value in flags.items())
        assert await bench.value("STATUS") == expected
        assert await bench.value("ERROR_INFO") == info
        reached["idle" if flags["IDLE"] else "busy" if busy else "failed"] += 1


@cocotb.test()
async def low_words_latch_high_words_each_its_own(dut: Any) -> None:
    bench = await Bench(dut).start()

    def show(values: list[int]) -> None:
        dut.counters.value = sum(value << 48 * i for i, value in enumerate(values[:8]))
        dut.layer_counters.value = sum(value << 48 * i for i, value in enumerate(values[8:]))

    first = [random.getrandbits(48) for _ in COUNTERS]
    second = [random.getrandbits(48) for _ in COUNTERS]
    show(first)
    for name, value in zip(COUNTERS, first, strict=True):
        assert await bench.value(f"{name}_LO") == value & 0xFFFFFFFF, name
    show(second)
    for name, value in zip(COUNTERS, first, strict=True):
        assert await bench.value(f"{name}_HI") == value >> 32, name
    assert await bench.value("CYCLES_LO") == second[0] & 0xFFFFFFFF
    assert await bench.value("CYCLES_HI") == second[0] >> 32
    assert await bench.value("IMAGES_HI") == first[7] >> 32


@cocotb.test()
async def a_read_waits_while_the_layer_memory_is_in_use(dut: Any) -> None:
    bench = await Bench(dut).start()
    dut.layer_valid.value = 0
    dut.layer_counters.value = 1
    reading = cocotb.start_soon(bench.read(AT["LAYER_CYCLES_LO"]))
    for _ in range(20):
        await RisingEdge(dut.clk)
        assert not int(dut.s_axi_rvalid.value)
    dut.layer_counters.value = 2
    dut.layer_valid.value = 1
    assert (await reading)[0] == 2
    reached["read waited"] += 1


@cocotb.test()
async def any_order_and_pace_of_the_channels_gives_the_same(dut: Any) -> None:
    bench = await Bench(dut).start()
    names = ("N_IMAGES", "REPEAT", "N_DESCRIPTORS", "LOAD_BYTES", "LAYER_SELECT")
    for (aw, _), (w, _), (b, _) in product(paces().items(), repeat=3):
        bench.pace(aw=paces()[aw], w=paces()[w], b=paces()[b])
        bench.pace(ar=random.choice([*paces().values()]), r=random.choice([*paces().values()]))
        values = {name: random.getrandbits(32) for name in names}
        writes = [cocotb.start_soon(bench.write(AT[name], values[name])) for name in names]
        for write in writes:
            assert await write == AxiResp.OKAY
        reads = [cocotb.start_soon(bench.value(name)) for name in names]
        assert [await read for read in reads] == list(values.values())
        reached[f"aw {aw}, w {w}, b {b}"] += 1


@cocotb.test()
async def outputs_do_not_follow_inputs_within_a_cycle(dut: Any) -> None:
    bench = await Bench(dut).start()
    outputs = [
        getattr(dut, f"s_axi_{name}")
        for name in ("awready", "wready", "bvalid", "arready", "rvalid", "bresp", "rdata", "rresp")
    ]
    inputs = [
        getattr(dut, f"s_axi_{name}")
        for name in ("awvalid", "wvalid", "bready", "arvalid", "rready")
    ]
    bench.pace(
        **{name: iter(lambda: random.random() < 0.5, None) for name in ("b", "r", "aw", "w")}
    )
    traffic = [
        *(cocotb.start_soon(bench.write(AT["REPEAT"], value)) for value in range(20)),
        *(cocotb.start_soon(bench.read(AT["REPEAT"])) for _ in range(20)),
    ]
    for _ in range(60):
        await FallingEdge(dut.clk)
        before = [int(signal.value) for signal in outputs]
        kept = [int(signal.value) for signal in inputs]
        for signal in inputs:
            signal.value = random.getrandbits(1)
        await Timer(1, "ns")
        await ReadOnly()
        assert [int(signal.value) for signal in outputs] == before
        reached["mid-cycle"] += 1
        await Timer(1, "ns")
        for signal, value in zip(inputs, kept, strict=True):
            signal.value = value
    for task in traffic:
        await task


@cocotb.test()
async def every_bin_is_reached(dut: Any) -> None:
    wanted = chain(
        ("write", "write to read-only", "no register", "unaligned", "strobes", "read waited"),
        ("idle", "busy", "failed", "mid-cycle"),
        (f"command {bits}" for bits in range(8)),
        (f"refused {name}" for name in (*GUARDED, "CTRL")),
        (f"aw {aw}, w {w}, b {b}" for aw, w, b in product(paces(), repeat=3)),
    )
    missed = [name for name in wanted if not reached[name]]
    dut._log.info("functional coverage: %s", dict(reached))
    assert missed == []
