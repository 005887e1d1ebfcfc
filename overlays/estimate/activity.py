"""What toggles in a netlist, and the unitless energy proxy made of it.

64 independent streams are simulated at once (toggles.c). Two counts bracket the silicon: changes
of settled values, as if every path were equally long, and all transitions under a transport-delay
model (a LUT and the wire to it 3 to 5 ticks, fixed for each LUT; a bit of a carry chain 1 tick).

The proxy weighs classes of events. Its coefficients are judgement and no measurement: they say
how routed wires, logic and the clock compare, not joules, and so only ratios of it mean anything;
whoever prints one prints the range over all COEFFICIENTS.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.errors import DeviceError
from bacmac.host.files import replace_atomically
from bacmac.overlays.estimate.netlist import Bit, Graph, Node
from bacmac.overlays.estimate.yosys import cache_folder

STREAMS = 64
Words = npt.NDArray[np.uint64]
"""(cycles, bits): one bit of a port in all streams; stream s is bit s."""
Integers = npt.NDArray[np.int64]

_SOURCE = Path(__file__).with_name("toggles.c")


@dataclass(frozen=True)
class Events:
    """Events, or the weight of one event of each class.

    Attributes:
        lut: changes of a LUT's output.
        carry: changes of a sum or carry of a carry chain.
        register: changes of a flip-flop's output.
        net: changes of a net that is routed, once whatever its fan-out.
        sink: changes of a routed net, once for every pin behind the first.
        clock: flip-flops clocked.
    """

    lut: float = 0.0
    carry: float = 0.0
    register: float = 0.0
    net: float = 0.0
    sink: float = 0.0
    clock: float = 0.0

    def __add__(self, other: Events) -> Events:
        return Events(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def times(self, factor: float) -> Events:
        """The same, `factor` times."""
        return Events(*(getattr(self, f.name) * factor for f in fields(self)))

    def weighed(self, weights: Events) -> float:
        """The energy proxy: events times weights."""
        return sum(float(getattr(self, f.name) * getattr(weights, f.name)) for f in fields(self))


BASE = Events(lut=1.0, carry=0.4, register=0.5, net=1.0, sink=0.5, clock=0.15)
COEFFICIENTS: dict[str, Events] = {
    "base": BASE,
    "route-heavy": Events(lut=1.0, carry=0.4, register=0.5, net=2.0, sink=1.0, clock=0.15),
    "logic-heavy": Events(lut=2.0, carry=0.8, register=1.0, net=1.0, sink=0.5, clock=0.15),
    "clock-heavy": Events(lut=1.0, carry=0.4, register=0.5, net=1.0, sink=0.5, clock=0.45),
    "no-fan-out": Events(lut=1.0, carry=0.4, register=0.5, net=1.0, sink=0.0, clock=0.15),
}
"""Weights of the events, in units of a LUT output's change in `base`.

`base` is set so that routing is the larger half and the clock the smaller part, which is how the
dynamic power of LUT fabrics has been measured to divide (Shang, Kaviani and Bathala, "Dynamic
power consumption in Virtex-II FPGA family", FPGA 2002: interconnect 60 %, logic 16 %, clocks
14 %). The others double or triple one class, or leave fan-out away: they ask how much a ratio
depends on the guess. No UltraScale+ measurement stands behind any of them.
"""


@dataclass(frozen=True)
class Activity:
    """What one simulation saw, per stream and cycle.

    Attributes:
        settled: events with every signal changing at most once a cycle.
        transitions: events with glitches.
        outputs: words of each output port, for all cycles.
    """

    settled: Events
    transitions: Events
    outputs: dict[str, Words]


def simulate(
    graph: Graph,
    stimulus: Mapping[str, Words],
    *,
    warm: int,
    shared: Mapping[str, float] | None = None,
) -> Activity:
    """Simulate a netlist and count.

    Input ports are taken for outputs of registers: their changes, their wires into the netlist and
    their clock are counted.

    Args:
        graph: the netlist.
        stimulus: words of each input port; all of one length.
        warm: cycles at the beginning that are not counted.
        shared: by input port, how many such netlists it feeds: its register is divided among
            them, its wire reaches all (1 where a port is not named).

    Raises:
        DeviceError: there is no C compiler.
    """
    number, design = _compiled(graph)
    cycles = {len(words) for words in stimulus.values()}
    (n_cycles,) = cycles
    ports = np.concatenate([stimulus[name] for name in graph.inputs], axis=1)
    ports = np.ascontiguousarray(ports, np.uint64)
    outputs = [bit for bits in graph.outputs.values() for bit in bits]
    record = np.zeros((n_cycles, len(outputs)), np.uint64)
    settled = np.zeros(len(number), np.uint64)
    transitions = np.zeros(len(number), np.uint64)
    failed = _library().simulate(
        ctypes.byref(design),
        *(n_cycles, warm),
        *(ctypes.c_void_p(a.ctypes.data) for a in (ports, record, settled, transitions)),
    )
    if failed:
        raise MemoryError("the simulation of toggles")
    places = np.cumsum([len(bits) for bits in graph.outputs.values()])[:-1]
    per_cycle = 1.0 / ((n_cycles - warm) * STREAMS)
    weights = {**dict.fromkeys(graph.inputs, 1.0), **(shared or {})}
    return Activity(
        _events(graph, number, settled, weights, per_cycle),
        _events(graph, number, transitions, weights, per_cycle),
        dict(zip(graph.outputs, np.split(record, places, axis=1), strict=True)),
    )


def words_of(values: npt.NDArray[np.integer], bits: int) -> Words:
    """(cycles, 64, n) integers as (cycles, n * bits) words, value 0 lowest."""
    cycles, streams, n = values.shape
    places = np.arange(bits, dtype=np.int64)
    ones = (values.astype(np.int64)[..., None] >> places & 1).astype(np.uint8)
    packed = np.packbits(ones.reshape(cycles, streams, n * bits), axis=1, bitorder="little")
    words: Words = np.ascontiguousarray(packed.transpose(0, 2, 1)).view("<u8")[..., 0]
    return words


def integers_of(words: Words, *, signed: bool) -> Integers:
    """(cycles, bits) words of a port as (cycles, 64) integers."""
    shifts = np.arange(STREAMS, dtype=np.uint64)
    total = np.zeros((len(words), STREAMS), np.int64)
    for place in range(words.shape[1]):
        one = (words[:, place, None] >> shifts & np.uint64(1)).astype(np.int64)
        sign = -1 if signed and place == words.shape[1] - 1 else 1
        total += sign * (one << place)
    return total


def _events(
    graph: Graph,
    number: Mapping[Bit, int],
    toggles: Words,
    shared: Mapping[str, float],
    per_cycle: float,
) -> Events:
    lut = carry = register = net = sink = clock = 0.0

    def wire(bit: Bit, changes: float, copies: float) -> None:
        nonlocal net, sink
        pins = graph.routed.get(bit, 0) if isinstance(bit, int) else 0
        if pins:
            net += changes / copies
            sink += changes * (pins * copies - 1) / copies

    for node in graph.nodes:
        changes = float(toggles[number[node.output]])
        if node.kind in ("lut", "mux"):
            lut += changes
        elif node.kind in ("sum", "carry"):
            carry += changes
        wire(node.output, changes, 1.0)
    for flip_flop in graph.flip_flops:
        changes = float(toggles[number[flip_flop.output]])
        register += changes
        clock += 1.0
        wire(flip_flop.output, changes, 1.0)
    for name, bits in graph.inputs.items():
        for bit in bits:
            if bit in number:
                changes = float(toggles[number[bit]])
                register += changes / shared[name]
                clock += 1.0 / shared[name]
                wire(bit, changes, shared[name])
    counted = Events(lut, carry, register, net, sink).times(per_cycle)
    return counted + Events(clock=clock)


class _Netlist(ctypes.Structure):
    """`netlist` of toggles.c."""

    _fields_ = (
        ("n_nets", ctypes.c_int),
        ("ticks", ctypes.c_int),
        ("n_nodes", ctypes.c_int),
        ("output", ctypes.c_void_p),
        ("n_inputs", ctypes.c_void_p),
        ("inputs", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("delay", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("last", ctypes.c_void_p),
        ("n_flip_flops", ctypes.c_int),
        ("ff_output", ctypes.c_void_p),
        ("ff_data", ctypes.c_void_p),
        ("ff_delay", ctypes.c_void_p),
        ("n_ports", ctypes.c_int),
        ("port", ctypes.c_void_p),
        ("n_recorded", ctypes.c_int),
        ("recorded", ctypes.c_void_p),
    )


def _delay(node: Node) -> int:
    return 3 + zlib.crc32(str(node.output).encode()) % 3 if node.kind == "lut" else 1


def _compiled(graph: Graph) -> tuple[dict[Bit, int], _Netlist]:
    """Numbers of all nets (constants are 0 and 1), and the netlist as toggles.c takes it."""
    number: dict[Bit, int] = {"0": 0, "x": 0, "1": 1}
    for bits in (*graph.inputs.values(), [f.output for f in graph.flip_flops]):
        for bit in bits:
            number.setdefault(bit, len(number) - 1)
    for node in graph.nodes:
        number[node.output] = len(number) - 1
    first: dict[Bit, int] = {}
    last: dict[Bit, int] = {}
    for node in graph.nodes:
        moving = [bit for bit in node.inputs if bit not in ("0", "1", "x")]
        delay = _delay(node)
        first[node.output] = min((first.get(bit, 0) for bit in moving), default=0) + delay
        last[node.output] = max((last.get(bit, 0) for bit in moving), default=0) + delay
    inputs = np.zeros((len(graph.nodes), 6), np.intc)
    for row, node in zip(inputs, graph.nodes, strict=True):
        row[: len(node.inputs)] = [number[bit] for bit in node.inputs]

    def ints(values: Any) -> npt.NDArray[np.intc]:
        return np.array(list(values), np.intc)

    recorded = [number[bit] for bits in graph.outputs.values() for bit in bits]
    nodes, states = graph.nodes, graph.flip_flops
    arrays: dict[str, npt.NDArray[Any]] = {
        "output": ints(number[node.output] for node in nodes),
        "n_inputs": ints(len(node.inputs) for node in nodes),
        "inputs": inputs,
        "table": np.array([node.table for node in nodes], np.uint64),
        "delay": ints(_delay(node) for node in nodes),
        "first": ints(first[node.output] for node in nodes),
        "last": ints(last[node.output] for node in nodes),
        "ff_output": ints(number[f.output] for f in states),
        "ff_data": ints(number[f.data] for f in states),
        "ff_delay": ints(f.delay for f in states),
        "port": ints(number[bit] for bits in graph.inputs.values() for bit in bits),
        "recorded": ints(recorded),
    }
    design = _Netlist(
        n_nets=len(number),
        ticks=max(last.values(), default=0),
        n_nodes=len(nodes),
        n_flip_flops=len(states),
        n_ports=len(arrays["port"]),
        n_recorded=len(recorded),
        **{name: array.ctypes.data for name, array in arrays.items()},
    )
    design.keep = arrays  # as long as the pointers live
    return number, design


@cache
def _library() -> ctypes.CDLL:
    """toggles.c, compiled once for each of its texts and kept."""
    compiler = next(
        (
            found
            for name in (os.environ.get("CC", ""), "cc", "gcc", "clang")
            if name
            if (found := shutil.which(name))
        ),
        None,
    )
    key = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:24]
    path = cache_folder() / "toggles" / f"toggles-{key}.so"
    if not path.is_file():
        if compiler is None:
            raise DeviceError("counting toggles needs a C compiler: none in CC, cc, gcc, clang")
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as temporary:
            subprocess.run(
                [compiler, "-O2", "-shared", "-fPIC", "-o", str(temporary), str(_SOURCE)],
                check=True,
            )
    return ctypes.CDLL(str(path))
