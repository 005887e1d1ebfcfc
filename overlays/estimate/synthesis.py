"""What a configuration occupies, whole and module by module, by synthesis with yosys.

Every module is mapped by itself (so one lane is mapped, and counted OUT times), except what a lane
is made of, which dissolves in the lane: its multiplexers and adders share LUTs. A lane is mapped
without DSP blocks, so that a product term written as `*` is in LUTs like the others. Memories that
yosys puts in UltraRAM are counted from their width and depth, the smaller ones in block RAM: it
builds their read multiplexer of LUTs where the part has a dedicated cascade (AMD UG573,
"UltraRAM", "Cascade").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from bacmac.overlays.estimate.configurations import Configuration
from bacmac.overlays.estimate.sites import Resources, count_cells, is_primitive
from bacmac.overlays.estimate.yosys import Netlist, find_yosys, synthesize

TOP = "bacmac_top"
LANE = "bacmac_lane"
LANE_PARTS = ("bacmac_product_*", "bacmac_tree_*")
"""Modules that dissolve in the lane."""
ARRAY = ("bacmac_lane", "bacmac_channel")
"""What is called the array: products, trees, weight registers, accumulators."""
MEMORIES = {
    "bacmac_memory": ("read_data", "read_address"),
    "bacmac_activation_bank": ("a_data", "a_address"),
}
"""Modules that are one memory, with the ports that give its bits and its words."""
URAM_BITS, URAM_WORDS = 72, 4096
BRAM_BITS = 32768
"""Of a block RAM without its parity bits."""
ULTRA_BITS = 8 << 20
"""A memory from this size on is meant for UltraRAM, of which there are few; yosys starts lower."""
PART = "XCZU7EV"
ROUTABLE = 0.7
"""The share of the LUTs that may be used where the rest is to be routed."""
CAPACITY = Resources(
    lut=230_400, lut_sites=230_400, carry8=28_800, ff=460_800, dsp=1728, bram36=312, uram=96
)
"""Of the ZCU104's part (AMD DS891, Zynq UltraScale+ MPSoC overview); one CARRY8 for 8 LUTs."""


@dataclass(frozen=True)
class ModuleUse:
    """One module of the design.

    Attributes:
        module: its name; of a memory, its words and bits too.
        instances: how often it is in the design.
        resources: of all of them, without the modules inside.
        source: "yosys", or "size" where the memories were counted from their size.
    """

    module: str
    instances: int
    resources: Resources
    source: str


@dataclass(frozen=True)
class Utilisation:
    """An estimate by open tools, not a build.

    Attributes:
        configuration: its name.
        tool: yosys and its version.
        modules: largest first.
    """

    configuration: str
    tool: str
    modules: tuple[ModuleUse, ...]

    @property
    def total(self) -> Resources:
        """Of the whole accelerator."""
        return sum((use.resources for use in self.modules), Resources())

    @property
    def array(self) -> Resources:
        """Of the array: lanes, weight registers, accumulators."""
        uses = (use.resources for use in self.modules if use.module in ARRAY)
        return sum(uses, Resources())

    def module(self, name: str) -> Resources:
        """Of all instances of a module; nothing where there is none."""
        uses = (use.resources for use in self.modules if use.module.split()[0] == name)
        return sum(uses, Resources())


def lane_netlist(configuration: Configuration) -> Netlist:
    """One lane, flat, in LUTs, carry chains and flip-flops.

    Raises:
        MissingExtraError: there is no yosys.
        OverlayError: yosys refuses the sources.
    """
    return synthesize(LANE, configuration.lane_parameters, dsp=False)


def estimate_utilisation(configuration: Configuration, top: str = TOP) -> Utilisation:
    """Synthesize a configuration, or take what was synthesized before.

    Args:
        configuration: what to build.
        top: the outermost module: the accelerator, or a part with the same parameters.

    Raises:
        MissingExtraError: there is no yosys.
        OverlayError: yosys refuses the sources, or a netlist has a cell that is not known.
    """
    netlist = synthesize(top, configuration.engine_parameters, flat=LANE_PARTS)
    lane = count_cells(LANE, lane_netlist(configuration)["modules"][LANE]["cells"])
    uses = module_uses(netlist, top, memory_words(configuration))
    uses = [replace(u, resources=lane.times(u.instances)) if u.module == LANE else u for u in uses]
    ordered = sorted(uses, key=lambda use: (-use.resources.lut_sites, use.module))
    return Utilisation(configuration.name, find_yosys().version, tuple(ordered))


def memory_words(configuration: Configuration) -> dict[int, int]:
    """Words of a memory of a configuration by the bits of its address, which is all netlists tell.

    Where two have as many bits it is the larger one's.
    """
    buffers, geometry = configuration.manifest.buffers, configuration.geometry
    words = (
        buffers.weight_bytes // geometry.inputs,
        buffers.program_bytes // geometry.inputs,
        buffers.activation_bytes // (2 * geometry.inputs),
        buffers.constant_bytes // (12 * geometry.outputs),
    )
    return {(count - 1).bit_length(): count for count in sorted(words)}


def module_uses(
    netlist: Netlist, top: str, words: Mapping[int, int] | None = None
) -> list[ModuleUse]:
    """Every module below `top` with its count, each memory size by itself.

    Args:
        netlist: with `top` and all below it.
        top: the outermost module.
        words: of memories by the bits of their address; all that these can address otherwise.
    """
    modules: Mapping[str, Any] = netlist["modules"]
    instances: Counter[str] = Counter()

    def visit(name: str, count: int) -> None:
        instances[name] += count
        inside = Counter(
            cell["type"] for cell in modules[name]["cells"].values() if not is_primitive(cell)
        )
        for kind, times in inside.items():
            visit(kind, count * times)

    visit(top, 1)
    merged: dict[str, ModuleUse] = {}
    for name, count in instances.items():
        label, resources, source = _use_of_one(name, modules[name], words or {})
        before = merged.get(label, ModuleUse(label, 0, Resources(), source))
        merged[label] = ModuleUse(
            label, before.instances + count, before.resources + resources.times(count), source
        )
    return list(merged.values())


def _use_of_one(
    name: str, module: Mapping[str, Any], words: Mapping[int, int]
) -> tuple[str, Resources, str]:
    base = _module_name(name)
    resources = count_cells(base, module["cells"])
    if base not in MEMORIES:
        return base, resources, "yosys"
    data, address = (len(module["ports"][port]["bits"]) for port in MEMORIES[base])
    depth = words.get(address, 1 << address)
    label = f"{base} {depth} x {data}"
    if not resources.uram:
        return label, resources, "yosys"
    bits = data * depth
    if bits < ULTRA_BITS:
        return label, Resources(ff=resources.ff, bram36=bits / BRAM_BITS), "size"
    blocks = -(-data // URAM_BITS) * -(-depth // URAM_WORDS)
    return label, Resources(ff=resources.ff, uram=blocks), "size"


def _module_name(name: str) -> str:
    """Without what yosys puts around it where there are parameters ($paramod, a hash, values)."""
    parts = name.split("\\")
    return parts[1] if name.startswith("$paramod\\") else parts[-1]


def copies_that_fit(one: Resources) -> int:
    """How many of a design fit side by side: 70 % of the LUTs, and all of everything else."""
    room = {f.name: float(getattr(CAPACITY, f.name)) for f in fields(Resources)}
    room["lut_sites"] *= ROUTABLE
    del room["lut"]  # unpaired functions do not take a site each
    need = {name: float(getattr(one, name)) for name in room}
    return min(int(most // need[name]) for name, most in room.items() if need[name])
