"""Requantization against its definition, with gaps between the values."""

from __future__ import annotations

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

STAGES = 7
EXTREMES = [-(2**31), 2**31 - 1, 0, 1, -1]


def definition(acc: int, bias: int, m: int, s: int, r: int, mr: int, low: int, high: int) -> int:
    """docs/numerics.md."""
    total = (acc + bias) * m + r * mr
    return min(max((total + ((1 << s) >> 1)) >> s, low), high)


def wrapped(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


@cocotb.test()
async def every_shift_every_sign_and_both_clamps(dut):
    rng = random.Random(5)
    dut.enable.value = 0
    Clock(dut.clk, 10, unit="ns").start()
    await FallingEdge(dut.clk)
    stages: list[dict | None] = [None] * (STAGES + 1)
    seen = set()
    low, high = 0, 255
    for number in range(6000):
        if number % 500 == 0 and not any(stages):
            low, high = rng.choice([(0, 255), (-128, 127), (0, 15), (-8, 7), (0, 0)])
            dut.low.value, dut.high.value = low & 0xFFFF, high
        value = None
        if number % 500 < 480 and rng.random() < 0.7:
            acc = rng.choice([*EXTREMES, rng.randrange(-(2**31), 2**31), rng.randrange(-999, 999)])
            bias = rng.choice([0, rng.randrange(-999, 999), rng.randrange(-(2**31), 2**31)])
            if wrapped(acc + bias) != acc + bias:
                bias = 0
            value = {
                "acc": acc, "bias": bias, "s": rng.randrange(41),
                "m": rng.choice([0, 1, 2**15 - 1, rng.randrange(2**15)]),
                "r": rng.choice([0, -128, 255, rng.randrange(-128, 256)]),
                "mr": rng.choice([0, *EXTREMES, rng.randrange(-(2**31), 2**31)]),
            }  # fmt: skip
            dut.accumulator.value = acc & 0xFFFFFFFF
            constants = bias & 0xFFFFFFFF | value["m"] << 32 | value["s"] << 48
            dut.constants.value = constants | (value["mr"] & 0xFFFFFFFF) << 64
        stages = [value, *stages[:-1]]
        dut.enable.value = sum(1 << i for i in range(STAGES) if stages[i])
        if stages[1]:
            dut.residual.value = stages[1]["r"] & 0x1FF
        await FallingEdge(dut.clk)
        done = stages[STAGES - 1]
        if done is None:
            continue
        expected = definition(
            done["acc"], done["bias"], done["m"], done["s"], done["r"], done["mr"], low, high
        )
        assert int(dut.y.value) == expected & 0xFF, done
        seen.add(("shift", done["s"]))
        seen.add("low" if expected == low else "high" if expected == high else "between")
        seen.add(("residual", (done["r"] > 0) - (done["r"] < 0)))
    wanted = {("shift", s) for s in range(41)} | {"low", "high", "between"}
    wanted |= {("residual", sign) for sign in (-1, 0, 1)}
    dut._log.info("covered: %d points", len(wanted))
    assert wanted <= seen, wanted - seen


@cocotb.test()
async def int32_values_pass_whole_and_stay_until_the_next(dut):
    rng = random.Random(6)
    dut.enable.value = 0
    Clock(dut.clk, 10, unit="ns").start()
    await FallingEdge(dut.clk)
    for _ in range(200):
        acc, bias = rng.randrange(-(2**30), 2**30), rng.randrange(-(2**30), 2**30)
        dut.accumulator.value = acc & 0xFFFFFFFF
        dut.constants.value = bias & 0xFFFFFFFF | 1 << 32
        dut.residual.value = 0
        for stage in range(6):
            dut.enable.value = 1 << stage
            await FallingEdge(dut.clk)
        dut.enable.value = 0
        for _ in range(rng.randrange(4)):
            await FallingEdge(dut.clk)
        assert dut.wide.value.to_signed() == acc + bias
