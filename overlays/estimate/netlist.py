"""A flat netlist of UltraScale+ primitives as a graph that can be simulated.

Every cell becomes nodes with one output each: a LUT, one sum and one carry a bit of a CARRY4, a
flip-flop. The primitives are those of AMD's UltraScale architecture libraries guide (UG974) and
of the 7-series one (UG953: CARRY4, which yosys writes where Vivado has CARRY8).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bacmac.host.errors import OverlayError

Bit = int | str
"""A net of yosys's JSON, or a constant "0", "1", "x"."""

LUTS = {"INV": 1, "LUT1": 1, "LUT2": 2, "LUT3": 3, "LUT4": 4, "LUT5": 5, "LUT6": 6}
MUXES = ("MUXF7", "MUXF8", "MUXF9")
FLIP_FLOPS = ("FDRE", "FDSE")
SHIFT_REGISTER = "SRL16E"


@dataclass(frozen=True)
class Node:
    """What drives one net out of others in the same cycle.

    Attributes:
        kind: lut, sum, carry (a bit of a carry chain), mux (of two LUTs, in their slice) or
            control (enable and reset of a flip-flop, within it; its net has a negative number).
        output: net.
        inputs: nets and constants, least significant selector first.
        table: truth table; bit i is the output where the inputs are the bits of i.
    """

    kind: str
    output: int
    inputs: tuple[Bit, ...]
    table: int


@dataclass(frozen=True)
class FlipFlop:
    """One bit of state; every flip-flop has the one clock.

    Attributes:
        output: net.
        data: net or constant that it takes.
        delay: cycles from data to output: 1, or the length of a shift register.
    """

    output: int
    data: Bit
    delay: int


@dataclass(frozen=True)
class Graph:
    """A netlist in an order in which it can be evaluated.

    Attributes:
        inputs: nets of each input port, least significant first, without the clock.
        outputs: nets and constants of each output port.
        nodes: every node behind all that drive it.
        flip_flops: the state.
        routed: pins that a net reaches through the interconnect, by net; nets within a slice (a
            LUT that drives its own carry bit or flip-flop) have none.
    """

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[Bit, ...]]
    nodes: tuple[Node, ...]
    flip_flops: tuple[FlipFlop, ...]
    routed: dict[int, int]

    @property
    def depth(self) -> tuple[int, int]:
        """The longest path between registers: LUTs on it and carry chains (where as long: LUTs)."""
        longest: dict[Bit, tuple[int, int]] = {}
        chained: dict[Bit, bool] = {}
        for node in self.nodes:
            luts, chains, in_chain = 0, 0, False
            for bit in node.inputs:
                past = longest.get(bit, (0, 0))
                if sum(past) >= luts + chains:
                    luts, chains = past
                    in_chain = chained.get(bit, False)
            if node.kind == "lut":
                luts += 1
            elif node.kind in ("sum", "carry") and not in_chain:
                chains += 1
            longest[node.output] = (luts, chains)
            chained[node.output] = node.kind == "carry"
        return max(longest.values(), key=sum, default=(0, 0))


def read_graph(netlist: Mapping[str, Any], module: str, *, clock: str = "clk") -> Graph:
    """The graph of one flat module of a netlist.

    Args:
        netlist: yosys's JSON, mapped by `synth_xilinx`.
        module: its name.
        clock: the port that clocks every flip-flop.

    Raises:
        OverlayError: a primitive that this simulator does not know, a second clock, or a
            combinational loop.
    """
    found = netlist["modules"][module]
    ports = {name: (p["direction"], tuple(p["bits"])) for name, p in found["ports"].items()}
    (clock_net,) = ports[clock][1]
    nodes: list[Node] = []
    flip_flops: list[FlipFlop] = []
    for name, cell in found["cells"].items():
        kind, pins = cell["type"], cell["connections"]
        if kind in FLIP_FLOPS or kind == SHIFT_REGISTER:
            flip_flop = _flip_flop(module, name, kind, pins, clock_net)
            control = _control(module, name, kind, pins, -1 - len(flip_flops))
            if control is not None:
                nodes.append(control)
                flip_flop = replace(flip_flop, data=control.output)
            flip_flops.append(flip_flop)
        else:
            nodes += _nodes(module, name, kind, pins, cell.get("parameters", {}))
    return Graph(
        {name: bits for name, (way, bits) in ports.items() if way == "input" and name != clock},
        {name: bits for name, (way, bits) in ports.items() if way == "output"},
        _in_order(module, nodes),
        tuple(flip_flops),
        _routed_pins(nodes, flip_flops),
    )


def _refuse(module: str, cell: str, found: str, expected: str) -> OverlayError:
    return OverlayError(module, f"cell {cell}", found=found, expected=expected)


def _flip_flop(
    module: str, name: str, kind: str, pins: Mapping[str, list[Bit]], clock: Bit
) -> FlipFlop:
    if pins["CLK" if kind == SHIFT_REGISTER else "C"] != [clock]:
        raise _refuse(module, name, "another clock", "one clock for all")
    if kind == SHIFT_REGISTER:
        address = "".join(str(pins[f"A{i}"][0]) for i in (3, 2, 1, 0))
        return FlipFlop(int(pins["Q"][0]), pins["D"][0], int(address, 2) + 1)
    return FlipFlop(int(pins["Q"][0]), pins["D"][0], 1)


def _control(
    module: str, name: str, kind: str, pins: Mapping[str, list[Bit]], net: int
) -> Node | None:
    """What a flip-flop makes of its data before it takes it; None where that is the data."""
    enable = pins["CE"][0]
    if kind == SHIFT_REGISTER:
        if enable != "1":
            raise _refuse(module, name, "a shift register with an enable", "one without")
        return None
    reset = pins["R" if kind == "FDRE" else "S"][0]
    if enable == "1" and reset == "0":
        return None
    # inputs D, Q, enable, reset; a reset does not ask for the enable (UG974, FDRE)
    held = 0xAC if kind == "FDRE" else 0xFFAC
    return Node("control", net, (pins["D"][0], pins["Q"][0], enable, reset), held)


def _nodes(
    module: str,
    name: str,
    kind: str,
    pins: Mapping[str, list[Bit]],
    parameters: Mapping[str, str],
) -> list[Node]:
    if kind in LUTS:
        ports = ["I"] if kind == "INV" else [f"I{i}" for i in range(LUTS[kind])]
        table = 1 if kind == "INV" else int(parameters["INIT"], 2)
        return [Node("lut", int(pins["O"][0]), tuple(pins[p][0] for p in ports), table)]
    if kind in MUXES:
        return [Node("mux", int(pins["O"][0]), (pins["I0"][0], pins["I1"][0], pins["S"][0]), 0xCA)]
    if kind != "CARRY4":
        raise _refuse(module, name, kind, "LUTs, CARRY4, MUXF7..9, FDRE, FDSE, SRL16E")
    carry = pins["CI"][0] if pins["CYINIT"][0] == "0" else pins["CYINIT"][0]
    if pins["CI"][0] != "0" and pins["CYINIT"][0] != "0":
        raise _refuse(module, name, "CI and CYINIT", "one of them")
    made = []
    sums, carries = pins.get("O", []), pins.get("CO", [])
    for i, (select, data) in enumerate(zip(pins["S"], pins["DI"], strict=True)):
        if i < len(sums) and isinstance(sums[i], int):
            made.append(Node("sum", int(sums[i]), (select, carry), 0b0110))
        if i < len(carries) and isinstance(carries[i], int):
            made.append(Node("carry", int(carries[i]), (data, carry, select), 0xCA))
            carry = carries[i]
    return made


def _in_order(module: str, nodes: list[Node]) -> tuple[Node, ...]:
    by_output = {node.output: node for node in nodes}
    users: dict[int, list[Node]] = defaultdict(list)
    waits: dict[int, int] = {}
    for node in nodes:
        before = {bit for bit in node.inputs if bit in by_output}
        waits[node.output] = len(before)
        for bit in before:
            users[int(bit)].append(node)
    ready = [node for node in nodes if waits[node.output] == 0]
    for node in ready:
        for user in users[node.output]:
            waits[user.output] -= 1
            if waits[user.output] == 0:
                ready.append(user)
    if len(ready) != len(nodes):
        raise OverlayError(module, "netlist", found="a combinational loop", expected="none")
    return tuple(ready)


def _routed_pins(nodes: list[Node], flip_flops: list[FlipFlop]) -> dict[int, int]:
    """Pins behind the interconnect, by net.

    Within a slice, and so not counted, are: carry to carry; what a LUT or a wide multiplexer says
    to the one carry bit, multiplexer or flip-flop behind it (UG574, "CLB slices").
    """
    driver = {node.output: node.kind for node in nodes}
    pins: dict[int, list[str]] = defaultdict(list)
    for node in nodes:
        for position, bit in enumerate(node.inputs):
            if isinstance(bit, int):
                pins[bit].append(_pin(node.kind, position))
    for flip_flop in flip_flops:
        if isinstance(flip_flop.data, int):
            pins[flip_flop.data].append("register")
    routed: dict[int, int] = {}
    for net, reached in pins.items():
        kind = driver.get(net, "register")
        outside = [pin for pin in reached if pin not in ("chain", "bit")]
        # one bit of a chain is a sum and a carry node: the same pin of the slice twice
        bits = reached.count("bit")
        bit_pins = (bits + 1) // 2
        if kind in ("lut", "mux", "sum", "carry") and len(outside) + bit_pins <= 1:
            local = bit_pins == 1 or outside == ["register"] or outside == ["wide"]
            routed[net] = 0 if local else len(outside)
        else:
            routed[net] = len(outside) + bit_pins
    return routed


def _pin(kind: str, position: int) -> str:
    if kind == "sum":
        return ("bit", "chain")[position]
    if kind == "carry":
        return ("data", "chain", "bit")[position]
    if kind == "mux":
        return ("wide", "wide", "data")[position]
    if kind == "control":
        return ("register", "chain", "data", "data")[position]
    return "data"
