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
from dataclasses import dataclass, replace
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
    uses = module_uses(netlist, top)
    uses = [replace(u, resources=lane.times(u.instances)) if u.module == LANE else u for u in uses]
    ordered = sorted(uses, key=lambda use: (-use.resources.lut_sites, use.module))
    return Utilisation(configuration.name, find_yosys().version, tuple(ordered))


def module_uses(netlist: Netlist, top: str) -> list[ModuleUse]:
    """Every module below `top` with its count, each memory size by itself."""
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
        label, resources, source = _use_of_one(name, modules[name])
        before = merged.get(label, ModuleUse(label, 0, Resources(), source))
        merged[label] = ModuleUse(
            label, before.instances + count, before.resources + resources.times(count), source
        )
    return list(merged.values())


def _use_of_one(name: str, module: Mapping[str, Any]) -> tuple[str, Resources, str]:
    base = _module_name(name)
    resources = count_cells(base, module["cells"])
    if base not in MEMORIES:
        return base, resources, "yosys"
    data, address = (len(module["ports"][port]["bits"]) for port in MEMORIES[base])
    label = f"{base} {1 << address} x {data}"
    if not resources.uram:
        return label, resources, "yosys"
    bits = data << address
    if bits < ULTRA_BITS:
        return label, Resources(ff=resources.ff, bram36=bits / BRAM_BITS), "size"
    blocks = -(-data // URAM_BITS) * -(-(1 << address) // URAM_WORDS)
    return label, Resources(ff=resources.ff, uram=blocks), "size"


def _module_name(name: str) -> str:
    """Without what yosys puts around it where there are parameters ($paramod, a hash, values)."""
    parts = name.split("\\")
    return parts[1] if name.startswith("$paramod\\") else parts[-1]
