"""Netlists as graphs, their simulation, and what a real network gives to a lane."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.network import ConvOp, IntegerNetwork
from bacmac.host.arith.reference import run_reference
from bacmac.host.errors import OverlayError
from bacmac.overlays.estimate.activity import (
    COEFFICIENTS,
    STREAMS,
    Activity,
    Events,
    integers_of,
    simulate,
    words_of,
)
from bacmac.overlays.estimate.capture import TILE, capture_layers, sample_trace
from bacmac.overlays.estimate.netlist import Graph, read_graph

CLOCK = 2  # net numbers as yosys gives them: 0 and 1 are not used


def lut(table: str, output: int, *inputs: int | str) -> dict[str, Any]:
    pins = {f"I{i}": [bit] for i, bit in enumerate(inputs)}
    return {
        "type": f"LUT{len(inputs)}",
        "parameters": {"INIT": table},
        "connections": {**pins, "O": [output]},
    }


def register(
    output: int, data: int, kind: str = "FDRE", enable: Any = "1", reset: Any = "0"
) -> dict[str, Any]:
    pins = {"C": [CLOCK], "CE": [enable], "D": [data], "Q": [output]}
    return {"type": kind, "connections": {**pins, "R" if kind == "FDRE" else "S": [reset]}}


def graph_of(
    inputs: dict[str, list[int]], outputs: dict[str, list[int]], *cells: dict[str, Any]
) -> Graph:
    ports = {"clk": {"direction": "input", "bits": [CLOCK]}}
    ports |= {name: {"direction": "input", "bits": bits} for name, bits in inputs.items()}
    ports |= {name: {"direction": "output", "bits": bits} for name, bits in outputs.items()}
    named = {f"cell{i}": cell for i, cell in enumerate(cells)}
    return read_graph({"modules": {"top": {"ports": ports, "cells": named}}}, "top")


def run(graph: Graph, warm: int = 0, **values: Any) -> Activity:
    """Simulate with integers (cycles,), the same in all streams."""
    ports = {name: np.asarray(given, np.int64) for name, given in values.items()}
    stimulus = {
        name: words_of(
            np.broadcast_to(given[:, None, None], (len(given), STREAMS, 1)), len(graph.inputs[name])
        )
        for name, given in ports.items()
    }
    return simulate(graph, stimulus, warm=warm)


def outputs(activity: Activity, name: str) -> list[int]:
    return integers_of(activity.outputs[name], signed=False)[:, 0].tolist()


def counts(events: Events, cycles: int) -> Events:
    """Whole events of all cycles, where all streams are alike."""
    return Events(*(round(getattr(events, f.name) * cycles, 6) for f in fields(events)))


XOR, NOT, BUFFER = "0110", "01", "10"


def test_settled_values_and_a_register_behind_them() -> None:
    graph = graph_of({"x": [3, 4]}, {"q": [6]}, lut(XOR, 5, 3, 4), register(6, 5))

    seen = run(graph, x=[0, 1, 2, 3, 0])

    assert outputs(seen, "q") == [0, 0, 1, 1, 0]
    # x: 1, 2, 1, 2 bits change; the LUT rises once and falls once; so does the register
    assert counts(seen.settled, 5) == Events(lut=2, register=6 + 2, net=6, clock=5 * 3)
    assert counts(seen.transitions, 5) == counts(seen.settled, 5)


def test_a_late_path_glitches_and_settles() -> None:
    chain = [lut(BUFFER, 10 + i, 3 if i == 0 else 9 + i) for i in range(4)]
    graph = graph_of({"x": [3]}, {"y": [20]}, *chain, lut(XOR, 20, 3, 13))

    seen = run(graph, x=[0, 1, 0, 1, 1])

    assert outputs(seen, "y") == [0] * 5
    assert counts(seen.settled, 5).lut == 4 * 3  # the chain alone
    assert counts(seen.transitions, 5).lut == 4 * 3 + 2 * 3


def test_a_fan_out_costs_sinks_and_a_shared_input_is_divided() -> None:
    graph = graph_of({"x": [3]}, {"y": [4, 5]}, lut(NOT, 4, 3), lut(BUFFER, 5, 3))
    stimulus = {"x": words_of(np.arange(2).repeat(STREAMS).reshape(2, STREAMS, 1), 1)}

    alone = simulate(graph, stimulus, warm=0).settled.times(2)
    shared = simulate(graph, stimulus, warm=0, shared={"x": 16}).settled.times(2)

    assert (alone.register, alone.net, alone.sink) == (1, 1, 1)
    assert (shared.register, shared.net, shared.sink) == (1 / 16, 1 / 16, 31 / 16)


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=1, max_size=9))
@settings(max_examples=30, deadline=None)
def test_a_carry_chain_adds(pairs: list[tuple[int, int]]) -> None:
    x, y, total = [3, 4, 5, 6], [7, 8, 9, 10], [20, 21, 22, 23, 27]
    chain = {
        "type": "CARRY4",
        "connections": {
            **{"CI": ["0"], "CYINIT": ["0"], "S": [11, 12, 13, 14], "DI": x},
            **{"O": total[:4], "CO": [24, 25, 26, 27]},
        },
    }
    selects = [lut(XOR, 11 + i, x[i], y[i]) for i in range(4)]
    graph = graph_of({"x": x, "y": y}, {"sum": total}, *selects, chain)

    seen = run(graph, x=[p for p, _ in pairs], y=[q for _, q in pairs])

    assert outputs(seen, "sum") == [p + q for p, q in pairs]
    assert graph.depth == (1, 1)
    assert all(graph.routed[bit] == 0 for bit in (11, 12, 13, 14, 24, 25, 26))


@pytest.mark.parametrize(("kind", "reset_value"), [("FDRE", 0), ("FDSE", 1)])
def test_enable_holds_and_reset_wins(kind: str, reset_value: int) -> None:
    graph = graph_of({"x": [3, 4, 5]}, {"q": [6]}, register(6, 3, kind, 4, 5))
    #              data, enable, reset: take 1, hold, take 0, take 1, reset without enable, hold
    words = [0b011, 0b000, 0b010, 0b011, 0b101, 0b001]

    seen = run(graph, x=[*words, 0])

    assert outputs(seen, "q")[1:] == [1, 1, 0, 1, reset_value, reset_value]


def test_a_shift_register_is_as_long_as_its_address_says() -> None:
    address = {"A0": ["0"], "A1": ["1"], "A2": ["0"], "A3": ["0"]}
    pins = {"CLK": [CLOCK], "CE": ["1"], "D": [3], "Q": [4]}
    graph = graph_of({"x": [3]}, {"q": [4]}, {"type": "SRL16E", "connections": address | pins})

    assert outputs(run(graph, x=[1, 0, 1, 1, 0, 0, 0]), "q") == [0, 0, 0, 1, 0, 1, 1]


def test_a_loop_and_an_unknown_primitive_are_refused() -> None:
    with pytest.raises(OverlayError, match="combinational loop"):
        graph_of({}, {}, lut(BUFFER, 3, 4), lut(NOT, 4, 3))
    with pytest.raises(OverlayError, match="DSP48E2"):
        graph_of({}, {}, {"type": "DSP48E2", "connections": {}})
    with pytest.raises(OverlayError, match="another clock"):
        graph_of({"x": [3]}, {}, register(4, 3) | {"connections": {"C": [3]}})


@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_words_carry_integers_of_all_streams(bits: int, n: int, seed: int) -> None:
    low = -(1 << (bits - 1))
    values = np.random.default_rng(seed).integers(low, -low, (4, STREAMS, n))

    words = words_of(values, bits)

    for i in range(n):
        part = words[:, i * bits : (i + 1) * bits]
        np.testing.assert_array_equal(integers_of(part, signed=True), values[..., i])


def test_every_set_of_coefficients_weighs_every_class_but_fan_out() -> None:
    for name, weights in COEFFICIENTS.items():
        classes = (weights.lut, weights.carry, weights.register, weights.net, weights.clock)
        assert min(classes) > 0
        assert (weights.sink == 0) == (name == "no-fan-out")


LAYERS = [
    # shape of the input, of the levels, groups, stride, padding
    ((3, 9, 7), (10, 3, 3, 3), 1, (2, 1), (1, 0, 1, 2)),
    ((20, 5, 6), (35, 20, 1, 1), 1, (1, 1), (0, 0, 0, 0)),
    ((8, 4, 4), (5, 8, 4, 4), 1, (1, 1), (0, 0, 0, 0)),
    ((18, 6, 6), (18, 1, 3, 3), 18, (1, 1), (1, 1, 1, 1)),
    ((6, 5, 5), (4, 3, 3, 3), 2, (1, 1), (1, 1, 1, 1)),
]


def one_layer(case: tuple[Any, ...], signed: bool, rng: np.random.Generator) -> IntegerNetwork:
    shape, levels_shape, groups, stride, padding = case
    levels = rng.integers(-7, 8, levels_shape).astype(np.int8)
    bias = np.zeros(levels_shape[0], np.int32)
    op = ConvOp(0, levels, bias, None, stride, padding, groups)
    low, high = (-128, 127) if signed else (0, 255)
    return IntegerNetwork(shape, low, high, (op,))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("case", LAYERS)
def test_captured_windows_times_groups_are_the_layer(case: tuple[Any, ...], signed: bool) -> None:
    rng = np.random.default_rng(len(case[0]) + signed)
    network = one_layer(case, signed, rng)
    dtype = np.int8 if signed else np.uint8
    image = rng.integers(network.input_low, network.input_high + 1, case[0]).astype(dtype)

    (layer,) = capture_layers(network, image)

    channels = case[1][0]
    sums = np.zeros((layer.windows.shape[1], -(-channels // 16) * 16), np.int64)
    for chunk, block, group in zip(layer.chunk, layer.block, layer.groups, strict=True):
        part = layer.windows[chunk].astype(np.int64) @ group.T.astype(np.int64)
        sums[:, 16 * block : 16 * block + 16] += part
        if signed:
            sums[:, 16 * block : 16 * block + 16] -= 128 * group.astype(np.int64).sum(1)
    expected = run_reference(network, image[None])[0].reshape(channels, -1).T
    np.testing.assert_array_equal(sums[:, :channels], expected)


def test_a_stretch_goes_from_group_to_group_and_adds_up() -> None:
    rng = np.random.default_rng(3)
    network = one_layer(((20, 5, 8), (32, 20, 3, 3), 1, (1, 1), (1, 1, 1, 1)), False, rng)
    image = rng.integers(0, 256, (20, 5, 8)).astype(np.uint8)
    pixels = 5 * 8  # one tile

    trace = sample_trace(capture_layers(network, image), cycles=1200, seed=5)

    after = trace.base + (trace.activations.astype(np.int64) * trace.levels).sum(-1)
    begins = trace.base[pixels:] == 0
    assert (begins | (trace.base[pixels:] == after[:-pixels])).all()
    totals = after[:-pixels][begins]  # what a block of all its groups comes to
    reference = run_reference(network, image[None])[0]
    assert np.isin(totals[totals != 0], reference).all()
    assert 1 / 12 < begins.mean() < 0.2  # 12 groups a block; of the top row 4 see only padding


def test_a_tile_ends_before_the_next_begins() -> None:
    rng = np.random.default_rng(4)
    network = one_layer(((3, 9, 9), (16, 3, 3, 3), 1, (1, 1), (1, 1, 1, 1)), False, rng)
    (layer,) = capture_layers(network, rng.integers(0, 256, (3, 9, 9)).astype(np.uint8))

    assert layer.runs == [(0, 0), (1, 0), (2, 0), (0, TILE), (1, TILE), (2, TILE)]


def test_a_new_c_source_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bacmac.overlays.estimate import activity

    monkeypatch.setenv("BACMAC_CACHE", str(tmp_path))
    activity._library.cache_clear()
    graph = graph_of({"x": [3]}, {"y": [4]}, lut(NOT, 4, 3))

    assert outputs(run(graph, x=[1, 0]), "y") == [0, 1]
    assert len(list((tmp_path / "toggles").glob("toggles-*.so"))) == 1
    activity._library.cache_clear()
