"""Descriptors: what is derived from them, in a time that is the same for all; what is refused."""

from __future__ import annotations

import random
from dataclasses import replace

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from bacmac.host.compile.descriptor import DESCRIPTOR_BYTES, Descriptor, Flag, encode

PROGRAM_BYTES, WEIGHT_BYTES, CONSTANT_BYTES = 4096, 4096, 12 * 16 * 8


def random_descriptor(rng: random.Random, out: int, capacity: int) -> Descriptor:
    """One that makes sense."""
    while True:
        kind = rng.choice([0, 0, 1, 2])
        kernel_h, kernel_w = rng.randrange(1, 6), rng.randrange(1, 6)
        in_h, in_w, in_c = rng.randrange(1, 12), rng.randrange(1, 12), rng.randrange(1, 40)
        pads = [rng.randrange(3) for _ in range(4)]
        stride_h, stride_w = rng.randrange(1, 5), rng.randrange(1, 5)
        span_h, span_w = in_h + pads[0] + pads[2] - kernel_h, in_w + pads[1] + pads[3] - kernel_w
        if span_h < 0 or span_w < 0:
            continue
        out_h, out_w = span_h // stride_h + 1, span_w // stride_w + 1
        out_c = in_c if kind else rng.randrange(1, 8 * out)
        wide = kind == 0 and rng.random() < 0.3
        if out_h * out_w * out_c * (4 if wide else 1) > capacity // 2:
            continue
        flags = Flag.LAST if wide else Flag.REQUANTIZE
        if kind == 0 and not wide and rng.random() < 0.5:
            flags |= Flag.RESIDUAL
        for flag in (Flag.INPUT_IS_IMAGE, Flag.RESIDUAL_IS_IMAGE, Flag.INPUT_SIGNED):
            if rng.random() < 0.5:
                flags |= flag
        # values of no meaning for the derivation
        return Descriptor(
            kind=kind, flags=int(flags), kernel_h=kernel_h, kernel_w=kernel_w,
            stride_h=stride_h, stride_w=stride_w, pad_top=pads[0], pad_left=pads[1],
            pad_bottom=pads[2], pad_right=pads[3], low=-5, high=99, groups=1, in_h=in_h,
            in_w=in_w, in_c=in_c, out_c=out_c, input_address=0, output_address=capacity // 2,
            residual_address=0, weight_address=0, weight_bytes=1024, constant_row=0,
            list_address=1024, input_low=-100, input_high=90, out_h=out_h, out_w=out_w,
            n_entries=3, n_skipped=7,
        )  # fmt: skip


async def run(
    dut, descriptor: Descriptor, *, index: int, offset: int = 0, final: bool | None = None
) -> tuple[bool, int]:
    """Whether it is accepted, and after how many cycles."""
    width = int(dut.IN.value)
    record = encode(descriptor)
    words = {
        index * DESCRIPTOR_BYTES // width + i: record[i * width : (i + 1) * width]
        for i in range(DESCRIPTOR_BYTES // width)
    }
    dut.index.value, dut.image_offset.value = index, offset
    is_last = bool(descriptor.flags & Flag.LAST) if final is None else final
    dut.final_layer.value = int(is_last)
    dut.start.value = 1
    pipe: list[int | None] = [None, None]
    for cycle in range(1, 200):
        asked = int(dut.read_word.value) if int(dut.read_enable.value) else None
        word, pipe = pipe[0], [pipe[1], asked]
        if word is not None:
            dut.read_data.value = int.from_bytes(words[word], "little")
        await FallingEdge(dut.clk)
        dut.start.value = 0
        if int(dut.ready.value) or int(dut.bad.value):
            return bool(int(dut.ready.value)), cycle
    raise AssertionError("neither ready nor bad")


async def reset(dut) -> int:
    dut.rst.value, dut.start.value = 1, 0
    dut.program_bytes.value, dut.weight_bytes.value = PROGRAM_BYTES, WEIGHT_BYTES
    dut.constant_bytes.value = CONSTANT_BYTES
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    return int(dut.ACTIVATION_BYTES.value)


@cocotb.test()
async def distances_are_derived_in_a_fixed_time(dut):
    capacity = await reset(dut)
    rng, out, times = random.Random(11), int(dut.OUT.value), set()
    top = 1 << 20
    for _ in range(150):
        d = random_descriptor(rng, out, capacity)
        offset = rng.choice([0, 64])
        ready, cycles = await run(dut, d, index=rng.randrange(4), offset=offset)
        assert ready, d
        times.add(cycles)
        row = d.in_w * d.in_c
        wide = d.kind == 0 and not d.flags & Flag.REQUANTIZE
        pixels = d.out_h * d.out_w
        expected = {
            "row_bytes": row, "row_limit": row, "x_step": d.stride_w * d.in_c,
            "x_before": d.pad_left * d.in_c, "y_step": d.stride_h * row % top,
            "y_before": d.pad_top * row % top, "input_bytes": d.in_h * row, "n_pixels": pixels,
            "pixel_bytes": d.out_c * (4 if wide else 1),
            "output_bytes": pixels * d.out_c * (4 if wide else 1),
            "n_blocks": -(-d.out_c // out), "n_skipped": d.n_skipped, "n_entries": d.n_entries,
            "source_address": offset if d.flags & Flag.INPUT_IS_IMAGE else 0,
            "residual_source": offset if d.flags & Flag.RESIDUAL_IS_IMAGE else 0,
            "fill": (d.input_low & 0xFF if d.kind == 1 else 0)
            ^ (0x80 if d.flags & Flag.INPUT_SIGNED else 0),
            "wide": int(wide), "pool": int(d.kind > 0), "maximum": int(d.kind == 1),
        }  # fmt: skip
        found = {name: int(getattr(dut, name).value) for name in expected}
        assert found == expected, d
    assert len(times) == 1, times


@cocotb.test()
async def nonsense_is_refused_and_the_next_one_is_taken(dut):
    capacity = await reset(dut)
    out = int(dut.OUT.value)
    d = Descriptor(
        kind=0, flags=int(Flag.REQUANTIZE | Flag.RESIDUAL), kernel_h=3, kernel_w=3, stride_h=2,
        stride_w=1, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1, low=0, high=255, groups=1,
        in_h=8, in_w=8, in_c=4, out_c=2 * out, input_address=0, output_address=1024,
        residual_address=0, weight_address=0, weight_bytes=1024, constant_row=0,
        list_address=1024, input_low=0, input_high=255, out_h=4, out_w=8, n_entries=3, n_skipped=0,
    )  # fmt: skip
    no_residual = int(Flag.REQUANTIZE)
    wrong = {
        "kind": {"kind": 3},
        "a zero": {"kernel_h": 0},
        "no entries": {"n_entries": 0},
        "marked as the last": {"flags": d.flags | int(Flag.LAST)},
        "int32 in the middle": {"flags": 0},
        "a pool with a residual": {"kind": 1, "out_c": 4},
        "a pool that changes its channels": {"kind": 1, "flags": no_residual},
        "an input beyond the memory": {"input_address": capacity - 64},
        "an output beyond the memory": {"output_address": capacity - 64},
        "a residual beyond the memory": {"residual_address": capacity - 64},
        "an address that wraps": {"output_address": 2**32 - 64},
        "an address in a word": {"output_address": 1025},
        "weights beyond what is loaded": {"weight_address": WEIGHT_BYTES - 512},
        "a list beyond what is loaded": {"list_address": PROGRAM_BYTES - 16, "n_entries": 9},
        "constants beyond what is loaded": {"constant_row": CONSTANT_BYTES // (12 * out) - 1},
        "too few rows": {"out_h": 3},
        "too many rows": {"out_h": 5},
        "too many columns": {"out_w": 9},
        "a window that does not fit": {"kernel_h": 40},
    }
    for index, (name, change) in enumerate(wrong.items()):
        ready, _ = await run(dut, replace(d, **change), index=index % 4, final=False)
        assert not ready, name
        ready, _ = await run(dut, d, index=0)
        assert ready, f"after {name}"
    ready, _ = await run(dut, d, index=PROGRAM_BYTES // DESCRIPTOR_BYTES)
    assert not ready, "a descriptor beyond the program"
