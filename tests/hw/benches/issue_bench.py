"""Pixels of every entry: what they read, what is padding, and in which cycle they are issued."""

from __future__ import annotations

import random
from dataclasses import dataclass

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

TOP = 1 << 20


@dataclass
class Layer:
    """A layer as bacmac_layer derives it."""

    in_h: int
    in_w: int
    in_c: int
    kernel: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int
    out_h: int
    out_w: int
    pool: bool
    source: int


def random_layer(rng: random.Random) -> Layer:
    while True:
        layer = Layer(
            rng.randrange(1, 9), rng.randrange(1, 9), rng.randrange(1, 20), rng.randrange(1, 4),
            rng.randrange(1, 4), rng.randrange(1, 4), rng.randrange(3), rng.randrange(3), 0, 0,
            rng.random() < 0.3, rng.randrange(4096),
        )  # fmt: skip
        layer.out_h = (layer.in_h + layer.pad_top + 1 - layer.kernel) // layer.stride_h + 1
        layer.out_w = (layer.in_w + layer.pad_left + 1 - layer.kernel) // layer.stride_w + 1
        if layer.out_h > 0 and layer.out_w > 0:
            return layer


def expected_read(layer: Layer, pixel: int, ky: int, offset: int, width: int):
    """None where nothing of it lies in the input, else first byte and the span that does."""
    row = pixel // layer.out_w * layer.stride_h - layer.pad_top + ky
    at = (pixel % layer.out_w * layer.stride_w - layer.pad_left) * layer.in_c + offset
    row_bytes = layer.in_w * layer.in_c
    low, high = max(0, -at), min(width, row_bytes - at)
    if not 0 <= row < layer.in_h or low >= high:
        return None
    return (layer.source + row * row_bytes + at) % TOP, low, high


@cocotb.test()
async def every_pixel_of_every_entry(dut):
    rng = random.Random(9)
    width, tile, words = int(dut.IN.value), int(dut.TILE.value), int(dut.WORDS.value)
    dut.rst.value, dut.start.value, dut.entry_valid.value, dut.set_free.value = 1, 0, 0, 3
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    seen = set()
    for _ in range(40):
        layer = random_layer(rng)
        await run_layer(dut, rng, layer, width, tile, words, seen)
    wanted = {"padding left", "padding right", "row outside", "inside", "pool", "empty", "waits"}
    dut._log.info("covered: %s", sorted(seen))
    assert wanted <= seen, wanted - seen


async def run_layer(dut, rng, layer, width, tile, words, seen) -> None:
    row_bytes = layer.in_w * layer.in_c
    pixels = layer.out_h * layer.out_w
    entries = []  # ky, offset, first, last, empty
    for _ in range(rng.randrange(1, 4)):
        if not layer.pool and rng.random() < 0.2:
            entries.append((0, 0, True, True, True))
            continue
        n = rng.randrange(1, 4)
        for i in range(n):
            offset = rng.randrange(layer.kernel * layer.in_c)
            entries.append((rng.randrange(layer.kernel), offset, i == 0, i == n - 1, False))
    fields = {
        "pool": int(layer.pool), "n_pixels": pixels, "out_w": layer.out_w, "in_h": layer.in_h,
        "stride_h": layer.stride_h, "pad_top": layer.pad_top, "row_limit": row_bytes,
        "x_step": layer.stride_w * layer.in_c, "x_before": layer.pad_left * layer.in_c,
        "y_step": layer.stride_h * row_bytes % TOP, "y_before": layer.pad_top * row_bytes % TOP,
        "source_address": layer.source,
    }  # fmt: skip
    for name, value in fields.items():
        getattr(dut, name).value = value
    dut.start.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0

    tiles = [range(start, min(start + tile, pixels)) for start in range(0, pixels, tile)]
    sequence = [(entry, span, i == 0) for span in tiles for i, entry in enumerate(entries)]
    issues = [(number, pixel) for number, (_, span, _) in enumerate(sequence) for pixel in span]
    taken, issued, cycle = 0, 0, 0
    free, sets_open = [True, True], 0
    free_at: dict[int, int] = {}
    issued_at: list[int] = []
    freed_seen: list[int] = []
    previous = None
    while issued < len(issues):
        for which, when in list(free_at.items()):
            if when <= cycle:
                free[which] = True
                del free_at[which]
        dut.set_free.value = free[0] | free[1] << 1
        if taken < len(sequence):
            (ky, offset, first, last, empty), span, opens = sequence[taken]
            dut.entry_valid.value = 1
            dut.ky.value, dut.row_offset.value = ky, offset
            dut.row_distance.value = ky * row_bytes
            dut.first.value, dut.last.value = int(first), int(last)
            dut.empty.value, dut.opens_tile.value = int(empty), int(opens)
        else:
            dut.entry_valid.value = 0
        await cocotb.triggers.ReadOnly()
        take = bool(int(dut.take.value))
        await FallingEdge(dut.clk)
        cycle += 1
        # what was issued in the cycle before has its read now
        if previous is not None:
            read = expected_read(layer, *previous, width)
            if read is None:
                assert not int(dut.read_valid.value), (layer, previous)
                seen.add("row outside")
            else:
                found = tuple(
                    int(getattr(dut, f"read_{name}").value) for name in ("address", "low", "high")
                )
                assert int(dut.read_valid.value)
                # the address may lie before the row's first byte: only bytes low.. are used
                assert found == read, (layer, previous)
                seen |= {"inside"} | {"padding left"} & ({"padding left"} if read[1] else set())
                seen |= {"padding right"} if read[2] < width else set()
            previous = None
        if take:
            (_, _, first, _, empty), _, _ = sequence[taken]
            seen |= {"pool"} if layer.pool else set()
            seen |= {"empty"} if empty else set()
            if first:
                which = sets_open % 2
                assert free[which], "a set is taken before it is free"
                sets_open += 1
                free[which] = False
                delay = rng.choice([1, 5, 3 * tile])
                free_at[which] = cycle + delay + 2 * tile
                freed_seen.append(delay)
            assert int(dut.issue.value), "what is taken is issued in the next cycle"
            issued_at.append(cycle)
            if taken and len(issued_at) > 1:
                gap = issued_at[-1] - issued_at[-2]
                _, before_span, _ = sequence[taken - 1]
                load = 0 if layer.pool or empty else words
                least = max(len(before_span), load, 1)
                assert gap >= least
                assert gap == least or first, "only a set that is not free makes an entry wait"
                seen |= {"waits"} if gap > least else set()
            taken += 1
        if int(dut.issue.value):
            number, pixel = issues[issued]
            (ky, offset, first, last, empty), span, _ = sequence[number]
            assert number == taken - 1
            assert int(dut.issue_pixel.value) == pixel - span.start
            assert int(dut.issue_first.value) == first
            assert int(dut.issue_empty.value) == empty
            assert int(dut.issue_ends.value) == (last and pixel == span[-1])
            assert int(dut.issue_swap.value) == (pixel == span[0] and not empty and not layer.pool)
            previous = None if empty else (pixel, ky, offset)
            issued += 1
        assert cycle < 100_000
    for _ in range(3):
        await FallingEdge(dut.clk)
        assert not int(dut.issue.value)
