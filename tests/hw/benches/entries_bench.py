"""The group list: read once a tile, in order, however it is taken; nonsense is refused."""

from __future__ import annotations

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

LAST, EMPTY = 1 << 28, 1 << 29


def make_list(rng: random.Random, n_blocks: int, *, pool: bool) -> list[int]:
    entries = []
    for _ in range(n_blocks):
        if not pool and rng.random() < 0.2:
            entries.append(LAST | EMPTY)
            continue
        n = rng.randrange(1, 6)
        block = [rng.randrange(1 << 20) | rng.randrange(256) << 20 for _ in range(n)]
        block[-1] |= LAST
        entries += block
    return entries


class Memory:
    """The program memory: words two cycles after they are asked for."""

    def __init__(self, dut, width: int) -> None:
        self.dut, self.width, self.words = dut, width, {}
        self.pipe: list[int | None] = [None, None]

    def put(self, entries: list[int], first_word: int) -> None:
        each = self.width // 4
        for start in range(0, len(entries), each):
            word = entries[start : start + each]
            value = sum(entry << 32 * i for i, entry in enumerate(word))
            self.words[first_word + start // each] = value

    def step(self) -> None:
        """At the end of a cycle: what was asked two cycles ago is there."""
        asked = int(self.dut.read_word.value) if int(self.dut.read_enable.value) else None
        word, self.pipe = self.pipe[0], [self.pipe[1], asked]
        if word is not None:
            self.dut.read_data.value = self.words.get(word, 0)


async def begin(dut, memory: Memory, entries: list[int], n_blocks: int, tiles: int, **how) -> None:
    first_word = how.get("first_word", 5)
    memory.put(entries, first_word)
    group_bytes = memory.width * int(dut.OUT.value) * (int(dut.MAG.value) + 1) // 8
    full = sum(not entry & EMPTY for entry in entries)
    pool = how.get("pool", False)
    dut.list_word.value = first_word
    dut.n_entries.value, dut.n_blocks.value = how.get("n_entries", len(entries)), n_blocks
    dut.n_tiles.value, dut.pool.value = tiles, int(pool)
    dut.layer_weight_bytes.value = 0 if pool else full * group_bytes + how.get("extra_bytes", 0)
    dut.row_bytes.value = how.get("row_bytes", 1)
    dut.take.value = 0
    dut.start.value = 1
    memory.step()
    await FallingEdge(dut.clk)
    dut.start.value = 0


async def reset(dut) -> None:
    dut.rst.value, dut.start.value, dut.take.value = 1, 0, 0
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0


@cocotb.test()
async def every_entry_comes_once_a_tile_in_order(dut):
    await reset(dut)
    rng, width = random.Random(8), int(dut.IN.value)
    seen = set()
    for trial in range(30):
        memory = Memory(dut, width)
        pool = trial % 3 == 0
        n_blocks, tiles = rng.randrange(1, 6), rng.randrange(1, 4)
        row_bytes = rng.randrange(1, 1 << 20)
        entries = make_list(rng, n_blocks, pool=pool)
        await begin(dut, memory, entries, n_blocks, tiles, pool=pool, row_bytes=row_bytes)
        eager = rng.choice([1.0, 0.5, 0.05])
        expected = entries * tiles
        taken, waited = 0, 0
        while taken < len(expected):
            valid = int(dut.valid.value)
            take = valid and rng.random() < eager
            dut.take.value = int(take)
            if take:
                entry = expected[taken]
                before = expected[taken - 1] if taken else LAST
                assert int(dut.row_offset.value) == entry & 0xFFFFF
                assert int(dut.ky.value) == entry >> 20 & 0xFF
                distance = (entry >> 20 & 0xFF) * row_bytes % (1 << 20)
                assert int(dut.row_distance.value) == distance
                assert int(dut.last.value) == bool(entry & LAST)
                assert int(dut.empty.value) == bool(entry & EMPTY)
                assert int(dut.first.value) == bool(before & LAST)
                assert int(dut.opens_tile.value) == (taken % len(entries) == 0)
                taken += 1
                seen |= {("eager", eager), ("pool", pool), ("empty", bool(entry & EMPTY))}
            elif not valid and taken > 0:
                waited += 1
                assert eager < 1 or taken == 0, "the queue keeps up with one entry a cycle"
            memory.step()
            assert not int(dut.bad.value)
            await FallingEdge(dut.clk)
        dut.take.value = 0
        for _ in range(10):
            memory.step()
            await FallingEdge(dut.clk)
        assert not int(dut.valid.value), "nothing comes after the last tile"
        assert not int(dut.bad.value)
    assert len(seen) == 7, seen


@cocotb.test()
async def a_list_that_makes_no_sense_is_refused(dut):
    await reset(dut)
    plain = [3, 9 | LAST, 4 | LAST]
    cases = {
        "a reserved bit": ([3, 9 | LAST | 1 << 31, 4 | LAST], 2, {}),
        "the last entry is not last": ([3, 9 | LAST, 4], 2, {}),
        "a block is missing": (plain, 3, {}),
        "a block too many": (plain, 1, {}),
        "an empty entry that is not last": ([3, 9 | LAST, EMPTY, LAST | 4], 2, {}),
        "an empty entry in a block": ([3, EMPTY | LAST, 4 | LAST], 2, {}),
        "an empty entry in a pool": ([3, 9 | LAST, EMPTY | LAST], 2, {"pool": True}),
        "more weights than groups": (plain, 2, {"extra_bytes": 16}),
        "fewer weights than groups": (plain, 2, {"extra_bytes": -16}),
    }
    for name, (entries, n_blocks, how) in cases.items():
        memory = Memory(dut, int(dut.IN.value))
        await begin(dut, memory, entries, n_blocks, 1, **how)
        refused = False
        for _ in range(40):
            dut.take.value = int(dut.valid.value)
            memory.step()
            await FallingEdge(dut.clk)
            refused |= bool(int(dut.bad.value))
        assert refused, name
    memory = Memory(dut, int(dut.IN.value))
    await begin(dut, memory, plain, 2, 1)
    for _ in range(40):
        dut.take.value = int(dut.valid.value)
        memory.step()
        await FallingEdge(dut.clk)
        assert not int(dut.bad.value), "the plain list is sound"
