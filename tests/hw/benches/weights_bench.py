"""Groups reach the shadow registers six cycles after they are asked for, word by word."""

from __future__ import annotations

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge


@cocotb.test()
async def every_group_arrives_whole_and_is_counted(dut):
    rng = random.Random(4)
    width, out, mag = int(dut.IN.value), int(dut.OUT.value), int(dut.MAG.value)
    lanes, words = 8 // (mag + 1), out * (mag + 1) // 8
    lane_bits = width * (mag + 1)
    first_word, n_groups = 3, 6
    dut.rst.value = 1
    for name in ("load_valid", "load", "load_rewind", "swap"):
        getattr(dut, name).value = 0
    dut.weight_word.value = first_word
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(2):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    memory = [rng.randbytes(width) for _ in range(first_word + n_groups * words)]
    memory[first_word : first_word + words] = [bytes(width)] * words  # a group of zeros only
    for number, word in enumerate(memory):
        dut.load_valid.value, dut.load_word.value = 1, number
        dut.load_data.value = int.from_bytes(word, "little")
        await FallingEdge(dut.clk)
    dut.load_valid.value = 0

    seen = set()
    for visit in range(3 * n_groups):
        group = visit % n_groups
        dut.load.value, dut.load_rewind.value = 1, int(group == 0)
        await FallingEdge(dut.clk)
        dut.load.value = 0
        for _ in range(5):
            assert not int(dut.lane_enable.value)
            await FallingEdge(dut.clk)
        nonzero = 0
        for word in range(words):
            enabled = int(dut.lane_enable.value)
            expected = sum(1 << lane for lane in range(out) if lane // lanes == word)
            assert enabled == expected
            data = memory[first_word + group * words + word]
            value = int.from_bytes(data, "little")
            assert int(dut.lane_data.value) == value
            for lane in range(lanes):
                codes = value >> lane * lane_bits
                nonzero += sum(codes >> mag * i & (1 << mag) - 1 != 0 for i in range(width))
            await FallingEdge(dut.clk)
        assert not int(dut.lane_enable.value)
        dut.swap.value = 1
        await FallingEdge(dut.clk)
        dut.swap.value = 0
        assert int(dut.nonzero.value) == nonzero
        seen.add((group, nonzero == 0))
        for _ in range(rng.randrange(3)):
            await FallingEdge(dut.clk)
            assert int(dut.nonzero.value) == nonzero, "held until the next group"
    assert len(seen) == n_groups
    assert (0, True) in seen
