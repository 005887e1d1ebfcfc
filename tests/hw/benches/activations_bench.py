"""Byte reads and writes at any address against an array of bytes."""

from __future__ import annotations

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge


@cocotb.test()
async def any_bytes_at_any_address(dut):
    width, size = int(dut.IN.value), int(dut.BYTES.value)
    rng = random.Random(3)
    memory = bytearray(size)
    for name in ("a_valid", "r_valid", "w_valid", "word_enable"):
        getattr(dut, name).value = 0
    Clock(dut.clk, 10, unit="ns").start()
    await FallingEdge(dut.clk)

    async def write(address: int, data: bytes) -> None:
        dut.w_valid.value = 1
        dut.w_address.value = address
        dut.w_count.value = len(data)
        dut.w_data.value = int.from_bytes(data + rng.randbytes(width - len(data)), "little")
        memory[address : address + len(data)] = data
        await FallingEdge(dut.clk)
        dut.w_valid.value = 0

    for word in range(size // width):
        await write(word * width, rng.randbytes(width))
    await FallingEdge(dut.clk)

    due_a: dict[int, bytes] = {}  # cycle -> what a_data must be then
    due_r: dict[int, bytes] = {}
    due_word: dict[int, bytes] = {}
    pending: list[tuple[int, int, bytes]] = []  # writes that are on their way
    seen = set()
    last_a = last_w = -9
    for cycle in range(4000):
        for end, address, data in [p for p in pending if p[0] <= cycle]:
            memory[address : address + len(data)] = data
            pending.remove((end, address, data))
        busy = [range(address, address + len(data)) for _, address, data in pending]

        def free(address: int, n: int, busy: list[range] = busy) -> bool:
            return not any(b.start < address + n and address < b.stop for b in busy)

        for name in ("a_valid", "r_valid", "w_valid", "word_enable"):
            getattr(dut, name).value = 0
        address = rng.randrange(size - width)
        if rng.random() < 0.7 and free(address, width):
            dut.a_valid.value, dut.a_address.value = 1, address
            due_a[cycle + 4] = bytes(memory[address : address + width])
            seen.add(("a", address % (2 * width)))
            last_a = cycle
        elif last_a != cycle - 1 and rng.random() < 0.5 and free(0, size):
            word = rng.randrange(size // width)
            dut.word_enable.value, dut.word_address.value = 1, word
            due_word[cycle + 2] = bytes(memory[word * width : (word + 1) * width])
            seen.add(("word", word % 2))
        address = rng.randrange(size - width)
        if cycle % 2 and rng.random() < 0.8 and free(address, width):
            dut.r_valid.value, dut.r_address.value = 1, address
            due_r[cycle + 4] = bytes(memory[address : address + width])
            seen.add(("r", address % (2 * width)))
        elif cycle % 2 == 0 and rng.random() < 0.5:
            n = rng.randrange(width + 1)
            in_flight = any(c > cycle for c in (*due_a, *due_r, *due_word))
            if not in_flight or rng.random() < 0.2:
                data = rng.randbytes(n)
                # reads under way still see the old bytes: keep away from what they may hold
                dut.w_valid.value, dut.w_address.value = 1, address
                dut.w_count.value = n
                dut.w_data.value = int.from_bytes(data + rng.randbytes(width - n), "little")
                for due in (due_a, due_r, due_word):
                    for when in [when for when in due if when > cycle]:
                        del due[when]
                pending.append((cycle + 2, address, data))
                seen.add(("w", address % (2 * width)))
                seen.add(("count", n))
                last_w = cycle
        await FallingEdge(dut.clk)
        # outputs now are those of the next cycle
        for due, output in ((due_a, dut.a_data), (due_r, dut.r_data), (due_word, dut.word_data)):
            if cycle + 1 in due:
                found = int(output.value).to_bytes(width, "little")
                assert found == due.pop(cycle + 1), f"cycle {cycle}: {output._name}"
    assert last_w > 0
    wanted = {(port, offset) for port in "arw" for offset in range(2 * width)}
    wanted |= {("word", 0), ("word", 1)} | {("count", n) for n in range(width + 1)}
    dut._log.info("covered: every offset on every port, %d points", len(wanted))
    assert wanted <= seen, sorted(wanted - seen)
