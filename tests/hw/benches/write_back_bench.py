"""Blocks leave pixel by pixel: order, addresses, times, and port B used by one at a time."""

from __future__ import annotations

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge


@cocotb.test()
async def all_pixels_of_all_blocks(dut):
    rng = random.Random(2)
    width, out, tile = int(dut.IN.value), int(dut.OUT.value), int(dut.TILE.value)
    dut.rst.value, dut.start.value, dut.block_done.value = 1, 0, 0
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    seen = set()
    for _ in range(60):
        kind = rng.choice(["plain", "residual", "wide"])
        await run_layer(dut, rng, kind, width, out, tile)
        seen.add(kind)
    assert len(seen) == 3


async def run_layer(dut, rng, kind, width, out, tile) -> None:
    wide, residual = kind == "wide", kind == "residual"
    channels, pixels = rng.randrange(1, 3 * out), rng.randrange(1, 3 * tile)
    size = 4 if wide else 1
    n_blocks = -(-channels // out)
    output, source, row = rng.randrange(0, 64) * width, rng.randrange(1, 64) * width, 7
    fields = {
        "n_pixels": pixels, "n_blocks": n_blocks, "out_c": channels,
        "pixel_bytes": channels * size, "wide": int(wide), "residual": int(residual),
        "output_address": output, "residual_source": source, "constant_row": row,
    }  # fmt: skip
    for name, value in fields.items():
        getattr(dut, name).value = value
    dut.start.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0

    step = 4 * out // width if wide else 2 if residual else 1
    tiles = [range(start, min(start + tile, pixels)) for start in range(0, pixels, tile)]
    blocks = [(span, block) for span in tiles for block in range(n_blocks)]
    writes, reads, accumulators, rows = [], [], [], []
    for number, (span, block) in enumerate(blocks):
        own = min(out, channels - block * out)
        rows.append(row + block)
        for pixel in span:
            at = (pixel * channels + block * out) * size
            accumulators.append((number % 2, pixel - span.start))
            if residual:
                reads.append(source + at)
            for word in range(step if wide else 1):
                count = min(max(own * size - word * width, 0), width)
                if count:
                    writes.append((output + at + word * width, count))

    # blocks come with gaps, at most two wait at a time
    released = given = 0
    cycle, next_block, begins, parity = 0, 0, [], []
    releases: list[int] = []
    done = False
    while not done:
        give = given < len(blocks) and given - released < 2 and cycle >= next_block
        dut.block_done.value = int(give)
        if give:
            given += 1
            next_block = cycle + rng.choice([1, 4, tile, 3 * tile])
        await FallingEdge(dut.clk)
        cycle += 1
        write, read = int(dut.write_valid.value), int(dut.residual_read.value)
        assert not (write and read), "port B is asked twice"
        if write:
            found = int(dut.write_address.value), int(dut.write_count.value)
            assert found == writes.pop(0)
        if read:
            assert int(dut.residual_address.value) == reads.pop(0)
            parity.append(cycle % 2)
        if int(dut.accumulator_read.value):
            found = int(dut.accumulator_set.value), int(dut.accumulator_pixel.value)
            assert found == accumulators.pop(0)
            begins.append(cycle - 3)
        if int(dut.constant_read.value):
            assert int(dut.constant_address.value) == rows.pop(0)
        if which := int(dut.set_read.value):
            assert which == 1 << released % 2, "sets are released in turn"
            released += 1
            releases.append(cycle)
        done = bool(int(dut.layer_done.value))
        assert cycle < 50_000
    assert not writes
    assert not reads
    assert not accumulators
    assert not rows
    assert released == len(blocks)
    assert len(set(parity)) <= 1, "residuals begin in cycles of one parity"
    # inside a block a pixel every `step` cycles; a set is released 12 cycles before it can be used
    start = 0
    for (span, _), release in zip(blocks, releases, strict=True):
        times = begins[start : start + len(span)]
        assert times == list(range(times[0], times[0] + step * len(span), step))
        assert release + 12 > times[-1] + 3, "a set may be overwritten before it is read"
        assert release == max(times[0], times[-1] - 8)
        start += len(span)
