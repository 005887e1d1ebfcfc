"""Loads and batches as they should be: bytes, cycles and counters at any pace of the streams."""

from __future__ import annotations

import random
from collections import Counter
from itertools import product
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, ReadOnly, Timer
from shell_master import CLEAR, PACES, PROGRAM, START, WEIGHTS, Master
from shell_network import (
    CONSTANT_BYTES,
    MAX_LAYERS,
    WEIGHT_BYTES,
    Layer,
    Network,
    random_network,
    small_network,
)

reached: Counter[str] = Counter()
"""How often each bin of the functional coverage was hit; see `every_bin_is_reached`."""


@cocotb.test()
async def any_pace_gives_the_same_bytes_and_cycles(dut: Any) -> None:
    master = await Master(dut).open()
    for idle, back_pressure in product(PACES, repeat=2):
        for n_layers in (1, 2, 4):
            network = random_network(master.beat, n_layers)
            n_images, passes = random.randint(1, 4), random.choice((1, 1, 2, 3))
            master.pace(idle, back_pressure)
            await master.load_all(network)
            await master.run(network, n_images, passes)
            stalls = dict(master.stalls)

            total = await master.counter("CYCLES")
            stall_in = await master.counter("STALL_IN_CYCLES")
            stall_out = await master.counter("STALL_OUT_CYCLES")
            ran = n_images * passes
            busy = ran * sum(layer.cycles // 2 for layer in network.layers)
            assert total - stall_in - stall_out == network.cycles(n_images, passes)
            assert (stall_in, stall_out) == (stalls.get("in", 0), stalls.get("out", 0))
            assert await master.counter("BUSY_CYCLES") == busy
            assert await master.counter("PRODUCTS") == 3 * busy
            assert await master.counter("ISOLATED") == busy
            skipped = ran * sum(layer.n_skipped for layer in network.layers)
            assert await master.counter("SKIPPED") == skipped
            assert await master.counter("IMAGES") == ran
            for number, layer in enumerate(network.layers):
                await master.write("LAYER_SELECT", number)
                assert await master.counter("LAYER_CYCLES") == ran * layer.cycles
                assert await master.counter("LAYER_BUSY") == ran * (layer.cycles // 2)
                assert await master.counter("LAYER_PRODUCTS") == 3 * ran * (layer.cycles // 2)
                assert await master.counter("LAYER_ISOLATED") == ran * (layer.cycles // 2)
                assert await master.counter("LAYER_SKIPPED") == ran * layer.n_skipped
            for number in (len(network.layers), MAX_LAYERS, 1 << 31):
                await master.write("LAYER_SELECT", number)
                assert await master.counter("LAYER_CYCLES") == 0
            reached[f"idle {idle}, back-pressure {back_pressure}"] += 1
            reached["one image" if n_images == 1 else "more images"] += 1
            reached["one pass" if passes == 1 else "more passes"] += 1
            whole = network.layers[-1].n_out % master.beat == 0
            reached["whole last beat" if whole else "part of a last beat"] += 1


@cocotb.test()
async def outputs_of_whole_beats_and_of_one_byte(dut: Any) -> None:
    master = await Master(dut).open()
    for n_out in (1, master.beat - 1, master.beat, master.beat + 1, 4 * master.beat):
        network = Network([Layer(master.beat, n_out, 5)], master.beat)
        await master.load_all(network)
        await master.run(network, 2)
        whole = n_out % master.beat == 0
        reached["whole last beat" if whole else "part of a last beat"] += 1
    for n_images, passes in ((1, 1), (2, 2)):
        await master.run(network, n_images, passes)
        reached["one image" if n_images == 1 else "more images"] += 1
        reached["one pass" if passes == 1 else "more passes"] += 1


@cocotb.test()
async def counters_add_up_until_they_are_cleared(dut: Any) -> None:
    master = await Master(dut).open()
    network = small_network(master.beat)
    await master.load_all(network)
    for images_before in range(0, 6, 2):
        images = network.images(2)
        await master.start(2, 1, command=START)
        master.send(images)
        await master.until("DONE")
        master.output()
        assert await master.counter("IMAGES") == images_before + 2
        await master.write("LAYER_SELECT", 1)
        assert await master.counter("LAYER_CYCLES") == 2 * network.layers[1].cycles
    before = await master.counter("CYCLES")
    await master.load(WEIGHTS, network.weights)  # a load is no part of a batch
    assert await master.counter("CYCLES") == before
    await master.write("CTRL", CLEAR)
    assert await master.counter("IMAGES") == 0
    assert await master.counter("CYCLES") == 0
    assert await master.counter("LAYER_CYCLES") == 2 * network.layers[1].cycles


@cocotb.test()
async def layers_can_be_read_while_they_run(dut: Any) -> None:
    master = await Master(dut).open()
    network = Network([Layer(master.beat, 8, 4), Layer(8, 8, 5)], master.beat)
    await master.load_all(network)
    images = network.images(1)
    await master.start(1, 300)
    master.send(images)
    await master.write("LAYER_SELECT", 1)
    seen = [await master.counter("LAYER_CYCLES") for _ in range(100)]
    await master.until("DONE")
    assert master.output() == network.outputs(images)
    assert seen == sorted(seen)
    assert all(value % 5 == 0 for value in seen)
    assert seen[-1] > 0
    assert await master.counter("LAYER_CYCLES") == 5 * 300


@cocotb.test()
async def what_is_loaded_lies_where_it_should(dut: Any) -> None:
    master = await Master(dut).open()
    network = small_network(master.beat)
    network.weights = random.randbytes(WEIGHT_BYTES)
    network.constants = random.randbytes(CONSTANT_BYTES)
    await master.load_all(network)
    engine = dut.accelerator.top.engine
    for at in random.sample(range(WEIGHT_BYTES), 40):
        assert int(engine.weights[at].value) == network.weights[at]
    for at in random.sample(range(CONSTANT_BYTES), 40):
        assert int(engine.constants[at].value) == network.constants[at]
    assert int(engine.weight_bytes.value) == WEIGHT_BYTES
    assert int(engine.constant_bytes.value) == CONSTANT_BYTES
    assert int(engine.program_bytes.value) == 128

    await master.load(WEIGHTS, b"")
    assert await master.flags() == {"IDLE", "PROGRAM", "WEIGHTS", "CONSTANTS"}
    assert int(engine.weight_bytes.value) == 0
    await master.announce(PROGRAM, 128)
    assert await master.flags() == {"BUSY"}
    master.send(network.program)
    await master.until("IDLE")
    assert await master.flags() == {"IDLE", "PROGRAM"}


@cocotb.test()
async def the_stream_waits_until_it_is_asked_for(dut: Any) -> None:
    master = await Master(dut).open()
    network = small_network(master.beat)
    await master.load_all(network)
    images = network.images(1)
    master.send(images)
    await ClockCycles(dut.aclk, 50)
    assert not int(dut.s_axis_tready.value)
    await master.start(1, 1)
    await master.until("DONE")
    assert master.output() == network.outputs(images)
    assert await master.flags() == {"IDLE", "DONE", "PROGRAM", "WEIGHTS", "CONSTANTS"}


@cocotb.test()
async def outputs_do_not_follow_inputs_within_a_cycle(dut: Any) -> None:
    master = await Master(dut).open()
    network = small_network(master.beat)
    outputs = [dut.s_axis_tready, dut.m_axis_tvalid, dut.m_axis_tdata, dut.m_axis_tlast]
    inputs = [dut.s_axis_tvalid, dut.s_axis_tlast, dut.s_axis_tkeep, dut.m_axis_tready]
    await master.load_all(network)
    images = network.images(2)
    await master.start(2, 1)
    master.pace("random", "random")
    master.send(images)
    while not master.sink.count():
        await FallingEdge(dut.aclk)
        before = [int(signal.value) for signal in outputs]
        kept = [int(signal.value) for signal in inputs]
        for signal in inputs:
            signal.value = random.getrandbits(len(signal))
        await Timer(1, "ns")
        await ReadOnly()
        assert [int(signal.value) for signal in outputs] == before
        reached["mid-cycle, ready" if before[0] else "mid-cycle, not ready"] += 1
        reached["mid-cycle, valid" if before[1] else "mid-cycle, not valid"] += 1
        await Timer(1, "ns")
        for signal, value in zip(inputs, kept, strict=True):
            signal.value = value
    await master.until("DONE")
    assert master.output() == network.outputs(images)


@cocotb.test()
async def every_bin_is_reached(dut: Any) -> None:
    wanted = [
        *(f"idle {idle}, back-pressure {back}" for idle, back in product(PACES, repeat=2)),
        *("one image", "more images", "one pass", "more passes"),
        *("whole last beat", "part of a last beat"),
        *(f"mid-cycle, {no}{end}" for no in ("", "not ") for end in ("ready", "valid")),
    ]
    missed = [name for name in wanted if not reached[name]]
    dut._log.info("functional coverage: %s", dict(reached))
    assert missed == []
