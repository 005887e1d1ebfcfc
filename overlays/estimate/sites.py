"""From the cells of a mapped module to what they occupy on UltraScale+.

A LUT site of UltraScale+ holds one function of 6 inputs or two functions of together at most 5
(AMD UG574, "Look-Up Table"). Yosys does not pair LUTs; Vivado does, where it helps. So both are
told: `lut`, the cells as they are, and `lut_sites`, after a greedy pairing of functions that share
an input. Vivado's own number lies near the second or below it, for it also has adders of three
operands and packs unrelated functions when the part is full.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from bacmac.host.errors import OverlayError

Cells = Mapping[str, Mapping[str, Any]]
"""The cells of one module of a yosys netlist."""

LUT_INPUTS = {"INV": 1, "LUT1": 1, "LUT2": 2, "LUT3": 3, "LUT4": 4, "LUT5": 5, "LUT6": 6}
LUTRAM_SITES = {
    "RAM32X1S": 1,
    "RAM64X1S": 1,
    "RAM32X1D": 2,
    "RAM64X1D": 2,
    "RAM128X1S": 2,
    "RAM128X1D": 4,
    "RAM256X1S": 4,
    "RAM256X1D": 8,
    "RAM512X1S": 8,
    "RAM32M": 4,
    "RAM64M": 4,
    "RAM32M16": 8,
    "RAM64M8": 8,
}
"""LUTs of a distributed memory (UG574, "Distributed RAM")."""
SHIFT_REGISTERS = ("SRL16E", "SRLC16E", "SRLC32E")
FLIP_FLOPS = ("FDRE", "FDSE", "FDCE", "FDPE")
FREE = ("MUXF7", "MUXF8", "MUXF9", "BUFG", "IBUF", "OBUF", "GND", "VCC")
"""Cells that take nothing that is counted: multiplexers between the LUTs of a slice, buffers."""
_PAIR_INPUTS = 5
_MOST_CANDIDATES = 64


@dataclass(frozen=True)
class Resources:
    """What a part of the design occupies.

    Attributes:
        lut: functions, one a cell (LUTRAM and shift registers by the LUTs they take).
        lut_sites: 6-input LUT sites after pairing.
        carry8: carry blocks of 8 bits.
        ff: flip-flops.
        dsp: DSP48E2.
        bram36: block RAMs of 36 Kbit; one of 18 Kbit is a half.
        uram: UltraRAMs of 288 Kbit.
    """

    lut: float = 0
    lut_sites: float = 0
    carry8: float = 0
    ff: float = 0
    dsp: float = 0
    bram36: float = 0
    uram: float = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def times(self, count: float) -> Resources:
        """The same, `count` times."""
        return Resources(*(getattr(self, f.name) * count for f in fields(self)))


def count_cells(module: str, cells: Cells) -> Resources:
    """What the primitives of a module occupy; cells for which `is_primitive` is false are not seen.

    Raises:
        OverlayError: a primitive is not known, so it cannot be counted.
    """
    kinds = Counter(cell["type"] for cell in cells.values() if is_primitive(cell))
    known = (*LUT_INPUTS, *LUTRAM_SITES, *SHIFT_REGISTERS, *FLIP_FLOPS, *FREE)
    known += ("CARRY4", "CARRY8", "DSP48E2", "RAMB36E2", "RAMB18E2", "URAM288")
    for kind in kinds:
        if kind not in known:
            raise OverlayError(
                module, "netlist", found=f"cell {kind}", expected=f"one of {', '.join(known)}"
            )
    memory = sum(kinds[kind] * sites for kind, sites in LUTRAM_SITES.items())
    memory += sum(kinds[kind] for kind in SHIFT_REGISTERS)
    return Resources(
        lut=sum(kinds[kind] for kind in LUT_INPUTS) + memory,
        lut_sites=_paired_sites(cells) + memory,
        carry8=_carry_blocks(cells) + kinds["CARRY8"],
        ff=sum(kinds[kind] for kind in FLIP_FLOPS),
        dsp=kinds["DSP48E2"],
        bram36=kinds["RAMB36E2"] + kinds["RAMB18E2"] / 2,
        uram=kinds["URAM288"],
    )


def is_primitive(cell: Mapping[str, Any]) -> bool:
    """Whether a cell is a primitive of the part and not a module of the design."""
    kind: str = cell["type"]
    return not kind.startswith("$") and kind.upper() == kind


def _paired_sites(cells: Cells) -> int:
    """LUT sites after pairing, greedily, wide functions first and with the most shared inputs.

    Two LUTs that drive select inputs of a carry chain never share a site: each has its own bit of
    the chain. An inverter takes a site only there; elsewhere it is part of the function behind it.
    """
    selects = {
        bit
        for cell in cells.values()
        if cell["type"] in ("CARRY4", "CARRY8")
        for bit in cell["connections"]["S"]
    }
    inputs: dict[str, frozenset[Any]] = {}
    on_carry: dict[str, bool] = {}
    for name, cell in cells.items():
        if cell["type"] not in LUT_INPUTS:
            continue
        on_carry[name] = cell["connections"]["O"][0] in selects
        if cell["type"] == "INV" and not on_carry[name]:
            continue
        inputs[name] = frozenset(
            bit
            for port, bits in cell["connections"].items()
            if port != "O"
            for bit in bits
            if not isinstance(bit, str)
        )
    users: dict[Any, list[str]] = defaultdict(list)
    order = sorted(inputs, key=lambda name: (-len(inputs[name]), name))
    for name in order:
        if len(inputs[name]) <= _PAIR_INPUTS:
            for bit in inputs[name]:
                users[bit].append(name)
    sites, placed = 0, set()
    for name in order:
        if name in placed:
            continue
        placed.add(name)
        sites += 1
        own = inputs[name]
        if len(own) > _PAIR_INPUTS:
            continue
        best, most = "", 0
        for bit in own:
            for other in users[bit][:_MOST_CANDIDATES]:
                shared = len(own & inputs[other])
                fits = len(own) + len(inputs[other]) - shared <= _PAIR_INPUTS
                clash = on_carry[name] and on_carry[other]
                if other not in placed and fits and not clash and shared > most:
                    best, most = other, shared
        if best:
            placed.add(best)
        for bit in own:
            users[bit] = [other for other in users[bit] if other not in placed]
    return sites


def _carry_blocks(cells: Cells) -> int:
    """CARRY8 blocks that the chains of CARRY4 make: two of them a block."""
    carries = {name: c["connections"] for name, c in cells.items() if c["type"] == "CARRY4"}
    driver = {c["CO"][3]: name for name, c in carries.items() if len(c["CO"]) == 4}
    length: dict[str, int] = {}
    for name in carries:
        chain = [name]
        while (before := driver.get(carries[chain[-1]]["CI"][0])) is not None:
            chain.append(before)
        length[chain[-1]] = max(length.get(chain[-1], 0), len(chain))
    return sum((blocks + 1) // 2 for blocks in length.values())
