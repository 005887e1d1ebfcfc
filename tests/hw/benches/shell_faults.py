"""Every error, every reset: a defined state, no hang, and the next correct run is right."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import product
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles
from shell_master import (
    AT,
    CONSTANTS,
    IMAGES,
    PACES,
    PROGRAM,
    SOFT_RESET,
    START,
    STATES,
    WEIGHTS,
    Master,
)
from shell_network import (
    ACTIVATION_BYTES,
    CONSTANT_BYTES,
    IMAGE_ADDRESS,
    MAX_LAYERS,
    PROGRAM_BYTES,
    WEIGHT_BYTES,
    Layer,
    Network,
    small_network,
)

BAD_DESCRIPTOR, OVERRUN, UNDERRUN, NOT_LOADED, BAD_BEAT, BUSY = range(1, 7)
GUARDED = ("STREAM_SELECT", "N_IMAGES", "REPEAT", "N_DESCRIPTORS", "LOAD_BYTES", "CTRL")
KINDS = {IMAGES: "images", PROGRAM: "program", WEIGHTS: "weights", CONSTANTS: "constants"}
reached: Counter[str] = Counter()
"""How often each bin of the functional coverage was hit; see `every_bin_is_reached`."""


async def fails(master: Master, code: int, info: int, recover: Network) -> None:
    """An error as told, input swallowed, output silent; SOFT_RESET leads out, to a right run."""
    await master.until("ERROR")
    assert await master.error() == (code, info)
    assert not await master.flags() & {"IDLE", "BUSY", "DONE"}
    offered = int(master.dut.m_axis_tvalid.value)  # may stay until it is taken
    master.send(random.randbytes(5 * master.beat + 3))
    master.send(random.randbytes(1))
    for _ in range(400):
        await ClockCycles(master.dut.aclk, 1)
        assert offered or not int(master.dut.m_axis_tvalid.value)
        if master.source.idle():
            break
    assert master.source.idle(), "the input is not swallowed"
    # commands do nothing, and the first error stands
    await master.write("CTRL", START)
    await master.announce(PROGRAM, master.beat)
    assert await master.error() == (code, info)
    await master.soft_reset()
    reached["reset in FAILED"] += master.resets["FAILED"]
    await master.is_as_configured()
    await master.load_all(recover)
    await master.run(recover, 1)
    await master.soft_reset()


async def fresh(dut: Any) -> tuple[Master, Network]:
    master = await Master(dut).open()
    return master, small_network(master.beat)


@cocotb.test()
async def start_without_what_it_needs(dut: Any) -> None:
    master, network = await fresh(dut)
    parts = {PROGRAM: network.program, WEIGHTS: network.weights, CONSTANTS: network.constants}
    for missing in parts:
        for select, data in parts.items():
            if select < missing or (select > missing > PROGRAM):
                await master.load(select, data)
        await master.write("CTRL", START)
        await fails(master, NOT_LOADED, missing, network)
        reached[f"start without {KINDS[missing]}"] += 1
    for select in (WEIGHTS, CONSTANTS):
        await master.announce(select, master.beat)
        await fails(master, NOT_LOADED, PROGRAM, network)
        reached[f"{KINDS[select]} before the program"] += 1


@cocotb.test()
async def numbers_that_cannot_be(dut: Any) -> None:
    master, network = await fresh(dut)
    for name in ("N_IMAGES", "REPEAT", "N_DESCRIPTORS"):
        await master.load_all(network)
        await master.write("N_IMAGES", 1)
        await master.write(name, 0)
        await master.write("CTRL", START)
        await fails(master, UNDERRUN, 0, network)
        reached[f"{name} 0"] += 1
    for n_descriptors, code, info in (
        (MAX_LAYERS + 1, BAD_DESCRIPTOR, MAX_LAYERS),
        (0xFFFFFFFF, BAD_DESCRIPTOR, MAX_LAYERS),
    ):
        await master.load_all(network)
        await master.write("N_DESCRIPTORS", n_descriptors)
        await master.start(1, 1)
        await fails(master, code, info, network)
        reached["too many descriptors"] += 1
    per_image = network.image_bytes
    room = (ACTIVATION_BYTES - IMAGE_ADDRESS) // per_image
    await master.load_all(network)
    await master.run(network, room)
    reached["as many images as fit"] += 1
    for n_images in (room + 1, 1 << 20, 0xFFFFFFFF):
        await master.load_all(network)
        await master.start(n_images, 1)
        needed = IMAGE_ADDRESS + n_images * per_image & 0xFFFFFFFF
        await fails(master, OVERRUN, needed, network)
        reached["too many images"] += 1


@cocotb.test()
async def descriptors_that_are_bad(dut: Any) -> None:
    master, network = await fresh(dut)
    for bad in (0, 1, 2):
        layers = [Layer(8, 8, random.randint(4, 9), kind=255 * (i == bad)) for i in range(4)]
        await master.load_all(Network(layers, master.beat))
        await master.start(1, 1)
        master.send(random.randbytes(master.beat))
        await fails(master, BAD_DESCRIPTOR, bad, network)
        reached[f"bad descriptor {bad}"] += 1


@cocotb.test()
async def loads_that_cannot_be(dut: Any) -> None:
    master, network = await fresh(dut)
    sizes = {PROGRAM: PROGRAM_BYTES, WEIGHTS: WEIGHT_BYTES, CONSTANTS: CONSTANT_BYTES}
    for (select, size), n_bytes in product(sizes.items(), ("more", "odd", "whole")):
        if select != PROGRAM:
            await master.load(PROGRAM, network.program)
        if n_bytes == "whole":
            await master.load(select, random.randbytes(size))
            await master.soft_reset()
            continue
        announced = size + master.beat if n_bytes == "more" else master.beat + 1
        await master.announce(select, announced)
        code = OVERRUN if n_bytes == "more" else BAD_BEAT
        await fails(master, code, announced, network)
        reached[f"{n_bytes} bytes of {KINDS[select]}"] += 1


async def expect_packet(master: Master, select: int, network: Network) -> int:
    """Make the accelerator await a packet, and tell its bytes."""
    if select == IMAGES:
        await master.load_all(network)
        await master.start(2, 1)
        return 2 * network.image_bytes
    if select != PROGRAM:
        await master.load(PROGRAM, network.program)
    await master.announce(select, 4 * master.beat)
    return 4 * master.beat


@cocotb.test()
async def packets_that_are_not_as_announced(dut: Any) -> None:
    master, network = await fresh(dut)
    beat = master.beat
    for select, idle in product(KINDS, PACES):
        for cause in ("early", "late", "hole", "short beat", "short last beat"):
            master.pace(idle, "at once")
            n_bytes = await expect_packet(master, select, network)
            at = random.randrange(1, n_bytes // beat)  # beat
            data = random.randbytes(n_bytes)
            if cause == "early":
                master.send(data[: at * beat])
                code, info = UNDERRUN, at * beat
            elif cause == "late":
                master.send(data + b"x" * beat)
                code, info = OVERRUN, n_bytes
            elif cause == "hole":
                byte = at * beat + random.randrange(beat)
                master.send(data, {byte: 0})
                code, info = BAD_BEAT, at * beat + beat - 1
            elif cause == "short beat":
                left = random.randrange(1, beat)
                master.send(data[: at * beat + left])
                code, info = BAD_BEAT, at * beat + left
            else:
                master.send(data[:-1])
                code, info = BAD_BEAT, n_bytes - 1
            await fails(master, code, info, network)
            reached[f"{cause}, {KINDS[select]}"] += 1


async def busy_load(master: Master, network: Network) -> None:
    await master.announce(PROGRAM, 1024)
    master.send(random.randbytes(1024))


async def busy_batch(master: Master, network: Network) -> None:
    await master.load_all(network)
    await master.start(2, 2)
    master.send(network.images(2))


@cocotb.test()
async def writes_while_busy_are_errors(dut: Any) -> None:
    master, network = await fresh(dut)
    for name in GUARDED:
        for begin in (busy_load, busy_batch):
            await begin(master, network)
            await master.write(name, 1)
            await fails(master, BUSY, AT[name], network)
            reached[f"{name} while busy: {begin.__name__}"] += 1


async def swept(dut: Any, act: Callable[[Master], Awaitable[None]], paces: Sequence[str]) -> None:
    """Act in every cycle of a load and of a batch, and run a batch as it should be each time."""
    master, network = await fresh(dut)
    network = Network([Layer(20, 9, 6, 5), Layer(9, 2 * master.beat + 3, 5, 7)], master.beat)
    for begin, n_cycles in ((busy_load, 1024 // master.beat + 4), (busy_batch, 160)):
        for delay in range(0, n_cycles, 5 if begin == busy_load else 1):
            master.pace(random.choice(paces), random.choice(paces))
            await begin(master, network)
            await ClockCycles(dut.aclk, 1 + delay)
            await act(master)
            await master.soft_reset()
            master.pace("at once", "at once")
            await master.load_all(network)
            await master.run(network, 1)
    for state, times in master.resets.items():
        reached[f"reset in {state}"] += times


@cocotb.test()
async def soft_reset_leads_out_of_every_state(dut: Any) -> None:
    async def nothing(master: Master) -> None:
        return

    # at one pace, so that every state of a single cycle is met
    await swept(dut, nothing, PACES[:1])


@cocotb.test()
async def an_error_stops_every_state(dut: Any) -> None:
    async def refuse(master: Master) -> None:
        busy = "BUSY" in await master.flags()
        state = STATES[int(master.dut.run_state.value)]
        await master.write("REPEAT", 1)
        if busy and await master.error() == (BUSY, AT["REPEAT"]):
            assert "ERROR" in await master.flags()
            reached[f"refused in {state}"] += 1
            master.sink.pause = False
            master.sink.set_pause_generator(None)
            await ClockCycles(master.dut.aclk, 4)
            assert not int(master.dut.m_axis_tvalid.value)

    await swept(dut, refuse, PACES)


@cocotb.test()
async def an_offered_beat_stays_after_an_error_and_no_other_comes(dut: Any) -> None:
    master, network = await fresh(dut)
    await master.load_all(network)
    images = network.images(1)
    await master.start(1, 1)
    master.sink.pause = True
    master.send(images)
    while not int(dut.m_axis_tvalid.value):
        await ClockCycles(dut.aclk, 1)
    await ClockCycles(dut.aclk, random.randrange(9))
    await master.write("REPEAT", 1)
    await master.until("ERROR")
    waited = await master.counter("STALL_OUT_CYCLES")
    for _ in range(20):
        await ClockCycles(dut.aclk, 1)
        assert int(dut.m_axis_tvalid.value)
    # what was counted stands
    await master.write("CTRL", START)
    assert await master.counter("STALL_OUT_CYCLES") == waited
    assert await master.counter("LAYER_CYCLES") == network.layers[0].cycles
    first = int(dut.m_axis_tdata.value).to_bytes(master.beat, "little")
    assert first == network.outputs(images)[: master.beat]
    master.sink.pause = False
    n_taken = 0
    for _ in range(30):
        await ClockCycles(dut.aclk, 1)
        n_taken += int(dut.m_axis_tvalid.value) and int(dut.m_axis_tready.value)
    assert n_taken == 1
    await fails(master, BUSY, AT["REPEAT"], network)


@cocotb.test()
async def an_error_stops_the_engine(dut: Any) -> None:
    master, network = await fresh(dut)
    await master.load_all(Network([Layer(8, 8, 5000)], master.beat))
    await master.start(1, 1)
    master.send(bytes(master.beat))
    await master.until_state("RUNNING")
    await ClockCycles(dut.aclk, 10)
    assert int(dut.accelerator.top.count_busy.value)
    await master.write("N_IMAGES", 1)
    await master.until("ERROR")
    assert not int(dut.accelerator.top.count_busy.value)
    await fails(master, BUSY, AT["N_IMAGES"], network)


@cocotb.test()
async def writes_right_behind_a_command_come_after_it(dut: Any) -> None:
    master, network = await fresh(dut)
    for name in ("N_IMAGES", "REPEAT", "LOAD_BYTES", "LAYER_SELECT"):
        behind = [cocotb.start_soon(master.write(*it)) for it in (("CTRL", SOFT_RESET), (name, 7))]
        for write in behind:
            await write
        assert await master.read(name) == 7
    await master.soft_reset()
    await master.load_all(network)
    await master.write("N_IMAGES", 1)
    behind = [cocotb.start_soon(master.write(*it)) for it in (("CTRL", START), ("REPEAT", 1))]
    for write in behind:
        await write
    await fails(master, BUSY, AT["REPEAT"], network)


@cocotb.test()
async def every_bin_is_reached(dut: Any) -> None:
    loads = list(KINDS.values())[1:]
    causes = ("early", "late", "hole", "short beat", "short last beat")
    begins = ("busy_load", "busy_batch")
    # a reset cannot meet PROBE: two writes are at least two cycles apart
    brief = ("IDLE", "PROBING", "FIT", "LAYER", "OUTPUT")
    wanted = [
        *(f"start without {kind}" for kind in loads),
        *("weights before the program", "constants before the program"),
        *("N_IMAGES 0", "REPEAT 0", "N_DESCRIPTORS 0", "too many descriptors"),
        *("as many images as fit", "too many images"),
        *(f"bad descriptor {number}" for number in range(3)),
        *(f"{n_bytes} bytes of {kind}" for n_bytes in ("more", "odd") for kind in loads),
        *(f"{cause}, {kind}" for cause in causes for kind in KINDS.values()),
        *(f"{name} while busy: {begin}" for name in GUARDED for begin in begins),
        *(f"reset in {state}" for state in ("LOAD", "SIZE", "INPUT", "RUNNING", "SENDING")),
        *(f"reset in {state}" for state in ("FAILED", *brief)),
        *(f"refused in {state}" for state in ("LOAD", "SIZE", "INPUT", "RUNNING", "SENDING")),
    ]
    missed = [name for name in wanted if not reached[name]]
    dut._log.info("functional coverage: %s", dict(reached))
    assert missed == []
